"""Structures with labels at several levels of theory, as a few flat arrays; numpy and h5py only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench.errors import DataCorrupt
from mfbench.levels import level

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]
BoolArray = NDArray[np.bool_]

SYMBOLS = {0: "X", 1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 14: "Si", 15: "P", 16: "S", 17: "Cl", 35: "Br"}


@dataclass(frozen=True)
class Frames:
    """Frames of one molecule as a reader yields them, in internal units; NaN where the file has no label.

    Shapes for C frames of N atoms and L levels.
    """

    molecule: str
    numbers: IntArray  # (N,) atomic numbers
    positions: FloatArray  # (C, N, 3) Angstrom
    energies: FloatArray  # (C, L) eV
    forces: FloatArray  # (C, L, N, 3) eV/Angstrom
    file: str
    rows: IntArray  # (C,) place of each frame in its file (or group)
    temperature: FloatArray | None = None  # (C,) K


@dataclass(frozen=True)
class Structures:
    """S structures with A atoms in all, and their labels at L levels. Arrays are never written to.

    A missing label is a False in its mask; the value below a False mask is 0 and means nothing.
    """

    levels: tuple[str, ...]  # (L,) names, from low to high
    molecules: tuple[str, ...]  # names that `molecule` points to
    files: tuple[str, ...]  # names that `file` points to
    numbers: NDArray[np.uint8]  # (A,)
    positions: NDArray[np.float64]  # (A, 3) Angstrom
    offsets: NDArray[np.int64]  # (S + 1,) atoms of structure s: offsets[s]:offsets[s + 1]
    energies: NDArray[np.float64]  # (S, L) eV
    forces: NDArray[np.float32]  # (A, L, 3) eV/Angstrom
    energy_mask: BoolArray  # (S, L)
    force_mask: BoolArray  # (S, L) forces are labelled for all atoms of a structure or for none
    molecule: NDArray[np.int32]  # (S,) index into molecules
    geometry: NDArray[np.int64]  # (S,) equal for structures that are one geometry, moved or reordered
    file: NDArray[np.int32]  # (S,) index into files
    row: NDArray[np.int64]  # (S,) place in that file (or group)
    temperature: NDArray[np.float32]  # (S,) K, 0 where unknown

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """Atoms of each structure, (S,)."""
        return np.diff(self.offsets)

    def level_index(self, name: str) -> int:
        """Column of a level in the label arrays."""
        if name not in self.levels:
            raise DataCorrupt(f"no labels at level {name!r}: the data hold {', '.join(self.levels)}")
        return self.levels.index(name)

    def atoms_of(self, indices: IntArray) -> NDArray[np.int64]:
        """Rows of the atoms of the chosen structures, one structure after the other."""
        counts = self.n_atoms[indices]
        starts = np.repeat(self.offsets[indices] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        return starts + np.arange(counts.sum())

    def __getitem__(self, indices: IntArray) -> "Structures":
        """The chosen structures, in that order; a boolean mask chooses where it is True."""
        indices = np.asarray(indices)
        indices = np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)
        atoms = self.atoms_of(indices)
        per_structure = {
            name: getattr(self, name)[indices]
            for name in (
                "energies", "energy_mask", "force_mask", "molecule", "geometry", "file", "row", "temperature"
            )
        }  # fmt: skip
        return replace(
            self,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            forces=self.forces[atoms],
            offsets=np.concatenate([[0], np.cumsum(self.n_atoms[indices])]),
            **per_structure,
        )


def save_arrays(path: Path, record: Any) -> None:
    """Write a dataclass of arrays (and tuples of names) to one HDF5 file, a data set (attribute) a field."""
    with h5py.File(path, "w") as file:
        for field in fields(record):
            value = getattr(record, field.name)
            if isinstance(value, tuple):
                file.attrs[field.name] = list(value)
            else:
                file.create_dataset(field.name, data=value, compression="gzip" if value.size > 999 else None)


def read_arrays[R](path: Path, kind: type[R]) -> R:
    """Read what ``save_arrays`` wrote; raises DataCorrupt where a field of ``kind`` is missing."""
    values: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        for field in fields(kind):  # type: ignore[arg-type]
            if field.name in file:
                values[field.name] = file[field.name][()]
            elif field.name in file.attrs:
                values[field.name] = tuple(map(str, file.attrs[field.name]))
            else:
                raise DataCorrupt(f"{path}: expected the fields of {kind.__name__}, found no {field.name!r}")
    return kind(**values)


def assemble(levels: Sequence[str], frames: Iterable[Frames]) -> Structures:
    """Put the frames of a reader together; geometry ids are not yet set (each structure its own).

    Raises:
        DataCorrupt: shapes that do not fit, or coordinates or labels that are infinite.
    """
    parts = list(frames)
    if not sum(len(part.positions) for part in parts):
        raise DataCorrupt("expected structures, found none")
    molecules = tuple(dict.fromkeys(part.molecule for part in parts))
    files = tuple(dict.fromkeys(part.file for part in parts))
    n_levels = len(levels)
    for part in parts:
        count, atoms = len(part.positions), len(part.numbers)
        for name, array, shape in (
            ("positions", part.positions, (count, atoms, 3)),
            ("energies", part.energies, (count, n_levels)),
            ("forces", part.forces, (count, n_levels, atoms, 3)),
            ("rows", part.rows, (count,)),
            ("temperature", part.rows if part.temperature is None else part.temperature, (count,)),
        ):
            if array.shape != shape:
                raise DataCorrupt(f"{part.file}, {part.molecule}: {name}: {array.shape=} != {shape}")
        for name, bad in (
            ("positions that are not finite", ~np.isfinite(part.positions).all((1, 2))),
            ("infinite energies", np.isinf(part.energies).any(1)),
            ("infinite forces", np.isinf(part.forces).any((1, 2, 3))),
        ):
            if bad.any():
                where = part.rows[bad][:5].tolist()
                raise DataCorrupt(f"{part.file}, {part.molecule}: {bad.sum()} frames with {name}, rows {where}")
        if unknown := set(part.numbers.tolist()) - (SYMBOLS.keys() - {0}):
            raise DataCorrupt(f"{part.file}, {part.molecule}: unknown atomic numbers {sorted(unknown)}")

    counts = [len(part.positions) for part in parts]
    n_atoms = np.concatenate([np.full(c, len(p.numbers)) for c, p in zip(counts, parts)])
    energies = np.concatenate([part.energies for part in parts]).astype(np.float64)
    forces = np.concatenate([part.forces.transpose(0, 2, 1, 3).reshape(-1, n_levels, 3) for part in parts]).astype(
        np.float32
    )
    force_mask = np.concatenate([np.isfinite(part.forces).all((2, 3)) for part in parts])
    total = int(sum(counts))
    return Structures(
        levels=tuple(levels),
        molecules=molecules,
        files=files,
        numbers=np.concatenate([np.tile(p.numbers, c) for c, p in zip(counts, parts)]).astype(np.uint8),
        positions=np.concatenate([p.positions.reshape(-1, 3) for p in parts]).astype(np.float64),
        offsets=np.concatenate([[0], np.cumsum(n_atoms)]).astype(np.int64),
        energies=np.nan_to_num(energies, nan=0.0),
        forces=np.where(np.repeat(force_mask, n_atoms, 0)[:, :, None], forces, np.float32(0)),
        energy_mask=np.isfinite(energies),
        force_mask=force_mask,
        molecule=np.repeat([molecules.index(p.molecule) for p in parts], counts).astype(np.int32),
        geometry=np.arange(total, dtype=np.int64),
        file=np.repeat([files.index(p.file) for p in parts], counts).astype(np.int32),
        row=np.concatenate([p.rows for p in parts]).astype(np.int64),
        temperature=np.concatenate(
            [np.zeros(c) if p.temperature is None else p.temperature for c, p in zip(counts, parts)]
        ).astype(np.float32),
    )


def join(parts: Sequence[Structures]) -> Structures:
    """Several datasets as one, with the union of their levels.

    Geometry ids are set anew over the whole, so that a geometry which recurs between datasets is found.
    """
    levels = tuple(sorted({name for part in parts for name in part.levels}, key=level))
    molecules = tuple(dict.fromkeys(name for part in parts for name in part.molecules))
    files = tuple(dict.fromkeys(name for part in parts for name in part.files))

    def spread(part: Structures, array: NDArray) -> NDArray:
        wide = np.zeros((array.shape[0], len(levels), *array.shape[2:]), array.dtype)
        wide[:, [levels.index(name) for name in part.levels]] = array
        return wide

    def renumber(old: tuple[str, ...], new: tuple[str, ...], index: NDArray) -> NDArray:
        return np.asarray([new.index(name) for name in old], dtype=np.int32)[index]

    whole = Structures(
        levels=levels,
        molecules=molecules,
        files=files,
        numbers=np.concatenate([p.numbers for p in parts]),
        positions=np.concatenate([p.positions for p in parts]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([p.n_atoms for p in parts]))]),
        energies=np.concatenate([spread(p, p.energies) for p in parts]),
        forces=np.concatenate([spread(p, p.forces) for p in parts]),
        energy_mask=np.concatenate([spread(p, p.energy_mask) for p in parts]),
        force_mask=np.concatenate([spread(p, p.force_mask) for p in parts]),
        molecule=np.concatenate([renumber(p.molecules, molecules, p.molecule) for p in parts]),
        geometry=np.arange(sum(len(p) for p in parts)),
        file=np.concatenate([renumber(p.files, files, p.file) for p in parts]),
        row=np.concatenate([p.row for p in parts]),
        temperature=np.concatenate([p.temperature for p in parts]),
    )
    return replace(whole, geometry=geometry_ids(whole))


def sorted_distances(numbers: IntArray, positions: FloatArray) -> tuple[bytes, FloatArray]:
    """What is equal for structures that differ by rotation, translation, reflection or order of equal atoms.

    Args:
        numbers: (N,) atomic numbers; positions: (C, N, 3).

    Returns:
        The sorted atomic numbers as bytes, and (C, N(N-1)/2) distances, sorted within each pair of elements.
    """
    order = np.argsort(numbers, kind="stable")
    sorted_numbers, ordered = np.asarray(numbers)[order], positions[:, order]
    first, second = np.triu_indices(len(order), 1)
    distances = np.linalg.norm(ordered[:, first] - ordered[:, second], axis=-1)
    pair = sorted_numbers[first].astype(np.int64) * 256 + sorted_numbers[second]
    for kind in np.unique(pair):
        columns = np.flatnonzero(pair == kind)
        distances[:, columns] = np.sort(distances[:, columns], axis=1)
    return sorted_numbers.astype(np.uint8).tobytes(), distances


def geometry_ids(structures: Structures, tolerance: float = 1e-5) -> NDArray[np.int64]:
    """(S,) ids, equal where all element-wise sorted distances agree within ``tolerance`` (Angstrom).

    Structures of one composition are ordered by the sum of their distances; only neighbours in that order
    can agree, so that the search is linear but for the sort.
    """
    ids = np.arange(len(structures))
    groups: dict[bytes, list[int]] = {}
    for s in range(len(structures)):
        begin, end = structures.offsets[s : s + 2]
        groups.setdefault(structures.numbers[begin:end].tobytes(), []).append(s)
    compositions: dict[bytes, tuple[list[NDArray], list[FloatArray]]] = {}
    for raw, members in groups.items():
        index = np.asarray(members)
        numbers = np.frombuffer(raw, np.uint8)
        positions = structures.positions[structures.atoms_of(index)].reshape(len(index), len(numbers), 3)
        key, distances = sorted_distances(numbers, positions)
        indices, blocks = compositions.setdefault(key, ([], []))
        indices.append(index)
        blocks.append(distances)
    for indices, blocks in compositions.values():
        index, distances = np.concatenate(indices), np.concatenate(blocks)
        total = distances.sum(1)
        order = np.argsort(total, kind="stable")
        index, distances, total = index[order], distances[order], total[order]
        window = tolerance * max(1, distances.shape[1])
        for shift in range(1, len(index)):
            near = np.flatnonzero(total[shift:] - total[:-shift] <= window)
            if not len(near):
                break
            same = near[(np.abs(distances[near] - distances[near + shift]) <= tolerance).all(1)]
            for k in same:
                _unite(ids, int(index[k]), int(index[k + shift]))
    return np.asarray([_root(ids, s) for s in range(len(ids))], dtype=np.int64)


def _root(ids: IntArray, s: int) -> int:
    while ids[s] != s:
        ids[s] = ids[ids[s]]
        s = int(ids[s])
    return s


def _unite(ids: IntArray, a: int, b: int) -> None:
    a, b = sorted((_root(ids, a), _root(ids, b)))
    ids[b] = a


def formula(numbers: IntArray) -> str:
    """Hill formula, e.g. ``C2H6O``."""
    if unknown := set(numbers.tolist()) - SYMBOLS.keys():
        raise DataCorrupt(f"unknown atomic numbers {sorted(unknown)}")
    symbols = [SYMBOLS[int(z)] for z in numbers]
    ordered = sorted(set(symbols), key=lambda s: (s != "C", s != "H" or "C" not in symbols, s))
    return "".join(s + (str(n) if (n := symbols.count(s)) > 1 else "") for s in ordered)
