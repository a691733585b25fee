"""Errors as additive sums (n, sum |e|, sum e^2): right for any batch size."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ErrorSums:
    """Sums over labelled values; they add over blocks, batches and ranks."""

    n: Tensor
    absolute: Tensor
    square: Tensor

    @classmethod
    def of(cls, error: Tensor, mask: Tensor) -> "ErrorSums":
        """Sums of the errors where ``mask`` is True (same shape, or it broadcasts)."""
        weight = mask.expand_as(error)
        kept = torch.where(weight, error, 0.0)
        return cls(weight.sum(), kept.abs().sum(), kept.square().sum())

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        return ErrorSums(self.n + other.n, self.absolute + other.absolute, self.square + other.square)

    def mae(self) -> Tensor:
        """Mean absolute error; NaN where n = 0."""
        return self.absolute / self.n

    def rmse(self) -> Tensor:
        """Root mean square error; NaN where n = 0."""
        return torch.sqrt(self.square / self.n)
