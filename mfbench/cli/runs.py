"""Commands on a folder of runs: ``mfbench runs list | show | diff | rm``."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from mfbench.cli.options import add_command, add_runs, add_unit, check_unit, given
from mfbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from mfbench.cli.options import Commands
    from mfbench.results.library import Library

# Options of ``list`` that choose by a column of ``library.ENTRIES``.
_TEXTS, _COUNTS = ("state", "case", "data", "arm", "backbone", "preset"), ("n_high", "seed")


def add_runs_commands(commands: "Commands") -> None:
    runs = add_command(commands, "runs", "list, show, compare and delete runs", _list)
    add_runs(runs)
    actions = runs.add_subparsers(dest="action", metavar="ACTION", help="(list)")

    listing = add_command(actions, "list", "list the runs, finished or not", _list)
    for name in _TEXTS:
        help = {"state": "finished, unfinished or broken"}.get(name, f"only of this {name}")
        listing.add_argument(f"--{name}", metavar="X", help=help)
    listing.add_argument("--n-high", type=int, metavar="N", help="only of this size")
    listing.add_argument("--seed", type=int, metavar="N", help="only of this seed")

    showing = add_command(actions, "show", "show a run: results, settings, where it came from, its command", _show)
    _add_run(showing, "run")
    add_unit(showing)

    apart = add_command(actions, "diff", "show what tells two runs apart: settings and results", _diff)
    _add_run(apart, "first")
    _add_run(apart, "second")
    add_unit(apart)

    removing = add_command(actions, "rm", "delete runs, after asking", _remove)
    removing.add_argument("names", metavar="RUN", nargs="+", help=_NAMED)
    removing.add_argument("--yes", action="store_true", help="without asking")

    for command in (listing, showing, apart, removing):
        add_runs(command, again=True)


_NAMED = "a run's name, or a part of it that no other has"


def _add_run(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument(name, metavar="RUN", help=_NAMED)


def _library(options: argparse.Namespace) -> "Library":
    from mfbench import bars
    from mfbench.results.library import Library

    with bars.runs(str(options.runs)) as told:
        return Library.of_folder(options.runs, told)


def _named(library: "Library", text: str) -> str:
    """The run of a name, or of a part of one; raises UserError where that is none's, or several runs'."""
    names = library.entries["run"].tolist()
    found = [text] if text in names else [name for name in names if text in name]
    if len(found) != 1:
        said = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "") or "none"
        raise UserError(f"{library.label}: expected {text!r:.120} to name one of its {len(names):,} runs, got {said}")
    return found[0]


def _list(options: argparse.Namespace) -> None:
    from mfbench.errors import unknown
    from mfbench.results.library import CONDITIONS
    from mfbench.show.text import entries_text

    wanted = given(options, *_TEXTS, *_COUNTS)
    if wanted.get("state", CONDITIONS[0]) not in CONDITIONS:
        raise unknown("state", wanted["state"], CONDITIONS)
    library = _library(options)
    entries = library.entries
    for name, value in wanted.items():
        entries = entries[(entries[name] == value).fillna(False)]
    for remark in library.remarks:
        print(f"mfbench: {remark}", file=sys.stderr)
    print(entries_text(entries))


def _show(options: argparse.Namespace) -> None:
    from mfbench.results.differences import flat
    from mfbench.show.text import entries_text, facts_text, run_text

    check_unit(options.unit)
    library = _library(options)
    name = _named(library, options.run)
    entries = library.entries
    print(entries_text(entries[entries["run"] == name]))
    rows = library.table[library.table["run"] == name]
    if len(rows):
        print("", run_text(rows, options.unit), sep="\n")
    settings = library.settings(name)
    for title, said in (("Settings", settings), ("Where it came from", library.provenance(name))):
        kept = {key: value for key, value in said.items() if key not in _LONG}
        print("", title, facts_text(flat(kept)), sep="\n")
    print("", "The command that makes it, or continues it", _command(settings, options), sep="\n")


# Of settings and provenance, what is for programs: what names stood for, hashes, and what a model knows.
_LONG = ("resolved", "deciding", "trained_on")


def _command(settings: dict[str, Any], options: argparse.Namespace) -> str:
    from mfbench.study.command import command

    try:
        return command(settings, options.runs)
    except UserError as error:
        return f"none: {error}"


def _diff(options: argparse.Namespace) -> None:
    from mfbench.results.differences import results_apart, settings_apart
    from mfbench.show.text import results_apart_text, settings_apart_text

    check_unit(options.unit)
    library = _library(options)
    first, second = _named(library, options.first), _named(library, options.second)
    print(f"first:  {first}\nsecond: {second}\n")
    print(settings_apart_text(settings_apart(library.settings(first), library.settings(second))))
    print("", results_apart_text(results_apart(library.table, first, second, options.unit)), sep="\n")


def _remove(options: argparse.Namespace) -> None:
    from mfbench.cli.data import confirm
    from mfbench.data.catalogue import size

    library = _library(options)
    names = list(dict.fromkeys(_named(library, name) for name in options.names))
    entries: pd.DataFrame = library.entries.set_index("run").loc[names]
    for name, state in entries["state"].items():
        print(f"{name} ({state})")
    what = "this run" if len(names) == 1 else f"these {len(names)} runs"
    confirm(f"Delete {what} ({size(int(entries['bytes'].sum()))}) for good?", options.yes)
    for name in names:
        library.remove(name)
        print(f"deleted {name}")
