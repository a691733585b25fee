"""Experiments: run folders, hashes, crashes, and the numbers in the results table."""

import json
import math
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, RUN_FILES
from safetensors.torch import load_file

from mfbench.data.cases import Case, case, case_names
from mfbench.errors import LabelsMissing, UserError
from mfbench.files import read_json
from mfbench.learning import arms
from mfbench.learning.device import DeviceStructures
from mfbench.learning.problem import Stage
from mfbench.learning.training import FitState
from mfbench.results import schema
from mfbench.results.folder import METRICS_FILE, STAGES, RunFolder, is_finished, read_metrics
from mfbench.results.predictions import Predictions, read_arrays
from mfbench.results.rows import gap_closed
from mfbench.results.runs import load_runs
from mfbench.study.build import build
from mfbench.study.evaluation import predict
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.grid import plan
from mfbench.study.prepare import prepare
from mfbench.study.run import record_absent, run, structures_used

TIMES = ["run", "seconds", "structures_per_second"]


def short(case: str = "rmd17-cc", arm: str = "MF", **settings: Any) -> Experiment:
    optimisation = {"steps": 6, "validations": 3, **settings.pop("optimisation", {})}
    return experiment(case, arm, optimisation=optimisation, threads=1, **settings)


def metrics(folder: Path) -> pd.DataFrame:
    return read_metrics(folder / METRICS_FILE)


@pytest.mark.parametrize("arm", [arm.name for arm in arms.ARMS])
@pytest.mark.parametrize("case", case_names())
def test_every_arm_on_every_case(case: str, arm: str, runs: Path) -> None:
    """One pipeline for all; where the labels do not exist, it says so and leaves no half-made folder."""
    settings = short(case, arm)
    uses_low, uses_high = arms.arm(arm).uses_low, arms.arm(arm).uses_high
    if case in ("ani1ccx", "ladder") and arm in ("SF-EF", "oracle"):
        with pytest.raises(LabelsMissing, match=r"no forces at ccsd\(t\)\*/cbs to train on"):
            run(settings, runs)
        assert not [path for path in runs.iterdir() if path.name != STAGES]
        table = metrics(record_absent(settings, runs, "no forces"))
        assert (table["n"] == 0).all()
        assert table["value"].isna().all()
        assert (table["remark"] == "no forces").all()
        assert set(table["part"]) == {"test", "unseen"}
        with pytest.raises(LabelsMissing, match="no forces"):
            run(settings, runs)  # recorded as absent or not, the same command says the same
        return
    folder = run(settings, runs)
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    table = metrics(folder)
    assert set(table["part"]) == ({"test"} if case == "rmd17-cc" else {"test", "unseen"})
    judged = table[(table["role"] == "high") & (table["head"] == table["level"])]
    assert len(judged) == (0 if arm == "SF-low" else 8 * table["part"].nunique())
    assert judged["value"].notna().all()
    assert (judged["n"] > 0).all()
    assert (table.loc[table["n"] == 0, "remark"] != "").all()
    oracle = {"ani1x-tz": 490 + 50, "rmd17-cc": 650 + 50}  # what it trains and validates on
    assert (table["n_high"] == (50 if uses_high else oracle[case] if arm == "oracle" else 0)).all()
    assert ((table["n_low"] > 0) == uses_low).all()
    assert table["steps"].between(4 if case == "ladder" else 6, 6).all()  # what does not divide is left
    assert ((table["steps_shared"] > 0) == (uses_low and arm not in ("MF", "embedding"))).all()


def test_coupled_cluster_forces_judge_ani1ccx(runs: Path) -> None:
    table = metrics(run(short("ani1ccx", "MF"), runs))
    rows = table[(table["role"] == "high") & (table["quantity"] == "force")]
    # 112 frames have them: those of the molecules in the test part, and of those never trained on.
    atoms = rows.drop_duplicates("part").set_index("part")["n"] / 3
    assert set(atoms.index) == {"test", "unseen"}
    prepared = prepare(short("ani1ccx", "MF"))
    column = prepared.structures.level_index("ccsd(t)*/cbs")
    for part in ("test", "unseen"):
        indices = getattr(prepared.split, part)
        labelled = indices[prepared.structures.force_mask[indices, column]]
        assert atoms[part] == prepared.structures.n_atoms[labelled].sum()
    assert sum(len(getattr(prepared.split, part)) for part in ("test", "unseen")) > 112


def test_the_arms_of_a_seed_share_their_structures_and_initial_weights() -> None:
    chosen = {arm: prepare(short(arm=arm, seed=3)).selection for arm in ("SF-E", "MF", "SF-EF")}
    for selection in chosen.values():
        assert np.array_equal(selection.high.train, chosen["MF"].high.train)
        assert np.array_equal(selection.high.validation, chosen["MF"].high.validation)
    larger = prepare(short(n_high=150, seed=3)).selection
    assert np.array_equal(larger.low.train, chosen["MF"].low.train)
    assert np.array_equal(larger.high.train[:40], chosen["MF"].high.train)

    def first_weights(arm: str) -> torch.Tensor:
        settings = short(arm=arm, seed=3)
        return next(build(settings, prepare(settings))[0].parameters())

    assert torch.equal(first_weights("SF-E"), first_weights("MF"))


def test_the_same_settings_give_the_same_numbers(tmp_path: Path) -> None:
    first, second = (metrics(run(short("ani1x-tz"), tmp_path / name)) for name in ("a", "b"))
    pd.testing.assert_frame_equal(first.drop(columns=TIMES), second.drop(columns=TIMES), check_exact=True)
    other = metrics(run(short("ani1x-tz", seed=1), tmp_path / "a"))
    assert not np.allclose(other["value"].fillna(0), first["value"].fillna(0))


def test_a_finished_run_is_left_as_it_is(runs: Path) -> None:
    folder = run(short(), runs)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

    def fail(state: FitState, stage: Stage) -> None:
        raise AssertionError("trained again")

    assert run(short(), runs, progress=fail) == folder
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


@pytest.mark.parametrize("at", [2, 4])
def test_a_stopped_run_goes_on_to_the_same_numbers(at: int, tmp_path: Path) -> None:
    whole = metrics(run(short(), tmp_path / "whole"))

    def stop(state: FitState, stage: Stage) -> None:
        if state.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(short(), tmp_path / "stopped", progress=stop, checkpoint_seconds=0.0)
    (folder,) = (tmp_path / "stopped").iterdir()
    assert not is_finished(folder)
    assert load_runs(tmp_path / "stopped").empty
    again = metrics(run(short(), tmp_path / "stopped"))
    pd.testing.assert_frame_equal(whole.drop(columns=TIMES), again.drop(columns=TIMES), check_exact=True)


@pytest.mark.parametrize("lost", ["finish", "write_provenance"])
def test_a_crash_while_writing_loses_nothing(lost: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is not taken for finished, and the next call completes it."""

    def crash(*arguments: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, lost, crash)
        with pytest.raises(OSError, match="disk full"):
            run(short(), runs, checkpoint_seconds=0.0)
    assert load_runs(runs).empty
    assert {path.name for path in run(short(), runs).iterdir()} == RUN_FILES


def test_the_name_follows_what_decides_the_numbers(tmp_path: Path) -> None:
    names = {
        short().name,
        *(
            short(**change).name
            for change in (
                {"arm": "SF-E"},
                {"n_high": 60},
                {"n_low": 100},
                {"seed": 1},
                {"split_seed": 1},
                {"dtype": "float64"},
                {"backbone_name": "painn"},
                {"network": {"n_features": 33}},
                {"optimisation": {"learning_rate": 0.123}},
            )
        ),
    }
    assert len(names) == 10
    assert short(n_high=50).name == short().name  # a default given by hand is the default
    default = short().network["n_features"]
    assert short(network={"n_features": default}).name == short().name
    assert short(arm="SF-low", n_high=50).name == short(arm="SF-low", n_high=150).name
    assert short(arm="SF-E", n_low=50).name == short(arm="SF-E").name


def test_runs_of_other_settings_are_never_pooled(runs: Path) -> None:
    """The column ``preset`` names what differs, and pairing and plots go by it."""
    assert experiment("rmd17-cc", "MF").recipe == "demo"
    assert experiment("rmd17-cc", "MF", optimisation={"steps": 3000}).recipe == "demo"
    assert short(network={"n_features": 16}).recipe == "demo (n_features=16, steps=6, validations=3)"
    for steps in (4, 6):
        for arm in ("SF-E", "MF"):
            run(short(arm=arm, optimisation={"steps": steps}), runs)
    gaps = gap_closed(load_runs(runs))
    assert set(gaps["preset"]) == {f"demo (steps={steps}, validations=3)" for steps in (4, 6)}
    assert gaps.groupby(["quantity", "metric"]).size().eq(2).all()


def test_a_damaged_checkpoint_is_named(runs: Path) -> None:
    folder = runs / short().name
    folder.mkdir()
    (folder / "checkpoint-0.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"checkpoint-0\.safetensors.*delete that file"):
        run(short(), runs)


def test_the_label_declarations_decide_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit or key corrected in a manifest makes other runs of the same settings."""
    from mfbench.data.manifest import manifest
    from mfbench.study import experiment as module

    before, whole = short().name, manifest

    def corrected(name: str) -> Any:
        found = whole(name)
        labels = [one.model_copy(update={"energy": None}) if one.energy else one for one in found.labels]
        return found.model_copy(update={"labels": tuple(labels)})

    monkeypatch.setattr(module, "manifest", corrected)
    assert short().name != before


def test_the_only_set_of_data_of_a_case_need_not_be_named() -> None:
    content = case("rmd17-cc").model_dump() | {"aliases": {}}
    mini = content["data"]["mini"]
    one = Case.model_validate(content | {"name": "one", "data": {"own": mini}})
    assert experiment(one, "MF") == experiment(one, "MF", data="own")
    assert experiment(one, "MF").data == "own"
    two = Case.model_validate(content | {"name": "two", "data": {"a": mini, "b": mini}})
    with pytest.raises(UserError, match="unknown data of case two 'mini': expected one of a, b"):
        experiment(two, "MF")
    assert [settings.data for settings in plan(("one",))][:1] == ["own"]


def test_levels_between_may_be_written_in_any_case() -> None:
    written = {"wB97X/6-31G*": 20}
    assert experiment("ladder", "MF", further=written).name == (
        experiment("ladder", "MF", further={"wb97x/6-31g*": 20}).name
    )


def test_a_case_of_ones_own_has_its_own_hash(tmp_path: Path) -> None:
    from mfbench import resources

    own = tmp_path / "rmd17-cc.yaml"
    shutil.copy(resources.cases() / "rmd17-cc.yaml", own)
    assert short(str(own)).name == short().name  # the same rules, wherever the file is
    own.write_text(own.read_text().replace("high_pool: 200", "high_pool: 210"))
    assert short(str(own)).name != short().name


def test_settings_and_provenance_are_complete(runs: Path) -> None:
    settings = short("ani1x-tz", seed=2)
    folder = run(settings, runs)
    assert Experiment.model_validate(read_json(folder / "settings.json")) == settings
    saved = json.loads((folder / "provenance.json").read_text())
    assert saved["versions"]["torch"] == version("torch")
    assert saved["threads"] == 1
    assert saved["device"]
    assert saved["deciding"]["data"] == {
        "mini-ani1x.h5": "2f753f4f6996813231066977710fe9d8c285bfd9a15ddb7c063276bf0a16c2cd"
    }
    history = pd.read_csv(folder / "history.csv")
    assert history["step"].tolist() == [2, 4, 6]
    with np.load(folder / "split.npz", allow_pickle=False) as split:
        assert len(split["train_high"]) == 40
        assert len(split["validation_high"]) == 10
        assert not set(split["train_low"]) & set(split["test"])


def test_metrics_are_those_of_the_predictions(runs: Path) -> None:
    """Recomputed with numpy from ``predictions.h5``, with constants of their own."""
    folder = run(short("ani1x-tz"), runs)
    table, p = metrics(folder), read_arrays(folder / "predictions.h5", Predictions)
    assert p.levels == p.heads == ("wb97x/6-31g*", "wb97x/def2-tzvpp")
    kcal = 23.060547830619
    error = (p.energy_predicted - p.energy_reference)[:, 1] * kcal
    n_atoms = np.diff(p.offsets)
    relative = error.copy()
    for molecule in np.unique(p.molecule):
        for part in (p.unseen, ~p.unseen):
            chosen = part & (p.molecule == molecule)
            if chosen.any():
                relative[chosen] -= error[chosen].mean()
    force = (p.force_predicted.astype(float) - p.force_reference)[:, 1] * kcal
    shown = schema.shown(table[(table["role"] == "high")]).set_index(["part", "quantity", "metric"])["value"]
    for part, chosen in (("test", ~p.unseen), ("unseen", p.unseen)):
        expected = {
            "energy": error[chosen],
            "energy_per_atom": (error / kcal * 1000 / n_atoms)[chosen],
            "energy_relative": relative[chosen],
            "force": force[np.repeat(chosen, n_atoms)].ravel(),
        }
        for quantity, values in expected.items():
            assert math.isclose(shown[part, quantity, "mae"], np.abs(values).mean(), rel_tol=1e-9)
            assert math.isclose(shown[part, quantity, "rmse"], np.sqrt((values**2).mean()), rel_tol=1e-9)


def test_saved_weights_give_the_saved_predictions(runs: Path) -> None:
    settings = short("ani1x-tz")
    folder = run(settings, runs)
    prepared = prepare(settings)
    potential, stages = build(settings, prepared)
    lessons = [stage.lesson for stage in stages]
    untrained = predict(potential, DeviceStructures(prepared.structures, torch.device("cpu")), prepared, lessons, 0)
    potential.load_state_dict(load_file(folder / "weights.safetensors"))
    again = predict(potential, DeviceStructures(prepared.structures, torch.device("cpu")), prepared, lessons, 0)
    saved = read_arrays(folder / "predictions.h5", Predictions)
    np.testing.assert_array_equal(again.energy_predicted, saved.energy_predicted)
    np.testing.assert_array_equal(again.force_predicted, saved.force_predicted)
    assert not np.allclose(untrained.energy_predicted, saved.energy_predicted)
    assert saved.distance is not None
    assert np.array_equal(again.distance, saved.distance, equal_nan=True)
    alike = ~saved.unseen  # of molecules that were trained on
    assert (saved.distance[alike] > 0).all()
    assert (saved.distance[alike] < 1).all()


def test_another_levels_energies_are_not_compared(runs: Path) -> None:
    """SF-low at the high level: relative energies and forces are judged, total energies have n = 0."""
    table = metrics(run(short(arm="SF-low"), runs))
    high = table[(table["role"] == "high") & (table["metric"] == "mae")].set_index("quantity")
    assert (high["head"] == "pbe/def2-svp").all()
    assert high.loc["energy", "n"] == high.loc["energy_per_atom", "n"] == 0
    assert high.loc["energy_relative", "n"] > 0
    assert high.loc["force", "n"] > 0
    assert "no head at this level" in high.loc["energy", "remark"]


def test_float64_agrees_with_float32(runs: Path) -> None:
    single, double = (
        metrics(run(short("ani1x-tz", dtype=dtype), runs)).set_index(["role", "part", "quantity", "metric"])["value"]
        for dtype in ("float32", "float64")
    )
    np.testing.assert_allclose(single, double, rtol=2e-2)
    assert not np.array_equal(single, double)


def test_the_papers_preset_is_the_authors_recipe() -> None:
    settings = experiment("ani1x-tz", "MF", preset_name="paper", n_high=50)
    assert settings.network["l_max"] == 2
    assert (settings.network["n_features"], settings.network["n_sensitivities"]) == (120, 20)
    assert (settings.network["n_interactions"], settings.network["n_atom_layers"]) == (2, 4)
    assert (settings.network["soft_max"], settings.network["cutoff"]) == (5.5, 6.5)
    prepared = prepare(settings)
    potential, stages = build(settings, prepared)
    (stage,) = stages
    assert structures_used(prepared.low, [stage.lesson]) == 40  # the pool, not all low-level structures
    assert len(stage.lesson.train) == 1  # one pool of fully labelled structures
    assert {term.level for term in stage.lesson.train[0].terms} == {"wb97x/6-31g*", "wb97x/def2-tzvpp"}
    assert stage.lesson.optimisation.steps == 2000  # epochs of one batch
    assert stage.lesson.optimisation.loss.hierarchicality == 1.0
    assert sum(p.numel() for p in potential.parameters()) > 400_000


def test_the_pool_of_the_papers_preset_needs_structures_labelled_at_both_levels() -> None:
    settings = experiment("rmd17-cc", "MF", preset_name="paper", n_high=50)
    with pytest.raises(LabelsMissing, match="no energies at pbe/def2-svp"):
        build(settings, prepare(settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimisation": {"steps": 0}}, "steps.*greater than 0.*got 0"),
        ({"optimisation": {"stepps": 3}}, "stepps: unknown key; did you mean 'steps'"),
        ({"threadz": 3}, "threadz: unknown key; did you mean 'threads'"),
        ({"further": {"b3lyp": 3}}, "unknown level of theory 'b3lyp'"),
        ({"network": {"l_max": 3}}, "l_max"),
        ({"seed": -1}, "seed.*got -1"),
        ({"dtype": "float16"}, "dtype.*float32"),
        ({"n_high": 0}, "at least 10"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment("rmd17-cc", "MF", **change)


def test_published_ethanol_end_to_end(shared_real: Path, runs: Path) -> None:
    """rMD17 ethanol (split 1) below, MD17-CC ethanol's CCSD(T) above, from a folder given for the data."""
    settings = short(str(ROOT / "benchmarks" / "ethanol-split01.yaml"), data="ethanol", n_high=50)
    table = metrics(run(settings, runs, data_folder=shared_real))
    assert (table["n_low"] == 950).all()
    high = table[(table["level"] == "ccsd(t)/cc-pvtz") & (table["metric"] == "mae")].set_index("quantity")
    assert high.loc["energy", "n"] >= 250
    prepared = prepare(settings, shared_real)
    structures, split = prepared.structures, prepared.split
    test_file = structures.files.index("rmd17_ethanol_test_01.npz")
    assert not np.isin(structures.file[split.low_pool], [test_file]).any()
    trained = structures.geometry[np.concatenate([split.low_pool, split.high_pool])]
    assert not np.isin(trained, structures.geometry[split.test]).any()
