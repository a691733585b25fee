"""Which labels may be learned from: masks, noise, overlap, and levels between the two."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfbench import testing
from mfbench.cli.main import main
from mfbench.data.labels import Labels
from mfbench.errors import LabelsMissing, UserError
from mfbench.learning.arms import ARMS
from mfbench.learning.problem import Arm, Levels, Problem
from mfbench.learning.sources import Term
from mfbench.models.backbones.kinds import BACKBONES, Network
from mfbench.results.folder import METRICS_FILE, read_metrics, read_run
from mfbench.results.runs import load_runs
from mfbench.show import plots
from mfbench.show.html import errors_html
from mfbench.show.styles import arm_order, arm_style
from mfbench.show.tables import gap_table, sections
from mfbench.study.build import build
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.prepare import Prepared, prepare
from mfbench.study.run import run

EV_PER_KCAL = 0.0433641


def of(arm: str = "MF", case: str = "ani1x-tz", **settings: Any) -> Experiment:
    settings.setdefault("optimisation", {"steps": 4, "validations": 2})
    return experiment(case, arm, threads=1, **settings)


def terms(settings: Experiment) -> set[Term]:
    _, stages = build(settings, prepare(settings))
    return {term for stage in stages for source in stage.lesson.train for term in source.terms}


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
        assert mask[chosen.high.train].sum() == round(fraction * 40)
        assert mask[chosen.high.validation].sum() == round(fraction * 10)
        assert prepared.structures.force_mask[prepared.split.test, column].all()  # what is judged on keeps them
        found[fraction] = set(chosen.high.train[mask[chosen.high.train]].tolist())
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
    with pytest.raises(UserError, match="SF-E takes no choice of high-level forces"):
        of("SF-E", labels={"high_forces": 0.5})
    assert of("SF-EF", labels={"high_forces": 0.0}).high_forces == 0.0


def test_noise_is_on_what_is_trained_on_and_nowhere_else() -> None:
    labels = {
        "noise": {"low energy": 1.0 * EV_PER_KCAL, "high energy": 2.0 * EV_PER_KCAL, "low force": 3.0 * EV_PER_KCAL}
    }
    prepared = prepare(of(n_high=50, labels=labels))
    a, b, chosen = prepared.structures, prepared.training, prepared.selection
    low, high = a.level_index(prepared.low), a.level_index(prepared.high)
    energy = (b.energies - a.energies) / EV_PER_KCAL
    used_low = np.union1d(chosen.low.train, chosen.low.validation)
    assert 0.9 < energy[used_low, low].std() < 1.1
    assert not np.delete(energy[:, low], used_low).any()
    assert 1.7 < energy[chosen.high.train, high].std() < 2.3
    judged = np.concatenate([prepared.split.test, prepared.split.unseen])
    assert not energy[judged].any()
    atoms = a.atoms_of(used_low)
    force = (b.forces[low] - a.forces[low]) / EV_PER_KCAL
    assert 2.9 < force[atoms].std() < 3.1
    assert not np.delete(force, atoms, axis=0).any()
    assert np.array_equal(a.forces[high], b.forces[high])
    larger = prepare(of(n_high=150, labels=labels))  # the same noise at every size
    assert np.array_equal(larger.training.energies[chosen.high.train], b.energies[chosen.high.train])


def test_noise_leaves_the_labels_on_disk_and_of_other_runs_alone() -> None:
    clean = prepare(of()).structures.energies.copy()
    prepare(of(labels={"noise": {"high energy": 1.0}}))
    assert np.array_equal(prepare(of()).training.energies, clean)


@pytest.mark.parametrize("case", ["ani1x-tz", "rmd17-cc"])
def test_overlap_of_high_and_low_geometries(case: str) -> None:
    def shared(prepared: Prepared) -> float:
        geometry, chosen = prepared.structures.geometry, prepared.selection
        return float(np.isin(geometry[chosen.high.train], geometry[prepared.split.low_pool]).mean())

    fractions = {o: shared(prepare(of(case=case, n_high=100, overlap=o))) for o in ("nested", "partly", "disjoint")}
    assert fractions["disjoint"] == 0
    assert 0.3 < fractions["partly"] < 0.7
    assert fractions["nested"] == (1.0 if case == "ani1x-tz" else pytest.approx(1.0, abs=0.2))


def test_every_choice_has_its_own_name_and_is_an_arm_of_its_own() -> None:
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
    assert len({(one.variant, one.recipe) for one in made}) == len(made)
    assert [one.variant for one in made] == [
        "MF",
        "MF (no low forces)",
        "MF (no low energies)",
        "MF (50% of high forces)",
        "MF (noise of 0.1 eV on low energy)",
        "MF",
        "MF (further levels: mp2/cc-pvdz)",
    ]
    # Of one section, beside plain SF-E; another overlap is another split for every arm.
    assert [one.recipe == made[0].recipe for one in made] == [True] * 5 + [False, True]
    assert of("transfer", arm_options={"freeze": "backbone"}).variant == "transfer (freeze=backbone)"
    assert of(split_seed=1).recipe == "demo (steps=4, validations=2, split_seed=1)"
    assert of(labels=Labels()).name == of().name


def test_levels_between_the_two(runs: Path) -> None:
    """A ladder of four levels: each has its head, its structures and its rows."""
    settings = of(case="ladder", n_high=50)
    assert settings.levels == ("gfn2-xtb", "wb97x/6-31g*", "wb97x/def2-tzvpp", "ccsd(t)*/cbs")
    prepared = prepare(settings)
    assert {level: len(prepared.selection.levels[level].train) for level in prepared.levels[1:-1]} == {
        "wb97x/6-31g*": 240,
        "wb97x/def2-tzvpp": 120,
    }
    table = read_metrics(run(settings, runs) / METRICS_FILE)
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
        trained.append("shared" if stage.lesson.shared else "own")

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
        table = read_metrics(folder / METRICS_FILE)
        assert set(table["steps_shared"]) == {4}
        assert set(table["n_low"]) == {490}  # the low-level set is the same at every size
    one, other = (read_metrics(folder / METRICS_FILE) for folder in (again, alone))
    assert np.array_equal(one["value"], other["value"], equal_nan=True)
    run(of("MF+", n_high=50, labels={"noise": {"low force": 0.1}}), runs, progress=watch)
    assert trained.count("shared") == 7  # other labels: another stage
    run(of("MF+", n_high=50, network={"cutoff": 4.5}), runs, progress=watch)
    assert trained.count("shared") == 9  # another network, though its weights look alike


def test_what_an_arm_has_no_use_for_makes_no_other_run() -> None:
    low = {"low_forces": False, "noise": {"low force": 0.1}}
    assert of("SF-E", labels=low).name == of("SF-E").name
    assert of("SF-low", labels={"noise": {"high energy": 0.1}}).name == of("SF-low").name
    assert of("oracle", labels={"noise": {"high energy": 0.1}}).name != of("oracle").name
    for arm in ("oracle", "SF-low", "zero-shot"):
        with pytest.raises(UserError, match=f"{arm} takes no choice of high-level forces"):
            of(arm, labels={"high_forces": 0.5})


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm.uses_low], ids=lambda arm: arm.name)
@pytest.mark.parametrize("labels", [{"low_energies": False}, {"low_forces": False}], ids=["no energies", "no forces"])
def test_masks_hold_at_every_level_below_the_high_one(arm: Arm, labels: dict[str, bool]) -> None:
    """On four levels: what is masked is named by no term, and changes nothing when it is spoiled."""
    settings = of(arm.name, case="ladder", labels=labels, optimisation={"steps": 12})
    prepared = prepare(settings)
    below = [prepared.training.level_index(name) for name in prepared.levels[:-1]]
    mask = prepared.training.energy_mask if "low_energies" in labels else prepared.training.force_mask
    assert not mask[:, below].any()
    assert prepared.structures.energy_mask[:, below].all()  # what is judged on stays
    columns, further = prepared.training.levels, tuple(settings.further)
    levels = Levels.of(columns, prepared.low, prepared.high, further, **labels)
    problem = Problem(prepared.training, levels, prepared.selection, settings.optimisation)
    kind = BACKBONES[0]
    network = Network(kind, (1, 6, 7, 8), kind.settings.model_validate({"n_features": 6, "n_interactions": 1}))
    testing.check_arm(arm, problem, network)
    _, stages = build(settings, prepared)
    for stage in stages:
        for term in (term for source in (*stage.lesson.train, *stage.lesson.validation) for term in source.terms):
            if term.level != prepared.high:
                assert not (term.energy if "low_energies" in labels else term.forces)
            assert term.minus is None or "low_energies" not in labels


def test_noise_reaches_every_level_below_the_high_one() -> None:
    prepared = prepare(of(case="ladder", n_high=50, labels={"noise": {"low force": 1.0, "low energy": 1.0}}))
    change = prepared.training.forces - prepared.structures.forces
    draws = []
    for name in prepared.levels[:-1]:
        column = prepared.structures.level_index(name)
        chosen = prepared.selection.levels[name].train
        atoms = prepared.structures.atoms_of(chosen)
        assert 0.95 < change[column, atoms].std() < 1.05
        draws.append((prepared.training.energies - prepared.structures.energies)[chosen[:20], column])
    assert len({tuple(draw) for draw in draws}) == 3
    assert not change[prepared.structures.level_index(prepared.high)].any()


def test_total_energies_without_a_zero_are_not_reported(runs: Path) -> None:
    folder = run(of(n_high=50, labels={"low_energies": False}), runs)
    table = read_run(folder)
    low = table[(table["role"] == "low") & (table["part"] == "test")].set_index(["quantity", "metric"])
    for quantity in ("energy", "energy_per_atom"):
        row = low.loc[(quantity, "mae")]
        assert row["n"] == 0
        assert np.isnan(row["value"])
        assert "no zero" in row["remark"]
    assert low.loc[("energy_relative", "mae"), "n"] > 0
    assert (table[table["role"] == "high"].query("metric == 'mae'")["n"] > 0).all()
    assert set(table["arm"]) == {"MF (no low energies)"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"high_forces": 1.5}, "labels.high_forces: Input should be less than or equal to 1; got 1.5"),
        ({"high_forces": float("nan")}, "labels.high_forces: "),
        ({"noise": {"low forces": 1}}, "labels.noise.low forces.*'low energy', 'low force'"),
        ({"noise": {"low force": -1}}, "labels.noise.low force: Input should be greater than or equal to 0"),
        ({"noise": {"low force": float("inf")}}, "labels.noise.low force: Input should be a finite number"),
        (3, "labels.: Input should be a valid dictionary"),
    ],
)
def test_a_choice_of_labels_that_cannot_be_is_refused(labels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(labels=labels)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--noise", "low-force=-1"], "--noise: expected a number from 0 on after low-force=, got '-1'"),
        (["--noise", "low-force=x"], "got 'x'"),
        (["--noise", "low-forces=1"], "labels.noise.low forces"),
        (["--high-forces", "1.5"], "labels.high_forces"),
        (["--arm-option", "foo=1"], "expected options among none, got 'foo'"),
    ],
)
def test_it_is_refused_on_the_command_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "rmd17-cc", "--arm", "MF", *words]) == 2
    assert message in capsys.readouterr().err


def test_variants_are_compared_with_plain_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ["compare", "ani1x-tz", "--n-high", "50", "--steps", "2", "--arms"]
    assert main([*chosen, "SF-E", "SF-EF", "MF"]) == 0
    assert main([*chosen, "SF-E", "SF-EF", "MF", "--no-low-forces"]) == 0
    table = load_runs(Path("runs"))
    assert set(table["arm"]) == {"SF-E", "SF-EF", "MF", "MF (no low forces)"}
    assert len(sections(table)) == 1
    assert set(gap_table(table, "ani1x-tz")["arm"]) == {"MF", "MF (no low forces)"}
    assert arm_order(table["arm"]) == ["SF-E", "MF", "MF (no low forces)", "SF-EF"]
    variant, plain = arm_style("MF (no low forces)"), arm_style("MF")
    assert variant.color == plain.color
    assert variant.marker != plain.marker
    assert "no low forces" in errors_html(table, "ani1x-tz")
    plots.learning_curve(table, "ani1x-tz", "energy")
