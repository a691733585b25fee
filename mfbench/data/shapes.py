"""Distances in structures, in sums of covalent radii, and net torques: what checks of geometries look at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbench.data.bonds import bonded, fingerprint, in_radii
from mfbench.data.structures import Structures


@dataclass
class Shape:
    """Distances in each structure; in sums of covalent radii but for ``gap``. Infinite for a single atom, ``gap`` 0."""

    closest: NDArray[np.float32]  # (S,) smallest distance
    typical: NDArray[np.float32]  # (S,) median over the atoms of the distance to the nearest other
    loneliest: NDArray[np.float32]  # (S,) largest such distance
    gap: NDArray[np.float32]  # (S,) largest distance between parts of it, Angstrom
    bonds: NDArray[np.uint64]  # (S,) see ``bonds.fingerprint``


def torque_of(batch: Structures, k: int) -> NDArray[np.float64]:
    """(S,) length of the net torque about the centre over the radius of gyration, eV/Angstrom."""
    starts, n_atoms = batch.offsets[:-1], batch.n_atoms
    x = batch.positions.astype(np.float64)
    x -= np.repeat(np.add.reduceat(x, starts) / n_atoms[:, None], n_atoms, 0)
    radius = np.sqrt(np.add.reduceat(np.square(x).sum(1), starts) / n_atoms)
    torque = np.linalg.norm(np.add.reduceat(np.cross(x, batch.forces[k]), starts), axis=1)
    return torque / np.maximum(radius, 0.1)


def no_shape(count: int) -> Shape:
    """That of as many single atoms."""
    closest, typical, loneliest = np.full((3, count), np.inf, np.float32)
    return Shape(closest, typical, loneliest, np.zeros(count, np.float32), np.zeros(count, np.uint64))


def shape_of(batch: Structures) -> Shape:
    """Distances in each structure of a batch."""
    found = no_shape(len(batch))
    for size in np.unique(batch.n_atoms[batch.n_atoms > 1]).tolist():
        members = np.flatnonzero(batch.n_atoms == size)
        for chosen in np.array_split(members, max(1, len(members) * size * size >> 20)):
            places = batch.offsets[chosen, None] + np.arange(size)
            x, z = batch.positions[places], batch.numbers[places]
            x = (x - x[:, :1]).astype(np.float32)
            square = np.square(x[:, :, None] - x[:, None]).sum(-1)  # (C, n, n)
            square[:, np.arange(size), np.arange(size)] = np.inf
            ratio = in_radii(z, square)
            nearest = np.sqrt(ratio.min(2))
            found.closest[chosen], found.loneliest[chosen] = nearest.min(1), nearest.max(1)
            found.typical[chosen] = np.median(nearest, 1)
            found.gap[chosen] = _gaps(square)
            found.bonds[chosen] = fingerprint(z, bonded(ratio))
    return found


def _gaps(square: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C,) longest edge of the tree of shortest edges that joins all atoms, grown from the first, (C, n, n) given."""
    reach = square[:, 0].copy()
    reach[:, 0] = -1  # joined
    longest, every = np.zeros(len(square), np.float32), np.arange(len(square))
    for _ in range(square.shape[1] - 1):
        nearest = np.where(reach < 0, np.inf, reach).argmin(1)
        longest = np.maximum(longest, reach[every, nearest])
        reach = np.where(reach < 0, -1, np.minimum(reach, square[every, nearest]))
        reach[every, nearest] = -1
    return np.sqrt(longest)
