"""A dataset's converted file: one HDF5 file of flat arrays, written in a stream, read whole or in piece.

    numbers (A,) u1, positions (A, 3) f4 or f8, offsets (S + 1,) i8, molecule, file (S,) i4, row, geometry (S,) i8,
    temperature (S,) f4, member (S,) u4 (bit k: in sets[k]); names: molecules, files, sets
    labels/<k>/energy (S,) f8, energy_mask (S,) bool, forces (A, 3) f4, force_mask (S,) bool; attribute ``level``
    attribute free_atoms: JSON of eV by level and atomic number

Lengths are in Angstrom, energies in eV, forces in eV/Angstrom; the attributes say so, and where the data came
from. A level that declares no forces has no such arrays. Memory does not grow with the file, whichever way.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench.data.geometries import Fingerprints, Slab, fingerprints, ids_of, in_states
from mfbench.data.manifest import LabelKind, Manifest, identity
from mfbench.data.structures import (
    PER_STRUCTURE,
    Apart,
    BoolArray,
    Flat,
    Frames,
    IntArray,
    Names,
    Structures,
    bits,
    of_levels,
)
from mfbench.data.subset import Subset, chosen
from mfbench.errors import DataCorrupt, unknown
from mfbench.version import __version__

FORMAT = "mfbench structures"

VERSION = 2  # 1 knew no free atoms, and kept frames of one atom among the structures

_BUFFER = 1 << 22  # bytes of a column that are gathered before they are written

_SLAB_ATOMS = 1 << 20  # atoms that are read at a time

_WINDOWS = 40  # that a few of many structures are taken from: neighbours are read at once

Progress = Callable[[int], None]  # told how many structures are done


def silent(done: int) -> None:
    """Report nothing."""


class _Column:
    """One growing data set, written in large pieces."""

    def __init__(
        self, group: h5py.Group, name: str, dtype: Any, width: tuple[int, ...] = (), chunk: int = 1 << 20
    ) -> None:
        """Make an empty data set, stored in chunks of so many bytes: large ones are read fastest, and never piece."""
        rows = max(1, chunk // (np.dtype(dtype).itemsize * int(np.prod(width, initial=1))))
        self._data = group.create_dataset(name, (0, *width), dtype, maxshape=(None, *width), chunks=(rows, *width))
        self._pending: list[NDArray] = []
        self._bytes = 0

    def append(self, array: NDArray) -> None:
        self._pending.append(array.astype(self._data.dtype, copy=False))
        self._bytes += self._pending[-1].nbytes
        if self._bytes > _BUFFER:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            piece = np.concatenate(self._pending)
            begin = len(self._data)
            self._data.resize(begin + len(piece), axis=0)
            self._data[begin:] = piece
            self._pending, self._bytes = [], 0


def write(path: Path, declared: Manifest, frames: Iterable[Frames], progress: Progress = silent) -> None:
    """Write frames as they come, then the ids of the geometries that recur.

    The file takes no name of its own here: the caller renames it when all is done and checked.

    Raises:
        DataCorrupt: frames that are not sound (see ``structures.flatten``), or none at all.
    """
    levels = declared.levels
    by_level = {labels.level: labels for labels in declared.labels}
    column = partial(_Column, chunk=1 << (14 if 0 < declared.bytes < 1 << 26 else 20))
    with h5py.File(path, "w") as file:
        apart = Apart(levels, declared.declared_atoms)
        pieces = apart.molecules(frames)
        first = next(pieces, None)
        if first is None:
            raise DataCorrupt(f"{declared.name}: {apart.none}")
        columns = {
            "numbers": column(file, "numbers", np.uint8),
            "positions": column(file, "positions", first.positions.dtype, (3,)),
            "offsets": column(file, "offsets", np.int64),
            "molecule": column(file, "molecule", np.int32),
            "file": column(file, "file", np.int32),
            "row": column(file, "row", np.int64),
            "temperature": column(file, "temperature", np.float32),
            "member": column(file, "member", np.uint32),
        }
        for k, name in enumerate(levels):
            group = file.create_group(f"labels/{k}")
            group.attrs["level"] = name
            group.attrs["declaration"] = by_level[name].model_dump_json()
            columns[f"{k}.energy"] = column(group, "energy", np.float64)
            columns[f"{k}.energy_mask"] = column(group, "energy_mask", bool)
            if by_level[name].forces is not None:
                columns[f"{k}.forces"] = column(group, "forces", np.float32, (3,))
                columns[f"{k}.force_mask"] = column(group, "force_mask", bool)
        molecules, files, sets = Names(), Names(), Names()
        columns["offsets"].append(np.zeros(1, np.int64))
        prints: list[Fingerprints] = []
        atoms = done = 0
        for flat in chain([first], pieces):
            if not np.can_cast(flat.positions.dtype, first.positions.dtype):
                raise DataCorrupt(f"{flat.piece.file}: {flat.positions.dtype=} != {first.positions.dtype}, as before")
            if not len(flat.energies):
                continue
            _append(columns, flat, atoms, (molecules, files, sets))
            within = np.arange(len(flat.energies) + 1) * len(flat.piece.numbers)
            found = fingerprints(Slab(flat.numbers, flat.positions, within))
            prints.append(in_states(found, (flat.piece.molecule,), np.zeros(len(flat.energies), np.int64)))
            atoms, done = atoms + len(flat.numbers), done + len(flat.energies)
            progress(done)
        for one in columns.values():
            one.flush()
        if not done:
            raise DataCorrupt(f"{declared.name}: {apart.none}")
        for name, values in (("molecules", molecules), ("files", files), ("sets", sets)):
            file.create_dataset(name, data=list(values), dtype=h5py.string_dtype(), shape=(len(values),))
        offsets = file["offsets"][()]
        whole = Fingerprints(*(np.concatenate(values) for values in zip(*prints)))
        file["geometry"] = ids_of(whole, lambda some: _gather(file, offsets, some))
        file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "dataset": declared.name,
                "identity": identity(declared),
                "free_atoms": json.dumps(apart.energies),
                "units": json.dumps({"positions": "Angstrom", "energy": "eV", "forces": "eV/Angstrom"}),
                "provenance": json.dumps(
                    {
                        "title": declared.title,
                        "license": declared.license,
                        "doi": declared.doi,
                        "citation": declared.citation.text,
                        "files": {one.name: one.sha256 for one in declared.files},
                        "mfbench": __version__,
                    }
                ),
            }
        )


def _append(columns: dict[str, _Column], flat: Flat, atoms: int, names: tuple[Names, Names, Names]) -> None:
    piece, count = flat.piece, len(flat.energies)
    molecules, files, sets = names
    columns["numbers"].append(flat.numbers)
    columns["positions"].append(flat.positions)
    columns["offsets"].append(atoms + len(piece.numbers) * np.arange(1, count + 1))
    columns["molecule"].append(np.full(count, molecules.index(piece.molecule), np.int32))
    columns["file"].append(np.full(count, files.index(piece.file), np.int32))
    columns["row"].append(piece.rows)
    columns["temperature"].append(flat.temperature)
    columns["member"].append(bits(piece.sets, sets, count))
    for k, forces in enumerate(flat.forces):
        columns[f"{k}.energy"].append(flat.energies[:, k])
        columns[f"{k}.energy_mask"].append(flat.energy_mask[:, k])
        if f"{k}.forces" in columns:
            columns[f"{k}.forces"].append(np.zeros((len(flat.numbers), 3)) if forces is None else forces)
            columns[f"{k}.force_mask"].append(flat.force_mask[:, k])


def _structure_slabs(offsets: IntArray) -> Iterator[tuple[int, int]]:
    """Ranges of structures of some ``_SLAB_ATOMS`` atoms each."""
    begin, last = 0, len(offsets) - 1
    while begin < last:
        end = int(np.searchsorted(offsets, offsets[begin] + _SLAB_ATOMS, side="right")) - 1
        end = min(max(end, begin + 1), last)
        yield begin, end
        begin = end


def _slab(file: h5py.File, offsets: IntArray, begin: int, end: int) -> Slab:
    first, last = offsets[begin], offsets[end]
    return Slab(file["numbers"][first:last], file["positions"][first:last], offsets[begin : end + 1] - first)


def _gather(file: h5py.File, offsets: IntArray, chosen: IntArray) -> Slab:
    """Atoms of some structures, given in ascending order, in one pass over the slabs that hold them."""
    numbers, positions, sizes = [], [], np.diff(offsets)[chosen]
    cuts = np.searchsorted(chosen, [end for _, end in _structure_slabs(offsets)])
    for (begin, end), (low, high) in zip(_structure_slabs(offsets), pairwise([0, *cuts])):
        mine = chosen[low:high]
        if not len(mine):
            continue
        slab = _slab(file, offsets, begin, end)
        starts = np.repeat(slab.offsets[mine - begin], sizes[low:high])
        within = np.arange(sizes[low:high].sum()) - np.repeat(
            np.cumsum(sizes[low:high]) - sizes[low:high], sizes[low:high]
        )
        numbers.append(slab.numbers[starts + within])
        positions.append(slab.positions[starts + within])
    if not numbers:
        return Slab(np.zeros(0, np.uint8), np.zeros((0, 3)), np.zeros(1, np.int64))
    return Slab(np.concatenate(numbers), np.concatenate(positions), np.concatenate([[0], np.cumsum(sizes)]))


def windows(total: int, most: int) -> NDArray[np.int64]:
    """Some ``most`` of ``total`` places, ascending: runs of neighbours, spread over all. All, where they are few."""
    if total <= most:
        return np.arange(total)
    width = max(1, most // _WINDOWS)
    starts = np.linspace(0, total - width, most // width).astype(np.int64)
    return (starts[:, None] + np.arange(width)).ravel()


class Reader:
    """A converted file, opened to read chosen levels of chosen structures. Use it as a context manager.

    ``outline`` has everything but the arrays with an entry an atom, which come in pieces from ``numbers``,
    ``positions`` and ``forces``: that is how a dataset reaches a device without a copy on the host.
    """

    def __init__(
        self,
        path: Path,
        levels: Sequence[str] | None = None,
        subset: Subset | None = None,
        most: int | None = None,
    ) -> None:
        """Open the file.

        Args:
            levels: names of the levels whose labels are wanted; all by default.
            subset: which structures; all by default.
            most: of these, some so many, spread over the file; all by default. ``total`` is how many there are.

        Raises:
            UserError: a level, molecule, formula or set that the file does not have, or nothing is left.
            DataCorrupt: this is not a converted file.
        """
        self._file = _opened(path)
        try:
            self.dataset = str(self._file.attrs["dataset"])
            self._offsets = self._file["offsets"][()]
            self._groups = {group.attrs["level"]: group for group in self._file["labels"].values()}
            held = sorted(self._groups, key=lambda name: int(self._groups[name].name.rsplit("/", 1)[1]))
            for name in levels or ():
                if name not in self._groups:
                    raise unknown(f"level of dataset {self.dataset}", name, held)
            self.levels = tuple(name for name in held if levels is None or name in levels)
            self._keep = self._chosen(subset) if subset else None
            self.total = len(self._offsets) - 1 if self._keep is None else int(np.count_nonzero(self._keep))
            if most is not None and self.total > most:
                rows = np.arange(self.total) if self._keep is None else np.flatnonzero(self._keep)
                self._keep = np.zeros(len(self._offsets) - 1, bool)
                self._keep[rows[windows(self.total, most)]] = True
            self._n_atoms = np.diff(self._offsets) if self._keep is None else np.diff(self._offsets)[self._keep]
        except BaseException:
            self._file.close()
            raise

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(S + 1,) atoms of chosen structure s: offsets[s]:offsets[s + 1]."""
        return np.concatenate([[0], np.cumsum(self._n_atoms)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _names(self, key: str) -> tuple[str, ...]:
        return tuple(self._file[key].asstr()[()])

    def _chosen(self, subset: Subset) -> BoolArray:
        def labelled(kind: LabelKind) -> BoolArray:
            if kind.level not in self._groups:
                raise unknown(f"level of dataset {self.dataset}", kind.level, self._groups)
            name = "energy_mask" if kind.label == "energy" else "force_mask"
            group = self._groups[kind.level]
            return group[name][()] if name in group else np.zeros(len(self._offsets) - 1, bool)

        return chosen(
            subset,
            self.dataset,
            self._offsets,
            (self._names("molecules"), lambda: self._file["molecule"][()]),
            (self._names("sets"), lambda: self._file["member"][()]),
            lambda: self._file["numbers"][()],
            labelled,
        )

    def _per_structure(self, data: h5py.Dataset) -> NDArray:
        return data[()] if self._keep is None else data[()][self._keep]

    @cached_property
    def outline(self) -> Structures:
        """The chosen structures without their atoms."""
        return self.of_levels(self.levels)

    def of_levels(self, levels: tuple[str, ...]) -> Structures:
        """The outline with some levels only."""
        shape = (len(self._n_atoms), len(levels))
        energies, energy_mask, force_mask = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
        for k, name in enumerate(levels):
            group = self._groups[name]
            energies[:, k] = self._per_structure(group["energy"])
            energy_mask[:, k] = self._per_structure(group["energy_mask"])
            if "force_mask" in group:
                force_mask[:, k] = self._per_structure(group["force_mask"])
        return Structures(
            levels=levels,
            molecules=self._names("molecules"),
            files=self._names("files"),
            sets=self._names("sets"),
            numbers=np.zeros(0, np.uint8),
            positions=np.zeros((0, 3), self._file["positions"].dtype),
            offsets=self.offsets,
            energies=energies,
            forces=np.zeros((len(levels), 0, 3), np.float32),
            energy_mask=energy_mask,
            force_mask=force_mask,
            **{name: self._per_structure(self._file[name]) for name in PER_STRUCTURE},
            free_atoms=of_levels(_free_atoms(self._file), levels),
        )

    def numbers(self) -> Iterator[NDArray]:
        """The atomic numbers of the chosen structures, piece after piece."""
        return self._pieces(self._file["numbers"])

    def positions(self) -> Iterator[NDArray]:
        """The positions of the chosen structures, piece after piece."""
        return self._pieces(self._file["positions"])

    def forces(self, level: str) -> Iterator[NDArray]:
        """The forces at a level that has some, piece after piece."""
        return self._pieces(self._groups[level]["forces"])

    def _pieces(self, data: h5py.Dataset) -> Iterator[NDArray]:
        for begin, end in _structure_slabs(self._offsets):
            if self._keep is None:
                yield data[self._offsets[begin] : self._offsets[end]]
            elif len(mine := begin + np.flatnonzero(self._keep[begin:end])):
                one, other = mine[0], mine[-1] + 1  # what is before and behind is not read
                keep = np.repeat(self._keep[one:other], np.diff(self._offsets[one : other + 1]))
                yield data[self._offsets[one] : self._offsets[other]][keep]

    def beginning(self) -> Structures:
        """The first chosen structures, as many as one piece has, with their atoms and without labels."""
        numbers, positions = next(zip(self.numbers(), self.positions()))
        whole = int(np.searchsorted(self.offsets, len(numbers)))
        bare = self.of_levels(())
        return replace(
            bare,
            numbers=numbers,
            positions=positions,
            offsets=bare.offsets[: whole + 1],
            forces=np.zeros((0, len(numbers), 3), np.float32),
            **{name: getattr(bare, name)[:whole] for name in ("energies", "energy_mask", "force_mask", *PER_STRUCTURE)},
        )

    def batches(self) -> Iterator[Structures]:
        """The chosen structures, some at a time."""
        held = {k: self.forces(self.levels[k]) for k in np.flatnonzero(self.outline.force_mask.any(0))}
        begin = 0
        for numbers, positions in zip(self.numbers(), self.positions()):
            offsets = self.outline.offsets
            end = int(np.searchsorted(offsets, offsets[begin] + len(numbers)))
            forces = np.zeros((len(self.levels), len(numbers), 3), np.float32)
            for k, pieces in held.items():
                forces[k] = next(pieces)
            yield replace(
                self.outline,
                numbers=numbers,
                positions=positions,
                offsets=offsets[begin : end + 1] - offsets[begin],
                forces=forces,
                **{
                    name: getattr(self.outline, name)[begin:end]
                    for name in ("energies", "energy_mask", "force_mask", *PER_STRUCTURE)
                },
            )
            begin = end

    def read(self) -> Structures:
        """All of it, in memory."""
        outline = self.outline
        atoms = int(outline.offsets[-1])
        numbers = np.empty(atoms, np.uint8)
        positions = np.empty((atoms, 3), self._file["positions"].dtype)
        forces = np.zeros((len(self.levels), atoms, 3), np.float32)
        self._fill(numbers, self._file["numbers"])
        self._fill(positions, self._file["positions"])
        for k in np.flatnonzero(outline.force_mask.any(0)):
            self._fill(forces[k], self._groups[self.levels[k]]["forces"])
        return replace(outline, numbers=numbers, positions=positions, forces=forces)

    def _fill(self, target: NDArray, data: h5py.Dataset) -> None:
        if self._keep is None:
            data.read_direct(target)
            return
        begin = 0
        for piece in self._pieces(data):
            target[begin : begin + len(piece)] = piece
            begin += len(piece)


def read(path: Path, levels: Sequence[str] | None = None, subset: Subset | None = None) -> Structures:
    """Structures of a converted file in memory; see ``Reader``."""
    with Reader(path, levels, subset) as reader:
        return reader.read()


def _opened(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataCorrupt(f"{path}: not a readable HDF5 file: {error}") from error
    version = file.attrs.get("version") if file.attrs.get("format") == FORMAT else None
    if version != VERSION and not (version == 1 and np.diff(file["offsets"][()]).min() > 1):
        file.close()
        raise DataCorrupt(f"{path}: expected a file of format {FORMAT!r}, version {VERSION}: convert the dataset anew")
    return file


def _free_atoms(file: h5py.File) -> dict[str, dict[int, float]]:
    """By level and atomic number, eV."""
    held = json.loads(file.attrs.get("free_atoms", "{}"))
    return {level: {int(number): energy for number, energy in atoms.items()} for level, atoms in held.items()}


def free_atoms(path: Path) -> dict[str, dict[int, float]]:
    """The free atoms in a converted file, by level and atomic number, eV; raises DataCorrupt where it is none."""
    with _opened(path) as file:
        return _free_atoms(file)


def is_current(path: Path, declared: Manifest) -> bool:
    """Whether a converted file is there, whole, and made of what the manifest declares now."""
    if not path.is_file():
        return False
    try:
        with _opened(path) as file:
            return bool(file.attrs["identity"] == identity(declared))
    except DataCorrupt:
        return False
