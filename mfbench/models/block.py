"""A block: some structures padded to one size, as a network takes them."""

from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """B structures padded to N atoms, and what is wanted of them. The atoms of each come first, padding after.

    Its labels, where it has some, are a thing of their own: see ``learning.device.Targets``.
    """

    numbers: Tensor  # (B, N) atomic numbers, 0 = padding
    positions: Tensor  # (B, N, 3) Angstrom
    sizes: tuple[int, ...]  # (B,) atoms of each, known on the host: what depends on them asks no device
    wanted: frozenset[int] = frozenset()  # columns of the levels that are wanted; none: all that a potential predicts
    level: Tensor | None = None  # (B,) int64, for networks that take the level as an input: which one


def sent(array: NDArray, device: torch.device) -> Tensor:
    """The array on the device, where nothing waits for it to arrive."""
    tensor = torch.as_tensor(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
