"""Drawing and arranging batches; loss and gradient do not depend on the arrangement."""

import itertools

import numpy as np
import problems
import pytest
import torch
from torch import Tensor

from mfbench import testing
from mfbench.learning.device import DeviceStructures
from mfbench.learning.loss import level_sums, total_loss
from mfbench.learning.optimisation import LossWeights
from mfbench.learning.sources import Source, Term, arrange, draw
from mfbench.models.backbones.hipnn_ts import HipnnTs
from mfbench.models.settings import HipnnTsSettings

CPU = torch.device("cpu")


def test_a_draw_is_a_function_of_seed_stream_and_step() -> None:
    source = Source(np.arange(100, 137), (Term("a"),))
    first = draw(source, 8, seed=1, stream=0, step=5).indices
    assert np.array_equal(first, draw(source, 8, seed=1, stream=0, step=5).indices)
    for other in ({"seed": 2}, {"stream": 1}, {"step": 6}):
        changed = draw(source, 8, **{"seed": 1, "stream": 0, "step": 5, **other}).indices
        assert not np.array_equal(first, changed)


@pytest.mark.parametrize(("count", "size"), [(37, 8), (5, 16), (16, 16), (7, 3)])
def test_all_structures_are_drawn_equally_often(count: int, size: int) -> None:
    source = Source(np.arange(count), (Term("a"),))
    draws = [draw(source, size, 0, 0, step).indices for step in range(count)]
    assert all(len(indices) == min(size, count) for indices in draws)
    times = np.bincount(np.concatenate(draws), minlength=count)
    assert (times == min(size, count)).all()


def test_an_arrangement_is_a_partition_of_least_cost() -> None:
    rng = np.random.default_rng(0)
    n_atoms = rng.choice([2, 5, 9, 30, 60], 40)
    blocks = arrange(n_atoms)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(40))

    def cost(parts: list[np.ndarray]) -> float:
        return sum(4096 + len(part) * int(n_atoms[part].max()) ** 2 for part in parts)

    order = np.argsort(n_atoms, kind="stable")
    ends = np.flatnonzero(np.diff(n_atoms[order])) + 1
    every = [np.split(order, cuts) for k in range(len(ends) + 1) for cuts in itertools.combinations(ends, k)]
    assert cost(blocks) == min(cost(parts) for parts in every)
    assert len(arrange(n_atoms, max_blocks=1)) == 1


def test_blocks_are_cut_to_the_bound_on_pairs() -> None:
    n_atoms = np.array([30] * 10 + [3] * 50)
    blocks = arrange(n_atoms, max_pairs=2000)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(60))
    assert max(len(block) * int(n_atoms[block].max()) ** 2 for block in blocks) <= 2000
    assert len(arrange(np.array([90]), max_pairs=10)) == 1  # one structure is never cut


def test_a_block_holds_what_the_structures_hold() -> None:
    structures = problems.two_levels(4)
    rows, block, targets = testing.labelled(structures, [1, 9, 6])
    assert rows.tolist() == [1, 6, 9]  # ordered by size
    assert block.sizes == tuple(structures.n_atoms[rows])
    for row, s in enumerate(rows.tolist()):
        atoms = slice(*structures.offsets[s : s + 2])
        n = int(structures.n_atoms[s])
        assert block.numbers[row].tolist() == structures.numbers[atoms].tolist() + [0] * (4 - n)
        np.testing.assert_array_equal(block.positions[row, :n], structures.positions[atoms])
        for k in (0, 1):
            np.testing.assert_allclose(targets.forces[k][row, :n], structures.forces[k, atoms])
        np.testing.assert_array_equal(targets.energies[row], structures.energies[s])
    assert tuple(targets.forces) == (0, 1)


def test_a_source_contributes_only_its_terms() -> None:
    structures = problems.two_levels(6, high_energies=3)
    data = DeviceStructures(structures, CPU)
    sources = [
        Source(np.arange(6), (Term(problems.LOW, True, True),)),
        Source(np.arange(6), (Term(problems.HIGH),)),
    ]
    (one,) = data.blocks(sources)
    assert one.targets.energy_mask.tolist() == [[True, False]] * 6 + [[False, True]] * 3 + [[False, False]] * 3
    assert one.targets.force_mask.tolist() == [[True, False]] * 6 + [[False, False]] * 6
    assert tuple(one.targets.forces) == (0,)


def loss_and_gradient(arrangement: dict[str, int]) -> tuple[Tensor, list[Tensor]]:
    structures = testing.random_structures((1, 6, 8), (problems.LOW, problems.HIGH), sizes=(2, 3, 5, 9, 17, 30) * 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = HipnnTs((1, 6, 8), HipnnTsSettings(n_features=8, n_sensitivities=6))
    potential = testing.potential_on(backbone, (problems.LOW, problems.HIGH))
    data = DeviceStructures(structures, CPU, torch.float64)
    sources = [
        Source(np.arange(0, 12), (Term(problems.LOW, True, True),)),
        Source(np.arange(9, 18), (Term(problems.HIGH),)),
    ]
    blocks = list(data.blocks(sources, **arrangement))
    sums = level_sums(potential, blocks, training=True, auxiliary=True)
    loss = total_loss(sums, LossWeights(hierarchicality=0.5))
    gradient = torch.autograd.grad(loss, list(potential.parameters()))
    return torch.tensor([loss.item(), len(blocks)], dtype=torch.float64), list(gradient)


def test_loss_and_gradient_do_not_depend_on_the_arrangement() -> None:
    """The same batch in one block, in few and in one block a structure."""
    (one, gradient), (few, gradient_few), (many, gradient_many) = (
        loss_and_gradient(arrangement) for arrangement in ({"max_blocks": 1}, {}, {"max_pairs": 1})
    )
    assert one[1] == 1
    assert many[1] == 21
    assert one[0] > 1
    for other, gradients in ((few, gradient_few), (many, gradient_many)):
        torch.testing.assert_close(other[0], one[0], rtol=1e-12, atol=0)
        for got, expected in zip(gradients, gradient):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
