"""Readers of people's own data: extended xyz, an ASE database, or a plain HDF5 file.

The manifest names the keys of energies and forces, and may name one for the molecule and one for a named set
(``molecule_key``, ``set_key``). A structure without a key has no such label. The plain HDF5 file holds

    numbers (A,) and positions (A, 3) of all atoms, one structure after the other; n_atoms (S,) of each structure;
    an array (S,) for each energy key and (A, 3) for each forces key, NaN where there is no label;
    arrays (S,) of text for the molecule and set keys, where named
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import ase.db
import ase.io
import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Manifest
from mfbench.data.readers.base import labels_of, numeric, positions_of, stored_array
from mfbench.data.structures import Frames
from mfbench.elements import formula
from mfbench.errors import DataCorrupt

_MOST_FRAMES = 4096  # that are put together, where neighbours are one molecule


class Record(NamedTuple):
    """One structure as a file has it."""

    numbers: NDArray[np.integer]  # (N,)
    positions: NDArray[np.floating]  # (N, 3)
    values: Mapping[str, Any]  # by key; a key may be missing


def read_extxyz(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of an extended xyz file: keys of the comment line and columns of the atoms."""
    count_extxyz(path)
    frames = ase.io.iread(path, index=":", format="extxyz")
    records = (_record(atoms, {**atoms.info, **atoms.arrays}) for atoms in frames)
    yield from _frames(path, content, manifest, records)


def count_extxyz(path: Path) -> int:
    """How many structures an extended xyz file holds.

    Raises:
        DataCorrupt: the file is cut short, where ASE would take a last frame for no frame at all.
    """
    row = 0
    with open(path, encoding="utf-8") as file:
        while count := file.readline().strip():
            if not count.isdecimal():
                raise DataCorrupt(f"{path}: structure {row}: expected a number of atoms, got {count!r:.40}")
            lines = deque(enumerate(islice(file, int(count) + 1), 1), maxlen=1)
            n_lines, last = lines[0] if lines else (0, "")
            if n_lines < int(count) + 1:
                raise DataCorrupt(f"{path}: structure {row}: expected {count} atoms, the file ends before: cut short")
            if not last.endswith("\n"):  # a number that lost its last digits would be read as another number
                raise DataCorrupt(f"{path}: expected a newline at its end: cut short? If it is whole, add one")
            row += 1
        if count == "" and file.read().strip():
            raise DataCorrupt(f"{path}: expected a number of atoms after structure {row - 1}, got an empty line")
    return row


def read_ase(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the rows of an ASE SQLite database: keys of a row's data, its key-value pairs or its calculator."""

    def records() -> Iterator[Record]:
        if not path.is_file():  # SQLite would make one
            raise FileNotFoundError(path)
        with ase.db.connect(path, type="db", use_lock_file=False) as database:
            for row in database.select(sort="id"):
                yield _record(row.toatoms(), {**row.key_value_pairs, **row.data})

    yield from _frames(path, content, manifest, records())


def _record(atoms: Atoms, values: Mapping[str, Any]) -> Record:
    """ASE hands energies and forces of well-known names to a calculator; they are keys like any other here."""
    if atoms.pbc.any():
        raise DataCorrupt("expected isolated molecules, got a periodic structure: these would be taken for molecules")
    results = atoms.calc.results if atoms.calc is not None else {}
    return Record(atoms.numbers, atoms.positions, {**results, **values})


def read_hdf5(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the structures of a plain HDF5 file (see the head of this module)."""
    text = [key for key in (manifest.molecule_key, manifest.set_key) if key]
    per_structure = [key for labels in manifest.labels if labels.energy for key in labels.energy.key]
    per_atom = [key for labels in manifest.labels if labels.forces for key in labels.forces.key]
    with h5py.File(path, "r") as file:
        data = {
            key: stored_array(path, file, key)
            for key in ("numbers", "positions", "n_atoms", *text, *per_structure, *per_atom)
        }
        n_atoms = numeric(path, "n_atoms", data["n_atoms"][()]).astype(np.int64)
        if n_atoms.ndim != 1 or n_atoms.min(initial=1) < 1 or not np.array_equal(n_atoms, data["n_atoms"][()]):
            raise DataCorrupt(f"{path}: key 'n_atoms': expected positive whole numbers, got {data['n_atoms'][:3]} ...")
        offsets = np.concatenate([[0], np.cumsum(n_atoms)])
        for keys, length in (
            (("numbers", "positions", *per_atom), offsets[-1]),
            ((*text, *per_structure), len(offsets) - 1),
        ):
            for key in keys:
                if len(data[key]) != length:
                    raise DataCorrupt(f"{path}: key {key!r}: expected {length} rows, got shape {data[key].shape}")

        def records() -> Iterator[Record]:
            for first in range(0, len(offsets) - 1, _MOST_FRAMES):
                last = min(first + _MOST_FRAMES, len(offsets) - 1)
                atoms = slice(offsets[first], offsets[last])
                held = {key: numeric(path, key, data[key][atoms]) for key in ("numbers", "positions", *per_atom)}
                held |= {key: numeric(path, key, data[key][first:last]) for key in per_structure}
                held |= {key: data[key].asstr()[first:last] for key in text}
                for s, (begin, end) in enumerate(pairwise(offsets[first : last + 1] - offsets[first])):
                    values = {key: held[key][s] for key in (*text, *per_structure)}
                    values |= {key: held[key][begin:end] for key in per_atom}
                    yield Record(held["numbers"][begin:end], held["positions"][begin:end], values)

        yield from _frames(path, content, manifest, records())


def _frames(path: Path, content: Content, manifest: Manifest, records: Iterable[Record]) -> Iterator[Frames]:
    """Neighbours of one molecule and set together; raises DataCorrupt for a key that no structure has."""
    wanted = {key for one in manifest.labels for part in (one.energy, one.forces) if part for key in part.key}
    wanted |= {key for key in (manifest.molecule_key, manifest.set_key) if key}
    seen: set[str] = set()
    run: list[Record] = []
    row, molecules = 0, False
    for record in records:
        seen |= wanted & record.values.keys()
        molecules |= len(record.numbers) > 1
        if run and (len(run) == _MOST_FRAMES or _kind(manifest, record) != _kind(manifest, run[0])):
            yield _together(path, content, manifest, run, row)
            row, run = row + len(run), []
        run.append(record)
    if run:
        yield _together(path, content, manifest, run, row)
    # A file of free atoms alone has energies, and may lack forces and some levels.
    energies = {key for one in manifest.labels if one.energy for key in one.energy.key}
    if (missing := wanted - seen) and (row or run) and (molecules or not seen & energies):
        raise DataCorrupt(f"{path}: expected the keys {sorted(missing)} that the manifest names; no structure has them")


def _kind(manifest: Manifest, record: Record) -> tuple[bytes, str, str]:
    """What neighbours must share to be put together."""
    molecule, named_set = (
        str(record.values.get(key, "")) if key else "" for key in (manifest.molecule_key, manifest.set_key)
    )
    return record.numbers.tobytes(), molecule, named_set


def _together(path: Path, content: Content, manifest: Manifest, run: list[Record], row: int) -> Frames:
    numbers = numeric(path, "numbers", run[0].numbers)
    _, molecule, named_set = _kind(manifest, run[0])
    forces_keys = {key for one in manifest.labels if one.forces for key in one.forces.key}

    def values(key: str) -> NDArray:
        shape = (len(numbers), 3) if key in forces_keys else ()
        missing = np.full(shape, np.nan)
        arrays = [numeric(path, key, np.asarray(record.values.get(key, missing))) for record in run]
        for k, array in enumerate(arrays):
            if array.shape != shape:
                raise DataCorrupt(f"{path}: structure {row + k}, key {key!r}: expected {shape=}, got {array.shape}")
        return np.stack(arrays)

    energies, forces = labels_of(manifest, content, values, len(run), len(numbers), str(path))
    return Frames(
        molecule=content.molecule or molecule or formula(numbers),
        numbers=numbers,
        positions=positions_of(manifest, np.stack([numeric(path, "positions", one.positions) for one in run])),
        energies=energies,
        forces=forces,
        file=path.name,
        rows=np.arange(row, row + len(run)),
        sets={named_set: np.ones(len(run), bool)} if named_set else {},
    )
