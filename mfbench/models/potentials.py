"""Potentials: energies of structures at several levels of theory; potentials add."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfbench.models.atomic import N_ROWS
from mfbench.models.block import Block
from mfbench.models.contract import Backbone, Energies, Potential


class AtomicEnergies(nn.Module):
    """The sum of a level's atomic reference energies: a constant per element and level, in float64."""

    table: Tensor

    def __init__(self, n_levels: int) -> None:
        """All zero: they are fitted to labels, and are no part of what an untrained potential is."""
        super().__init__()
        # (largest atomic number + 1, L) eV; row 0 (padding) stays zero
        self.register_buffer("table", torch.zeros(N_ROWS, n_levels, dtype=torch.float64))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.table[numbers].sum(1)

    def shift(self, column: int, table: NDArray[np.float64]) -> None:
        """Add ``table`` to the column of a level."""
        self.table[:, column] += torch.as_tensor(table, device=self.table.device)


class HeadsPotential(Potential):
    """One backbone shared by all levels, with a linear energy head a level on the features of every block.

    A level's energy is the sum over atoms and blocks of its head's terms (hierarchical energy of HIP-NN,
    10.1063/1.5011181) plus the atomic energies of that level.
    """

    columns: Tensor

    def __init__(self, backbone: Backbone, levels: tuple[str, ...], heads: tuple[str, ...]) -> None:
        super().__init__()
        self.levels, self.heads = levels, heads
        self.backbone, self.atomic = backbone, AtomicEnergies(len(levels))
        # One linear map a block holds the heads of all levels: their rows are independent.
        shapes = zip(backbone.feature_sizes, backbone.head_bias)
        self.linear = nn.ModuleList(nn.Linear(n, len(heads), bias=b) for n, b in shapes)
        # Heads start at zero, so that training starts from the atomic energies and not several eV away.
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        columns = torch.tensor([levels.index(name) for name in heads])
        self.register_buffer("columns", columns, persistent=False)  # on the device: a list would be copied there

    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        real = (block.numbers > 0).unsqueeze(-1)
        features = self.backbone(block)
        terms = [(linear(f) * real) for linear, f in zip(self.linear, features)]  # each (B, N, H)
        energy = sum(terms[1:], terms[0]).sum(1)
        shape = (len(block.numbers), len(self.levels))
        total = energy.double() + self.atomic(block.numbers).index_select(1, self.columns)
        energies = energy.new_zeros(shape, dtype=torch.float64).index_copy(1, self.columns, total)
        if not auxiliary:
            return Energies(energies, None)
        return Energies(energies, energy.new_zeros(shape).index_copy(1, self.columns, _hierarchicality(terms)))

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

    def __init__(self, backbone: Backbone, levels: tuple[str, ...], heads: tuple[str, ...]) -> None:
        """``backbone`` takes ``Block.level``, the place of a level among ``heads``."""
        super().__init__()
        self.levels, self.heads = levels, heads
        # As any single head; the column of the level that is asked for is filled with it.
        self.single = HeadsPotential(backbone, ("any",), ("any",))
        self.atomic = AtomicEnergies(len(levels))

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

    def upto(self, place: int) -> "Sum":
        """The sum of the first parts alone, with the levels that need no other: it shares their weights."""
        kept = {name: shares for name, shares in self.shares.items() if all(one.part < place for one in shares)}
        return Sum(self.levels, [self.part(k) for k in range(place)], kept)

    def part(self, place: int) -> Potential:
        """One of the parts."""
        found = self.parts[place]
        assert isinstance(found, Potential)
        return found

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
                out = outs[share.part]
                at = self.part(share.part).levels.index(share.head)
                column = column + out.energies[:, at]
                if out.auxiliary is not None:
                    extra = extra + out.auxiliary[:, at]
            columns.append(column)
            extras.append(extra)
        return Energies(torch.stack(columns, 1), torch.stack(extras, 1) if auxiliary else None)

    def shift(self, level: str, table: NDArray[np.float64]) -> None:
        last = self.shares[level][-1]
        self.part(last.part).shift(last.head, table)


def atomic_energies(potential: Potential, level: str) -> NDArray[np.float64]:
    """A level's atomic energies as they stand, (largest atomic number + 1,) eV; zeros of a potential that has none."""
    if isinstance(potential, Sum):
        return sum(
            (atomic_energies(potential.part(share.part), share.head) for share in potential.shares[level]),
            np.zeros(N_ROWS),
        )
    atomic = getattr(potential, "atomic", None)
    if not isinstance(atomic, AtomicEnergies):
        return np.zeros(N_ROWS)
    return atomic.table[:, potential.levels.index(level)].cpu().numpy().copy()


class Offset(Potential):
    """Atomic energies alone."""

    def __init__(self, levels: tuple[str, ...], heads: tuple[str, ...]) -> None:
        super().__init__()
        self.levels, self.heads, self.atomic = levels, heads, AtomicEnergies(len(levels))

    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        energies = self.atomic(block.numbers)
        return Energies(energies, energies.new_zeros(energies.shape) if auxiliary else None)

    def shift(self, level: str, table: NDArray[np.float64]) -> None:
        self.atomic.shift(self.levels.index(level), table)
