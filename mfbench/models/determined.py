"""What labels determine: the compositions whose energies a level's labels tell, and where all others come from."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mfbench import theory
from mfbench.data.structures import Structures
from mfbench.elements import SYMBOLS, formula, numbers_of
from mfbench.free_atoms import energies_at

# Where an element's atomic energy comes from as far as a level's labels do not determine it.
Origin = Literal["labels", "below and free atoms", "free atoms", "below", "nothing"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Determined:
    """What the energies of one level determine."""

    formulas: tuple[str, ...]  # compositions whose energies were trained on
    molecules: tuple[str, ...]  # and their names
    free_atoms: Mapping[int, float]  # reference energies, eV, by atomic number
    origins: Mapping[int, Origin]  # by atomic number, of all elements of the data
    below: str = ""  # the level whose atomic energies it begins with, where it does

    @cached_property
    def _span(self) -> tuple[list[int], NDArray[np.float64]]:
        """Atomic numbers (E,), and orthonormal rows (rank, E) that span the compositions trained on."""
        compositions = [numbers_of(text) for text in self.formulas]
        elements = sorted({int(z) for numbers in compositions for z in numbers})
        counts = np.array([[np.count_nonzero(one == z) for z in elements] for one in compositions], float)
        if not len(counts):
            return [], np.zeros((0, 0))
        _, singular, rows = np.linalg.svd(counts, full_matrices=False)
        return elements, rows[singular > 1e-8 * singular[0]]

    def determines(self, numbers: Sequence[int] | NDArray[np.integer]) -> bool:
        """Whether the energies of the compositions trained on fix the sum of these atoms' atomic energies."""
        elements, rows = self._span
        if not set(map(int, numbers)) <= set(elements):
            return False
        counts = np.array([np.count_nonzero(np.asarray(numbers) == z) for z in elements], float)
        return bool(np.linalg.norm(counts - rows.T @ (rows @ counts)) <= 1e-6 * np.linalg.norm(counts))

    @property
    def undetermined(self) -> tuple[int, ...]:
        """Elements of the data whose atomic energy the labels do not determine by itself."""
        return tuple(z for z in self.origins if not self.determines([z]))

    def come_from(self, numbers: Sequence[int] | NDArray[np.integer]) -> str:
        """In words, which of these elements' atomic energies come from where, those that labels do not determine."""
        words = {
            "below and free atoms": f"those of {self.below} and the difference of free atoms",
            "free atoms": "those of free atoms",
            "below": f"those of {self.below}",
            "nothing": "nothing",
        }
        found: dict[Origin, list[str]] = {}
        for number in map(int, np.unique(numbers)):
            found.setdefault(self._origin(number), []).append(SYMBOLS[number])
        return "; ".join(f"{_enumerated(names)}: {words[one]}" for one, names in found.items() if one != "labels")

    def has_zero(self, numbers: Sequence[int] | NDArray[np.integer]) -> bool:
        """Whether something tells the atomic energy of each of these elements."""
        return all(self._origin(int(number)) != "nothing" for number in numbers)

    def _origin(self, number: int) -> Origin:
        return self.origins.get(number, "nothing")


def _enumerated(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def determined(structures: Structures, energies: Mapping[str, Indices]) -> dict[str, Determined]:
    """What each level's labels determine, from low to high.

    Args:
        energies: level -> the structures whose energies at it are trained on.

    A level begins with the atomic energies of the one below and the difference of free atoms; without these with its
    own free atoms, with the level below alone, or with nothing.
    """
    elements = [int(z) for z in np.unique(structures.numbers)]
    found: dict[str, Determined] = {}
    below, given = "", set[int]()  # the level below, and the elements that it has atomic energies of
    for level in sorted(energies, key=structures.levels.index):
        indices, free = energies[level], energies_at(level, structures.free_atoms)
        under = energies_at(below, structures.free_atoms) if below else {}
        names = tuple(structures.molecules[m] for m in np.unique(structures.molecule[indices]))
        one = Determined(formulas_of(structures, indices), names, free, {}, below)
        used = {z for text in one.formulas for z in numbers_of(text).tolist()}
        known = free.keys(), under.keys(), given
        # Of one kind for all, as it is their sum that labels tell: energies of two kinds do not add up.
        own: Origin = "labels" if all(one.determines([z]) for z in used) else _origin(used, *known)
        origins = {z: own if z in used else _origin({z}, *known) for z in elements}
        found[level] = Determined(one.formulas, names, free, origins, below)
        if len(indices):
            below, given = level, {z for z, kind in origins.items() if z in used or kind != "nothing"}
    return found


def _origin(needed: Set[int], free: Set[int], under: Set[int], below: Set[int]) -> Origin:
    """Where elements begin: free atoms are known of the level and of the one under it, which has those ``below``."""
    if needed <= below and needed <= free and needed <= under:
        return "below and free atoms"
    if needed <= free:
        return "free atoms"
    return "below" if needed <= below else "nothing"


def formulas_of(structures: Structures, indices: Indices) -> tuple[str, ...]:
    """Compositions of structures, each once."""
    elements, counts = composition_counts(structures, indices)
    return tuple(formula(np.repeat(elements, row)) for row in np.unique(counts, axis=0))


def composition_counts(structures: Structures, indices: Indices) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Elements of the data (E,), and how many atoms of each the chosen structures have, (S, E)."""
    present = np.unique(structures.numbers)
    owner = np.repeat(np.arange(len(indices)), structures.n_atoms[indices])
    column_of = np.searchsorted(present, structures.numbers[structures.atoms_of(indices)])
    flat = np.bincount(owner * len(present) + column_of, minlength=len(indices) * len(present))
    return present, flat.reshape(len(indices), len(present))


@dataclass(frozen=True)
class Known:
    """What a run was trained on, as far as it tells whether a structure lies outside of it."""

    levels: Mapping[str, Determined]  # that it predicts, from low to high
    formulas: tuple[str, ...]  # with charge and multiplicity: trained on at any level, with any label
    bonds: frozenset[str]  # fingerprints of what was bonded to what in them, of the most common kinds of molecules
    molecules_at_once: int  # most in one structure
    bonds_share: float = 1.0  # of the structures trained on, that those kinds are

    def as_json(self) -> dict[str, Any]:
        """As a run folder has it."""
        levels = {
            name: {**asdict(one), "free_atoms": _by_symbol(one.free_atoms), "origins": _by_symbol(one.origins)}
            for name, one in self.levels.items()
        }
        return {
            "levels": levels,
            "formulas": self.formulas,
            "bonds": sorted(self.bonds),
            "bonds_share": self.bonds_share,
            "molecules_at_once": self.molecules_at_once,
        }

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> "Known":
        """What ``as_json`` wrote; raises KeyError, TypeError or ValueError where it did not."""
        levels = {
            name: Determined(
                tuple(one["formulas"]),
                tuple(one["molecules"]),
                {z: float(energy) for z, energy in _by_number(one["free_atoms"]).items()},
                _by_number(one["origins"]),
                str(one["below"]),
            )
            for name, one in sorted(dict(said["levels"]).items(), key=lambda pair: theory.level(pair[0]))
        }
        share = float(said.get("bonds_share", 1))  # earlier versions held all kinds
        return cls(levels, tuple(said["formulas"]), frozenset(said["bonds"]), int(said["molecules_at_once"]), share)


_NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}


def _by_symbol(values: Mapping[int, Any]) -> dict[str, Any]:
    return {SYMBOLS[number]: value for number, value in values.items()}


def _by_number(values: Mapping[str, Any]) -> dict[int, Any]:
    return {_NUMBERS[symbol]: value for symbol, value in values.items()}
