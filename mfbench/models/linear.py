"""A small, regular potential for the difference between two levels of theory, fitted in closed form.

The difference between levels is smooth and small, and few energies are there to learn it from. So its energy is
linear in smooth features of each atom's surroundings, and the weights are those of Bayesian ridge regression: the
noise is chosen by the evidence (MacKay, 10.1162/neco.1992.4.3.415), no label is held out, and there is no gradient
step. The features are densities of the neighbours and their invariant products of two, the power spectrum (Bartok,
Kondor and Csanyi, 10.1103/PhysRevB.87.184115): the two- and three-body terms of the atomic cluster expansion
(Drautz, 10.1103/PhysRevB.99.014104).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mfbench.models.atomic import AtomicEnergies
from mfbench.models.block import Block
from mfbench.models.contract import Energies, Potential
from mfbench.records import Record

# The radial functions are Gaussians, evenly spaced in exp(-(r - NEAR) / RANGE): dense where bonds are.
_NEAR, _RANGE = 0.5, 1.5  # Angstrom


class LinearSettings(Record):
    """Shape of the features."""

    n_radial: Annotated[int, Field(ge=2, le=256)] = 6
    l_max: Annotated[int, Field(ge=0, le=3)] = 3
    cutoff: Annotated[float, Field(gt=0, le=100)] = 5.0  # Angstrom


def features(block: Block, elements: Tensor, settings: LinearSettings) -> Tensor:
    """Invariant features of every atom, (B, N, P), float64; those of padding atoms mean nothing.

    Args:
        elements: (E,) atomic numbers of neighbours that are told apart.

    With c[e, n, l] the sum over neighbours of element e of radial function n times the l-th traceless or plain
    tensor of the direction: c[e, n, 0], and the products c[e, n, l] . c[e', n', l] for l = 0 to ``l_max``.
    """
    positions, real = block.positions.double(), block.numbers > 0
    atoms = positions.shape[1]
    itself = torch.eye(atoms, dtype=torch.bool, device=positions.device)
    vector = positions[:, None] - positions[:, :, None]  # (B, i, j, 3)
    pair = real[:, :, None] & real[:, None, :] & ~itself
    distance = torch.where(pair, vector.square().sum(-1), 1.0).sqrt()
    near = pair & (distance < settings.cutoff)
    damping = torch.where(near, torch.cos(torch.pi / 2 * distance / settings.cutoff).square(), 0.0)
    centres = torch.linspace(0, 1, settings.n_radial, dtype=torch.float64, device=positions.device)
    place = torch.exp(-(distance - _NEAR) / _RANGE).unsqueeze(-1)
    radial = torch.exp(-0.5 * ((place - centres) * (settings.n_radial - 1)).square()) * damping.unsqueeze(-1)
    species = block.numbers.unsqueeze(-1) == elements  # (B, j, E)
    channels = (radial.unsqueeze(-2) * species[:, None, :, :, None]).flatten(-2)  # (B, i, j, E * n)
    unit = vector / distance.unsqueeze(-1)
    found: list[Tensor] = []
    for order in range(settings.l_max + 1):
        density = channels.transpose(2, 3) @ _tensor(unit, order)  # (B, i, E * n, components)
        if order == 0:
            found.append(density.squeeze(-1))
            one, other = torch.triu_indices(density.shape[2], density.shape[2], device=positions.device)
        found.append((density @ density.transpose(2, 3))[..., one, other])
    return torch.cat(found, -1)


def _tensor(unit: Tensor, order: int) -> Tensor:
    """Direction tensors of one order, (..., components): 1, u, u u - 1/3 (scaled), u u u."""
    if order == 0:
        return torch.ones_like(unit[..., :1])
    if order == 1:
        return unit
    square = unit[..., :, None] * unit[..., None, :]
    if order == 2:
        return ((square - torch.eye(3, dtype=unit.dtype, device=unit.device) / 3) * 1.5**0.5).flatten(-2)
    return (square[..., None] * unit[..., None, None, :]).flatten(-3)


class LinearPotential(Potential):
    """Energies linear in ``features``, with weights for each element of the central atom; one head."""

    species: Tensor  # (E,) atomic numbers
    weights: Tensor  # (E, P) eV

    def __init__(
        self,
        elements: tuple[int, ...],
        settings: LinearSettings,
        atomic: AtomicEnergies,
        levels: tuple[str, ...],
        head: str,
    ) -> None:
        super().__init__()
        self.levels, self.heads = levels, (head,)
        self.settings, self.atomic = settings, atomic
        self.register_buffer("species", torch.tensor(elements), persistent=False)
        channels = len(elements) * settings.n_radial
        width = channels + (settings.l_max + 1) * channels * (channels + 1) // 2
        self.register_buffer("weights", torch.zeros(len(elements), width, dtype=torch.float64))

    def forward(self, block: Block, auxiliary: bool = False) -> Energies:
        species = (block.numbers.unsqueeze(-1) == self.species).double()
        each = ((species @ self.weights) * features(block, self.species, self.settings)).sum(-1)  # (B, N)
        column = self.levels.index(self.heads[0])
        energies = self.atomic(block.numbers)
        energies[:, column] += each.sum(1)
        return Energies(energies, energies.new_zeros(energies.shape) if auxiliary else None)

    def shift(self, level: str, table: NDArray) -> None:
        self.atomic.shift(self.levels.index(level), table)

    def fit(self, blocks: Sequence[Block], targets: Sequence[Tensor]) -> "Evidence":
        """Fit weights and atomic energies to target energies, whatever they were before.

        Args:
            blocks: of S structures in all.
            targets: (B,) eV, float64, one a block.

        Returns:
            What the regression found.
        """
        sums, counts = zip(*(self._sums(block) for block in blocks))
        x, n = torch.cat(sums), torch.cat(counts)  # (S, E, P), (S, E)
        mean = x.sum(0) / n.sum(0).clamp_min(1)[:, None]  # (E, P), of the atoms of an element
        centred = (x - n[:, :, None] * mean).flatten(1)
        found = ridge(centred, n, torch.cat(list(targets)))
        self.weights.copy_(found.weights.reshape(self.weights.shape))
        table = self.atomic.table[:, self.levels.index(self.heads[0])]
        table.zero_()
        table[self.species] = found.offsets - (self.weights * mean).sum(1)
        return found

    def _sums(self, block: Block) -> tuple[Tensor, Tensor]:
        """Features summed over the atoms of each element, (B, E, P), and how many atoms these are, (B, E)."""
        species = (block.numbers.unsqueeze(-1) == self.species).double()
        return species.transpose(1, 2) @ features(block, self.species, self.settings), species.sum(1)


@dataclass(frozen=True)
class Evidence:
    """What a regression found."""

    weights: Tensor  # (P,)
    offsets: Tensor  # (E,) eV an atom of each element
    noise: float  # eV, standard deviation of what the weights do not explain
    log_evidence: float


# Variance of the noise over the mean variance that the features explain.
_NOISE_RATIOS = torch.logspace(-8, 2, 41, dtype=torch.float64)


def ridge(x: Tensor, counts: Tensor, y: Tensor) -> Evidence:
    """Bayesian ridge regression y = x w + counts c + noise, with a flat prior of c and the noise of most evidence.

    Args:
        x: (S, P); counts: (S, E) atoms of each element; y: (S,) eV. All float64.
    """
    values, singular, _ = torch.linalg.svd(counts, full_matrices=True)
    rank = int((singular > 1e-8 * singular[0]).sum())
    rest = values[:, rank:]  # (S, S - rank): what compositions do not explain
    xr, yr = rest.T @ x, rest.T @ y
    kernel = xr @ xr.T
    scale = kernel.diagonal().mean() if len(kernel) else kernel.new_ones(())
    if len(yr) == 0 or float(scale) == 0 or float(yr.abs().max()) == 0:
        weights, noise, evidence = x.new_zeros(x.shape[1]), 0.0, -torch.inf
    else:
        eigenvalues, vectors = torch.linalg.eigh(kernel / scale)
        eigenvalues, along = eigenvalues.clamp_min(0), vectors.T @ yr
        variance = eigenvalues + _NOISE_RATIOS.to(x.device)[:, None]  # (ratios, S - rank), in units of the signal's
        signal = (along.square() / variance).mean(1)  # its most likely size at each ratio
        evidences = -0.5 * (len(yr) * signal.log() + variance.log().sum(1))
        best = int(evidences.argmax())
        weights = xr.T @ (vectors @ (along / variance[best])) / scale
        noise, evidence = float((signal[best] * _NOISE_RATIOS[best]).sqrt()), float(evidences[best])
    offsets = torch.linalg.pinv(counts, rtol=1e-8) @ (y - x @ weights)
    return Evidence(weights, offsets, noise, evidence)
