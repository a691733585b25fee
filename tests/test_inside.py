"""Inside a run: the parts that it is made of, the page driven by its parameters, and the page in a browser."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
from panels import served
from predicted import ERRORS, predicted, structures_of, write_predicted
from tables import LEVELS

from mfbench import resources
from mfbench.results.groups import GROUPINGS
from mfbench.results.predictions import Predictions
from mfbench.results.structures import structure_errors
from mfbench.show import parity
from mfbench.show.distributions import distribution, dots, ecdf, grouped
from mfbench.show.scans import scan_curves, scanned
from mfbench.show.scenes import INK
from mfbench.show.structures import NO_POSITIONS, beside, place_text, structure_scene, worst
from mfbench.units import KCAL_PER_EV

LEVEL = LEVELS["ani1x-tz"][1]
COUNT = 60
PAGE = resources.dashboards() / "inside.py"


@pytest.fixture(scope="module")
def runs() -> dict[str, Predictions]:
    return {arm: predicted(COUNT, arm) for arm in ("SF-E", "MF")}


# Single structures


def test_errors_of_structures(runs: dict[str, Predictions]) -> None:
    p = runs["SF-E"]
    table = structure_errors(p, LEVEL)
    assert len(table) == COUNT
    assert table["structure"].tolist() == p.structure.tolist()
    for row in (1, 7, COUNT - 1):
        atoms = slice(p.offsets[row], p.offsets[row + 1])
        error = p.force_predicted[atoms, 1].astype(float) - p.force_reference[atoms, 1].astype(float)
        assert table["force"][row] == pytest.approx(np.sqrt(np.mean(error**2)))
        assert table["energy"][row] == pytest.approx(p.energy_predicted[row, 1] - p.energy_reference[row, 1])
    assert table["force"].isna().tolist() == (~p.force_mask[:, 1]).tolist()
    assert table["energy_relative"].groupby(table["molecule"]).mean().abs().max() < 1e-9
    assert structure_errors(p, LEVELS["ani1x-tz"][0])["energy"].isna().all()  # another level's head
    assert structure_errors(p, LEVEL, "unseen").empty


def test_positions_are_those_of_the_structure(runs: dict[str, Predictions]) -> None:
    p = runs["MF"]
    assert p.row(10) == 0
    assert p.row(9) is None
    rows = [p.positions_of(row) for row in range(COUNT)]
    np.testing.assert_array_equal(np.concatenate(rows), p.positions)
    few = Predictions(**{**vars(p), "shown": np.array([1, 3]), "positions": np.arange(18.0).reshape(6, 3)})
    assert few.positions_of(0) is None
    assert few.positions_of(3)[0, 0] == 9
    assert structure_scene({"MF": few}, 10, LEVEL).message == NO_POSITIONS


def test_the_worst_come_first_with_what_others_make_of_them(runs: dict[str, Predictions]) -> None:
    table = worst(runs, LEVEL, "test", "SF-E")
    assert set(table["structure"][:2]) == {10 + COUNT - 2, 10 + COUNT - 1}
    assert table["SF-E force"].dropna().is_monotonic_decreasing
    own = structure_errors(runs["MF"], LEVEL).set_index("structure")["force"] * KCAL_PER_EV
    assert table["MF force"].to_numpy() == pytest.approx(own.loc[table["structure"]].to_numpy(), nan_ok=True)
    assert worst(runs, LEVEL, "test", "MF", "meV")["MF force"].iloc[0] == pytest.approx(own.max() / KCAL_PER_EV * 1000)
    # Without reference forces the energies decide.
    none = {n: Predictions(**{**vars(p), "force_mask": np.zeros((COUNT, 2), bool)}) for n, p in runs.items()}
    energies = worst(none, LEVEL, "test", "MF")
    relative = structure_errors(none["MF"], LEVEL).set_index("structure")["energy_relative"].abs()
    assert energies["structure"].iloc[0] == relative.idxmax()


def test_a_structure_is_shown_with_forces_on_those_of_the_reference(runs: dict[str, Predictions]) -> None:
    scene = structure_scene(runs, 11, LEVEL)
    assert [one.title for one in scene.molecules] == ["SF-E", "MF"]
    reference, predicted_ = scene.molecules[1].arrows
    p = runs["MF"]
    np.testing.assert_allclose(predicted_.vectors, p.force_predicted[p.atoms(1), 1] * KCAL_PER_EV, rtol=1e-6)
    assert (reference.color, reference.thick, predicted_.color) == (INK, True, "#0072B2")
    assert scene.molecules[1].note.startswith("force RMSE ")
    assert [len(one.arrows) for one in structure_scene(runs, 10, LEVEL).molecules] == [1, 1]  # no reference forces
    assert place_text(p, 11) == "H2O, 300 K, 0.02 Å from what was trained on; structure 11"


def test_runs_beside_each_other(tmp_path: Path) -> None:
    from tables import results_table

    table = results_table(cases=["ani1x-tz"], seeds=(0, 1))
    found = beside(table, 150, 1)
    assert found == {arm: f"ani1x-tz-{arm}-150-1-hipnn-ts" for arm in ("SF-E", "MF", "SF-EF")}
    assert list(beside(table, 50, 0, ["SF-low", "MF"])) == ["SF-low", "MF"]
    two = pd.concat([table, results_table(cases=["ani1x-tz"], arms=["MF"], backbone="painn")])
    assert list(beside(two, 50, 0)) == ["SF-E", "MF (hipnn-ts)", "MF (painn)", "SF-EF"]


# Plots


def test_parity_holds_every_labelled_value(runs: dict[str, Predictions]) -> None:
    found = parity.pairs(runs, LEVEL, "test", "force")
    labelled = int((runs["MF"].force_mask[:, 1] * np.diff(runs["MF"].offsets)).sum()) * 3
    assert found["run"].value_counts().to_dict() == {"SF-E": labelled, "MF": labelled}
    error = (found["predicted"] - found["reference"])[found["run"] == "MF"]
    typical = np.median(np.abs(error)) / 0.6745 / KCAL_PER_EV
    assert typical == pytest.approx(ERRORS["MF"], rel=0.15)
    assert set(found["structure"]) == set(runs["MF"].structure[runs["MF"].force_mask[:, 1]])
    relative = parity.pairs(runs, LEVEL, "test", "energy_relative", "meV")
    assert len(relative) == 2 * COUNT
    assert parity.pairs(runs, LEVEL, "unseen", "energy").empty
    plot = parity.parity(found, "force", level="the level", structure=11)
    kinds = [type(one).__name__ for one in plot]
    assert kinds == ["Curve", "RGB", "Points", "Points"]
    assert len(list(plot)[3]) == 2 * 9  # a ring about each component of one water
    hv.renderer("bokeh").get_plot(plot)


def test_many_values_are_an_image_that_can_be_looked_into() -> None:
    pytest.importorskip("datashader", reason="datashader is not installed")
    many = {arm: predicted(structures_of(parity.MANY), arm) for arm in ("SF-E", "MF")}
    found = parity.pairs(many, LEVEL, "test", "force")
    assert len(found) > parity.MANY
    assert len(parity.points(found)) == 0
    whole, corner = (parity.image(found, window) for window in (None, (500.0, -1000.0, 600.0, -900.0)))
    inked = [int((one.dimension_values("A", flat=False) > 0).sum()) for one in (whole, corner)]
    assert 1000 < inked[0] < 100_000
    assert inked[1] == 0  # nothing is there
    near = found.iloc[5]
    assert parity.nearest(found, near["reference"], near["predicted"], parity.limits(found)) == near["structure"]
    assert parity.nearest(found, 500, -900, parity.limits(found)) is None
    few = found.head(100)
    assert len(parity.points(few)) == 100
    assert not parity.image(few).dimension_values("A").any()


def test_distributions_count_values(runs: dict[str, Predictions]) -> None:
    found = parity.pairs(runs, LEVEL, "test", "force")
    table = distribution(found)
    for name in runs:
        own = found[found["run"] == name]
        errors = (own["predicted"] - own["reference"]).abs()
        half = table[(table["run"] == name) & (table["share"] == 50)]["error"].item()
        assert half == pytest.approx(errors.median())
        assert table[table["run"] == name]["error"].max() == pytest.approx(errors.max())
    hv.renderer("bokeh").get_plot(ecdf(found, "force"))
    hv.renderer("bokeh").get_plot(ecdf(found.head(0), "force"))


@pytest.mark.parametrize("by", GROUPINGS)
def test_groups_stand_in_their_order(runs: dict[str, Predictions], by: Any) -> None:
    table = grouped(runs, by, LEVEL, "test", "force", "mae", "kcal/mol")
    names = [name.partition(" (n = ")[0] for name in dict.fromkeys(table["group"])]
    if by == "distance":
        assert len(names) == 6
        assert names == sorted(names)
    else:
        assert (
            sorted(names)
            == {
                "element": ["C", "H", "O"],
                "molecule": ["CH2O", "H2O"],
                "temperature": ["300", "600"],
            }[by]
        )
    assert table.groupby("run")["n"].sum().nunique() == 1  # each value in one group
    hv.renderer("bokeh").get_plot(dots(table, by, "force", "mae"))


def test_what_cannot_be_grouped_says_why(runs: dict[str, Predictions]) -> None:
    assert "forces alone" in grouped(runs, "element", LEVEL, "test", "energy", "mae", "meV").attrs["reason"]
    old = {name: Predictions(**{**vars(p), "distance": None}) for name, p in runs.items()}
    assert "earlier version" in grouped(old, "distance", LEVEL, "test", "force", "mae", "meV").attrs["reason"]
    hv.renderer("bokeh").get_plot(
        dots(grouped({}, "element", LEVEL, "test", "energy", "mae", "meV"), "element", "energy", "mae")
    )


def test_scans_are_told_from_their_lowest_point() -> None:
    from predicted import scan

    scans = {"SF-E": scan(1.0, LEVEL), "MF": scan(0.2, LEVEL), "SF-EF": scan(1.0, LEVEL).head(0)}
    assert scanned(scans, LEVEL) == {"H2O, bond O0-H1": ("H2O", "bond", "O0-H1")}
    assert scanned(scans, "another") == {}
    curves = scan_curves(scans, LEVEL, ("H2O", "bond", "O0-H1"))
    assert len(curves) == 2 * 30
    assert curves.dimension_values("energy").min() == pytest.approx(0, abs=1e-6)
    assert len(scan_curves(scans, LEVEL, None)) == 0
    for one in (curves, scan_curves({}, LEVEL, None)):
        hv.renderer("bokeh").get_plot(one)


# The page, driven by its parameters

pn = pytest.importorskip("panel", reason="panel is not installed")


@pytest.fixture(scope="module")
def inside() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inside", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_predicted(tmp_path_factory.mktemp("runs"), COUNT)


@pytest.fixture
def view(inside: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MFBENCH_RUNS", str(folder))
    return inside.Inside()


def titles(view: Any) -> list[str]:
    return [one["title"] for one in view.molecules.drawing["molecules"]]


def test_at_first_the_usual_arms_of_the_largest_size_and_their_worst_structure(view: Any) -> None:
    assert (view.n_high, view.seed, view.first) == (150, 0, "SF-E")
    assert titles(view) == ["SF-E", "MF", "SF-EF"]
    assert view.structure in (10 + COUNT - 2, 10 + COUNT - 1)
    assert view.worst.table.value["structure"].iloc[0] == view.structure
    assert view.worst.table.selection == [0]
    assert "150 high-level structures" in view.said.object
    assert "mfbench check RUN" in view.checks.object
    assert view.scan == ("H2O", "bond", "O0-H1")
    assert len(view.curves.plot) == 3 * 30
    view.body.get_root()


def test_a_point_or_a_row_chooses_the_structure(view: Any) -> None:
    view.body.get_root()
    row = view.parity.found.iloc[4]
    view.parity._tapped(row["reference"], row["predicted"])
    near = view.structure
    assert near == parity.nearest(
        view.parity.found, row["reference"], row["predicted"], parity.limits(view.parity.found)
    )
    assert f"structure {near}" in view.place.object
    view.worst.table.param.trigger("value")
    view.worst._clicked(type("Click", (), {"row": 3}))
    assert view.structure == view.worst.table.value["structure"].iloc[3] == view.parity.structure
    assert view.worst.table.selection == [3]
    assert f"structure {view.structure}" in view.place.object


def test_choices_change_what_is_shown(view: Any) -> None:
    view.body.get_root()
    values = len(view.parity.found)
    view.predicted = "energy_relative"
    assert len(view.parity.found) == 3 * COUNT != values
    assert "forces alone" in view.grouping.object
    view.by = "molecule"
    assert set(view.groups.plot.data["run"]) == {"SF-E", "MF", "SF-EF"}
    view.selection.system = "meV"
    assert "meV/Å" in view.molecules.drawing["bar"]["text"]
    assert view.worst.table.titles["force0"] == "Force RMSE (meV/Å)"
    view.selection.arms = ["MF", "SF-low"]
    assert titles(view) == ["SF-low", "MF"]
    assert view.first == "SF-low"
    view.n_high = 50
    assert view.scan is None
    before = view.structure
    view.selection.level = LEVELS["ani1x-tz"][0]
    assert view.level == LEVELS["ani1x-tz"][0]
    assert view.structure == before


def test_an_address_keeps_what_is_looked_at(view: Any, inside: ModuleType) -> None:
    view.n_high = 50
    view.param.update(predicted="energy", by="molecule", structure=13)
    view.selection.system = "meV"
    address = view.query()
    again = inside.Inside(query=address)
    again.follow(address)
    assert (again.n_high, again.predicted, again.by, again.structure) == (50, "energy", "molecule", 13)
    assert again.selection.system == "meV"
    assert "structure 13" in again.place.object
    again.follow("?n_high=7&structure=999&predicted=nothing")
    assert again.n_high == 150
    assert again.structure in view.worst.found["structure"].to_numpy()


def test_a_part_without_structures_and_a_folder_without_runs_say_so(
    view: Any, inside: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.selection.part = "unseen"
    assert view.parity.found.empty
    monkeypatch.setenv("MFBENCH_RUNS", str(tmp_path))
    monkeypatch.setattr(resources, "references", lambda: tmp_path)
    none = inside.Inside()
    assert "no finished runs" in none.said.object
    assert none.molecules.drawing["molecules"] == []
    none.body.get_root()


def test_runs_without_predictions_say_so(inside: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_predicted(tmp_path, COUNT, "ani1ccx", scanned=False, without=["SF-E"])
    monkeypatch.setenv("MFBENCH_RUNS", str(tmp_path))
    view = inside.Inside()
    assert titles(view) == ["MF", "SF-EF"]
    assert "SF-E: no predictions of single structures are kept." in view.said.object


def test_the_page_never_loads_torch(folder: Path) -> None:
    code = (
        "import runpy, sys;"
        f"view = runpy.run_path({str(PAGE)!r})['Inside'](); view.body.get_root();"
        "print(len(view.parity.found) > 0, 'torch' in sys.modules, 'datashader' in sys.modules)"
    )
    environment = os.environ | {"MFBENCH_RUNS": str(folder)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.split() == ["True", "False", "False"]


# In a browser

# A picture of WebGL can be read right after it was drawn: 3Dmol keeps it.
STAGES = """() => { const found = []; const walk = node => { for (const e of node.querySelectorAll('*')) {
    if (e.tagName == 'CANVAS' && e.parentElement?.classList.contains('stage')) {
        const copy = document.createElement('canvas'); [copy.width, copy.height] = [e.width, e.height];
        const context = copy.getContext('2d'); context.drawImage(e, 0, 0);
        const data = context.getImageData(0, 0, copy.width, copy.height).data;
        const ground = [data[0], data[1], data[2]]; let inked = 0;
        for (let i = 0; i < data.length; i += 4)
            if (Math.abs(data[i] - ground[0]) + Math.abs(data[i + 1] - ground[1]) > 60) inked += 1;
        found.push({inked, ground}); }
    if (e.shadowRoot) walk(e.shadowRoot); } }; walk(document); return found; }"""
SHOWN = """() => { const found = []; const walk = node => { for (const e of node.querySelectorAll('figcaption'))
    found.push(e.innerText); for (const e of node.querySelectorAll('*')) if (e.shadowRoot) walk(e.shadowRoot); };
    walk(document); return found; }"""
PARITY = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()]).filter(m => m.type == 'Figure')
    .map(m => [m.below[0].axis_label, m.x_range.start, m.x_range.end]).filter(([label]) => label.includes('CCSD'))[0]
    ?? Bokeh.documents.flatMap(d => [...d._all_models.values()]).filter(m => m.type == 'Figure')
    .map(m => [m.below[0].axis_label, m.x_range.start, m.x_range.end])[0]"""


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with served(PAGE, log=log, environment={"MFBENCH_RUNS": str(folder)}) as address:
        yield f"{address}/inside"
