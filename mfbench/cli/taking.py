"""Commands that take results away: ``figure`` and ``table``."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfbench.cli.options import add_command, add_runs, add_unit, check_unit
from mfbench.errors import UserError, unknown
from mfbench.files import write_bytes

if TYPE_CHECKING:
    import pandas as pd

    from mfbench.cli.options import Commands
    from mfbench.results.library import Library


def add_figure(commands: "Commands") -> None:
    figure = add_command(commands, "figure", "draw a figure of the results for a paper or slides", _figure)
    _add_choice(figure, "figure")
    figure.add_argument("--format", metavar="FORMAT", help="pdf, png, svg, or csv: the numbers behind it (pdf)")
    figure.add_argument("--width", default="3.37in", help="of the whole, in in, cm, mm or pt (3.37in)")
    figure.add_argument("--font-size", type=float, default=8.0, metavar="PT", help="in points (8)")
    figure.add_argument("--size", type=int, metavar="N", help="high-level structures (errors, parity)")
    figure.add_argument("--seed", type=int, metavar="N", help="of the run (parity)")
    figure.add_argument("--run", metavar="NAME", help="a run by its name (parity)")
    figure.add_argument(
        "--quantities", nargs="+", metavar="QUANTITY", help="energy, energy_per_atom, energy_relative, force"
    )


def add_table(commands: "Commands") -> None:
    table = add_command(commands, "table", "print a table of the results, or write it, with its caption", _table)
    _add_choice(table, "table")
    table.add_argument("--format", default="md", metavar="FORMAT", help="csv (numbers in full), latex or md (md)")


def _add_choice(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help=f"which {what}; without it they are listed")
    command.add_argument(
        "--reference", nargs="?", const="demo", metavar="NAME", help="results that ship: demo, arms ..."
    )
    add_runs(command)
    command.add_argument("--out", type=Path, metavar="FILE", help="where it goes")
    command.add_argument("--case", help="a test case (all that have results)")
    command.add_argument("--arms", nargs="+", metavar="ARM", help="which arms (all)")
    for name, text in (("data", "choice of the case's data"), ("backbone", "network"), ("preset", "recipe")):
        command.add_argument(f"--{name}", help=f"{text} (all)")
    command.add_argument("--part", help="test, or unseen: molecules never trained on (test)")
    command.add_argument("--metric", help="mae or rmse (mae)")
    add_unit(command)


# What is asked for


@dataclass(frozen=True)
class _Setup:
    """The rows of one case and setup."""

    case: str
    rows: "pd.DataFrame"
    suffix: str  # of names of files, where a case has several setups


def library(options: argparse.Namespace) -> "Library":
    """The results that ``--runs`` or ``--reference`` name; raises UserError where there are none."""
    from mfbench.results.library import Library

    found = Library.shipped(options.reference) if options.reference else Library.of_folder(options.runs)
    for remark in found.remarks:
        print(f"mfbench: {remark}", file=sys.stderr)
    if found.table.empty:
        raise UserError(
            f"no finished runs in {options.runs}: make some with `mfbench demo` or `mfbench run`, name their folder "
            "with --runs, or take this project's own with --reference"
        )
    return found


def _setups(options: argparse.Namespace, table: "pd.DataFrame") -> list[_Setup]:
    """What the options choose, each case and setup on its own."""
    from mfbench.results.rows import case_rows, cases, setups_of, with_setup

    for name in ("run", "case", "data", "backbone", "preset"):
        if (wanted := getattr(options, name, None)) is not None:
            if wanted not in (known := list(dict.fromkeys(table[name]))):
                raise unknown(f"{name} in these results", wanted, known)
            table = table[table[name] == wanted]
    found = []
    for case in cases(table):
        setups = setups_of(case_rows(table, case))
        for setup in setups:
            suffix = f"-{'-'.join(setup)}" if len(setups) > 1 else ""
            found.append(_Setup(case, with_setup(table[table["case"] == case], setup), suffix))
    return found


def _each[T](options: argparse.Namespace, known: Mapping[str, Callable[..., T]]) -> list[tuple[T, str]]:
    """The figures or tables that are asked for, one for each case and setup, with the suffix of its file's name.

    Raises:
        UserError: there is none of that name, it has no such choice, or none can be made.
    """
    from mfbench.results.origin import origin

    check_unit(options.unit)
    if options.name not in known:
        raise unknown("name", options.name, known)
    function, results = known[options.name], library(options)
    takes = signature(function).parameters
    given = {name: value for name in _CHOICES if (value := getattr(options, name, None)) is not None}
    if strange := [name for name in given if name not in takes and not (name in _OF_RUNS and "run" in takes)]:
        raise UserError(f"--{strange[0]}: {options.name} has no such choice")
    made, problems = list[tuple[T, str]](), list[str]()
    for setup in _setups(options, results.table):
        own = {name: value for name, value in given.items() if name in takes}
        own |= {"system": options.unit} if "system" in takes else {}
        own |= {"stored": results.predictions} if "stored" in takes else {}
        came = origin(results.provenance(run) for run in setup.rows["run"].unique())
        try:
            what = _run(setup.rows, given) if "run" in takes else setup.case
            made.append((function(setup.rows, what, **own, origin=came), setup.suffix))
        except UserError as error:
            problems.append(str(error))
    if not made:
        raise UserError("; ".join(problems))
    for problem in problems:
        print(f"mfbench: left out: {problem}", file=sys.stderr)
    return made


_CHOICES = ("part", "metric", "quantities", "arms", "size", "seed")

_OF_RUNS = ("arms", "size", "seed")  # what tells runs of a setup apart


def _run(rows: "pd.DataFrame", given: Mapping[str, Any]) -> str:
    """The one run that is meant."""
    for name, column in (("arms", "arm"), ("size", "n_high"), ("seed", "seed")):
        if name in given:
            values = given[name] if isinstance(given[name], list) else [given[name]]
            rows = rows[rows[column].isin(values)]
    runs = list(rows["run"].unique())
    if len(runs) != 1:
        some = ", ".join(runs[:3]) + (", ..." if len(runs) > 3 else "")
        raise UserError(
            f"expected one run, got {len(runs)}{f' ({some})' if runs else ''}: choose with --run, or with --arms, "
            "--size and --seed"
        )
    return str(runs[0])


def _listed(known: Mapping[str, Callable[..., Any]]) -> str:
    """Names of figures or tables, and what each is."""
    first = {name: str(made.__doc__).splitlines()[0].partition(";")[0].rstrip(".") for name, made in known.items()}
    return "\n".join(f"{name:15s} {text}" for name, text in first.items())


def _only(made: list[tuple[Any, str]], out: Path) -> Any:
    """What goes into one file."""
    if len(made) > 1:
        names = ", ".join(f"{one.numbers.name}{suffix}" for one, suffix in made)
        raise UserError(f"--out {out}: one file for {len(made)} ({names}): choose with --case, --data or --preset")
    return made[0][0]


# Commands


def _figure(options: argparse.Namespace) -> None:
    from mfbench.show import paper, sheets
    from mfbench.show.figures import FIGURES

    if options.name is None:
        print(_listed(FIGURES))
        return
    format = options.format or (options.out.suffix.removeprefix(".") if options.out else "pdf")
    if format not in (known := (*paper.FORMATS, "csv")):
        raise unknown("format of figures", format, known)
    paper.inches(options.width)
    made = _each(options, FIGURES)
    if options.out:
        made = [(_only(made, options.out), "")]
    for figure, suffix in made:
        path = options.out or Path(f"{sheets.file_name(figure.numbers.name + suffix)}.{format}")
        if format == "csv":
            write_bytes(path, sheets.as_csv(figure.numbers).encode())
        else:
            write_bytes(path, paper.as_bytes(figure, format, options.width, options.font_size))
        print(f"{path}: {figure.numbers.caption}")


def _table(options: argparse.Namespace) -> None:
    from mfbench.show import sheets

    if options.name is None:
        print(_listed(sheets.TABLES))
        return
    if options.format not in sheets.FORMATS:
        raise unknown("format of tables", options.format, sheets.FORMATS)
    texts = [sheets.FORMATS[options.format](sheet) for sheet, _ in _each(options, sheets.TABLES)]
    if options.format == "csv":  # one head line for all
        texts = [texts[0], *(text.partition("\n")[2] for text in texts[1:])]
    text = ("" if options.format == "csv" else "\n").join(texts)
    if options.out:
        write_bytes(options.out, text.encode())
        print(f"Table: {options.out}")
    else:
        print(text, end="")
