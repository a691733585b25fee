"""HIP-NN-TS, the network of the study: HIP-NN (10.1063/1.5011181) with tensor sensitivities
(10.1063/5.0142127), l = 0, 1 or 2.

Numerically equal to hippynn's Hipnn, HipnnVec and HipnnQuad given the same weights, but contracted in
another order. An interaction sums over neighbours j, sensitivities s and input features f:

    env[i, t, o] = sum_jsf A[i, j, t] S[i, j, s] V[s, o, f] z[j, f]

with A the tensors of the direction i -> j (1, a vector, a traceless symmetric matrix). hippynn sums over j
first and applies V to each of the 9 components t. Here the radial part comes first, m[i, j, o] =
sum_s S[i, j, s] (V_s z_j)[o], and the angular tensors after, env[i, t] = sum_j A[i, j, t] m[i, j]: the same
numbers by linearity, with V applied once, and dense products over padded molecules in place of scatters.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mfbench.models.block import Block
from mfbench.models.contract import Backbone, required_level
from mfbench.models.pairs import pair_geometry
from mfbench.records import Record

_CUSP = 1e-6  # keeps the norms of vectors and matrices smooth at zero (hippynn's cusp_reg)

_LEVEL_WIDTH = 8  # of the learned vector of a level, where the level is an input


class HipnnTsSettings(Record):
    """Shape of the network. The defaults are small enough for a laptop's CPU; the bounds, far above any use, keep a
    damaged or mistyped file of settings from asking for all of a machine's memory."""

    l_max: Literal[0, 1, 2] = 2
    n_interactions: Annotated[int, Field(gt=0, le=32)] = 1
    n_atom_layers: Annotated[int, Field(ge=0, le=64)] = 3
    n_features: Annotated[int, Field(gt=0, le=4096)] = 32
    n_sensitivities: Annotated[int, Field(gt=0, le=512)] = 12
    soft_min: Annotated[float, Field(gt=0, le=100)] = 0.75  # Angstrom, centre of the first sensitivity
    soft_max: Annotated[float, Field(gt=0, le=100)] = 4.0  # Angstrom, centre of the last
    cutoff: Annotated[float, Field(gt=0, le=100)] = 5.0  # Angstrom


class Sensitivity(nn.Module):
    """Gaussians in the inverse distance, damped to zero at the cutoff: (B, N, N) -> (B, N, N, S)."""

    def __init__(self, n: int, soft_min: float, soft_max: float, cutoff: float) -> None:
        super().__init__()
        self.mu = nn.Parameter(1 / torch.linspace(1 / soft_max, 1 / soft_min, n))  # Angstrom
        self.sigma = nn.Parameter(torch.full((n,), soft_min * 2 * n))  # 1/width, Angstrom
        self.cutoff = cutoff

    def forward(self, distance: Tensor, pair: Tensor) -> Tensor:
        """``pair`` (B, N, N) is 1 for pairs of different real atoms, else 0; it multiplies the result."""
        inverse = 1 / distance.unsqueeze(-1) - 1 / self.mu
        damping = torch.cos(math.pi / 2 * distance / self.cutoff).square() * (distance <= self.cutoff) * pair
        return torch.exp(-0.5 * (inverse * self.sigma).square()) * damping.unsqueeze(-1)


class Interaction(nn.Module):
    """The sum over neighbours, z_i W + b included: (B, N, F_in) -> (B, N, F_out)."""

    def __init__(self, n_in: int, n_out: int, settings: HipnnTsSettings) -> None:
        super().__init__()
        s = settings
        self.sensitivity = Sensitivity(s.n_sensitivities, s.soft_min, s.soft_max, s.cutoff)
        self.weights = nn.Parameter(torch.empty(s.n_sensitivities, n_out, n_in))
        nn.init.xavier_normal_(self.weights)
        self.self_interaction = nn.Linear(n_in, n_out)
        nn.init.xavier_normal_(self.self_interaction.weight)
        self.scales = nn.ParameterList(nn.Parameter(torch.randn(n_out)) for _ in range(s.l_max))

    def forward(self, z: Tensor, distance: Tensor, pair: Tensor, angular: Tensor) -> Tensor:
        n_s, n_out, n_in = self.weights.shape
        batch, atoms, _ = z.shape
        s = self.sensitivity(distance, pair)  # (B, j, i, S): symmetric in i and j
        vz = z @ self.weights.reshape(n_s * n_out, n_in).T  # (B, j, S * O)
        m = s.reshape(batch * atoms, atoms, n_s) @ vz.reshape(batch * atoms, n_s, n_out)  # (B * j, i, O)
        m = m.reshape(batch, atoms, atoms, n_out).transpose(1, 2)  # (B, i, j, O)
        env = angular @ m  # (B, i, T, O)
        out = env[:, :, 0] + self.self_interaction(z)
        if len(self.scales) > 0:
            out = out + torch.sqrt(env[:, :, 1:4].square().sum(2) + _CUSP) * self.scales[0]
        if len(self.scales) > 1:
            q = env[:, :, 4:]  # xx, xy, xz, yy, yz of a traceless symmetric matrix; zz = -xx - yy
            norm = 2 * (q.square().sum(2) + q[:, :, 0] * q[:, :, 3])
            out = out + torch.sqrt(norm + _CUSP) * self.scales[1]
        return out


class Residual(nn.Module):
    """softplus(first(x)) W + b + x, with x brought to the new width where it differs."""

    def __init__(self, first: nn.Module, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = first
        self.second = nn.Linear(n_out, n_out)
        self.adjust = nn.Identity() if n_in == n_out else nn.Linear(n_in, n_out, bias=False)

    def forward(self, x: Tensor, *geometry: Tensor) -> Tensor:
        return self.second(nn.functional.softplus(self.first(x, *geometry))) + self.adjust(x)


class HipnnTs(Backbone):
    """The network; its features are what goes in (the one-hot elements) and the output of each interaction block.

    Where the level is an input, the learned vector of a structure's level follows the one-hot element of each atom.
    """

    elements: Tensor

    def __init__(self, elements: tuple[int, ...], settings: HipnnTsSettings, n_levels: int = 0) -> None:
        """Fresh weights.

        Args:
            elements: atomic numbers the network knows, in ascending order.
            n_levels: how many levels the input tells apart; 0 = the level is no input.
        """
        super().__init__()
        self.settings = settings
        width = settings.n_features
        n_inputs = len(elements) + (_LEVEL_WIDTH if n_levels else 0)
        self.feature_sizes = (n_inputs, *[width] * settings.n_interactions)
        self.head_bias = (False, *[True] * settings.n_interactions)
        self.register_buffer("elements", torch.tensor(elements), persistent=False)
        self.parameter_blocks = tuple((f"blocks.{k}.",) for k in range(settings.n_interactions))
        self.blocks = nn.ModuleList()
        for n_in in self.feature_sizes[:-1]:
            layers: list[nn.Module] = [Residual(Interaction(n_in, width, settings), n_in, width)]
            for _ in range(settings.n_atom_layers):
                linear = nn.Linear(width, width)
                nn.init.xavier_normal_(linear.weight)
                layers.append(Residual(linear, width, width))
            self.blocks.append(nn.ModuleList(layers))
        self.level_vectors = nn.Embedding(n_levels, _LEVEL_WIDTH) if n_levels else None
        if self.level_vectors is not None:
            nn.init.zeros_(self.level_vectors.weight)  # levels begin alike: what one learns, the others know

    def forward(self, block: Block) -> list[Tensor]:
        z = (block.numbers.unsqueeze(-1) == self.elements).to(block.positions.dtype)  # (B, N, E)
        if self.level_vectors is not None:
            vectors = self.level_vectors(required_level(block))  # (B, W)
            z = torch.cat([z, vectors.unsqueeze(1) * (block.numbers > 0).unsqueeze(-1)], -1)  # (B, N, E + W)
        geometry = pair_geometry(block, self.settings.l_max)
        features = [z]
        for layers in self.blocks:
            assert isinstance(layers, nn.ModuleList)
            z = layers[0](z, *geometry)
            for atom_layer in layers[1:]:
                z = atom_layer(z)
            features.append(z)
        return features
