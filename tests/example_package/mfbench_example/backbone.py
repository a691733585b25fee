"""A backbone: what is near an atom, in a sum over its neighbours."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mfbench.models.backbones.kinds import BackboneKind
from mfbench.models.block import Block
from mfbench.models.contract import Backbone
from mfbench.models.pairs import pairs
from mfbench.records import Record


class DistancesSettings(Record):
    """Shape of the network."""

    n_features: Annotated[int, Field(gt=0)] = 16
    n_radial: Annotated[int, Field(gt=1)] = 12
    cutoff: Annotated[float, Field(gt=0)] = 4.0  # Angstrom


class Distances(Backbone):
    """Elements and distances of the neighbours, and no angles: small, fast and crude."""

    centres: Tensor

    def __init__(self, elements: tuple[int, ...], settings: DistancesSettings) -> None:
        super().__init__()
        n = settings.n_features
        self.settings = settings
        self.register_buffer("centres", torch.linspace(0.5, settings.cutoff, settings.n_radial), persistent=False)
        self.element = nn.Embedding(119, n, padding_idx=0)
        self.filter = nn.Linear(settings.n_radial, n)
        self.dense = nn.Sequential(nn.Linear(2 * n, n), nn.SiLU(), nn.Linear(n, n), nn.SiLU())
        self.feature_sizes, self.head_bias = (n,), (True,)
        self.parameter_blocks = (("element.", "filter."), ("dense.",))

    def forward(self, block: Block) -> list[Tensor]:
        _, r, pair = pairs(block)  # of what is no pair, r is 1
        cutoff = self.settings.cutoff
        near = torch.where(pair & (r < cutoff), (torch.cos(torch.pi * r / cutoff) + 1) / 2, 0.0)
        width = cutoff / self.settings.n_radial
        shells = torch.exp(-(((r[..., None] - self.centres) / width) ** 2)) * near[..., None]
        z = self.element(block.numbers)  # (B, N, F)
        around = (self.filter(shells) * near[..., None] * z[:, None]).sum(2)
        return [self.dense(torch.cat([z, around], -1))]


DISTANCES = BackboneKind("distances", DistancesSettings, Distances)
