"""What people add: the example package does all five, as objects and installed; and what is wrong is told."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import problems
import pytest
import torch

import mfbench
from mfbench import extensions, testing
from mfbench.data import cases, datasets
from mfbench.data.manifest import Dataset, Manifest, manifest, manifest_names
from mfbench.errors import UserError
from mfbench.files import read_json
from mfbench.learning import arms
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import Levels, Problem
from mfbench.models.backbones.kinds import BACKBONES, Network, backbone
from mfbench.results import metrics, schema
from mfbench.results.folder import EXTRA, METRICS_FILE, PROVENANCE_FILE, read_run
from mfbench.results.metrics import Metric
from mfbench.results.runs import load_runs
from mfbench.results.schema import metrics_of
from mfbench.show import plots
from mfbench.show.html import errors_html
from mfbench.show.text import run_text, text_table
from mfbench.study.experiment import experiment
from mfbench.study.run import run

PACKAGE = Path(__file__).parent / "example_package"


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds is forgotten after it."""
    monkeypatch.setattr(extensions, "_own", {kind: {} for kind in extensions._own})


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The modules of the example package, importable but not installed."""
    monkeypatch.syspath_prepend(PACKAGE)
    names = ("arm", "backbone", "dataset", "metric")
    yield SimpleNamespace(
        case=importlib.import_module("mfbench_example").CASE,
        **{name: importlib.import_module(f"mfbench_example.{name}") for name in names},
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "mfbench_example"]:
        del sys.modules[name]


# As objects


def test_the_example_keeps_the_contracts(example: SimpleNamespace) -> None:
    kind = example.backbone.DISTANCES
    network = Network(kind, (1, 6, 7, 8), kind.settings())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        testing.check_backbone(network.build())
    structures = problems.two_levels()
    levels = Levels.of(structures.levels, problems.LOW, problems.HIGH)
    problem = Problem(structures, levels, problems.selection(structures), Optimisation(steps=10))
    testing.check_arm(example.arm.Refined(), problem, network)
    testing.check_arm(example.arm.Refined(), problem, Network(BACKBONES[0], (1, 6, 7, 8), _small()))
    testing.check_dataset(example.dataset.HYDRIDES)
    testing.check_case(example.case)
    testing.check_metric(example.metric.WITHIN)


def _small() -> Any:
    return BACKBONES[0].settings.model_validate({"n_features": 12, "n_sensitivities": 7})


def test_objects_are_taken_for_names(example: SimpleNamespace, tmp_path: Path) -> None:
    mfbench.register(example.dataset.HYDRIDES, example.metric.WITHIN)
    declared = cases.case(example.case).model_copy(update={"name": "my hydrides"})
    settings = experiment(
        declared,
        example.arm.Refined(),
        backbone_name=example.backbone.DISTANCES,
        n_high=20,
        network={"n_features": 4},
        arm_options={"share": 0.5},
        optimisation={"steps": 20, "validations": 2},
    )
    assert (settings.case, settings.arm, settings.backbone) == ("my hydrides", "refined", "distances")
    assert settings.case_file is None
    assert settings.network["n_features"] == 4
    folder = run(settings, tmp_path)
    table = read_run(folder)
    own = table[table["metric"] == "within 1 kcal/mol"]
    assert set(own["quantity"]) == {"energy", "energy_relative"}
    assert set(own["unit"]) == {"fraction"}
    added = read_json(folder / PROVENANCE_FILE)["added"]
    assert added == {
        "arms: refined": "mfbench_example.arm.Refined, an object of this process",
        "backbones: distances": "mfbench.models.backbones.kinds.BackboneKind, an object of this process",
        "cases: my hydrides": "mfbench.data.cases.Case, an object of this process",
        "datasets: hydrides": "mfbench.data.manifest.Dataset, an object of this process",
    }
    model = mfbench.load(folder)
    assert model.levels == ("wb97x/6-31g*", "wb97x/def2-tzvpp")
    assert set(manifest_names()) >= {"hydrides"}
    assert {"my hydrides"} <= set(cases.case_names())
    assert {"refined"} <= set(arms.arm_names())


def test_a_dataset_object_in_a_case(example: SimpleNamespace) -> None:
    rules = cases.case(example.case).data["mini"].model_dump() | {"datasets": (example.dataset.HYDRIDES,)}
    assert cases.CaseData.model_validate(rules).datasets == ("hydrides",)
    assert len(datasets.load("hydrides")) == 144
    structures = datasets.load(example.dataset.HYDRIDES)
    mini = datasets.load("mini-ani1x")
    water = mini.molecules.index("H2O")
    first = int(np.flatnonzero(mini.molecule == water)[0])
    level = "wb97x/def2-tzvpp"
    mine, theirs = structures.level_index(level), mini.level_index(level)
    np.testing.assert_allclose(structures.energies[0, mine], mini.energies[first, theirs], atol=1e-6)
    np.testing.assert_allclose(structures.forces[mine, :3], mini.forces[theirs, mini.atoms_of([first])], atol=1e-5)
    np.testing.assert_allclose(structures.positions[:3], mini.positions[mini.atoms_of([first])], atol=1e-6)


def test_a_version_makes_other_runs(example: SimpleNamespace) -> None:
    class Second(example.arm.Refined):
        version = "2"

    kind = example.backbone.DISTANCES
    chosen: dict[str, Any] = {"n_high": 50}
    names = {
        experiment("ani1x-tz", arm, backbone_name=backbone, **chosen).name
        for arm in (example.arm.Refined(), Second())
        for backbone in (kind, replace(kind, version="2"))
    }
    assert len(names) == 4
    assert experiment("ani1x-tz", "refined", **chosen).name == experiment("ani1x-tz", Second(), **chosen).name


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda: arms.MF(), None),  # mfbench's own are what they are
        (lambda: BACKBONES[0], None),
        (lambda: cases.case("ladder"), None),
        (lambda: manifest("mini-ani1x"), None),
        (lambda: type("X", (arms.MF.__base__,), {"name": "MF", "plan": lambda *a: ()})(), "an arm .* got 'MF'"),
        (lambda: replace(BACKBONES[0], version="mine"), "a backbone .* got 'hipnn-ts'"),
        (lambda: cases.case("ladder").model_copy(update={"basis": "x"}), "a case .* got 'ladder'"),
        (lambda: manifest("mini-ani1x").model_copy(update={"title": "x"}), "a dataset .* got 'mini-ani1x'"),
        (lambda: Metric("rmse", lambda p, r: 0.0), "a metric .* got 'rmse'"),
        (lambda: Metric("x", lambda p, r: 0.0, ("dipole",)), "expected quantities among .*got 'dipole'"),
        (lambda: "MF", "register: expected an Arm"),
    ],
)
def test_names_of_mfbench_are_taken(thing: Any, message: str | None) -> None:
    if message is None:
        mfbench.register(thing())
        assert not any(extensions._own.values())
        return
    with pytest.raises(UserError, match=message):
        mfbench.register(thing())


def test_a_format_of_its_own_needs_its_reader(example: SimpleNamespace) -> None:
    bare = Dataset(example.dataset.HYDRIDES.manifest, example.dataset.HYDRIDES.folder)
    with pytest.raises(UserError, match=r"format: own: expected a Dataset with a reader, got none"):
        datasets.load(bare)
    with pytest.raises(AssertionError, match="expected a Dataset with a reader"):
        testing.check_dataset(bare)


def test_contracts_can_be_broken(example: SimpleNamespace) -> None:
    def unsound(predicted: np.ndarray, reference: np.ndarray) -> float:
        return float(predicted[0] - reference[0])

    def spoiling(predicted: np.ndarray, reference: np.ndarray) -> float:
        predicted[:] = abs(predicted - reference).max()
        return 0.0

    for value, message in ((unsound, "order"), (spoiling, "changed"), (lambda p, r: float("nan"), "finite number")):
        with pytest.raises(AssertionError, match=message):
            testing.check_metric(Metric("mine", value, ("energy",)))
    mfbench.register(example.dataset.HYDRIDES)
    declared = cases.case(example.case)
    rules = declared.data["mini"]
    for changed, message in (
        ({"high": "wb97x/6-31g*", "low": "wb97x/def2-tzvpp"}, "expected wb97x/def2-tzvpp below"),
        ({"high": "ccsd(t)*/cbs"}, "its datasets hold"),
        ({"data": {"mini": rules.model_copy(update={"sizes": (20, 4000)})}}, "n_high = 4000"),
    ):
        with pytest.raises(AssertionError, match=message):
            testing.check_case(declared.model_copy(update={"name": "broken", **changed}))
    content = example.dataset.HYDRIDES.manifest.model_dump()
    content["labels"][0]["energy"]["unit"] = "kcal/mol"
    wrong = Dataset(Manifest.model_validate(content), example.dataset.HYDRIDES.folder, example.dataset.read)
    with pytest.raises(AssertionError, match="energies, wb97x/6-31g"):
        testing.check_dataset(wrong)


# Metrics


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run, judged by mfbench's own metrics alone."""
    settings = experiment("ani1ccx", "MF", n_high=50, optimisation={"steps": 5, "validations": 1})
    folder = run(settings, tmp_path)
    assert not (folder / EXTRA).exists()
    return folder


def again(folder: Path) -> pd.DataFrame:
    """The run asked for once more: it is finished, and judged by metrics that came later."""
    before = (folder / METRICS_FILE).read_bytes()
    settings = experiment("ani1ccx", "MF", n_high=50, optimisation={"steps": 5, "validations": 1})
    assert run(settings, folder.parent) == folder
    assert (folder / METRICS_FILE).read_bytes() == before
    return load_runs(folder.parent)


def test_a_metric_judges_finished_runs(finished: Path) -> None:
    mfbench.register(
        Metric("my MAE", lambda p, r: np.abs(p - r).mean()),
        Metric("angle", _angle, ("force",), "degrees"),
    )
    table = again(finished)
    keys = ["level", "part", "quantity"]
    wide = table.pivot(index=keys, columns="metric", values="value")
    pd.testing.assert_series_equal(wide["my MAE"], wide["mae"], check_names=False, rtol=1e-12)
    counts = table.pivot(index=keys, columns="metric", values="n")
    assert (counts["my MAE"] == counts["mae"]).all()
    angles = table[table["metric"] == "angle"]
    assert (angles["value"].dropna().between(0, 180)).all()
    # Forces at the high level are there for the test part alone: elsewhere the metric has n = 0 and says why.
    gone = angles[(angles["role"] == "high") & (angles["n"] == 0)]
    assert gone["remark"].str.contains("no force labels").all()
    shown = schema.shown(table)
    assert set(shown.loc[shown["metric"] == "angle", "unit"]) == {"degrees"}
    pair = shown[(shown["quantity"] == "energy") & (shown["n"] > 0)].pivot(
        index=["level", "part"], columns="metric", values="value"
    )
    np.testing.assert_allclose(pair["my MAE"], pair["mae"])


def _angle(predicted: np.ndarray, reference: np.ndarray) -> float:
    cosine = (predicted * reference).sum(1) / np.linalg.norm(predicted, axis=1) / np.linalg.norm(reference, axis=1)
    return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())


def test_metrics_are_shown_without_who_made_them(finished: Path) -> None:
    """Tables explain themselves: where a run is looked at, its metrics need not be installed."""
    mfbench.register(Metric("worst", lambda p, r: np.abs(p - r).max()), Metric("angle", _angle, ("force",), "degrees"))
    again(finished)
    extensions._own["metrics"].clear()
    table = load_runs(finished.parent)
    assert metrics_of(table) == ["mae", "rmse", "worst", "angle"]
    text = text_table(table)
    assert "degrees" in text
    assert "worst" in text
    assert "angle (degrees)" in run_text(read_run(finished))
    html = errors_html(table, "ani1ccx")
    assert "degrees" in html
    assert html.count("<th>worst</th>") == 4
    assert plots.learning_curve(table, "ani1ccx", "energy", "worst").get_dimension("value").label == "Energy worst"
    with pytest.raises(UserError, match="unknown metric 'best'"):
        plots.learning_curve(table, "ani1ccx", "energy", "best")


def test_a_metric_below_zero_has_a_linear_axis(finished: Path) -> None:
    mfbench.register(Metric("bias", lambda p, r: -np.abs(p - r).mean()))
    curve = plots.learning_curve(again(finished), "ani1ccx", "energy", "bias")
    assert plots.hv.Store.lookup_options("bokeh", curve, "plot").kwargs["logy"] is False


def test_a_failing_metric_is_no_number_and_harms_no_other(finished: Path) -> None:
    def broken(predicted: np.ndarray, reference: np.ndarray) -> float:
        raise ZeroDivisionError("nothing there")

    mfbench.register(Metric("broken", broken), Metric("worst", lambda p, r: np.abs(p - r).max()))
    table = again(finished)
    rows = table[(table["metric"] == "broken") & (table["quantity"] == "energy")]
    assert (rows["n"] == 0).all()
    assert rows["value"].isna().all()
    assert rows["remark"].str.startswith("metric 'broken' of energy: ZeroDivisionError: nothing there").all()
    assert (table.loc[(table["metric"] == "worst") & (table["quantity"] == "energy"), "n"] > 0).all()


def test_metrics_of_other_processes_stay(finished: Path) -> None:
    mfbench.register(Metric("one", lambda p, r: 1.0))
    again(finished)
    extensions._own["metrics"].clear()
    mfbench.register(Metric("two", lambda p, r: 2.0))
    table = again(finished)
    assert {"one", "two"} <= set(table["metric"])
    assert table.groupby("metric").size().nunique() == 1  # each once


def test_a_refused_metric_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected quantities"):
        mfbench.register(Metric("x", lambda p, r: 0.0, ("dipole",)))
    assert metrics.known() == []


# Installed


def offer(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str, str]) -> None:
    """Entry points (kind, name, value) in place of those of installed packages."""
    made = [EntryPoint(name, value, f"mfbench.{kind}") for kind, name, value in points]
    monkeypatch.setattr(extensions, "entry_points", lambda group: tuple(p for p in made if p.group == group))


def test_what_is_offered_must_be_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("offering")
    vars(module).update(NUMBER=1, MF=arms.MF, gone=Path("gone.yaml"))
    monkeypatch.setitem(sys.modules, "offering", module)
    kinds = ("arms", "backbones", "cases", "datasets", "metrics")
    offer(monkeypatch, *((kind, "mine", "offering:NUMBER") for kind in kinds))
    finders = dict(zip(kinds, (arms.arm, backbone, cases.case, manifest, metrics.metric)))
    for kind, find in finders.items():
        with pytest.raises(UserError, match=r"called 'mine': expected .* got 1"):
            find("mine")
        assert "mine" in extensions.names(kind)  # type: ignore[arg-type]
    offer(monkeypatch, *((kind, "mine", "no_such_module:X") for kind in kinds))
    for find in finders.values():
        with pytest.raises(UserError, match=r"called 'mine' cannot be imported from no_such_module:X"):
            find("mine")
    offer(monkeypatch, ("arms", "mine", "offering:MF"), ("arms", "twice", "a:B"), ("arms", "twice", "c:D"))
    with pytest.raises(UserError, match="expected an Arm of that name"):
        arms.arm("mine")
    with pytest.raises(UserError, match="is offered by a:B and c:D: remove one"):
        arms.arm("twice")
    with pytest.raises(UserError, match="or one of your own"):
        arms.arm("nowhere")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example package is installed in."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    source = tmp_path_factory.mktemp("source") / "example"
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    subprocess.run([*command, "--no-index", "--target", str(folder), str(source)], check=True)
    return folder


def mfbench_command(site: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(site), str(Path(mfbench.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "mfbench", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_it_is_known_everywhere(site: Path, tmp_path: Path) -> None:
    assert "hydrides: Water, ammonia and methane" in mfbench_command(site, "cases")
    assert "ships with its package" in mfbench_command(site, "data", "list")
    assert str(site) in mfbench_command(site, "data", "where", "hydrides")
    assert "FAILED" not in mfbench_command(site, "data", "check", "hydrides")
    runs, page = tmp_path / "runs", tmp_path / "report.html"
    chosen = ["hydrides", "--arms", "refined", "SF-E", "--n-high", "20", "--backbone", "distances", "--steps", "20"]
    said = mfbench_command(site, "compare", *chosen, "--runs", str(runs), "--out", str(page))
    assert "within 1 kcal/mol" in said
    assert "within 1 kcal/mol" in page.read_text()
    (folder,) = runs.glob("*-refined-*")
    added = read_json(folder / PROVENANCE_FILE)["added"]
    assert added["arms: refined"] == "mfbench-example 0.1.0"
    assert set(added) == {"arms: refined", "backbones: distances", "cases: hydrides", "datasets: hydrides"}
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n")
    chosen = ["predict", str(tmp_path / "water.xyz"), "--run", str(folder), "--level", "wb97x/def2-tzvpp"]
    mfbench_command(site, *chosen, "--out", str(tmp_path / "out.xyz"))
    assert "mfbench_energy" in (tmp_path / "out.xyz").read_text()
