"""Learning curves: what is drawn, that a live figure changes in place, and their page, without and in a browser."""

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
from tables import LAWS, NO_FORCES, error, results_table

from mfbench import resources
from mfbench.errors import UserError
from mfbench.results.curves import POINTS, Curves, cost_unit, curves, ratios
from mfbench.results.evidence import Evidence
from mfbench.results.folder import RunFolder
from mfbench.results.rows import recipe_settings
from mfbench.results.summary import summary
from mfbench.show import plots, scaling
from mfbench.show.html import key_html

KCAL_PER_EV = 23.0605
PAGE = resources.dashboards() / "curves.py"


def point(found: Curves, arm: str, n_high: int) -> pd.Series:
    return found.points[(found.points["arm"] == arm) & (found.points["n_high"] == n_high)].iloc[0]


# What is drawn


def test_a_point_is_the_mean_over_seeds_with_their_range_and_interval() -> None:
    table = results_table(cases=["ani1x-tz"], seeds=range(5))
    found = curves(table, "ani1x-tz", "energy", spread=summary(table, "ani1x-tz"))
    assert list(found.points.columns) == list(POINTS)
    one = point(found, "MF", 50)
    middle, least, most = (error("MF", "energy", "mae", 50, seed) * KCAL_PER_EV for seed in (2, 0, 4))
    assert one[["x", "value", "least", "most"]].tolist() == pytest.approx([50, middle, least, most], rel=1e-4)
    assert least < one["low"] < middle < one["high"] < most * 1.1
    assert one[["seeds", "runs", "n"]].tolist() == [5, 5, 240]
    assert len(found.runs[found.runs["arm"] == "MF"]) == 10
    without = curves(table, "ani1x-tz", "energy")
    assert without.points["low"].isna().all()


def test_what_is_missing_is_a_row_with_its_reason() -> None:
    found = curves(results_table(), "ani1ccx", "force")
    rows = found.points[found.points["arm"] == "SF-EF"]
    assert rows[["n", "seeds"]].to_numpy().tolist() == [[0, 0]] * 2
    assert set(rows["remark"]) == {NO_FORCES}
    assert plots.missing_arms(found) == {"SF-EF": NO_FORCES}
    assert "SF-EF" not in set(found.runs["arm"])


def test_curves_of_two_networks_are_series_of_their_own() -> None:
    both = pd.concat([results_table(cases=["ani1x-tz"]), results_table(cases=["ani1x-tz"], backbone="painn")])
    found = curves(both, "ani1x-tz", "energy", by=("backbone",))
    assert {"MF · hipnn-ts", "MF · painn"} < set(found.points["series"])
    marks = plots.draw(found).get(1).dframe()
    mf = marks[(marks["series"].str.startswith("MF")) & (marks["alpha"] == 1)]
    assert mf["color"].nunique() == mf["marker"].nunique() == 1
    assert set(mf.groupby("series")["fill"].first()) == {0.0, 1.0}
    lines = plots.draw(found).get(0).dframe()
    dashes = lines[lines["series"].str.startswith("MF") & (lines["alpha"] == 1)].groupby("series")["dash"].first()
    assert set(dashes) == {"solid", "dashed"}
    with pytest.raises(UserError, match=r"one \(data, backbone, preset\)"):
        curves(both, "ani1x-tz", "energy")


def test_intervals_of_several_networks_are_each_its_own() -> None:
    tables = [results_table(cases=["ani1x-tz"], seeds=range(5), backbone=name) for name in ("hipnn-ts", "painn")]
    tables[1]["value"] *= 2.0
    spread = pd.concat([summary(one, "ani1x-tz").assign(backbone=one["backbone"].iloc[0]) for one in tables])
    found = curves(pd.concat(tables), "ani1x-tz", "energy", by=("backbone",), spread=spread).points
    mf = found[(found["arm"] == "MF") & (found["n_high"] == 50)].set_index("rest")
    assert mf.loc["painn", "low"] == pytest.approx(2 * mf.loc["hipnn-ts", "low"])


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [
        ([20, 9000], "core-seconds"),
        ([90.0], "core-minutes"),
        ([4e3, 9e9], "core-hours"),
        ([1e5], "core-days"),
        ([], "core-seconds"),
    ],
)
def test_costs_are_in_a_unit_that_reads_well(seconds: list[float], unit: str) -> None:
    assert cost_unit(seconds) == unit


def test_against_cost_a_point_stands_at_what_its_labels_cost() -> None:
    table = results_table(cases=["ani1x-tz"])
    table["label_seconds"] = table["n_high"] * 3600.0 + table["n_low"] * 18.0
    table.loc[table["arm"] == "SF-E", "label_seconds"] = np.nan
    found = curves(table, "ani1x-tz", "force", against="label_seconds")
    assert found.against_unit == "core-hours"
    assert point(found, "MF", 50)["x"] == pytest.approx(55)
    assert point(found, "SF-low", 0)["x"] == pytest.approx(5)
    assert "label cost is not known: SF-E" in " ".join(plots.notes(found))
    figure = hv.render(plots.draw(found), backend="bokeh")
    assert figure.xaxis[0].axis_label == "Label cost (core-hours)"


def test_ratios_are_paired_by_seed() -> None:
    table = results_table(cases=["ani1x-tz"], seeds=range(5))
    own = Evidence(table, "ani1x-tz")
    found = ratios(curves(table, "ani1x-tz", "energy"), "SF-E", own.differences)
    one = point(found, "MF", 50)
    assert one[["value", "least", "most"]].tolist() == pytest.approx([0.35 / 1.2] * 3, rel=1e-5)
    assert (one["seeds"], found.over) == (5, "SF-E")
    (line,) = found.points[found.points["arm"] == "SF-E"].to_dict("records")
    assert (line["value"], np.isnan(line["x"])) == (1.0, True)
    assert hv.render(plots.draw(found), backend="bokeh").yaxis[0].axis_label == "Energy MAE / SF-E’s"


def test_ratios_to_an_arm_that_is_not_there_are_none() -> None:
    found = ratios(curves(results_table(), "ani1x-tz", "energy"), "delta")
    assert found.points.empty
    assert found.runs.empty


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("demo", {}),
        ("demo (steps=60)", {"steps": "60"}),
        ("demo (widths=(8, 8), lr=0.1)", {"widths": "(8, 8)", "lr": "0.1"}),
    ],
)
def test_settings_that_differ_from_a_preset(preset: str, settings: dict[str, str]) -> None:
    assert recipe_settings(preset) == settings


def test_a_key_tells_dashes_only_where_there_is_something_to_tell() -> None:
    assert key_html([""]) == key_html(["demo"]) == ""
    key = key_html(["<b>", "demo"])
    assert "&lt;b&gt;" in key
    assert "stroke-dasharray" in key


# A live figure


def test_a_live_figure_changes_in_place_labels_ticks_ranges_and_all() -> None:
    table = results_table(seeds=(0, 1, 2), sizes=(40, 400, 4000))
    sent = hv.streams.Pipe(data=curves(table, "rmd17-cc", "energy"))
    plot = hv.renderer("bokeh").get_plot(hv.DynamicMap(lambda data: plots.draw(data), streams=[sent]))
    figure, renderers = plot.state, list(plot.state.renderers)

    def shown() -> tuple[Any, ...]:
        x, y = figure.xaxis[0], figure.yaxis[0]
        ticks = [x.major_label_overrides[tick] for tick in x.ticker.ticks]
        return x.axis_label, y.axis_label, ticks, figure.y_range.end / figure.y_range.start

    assert shown()[:3] == ("High-level structures", "Energy MAE (kcal/mol)", ["40", "400", "4,000"])
    before = figure.y_range.end
    for found, label in (
        (curves(table, "ani1ccx", "force", "rmse", "meV"), "Force component RMSE (meV/Å)"),
        (curves(table, "rmd17-cc", "energy", part="unseen"), "Energy MAE (kcal/mol)"),
        (
            curves(results_table(sizes=(50,)), "ani1x-tz", "force").without(["SF-E", "SF-low"]),
            "Force component MAE (kcal/mol/Å)",
        ),
    ):
        sent.send(found)
        assert shown()[1] == label
        assert list(figure.renderers) == renderers
    assert shown()[2] == ["50"]
    assert figure.y_range.end != before
    drawn = [set(one.data_source.data["color"]) for one in renderers]
    assert "#0072B2" in drawn[1]
    assert "#D55E00" not in set.union(*drawn)


def test_columns_of_a_live_figure_stay_columns() -> None:
    """Of a column of equal values HoloViews makes a constant, after which bokeh looks for the column in vain."""
    figure = hv.render(plots.draw(curves(results_table(arms=["MF"]), "ani1x-tz", "energy")), backend="bokeh")
    for renderer in figure.renderers:
        for name in ("line_color", "line_alpha", "line_dash", "line_width", "size", "marker", "fill_alpha"):
            spec = getattr(renderer.glyph, name, None)
            if hasattr(spec, "field") and spec.field:
                assert spec.field in renderer.data_source.data


def test_tools_leave_the_wheel_to_the_page() -> None:
    figure = hv.render(plots.draw(curves(results_table(), "ani1x-tz", "energy")), backend="bokeh")
    tools = {type(tool).__name__ for tool in figure.toolbar.tools}
    assert tools == {"BoxZoomTool", "ResetTool", "SaveTool", "HoverTool"}
    assert figure.toolbar.active_drag is None


# In numbers


def test_numbers_of_curves_in_words_and_tables() -> None:
    table = results_table(cases=["ani1x-tz"], seeds=range(5), sizes=(25, 50, 100, 400))
    own = Evidence(table, "ani1x-tz")
    shown = scaling.section("<case>", ("mini", "hipnn-ts", "demo"), own, ("energy", "force"), "MF", "SF-E")
    assert "&lt;case&gt;" in shown
    assert "n = 25: MF’s energy error is 0.292" in shown
    times = (LAWS["energy"]["SF-E"][0] / LAWS["energy"]["MF"][0]) ** 2
    assert f"SF-E needs {times:.1f}" in shown
    assert "-0.50 [-0.50, -0.50]" in shown
    assert "No two curves cross" in shown
    assert shown.count("<h3>") == 4
    assert scaling.slopes_html(Evidence(results_table(sizes=(50,)), "ani1x-tz"), ("energy",)) == ""


def test_a_crossing_is_told_with_where() -> None:
    table = results_table(cases=["ani1x-tz"], arms=["SF-E", "MF"], seeds=range(5), sizes=(25, 100))
    late = (table["arm"] == "MF") & (table["n_high"] == 100)
    table.loc[late, "value"] = table.loc[late, "value"] * 10
    shown = scaling.crossings_html(Evidence(table, "ani1x-tz"), ("energy",))
    assert "Energy: MF is lower below n = " in shown
    assert "SF-E above (5 seeds)" in shown


# The page


def load_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("curves_page", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    table = pd.concat(
        [
            results_table(seeds=(0, 1, 2)),
            results_table(cases=["ani1x-tz"], backbone="painn"),
            results_table(cases=["ani1x-tz"], arms=["MF"]).assign(
                preset="demo (steps=60)", run=lambda rows: rows["run"] + "-60"
            ),
        ]
    )
    for run, rows in table.groupby("run"):
        RunFolder(folder / str(run)).finish(rows)
    return folder


@pytest.fixture
def page(runs_of_all: Path) -> Any:
    pytest.importorskip("panel", reason="panel is not installed")
    from mfbench.results.library import Library
    from mfbench.show.selection import Selection

    selection = Selection({"runs": lambda: Library.of_folder(runs_of_all)})
    selection.case = "ani1x-tz"
    return load_page().LearningCurves(selection)


def test_the_page_shows_energies_beside_forces(page: Any) -> None:
    ((energy, force),) = page.shown
    assert (energy.quantity, force.quantity) == ("energy", "force")
    assert point(energy, "MF", 50)["value"] == pytest.approx(
        error("MF", "energy", "mae", 50, 1) * KCAL_PER_EV, rel=1e-4
    )
    assert [entry["name"] for entry in page.legend.entries] == ["SF-low", "SF-E", "MF", "SF-EF"]
    assert "MF’s energy error is" in page.numbers.object


def test_widgets_change_the_curves(page: Any) -> None:
    page.selection.system, page.selection.metric, page.selection.quantity = "meV", "rmse", "energy_per_atom"
    ((energy, _),) = page.shown
    expected = error("MF", "energy_per_atom", "rmse", 50, 1) * 1000
    assert point(energy, "MF", 50)["value"] == pytest.approx(expected, rel=1e-4)
    page.over = "ratio"
    assert page.shown[0][0].over == "SF-E"
    page.other = "SF-EF"
    assert page.shown[0][0].over == "SF-EF"
    page.against = "label_seconds"
    assert page.shown[0][0].against == "label_seconds"


def test_cases_networks_presets_and_hyper_parameters_stand_side_by_side(page: Any) -> None:
    page.beside = "case"
    assert [one.case for one in page.facets] == ["ani1ccx", "ani1x-tz", "rmd17-cc"]
    assert [entry["name"] for entry in page.legend.entries] == ["SF-low", "SF-E", "MF", "SF-EF"]
    page.selection.backbones, page.beside = ["hipnn-ts", "painn"], "backbone"
    assert [one.heading for one in page.facets] == ["hipnn-ts", "painn"]
    page.beside = ""
    assert {"MF · hipnn-ts", "MF · painn"} <= set(page.shown[0][0].points["series"])
    assert "painn" in page.legend.key
    page.selection.backbones, page.selection.presets = ["hipnn-ts"], ["demo", "demo (steps=60)"]
    assert "steps" in page.param.beside.objects
    page.beside = "steps"
    assert [one.heading for one in page.facets] == ["steps: as in the preset", "steps: 60"]


def test_the_legend_hides_an_arm_in_all_panels(page: Any) -> None:
    page.beside = "case"
    page.legend.hidden = ["SF-E"]
    assert page.hidden == ["SF-E"]
    assert all("SF-E" not in set(one.points["arm"]) for pair in page.shown for one in pair)
    assert "SF-E" in [entry["name"] for entry in page.legend.entries]
    assert "SF-E" not in set(page.points()["arm"])


def test_an_arm_without_a_number_anywhere_says_why(page: Any) -> None:
    page.selection.case = "ani1ccx"
    (entry,) = [one for one in page.legend.entries if one["name"] == "SF-EF"]
    assert "n = 0" in entry["label"]
    assert entry["note"] == NO_FORCES


def test_an_address_restores_the_page(page: Any) -> None:
    page.beside, page.against, page.hidden = "case", "label_seconds", ["MF"]
    query = page.query()
    other = type(page)(page.selection, query)
    assert (other.beside, other.against, other.hidden) == ("case", "label_seconds", ["MF"])
    assert other.query() == query


def test_what_is_shown_can_be_taken_away(page: Any) -> None:
    name, content = page.away.file("csv")
    assert name == "learning-curves.csv"
    assert b"MF" in content
    assert page.away.file("svg")[1].startswith(b"<?xml")


def test_the_page_never_loads_torch(runs_of_all: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(PAGE)!r})['LearningCurves'](); print('torch' in sys.modules)"
    environment = {**os.environ, "MFBENCH_RUNS": str(runs_of_all)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == "False"


# In a browser

AXES = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()]).filter(m => m.type == 'LogAxis')
    .map(m => m.axis_label)"""
# Colours of what figures hold, those that are shown.
COLOURS = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()]).filter(m => m.type == 'GlyphRenderer')
    .map(m => m.data_source.data).filter(d => d.get ? d.get('marker') : d.marker)
    .map(d => [...new Set([...(d.get ? d.get('fill_color') ?? d.get('color') : d.fill_color ?? d.color)])])"""


@pytest.fixture(scope="module")
def address(runs_of_all: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from panels import served

    log = tmp_path_factory.mktemp("server") / "log"
    with served(PAGE, log=log, environment={"MFBENCH_RUNS": str(runs_of_all)}) as found:
        yield f"{found}/curves"


@pytest.mark.browser
def test_the_page_in_a_browser(tab: Any, address: str) -> None:
    tab.set_default_timeout(60_000)
    tab.goto(f"{address}?case=ani1x-tz")
    tab.wait_for_function(f"() => window.Bokeh && Bokeh.documents.length && ({AXES})().length == 4")
    assert "Energy MAE (kcal/mol)" in tab.evaluate(AXES)
    legend = tab.get_by_role("group", name="Arms")
    legend.get_by_role("button", name="SF-E", exact=True).click()  # gone from all panels
    tab.wait_for_function(f"() => ({COLOURS})().every(colours => !colours.includes('#D55E00'))")
    assert all("#0072B2" in colours for colours in tab.evaluate(COLOURS))
    tab.wait_for_function("() => location.search.includes('hidden')")
    tab.keyboard.press("Enter")  # the button has the focus still
    tab.wait_for_function(f"() => ({COLOURS})().every(colours => colours.includes('#D55E00'))")

    tab.get_by_label("Unit").click()
    tab.get_by_role("menuitem", name="meV").click()
    tab.wait_for_function(f"() => ({AXES})().includes('Force component MAE (meV/Å)')")
    tab.wait_for_function("() => location.search.includes('meV')")
    tab.mouse.move(900, 500)
    tab.mouse.wheel(0, 300)
    tab.wait_for_function("() => document.querySelector('.main-content')?.scrollTop > 50 || scrollY > 50")
    link = tab.evaluate("location.href")
    tab.goto("about:blank")
    tab.goto(link)
    tab.wait_for_function(f"() => window.Bokeh && Bokeh.documents.length && ({AXES})().includes('Energy MAE (meV)')")
    assert tab.troubles == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_curves_are_within_the_window_in_light_and_dark(browser: Any, address: str, width: int, scheme: str) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.set_default_timeout(60_000)
    tab.goto(f"{address}?beside=case")
    tab.wait_for_function(f"() => window.Bokeh && Bokeh.documents.length && ({AXES})().length == 12")
    boxes = """() => { const found = []; const walk = node => { for (const e of node.querySelectorAll('*')) {
        if (e.classList.contains('bk-Figure')) found.push(e.getBoundingClientRect().toJSON());
        if (e.shadowRoot) walk(e.shadowRoot); } }; walk(document); return found.filter(box => box.width); }"""
    tab.wait_for_function(f"() => ({boxes})().length == 6 && ({boxes})().every(box => box.right <= innerWidth)")
    columns = len({round(box["x"]) for box in tab.evaluate(boxes)})
    assert columns == (3 if width > 900 else 1)
    legend = tab.get_by_role("group", name="Arms")
    bright = "e => getComputedStyle(e).color.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) > 380"
    assert legend.evaluate(bright) == (scheme == "dark")
    tab.close()
