"""A potential-energy surface as a function of many structures at once, and the bonds of a molecule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from mfbench.data.bonds import bonded, bonds_of, in_radii
from mfbench.data.geometries import Slab

Array = NDArray[np.float64]

Ints = NDArray[np.integer]

# Energies (S,) eV and forces (A, 3) eV/Angstrom of S structures, from atomic numbers (A,), positions (A, 3) Angstrom
# and offsets (S + 1,): atoms of structure s are offsets[s]:offsets[s + 1].
Surface = Callable[[Ints, Array, Ints], tuple[Array, Array]]

# Told what is being done, how many structures are done, and of how many.
Told = Callable[[str, int, int | None], None]

CHUNK = 2048  # structures predicted at once


class Diverged(Exception):
    """The surface gave no finite energy or force."""


@dataclass(frozen=True)
class Geometry:
    """One structure to start from."""

    molecule: str
    numbers: NDArray[np.int64]  # (N,)
    positions: Array  # (N, 3) Angstrom


def silent(doing: str, done: int, total: int | None) -> None:
    """Tell nobody."""


def stack(geometries: Sequence[Geometry]) -> tuple[Ints, Array, Ints]:
    """Numbers (A,), positions (A, 3) and offsets (S + 1,) of geometries, one after the other."""
    numbers = np.concatenate([g.numbers for g in geometries])
    positions = np.concatenate([g.positions for g in geometries])
    return numbers, positions, np.concatenate([[0], np.cumsum([len(g.numbers) for g in geometries])])


# Bonds


def bonds(numbers: Ints, positions: Array) -> NDArray[np.int64]:
    """Bonded pairs (B, 2), first < second, see ``mfbench.data.bonds``."""
    square = np.square(positions[:, None] - positions).sum(-1)
    np.fill_diagonal(square, np.inf)
    return np.argwhere(np.triu(bonded(in_radii(numbers[None], square[None]))[0]))


def skeleton(numbers: Ints, positions: Array) -> int:
    """What is bonded to what, whatever the order of the atoms: the fingerprint of ``mfbench.data.bonds``."""
    return int(bonds_of(Slab(numbers, positions, np.array([0, len(numbers)]))).fingerprint[0])


# Harmonic frequencies


class SurfaceCalculator(Calculator):
    """A surface as an ASE calculator; raises Diverged where its numbers are not finite."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]  # type: ignore[misc]

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self.surface = surface

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        own: Any = self.atoms
        energy, forces = self.surface(own.numbers, own.positions, np.array([0, len(own)]))
        if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
            raise Diverged
        self.results = {"energy": float(energy[0]), "forces": np.asarray(forces, np.float64)}
