"""What a backbone is: a network from a block of structures to features of its atoms."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mfbench.batch import Block


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
