"""SchNetPack's networks through the adapter against SchNetPack's own models, and the level as an input."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from ase import Atoms
from schnetpack import properties
from schnetpack.atomistic import Atomwise, Forces, PairwiseDistances
from schnetpack.interfaces import AtomsConverter
from schnetpack.model import NeuralNetworkPotential
from schnetpack.nn import CosineCutoff, GaussianRBF
from schnetpack.representation import PaiNN, SchNet, SO3net
from schnetpack.transform import ASENeighborList
from torch import nn

from mfbench import testing
from mfbench.models.backbones.kinds import BACKBONES, Network, backbone
from mfbench.models.block import Block
from mfbench.models.contract import Backbone

ELEMENTS = (1, 6, 7, 8)
LEVELS = ("low", "high")
CUTOFF = 3.0  # Angstrom: shorter than the structures, so that it cuts pairs
THEIRS: dict[str, tuple[type[nn.Module], dict[str, int]]] = {
    "schnet": (SchNet, {}),
    "painn": (PaiNN, {}),
    "so3net-0": (SO3net, {"lmax": 0}),
    "so3net-1": (SO3net, {"lmax": 1}),
    "so3net-2": (SO3net, {"lmax": 2}),
}


def network(name: str, n_levels: int = 0) -> Backbone:
    """A small network with known weights; ``so3net-2`` is so3net with l_max = 2."""
    name, _, l_max = name.rpartition("-") if name.startswith("so3net-") else (name, "", "")
    shape: dict[str, Any] = {"n_features": 12, "n_interactions": 2, "cutoff": CUTOFF}
    shape |= {"n_sensitivities": 7} if name == "hipnn-ts" else {"n_radial": 8}
    shape |= {"l_max": int(l_max)} if l_max else {}
    kind = backbone(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(kind, ELEMENTS, kind.settings.model_validate(shape)).build(n_levels)


def block(*sizes: int, dtype: torch.dtype = torch.float64, stretch: float = 1.0) -> Block:
    """Random molecules of these sizes, ``stretch`` times as large as they should be."""
    # A data set holds no structure of one atom, a block may: it is what is left of two.
    made = testing.block_of(testing.random_structures(ELEMENTS, LEVELS, sizes=[max(size, 2) for size in sizes]))
    sizes = tuple(sorted(sizes, reverse=made.sizes[0] > made.sizes[-1]))  # as the block arranges them
    there = torch.arange(made.numbers.shape[1]) < torch.tensor(sizes)[:, None]
    positions = torch.where(there[..., None], stretch * made.positions, 0.0).to(dtype)
    return replace(made, numbers=torch.where(there, made.numbers, 0), positions=positions, sizes=sizes)


def their_inputs(made: Block) -> dict[str, torch.Tensor]:
    """The molecules as SchNetPack's users put them in: ASE's neighbour list, collated."""
    molecules = [
        Atoms(numbers[numbers > 0].numpy(), positions[numbers > 0].numpy())
        for numbers, positions in zip(made.numbers, made.positions)
    ]
    return AtomsConverter(ASENeighborList(cutoff=CUTOFF), dtype=torch.float64)(molecules)


@pytest.fixture(params=["schnet", "painn", "so3net"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("name", THEIRS)
def test_equals_schnetpack(name: str) -> None:
    """Features, energies and forces of a mixed batch are those of SchNetPack's own potential."""
    made = block(9, 1, 4, 17, 2)
    potential = testing.potential_on(network(name), LEVELS)
    energies, forces = testing.energies_and_forces(potential, made)
    features = potential.backbone(made)[0]
    real = made.numbers > 0

    kind, shape = THEIRS[name]
    for level in range(len(LEVELS)):
        representation = kind(
            n_atom_basis=12,
            n_interactions=2,
            radial_basis=GaussianRBF(n_rbf=8, cutoff=CUTOFF),
            cutoff_fn=CosineCutoff(CUTOFF),
            **shape,
        )
        head = Atomwise(n_in=12, n_layers=1, output_key=properties.energy)
        theirs = NeuralNetworkPotential(
            representation, [PairwiseDistances()], [head, Forces()], input_dtype_str="float64"
        ).double()
        representation.load_state_dict(potential.backbone.representation.state_dict())
        weights = potential.linear[0].state_dict()
        head.outnet[0].load_state_dict({key: value[level : level + 1] for key, value in weights.items()})
        theirs.model_outputs.append("scalar_representation")
        out = theirs(their_inputs(made))
        torch.testing.assert_close(features[real], out["scalar_representation"], rtol=0, atol=1e-10)
        torch.testing.assert_close(energies[:, level], out[properties.energy], rtol=0, atol=1e-10)
        torch.testing.assert_close(forces[real][:, level], out[properties.forces], rtol=0, atol=1e-10)
    assert forces.abs().max() > 1e-3


@pytest.mark.parametrize("l_max", [1, 2])
def test_so3net_does_not_see_handedness(l_max: int) -> None:
    """Its Clebsch-Gordan products keep parity: features of a mirror image are equal."""
    made = block(9, 17)
    net = network(f"so3net-{l_max}").double()
    mirrored = replace(made, positions=made.positions * torch.tensor([1.0, 1.0, -1.0]))
    torch.testing.assert_close(net(mirrored)[0], net(made)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("l_max", [1, 2])
def test_so3net_turned_in_float64(l_max: int) -> None:
    """SchNetPack keeps its coefficients in float32: features change under rotation by no more than they are rounded."""
    made = block(9, 17)
    net = network(f"so3net-{l_max}").double()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    features = net(made)[0].detach()
    turned = net(replace(made, positions=made.positions @ rotation.T))[0].detach()
    torch.testing.assert_close(turned, features, rtol=0, atol=1e-8 * float(features.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_levels", [False, True])
@pytest.mark.parametrize(
    ("sizes", "stretch"), [((1,), 1.0), ((1, 1, 1), 1.0), ((1, 9), 1.0), ((2,), 9.0), ((5, 2, 1), 9.0)]
)
def test_few_neighbours_or_none(
    name: str, dtype: torch.dtype, with_levels: bool, sizes: tuple[int, ...], stretch: float
) -> None:
    """Isolated atoms, alone or beside a molecule, and molecules with no pair in the cutoff: no force, all finite."""
    made = replace(block(*sizes, dtype=dtype, stretch=stretch), level=torch.ones(len(sizes), dtype=torch.int64))
    distance = (made.positions[:, :, None] - made.positions[:, None, :]).norm(dim=-1)
    lonely = ((distance < CUTOFF) & (made.numbers > 0)[:, None]).sum(2) <= 1  # (B, N): none but itself
    potential = testing.potential_on(network(name, 2 * with_levels), LEVELS).to(dtype)
    positions = made.positions.clone().requires_grad_()
    features = potential.backbone(replace(made, positions=positions))
    assert features[0].dtype == dtype
    energies = potential(replace(made, positions=positions)).energies
    assert torch.isfinite(energies).all()
    (slope,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
    assert lonely.any()
    assert (slope[lonely] == 0).all()
    assert torch.isfinite(slope).all()
    # A training step: the gradient of a loss on the forces stays finite, too.
    (energies.square().sum() + slope.square().sum()).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in potential.parameters())


def test_no_pairs_is_the_limit_of_distant_atoms(name: str) -> None:
    """Atoms out of reach have the features of isolated ones."""
    net = network(name).double()
    far = block(4, stretch=9.0)
    # Each in a structure of its own.
    apart = replace(far, numbers=far.numbers.T, positions=far.positions.transpose(0, 1), sizes=(1, 1, 1, 1))
    torch.testing.assert_close(net(far)[0][0], net(apart)[0][:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["schnet", "painn", "so3net-1", "so3net-2"])
def test_atoms_on_the_axes(name: str) -> None:
    """Directions with components of zero: the second derivatives that training needs are finite and right."""
    made = block(5)
    axes = torch.tensor([[0, 0, 0], [0, 0, 1.1], [0, 1.0, 0], [1.2, 0, 0], [0, 0, -1.3]], dtype=torch.float64)[None]
    potential = testing.potential_on(network(name), LEVELS)

    def squared_forces(positions: torch.Tensor) -> torch.Tensor:
        energies = potential(replace(made, positions=positions)).energies
        (slope,) = torch.autograd.grad(energies[:, 0].sum(), positions, create_graph=True)
        return slope.square().sum()

    positions = axes.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(squared_forces(positions), positions)
    direction = torch.randn(axes.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = 1e-4
    up, down = (squared_forces((axes + s * direction).requires_grad_()) for s in (step, -step))
    torch.testing.assert_close((gradient * direction).sum(), (up - down) / (2 * step), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.name)
def test_level_is_an_input(kind: Any) -> None:
    """Levels begin alike; then features depend on a structure's own level, and a gradient reaches its vector alone."""
    made = block(9, 4)
    net = network(kind.name, 3).double()
    (vectors,) = (p for key, p in net.named_parameters() if p.shape[0] == 3 and "vectors" in key)

    def features(*level: int) -> torch.Tensor:
        return torch.cat(net(replace(made, level=torch.tensor(level))), -1)

    assert torch.equal(features(0, 0), features(0, 2))
    with torch.no_grad():
        vectors.normal_(generator=torch.Generator().manual_seed(0))
    both_low, mixed = features(0, 0), features(0, 2)
    torch.testing.assert_close(mixed[0], both_low[0], rtol=0, atol=1e-12)
    real = made.numbers[1] > 0
    assert ((mixed[1] - both_low[1])[real].abs().amax(1) > 1e-3).all()  # every atom
    mixed[made.numbers > 0].square().sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad.abs().sum(1) > 0).tolist() == [True, False, True]


@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.name)
def test_level_missing(kind: Any) -> None:
    made = block(4)
    with pytest.raises(ValueError, match=r"Block\.level: expected the level"):
        network(kind.name, 2).double()(made)
    network(kind.name).double()(made)  # a network without that input needs none


@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.name)
def test_without_levels_nothing_is_added(kind: Any) -> None:
    """No weight of a level, and a block that names one gives the same numbers."""
    made = block(4)
    plain = network(kind.name).double()
    assert not [key for key in plain.state_dict() if "vectors" in key]
    assert len([key for key in network(kind.name, 2).state_dict() if "vectors" in key]) == 1
    for one, other in zip(plain(made), plain(replace(made, level=torch.ones(1, dtype=torch.int64)))):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.name)
def test_settings_every_network_has(kind: Any) -> None:
    assert {"n_features", "n_interactions", "cutoff"} <= set(kind.settings.model_fields)


def test_schnetpack_is_imported_only_where_asked_for() -> None:
    code = "import sys, mfbench.models.backbones.kinds; sys.exit('schnetpack' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
