"""Commands that show what there is: ``cases`` and ``report``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mfbench.cli.options import add_command, add_report_file, add_runs, add_unit, check_unit
from mfbench.errors import UserError

if TYPE_CHECKING:
    from mfbench.cli.options import Commands


def add_cases(commands: "Commands") -> None:
    add_command(commands, "cases", "list the test cases, their levels, data and sizes", _cases)


def add_report(commands: "Commands") -> None:
    report = add_command(
        commands, "report", "print the results table and write it with its plots as one HTML page", _report
    )
    report.add_argument(
        "--reference", nargs="?", const="demo", metavar="NAME", help="results that ship: demo (default), cases or arms"
    )
    report.add_argument(
        "--site",
        type=Path,
        metavar="FOLDER",
        help="write a folder of pages instead, for a course site: no server needed",
    )
    add_report_file(report)
    add_runs(report)
    add_unit(report)


def _cases(options: argparse.Namespace) -> None:
    from mfbench.data.cases import case, case_names
    from mfbench.theory import level

    for name in case_names():
        found = case(name)
        print(f"{found.name}: {found.title}")
        for data, rules in found.data.items():
            low, high = level(found.low).label, level(found.high_of(data)).label
            sizes = " and ".join([", ".join(map(str, rules.sizes[:-1])), str(rules.sizes[-1])][len(rules.sizes) < 2 :])
            where = ", published data" if rules.published else ""
            names = " or ".join([data, *(alias for alias, proper in found.aliases.items() if proper == data)])
            between = " and ".join(f"{level(name).label} on {n or 'all'}" for name, n in rules.further.items())
            further = f", with {between} of the low-level structures" if between else ""
            text = f"{low} (E+F) -> {high} (E), {rules.overlap} geometries{further}; n_high {sizes}{where}"
            print(f"  --data {names}: {text}")
        print(f"  {found.basis}")


def _report(options: argparse.Namespace) -> None:
    from mfbench.results.folder import PROVENANCE_FILE
    from mfbench.results.reference import reference, reference_table
    from mfbench.results.runs import predictions_of, read_runs
    from mfbench.show.page import publish
    from mfbench.show.text import text_table

    check_unit(options.unit)
    if options.site:
        _site(options)
        return
    if options.reference:
        table = reference_table(options.reference)
        provenance, stored = [reference(options.reference) / PROVENANCE_FILE], predictions_of([])
    else:
        found = read_runs(options.runs)
        table, stored = found.table, predictions_of(found.folders)
        provenance = [file for run in found.folders for file in [run / PROVENANCE_FILE] if file.is_file()]
        for remark in found.remarks():
            print(f"mfbench: {remark}", file=sys.stderr)
    if table.empty:
        raise UserError(
            f"no finished runs in {options.runs}: make some with `mfbench demo` or `mfbench run`, name their "
            "folder with --runs, or see this project's own with `mfbench report --reference`"
        )
    publish(table, options.out, provenance, options.unit, stored)
    print(text_table(table, options.unit, stored))
    print(f"Report: {options.out.resolve().as_uri()}")


def _site(options: argparse.Namespace) -> None:
    from mfbench.cli.taking import library
    from mfbench.show.site import write_site

    first = write_site(library(options), options.site, options.unit)
    print(f"Site: {first.resolve().as_uri()}")
