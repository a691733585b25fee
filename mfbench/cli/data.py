"""The command ``data``: list, info, pull, check, convert, import, where and rm."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mfbench.cli.options import add_command, add_pulling
from mfbench.errors import UserError

if TYPE_CHECKING:
    from mfbench.cli.options import Commands
    from mfbench.data.catalogue import Watch
    from mfbench.data.datasets import DataRequest
    from mfbench.data.findings import Finding
    from mfbench.data.manifest import DataFile

Say = Callable[[str], None]

ASK_ABOVE = 1_000_000_000  # bytes of a download that are not fetched unasked


def add_data(commands: "Commands") -> None:
    data = add_command(commands, "data", "datasets: list, info, pull, check, convert, import, where, rm")
    inner = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    def add_folder(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--data-folder", type=Path, metavar="FOLDER", help="where the raw files are, in place of the cache"
        )

    add_command(inner, "list", "list the datasets and where they stand on this machine", _list)
    info = add_command(inner, "info", "all that is declared of a dataset: files, hashes, licence, levels, units", _info)
    pull = add_command(inner, "pull", "download, verify and convert a dataset", _pull)
    add_pulling(pull)
    check = add_command(inner, "check", "check a dataset: hashes, counts, units by physics, duplicates, probes", _check)
    add_folder(check)
    convert = add_command(inner, "convert", "convert raw files to the one file that is trained from", _convert)
    add_folder(convert)
    convert.add_argument("--out", type=Path, metavar="FILE", help="where to (the cache)")
    remove = add_command(inner, "rm", "remove a dataset's files from the cache", _remove)
    remove.add_argument("--raw", action="store_true", help="only the raw files; the converted one stays")
    remove.add_argument("--yes", action="store_true", help="without asking")
    for command in (info, pull, check, convert, remove):
        command.add_argument("name", metavar="NAME", help="a dataset (see `mfbench data list`)")
    where = add_command(inner, "where", "folders that are searched and written to, or where a dataset is", _where)
    where.add_argument("name", metavar="NAME", nargs="?")
    importing = add_command(
        inner, "import", "take data of one's own into the cache: extxyz, ASE database, HDF5 or npz", _import
    )
    importing.add_argument("files", metavar="FILE", nargs="+", type=Path)
    importing.add_argument(
        "--manifest", type=Path, required=True, metavar="YAML", help="format, levels, keys and units: see the README"
    )


def _watch() -> "Watch":
    """Progress bars."""
    from mfbench import bars
    from mfbench.data.catalogue import Watch

    return Watch(bars.transfers, bars.counts)


def _list(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import listing
    from mfbench.show.datasets import listing_text

    print(listing_text(listing()))


def _info(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import info
    from mfbench.show.datasets import info_text

    print(info_text(info(options.name)))


def _pull(options: argparse.Namespace) -> None:
    pull(options.name, options.yes, options.offline)


def _check(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import check
    from mfbench.data.findings import require
    from mfbench.show.datasets import findings_text, looked_text

    found = check(options.name, options.data_folder, _watch())
    print(looked_text(found))
    print(findings_text(first_things_first(found.findings)))
    require(found.findings)


def _convert(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import convert
    from mfbench.show.datasets import outcome_text

    print(outcome_text(convert(options.name, options.data_folder, options.out, watch=_watch())))


def _remove(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import removal, remove, size
    from mfbench.show.datasets import outcome_text

    planned = removal(options.name, options.raw)
    confirm(f"Remove {len(planned.paths)} files ({size(planned.bytes)}) from {planned.folder}?", options.yes)
    print(outcome_text(remove(planned)))


def _where(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import search_path, where
    from mfbench.show.datasets import place_text, search_path_text

    print(search_path_text(search_path()) if options.name is None else place_text(where(options.name)))


def _import(options: argparse.Namespace) -> None:
    from mfbench.data.importing import import_files
    from mfbench.show.datasets import findings_text

    found = import_files(options.files, options.manifest, _watch())
    print(findings_text(first_things_first(found.findings)))
    print(f"{found.name} is ready: name it in a case of your own (see the README)")


def first_things_first(findings: "Iterable[Finding]") -> "list[Finding]":
    """What failed, then what was accepted, then what could not be checked, then the rest."""
    return sorted(findings, key=lambda one: (not one.failed, not one.accepted, one.ok is not None))


def confirm(question: str, yes: bool) -> None:
    """Go on if the answer is yes; raises UserError otherwise, or where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody is there to answer: say --yes to go on")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("stopped: nothing was done")


def pull(name: str, yes: bool = False, offline: bool = False, say: Say = print) -> None:
    """Download what is missing of a dataset, verify it, and convert it; asks before a large download.

    Raises:
        UserError: it could not be had; what was downloaded so far is kept, and the same command goes on there.
    """
    from mfbench.data import cache, catalogue
    from mfbench.data.manifest import manifest
    from mfbench.show.datasets import outcome_text, state_text

    declared = manifest(name)
    state = catalogue.state(declared)
    if declared.shipped:
        say(f"{name} {state_text(state)}: nothing to pull")
        return
    if state.where == "ready":
        say(f"{name} is ready")
        return
    need = sum(file.bytes or 0 for file in catalogue.to_download(declared))
    if need > ASK_ABOVE and not offline:
        confirm(f"Pulling {name} downloads {catalogue.size(need)} to {cache.folder_of(name)}.", yes)
    catalogue.pull(name, offline=offline, watch=_watch(), told=lambda outcome: say(outcome_text(outcome)))


def ensure(request: "DataRequest", yes: bool, offline: bool, say: Say = print) -> None:
    """Pull and convert what a run needs and is not here; asks before a download."""
    from mfbench.bars import counts
    from mfbench.data import cache, datasets

    needed = [declared for declared, *_ in request.pieces() if not declared.shipped]
    needed = [declared for declared in needed if not datasets.find_converted(declared)]
    if request.folder is not None:
        for declared in needed:
            paths = datasets.raw_files(declared, request.folder)
            if not datasets.is_small(paths):
                with counts(declared.name) as progress:
                    say(f"{datasets.convert(declared, paths, progress=progress)} (converted and checked)")
        return
    missing = {
        declared.name: [file for file in declared.files if cache.find(declared.name, file.name) is None]
        for declared in needed
    }
    _ask(missing, yes, offline)
    for declared in needed:
        pull(declared.name, yes=True, offline=offline, say=say)


def _ask(missing: "dict[str, list[DataFile]]", yes: bool, offline: bool) -> None:
    """Ask before files of datasets are downloaded, by name; where one cannot be, pulling it says so."""
    from mfbench.data.catalogue import size

    reachable = {name: files for name, files in missing.items() if files and all(file.urls for file in files)}
    if not reachable or offline:
        return
    amounts = [
        f"{name} ({size(sum(f.bytes or 0 for f in files)) if files[0].bytes else 'size not published'})"
        for name, files in reachable.items()
    ]
    are = "is" if len(amounts) == 1 else "are"
    confirm(f"{' and '.join(amounts)} {are} not on this machine. Download and convert?", yes)
