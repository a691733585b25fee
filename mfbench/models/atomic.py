"""Atomic reference energies: a constant an element and level, fitted by least squares; numpy alone."""

import numpy as np
from numpy.typing import NDArray

from mfbench.data.structures import Structures

N_ROWS = 119  # of a table: largest atomic number + 1


def fit_atomic_energies(
    structures: Structures, indices: NDArray[np.int64], energies: NDArray[np.float64], n_rows: int = N_ROWS
) -> NDArray[np.float64]:
    """Atomic energies (n_rows,) eV whose sums come closest to the energies, by least squares in float64.

    Where the compositions do not determine every element, it is the solution of least norm.

    Args:
        indices: (S,) which structures; training labels only.
        energies: (S,) eV, of one level, or of what a potential leaves of them.
    """
    present = np.unique(structures.numbers)
    owner = np.repeat(np.arange(len(indices)), structures.n_atoms[indices])
    column_of = np.searchsorted(present, structures.numbers[structures.atoms_of(indices)])
    flat = np.bincount(owner * len(present) + column_of, minlength=len(indices) * len(present))
    counts = flat.reshape(len(indices), len(present)).astype(np.float64)
    used = counts.any(0)
    table = np.zeros(n_rows)
    table[present[used]] = np.linalg.lstsq(counts[:, used], energies, rcond=1e-10)[0]
    return table
