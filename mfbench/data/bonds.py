"""What is bonded to what in many structures at once: fingerprints of molecules, and how many a structure holds."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data.geometries import Slab
from mfbench.elements import BOND_FACTOR, COVALENT_RADII

# Of one molecule, however hot: below this times the sum of the covalent radii. Seen: 1.5 (O-H at 1000 K, mini-ani1x);
# hydrogen bonds have 1.8 and more.
_TOGETHER = 1.6

_PAIRS = 1 << 20  # pairs of atoms that are looked at together

# Odd constants, one an element: sums of them, mixed, tell apart what atoms are bonded to.
_ELEMENTS = np.random.default_rng(0x626F6E64).integers(1, 1 << 63, 256, dtype=np.uint64)


class Bonds(NamedTuple):
    """Of S structures."""

    fingerprint: NDArray[np.uint64]  # (S,) equal where each atom has the same bonded elements about it, two bonds far
    molecule: NDArray[np.int64]  # (A,) which molecule of its structure an atom belongs to: the place of its first atom

    def at_once(self, offsets: NDArray[np.integer]) -> NDArray[np.int64]:
        """Molecules in each structure, (S,)."""
        first = self.molecule == np.arange(len(self.molecule)) - np.repeat(offsets[:-1], np.diff(offsets))
        return np.add.reduceat(first, offsets[:-1], dtype=np.int64) if len(first) else np.zeros(0, np.int64)


def bonds_of(slab: Slab) -> Bonds:
    """Bonds of structures, each with an atom or more."""
    n_atoms = np.diff(slab.offsets)
    fingerprint, molecule = np.zeros(len(n_atoms), np.uint64), np.zeros(len(slab.numbers), np.int64)
    for size in np.unique(n_atoms):
        members = np.flatnonzero(n_atoms == size)
        for chosen in np.array_split(members, -(-len(members) * int(size) ** 2 // _PAIRS)):
            places = slab.offsets[chosen, None] + np.arange(size)
            near = _distances(slab.numbers[places], slab.positions[places].astype(np.float64))
            fingerprint[chosen] = _fingerprint(slab.numbers[places], near < BOND_FACTOR)
            molecule[places] = _molecules(near < _TOGETHER)
    return Bonds(fingerprint, molecule)


def _distances(numbers: NDArray[np.integer], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, N, N) distances in sums of covalent radii; zero of an atom to itself."""
    radius = COVALENT_RADII[numbers]
    distance = np.sqrt(np.square(positions[:, :, None] - positions[:, None]).sum(-1))
    return distance / (radius[:, :, None] + radius[:, None])


def _fingerprint(numbers: NDArray[np.integer], bonded: NDArray[np.bool_]) -> NDArray[np.uint64]:
    kind = _ELEMENTS[numbers]
    for _ in range(2):
        around = (bonded * kind[:, None, :]).sum(2, dtype=np.uint64)
        kind = _mixed(_mixed(kind) + around)
    return kind.sum(1, dtype=np.uint64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scattered over all 64 bits (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _molecules(bonded: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(C, N) of each atom the first that it is connected to."""
    size = bonded.shape[1]
    label = np.broadcast_to(np.arange(size), bonded.shape[:2]).copy()
    while True:
        least = np.where(bonded, label[:, None, :], size).min(2)
        if np.array_equal(least, label):
            return label
        label = least
