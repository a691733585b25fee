"""HIP-NN-TS equals hippynn's networks, given the same weights: an independent implementation."""

from dataclasses import replace

import pytest
import torch
from hippynn.layers.indexers import OneHotSpecies, PaddingIndexer
from hippynn.layers.pairs.open import OpenPairIndexer
from hippynn.layers.targets import HEnergy
from torch import Tensor, nn

from mfbench.models.backbones.hipnn_ts import HipnnTs, Interaction, Residual
from mfbench.models.block import Block
from mfbench.models.potentials import HeadsPotential
from mfbench.models.settings import HipnnTsSettings
from mfbench.testing import block_of, energies_and_forces, random_structures

networks = pytest.importorskip("hippynn.networks.hipnn", reason="hippynn is not installed (extra dev)")

ELEMENTS = (1, 6, 7, 8)


class Theirs(nn.Module):
    """hippynn's network and energy head, put together by hand from its layers."""

    def __init__(self, settings: HipnnTsSettings) -> None:
        super().__init__()
        kind = [networks.Hipnn, networks.HipnnVec, networks.HipnnQuad][settings.l_max]
        self.network = kind(
            n_features=settings.n_features,
            n_sensitivities=settings.n_sensitivities,
            dist_soft_min=settings.soft_min,
            dist_soft_max=settings.soft_max,
            dist_hard_max=settings.cutoff,
            n_atom_layers=settings.n_atom_layers,
            n_interaction_layers=settings.n_interactions,
            possible_species=[0, *ELEMENTS],
        )
        self.l_max = settings.l_max
        self.head = HEnergy(self.network.feature_sizes)
        self.encoder, self.padding = OneHotSpecies([0, *ELEMENTS]), PaddingIndexer()
        self.pairs = OpenPairIndexer(settings.cutoff)

    def forward(self, numbers: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        onehot, nonblank = self.encoder(numbers)
        features, real, inverse, molecule, _, n_molecules, _ = self.padding(onehot, nonblank)
        distance, first, second, vector = self.pairs(positions, nonblank, real, inverse)
        geometry = (distance, vector) if self.l_max else (distance,)
        out = self.network(features, first, second, *geometry)
        energy, _, _, hierarchicality, *_ = self.head(out, molecule, n_molecules)
        return energy[:, 0], hierarchicality[:, 0]


def copied(theirs: Theirs, settings: HipnnTsSettings) -> HeadsPotential:
    """Our potential with hippynn's weights."""
    ours = HipnnTs(ELEMENTS, settings)
    for our_block, their_block in zip(ours.blocks, theirs.network.blocks):
        for residual, wrapper in zip(our_block, their_block):
            assert isinstance(residual, Residual)
            base = wrapper.base_layer
            if isinstance(residual.first, Interaction):
                residual.first.weights.data = base.int_weights.data
                residual.first.self_interaction.load_state_dict(base.selfint.state_dict())
                residual.first.sensitivity.mu.data = base.sensitivity.mu.data[0]
                residual.first.sensitivity.sigma.data = base.sensitivity.sigma.data[0]
                for k, name in enumerate(["vecscales", "quadscales"][: settings.l_max]):
                    residual.first.scales[k].data = getattr(base, name).data
            else:
                residual.first.load_state_dict(base.state_dict())
            residual.second.load_state_dict(wrapper.res_layer.state_dict())
            if isinstance(residual.adjust, nn.Linear):
                residual.adjust.load_state_dict(wrapper.adjust_layer.state_dict())
    potential = HeadsPotential(ours, ("level",), ("level",)).double()
    for linear, layer in zip(potential.linear, theirs.head.layers):
        linear.load_state_dict(layer.state_dict())
    return potential


@pytest.fixture(params=[0, 1, 2], ids=["Hipnn", "HipnnVec", "HipnnQuad"])
def pair(request: pytest.FixtureRequest) -> tuple[Theirs, HeadsPotential]:
    settings = HipnnTsSettings(l_max=request.param, n_features=20, n_sensitivities=11, n_atom_layers=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.param)
        theirs = Theirs(settings).double()
    return theirs, copied(theirs, settings)


def batches() -> list[tuple[str, Block]]:
    """Molecules of 2 to 30 atoms: mixed and padded, and each size alone and unpadded."""
    structures = random_structures(ELEMENTS, ("level",), seed=5, sizes=(2, 3, 4, 9, 13, 21, 30))
    alone = [(f"{n} atoms", block_of(structures, [k])) for k, n in enumerate(structures.n_atoms)]
    return [("mixed", block_of(structures)), ("two sizes", block_of(structures, [6, 0, 3])), *alone]


@pytest.mark.parametrize(("label", "block"), batches(), ids=[label for label, _ in batches()])
def test_energies_forces_and_hierarchicality_are_hippynns(
    pair: tuple[Theirs, HeadsPotential], label: str, block: Block
) -> None:
    theirs, ours = pair
    positions = block.positions.detach().requires_grad_()
    expected, hierarchicality = theirs(block.numbers, positions)
    expected_forces = -torch.autograd.grad(expected.sum(), positions)[0]
    energies, forces = energies_and_forces(ours, block)
    assert expected.abs().min() > 1e-3  # a comparison of zeros would prove nothing
    torch.testing.assert_close(energies[:, 0], expected.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(forces[:, :, 0], expected_forces, rtol=1e-8, atol=1e-8)
    ours_hierarchicality = ours(block, auxiliary=True).auxiliary
    assert ours_hierarchicality is not None
    torch.testing.assert_close(ours_hierarchicality[:, 0], hierarchicality.detach(), rtol=1e-9, atol=1e-12)


def test_weight_gradients_are_hippynns(pair: tuple[Theirs, HeadsPotential]) -> None:
    """Second derivatives too: the gradient of a force loss with respect to the interaction weights."""
    theirs, ours = pair
    block = batches()[0][1]

    def slope(energy: Tensor, positions: Tensor, weight: Tensor) -> Tensor:
        (force,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        return torch.autograd.grad(force.square().sum(), weight)[0]

    at = block.positions.detach().requires_grad_()
    expected = slope(theirs(block.numbers, at)[0], at, theirs.network.blocks[0][0].base_layer.int_weights)
    at = block.positions.detach().requires_grad_()
    weight = ours.backbone.blocks[0][0].first.weights  # type: ignore[index,union-attr]
    got = slope(ours(replace(block, positions=at)).energies, at, weight)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
