"""Atomic reference energies: a constant an element and level, fitted by least squares."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfbench.data.structures import Structures


class AtomicEnergies(nn.Module):
    """The sum of a level's atomic reference energies: a constant per element and level, in float64."""

    table: Tensor

    def __init__(self, table: NDArray[np.float64]) -> None:
        """``table``: (largest atomic number + 1, L) eV; row 0 (padding) is zero."""
        super().__init__()
        self.register_buffer("table", torch.as_tensor(table, dtype=torch.float64))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.table[numbers].sum(1)

    def shift(self, column: int, table: NDArray[np.float64]) -> None:
        """Add ``table`` to the column of a level."""
        self.table[:, column] += torch.as_tensor(table, device=self.table.device)


def fit_atomic_energies(
    structures: Structures, indices: NDArray[np.int64], energies: NDArray[np.float64], n_rows: int = 119
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
