"""Geometry of the pairs of atoms in a block."""

import torch
from torch import Tensor

from mfbench.models.block import Block


def pair_geometry(block: Block, l_max: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (B, N, N), the mask of pairs as 0 or 1, and the angular tensors (B, i, T, j).

    Distances of pairs that are none (an atom with itself, padding) are 1, so that gradients stay finite.
    """
    positions, real = block.positions, block.numbers > 0
    atoms = positions.shape[1]
    itself = torch.eye(atoms, dtype=torch.bool, device=positions.device)
    pair = real[:, :, None] & real[:, None, :] & ~itself
    vector = positions[:, None, :, :] - positions[:, :, None, :]  # (B, i, j, 3), from i to j
    square = torch.where(pair, vector.square().sum(-1), 1.0)
    distance = square.sqrt()
    ones = torch.ones_like(distance).unsqueeze(2)
    if l_max == 0:
        return distance, pair.to(positions.dtype), ones
    unit = (vector / distance.unsqueeze(-1)).transpose(2, 3)  # (B, i, 3, j)
    if l_max == 1:
        return distance, pair.to(positions.dtype), torch.cat([ones, unit], 2)
    x, y, zc = unit.unbind(2)
    third = unit.square().sum(2) / 3
    matrix = torch.stack([x * x - third, x * y, x * zc, y * y - third, y * zc], 2)
    return distance, pair.to(positions.dtype), torch.cat([ones, unit, matrix], 2)
