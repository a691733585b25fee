"""Potentials: energies of structures at several levels of theory, and forces by autograd in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfbench.models.atomic import AtomicEnergies
from mfbench.models.block import Block
from mfbench.models.contract import Energies, Potential


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
