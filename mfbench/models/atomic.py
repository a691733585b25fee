"""Atomic reference energies: a constant an element and level, fitted by least squares; numpy alone."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mfbench.data.structures import Structures
from mfbench.models.determined import Determined, composition_counts

N_ROWS = 119  # of a table: largest atomic number + 1


def fit_atomic_energies(
    structures: Structures,
    indices: NDArray[np.int64],
    energies: NDArray[np.float64],
    base: NDArray[np.float64] | None = None,
    n_rows: int = N_ROWS,
) -> NDArray[np.float64]:
    """Atomic energies (n_rows,) eV whose sums come closest to the energies, by least squares in float64.

    Where the compositions do not determine every element, it is the one of these solutions that is nearest to
    ``base``; an element that none of the structures has keeps the base's.

    Args:
        indices: (S,) which structures; training labels only.
        energies: (S,) eV, of one level, or of what a potential leaves of them.
        base: (n_rows,) eV; zeros by default.
    """
    present, whole = composition_counts(structures, indices)
    counts, used = whole.astype(np.float64), whole.any(0)
    table = np.zeros(n_rows)
    if base is not None:
        table[present] = base[present]
    begun, counts = table[present[used]], counts[:, used]
    found, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=1e-10)
    if rank < counts.shape[1] and begun.any():
        found = begun + np.linalg.lstsq(counts, energies - counts @ begun, rcond=1e-10)[0]
    table[present[used]] = found
    return table


def base_of(
    found: Mapping[str, Determined], level: str, below: NDArray[np.float64], difference: bool = False
) -> NDArray[np.float64]:
    """Where the atomic energies of a level begin, (n_rows,) eV; zero where its labels determine them or nothing does.

    Args:
        found: what the labels of each level determine.
        below: (n_rows,) eV, the atomic energies of the level below that an arm has; zeros where it has none.
        difference: of the difference between the two, and not of the level itself.
    """
    one, table = found[level], np.zeros(len(below))
    start = np.zeros(len(below)) if difference else below
    for number, origin in one.origins.items():
        if origin == "free atoms":
            table[number] = one.free_atoms[number] - (below - start)[number]
        elif origin == "below and free atoms":
            table[number] = start[number] + one.free_atoms[number] - found[one.below].free_atoms[number]
        elif origin == "below":
            table[number] = start[number]
    return table
