"""SchNetPack's representations as they are, through one adapter: a fresh input dict for every call."""

import torch
from schnetpack import properties
from schnetpack.nn import CosineCutoff, GaussianRBF
from schnetpack.representation import PaiNN
from torch import Tensor, nn

from mfbench.backbones import PaiNNSettings
from mfbench.backbones.base import Backbone
from mfbench.batch import Block


class SchNetPackBackbone(Backbone):
    """Any representation of SchNetPack that gives ``scalar_representation``, as a backbone of one block."""

    def __init__(self, representation: nn.Module, width: int, cutoff: float) -> None:
        super().__init__()
        self.representation, self.cutoff = representation, cutoff
        self.feature_sizes, self.head_bias = (width,), (True,)

    def forward(self, block: Block) -> list[Tensor]:
        real = block.numbers > 0
        batch, atoms = real.shape
        place = torch.cumsum(real.flatten(), 0).reshape(batch, atoms) - 1  # of each real atom among the real
        with torch.no_grad():
            distance = (block.positions[:, :, None] - block.positions[:, None, :]).norm(dim=-1)
            pair = real[:, :, None] & real[:, None, :] & (distance < self.cutoff)
            pair &= ~torch.eye(atoms, dtype=torch.bool, device=pair.device)
            structure, i, j = pair.nonzero(as_tuple=True)
        inputs = {
            properties.Z: block.numbers[real],
            properties.R: block.positions[real],
            properties.Rij: block.positions[structure, j] - block.positions[structure, i],
            properties.idx_i: place[structure, i],
            properties.idx_j: place[structure, j],
            properties.idx_m: torch.arange(batch, device=real.device)[:, None].expand(batch, atoms)[real],
        }
        features = self.representation(inputs)["scalar_representation"]
        return [features.new_zeros(batch, atoms, features.shape[-1]).index_put((real,), features)]


def painn(settings: PaiNNSettings) -> SchNetPackBackbone:
    """PaiNN (Schütt et al., ICML 2021), with Gaussian radial functions and a cosine cutoff."""
    radial = GaussianRBF(n_rbf=settings.n_radial, cutoff=settings.cutoff)
    network = PaiNN(settings.n_features, settings.n_interactions, radial, CosineCutoff(settings.cutoff))
    return SchNetPackBackbone(network, settings.n_features, settings.cutoff)
