"""What is bonded to what, by distances alone: the one meaning of it, and the fingerprint by which molecules compare."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data.geometries import Slab
from mfbench.elements import COVALENT_RADII

# Distances in sums of covalent radii. Two atoms closer than this are bonded: ASE's factor of 1 misses C-H bonds at
# equilibrium (1.09 against 0.76 + 0.31). Seen: bonds of 1.28 at most and other pairs of 1.43 at least in ethanol,
# malonaldehyde and aspirin at 500 K, but of 1.34 across small rings (qm9). Together with ``APART``, 98.6 % of 1,000
# conformers of ANI-1x have usual valences; 97.1 % if this were 1.3, and 82.7 % by this alone.
BONDED = 1.25

# An atom further than this from all others is bonded to none, and molecules this far apart are two. One in between is
# bonded to its nearest, so that heat makes no other molecule of it. Seen: 1.53 (O-H in HCOOH at 1000 K, mini-ani1x);
# hydrogen bonds have 1.8 and more.
APART = 1.6

_PAIRS = 1 << 20  # pairs of atoms that are looked at together

# Odd constants, one an element: sums of them, mixed, tell apart what atoms are bonded to.
_ELEMENTS = np.random.default_rng(0x626F6E64).integers(1, 1 << 63, 256, dtype=np.uint64)


class Bonds(NamedTuple):
    """Of S structures."""

    fingerprint: NDArray[np.uint64]  # (S,) see ``fingerprint``
    molecule: NDArray[np.int64]  # (A,) which molecule of its structure an atom belongs to: the place of its first atom

    def at_once(self, offsets: NDArray[np.integer]) -> NDArray[np.int64]:
        """Molecules in each structure, (S,)."""
        first = self.molecule == np.arange(len(self.molecule)) - np.repeat(offsets[:-1], np.diff(offsets))
        return np.add.reduceat(first, offsets[:-1], dtype=np.int64) if len(first) else np.zeros(0, np.int64)


def bonds_of(slab: Slab) -> Bonds:
    """Bonds of structures, each with an atom or more."""
    n_atoms = np.diff(slab.offsets)
    found, molecule = np.zeros(len(n_atoms), np.uint64), np.zeros(len(slab.numbers), np.int64)
    for size in np.unique(n_atoms):
        members = np.flatnonzero(n_atoms == size)
        for chosen in np.array_split(members, -(-len(members) * int(size) ** 2 // _PAIRS)):
            places = slab.offsets[chosen, None] + np.arange(size)
            numbers, positions = slab.numbers[places], slab.positions[places].astype(np.float64)
            square = np.square(positions[:, :, None] - positions[:, None]).sum(-1)
            square[:, np.arange(size), np.arange(size)] = np.inf
            square = in_radii(numbers, square)
            found[chosen] = fingerprint(numbers, bonded(square))
            molecule[places] = _molecules(square < APART**2)
    return Bonds(found, molecule)


def in_radii[Float: np.floating](numbers: NDArray[np.integer], square: NDArray[Float]) -> NDArray[Float]:
    """(C, N, N) squared distances in squared sums of the covalent radii of atoms (C, N)."""
    radius = COVALENT_RADII.astype(square.dtype)[numbers]
    return square / np.square(radius[:, :, None] + radius[:, None])


def bonded(square: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(C, N, N) whether two atoms are bonded.

    Args:
        square: squared distances in squared sums of covalent radii, (C, N, N); infinite between an atom and itself.
    """
    nearest = square.min(2, keepdims=True)
    stretched = np.flatnonzero(((nearest >= BONDED**2) & (nearest < APART**2)).any((1, 2)))
    found = square < BONDED**2
    hold = (square[stretched] == nearest[stretched]) & (square[stretched] < APART**2)
    found[stretched] |= hold | hold.swapaxes(1, 2)
    return found


def fingerprint(numbers: NDArray[np.integer], bonded: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(C,) equal where each atom has the same bonded elements about it, two bonds far; run folders hold such numbers.

    Args:
        numbers: of the atoms of structures of one size, (C, N).
        bonded: which of them are, (C, N, N).
    """
    kind, counts = _ELEMENTS[numbers], bonded.astype(np.uint64)
    for _ in range(2):
        around = kind + np.matmul(counts, kind[:, :, None])[:, :, 0]
        kind = _mixed(_mixed(kind) + around)
    return kind.sum(1, dtype=np.uint64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scattered over all 64 bits (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _molecules(together: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(C, N) of each atom the first that it is connected to."""
    count, size = together.shape[:2]
    one, other = np.divmod(np.flatnonzero(together), size)
    other += one // size * size  # atoms counted through all structures, as ``one`` is
    first = np.arange(count * size)
    while (first[one] != first[other]).any():
        # The atom that stands for others joins what the least of their neighbours belongs to, and they follow it: the
        # number of rounds grows with the logarithm of N.
        np.minimum.at(first, first[one], first[other])
        first = first[first]
    return first.reshape(count, size) % size
