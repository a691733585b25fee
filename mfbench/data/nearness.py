"""How far structures lie from others of their composition, by distances between atoms; numpy and scipy alone."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree  # type: ignore[import-untyped]

from mfbench.data.geometries import composition_hash
from mfbench.data.structures import IntArray, Structures


def distance_to_nearest(structures: Structures, indices: IntArray, among: IntArray) -> NDArray[np.float32]:
    """Distance of structures to the nearest of some others, (I,) Angstrom; NaN where none has the composition.

    Between two structures it is the root mean square difference of their interatomic distances, sorted within each pair
    of elements: 0 for one geometry, turned or reordered. It tells near from far; mirror images are one to it.
    """
    compositions = composition_hash(structures.numbers, structures.offsets)
    found = np.full(len(indices), np.nan, np.float32)
    for one in np.intersect1d(compositions[indices], compositions[among]):
        rows = np.flatnonzero(compositions[indices] == one)
        others = _sorted_distances(structures, among[compositions[among] == one])
        own = _sorted_distances(structures, indices[rows])
        found[rows] = cKDTree(others).query(own)[0] / np.sqrt(max(own.shape[1], 1))
    return found


def _sorted_distances(structures: Structures, indices: IntArray) -> NDArray[np.float64]:
    """Interatomic distances, sorted within each pair of elements, (I, N (N - 1) / 2); of one composition."""
    atoms = structures.atoms_of(indices).reshape(len(indices), -1)
    order = np.argsort(structures.numbers[atoms], axis=1, kind="stable")
    atoms = np.take_along_axis(atoms, order, 1)
    positions, numbers = structures.positions[atoms].astype(np.float64), structures.numbers[atoms[0]].astype(np.int64)
    first, second = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(positions[:, first] - positions[:, second], axis=2)
    kind = numbers[first] * 256 + numbers[second]
    for one in np.unique(kind):
        distances[:, kind == one] = np.sort(distances[:, kind == one], 1)
    return distances
