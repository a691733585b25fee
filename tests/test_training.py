"""The training loop, by running it on levels of theory whose answers are known."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import problems
import pytest
import torch
from safetensors.torch import load_file

from mfbench.errors import UserError
from mfbench.learning import arms
from mfbench.learning.device import DeviceStructures
from mfbench.learning.loss import level_sums
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import Arm, Levels, Problem, Stage, assembled
from mfbench.learning.sources import Source, Term
from mfbench.learning.training import FitState, Validation, fit, learning_rate
from mfbench.models.backbones.kinds import BACKBONES, Network
from mfbench.models.contract import Potential
from mfbench.models.settings import HipnnTsSettings

NETWORK = HipnnTsSettings(n_features=10, n_sensitivities=6, n_atom_layers=1)


def built(arm: Arm, **optimisation: Any) -> tuple[Potential, Stage, DeviceStructures]:
    structures = problems.two_levels()
    chosen = problems.selection(structures, n_train=20)
    o = Optimisation(**optimisation)
    levels = Levels.of(structures.levels, problems.LOW, problems.HIGH, high_forces=arm.high_forces > 0)
    problem = Problem(structures, levels, chosen, o)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        potential, (stage,) = assembled(arm, problem, Network(BACKBONES[0], (1, 8), NETWORK))
    return potential, stage, DeviceStructures(structures, torch.device("cpu"))


def errors(potential: Potential, data: DeviceStructures, forces: bool = True) -> tuple[float, float]:
    """Energy and force MAE at the high level over all structures, kcal/mol and kcal/mol/Angstrom."""
    every = Source(torch.arange(len(data.atoms.n_atoms)).numpy(), (Term(problems.HIGH, True, forces),))
    sums = level_sums(potential, data.blocks([every]), training=False)[problems.HIGH]
    assert sums.energy is not None
    assert sums.force is not None
    return float(sums.energy.mae()), float(sums.force.mae())


def weights(potential: Potential) -> list[torch.Tensor]:
    return [value.clone() for value in potential.state_dict().values()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def without_time(state: FitState) -> list[Validation]:
    return [replace(one, seconds=0.0) for one in state.history]


def test_mf_learns_high_level_forces_from_low_level_ones() -> None:
    """The study's claim, on two Morse potentials: MF's forces at a level that gave it energies only."""
    results = {}
    for arm in (arms.SFE(), arms.MF()):
        potential, stage, data = built(arm, steps=300, learning_rate=8e-3)
        before = errors(potential, data)
        fit(stage, data, seed=0)
        results[arm.name] = errors(potential, data)
        assert results[arm.name][0] < 0.5 * before[0]
    assert results["MF"][0] < 0.7 * results["SF-E"][0]
    assert results["MF"][1] < 0.6 * results["SF-E"][1]


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    runs = []
    for seed in (0, 0, 1):
        potential, stage, data = built(arms.MF(), steps=20, validations=5)
        state = fit(stage, data, seed)
        runs.append((weights(potential), without_time(state)))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not same(runs[0][0], runs[2][0])


@pytest.mark.parametrize("recipe", [{}, {"schedule": "plateau", "patience": 1, "max_batch_size": 32, "ema_decay": 0.0}])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path: Path, recipe: dict[str, Any]) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    whole, stage, data = built(arms.MF(), steps=30, validations=10, **recipe)
    expected = fit(stage, data, seed=3)

    def stop(state: FitState, stage: Stage) -> None:
        if state.step == 18:
            raise KeyboardInterrupt

    _potential, stage, data = built(arms.MF(), steps=30, validations=10, **recipe)
    with pytest.raises(KeyboardInterrupt):
        fit(stage, data, 3, checkpoint, checkpoint_seconds=0.0, progress=stop)
    assert checkpoint.is_file()
    assert load_file(checkpoint)  # safetensors: nothing is unpickled
    again, stage, data = built(arms.MF(), steps=30, validations=10, **recipe)
    steps: list[int] = []
    state = fit(stage, data, 3, checkpoint, progress=lambda state, stage: steps.append(state.step))
    assert steps == [18, 21, 24, 27, 30]  # the one it was stopped in had not been saved
    assert same(weights(again), weights(whole))
    assert without_time(state) == without_time(expected)
    assert (state.best_step, state.best_error) == (expected.best_step, expected.best_error)


def test_the_best_weights_are_kept_after_the_full_budget() -> None:
    potential, stage, data = built(arms.SFE(), steps=80, validations=20, learning_rate=0.05, schedule="plateau")
    state = fit(stage, data, seed=0)
    selected = [one.selected for one in state.history]
    assert state.step == 80
    assert state.drawn == 80 * 16
    assert len(selected) == 20
    assert state.best_step < 80  # or the test would prove nothing
    assert state.best_error == min(selected)
    sums = level_sums(potential, data.blocks(stage.lesson.validation), training=False)[problems.HIGH]
    assert sums.energy is not None
    assert math.isclose(float(sums.energy.mae()), min(selected), rel_tol=1e-6)


def test_validation_error_of_an_energy_arm_is_energy_alone() -> None:
    _, stage, data = built(arms.MF(), steps=4, validations=2)
    last = fit(stage, data, seed=0).history[-1]
    (energy,) = last.errors
    assert (energy.level, energy.label) == (problems.HIGH, "energy")
    assert last.selected == energy.mae
    _potential, stage, data = built(arms.SFEF(), steps=4, validations=2)
    last = fit(stage, data, seed=0).history[-1]
    assert [one.label for one in last.errors] == ["energy", "force"]
    assert last.selected == sum(one.mae for one in last.errors)
    assert Validation.of_row(last.row()) == last


def test_learning_rates() -> None:
    cosine = Optimisation(steps=100, learning_rate=1.0, warmup=10)
    assert learning_rate(cosine, FitState(batch_size=1, step=0)) == 0.1
    assert math.isclose(learning_rate(cosine, FitState(batch_size=1, step=50)), 0.5)
    assert learning_rate(cosine, FitState(batch_size=1, step=99)) < 1e-3
    plateau = Optimisation(steps=100, learning_rate=1.0, warmup=0, schedule="plateau")
    assert learning_rate(plateau, FitState(batch_size=1, step=99, plateau_factor=0.25)) == 0.25


def test_a_plateau_raises_the_batch_and_then_halves_the_rate() -> None:
    _potential, stage, data = built(
        arms.SFE(), steps=60, validations=60, schedule="plateau", patience=3, max_batch_size=16,
        batch_size=8, learning_rate=0.05, warmup=0, ema_decay=0.0,
    )  # fmt: skip
    state = fit(stage, data, seed=0)
    rates = [one.learning_rate for one in state.history]
    assert state.batch_size == 16
    assert rates[-1] < 0.05
    assert set(rates) <= {0.05 / 2**k for k in range(20)}


def test_divergence_is_an_error_that_says_what_to_do() -> None:
    _potential, stage, data = built(arms.SFEF(), steps=60, validations=60, learning_rate=1e9, warmup=0)
    with pytest.raises(UserError, match=r"diverged before step .* learning rate below 1e"):
        fit(stage, data, seed=0)


def test_no_global_state_is_changed() -> None:
    before = torch.get_default_dtype(), torch.random.get_rng_state(), torch.is_grad_enabled()
    _potential, stage, data = built(arms.MF(), steps=4, validations=2)
    fit(stage, data, seed=0)
    assert torch.get_default_dtype() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    assert torch.is_grad_enabled() == before[2]
