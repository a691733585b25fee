"""What ``mfbench data ...`` does: where datasets are, pulled, converted, checked, imported and removed."""

import shutil
import sys
from collections.abc import Callable, Container
from pathlib import Path

from mfbench import cache, datasets, download, levels, resources, store
from mfbench.datasets import DataRequest, checks
from mfbench.errors import UserError
from mfbench.machine import memory
from mfbench.manifest import (
    Manifest,
    as_record,
    manifest,
    manifest_names,
    own_dataset,
    read_mapping,
    sha256,
    shipped_folder,
    write_yaml,
)
from mfbench.progress import counts, transfers
from mfbench.results import replacing
from mfbench.structures import Structures

Say = Callable[[str], None]

ASK_ABOVE = 1_000_000_000  # bytes of a download that are not fetched unasked


def size(count: float) -> str:
    """A number of bytes for people, in decimal units: ``5.6 GB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def confirm(question: str, yes: bool) -> None:
    """Go on if the answer is yes; raises UserError otherwise, or where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody is there to answer: say --yes to go on")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("stopped: nothing was done")


def state(declared: Manifest) -> str:
    """Where a dataset stands on this machine, in a word or two."""
    if declared.shipped:
        return "ships with mfbench" if own_dataset(declared.name) is None else "ships with its package"
    if datasets.find_converted(declared):
        return "ready"
    here = [file for file in declared.files if cache.find(declared.name, file.name)]
    if len(here) == len(declared.files):
        return "downloaded"
    return f"{len(here)} of {len(declared.files)} files" if here else "not here"


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
                _few([levels.level(one).label for one in declared.levels]),
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
    for labels in sorted(declared.labels, key=lambda one: levels.level(one.level)):
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


def where(name: str | None) -> str:
    """The search path, or where a dataset's files are."""
    if name is None:
        *sites, last = cache.roots()
        return "\n".join([*(f"{site} (read)" for site in sites), f"{last} (read and written)"])
    declared = manifest(name)
    if declared.shipped:
        return "\n".join(str(shipped_folder(declared) / file.name) for file in declared.files)
    names = [*(file.name for file in declared.files), cache.converted_name(name)]
    found = [str(path) for one in names if (path := cache.find(name, one))]
    return "\n".join(found) or f"{name} is not here; it would go to {cache.folder_of(name)}"


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


def convert(name: str, folder: Path | None = None, out: Path | None = None, trusted: Container[str] = ()) -> str:
    """Verify and convert a dataset's raw files (all but the ``trusted``); says where the converted file is."""
    declared = manifest(name)
    paths = datasets.raw_files(declared, folder, trusted)
    with counts(declared.name) as progress:
        path = datasets.convert(declared, paths, out, progress)
    return f"{path} ({size(path.stat().st_size)}, converted and checked)"


def check(name: str, folder: Path | None = None) -> tuple[list[checks.Finding], str]:
    """Check a dataset: hashes of its raw files where they are here, then everything that physics can tell.

    Returns:
        The findings, and what was looked at.
    """
    declared = manifest(name)
    looked = []
    if declared.shipped or folder is not None:
        paths = datasets.raw_files(declared, folder)
        looked += [f"{path.name}, by hash" for path in paths]
    else:
        for file in declared.files:
            if path := cache.find(name, file.name):
                datasets.verify(file, path)
                looked.append(f"{file.name}, by {'hash' if file.sha256 else 'the checks of its members'}")
        paths = []
    with counts(name) as progress:
        if paths and datasets.is_small(paths):
            structures = datasets.read(declared, paths)
            found = checks.check(declared, structures, lambda done: progress("checking", done, len(structures)))
        else:
            converted = datasets.find_converted(declared) or datasets.convert(
                declared, paths or datasets.raw_files(declared), progress=progress
            )
            looked.append(str(converted))
            with store.Reader(converted) as reader:
                found = checks.check(declared, reader, lambda done: progress("checking", done, len(reader.outline)))
    return found, "; ".join(looked)


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


def import_files(paths: list[Path], description: Path) -> tuple[str, list[checks.Finding]]:
    """Take people's own data into the cache: described by a manifest, converted, and checked like any other.

    The manifest may leave out ``files`` (they are those given) and the counts, which are filled in.

    Returns:
        The dataset's name and the findings of its checks.

    Raises:
        UserError: the manifest is not sound, or its name is taken by a shipped dataset.
        DataCorrupt: the files are not what it declares, or fail a check; nothing is kept then.
    """
    content = read_mapping(description)
    if content.get("files"):
        raise UserError(f"{description}: expected no files: they are those of the command line, and hashed now")
    for path in paths:
        if not path.is_file():
            raise UserError(f"no file {path} to import")
    content["files"] = [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths]
    content.setdefault("name", description.stem)
    declared = as_record(content, Manifest, description)
    if (resources.manifests() / f"{declared.name}.yaml").is_file() or own_dataset(declared.name) or declared.shipped:
        raise UserError(f"{description}: the name {declared.name!r} is taken by another dataset: choose another")
    folder = cache.folder_of(declared.name)
    trial = folder / f".{declared.name}.trial.h5"  # an earlier import stays until this one is known to be sound
    try:
        with counts(declared.name) as progress:
            datasets.convert(declared, paths, trial, progress)
        with store.Reader(trial) as reader:
            found = checks.check(declared, reader)
            checks.require(found)
            counted = _counted(declared, reader.outline)
        trial.replace(folder / cache.converted_name(declared.name))
    finally:
        trial.unlink(missing_ok=True)
        trial.with_name(f".{trial.name}.lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    with replacing(folder / f"{declared.name}.yaml") as temporary:  # only now is it there for other commands
        write_yaml(temporary, counted)
    return declared.name, found


def _counted(declared: Manifest, outline: Structures) -> Manifest:
    """The manifest with the counts that were found."""
    labels = []
    for one in declared.labels:
        column = outline.level_index(one.level)
        n_energy, n_forces = (int(mask[:, column].sum()) for mask in (outline.energy_mask, outline.force_mask))
        labels.append(one.model_copy(update={"n_energy": n_energy, "n_forces": n_forces}))
    found = {"n_structures": len(outline), "n_molecules": len(outline.molecules), "labels": tuple(labels)}
    return declared.model_copy(update=found)


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


def footprint(request: DataRequest) -> str:
    """What the data of a run take in memory, told before they are loaded; raises UserError if they cannot fit."""
    structures = atoms = need = 0
    for declared, held, subset in request.parts():
        path = datasets.find_converted(declared)
        if path is None:
            continue
        with store.Reader(path, held, subset) as reader:
            outline = reader.outline
            n = int(outline.offsets[-1])
            per_atom = 1 + 3 * outline.positions.itemsize + 12 * int(outline.force_mask.any(0).sum())
            structures, atoms = structures + len(outline), atoms + n
            need += n * per_atom + len(outline) * (40 + 10 * len(outline.levels))
    there = memory()
    if there is not None and need > there:
        raise UserError(
            f"these data need {size(need)} of memory and this machine has {size(there)}: choose fewer structures in "
            "a case of your own (subsets: molecules, formulas, max_atoms, labelled, sets)"
        )
    return f"{structures:,} structures with {atoms:,} atoms, {size(need)} in memory" if structures else ""
