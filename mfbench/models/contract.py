"""What a potential is, which gives energies, and a backbone, which gives features; and forces, in one place."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfbench.models.block import Block


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


def forces(energies: Tensor, positions: Tensor, level: int, create_graph: bool) -> Tensor:
    """Forces at one level, (B, N, 3) eV/Angstrom: minus the gradient of the energies of column ``level``.

    Args:
        energies: (B, L), computed from ``positions`` (B, N, 3), which require a gradient.
        create_graph: whether the forces are to be differentiated in turn (training).
    """
    (gradient,) = torch.autograd.grad(energies[:, level].sum(), positions, create_graph=create_graph, retain_graph=True)
    return -gradient


class Backbone(nn.Module, ABC):
    """Atomic features, block by block of the network.

    ``feature_sizes`` is the width of each tensor that ``forward`` returns. The features of an atom may depend
    on nothing but its own molecule and must not change under rotation, translation or reordering; those of
    padding atoms may hold anything finite.
    """

    feature_sizes: tuple[int, ...]
    head_bias: tuple[bool, ...]  # whether an energy head on that tensor has a bias
    # Beginnings of the names of each interaction block's parameters, so that the first blocks can be frozen.
    parameter_blocks: tuple[tuple[str, ...], ...] = ()

    @abstractmethod
    def forward(self, block: Block) -> list[Tensor]:
        """Features of every atom: a list of (B, N, feature_sizes[k])."""


def required_level(block: Block) -> Tensor:
    """The level of each structure, (B,), for a network that takes it as an input.

    Raises:
        ValueError: the block names no level.
    """
    if block.level is None:
        raise ValueError(
            "Block.level: expected the level of each structure, as this network takes it as an input, got None; "
            "set it, or build the network without levels"
        )
    return block.level
