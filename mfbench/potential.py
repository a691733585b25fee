"""Potentials: energies of structures at several levels of theory, and forces by autograd in one place."""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfbench.batch import Block
from mfbench.errors import LabelsMissing
from mfbench.structures import Structures


class Energies(NamedTuple):
    """What a potential gives for a block."""

    energies: Tensor  # (B, L) eV, float64
    auxiliary: Tensor | None  # (B, L) an additional loss per structure and level, where it was asked for


class Potential(nn.Module, ABC):
    """Energies at the levels of a dataset, in its order; ``heads`` are those it can predict.

    The columns of other levels are zero. Energies depend on the positions of a structure's own atoms alone.
    """

    levels: tuple[str, ...]
    heads: tuple[str, ...]

    @abstractmethod
    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        """Energies (B, L) of a block, and the auxiliary loss where asked for."""


class AtomicEnergies(nn.Module):
    """The sum of a level's atomic reference energies: a constant per element and level, in float64."""

    table: Tensor

    def __init__(self, table: NDArray[np.float64]) -> None:
        """``table``: (largest atomic number + 1, L) eV; row 0 (padding) is zero."""
        super().__init__()
        self.register_buffer("table", torch.as_tensor(table, dtype=torch.float64))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.table[numbers].sum(1)


def fit_atomic_energies(
    structures: Structures, indices: NDArray[np.int64], level: str, n_rows: int = 119
) -> NDArray[np.float64]:
    """Atomic reference energies of one level, (n_rows,) eV, by least squares on labelled structures.

    The fit is in float64 and on training labels only. Where the compositions do not determine every
    element, it is the solution of least norm.
    """
    column = structures.level_index(level)
    indices = indices[structures.energy_mask[indices, column]]
    if not len(indices):
        raise LabelsMissing(f"no energies at {level} to fit atomic energies on")
    present = np.unique(structures.numbers)
    owner = np.repeat(np.arange(len(indices)), structures.n_atoms[indices])
    column_of = np.searchsorted(present, structures.numbers[structures.atoms_of(indices)])
    flat = np.bincount(owner * len(present) + column_of, minlength=len(indices) * len(present))
    counts = flat.reshape(len(indices), len(present)).astype(np.float64)
    used = counts.any(0)
    table = np.zeros(n_rows)
    table[present[used]] = np.linalg.lstsq(counts[:, used], structures.energies[indices, column], rcond=1e-10)[0]
    return table


class HeadsPotential(Potential):
    """One backbone shared by all levels, with a linear energy head a level on the features of every block.

    A level's energy is the sum over atoms and blocks of its head's terms (hierarchical energy of HIP-NN,
    10.1063/1.5011181) plus the atomic energies of that level.
    """

    def __init__(
        self, backbone: "nn.Module", atomic: AtomicEnergies, levels: tuple[str, ...], heads: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.levels, self.heads = levels, heads
        self.backbone, self.atomic = backbone, atomic
        sizes: tuple[int, ...] = backbone.feature_sizes  # type: ignore[assignment]
        biases: tuple[bool, ...] = backbone.head_bias  # type: ignore[assignment]
        # One linear map a block holds the heads of all levels: their rows are independent.
        self.linear = nn.ModuleList(nn.Linear(n, len(heads), bias=b) for n, b in zip(sizes, biases))
        # Heads start at zero, so that training starts from the atomic energies and not several eV away.
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        self.columns = [levels.index(name) for name in heads]

    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        real = (block.numbers > 0).unsqueeze(-1)
        features = self.backbone(block)
        terms = [(linear(f) * real) for linear, f in zip(self.linear, features)]  # each (B, N, H)
        energy = sum(terms[1:], terms[0]).sum(1)
        shape = (len(block.numbers), len(self.levels))
        energies = energy.new_zeros(shape, dtype=torch.float64)
        energies[:, self.columns] = energy.double() + self.atomic(block.numbers)[:, self.columns]
        if not auxiliary:
            return Energies(energies, None)
        hierarchicality = energy.new_zeros(shape)
        hierarchicality[:, self.columns] = _hierarchicality(terms)
        return Energies(energies, hierarchicality)


def _hierarchicality(terms: list[Tensor]) -> Tensor:
    """Sum over atoms and blocks of e_k^2 / (e_k^2 + e_(k-1)^2), (B, H): small where later blocks add little."""
    total = torch.zeros_like(terms[0][:, 0])
    for before, after in pairwise(terms):
        b, a = before.square(), after.square()
        total = total + (a / (a + b).clamp_min(1e-12)).sum(1)
    return total


def forces(energies: Tensor, positions: Tensor, level: int, create_graph: bool) -> Tensor:
    """Forces at one level, (B, N, 3) eV/Angstrom: minus the gradient of the energies of column ``level``.

    Args:
        energies: (B, L), computed from ``positions`` (B, N, 3), which require a gradient.
        create_graph: whether the forces are to be differentiated in turn (training).
    """
    (gradient,) = torch.autograd.grad(energies[:, level].sum(), positions, create_graph=create_graph, retain_graph=True)
    return -gradient
