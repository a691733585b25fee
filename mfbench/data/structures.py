"""Structures with labels at several levels of theory, as a few flat arrays; numpy and h5py only."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mfbench.data.molecules import stated_in
from mfbench.elements import SYMBOLS
from mfbench.errors import DataCorrupt
from mfbench.free_atoms import agreeing
from mfbench.theory import level

FloatArray = NDArray[np.floating]

IntArray = NDArray[np.integer]

BoolArray = NDArray[np.bool_]

FARTHEST = 1e4  # Angstrom from the origin: far from it, single precision leaves no digits to a bond

# Fields of Structures with one entry a structure, levels aside.
PER_STRUCTURE = ("molecule", "geometry", "file", "row", "temperature", "member")


@dataclass(frozen=True)
class Frames:
    """Frames of one molecule as a reader yields them, in internal units; NaN where the file has no label.

    Shapes for C frames of N atoms and L levels.
    """

    molecule: str
    numbers: IntArray  # (N,) atomic numbers
    positions: FloatArray  # (C, N, 3) Angstrom
    energies: FloatArray  # (C, L) eV
    forces: Sequence[FloatArray | None]  # L times (C, N, 3) eV/Angstrom; None: no forces at that level
    file: str
    rows: IntArray  # (C,) place of each frame in its file (or group)
    temperature: FloatArray | None = None  # (C,) K
    sets: Mapping[str, BoolArray] = field(default_factory=dict)  # named sets: (C,) which frames are in it
    notes: Mapping[str, int] = field(default_factory=dict)  # for people, and of how many frames each is true


@dataclass(frozen=True, repr=False)
class Structures:
    """S structures with A atoms in all, and their labels at L levels. Arrays are never written to.

    A missing label is a False in its mask; the value below a False mask is 0 and means nothing. Forces are
    ordered by level first, so that a level without any takes no memory (its zeros are never touched).
    """

    levels: tuple[str, ...]  # (L,) names, from low to high
    molecules: tuple[str, ...]  # names that `molecule` points to
    files: tuple[str, ...]  # names that `file` points to
    sets: tuple[str, ...]  # names of the sets that the files define (official splits): bits of `member`
    numbers: NDArray[np.uint8]  # (A,)
    positions: FloatArray  # (A, 3) Angstrom, as precise as the files
    offsets: NDArray[np.int64]  # (S + 1,) atoms of structure s: offsets[s]:offsets[s + 1]
    energies: NDArray[np.float64]  # (S, L) eV
    forces: NDArray[np.float32]  # (L, A, 3) eV/Angstrom
    energy_mask: BoolArray  # (S, L)
    force_mask: BoolArray  # (S, L) forces are labelled for all atoms of a structure or for none
    molecule: NDArray[np.int32]  # (S,) index into molecules
    geometry: NDArray[np.int64]  # (S,) equal for structures that are one geometry, moved or reordered
    file: NDArray[np.int32]  # (S,) index into files
    row: NDArray[np.int64]  # (S,) place in that file (or group)
    temperature: NDArray[np.float32]  # (S,) K, 0 where unknown
    member: NDArray[np.uint32]  # (S,) bit k: belongs to sets[k]
    # Level -> atomic number -> eV: frames of one atom and what the manifest declares. They are no structures.
    free_atoms: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        """In a line: what of, and how many labels at each level."""
        labels = (
            f"{name}: {energies:,} energies, {forces:,} with forces"
            for name, energies, forces in zip(self.levels, self.energy_mask.sum(0), self.force_mask.sum(0))
        )
        return f"<Structures: {len(self):,} of {len(self.molecules):,} molecules; {'; '.join(labels)}>"

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """Atoms of each structure, (S,)."""
        return np.diff(self.offsets)

    def level_index(self, name: str) -> int:
        """Column of a level in the label arrays."""
        if name not in self.levels:
            raise DataCorrupt(f"no labels at level {name!r}: the data hold {', '.join(self.levels)}")
        return self.levels.index(name)

    def in_set(self, name: str) -> BoolArray:
        """(S,) which structures belong to a named set."""
        if name not in self.sets:
            raise DataCorrupt(f"no set {name!r}: the data hold {', '.join(self.sets) or 'none'}")
        return (self.member >> self.sets.index(name)) & 1 == 1

    def where(self, s: int) -> str:
        """Molecule, file and row of one structure, for messages."""
        return f"{self.molecules[self.molecule[s]]}, row {self.row[s]} of {self.files[self.file[s]]}"

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
            name: getattr(self, name)[indices] for name in ("energies", "energy_mask", "force_mask", *PER_STRUCTURE)
        }
        return replace(
            self,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            forces=take_forces(self.forces, atoms, self.force_mask.any(0)),
            offsets=np.concatenate([[0], np.cumsum(self.n_atoms[indices])]),
            **per_structure,
        )


def take_forces(forces: NDArray[np.float32], atoms: IntArray, labelled: BoolArray) -> NDArray[np.float32]:
    """The chosen atoms' forces (L, ., 3), those of levels without labels left as untouched zeros."""
    taken = np.zeros((len(forces), len(atoms), 3), np.float32)
    for k in np.flatnonzero(labelled):
        taken[k] = forces[k, atoms]
    return taken


def take_levels(forces: NDArray[np.float32], levels: Sequence[int], labelled: BoolArray) -> NDArray[np.float32]:
    """The chosen levels' forces (., A, 3), those without labels left as untouched zeros."""
    taken = np.zeros((len(levels), *forces.shape[1:]), np.float32)
    for new, old in enumerate(levels):
        if labelled[old]:
            taken[new] = forces[old]
    return taken


@dataclass(frozen=True)
class Flat:
    """Frames as flat arrays, ready to be appended to others: what ``Structures`` is made of, in pieces."""

    piece: Frames
    numbers: NDArray[np.uint8]  # (A,)
    positions: FloatArray  # (A, 3)
    energies: NDArray[np.float64]  # (C, L)
    energy_mask: BoolArray  # (C, L)
    forces: tuple[NDArray[np.float32] | None, ...]  # L times (A, 3)
    force_mask: BoolArray  # (C, L)
    temperature: NDArray[np.float32]  # (C,)


def flatten(n_levels: int, piece: Frames) -> Flat:
    """Check the frames of a reader and turn NaN into masks.

    Raises:
        DataCorrupt: shapes that do not fit, unknown elements, or coordinates or labels that are infinite.
    """
    count, atoms = len(piece.positions), len(piece.numbers)
    where = f"{piece.file}, {piece.molecule}"
    if len(piece.forces) != n_levels:
        raise DataCorrupt(f"{where}: forces: {len(piece.forces)=} != {n_levels} levels")
    temperature = np.zeros(count) if piece.temperature is None else piece.temperature
    for name, array, shape in (
        ("numbers", piece.numbers, (atoms,)),
        ("positions", piece.positions, (count, atoms, 3)),
        ("energies", piece.energies, (count, n_levels)),
        *(("forces", forces, (count, atoms, 3)) for forces in piece.forces if forces is not None),
        ("rows", piece.rows, (count,)),
        ("temperature", temperature, (count,)),
        *((f"set {key}", mask, (count,)) for key, mask in piece.sets.items()),
    ):
        if array.shape != shape:
            raise DataCorrupt(f"{where}: {name}: {array.shape=} != {shape}")
    if not atoms:
        raise DataCorrupt(f"{where}: expected atoms, found none")
    if unknown := set(piece.numbers.tolist()) - (SYMBOLS.keys() - {0}):
        raise DataCorrupt(f"{where}: unknown atomic numbers {sorted(unknown)}: expected some of {sorted(SYMBOLS)[1:]}")

    def refuse(what: str, bad: BoolArray) -> None:
        if bad.any():
            raise DataCorrupt(
                f"{where}: {np.count_nonzero(bad)} frames with {what}, rows {piece.rows[bad][:5].tolist()}"
            )

    refuse("positions that are not finite", ~np.isfinite(piece.positions).all((1, 2)))
    refuse(
        f"coordinates beyond {FARTHEST:,.0f} Angstrom: expected a molecule near the origin",
        (np.abs(piece.positions) > FARTHEST).any((1, 2)),
    )
    refuse("infinite energies", np.isinf(piece.energies).any(1))
    energies = np.asarray(piece.energies, np.float64)
    force_mask = np.zeros((count, n_levels), bool)
    flat: list[NDArray[np.float32] | None] = []
    for k, forces in enumerate(piece.forces):
        if forces is None:
            flat.append(None)
            continue
        finite = np.isfinite(forces).all((1, 2))
        if not finite.all():
            refuse("infinite forces", np.isinf(forces).any((1, 2)))
            forces = np.where(finite[:, None, None], forces, 0)
        force_mask[:, k] = finite
        flat.append(np.asarray(forces, np.float32).reshape(-1, 3))
    return Flat(
        piece=piece,
        numbers=np.tile(np.asarray(piece.numbers, np.uint8), count),
        positions=piece.positions.reshape(-1, 3),
        energies=np.nan_to_num(energies, nan=0.0),
        energy_mask=np.isfinite(energies),
        forces=tuple(flat),
        force_mask=force_mask,
        temperature=np.asarray(temperature, np.float32),
    )


class Apart:
    """Parts frames of one atom from those of molecules: their labels are a level's reference energies."""

    def __init__(self, levels: Sequence[str], declared: Mapping[str, Mapping[int, float]]) -> None:
        """``declared``: free atoms by level and atomic number, eV, which those of the frames must agree with."""
        self._levels = levels
        self._found: dict[tuple[str, int], tuple[float, str]] = {  # eV, and where
            (name, number): (energy, "the manifest")
            for name in levels
            for number, energy in declared.get(name, {}).items()
        }
        self._read = False

    def molecules(self, pieces: Iterable[Frames]) -> Iterator[Flat]:
        """The frames of molecules, checked (see ``flatten``); raises DataCorrupt where free atoms disagree."""
        for piece in pieces:
            flat = flatten(len(self._levels), piece)
            if len(piece.numbers) > 1:
                yield flat
                continue
            if charge := stated_in(piece.molecule).charge:
                raise DataCorrupt(
                    f"{piece.file}, row {piece.rows[0]}: expected molecules and neutral free atoms, got an atom of "
                    f"charge {charge}, which is no molecule's atom: leave it out"
                )
            for row, column in zip(*np.nonzero(flat.energy_mask)):
                where = f"row {piece.rows[row]} of {piece.file}"
                self._add(self._levels[column], int(piece.numbers[0]), float(flat.energies[row, column]), where)

    def _add(self, name: str, number: int, energy: float, where: str) -> None:
        self._read = True
        held, before = self._found.setdefault((name, number), (energy, where))
        if not agreeing(held, energy):
            raise DataCorrupt(
                f"free atoms of {SYMBOLS[number]} at {name}: expected one energy, got {held:.6f} eV ({before}) and "
                f"{energy:.6f} eV ({where}): atoms in other states? Keep the ground state's alone"
            )

    @property
    def none(self) -> str:
        """What is wrong where there were no molecules."""
        return "expected structures, found none" + (" but free atoms" if self._read else "")

    @property
    def energies(self) -> dict[str, dict[int, float]]:
        """Free atoms by level and atomic number, eV."""
        found: dict[str, dict[int, float]] = {name: {} for name in self._levels}
        for (name, number), (energy, _) in self._found.items():
            found[name][number] = energy
        return {name: dict(sorted(atoms.items())) for name, atoms in found.items() if atoms}


def of_levels(free_atoms: Mapping[str, Mapping[int, float]], levels: Sequence[str]) -> dict[str, Mapping[int, float]]:
    """The free atoms of some levels."""
    return {name: atoms for name, atoms in free_atoms.items() if name in levels}


class Names:
    """Names in the order in which they first came, and the index of each."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def index(self, name: str) -> int:
        """The name's index; a new name gets the next one."""
        return self._index.setdefault(name, len(self._index))

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


def bits(sets: Mapping[str, BoolArray], names: Names, count: int) -> NDArray[np.uint32]:
    """Membership in named sets as bits, (count,); at most 32 sets."""
    member = np.zeros(count, np.uint32)
    for name, mask in sets.items():
        if (k := names.index(name)) > 31:
            raise DataCorrupt(f"expected at most 32 named sets, got {', '.join(names)}")
        member |= mask.astype(np.uint32) << np.uint32(k)
    return member


def assemble(
    levels: Sequence[str], frames: Iterable[Frames], free_atoms: Mapping[str, Mapping[int, float]] | None = None
) -> Structures:
    """Put the frames of a reader together; geometry ids are not yet set (each structure its own).

    Args:
        free_atoms: declared reference energies by level and atomic number, eV; those of frames must agree with them.

    Raises:
        DataCorrupt: see ``flatten`` and ``Apart``; or there are no frames but of single atoms.
    """
    apart = Apart(levels, free_atoms or {})
    pieces = list(apart.molecules(frames))
    counts = [len(piece.energies) for piece in pieces]
    if not sum(counts):
        raise DataCorrupt(apart.none)
    molecules, files, sets = Names(), Names(), Names()
    n_atoms = np.concatenate([np.full(c, len(p.piece.numbers)) for c, p in zip(counts, pieces)])
    offsets = np.concatenate([[0], np.cumsum(n_atoms)]).astype(np.int64)
    forces = np.zeros((len(levels), int(offsets[-1]), 3), np.float32)
    begin = 0
    for piece in pieces:
        end = begin + len(piece.numbers)
        for k, one in enumerate(piece.forces):
            if one is not None:
                forces[k, begin:end] = one
        begin = end
    return Structures(
        levels=tuple(levels),
        molecule=np.repeat([molecules.index(p.piece.molecule) for p in pieces], counts).astype(np.int32),
        file=np.repeat([files.index(p.piece.file) for p in pieces], counts).astype(np.int32),
        member=np.concatenate([bits(p.piece.sets, sets, c) for c, p in zip(counts, pieces)]),
        molecules=tuple(molecules),
        files=tuple(files),
        sets=tuple(sets),
        numbers=np.concatenate([p.numbers for p in pieces]),
        positions=np.concatenate([p.positions for p in pieces]),
        offsets=offsets,
        energies=np.concatenate([p.energies for p in pieces]),
        forces=forces,
        energy_mask=np.concatenate([p.energy_mask for p in pieces]),
        force_mask=np.concatenate([p.force_mask for p in pieces]),
        geometry=np.arange(len(n_atoms), dtype=np.int64),
        row=np.concatenate([p.piece.rows for p in pieces]).astype(np.int64),
        temperature=np.concatenate([p.temperature for p in pieces]),
        free_atoms=apart.energies,
    )


def join(pieces: Sequence[Structures]) -> Structures:
    """Several datasets as one, with the union of their levels; geometry ids are not yet set."""
    levels = tuple(sorted({name for piece in pieces for name in piece.levels}, key=level))
    molecules = tuple(dict.fromkeys(name for piece in pieces for name in piece.molecules))
    files = tuple(dict.fromkeys(name for piece in pieces for name in piece.files))
    sets = tuple(dict.fromkeys(name for piece in pieces for name in piece.sets))
    if len(sets) > 32:
        raise DataCorrupt(f"expected at most 32 named sets in all datasets together, got {', '.join(sets)}")

    def spread(piece: Structures, array: NDArray) -> NDArray:
        wide = np.zeros((array.shape[0], len(levels)), array.dtype)
        wide[:, [levels.index(name) for name in piece.levels]] = array
        return wide

    def renumber(old: tuple[str, ...], new: tuple[str, ...], index: NDArray) -> NDArray:
        return np.asarray([new.index(name) for name in old], dtype=np.int32)[index]

    def together(name: str) -> NDArray:
        return np.concatenate([getattr(piece, name) for piece in pieces])

    offsets = np.concatenate([[0], np.cumsum(np.concatenate([p.n_atoms for p in pieces]))])
    forces = np.zeros((len(levels), int(offsets[-1]), 3), np.float32)
    begin = 0
    for piece in pieces:
        end = begin + len(piece.numbers)
        for k in np.flatnonzero(piece.force_mask.any(0)):
            forces[levels.index(piece.levels[k]), begin:end] = piece.forces[k]
        begin = end
    return Structures(
        levels=levels,
        molecules=molecules,
        files=files,
        sets=sets,
        numbers=together("numbers"),
        positions=together("positions"),
        offsets=offsets,
        energies=np.concatenate([spread(p, p.energies) for p in pieces]),
        forces=forces,
        energy_mask=np.concatenate([spread(p, p.energy_mask) for p in pieces]),
        force_mask=np.concatenate([spread(p, p.force_mask) for p in pieces]),
        molecule=np.concatenate([renumber(p.molecules, molecules, p.molecule) for p in pieces]),
        geometry=np.arange(len(offsets) - 1),
        file=np.concatenate([renumber(p.files, files, p.file) for p in pieces]),
        row=together("row"),
        temperature=together("temperature"),
        member=np.concatenate([_renumber_bits(p, sets) for p in pieces]),
        free_atoms=_joined_atoms(pieces),
    )


def _joined_atoms(pieces: Sequence[Structures]) -> dict[str, dict[int, float]]:
    """The free atoms of all datasets; raises DataCorrupt where they disagree."""
    found: dict[str, dict[int, float]] = {}
    for piece in pieces:
        for name, atoms in piece.free_atoms.items():
            for number, energy in atoms.items():
                held = found.setdefault(name, {}).setdefault(number, energy)
                if not agreeing(held, energy):
                    raise DataCorrupt(
                        f"free atoms of {SYMBOLS[number]} at {name}: expected one energy in all datasets, got "
                        f"{held:.6f} eV and {energy:.6f} eV ({', '.join(piece.files)})"
                    )
    return found


def _renumber_bits(piece: Structures, sets: tuple[str, ...]) -> NDArray[np.uint32]:
    member = np.zeros(len(piece), np.uint32)
    for name in piece.sets:
        member |= piece.in_set(name).astype(np.uint32) << np.uint32(sets.index(name))
    return member
