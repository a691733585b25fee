"""What ``mfbench data ...`` does: where datasets are, pulled, converted, checked and removed (see ``importing``).

Everything gives records; texts are made in ``show.datasets``.
"""

import shutil
from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mfbench.data import cache, checks, datasets, download, store
from mfbench.data.datasets import DataRequest
from mfbench.data.findings import Finding
from mfbench.data.manifest import DataFile, Manifest, manifest, manifest_names, own_dataset, shipped_folder
from mfbench.data.reading import read
from mfbench.errors import UserError
from mfbench.machine import memory


@dataclass(frozen=True)
class Watch:
    """Makes what is told of progress: over the bytes of one download, and over a dataset's structures."""

    transfers: Callable[[], AbstractContextManager[download.Progress]]
    counts: Callable[[str], AbstractContextManager[datasets.Progress]]


SILENT = Watch(lambda: nullcontext(download.silent), lambda name: nullcontext(datasets.silent))

Where = Literal["ships", "ships with its package", "ready", "downloaded", "partly here", "not here"]


@dataclass(frozen=True)
class State:
    """Where a dataset stands on this machine: ``ready`` is converted, ``downloaded`` has all its raw files."""

    where: Where
    files_here: int
    files: int


@dataclass(frozen=True)
class Entry:
    """One dataset in the list of all."""

    name: str
    title: str
    n_structures: int | None  # None: not known beforehand
    downloadable: bool
    bytes: int | None  # of its raw files; None: not published
    state: State
    levels: tuple[str, ...]  # names, from low to high


@dataclass(frozen=True)
class Held:
    """A raw file of a dataset, and where it is on this machine."""

    declared: DataFile
    path: Path | None


@dataclass(frozen=True)
class Info:
    """A dataset: all that is declared of it, and where it is."""

    declared: Manifest
    state: State
    files: tuple[Held, ...]
    converted: Path | None
    free_atoms: Mapping[str, Mapping[int, float]]  # eV by level and atomic number, as far as they are known yet

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets (official splits) that its files declare."""
        contents = [content for file in self.declared.files for content in file.contents]
        return tuple(sorted({name for one in contents for name in (one.set, one.index_of) if name}))


@dataclass(frozen=True)
class SearchFolder:
    """A folder that datasets are looked for in."""

    path: Path
    written: bool  # whether downloads and conversions go there


@dataclass(frozen=True)
class Place:
    """Where a dataset's files are, and where they would go."""

    name: str
    paths: tuple[Path, ...]  # raw files and the converted one; empty: not here
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What was done to a file, or to a dataset's folder."""

    done: Literal["downloaded", "converted", "removed"]
    path: Path
    bytes: int


@dataclass(frozen=True)
class Looked:
    """A file that a check looked at, and by what it was verified."""

    name: str
    verified_by: Literal["hash", "members", "content"]


@dataclass(frozen=True)
class Checked:
    """What a check of a dataset found."""

    name: str
    findings: tuple[Finding, ...]
    looked_at: tuple[Looked, ...] = ()


@dataclass(frozen=True)
class Removal:
    """Files of a dataset that are about to be removed."""

    folder: Path
    paths: tuple[Path, ...]
    bytes: int
    whole: bool  # the folder goes, too


@dataclass(frozen=True)
class Footprint:
    """What the data of a run are: how many, and what they take in memory."""

    structures: int
    atoms: int
    bytes: int


def size(count: float) -> str:
    """A number of bytes for people, in decimal units: ``5.6 GB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


# What is where


def state(declared: Manifest) -> State:
    """Where a dataset stands on this machine."""
    count = len(declared.files)
    if declared.shipped:
        return State("ships" if own_dataset(declared.name) is None else "ships with its package", count, count)
    here = sum(cache.find(declared.name, file.name) is not None for file in declared.files)
    if datasets.find_converted(declared):
        return State("ready", here, count)
    return State("downloaded" if here == count else "partly here" if here else "not here", here, count)


def listing() -> list[Entry]:
    """All datasets."""
    return [
        Entry(
            name=name,
            title=declared.title,
            n_structures=declared.n_structures,
            downloadable=any(file.urls for file in declared.files),
            bytes=declared.bytes or None,
            state=state(declared),
            levels=declared.levels,
        )
        for name, declared in ((name, manifest(name)) for name in manifest_names())
    ]


def info(name: str) -> Info:
    """All that is declared of a dataset, and where it is."""
    declared = manifest(name)

    def path(file: DataFile) -> Path | None:
        return shipped_folder(declared) / file.name if declared.shipped else cache.find(declared.name, file.name)

    held = tuple(Held(file, path(file)) for file in declared.files)
    converted = datasets.find_converted(declared)
    free_atoms = store.free_atoms(converted) if converted else declared.declared_atoms
    return Info(declared, state(declared), held, converted, free_atoms)


def search_path() -> tuple[SearchFolder, ...]:
    """The folders that are searched, in order."""
    *sites, last = cache.roots()
    return (*(SearchFolder(site, written=False) for site in sites), SearchFolder(last, written=True))


def where(name: str) -> Place:
    """Where a dataset's files are."""
    declared = manifest(name)
    if declared.shipped:
        folder = shipped_folder(declared)
        return Place(name, tuple(folder / file.name for file in declared.files), folder)
    names = [*(file.name for file in declared.files), cache.converted_name(name)]
    found = tuple(path for one in names if (path := cache.find(name, one)))
    return Place(name, found, cache.folder_of(name))


# What is done


def to_download(declared: Manifest) -> list[DataFile]:
    """The files of a dataset that are not here; raises UserError where one of them has no address."""
    missing = [file for file in declared.files if cache.find(declared.name, file.name) is None]
    if unreachable := [file.name for file in missing if not file.urls]:
        raise UserError(
            f"{', '.join(unreachable)}: {declared.name} declares no address to download from: put it into "
            f"{cache.folder_of(declared.name)}, or import it again with `mfbench data import`"
        )
    return missing


def pull(
    name: str, *, offline: bool = False, watch: Watch = SILENT, told: Callable[[Outcome], None] = lambda done: None
) -> list[Outcome]:
    """Download what is missing of a dataset, verify it, and convert it.

    Args:
        offline: never touch the network.
        told: of each thing as soon as it is done.

    Returns:
        What was done; nothing for a dataset that ships or is ready.

    Raises:
        UserError: it could not be had; what was downloaded so far is kept, and the same call goes on there.
    """
    declared, done = manifest(name), list[Outcome]()
    if declared.shipped or datasets.find_converted(declared):
        return done

    def note(outcome: Outcome) -> None:
        done.append(outcome)
        told(outcome)

    missing = to_download(declared)
    for file in missing:
        with watch.transfers() as progress:
            path = download.fetch(file, cache.folder_of(name), offline=offline, progress=progress)
        note(Outcome("downloaded", path, path.stat().st_size))
    note(convert(name, trusted=[file.name for file in missing], watch=watch))
    return done


def convert(
    name: str, folder: Path | None = None, out: Path | None = None, trusted: Container[str] = (), watch: Watch = SILENT
) -> Outcome:
    """Verify and convert a dataset's raw files (all but the ``trusted``)."""
    declared = manifest(name)
    paths = datasets.raw_files(declared, folder, trusted)
    with watch.counts(declared.name) as progress:
        path = datasets.convert(declared, paths, out, progress)
    return Outcome("converted", path, path.stat().st_size)


def removal(name: str, raw_only: bool = False) -> Removal:
    """What removing a dataset's files from the folder that is written to would remove.

    Raises:
        UserError: it is not there, or ships.
    """
    declared = manifest(name)
    if declared.shipped:
        owner = "mfbench" if state(declared).where == "ships" else "its package"
        raise UserError(f"{name} ships with {owner} and stays")
    folder = cache.folder_of(name)
    if not folder.is_dir():
        raise UserError(f"{name} is not in {cache.writable()}: nothing to remove")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    if raw_only:
        names = {file.name for file in declared.files}
        paths = [path for path in paths if path.name in names]
    return Removal(folder, tuple(paths), sum(path.stat().st_size for path in paths), not raw_only)


def remove(planned: Removal) -> Outcome:
    """Remove what ``removal`` found."""
    if planned.whole:
        shutil.rmtree(planned.folder)
    else:
        for path in planned.paths:
            path.unlink()
    return Outcome("removed", planned.folder, planned.bytes)


def check(name: str, folder: Path | None = None, watch: Watch = SILENT) -> Checked:
    """Check a dataset: hashes of its raw files where they are here, then everything that physics can tell."""
    declared = manifest(name)
    looked: list[Looked] = []
    paths: list[Path] = []
    if declared.shipped or folder is not None:
        paths = datasets.raw_files(declared, folder)
        looked += [Looked(path.name, "hash") for path in paths]
    else:
        for file in declared.files:
            if path := cache.find(name, file.name):
                datasets.verify(file, path)
                looked.append(Looked(file.name, "hash" if file.sha256 else "members"))
    with watch.counts(name) as progress:
        if paths and datasets.is_small(paths):
            structures = read(declared, paths)
            found = checks.check(declared, structures, lambda done: progress("checking", done, len(structures)))
        else:
            converted = datasets.find_converted(declared) or datasets.convert(
                declared, paths or datasets.raw_files(declared), progress=progress
            )
            looked.append(Looked(str(converted), "content"))
            with store.Reader(converted) as reader:
                found = checks.check(declared, reader, lambda done: progress("checking", done, len(reader.outline)))
    return Checked(name, tuple(found), tuple(looked))


def footprint(request: DataRequest) -> Footprint | None:
    """What the converted data of a run take in memory, told before they are loaded; None where none are converted.

    Raises:
        UserError: they cannot fit.
    """
    structures = atoms = need = 0
    for declared, held, subset in request.pieces():
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
    return Footprint(structures, atoms, need) if structures else None
