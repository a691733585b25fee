"""The command line's ``data``: list, info, pull, check, convert, import, where and rm, as text for people."""

import argparse
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mfbench import theory
from mfbench.bars import counts, transfers
from mfbench.data import cache, datasets, download
from mfbench.data.catalogue import check, convert, size, state, where
from mfbench.data.datasets import DataRequest
from mfbench.data.manifest import Manifest, manifest, manifest_names, shipped_folder
from mfbench.errors import UserError

if TYPE_CHECKING:
    from mfbench.data.checks import Finding


def _data_list(options: argparse.Namespace) -> None:

    print(listing())


def _data_info(options: argparse.Namespace) -> None:

    print(info(options.name))


def _data_pull(options: argparse.Namespace) -> None:

    pull(options.name, options.yes, options.offline)


def _data_check(options: argparse.Namespace) -> None:

    found, looked_at = check(options.name, options.data_folder)
    print(f"{options.name}: {looked_at}")
    _print_findings(found)


def _print_findings(found: "list[Finding]") -> None:
    from mfbench.data.checks import require

    for one in found:
        mark = "FAILED" if one.failed else "ok" if one.ok else "not checked"
        print(f"  {mark:11s}  {one.check}: {one.found}" + (f"; expected {one.expected}" if not one.ok else ""))
        for line in one.where if not one.ok else ():
            print(f"{'':15s}{line}")
    require(found)


def _data_convert(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import convert

    print(convert(options.name, options.data_folder, options.out))


def _data_remove(options: argparse.Namespace) -> None:

    print(remove(options.name, options.raw, options.yes))


def _data_where(options: argparse.Namespace) -> None:

    print(where(options.name))


def _data_import(options: argparse.Namespace) -> None:
    from mfbench.data.catalogue import import_files

    name, found = import_files(options.files, options.manifest)
    _print_findings(found)
    print(f"{name} is ready: name it in a case of your own (see the README)")


Say = Callable[[str], None]

ASK_ABOVE = 1_000_000_000  # bytes of a download that are not fetched unasked


def confirm(question: str, yes: bool) -> None:
    """Go on if the answer is yes; raises UserError otherwise, or where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody is there to answer: say --yes to go on")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("stopped: nothing was done")


def listing() -> str:
    """All datasets, a line each."""
    rows = [("NAME", "STRUCTURES", "DOWNLOAD", "STATE", "LEVELS")]
    for name in manifest_names():
        declared = manifest(name)
        rows.append(
            (
                name,
                "?" if declared.n_structures is None else f"{declared.n_structures:,}",
                _download(declared),
                state(declared),
                _few([theory.level(one).label for one in declared.levels]),
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    return "\n".join("  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[4]]).rstrip() for row in rows)


def _download(declared: Manifest) -> str:
    if not any(file.urls for file in declared.files):
        return "-"
    return size(declared.bytes) if declared.bytes else "?"


def _few(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"


def info(name: str) -> str:
    """All that is declared of a dataset, and where it is."""
    declared = manifest(name)
    known = "not known beforehand"
    lines = [
        f"{declared.name}: {declared.title}",
        f"  licence     {declared.license}",
        f"  cite        {declared.citation.text}" + (f", doi:{declared.citation.doi}" if declared.citation.doi else ""),
        *([f"  data doi    {declared.doi}"] if declared.doi else []),
        f"  structures  {_number(declared.n_structures)}"
        + (f", {declared.n_molecules:,} molecules" if declared.n_molecules else ""),
        *([f"  training    at most {declared.max_train:,} structures (its authors)"] if declared.max_train else []),
        f"  state       {state(declared)}",
        "  levels",
    ]
    for labels in sorted(declared.labels, key=lambda one: theory.level(one.level)):
        for what, part, n in (("energy", labels.energy, labels.n_energy), ("forces", labels.forces, labels.n_forces)):
            if part is not None:
                keys = " + ".join(part.key)
                count = known if n is None else f"{n:,}"
                lines.append(f"    {labels.level:22s} {what}  {keys} in {part.unit}: {count}")
    lines.append("  files")
    for file in declared.files:
        lines.append(f"    {file.name}: {size(file.bytes) if file.bytes else 'size not published'}")
        lines.append(f"      sha256 {file.sha256}" if file.sha256 else "      no published hash of the whole")
        for member in file.members:
            if not member.index_of:
                check = f", md5 {member.md5}" if member.md5 else ""
                lines.append(f"      holds {member.path}: {_number(member.n_structures)} structures{check}")
        lines += [f"      from {url}" for url in file.urls]
        where = shipped_folder(declared) / file.name if declared.shipped else cache.find(declared.name, file.name)
        lines += [f"      at {where}"] if where else []
    if converted := datasets.find_converted(declared):
        lines.append(f"    converted: {converted} ({size(converted.stat().st_size)})")
    if named := sorted({one for file in declared.files for c in file.contents for one in (c.set, c.index_of) if one}):
        lines.append(f"  sets        {', '.join(named)}")
    lines += [f"  notes       {declared.notes}"] if declared.notes else []
    lines += ["", declared.citation.bibtex.rstrip()] if declared.citation.bibtex else []
    return "\n".join(lines)


def _number(n: int | None) -> str:
    return "not known beforehand" if n is None else f"{n:,}"


def pull(name: str, yes: bool = False, offline: bool = False, say: Say = print) -> None:
    """Download what is missing of a dataset, verify it, and convert it.

    Raises:
        UserError: it could not be had; what was downloaded so far is kept, and the same command goes on there.
    """
    declared = manifest(name)
    if declared.shipped:
        say(f"{name} {state(declared)}: nothing to pull")
        return
    if datasets.find_converted(declared):
        say(f"{name} is ready")
        return
    missing = [file for file in declared.files if cache.find(name, file.name) is None]
    if unreachable := [file.name for file in missing if not file.urls]:
        raise UserError(
            f"{', '.join(unreachable)}: {name} declares no address to download from: put it into "
            f"{cache.folder_of(name)}, or import it again with `mfbench data import`"
        )
    need = sum(file.bytes or 0 for file in missing)
    if need > ASK_ABOVE and not offline:
        confirm(f"Pulling {name} downloads {size(need)} to {cache.folder_of(name)}.", yes)
    for file in missing:
        with transfers() as progress:
            path = download.fetch(file, cache.folder_of(name), offline=offline, progress=progress)
        say(f"{path} ({size(path.stat().st_size)}, verified)")
    say(convert(name, trusted=[file.name for file in missing]))


def remove(name: str, raw_only: bool = False, yes: bool = False) -> str:
    """Remove a dataset's files from the folder that is written to."""
    declared = manifest(name)
    if declared.shipped:
        raise UserError(f"{name} {state(declared)} and stays")
    folder = cache.folder_of(name)
    if not folder.is_dir():
        raise UserError(f"{name} is not in {cache.writable()}: nothing to remove")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    if raw_only:
        names = {file.name for file in declared.files}
        paths = [path for path in paths if path.name in names]
    total = sum(path.stat().st_size for path in paths)
    confirm(f"Remove {len(paths)} files ({size(total)}) from {folder}?", yes)
    if raw_only:
        for path in paths:
            path.unlink()
    else:
        shutil.rmtree(folder)
    return f"removed {size(total)} from {folder}"


def ensure(request: DataRequest, yes: bool, offline: bool, say: Say = print) -> None:
    """Pull and convert what a run needs and is not here; asks before a download."""
    needed = [declared for declared, *_ in request.parts() if not declared.shipped]
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
    missing = {name: files for name, files in missing.items() if files and all(file.urls for file in files)}
    if missing and not offline:
        amounts = [
            f"{name} ({size(sum(f.bytes or 0 for f in files)) if files[0].bytes else 'size not published'})"
            for name, files in missing.items()
        ]
        are = "is" if len(amounts) == 1 else "are"
        confirm(f"{' and '.join(amounts)} {are} not on this machine. Download and convert?", yes)
    for declared in needed:
        pull(declared.name, yes=True, offline=offline, say=say)
