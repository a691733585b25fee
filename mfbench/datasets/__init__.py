"""Datasets: ``load(name) -> Structures``, from verified files, in internal units, checked by physics.

A dataset that ships, or whose files are small, is read as it is. Any other is converted once (``convert``) to a
file of flat arrays, from which chosen levels and structures are read at the speed of the disk.
"""

import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mfbench import archives, cache, store
from mfbench.datasets import ani1x, checks, npz, own
from mfbench.datasets.base import Reader
from mfbench.errors import DataCorrupt, UserError, unknown
from mfbench.geometries import geometry_ids
from mfbench.manifest import (
    Content,
    DataFile,
    Dataset,
    Manifest,
    check_file,
    manifest,
    own_dataset,
    shipped_folder,
    verified,
)
from mfbench.results import replacing
from mfbench.store import Subset
from mfbench.structures import Frames, Structures, assemble, join

READERS: dict[str, Reader] = {
    "ani1x": ani1x.read,
    "rmd17": npz.read_rmd17,
    "sgdml": npz.read_sgdml,
    "extxyz": own.read_extxyz,
    "ase": own.read_ase,
    "hdf5": own.read_hdf5,
}

# Raw files up to this size together are read as they are, with no converted copy.
_SMALL = 1 << 26  # bytes

# What h5py, numpy, ASE and SQLite raise for files that are cut short, damaged, of another kind or hold objects.
_UNREADABLE = (
    OSError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    EOFError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    sqlite3.Error,
    AssertionError,
    NotImplementedError,
)

Progress = Callable[[str, int, int | None], None]  # told what is done, how many structures of how many


def silent(doing: str, done: int, total: int | None) -> None:
    """Report nothing."""


class DataMissing(UserError):
    """A dataset's files are not on this machine."""


def load(
    name: str | Manifest | Dataset,
    folder: Path | None = None,
    levels: Sequence[str] | None = None,
    subset: Subset | None = None,
    progress: Progress = silent,
) -> Structures:
    """A dataset's structures, with geometry ids; converted first where it is large and was not yet.

    Args:
        name: of a dataset that ships, was imported or was added (see ``extensions``); or the thing itself.
        folder: where its raw files are (searched below it too), in place of the cache.
        levels: names of the levels whose labels are wanted; all by default.
        subset: which structures; all by default.

    Raises:
        DataMissing: its files are not here: `mfbench data pull` gets them.
        DataCorrupt: a file is not what the manifest declares.
        UserError: no such dataset, level or subset.
    """
    declared = name if isinstance(name, Manifest) else manifest(name)
    if not declared.shipped and (converted := find_converted(declared)):
        return store.read(converted, levels, subset)
    paths = raw_files(declared, folder)
    if not is_small(paths):
        return store.read(convert(declared, paths, progress=progress), levels, subset)
    structures = read(declared, paths)
    checks.quick(declared, structures)
    return store.pick(structures, declared.name, levels, subset)


@dataclass(frozen=True)
class DataRequest:
    """Chosen levels and structures of one or more datasets, to be used as one; hashable."""

    datasets: tuple[str, ...]
    levels: tuple[str, ...] | None = None  # None: all
    subsets: tuple[tuple[str, Subset], ...] = ()  # by name of the dataset
    folder: Path | None = None  # where the raw files are, in place of the cache

    def parts(self) -> list[tuple[Manifest, tuple[str, ...] | None, Subset | None]]:
        """Manifest, levels and subset of each dataset."""
        subsets, found = dict(self.subsets), []
        there = {level for name in self.datasets for level in manifest(name).levels}
        for level in self.levels or ():
            if level not in there:
                raise unknown(f"level of the data {', '.join(self.datasets)}", level, there)
        for name in self.datasets:
            declared = manifest(name)
            held = None if self.levels is None else tuple(one for one in self.levels if one in declared.levels)
            if held == ():
                raise UserError(f"dataset {declared.name} holds none of the levels {', '.join(self.levels or ())}")
            found.append((declared, held, subsets.pop(declared.name, None)))
        if subsets:
            raise unknown("dataset of a subset", min(subsets), [declared.name for declared, *_ in found])
        return found

    def load(self, progress: Progress = silent) -> Structures:
        """The structures; geometries that recur between datasets share an id."""
        return joined([load(one, self.folder, levels, subset, progress) for one, levels, subset in self.parts()])


def is_small(paths: list[Path]) -> bool:
    """Whether raw files are read as they are, with no converted copy."""
    return sum(path.stat().st_size for path in paths) <= _SMALL


def load_joined(names: tuple[str, ...], folder: Path | None = None) -> Structures:
    """Several datasets, whole, as one."""
    return DataRequest(names, folder=folder).load()


def joined(parts: Sequence[Structures]) -> Structures:
    """Several datasets as one, their geometry ids set anew over the whole."""
    if len(parts) == 1:
        return parts[0]
    whole = join(parts)
    return replace(whole, geometry=geometry_ids(whole))


def find_converted(declared: Manifest) -> Path | None:
    """The dataset's converted file on the search path, where it is made of what the manifest declares now."""
    candidates = cache.find_all(declared.name, cache.converted_name(declared.name))
    return next((path for path in candidates if store.is_current(path, declared)), None)


def raw_files(declared: Manifest, folder: Path | None = None, trusted: Container[str] = ()) -> list[Path]:
    """The dataset's files, verified: those that ship, those in a folder, or those in the cache.

    Args:
        trusted: names of files in the cache that were verified just now.

    Raises:
        DataMissing: they are not here. DataCorrupt: they are not the declared ones.
    """
    if declared.shipped:
        return [verified(file, shipped_folder(declared)) for file in declared.files]
    if folder is not None:
        return [verified(file, folder) for file in declared.files]
    found = [(file, cache.find(declared.name, file.name)) for file in declared.files]
    if missing := [file.name for file, path in found if path is None]:
        raise DataMissing(
            f"dataset {declared.name!r} is not on this machine (no {', '.join(missing)} in "
            f"{', '.join(map(str, cache.roots()))}): get it with `mfbench data pull {declared.name}`, "
            "or name the folder that holds its files with --data-folder"
        )
    for file, path in found:
        if path is not None and file.name not in trusted:
            try:
                verify(file, path)
            except DataCorrupt as error:
                remedy = f"Remove it, then `mfbench data pull {declared.name}` gets it anew"
                raise DataCorrupt(f"{error}. {remedy}") from error
    return [path for _, path in found if path is not None]


def verify(file: DataFile, path: Path) -> None:
    """Raise DataCorrupt where a file is not the declared one: by its hash, or the checks of an archive's members."""
    check_file(file, path)
    if file.sha256 is None:
        archives.check(path, file)


def read(declared: Manifest, paths: list[Path]) -> Structures:
    """Read files that follow the manifest's format; what is not such a file raises DataCorrupt."""
    with ExitStack() as stack:
        structures = assemble(declared.levels, frames_of(declared, paths, stack))
    return replace(structures, geometry=geometry_ids(structures))


def convert(declared: Manifest, paths: list[Path], out: Path | None = None, progress: Progress = silent) -> Path:
    """Convert a dataset's files to one file of flat arrays, checked, by temp file and rename.

    Args:
        paths: its files, in the manifest's order.
        out: the file to write; in the cache by default.

    Returns:
        The converted file. If it is there and current, it is left as it is.

    Raises:
        DataCorrupt: the files are not what the manifest declares.
    """
    out = out or cache.folder_of(declared.name) / cache.converted_name(declared.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    total = declared.n_structures
    with FileLock(out.with_name(f".{out.name}.lock")), ExitStack() as stack:
        if store.is_current(out, declared):
            return out
        _require_space(declared, paths, out.parent)
        with replacing(out) as temporary, _disk(out.parent):
            frames = frames_of(declared, paths, stack, out.parent)
            store.write(temporary, declared, frames, lambda done: progress("converting", done, total))
            with store.Reader(temporary) as reader:
                checks.quick(declared, reader)
    return out


def _require_space(declared: Manifest, paths: list[Path], folder: Path) -> None:
    """Raise UserError where a converted file, and what is unpacked for it, would hardly fit."""
    sizes = ((3 if file.members else 1) * path.stat().st_size for file, path in zip(declared.files, paths))
    need = (1 << 24) + sum(sizes)
    if (free := shutil.disk_usage(folder).free) < need:
        raise UserError(
            f"converting {declared.name} needs about {need:,} bytes in {folder}, where {free:,} are free: remove data "
            f"with `mfbench data rm`, or name a folder on another disk with {cache.VARIABLE}"
        )


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn h5py's ways to say that a disk is full into a UserError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "No space left" not in str(error):
            raise
        raise UserError(
            f"the disk of {folder} is full: remove data with `mfbench data rm`, or name a folder on another disk with "
            f"{cache.VARIABLE}"
        ) from error


def frames_of(declared: Manifest, paths: list[Path], stack: ExitStack, scratch: Path | None = None) -> Iterator[Frames]:
    """The frames of a dataset's files, with the named sets they belong to; members of archives are unpacked.

    Args:
        stack: unpacked files are removed when it closes.
        scratch: folder to unpack in; the system's by default.
    """
    contents: list[tuple[Content, Path]] = []
    for file, path in zip(declared.files, paths):
        if file.members:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".unpacked-", dir=scratch))
            contents += zip(file.members, archives.unpack(path, file.members, Path(folder)))
        else:
            contents.append((file, path))
    indices = {content.index_of: _row_numbers(path) for content, path in contents if content.index_of}
    reader = reader_of(declared)
    for content, path in contents:
        if content.index_of:
            continue
        count = 0
        try:
            for frames in reader(path, content, declared):
                sets = {name: np.isin(frames.rows, rows) for name, rows in indices.items()}
                if content.set:
                    sets[content.set] = np.ones(len(frames.rows), bool)
                count += len(frames.rows)
                yield replace(frames, sets={**frames.sets, **sets})
        except UserError:
            raise
        except _UNREADABLE as error:
            raise DataCorrupt(f"{path.name}: not a readable {declared.format} file: {error}") from error
        if content.n_structures is not None and count != content.n_structures:
            raise DataCorrupt(f"{path.name}: expected {content.n_structures:,} structures, got {count:,}")


def reader_of(declared: Manifest) -> Reader:
    """What reads a dataset's files; raises UserError where its format is its own and nobody brought the reader."""
    if declared.format != "own":
        return READERS[declared.format]
    own = own_dataset(declared.name)
    if own is None or own.read is None:
        raise UserError(
            f"dataset {declared.name}: format: own: expected a Dataset with a reader, got none; install the package "
            "that brings it, or add it with mfbench.register(Dataset(manifest, folder, read))"
        )
    return own.read


def _row_numbers(path: Path) -> NDArray[np.int64]:
    """Row numbers, one a line, below at most one line of heading."""
    lines = path.read_text("ascii", "replace").split()
    rows = lines[1:] if lines and lines[0].isidentifier() else lines
    if not rows or not all(row.isdecimal() and len(row) < 12 for row in rows):
        raise DataCorrupt(f"{path.name}: expected row numbers, one a line")
    if len(set(rows)) < len(rows):
        raise DataCorrupt(f"{path.name}: expected each row once, got {len(rows) - len(set(rows))} twice")
    return np.asarray(rows, np.int64)
