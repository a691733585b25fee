"""The overview, driven by its parameters without a browser, then it and the report in a real one."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predicted import predicted, write_predicted
from tables import NO_FORCES, error, results_table

from mfbench import resources
from mfbench.results.folder import METRICS_FILE, RunFolder, as_parquet
from mfbench.show.page import write_html

pn = pytest.importorskip("panel", reason="panel is not installed")

PAGE = resources.dashboards() / "overview.py"
KCAL_PER_EV = 23.0605


def write_runs(folder: Path, table: pd.DataFrame) -> Path:
    for run, rows in table.groupby("run"):
        RunFolder(folder / str(run)).finish(rows)
    return folder


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("overview", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_runs(tmp_path_factory.mktemp("runs"), results_table(seeds=(0, 1, 2)))


def overview(page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, **chosen: Any) -> Any:
    monkeypatch.setenv("MFBENCH_RUNS", str(folder))
    view = page.Overview()
    view.selection.param.update(**chosen)
    return view


def shown(view: Any) -> str:
    """All pieces of HTML that are to be seen."""
    return " ".join(pane.object for pane in view.body.select(pn.pane.HTML) if pane.visible)


def drawn(view: Any, which: int) -> pd.DataFrame:
    """What is drawn in a panel: a row for each marker."""
    from holoviews import Scatter

    pane = view.panels[which].view.select(pn.pane.HoloViews)[0]
    scatter = next(one for one in pane.object[()] if isinstance(one, Scatter))
    return scatter.dframe()


def mf_at_50(view: Any, which: int) -> float:
    rows = drawn(view, which)
    return float(rows[(rows["series"] == "MF") & (rows["alpha"] == 1)].set_index("x").loc[50, "value"])


def row_of(view: Any, arm: str, n_high: int) -> pd.Series:
    table = view.table.value
    return table[(table["Arm"] == arm) & (table["High-level labels"] == n_high)].iloc[0]


def test_all_cases_stand_in_cards_and_one_of_them_below(
    page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = overview(page, folder, monkeypatch)
    cards = {card["name"]: card["html"] for card in view.cards.cards}
    assert list(cards) == ["ani1ccx", "ani1x-tz", "rmd17-cc"]
    assert "PBE/def2-SVP → CCSD/cc-pVDZ" in cards["rmd17-cc"]
    for case in cards:
        assert "<b>0.292 ×</b> energy, <b>0.250 ×</b> force" in cards[case]
        assert "MF / SF-E, 50 high-level labels, 3 seeds" in cards[case]
    assert view.cards.chosen == "ani1ccx"
    assert NO_FORCES in shown(view)
    assert "no SF-EF with a number here" in shown(view)
    figures = [one.view.select(pn.pane.HoloViews)[0] for one in view.panels]
    view.cards.chosen = "rmd17-cc"
    assert view.selection.case == "rmd17-cc"
    assert NO_FORCES not in shown(view)
    assert "MF / SF-EF" in shown(view)
    assert [one.view.select(pn.pane.HoloViews)[0] for one in view.panels] == figures  # changed in place


def test_claims_say_ratios_the_best_arm_and_labels_saved_and_what_they_are_made_of(
    page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = overview(page, folder, monkeypatch, case="ani1x-tz")
    energy = view.claims[0].object
    assert "<b>0.292</b> (0.292–0.292), in each of 3 seeds" in energy
    assert "<dt>MF / SF-EF</dt><dd><b>1.25</b>" in energy
    assert "MF is lowest (3 seeds: too few to tell)" in energy
    assert "SF-E needs <b>≥ 3.00</b> × as many" in energy
    assert "n = 240 in each of 6 runs, seeds 0–2." in energy
    assert energy.count("<details") == 4
    view.selection.source = "arms"
    energy = view.claims[0].object
    assert "beyond the seeds’ spread" in energy
    assert "MF+ is best; delta, transfer, zero-shot and MF cannot be told from it (5 seeds)" in energy


def test_gaps_that_some_seeds_lack_are_no_number(
    page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shipped results, new molecules, n = 25: one of five seeds has a gap, and its number is not that of all."""
    view = overview(page, folder, monkeypatch, source="arms", part="unseen")
    row = row_of(view, "MF", 25)
    assert row["Energy: gap closed"].startswith("no gap (")
    assert "0.75" not in row["Energy: gap closed"]


def test_widgets_change_what_is_shown(page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = overview(page, folder, monkeypatch, case="ani1x-tz")
    expected = error("MF", "energy", "mae", 50, 1) * KCAL_PER_EV
    assert mf_at_50(view, 0) == pytest.approx(expected, rel=1e-4)
    assert row_of(view, "MF", 50)["Energy: error"] == pytest.approx(expected, rel=5e-3)
    view.selection.metric = "rmse"
    assert mf_at_50(view, 1) == pytest.approx(error("MF", "force", "rmse", 50, 1) * KCAL_PER_EV, rel=1e-4)
    view.selection.param.update(system="meV", quantity="energy_per_atom", part="unseen")
    expected = error("MF", "energy_per_atom", "rmse", 50, 1, part="unseen") * 1000
    assert mf_at_50(view, 0) == pytest.approx(expected, rel=1e-4)
    assert "RMSE, meV and meV/Å" in shown(view)
    view.selection.param.update(case="rmd17-cc")
    assert drawn(view, 0)["n"].max() == 0  # all of its molecules are trained on
    assert "MF and SF-E of one size and seed" in shown(view)


def test_a_metric_of_ones_own_has_curves_alone(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = results_table(cases=["ani1x-tz"])
    write_runs(tmp_path, table)
    own = table[(table["metric"] == "mae") & (table["n"] > 0)].assign(metric="hit rate", unit="fraction", value=0.5)
    for run, rows in own.groupby("run"):
        RunFolder(tmp_path / str(run)).write_extra(METRICS_FILE, as_parquet(rows))
    view = overview(page, tmp_path, monkeypatch, metric="hit rate")
    assert mf_at_50(view, 0) == 0.5
    assert "no ratios, no intervals" in shown(view)
    view.selection.source = "arms"
    assert view.selection.metric == "mae"
    assert len(view.table.value) > 20


def test_what_is_not_shown_is_said(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_runs(tmp_path, results_table(cases=["ani1x-tz"], seeds=(0, 1)))
    write_runs(tmp_path, results_table(cases=["ani1x-tz"], backbone="painn"))
    view = overview(page, tmp_path, monkeypatch)
    said = view.selection.status()
    assert "Not shown: 7 runs of this case and data (7 of painn, demo)." in said
    assert "network hipnn-ts" in view.heading.object
    view.selection.backbones = ["hipnn-ts", "painn"]
    assert "Not shown" not in view.selection.status()
    assert "curves also of painn, demo" in view.heading.object
    assert set(drawn(view, 0)["series"]) >= {"MF · hipnn-ts", "MF · painn"}


def test_one_broken_run_hides_no_other(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_runs(tmp_path, results_table(cases=["ani1x-tz"]))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / METRICS_FILE).write_text("not Parquet")
    view = overview(page, tmp_path, monkeypatch)
    assert len(view.table.value) == 7
    assert "1 broken: see Runs." in view.selection.status()


def test_without_runs_the_page_says_what_to_do(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "references", lambda: tmp_path)
    view = overview(page, tmp_path / "none", monkeypatch)
    for words in ("mfbench demo", "mfbench run", "MFBENCH_RUNS"):
        assert words in shown(view)
    assert not view.results.visible


def test_the_folder_is_fixed_at_the_start(page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches the server must not name a path on it."""
    view = overview(page, folder, monkeypatch)
    assert all(hasattr(one, "options") for one in view.controls())  # nothing to type in
    with pytest.raises(ValueError, match="does not accept"):
        view.selection.source = str(folder)


def test_what_predicting_nothing_gives_is_a_line(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = overview(page, write_predicted(tmp_path), monkeypatch)
    p = predicted()
    forces = p.force_reference[:, 1][np.repeat(p.force_mask[:, 1], np.diff(p.offsets))].astype(float)
    line = drawn(view, 1).set_index("series").loc["zero", "value"]
    assert np.allclose(line, np.abs(forces).mean() * KCAL_PER_EV)
    assert "zero" not in set(drawn(view, 0)["series"])  # total energies have no such number
    assert "zero" in {entry["name"] for entry in view.legend.entries}
    view.selection.quantity = "energy_relative"
    assert "zero" in set(drawn(view, 0)["series"])


def test_numbers_of_another_level_than_the_model_wear_a_badge(
    page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = overview(page, folder, monkeypatch, case="rmd17-cc")
    words = "judged at CCSD/cc-pVDZ, by its PBE/def2-SVP head"
    assert f"SF-low: {words}</span>" in view.remarks.object
    assert row_of(view, "SF-low", 0)["Level"] == words
    assert row_of(view, "MF", 50)["Level"] == ""


def test_the_legend_hides_arms_and_the_address_keeps_them(
    page: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = overview(page, folder, monkeypatch, case="ani1x-tz")
    view.legend.hidden = ["SF-low", "SF-EF"]
    assert view.selection.arms == ["SF-E", "MF"]
    assert set(drawn(view, 0)["series"]) - {""} == {"SF-E", "MF"}
    assert set(view.table.value["Arm"]) == {"SF-E", "MF"}
    assert "1.25" in view.claims[0].object  # of all arms, whatever is hidden
    from mfbench.show.selection import Selection
    from mfbench.show.shell import libraries

    again = page.Overview(Selection(libraries(), view.query()))
    assert again.legend.hidden == ["SF-low", "SF-EF"]
    view.legend.hidden = []
    assert view.selection.arms == []


def test_a_widget_answers_in_time_with_300_runs(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms, sizes = ("SF-E", "MF", "SF-EF"), (25, 50, 100, 200)
    write_runs(tmp_path, results_table(["ani1x-tz"], arms, sizes, seeds=range(25)))
    view = overview(page, tmp_path, monkeypatch)
    view.body.get_root()
    taken = {}
    choices = {"system": ["meV", "kcal/mol"], "metric": ["rmse", "mae"], "part": ["unseen", "test"]}
    for name, values in choices.items():
        for value in values * 2:
            start = time.process_time()
            setattr(view.selection, name, value)
            taken[name] = min(taken.get(name, 9.0), time.process_time() - start)
    assert max(taken.values()) < 0.6, taken  # twice what a person is promised: a test shares its machine


def test_the_page_never_loads_torch(folder: Path) -> None:
    code = (
        f"import runpy, sys; view = runpy.run_path({str(PAGE)!r})['Overview']();"
        "print(len(view.table.value), 'torch' in sys.modules)"
    )
    environment = os.environ | {"MFBENCH_RUNS": str(folder)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    rows, torch = answer.stdout.split()
    assert int(rows) > 0
    assert torch == "False"


# In a browser


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "panel", "serve", str(PAGE), "--port", str(port)]
    log = tmp_path_factory.mktemp("server") / "log"
    with open(log, "w") as out:
        environment = os.environ | {"MFBENCH_RUNS": str(folder)}
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    address = f"http://localhost:{port}/overview"
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(address, timeout=20).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait(10)


# The figures' texts are painted on canvases: ask bokeh's models, and the canvas whether it has any ink.
AXIS_LABELS = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type == 'LogAxis').map(m => m.axis_label)"""
FIGURES = """() => { const found = []; const walk = node => { for (const e of node.querySelectorAll('*')) {
    if (e.classList.contains('bk-Figure')) found.push(e.getBoundingClientRect().toJSON());
    if (e.shadowRoot) walk(e.shadowRoot); } }; walk(document); return found; }"""
INK = """() => { let inked = 0; const walk = node => { for (const e of node.querySelectorAll('*')) {
    if (e.tagName == 'CANVAS' && e.width > 100 && e.height) {  // smaller ones are in legends
        const data = e.getContext('2d').getImageData(0, 0, e.width, e.height).data;
        let blue = 0; for (let i = 0; i < data.length; i += 4)
            if (data[i] == 0 && data[i + 1] == 114 && data[i + 2] == 178 && data[i + 3] == 255) blue += 1;
        if (blue > 100) inked += 1; }
    if (e.shadowRoot) walk(e.shadowRoot); } }; walk(document); return inked; }"""
RANGES = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type == 'Range1d').map(m => [m.start, m.end])"""


def ready(tab: Any) -> None:
    tab.wait_for_function(
        f"() => window.Bokeh && Bokeh.documents.length && ({AXIS_LABELS})().length == 4", timeout=60_000
    )
    tab.wait_for_function(f"() => ({INK})() == 2")  # MF's blue, in two figures
    tab.get_by_role("button", name="rmd17-cc").wait_for()


@pytest.mark.browser
def test_claims_and_curves_are_on_the_first_screen(tab: Any, server: str) -> None:
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.goto(f"{server}?case=rmd17-cc")
    ready(tab)
    assert tab.get_by_text("Best arm").first.is_visible()
    tab.wait_for_function(f"() => ({FIGURES})().every(f => f.top > 0 && f.bottom <= innerHeight)")
    assert len(tab.evaluate(FIGURES)) == 2
    assert tab.troubles == []


@pytest.mark.browser
def test_cards_widgets_and_links(tab: Any, server: str) -> None:
    tab.goto(server)
    ready(tab)
    assert "Energy MAE (kcal/mol)" in tab.evaluate(AXIS_LABELS)
    tab.get_by_role("button", name="ani1x-tz").click()
    tab.wait_for_function("() => location.search.includes('case=ani1x-tz')")
    tab.get_by_role("button", name="ani1x-tz", pressed=True).wait_for()
    tab.get_by_text("MF / SF-EF").first.wait_for()
    tab.get_by_role("combobox", name="Unit").click()
    tab.get_by_role("menuitem", name="meV").click()
    tab.wait_for_function(f"() => ({AXIS_LABELS})().includes('Force component MAE (meV/Å)')")
    expected = error("MF", "energy", "mae", 50, 1) * 1000
    tab.get_by_role("gridcell", name=f"{expected:.3g}", exact=True).first.wait_for()
    tab.get_by_label("What is MF / SF-E?").first.click()
    assert tab.get_by_text("in each of 6 runs, seeds 0–2.").first.is_visible()
    link = tab.url
    tab.goto("about:blank")
    tab.goto(link)
    ready(tab)
    tab.get_by_role("button", name="ani1x-tz", pressed=True).wait_for()
    assert "Force component MAE (meV/Å)" in tab.evaluate(AXIS_LABELS)
    assert tab.troubles == []


@pytest.mark.browser
def test_the_wheel_over_a_plot_scrolls_the_page(tab: Any, server: str) -> None:
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.goto(server)
    ready(tab)
    before, (figure, *_) = tab.evaluate(RANGES), tab.evaluate(FIGURES)
    tab.mouse.move(figure["x"] + figure["width"] / 2, figure["y"] + 100)
    tab.mouse.wheel(0, 300)
    tab.wait_for_function(f"() => ({FIGURES})()[0].y < {figure['y'] - 100}")
    assert tab.evaluate(RANGES) == before


@pytest.mark.browser
@pytest.mark.parametrize("width", [1920, 768, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_at_any_width(browser: Any, server: str, width: int, scheme: str) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.troubles = []
    tab.on("pageerror", lambda e: tab.troubles.append(str(e)))
    try:
        tab.goto(server)
        ready(tab)
        tab.wait_for_function(f"() => ({FIGURES})().every(f => f.right <= innerWidth && f.width > 250)")
        for entry in tab.get_by_role("group", name="Arms: show or hide").get_by_role("button").all():
            box = entry.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= width
        assert tab.evaluate("document.documentElement.scrollWidth") <= width + 1
        assert tab.troubles == []
    finally:
        tab.close()


@pytest.mark.browser
def test_report_in_a_browser_without_a_network(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html(results_table(seeds=(0, 1, 2)), path, {"device": "test"})
    tab.context.set_offline(True)
    tab.goto(path.as_uri())
    tab.wait_for_function(f"() => ({INK})() == 10")
    before, (figure, *_) = tab.evaluate(RANGES), tab.evaluate(FIGURES)
    tab.mouse.move(figure["x"] + figure["width"] / 2, min(figure["y"] + figure["height"] / 2, 990))
    tab.mouse.wheel(0, 300)  # over a plot: the page scrolls, and the plot stays
    tab.wait_for_function("() => scrollY > 100")
    assert tab.evaluate(RANGES) == before
    for width, columns in ((1400, 2), (420, 1)):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.wait_for_function(f"() => new Set(({FIGURES})().map(f => Math.round(f.x))).size == {columns}")
        tab.wait_for_function(f"() => ({FIGURES})().every(f => f.right <= innerWidth)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width + 1  # newer browsers round it up
    assert tab.troubles == []
