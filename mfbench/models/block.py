"""A block: some structures padded to one size, as a network takes them."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Block:
    """B structures padded to N atoms, with labels at L levels.

    Masks say which labels count here; a value below a False mask means nothing.
    """

    index: Tensor  # (B,) which structures these are
    numbers: Tensor  # (B, N) atomic numbers, 0 = padding
    positions: Tensor  # (B, N, 3) Angstrom
    energies: Tensor  # (B, L) eV, float64
    forces: Mapping[int, Tensor]  # (B, N, 3) eV/Angstrom, of the levels with a True in force_mask
    energy_mask: Tensor  # (B, L)
    force_mask: Tensor  # (B, L)
    difference_masks: Mapping[tuple[int, int], Tensor]  # (B,) where energies of the first minus the second level count
    wanted: frozenset[int]  # the levels with a True in some mask; none: all that a potential can predict
    level: Tensor | None = None  # (B,) int64, for networks that take the level as an input: which one
