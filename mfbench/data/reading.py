"""Reads the files of a dataset into ``Structures``, by the reader of its format; what is not such a file is refused."""

import sqlite3
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfbench.data import archives
from mfbench.data.geometries import geometry_ids
from mfbench.data.manifest import Content, Manifest, own_dataset
from mfbench.data.readers import hdf5, npz, own
from mfbench.data.readers.base import Reader
from mfbench.data.structures import Frames, Structures, assemble
from mfbench.elements import formula
from mfbench.errors import DataCorrupt, UserError

READERS: dict[str, Reader] = {
    "ani1x": hdf5.read_ani1x,
    "rmd17": npz.read_rmd17,
    "sgdml": npz.read_sgdml,
    "extxyz": own.read_extxyz,
    "ase": own.read_ase,
    "hdf5": hdf5.read,
}

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


def read(declared: Manifest, paths: list[Path]) -> Structures:
    """Read files that follow the manifest's format; what is not such a file raises DataCorrupt."""
    with ExitStack() as stack:
        structures = assemble(declared.levels, frames_of(declared, paths, stack), declared.declared_atoms)
    return replace(structures, geometry=geometry_ids(structures))


Notes = Counter[tuple[str, str]]  # of (file, what people should know of it): how many structures


def frames_of(
    declared: Manifest,
    paths: list[Path],
    stack: ExitStack,
    scratch: Path | None = None,
    notes: Notes | None = None,
) -> Iterator[Frames]:
    """The frames of a dataset's files, with the named sets they belong to; members of archives are unpacked.

    Args:
        stack: unpacked files are removed when it closes.
        scratch: folder to unpack in; the system's by default.
        notes: what the readers tell is added to these.
    """
    contents: list[tuple[Content, Path]] = []
    for file, path in zip(declared.files, paths):
        if file.members:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".unpacked-", dir=scratch))
            contents += zip(file.members, archives.unpack(path, file.members, Path(folder)))
        else:
            contents.append((file, path))
    indices = {content.index_of: _row_numbers(path) for content, path in contents if content.index_of}
    reader, formulas = reader_of(declared), dict[str, str]()
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
                _one_formula(path, frames, formulas)
                if notes is not None:
                    notes.update({(path.name, note): n for note, n in frames.notes.items()})
                yield replace(frames, sets={**frames.sets, **sets})
        except UserError:
            raise
        except _UNREADABLE as error:
            raise DataCorrupt(f"{path.name}: not a readable {declared.format} file: {error}") from error
        if content.n_structures is not None and count != content.n_structures:
            raise DataCorrupt(f"{path.name}: expected {content.n_structures:,} structures, got {count:,}")


def _one_formula(path: Path, frames: Frames, formulas: dict[str, str]) -> None:
    """Raise DataCorrupt where one name stands for two molecules; free atoms may share theirs (``IsolatedAtom``)."""
    if len(frames.numbers) == 1:
        return
    found = formula(frames.numbers)
    if (known := formulas.setdefault(frames.molecule, found)) != found:
        raise DataCorrupt(
            f"{path.name}: molecule {frames.molecule!r}: expected one formula, got {known} and, in row "
            f"{frames.rows[0]}, {found}: give different molecules different names"
        )


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
