"""Problems with known answers: two analytic levels of theory on small clusters.

Low level: a Morse potential between all pairs. High level: the same with another depth and atomic energies,
so that energies and forces of both are known exactly at any geometry.
"""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from mfbench.data.splits import Chosen, Selection
from mfbench.data.structures import Frames, Structures, assemble

LOW, HIGH = "wb97x/6-31g*", "ccsd(t)*/cbs"
ATOMIC = {LOW: {1: -13.6, 8: -2041.3}, HIGH: {1: -13.5, 8: -2042.1}}  # eV
DEPTH = {LOW: 2.0, HIGH: 2.4}  # eV
DISTANCE, WIDTH = 1.1, 1.6  # Angstrom, 1/Angstrom


def morse(positions: NDArray[np.float64], depth: float) -> tuple[float, NDArray[np.float64]]:
    """Energy (eV) and forces (N, 3) of a cluster."""
    first, second = np.triu_indices(len(positions), 1)
    vector = positions[second] - positions[first]
    distance = np.linalg.norm(vector, axis=1)
    decay = np.exp(-WIDTH * (distance - DISTANCE))
    energy = depth * float(((1 - decay) ** 2 - 1).sum())
    slope = 2 * depth * WIDTH * (1 - decay) * decay
    force = np.zeros_like(positions)
    pull = (slope / distance)[:, None] * vector
    np.add.at(force, first, pull)
    np.add.at(force, second, -pull)
    return energy, force


def two_levels(
    n_frames: int = 40, seed: int = 0, high_energies: int | None = None, high_forces: bool = True
) -> Structures:
    """Frames of O2, H2O and H2O2-like clusters at both levels; only some have high-level labels."""
    rng = np.random.default_rng(seed)
    shapes = {
        "O2": ((8, 8), [[0, 0, 0], [1.1, 0, 0]]),
        "H2O": ((8, 1, 1), [[0, 0, 0], [1.0, 0.1, 0], [-0.3, 0.9, 0]]),
        "H2O2": ((1, 8, 8, 1), [[-0.9, 0.5, 0.2], [0, 0, 0], [1.3, 0, 0], [2.0, 0.6, -0.4]]),
    }
    parts = []
    for name, (numbers, places) in shapes.items():
        positions = np.asarray(places) + rng.normal(0, 0.08, (n_frames, len(numbers), 3))
        energies = np.empty((n_frames, 2))
        forces = np.empty((2, n_frames, len(numbers), 3))
        for k, level in enumerate((LOW, HIGH)):
            for frame in range(n_frames):
                energy, force = morse(positions[frame], DEPTH[level])
                energies[frame, k] = energy + sum(ATOMIC[level][z] for z in numbers)
                forces[k, frame] = force
        if high_energies is not None:
            energies[high_energies:, 1] = np.nan
            forces[1, high_energies:] = np.nan
        if not high_forces:
            forces[1] = np.nan
        parts.append(Frames(name, np.asarray(numbers), positions, energies, forces, "problem", np.arange(n_frames)))
    return assemble((LOW, HIGH), parts)


def selection(structures: Structures, n_train: int = 10, n_validation: int = 5, seed: int = 0) -> Selection:
    """Training and validation structures, the low-level ones being all that are not validated on."""
    order = np.random.default_rng(seed).permutation(len(structures))
    high = order[structures.energy_mask[order, 1]]
    validation = high[:n_validation]
    return Selection(
        {
            LOW: Chosen(np.setdiff1d(order, validation), validation),
            HIGH: Chosen(high[n_validation : n_validation + n_train], validation),
        },
        Chosen(np.setdiff1d(high, validation), validation),
    )


def same_structures(a: Structures, b: Structures) -> None:
    """Assert that two records are equal, field by field, dtypes included."""
    for field in fields(Structures):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, tuple | dict):
            assert x == y, field.name
        else:
            assert x.dtype == y.dtype, field.name
            np.testing.assert_array_equal(x, y, err_msg=field.name)
