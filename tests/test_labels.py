"""Which labels may be learned from: masks, noise, overlap, and levels between the two."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfbench import results
from mfbench.batch import Term
from mfbench.errors import LabelsMissing, UserError
from mfbench.experiment import Experiment, Prepared, build, experiment, prepare, run
from mfbench.labels import Labels

KCAL = 0.0433641


def of(arm: str = "MF", case: str = "ani1x-tz", **settings: Any) -> Experiment:
    return experiment(case, arm, optimisation={"steps": 4, "validations": 2}, threads=1, **settings)


def terms(settings: Experiment) -> set[Term]:
    _, stages = build(settings, prepare(settings))
    return {term for stage in stages for source in stage.train for term in source.terms}


def test_low_labels_can_be_left_out() -> None:
    low = "wb97x/6-31g*"
    assert Term(low, energy=False, forces=True) in terms(of(labels={"low_energies": False}))
    assert Term(low, energy=True, forces=False) in terms(of(labels={"low_forces": False}))
    assert Term(low, energy=True, forces=True) in terms(of())
    with pytest.raises(UserError, match="got neither"):
        prepare(of(labels={"low_energies": False, "low_forces": False}))


@pytest.mark.parametrize("arm", ["MF", "SF-EF"])
def test_a_fraction_of_the_high_level_structures_has_forces(arm: str) -> None:
    found = {}
    for fraction in (0.25, 0.5, 1.0):
        settings = of(arm, n_high=50, labels={"high_forces": fraction})
        prepared = prepare(settings)
        chosen, column = prepared.selection, prepared.structures.level_index(prepared.high)
        mask = prepared.training.force_mask[:, column]
        assert mask[chosen.train_high].sum() == round(fraction * 40)
        assert mask[chosen.validation_high].sum() == round(fraction * 10)
        assert prepared.structures.force_mask[prepared.split.test, column].all()  # what is judged on keeps them
        found[fraction] = set(chosen.train_high[mask[chosen.train_high]].tolist())
        assert Term(prepared.high, forces=True) in terms(settings)
    assert found[0.25] < found[0.5] < found[1.0]


def test_few_forces_need_not_reach_the_validation_part() -> None:
    settings = of("MF", n_high=25, labels={"high_forces": 0.05})  # 1 of 20, and none of the 5 that validate
    assert Term("wb97x/def2-tzvpp", forces=True) in terms(settings)


def test_mf_plus_takes_no_low_level_energy_that_is_left_out() -> None:
    settings = of("MF+", n_high=50, labels={"low_energies": False})
    assert {term.minus for term in terms(settings)} == {None}
    assert "wb97x/6-31g*" in {term.minus for term in terms(of("MF+", n_high=50))}


def test_arms_of_energies_alone_refuse_forces() -> None:
    with pytest.raises(UserError, match="SF-E never trains on high-level forces"):
        of("SF-E", labels={"high_forces": 0.5})
    assert of("SF-EF", labels={"high_forces": 0.0}).high_forces == 0.0


def test_noise_is_on_what_is_trained_on_and_nowhere_else() -> None:
    labels = {"noise": {"low energy": 1.0 * KCAL, "high energy": 2.0 * KCAL, "low force": 3.0 * KCAL}}
    prepared = prepare(of(n_high=50, labels=labels))
    a, b, chosen = prepared.structures, prepared.training, prepared.selection
    low, high = a.level_index(prepared.low), a.level_index(prepared.high)
    energy = (b.energies - a.energies) / KCAL
    used_low = np.union1d(chosen.train_low, chosen.validation_low)
    assert 0.9 < energy[used_low, low].std() < 1.1
    assert not np.delete(energy[:, low], used_low).any()
    assert 1.7 < energy[chosen.train_high, high].std() < 2.3
    judged = np.concatenate([prepared.split.test, prepared.split.unseen])
    assert not energy[judged].any()
    atoms = a.atoms_of(used_low)
    force = (b.forces[low] - a.forces[low]) / KCAL
    assert 2.9 < force[atoms].std() < 3.1
    assert not np.delete(force, atoms, axis=0).any()
    assert np.array_equal(a.forces[high], b.forces[high])
    larger = prepare(of(n_high=150, labels=labels))  # the same noise at every size
    assert np.array_equal(larger.training.energies[chosen.train_high], b.energies[chosen.train_high])


def test_noise_leaves_the_labels_on_disk_and_of_other_runs_alone() -> None:
    clean = prepare(of()).structures.energies.copy()
    prepare(of(labels={"noise": {"high energy": 1.0}}))
    assert np.array_equal(prepare(of()).training.energies, clean)


@pytest.mark.parametrize("case", ["ani1x-tz", "rmd17-cc"])
def test_overlap_of_high_and_low_geometries(case: str) -> None:
    def shared(prepared: Prepared) -> float:
        geometry, chosen = prepared.structures.geometry, prepared.selection
        return float(np.isin(geometry[chosen.train_high], geometry[prepared.split.low_pool]).mean())

    fractions = {o: shared(prepare(of(case=case, n_high=100, overlap=o))) for o in ("nested", "partly", "disjoint")}
    assert fractions["disjoint"] == 0
    assert 0.3 < fractions["partly"] < 0.7
    assert fractions["nested"] == (1.0 if case == "ani1x-tz" else pytest.approx(1.0, abs=0.2))


def test_every_choice_has_its_own_name_and_is_never_pooled() -> None:
    choices: list[dict[str, Any]] = [
        {},
        {"labels": {"low_forces": False}},
        {"labels": {"low_energies": False}},
        {"labels": {"high_forces": 0.5}},
        {"labels": {"noise": {"low energy": 0.1}}},
        {"overlap": "disjoint"},
        {"further": {"mp2/cc-pvdz": None}},
    ]
    made = [of(**choice) for choice in choices]
    assert len({one.name for one in made}) == len(made)
    assert len({one.recipe for one in made}) == len(made)
    assert of(labels=Labels()).name == of().name


def test_levels_between_the_two(runs: Path) -> None:
    """A ladder of four levels: each has its head, its structures and its rows."""
    settings = of(case="ladder", n_high=50)
    assert settings.levels == ("gfn2-xtb", "wb97x/6-31g*", "wb97x/def2-tzvpp", "ccsd(t)*/cbs")
    prepared = prepare(settings)
    assert {level: len(found) for level, found in prepared.selection.further.items()} == {
        "wb97x/6-31g*": 240,
        "wb97x/def2-tzvpp": 120,
    }
    table = results.read_metrics(run(settings, runs) / results.METRICS_FILE)
    assert dict(zip(table["level"], table["role"])) == dict(zip(settings.levels, ("low", "further", "further", "high")))
    assert (table["head"] == table["level"]).all()
    with pytest.raises(LabelsMissing, match=r"expected 1 to \d+ of the \d+ low-level structures, got 4000"):
        prepare(of(case="ladder", further={"wb97x/6-31g*": 4000}))
    with pytest.raises(UserError, match="between wb97x/6-31g\\* and wb97x/def2-tzvpp, got hf/cc-pvdz"):
        of(further={"hf/cc-pvdz": None})


def test_a_shared_stage_is_trained_once(runs: Path) -> None:
    """By every size and arm that needs it; and what it leaves is what each would have trained by itself."""
    trained: list[str] = []

    def watch(state: Any, stage: Any) -> None:
        trained.append("shared" if stage.shared else "own")

    first = run(of("MF+", n_high=50), runs, progress=watch)
    assert trained.count("shared") == 2
    again = run(of("MF+", n_high=150), runs, progress=watch)
    assert trained.count("shared") == 2  # no second training
    run(of("delta", n_high=50), runs, progress=watch)
    assert trained.count("shared") == 5  # a share of the budget: another stage
    run(of("transfer", n_high=50), runs, progress=watch)
    assert trained.count("shared") == 5
    alone = run(of("MF+", n_high=150), runs / "alone")
    for folder in (first, again):
        table = results.read_metrics(folder / results.METRICS_FILE)
        assert set(table["steps_shared"]) == {4}
        assert set(table["n_low"]) == {490}  # the low-level set is the same at every size
    one, other = (results.read_metrics(folder / results.METRICS_FILE) for folder in (again, alone))
    assert np.array_equal(one["value"], other["value"], equal_nan=True)
    run(of("MF+", n_high=50, labels={"noise": {"low force": 0.1}}), runs, progress=watch)
    assert trained.count("shared") == 7  # other labels: another stage
    run(of("MF+", n_high=50, network={"cutoff": 4.5}), runs, progress=watch)
    assert trained.count("shared") == 9  # another network, though its weights look alike
