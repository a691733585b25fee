"""Potentials: energies of structures at several levels of theory, and forces by autograd in one place."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfbench.batch import Block, DeviceStructures, Source, Term
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
        """Energies (B, L) of a block, and the auxiliary loss where asked for.

        Where the block wants some levels only, the columns of others may be left out (zero).
        """

    @abstractmethod
    def shift(self, level: str, table: NDArray[np.float64]) -> None:
        """Add to the atomic energies of one level, and of no other: ``table`` is (largest atomic number + 1,) eV."""


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

    def shift(self, level: str, table: NDArray[np.float64]) -> None:
        self.atomic.shift(self.levels.index(level), table)


def _hierarchicality(terms: list[Tensor]) -> Tensor:
    """Sum over atoms and blocks of e_k^2 / (e_k^2 + e_(k-1)^2), (B, H): small where later blocks add little."""
    total = torch.zeros_like(terms[0][:, 0])
    for before, after in pairwise(terms):
        b, a = before.square(), after.square()
        total = total + (a / (a + b).clamp_min(1e-12)).sum(1)
    return total


class EmbeddingPotential(Potential):
    """One backbone and one head for all levels: the level is a learned input of the network.

    Levels differ by that input and by their atomic energies alone.
    """

    def __init__(
        self, backbone: "nn.Module", atomic: AtomicEnergies, levels: tuple[str, ...], heads: tuple[str, ...]
    ) -> None:
        """``backbone`` takes ``Block.level``, the place of a level among ``heads``."""
        super().__init__()
        self.levels, self.heads = levels, heads
        # As any single head; the column of the level that is asked for is filled with it.
        self.single = HeadsPotential(backbone, AtomicEnergies(np.zeros((119, 1))), ("any",), ("any",))
        self.atomic = atomic

    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        shape = (len(block.numbers), len(self.levels))
        energies = block.positions.new_zeros(shape, dtype=torch.float64)
        extra = block.positions.new_zeros(shape) if auxiliary else None
        atomic = self.atomic(block.numbers)
        for place, name in enumerate(self.heads):
            column = self.levels.index(name)
            if block.wanted and column not in block.wanted:
                continue
            level = torch.full((len(block.numbers),), place, device=block.numbers.device)
            out = self.single(replace(block, level=level), auxiliary)
            energies[:, column] = out.energies[:, 0] + atomic[:, column]
            if extra is not None and out.auxiliary is not None:
                extra[:, column] = out.auxiliary[:, 0]
        return Energies(energies, extra)

    def shift(self, level: str, table: NDArray[np.float64]) -> None:
        self.atomic.shift(self.levels.index(level), table)


@dataclass(frozen=True)
class Share:
    """What one part of a sum adds to a level: the energy of one of its heads."""

    part: int
    head: str


class Sum(Potential):
    """Potentials that add. A level's energy is the sum of what its parts predict at their heads.

    The part named last for a level belongs to that level alone: its atomic energies are the level's to shift.
    """

    def __init__(
        self, levels: tuple[str, ...], parts: Sequence[Potential], shares: Mapping[str, tuple[Share, ...]]
    ) -> None:
        super().__init__()
        self.levels, self.heads = levels, tuple(name for name in levels if name in shares)
        self.parts = nn.ModuleList(parts)
        self.shares = dict(shares)

    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        wanted = [name for name in self.heads if not block.wanted or self.levels.index(name) in block.wanted]
        needed = sorted({share.part for name in wanted for share in self.shares[name]})
        every = replace(block, wanted=frozenset())
        outs = {part: self.parts[part](every, auxiliary) for part in needed}
        columns = []
        extras = []
        zero = block.positions.new_zeros(len(block.numbers))
        for name in self.levels:
            column, extra = zero.double(), zero
            for share in self.shares[name] if name in wanted else ():
                part, out = self.parts[share.part], outs[share.part]
                assert isinstance(part, Potential)
                at = part.levels.index(share.head)
                column = column + out.energies[:, at]
                if out.auxiliary is not None:
                    extra = extra + out.auxiliary[:, at]
            columns.append(column)
            extras.append(extra)
        return Energies(torch.stack(columns, 1), torch.stack(extras, 1) if auxiliary else None)

    def shift(self, level: str, table: NDArray[np.float64]) -> None:
        last = self.shares[level][-1]
        self.parts[last.part].shift(last.head, table)  # type: ignore[operator]


class Offset(Potential):
    """Atomic energies alone."""

    def __init__(self, atomic: AtomicEnergies, levels: tuple[str, ...], heads: tuple[str, ...]) -> None:
        super().__init__()
        self.levels, self.heads, self.atomic = levels, heads, atomic

    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        energies = self.atomic(block.numbers)
        return Energies(energies, energies.new_zeros(energies.shape) if auxiliary else None)

    def shift(self, level: str, table: NDArray[np.float64]) -> None:
        self.atomic.shift(self.levels.index(level), table)


def energies_of(
    potential: Potential, data: DeviceStructures, indices: NDArray[np.int64], level: str
) -> NDArray[np.float64]:
    """Energies (S,) eV that a potential predicts for structures at one level."""
    energies = np.zeros(len(data.n_atoms))
    with torch.no_grad():
        for block in data.blocks([Source(indices, (Term(level),))], max_pairs=1 << 18):
            energies[block.index.cpu().numpy()] = potential(block).energies[:, potential.levels.index(level)].cpu()
    return energies[indices]


def forces(energies: Tensor, positions: Tensor, level: int, create_graph: bool) -> Tensor:
    """Forces at one level, (B, N, 3) eV/Angstrom: minus the gradient of the energies of column ``level``.

    Args:
        energies: (B, L), computed from ``positions`` (B, N, 3), which require a gradient.
        create_graph: whether the forces are to be differentiated in turn (training).
    """
    (gradient,) = torch.autograd.grad(energies[:, level].sum(), positions, create_graph=create_graph, retain_graph=True)
    return -gradient
