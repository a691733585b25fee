"""Geometry of the pairs of atoms in a block: all of a molecule's, masked on the device or counted on the host."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfbench.models.block import Block


class Pairs(NamedTuple):
    """All pairs of B structures of N padded atoms."""

    vector: Tensor  # (B, i, j, 3) Angstrom, from atom i to atom j
    distance: Tensor  # (B, i, j) Angstrom; 1 where there is no pair, so that gradients stay finite
    real: Tensor  # (B, i, j) whether these are two different atoms, neither of them padding


def pairs(block: Block, dtype: torch.dtype | None = None) -> Pairs:
    """The pairs of a block, in the precision of its positions or in ``dtype``."""
    positions = block.positions if dtype is None else block.positions.to(dtype)
    atom = block.numbers > 0
    itself = torch.eye(positions.shape[1], dtype=torch.bool, device=positions.device)
    real = atom[:, :, None] & atom[:, None, :] & ~itself
    vector = positions[:, None] - positions[:, :, None]
    return Pairs(vector, torch.where(real, vector.square().sum(-1), 1.0).sqrt(), real)


class FlatPairs(NamedTuple):
    """The same for networks that want no padding: atoms in one row, pairs as two indices into it."""

    slots: NDArray[np.int64]  # (A,) which of the B * N padded atoms each atom is
    owner: NDArray[np.int64]  # (A,) which structure it belongs to
    first: NDArray[np.int64]  # (P,)
    second: NDArray[np.int64]  # (P,)


def flat_pairs(block: Block) -> FlatPairs:
    """All ordered pairs of a block's atoms, from its sizes alone: nothing waits for the device."""
    sizes, width = np.asarray(block.sizes), block.numbers.shape[1]
    there = np.arange(width) < sizes[:, None]  # (B, N)
    place = np.cumsum(there.ravel()).reshape(there.shape) - 1  # of each atom among the atoms
    structure, i, j = np.nonzero(there[:, :, None] & there[:, None, :] & ~np.eye(width, dtype=bool))
    owner, slot = np.nonzero(there)
    return FlatPairs(owner * width + slot, owner, place[structure, i], place[structure, j])
