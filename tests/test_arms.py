"""What arms learn on levels of theory whose answers are known, and the options of their stages."""

from dataclasses import replace
from typing import Any

import numpy as np
import problems
import pytest
import torch

from mfbench import testing
from mfbench.data.splits import Chosen
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.learning import arms
from mfbench.learning.device import DeviceStructures
from mfbench.learning.loss import level_sums, term_names, total_loss
from mfbench.learning.optimisation import LabelWeights, LossWeights, Optimisation
from mfbench.learning.problem import Arm, Levels, Problem, Stage, assembled
from mfbench.learning.sources import Source, Term
from mfbench.learning.training import fit
from mfbench.models.backbones.kinds import BACKBONES, Network
from mfbench.models.contract import Potential
from mfbench.models.linear import LinearPotential, ridge
from mfbench.models.settings import HipnnTsSettings, LinearSettings

NETWORK = Network(BACKBONES[0], (1, 8), HipnnTsSettings(n_features=10, n_sensitivities=6, n_atom_layers=1))


def problem_of(arm: Arm, structures: Structures | None = None, n_train: int = 20, **optimisation: Any) -> Problem:
    structures = structures or problems.two_levels()
    chosen = problems.selection(structures, n_train=n_train)
    o = Optimisation(**{"steps": 400, "learning_rate": 8e-3, **optimisation})
    levels = Levels.of(structures.levels, problems.LOW, problems.HIGH, high_forces=arm.high_forces > 0)
    return Problem(structures, levels, chosen, o)


def built(arm: Arm, problem: Problem, **options: Any) -> tuple[Potential, list[Stage], DeviceStructures]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        potential, stages = assembled(arm, problem, NETWORK, arm.options.model_validate(options))
    return potential, stages, DeviceStructures(problem.structures, torch.device("cpu"))


def errors(potential: Potential, data: DeviceStructures, level: str = problems.HIGH) -> tuple[float, float]:
    """Energy and force MAE over all structures, kcal/mol and kcal/mol/Angstrom."""
    every = Source(np.arange(len(data.atoms.n_atoms)), (Term(level, True, True),))
    sums = level_sums(potential, data.blocks([every]), training=False)[level]
    assert sums.energy is not None
    assert sums.force is not None
    return float(sums.energy.mae()), float(sums.force.mae())


# Most that the errors may be of those before training (atomic energies alone), energy and force.
BOUNDS = {
    "SF-E": (0.3, 0.7),
    "SF-EF": (0.3, 0.45),
    "oracle": (0.1, 0.3),
    "MF": (0.12, 0.3),
    "embedding": (0.3, 0.6),
    "delta": (0.25, 0.4),
    "transfer": (0.2, 0.4),
    "MF+": (0.1, 0.25),
    "zero-shot": (0.3, 0.35),  # the high level's wells are deeper by a fifth
}


@pytest.mark.parametrize("arm", [arm for arm in arms.ARMS if arm.name != "SF-low"], ids=lambda arm: arm.name)
def test_the_known_answer_is_learned(arm: Arm) -> None:
    potential, stages, data = built(arm, problem_of(arm))
    before = errors(built(arms.SFE(), problem_of(arms.SFE()))[0], data)
    for stage in stages:
        fit(stage, data, seed=0)
    after = errors(potential, data)
    assert after[0] < BOUNDS[arm.name][0] * before[0]
    assert after[1] < BOUNDS[arm.name][1] * before[1]
    assert sum(stage.lesson.optimisation.steps for stage in stages) == 400


def test_the_low_level_is_learned_by_its_own_arm() -> None:
    potential, (stage,), data = built(arms.SFLow(), problem_of(arms.SFLow()))
    before = errors(potential, data, problems.LOW)
    fit(stage, data, seed=0)
    after = errors(potential, data, problems.LOW)
    assert after[0] < 0.2 * before[0]
    assert after[1] < 0.3 * before[1]


def three_levels() -> Structures:
    """The two levels, and one between them: the mean of both, with energies and forces."""
    full = problems.two_levels()
    middle = "wb97x/def2-tzvpp"
    forces = full.forces
    return replace(
        full,
        levels=(problems.LOW, middle, problems.HIGH),
        energies=np.insert(full.energies, 1, full.energies.mean(1), axis=1),
        forces=np.stack([forces[0], forces.mean(0), forces[1]]),
        energy_mask=np.insert(full.energy_mask, 1, True, axis=1),
        force_mask=np.insert(full.force_mask, 1, True, axis=1),
    )


@pytest.mark.parametrize("arm", [arm for arm in arms.ARMS if arm.uses_low and arm.uses_high], ids=lambda arm: arm.name)
def test_every_multi_fidelity_arm_takes_further_levels(arm: Arm) -> None:
    structures = three_levels()
    problem = problem_of(arm, steps=12)
    chosen = problem.selection
    middle = structures.levels[1]
    problem = replace(
        problem,
        structures=structures,
        levels=Levels.of(structures.levels, problems.LOW, problems.HIGH, (middle,), high_forces=arm.high_forces > 0),
        selection=replace(
            chosen,
            levels={
                problems.LOW: chosen.low,
                middle: Chosen(chosen.low.train[:30], chosen.low.validation),
                problems.HIGH: chosen.high,
            },
        ),
    )
    testing.check_arm(arm, problem, NETWORK)
    potential, stages, data = built(arm, problem)
    assert set(potential.heads) == (
        {problems.LOW, problems.HIGH} if arm.name == "zero-shot" else set(structures.levels)
    )
    for stage in stages:
        fit(stage, data, seed=0)
    used = {t.level for stage in stages for source in stage.lesson.train for t in source.terms}
    assert (middle in used) == (arm.name != "zero-shot")


def test_transfer_freezes_what_it_is_told_to() -> None:
    for freeze, head in (("backbone", "kept"), (1, "new"), ("nothing", "new")):
        potential, (low, high), data = built(
            arms.Transfer(), problem_of(arms.Transfer(), steps=20), freeze=freeze, head=head
        )
        fit(low, data, seed=0)
        fit(high, data, seed=0)
        before, after = (dict(part.named_parameters()) for part in potential.parts)  # type: ignore[operator]
        same = {name for name in before if torch.equal(before[name], after[name])}
        of_backbone = {name for name in before if name.startswith("backbone.")}
        assert same == (set() if freeze == "nothing" else of_backbone)  # one block: it is all of the backbone
    with pytest.raises(UserError, match="at most the 1 blocks that this network has, got 2"):
        built(arms.Transfer(), problem_of(arms.Transfer()), freeze=2)


def test_the_kept_head_starts_where_the_low_level_ended() -> None:
    potential, (low, high), data = built(arms.Transfer(), problem_of(arms.Transfer(), steps=40))
    fit(low, data, seed=0)
    assert high.start is not None
    high.start(data)
    every = np.arange(len(data.atoms.n_atoms))
    (found,) = data.blocks([Source(every, (Term(problems.LOW), Term(problems.HIGH)))], max_blocks=1)
    energies = potential(found.block).energies.detach()
    difference = (energies[:, 1] - energies[:, 0]).numpy()
    for molecule in range(3):  # equal up to atomic energies
        assert np.ptp(difference[problem_of(arms.MF()).structures.molecule[found.rows] == molecule]) < 1e-5


def test_mf_plus_learns_from_all_high_level_structures() -> None:
    problem = problem_of(arms.MFPlus(), n_train=20)
    _, stages, _ = built(arms.MFPlus(), problem)
    used = np.concatenate([source.indices for source in stages[1].lesson.train])
    assert len(used) == len(np.unique(used)) == 25
    assert {t.minus for source in stages[1].lesson.train for t in source.terms} == {problems.LOW}
    _, stages, _ = built(arms.MFPlus(), problem, targets="model")
    assert {t.minus for source in stages[1].lesson.train for t in source.terms} == {None}
    # A high-level structure whose low-level label is not selected is compared with the low-level potential.
    hidden = problem.selection.high.train[:7]
    levels = dict(problem.selection.levels)
    levels[problems.LOW] = Chosen(np.setdiff1d(problem.selection.low.train, hidden), problem.selection.low.validation)
    fewer = replace(problem.selection, levels=levels)
    _, stages, _ = built(arms.MFPlus(), replace(problem, selection=fewer))
    by_term = {source.terms[0].minus: source.indices for source in stages[1].lesson.train}
    assert sorted(by_term[None]) == sorted(hidden)


# The difference potential


def linear(settings: LinearSettings | None = None) -> LinearPotential:
    potential = LinearPotential((1, 6, 7, 8), settings or LinearSettings(), ("high",), "high")
    potential.weights.copy_(torch.randn(potential.weights.shape, generator=torch.Generator().manual_seed(0)))
    return potential


@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_the_difference_potential_keeps_the_contract(l_max: int) -> None:
    structures = testing.random_structures((1, 6, 7, 8), ("high",), sizes=(2, 3, 5, 9))
    potential = linear(LinearSettings(n_radial=4, l_max=l_max))
    testing.check_padding(potential, structures)
    testing.check_symmetry(potential, structures)
    testing.check_forces(potential, structures)


def test_the_difference_potential_recovers_a_member_of_its_own_class() -> None:
    structures = testing.random_structures((1, 6, 7, 8), ("high",), sizes=(4,) * 60)
    truth, found = linear(LinearSettings(n_radial=2, l_max=0)), linear(LinearSettings(n_radial=2, l_max=0))
    block = testing.block_of(structures)
    target = truth(block).energies[:, 0]
    evidence = found.fit([block], [target])
    torch.testing.assert_close(found(block).energies[:, 0], target, rtol=0, atol=0.02 * float(target.std()))
    assert evidence.noise < 0.02 * float(target.std())


def test_ridge_is_the_posterior_mean_and_finds_the_noise() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(300, 20, dtype=torch.float64, generator=rng)
    counts = torch.randint(1, 5, (300, 2), generator=rng).double()
    weights = torch.randn(20, dtype=torch.float64, generator=rng)
    y = x @ weights + counts @ torch.tensor([-13.6, -1000.0]).double()
    y = y + 0.3 * torch.randn(300, dtype=torch.float64, generator=rng)
    found = ridge(x, counts, y)
    assert 0.2 < found.noise < 0.4
    torch.testing.assert_close(found.weights, weights, rtol=0, atol=0.15)
    torch.testing.assert_close(found.offsets, torch.tensor([-13.6, -1000.0]).double(), rtol=0, atol=0.1)
    # Against ordinary least squares on both: with 300 structures and 20 weights the prior hardly counts.
    both = torch.linalg.lstsq(torch.cat([x, counts], 1), y[:, None]).solution[:, 0]
    torch.testing.assert_close(found.weights, both[:20], rtol=0, atol=0.02)


def test_ridge_of_fewer_structures_than_elements_is_atomic_energies_alone() -> None:
    found = ridge(torch.randn(2, 5).double(), torch.eye(2).double(), torch.tensor([1.0, 2.0]).double())
    assert not found.weights.any()
    torch.testing.assert_close(found.offsets, torch.tensor([1.0, 2.0]).double())


# The loss


def test_weights_of_one_level_and_label() -> None:
    problem = problem_of(arms.MF())
    potential, (stage,), data = built(arms.MF(), problem)
    sums = level_sums(potential, data.blocks(stage.lesson.train), training=False)
    whole = float(total_loss(sums, LossWeights()))
    without = LossWeights(levels={problems.LOW: LabelWeights(energy=1, force=0), problems.HIGH: LabelWeights(energy=2)})
    low_force, high_energy = sums[problems.LOW].force, sums[problems.HIGH].energy
    assert low_force is not None
    assert high_energy is not None
    expected = whole - float(low_force.mae() + low_force.rmse()) + float(high_energy.mae() + high_energy.rmse())
    assert float(total_loss(sums, without)) == pytest.approx(expected, rel=1e-5)


def test_learned_scales_balance_the_terms() -> None:
    """At the scales of least loss every term weighs the same, whatever its size."""
    problem = problem_of(arms.MF())
    potential, (stage,), data = built(arms.MF(), problem)
    sums = level_sums(potential, data.blocks(stage.lesson.train), training=False)
    names = term_names(stage.lesson.train)
    assert names == sorted([f"{problems.LOW} energy", f"{problems.LOW} force", f"{problems.HIGH} energy"])
    scales = {name: torch.zeros((), requires_grad=True) for name in names}
    optimiser = torch.optim.Adam(scales.values(), 0.1)
    for _ in range(400):
        optimiser.zero_grad()
        total_loss(sums, LossWeights(), scales).backward()
        optimiser.step()
    for name, scale in scales.items():
        level, label = name.rsplit(" ", 1)
        part = sums[level].energy if label == "energy" else sums[level].force
        assert part is not None
        assert float(scale.exp()) == pytest.approx(float(part.mae() + part.rmse()), rel=1e-2)


def test_training_with_learned_scales_goes_on_where_it_stopped(tmp_path: Any) -> None:
    path = tmp_path / "checkpoint.safetensors"

    def stop(state: Any, stage: Stage) -> None:
        if state.step == 9:
            raise KeyboardInterrupt

    potentials = []
    for stopped in (False, True):
        problem = problem_of(arms.MF(), steps=15, validations=5, balance="uncertainty")
        potential, (stage,), data = built(arms.MF(), problem)
        if stopped:
            with pytest.raises(KeyboardInterrupt):
                fit(stage, data, 0, path, checkpoint_seconds=0.0, progress=stop)
            potential, (stage,), data = built(arms.MF(), problem)
        fit(stage, data, 0, path if stopped else None)
        potentials.append(potential)
    first, second = (list(potential.state_dict().values()) for potential in potentials)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
