"""The pages of runs and of trainings: driven by their parameters without a browser, then in a real one."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from sealing import as_run
from test_results import row, table

from mfbench import resources
from mfbench.files import write_json
from mfbench.results.folder import RunFolder
from mfbench.results.library import Library
from mfbench.results.locks import locked
from mfbench.show.histories import MOST_DECADES, draw, levels_of, lines, whole

pn = pytest.importorskip("panel", reason="panel is not installed")

from panels import served  # noqa: E402

from mfbench.show.selection import Selection  # noqa: E402

EVIL = '<img src=x onerror="document.title=1">'

SETTINGS = {"case": "rmd17-cc", "data": "mini", "arm": "MF", "backbone": "hipnn-ts", "preset": "demo", "n_high": 100}

LOW, HIGH = "pbe/def2-svp", "ccsd/cc-pvdz"


def load_page(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, resources.dashboards() / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def look(step: int, stage: int = 0, **more: float) -> dict[str, float]:
    """A row of a history; errors of 10 kcal/mol that fall as 1/step."""
    errors = {f"{level} {what} mae": 1000.0 / step for level in (LOW, HIGH) for what in ("energy", "force")}
    common = {"step": float(step), "seconds": step / 10, "loss": 100.0 / step, "learning_rate": 1e-3}
    return {**common, **errors, "selected": 1.0, "stage": float(stage), **more}


def finished(runs: Path, name: str, arm: str = "MF", seed: int = 0, value: float = 0.1) -> RunFolder:
    folder = RunFolder(runs / name)
    folder.path.mkdir(parents=True)
    history = pd.DataFrame([look(step) for step in (100, 200, 300)])
    folder.file("history.csv").write_bytes(history.to_csv(index=False).encode())
    write_json(folder.file("settings.json"), {**SETTINGS, "arm": arm, "seed": seed, "optimisation": {"steps": 300}})
    rows = [row(arm, value, seed=seed, metric=metric, steps=300) for metric in ("mae", "rmse")]
    folder.finish(as_run(table(*rows), name))
    return folder


def unfinished(runs: Path, name: str, step: int, seed: int = 0) -> RunFolder:
    """A run that is being trained: settings, and a checkpoint with its history."""
    folder = RunFolder(runs / name)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.file("settings.json"), {**SETTINGS, "seed": seed, "optimisation": {"steps": 300}})
    looks = [{key: value for key, value in look(n).items() if key != "stage"} for n in range(20, step + 1, 20)]
    said = {"step": step, "seconds": step / 10, "history": looks}
    content = safetensors.numpy.save({"a": np.zeros(1)}, {"state": json.dumps(said)})
    folder.file("checkpoint-0.safetensors").write_bytes(content)
    return folder


@pytest.fixture
def three(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MFBENCH_RUNS", str(runs))
    finished(runs, "one")
    finished(runs, "two", "SF-E", value=0.3)
    unfinished(runs, EVIL.replace("/", ""), 100, seed=1)
    broken = finished(runs, "bad")
    broken.file("metrics.parquet").write_bytes(b"")
    return runs


def selection(runs: Path) -> Selection:
    return Selection({"runs": lambda: Library.of_folder(runs), "demo": lambda: Library.shipped("demo")})


# Histories


def test_stages_follow_each_other() -> None:
    rows = [look(100), look(200), look(50, stage=1), look(100, stage=1), look(1, stage=2, seconds=0)]
    found = whole(pd.DataFrame(rows))
    assert found["step"].tolist() == [100, 200, 250, 300, 301]
    assert found["seconds"].tolist() == [10, 20, 25, 30, 30]
    np.testing.assert_allclose(found["throughput"].iloc[:4], 10.0)
    assert np.isnan(found["throughput"].iloc[4])


def test_lines_are_in_the_unit_that_is_asked_for() -> None:
    histories = {"a": whole(pd.DataFrame([look(100), look(200)]))}
    assert levels_of(histories) == sorted([LOW, HIGH])
    found = lines(histories, {"a": "MF"}, "energy", "kcal/mol")
    assert found["value"].tolist() == [10.0, 5.0, 10.0, 5.0]
    assert set(found["level"]) == {LOW, HIGH}
    meV = lines(histories, {"a": "MF"}, "force", "meV", "seconds")
    np.testing.assert_allclose(meV["value"], found["value"] * 43.3641, rtol=1e-5)
    assert meV["x"].tolist() == [10.0, 20.0, 10.0, 20.0]
    assert lines(histories, {"a": "MF"}, "loss", "meV")["value"].tolist() == [1.0, 0.5]
    long = {"a": whole(pd.DataFrame([look(step) for step in range(1, 2001)]))}
    thinned = lines(long, {"a": "MF"}, "loss", "meV")
    assert len(thinned) <= 400
    assert thinned["x"].iloc[[0, -1]].tolist() == [1, 2000]


def test_a_figure_of_histories_always_has_the_same_elements() -> None:
    import holoviews as hv

    hv.extension("bokeh")
    histories = {"a": whole(pd.DataFrame([look(100), look(200, learning_rate=1e-12)]))}
    for what in ("energy", "learning_rate"):
        table = lines(histories, {"a": "MF"}, what, "kcal/mol")
        figure = draw(table, levels_of(histories), what)
        assert [type(one) for one in figure] == [hv.Segments, hv.Scatter]
        assert [type(one) for one in draw(table[:0], [], what)] == [hv.Segments, hv.Scatter]
    low, high = figure.opts.get("plot").kwargs["ylim"]
    assert low == pytest.approx(high / MOST_DECADES)


# The page of runs


def test_what_is_chosen_is_shown_and_compared(three: Path) -> None:
    page = load_page("runs").Runs(selection(three))
    assert page.table.value["state"].tolist() == ["unfinished", "broken", "finished", "finished"]
    assert page.query() == ""
    page.choose("one")
    assert "<h2>one</h2>" in page.detail.object
    assert page.making.visible
    page.choose("two")
    assert (page.run, page.compared) == ("one", "two")
    assert "3.00" in page.detail.object  # 0.3 to 0.1
    assert "optimisation" not in page.detail.object.partition("Judged at")[0]  # where they are the same
    assert not page.making.visible
    assert page.query() == "?run=one&compared=two"
    assert page.table.value["shown"].tolist() == ["", "", "①", "②"]
    page.choose("one")
    assert (page.run, page.compared) == ("two", "")
    page.choose("bad")
    page.choose("two")
    assert "metrics.parquet: expected sha256" in page.detail.object
    page.choose("bad")
    page.choose(EVIL)
    assert "<img" not in page.detail.object
    again = load_page("runs").Runs(selection(three), "?run=one&compared=../../etc")
    assert "<h2>one</h2>" in again.detail.object


def test_runs_are_deleted_after_asking_where_people_may(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MFBENCH_MAY_DELETE", raising=False)
    page = load_page("runs").Runs(selection(three))
    page.choose("one")
    assert not page.delete.visible
    page.asking.visible = page.delete.visible = True  # as a browser of ill will might say
    page._delete()
    assert (three / "one").is_dir()
    monkeypatch.setenv("MFBENCH_MAY_DELETE", "1")
    page.choose("one")
    page.choose("one")
    assert page.delete.visible
    page._delete()  # nobody was asked
    assert (three / "one").is_dir()
    page._ask(True)
    with locked(RunFolder(three / "one").lock, "a training"):
        page._delete()
    assert "nobody is at work on" in page.detail.object
    assert (three / "one").is_dir()
    page._ask(True)
    page._delete()
    assert not (three / "one").exists()
    assert "one" not in page.table.value["run"].tolist()
    assert page.run == ""
    page.selection.source = "demo"
    page.choose(page.table.value["run"].iloc[0])
    assert not page.delete.visible


# The page of trainings


def shown(page: Any, what: str) -> pd.DataFrame:
    points = page.figures[what].plot.Scatter.I.dframe()
    return points[np.isfinite(points["x"])]


def test_a_training_that_goes_on_is_followed(three: Path) -> None:
    page = load_page("training").Training(selection(three))
    assert list(page.param.group.objects.values()) == ["100/0", "100/1"]
    assert page.group == "100/1"
    assert shown(page, "loss")["x"].max() == 100
    page.group = "100/0"
    assert set(shown(page, "energy")["arm"]) == {"MF", "SF-E"}
    assert shown(page, "energy")["value"].max() == 10.0
    page.selection.system = "meV"
    assert shown(page, "energy")["value"].max() == pytest.approx(433.64, rel=1e-4)
    page.against = "seconds"
    assert shown(page, "force")["x"].max() == 30
    page.group = "100/1"
    folder = unfinished(three, EVIL, 160, seed=1)
    with locked(folder.lock, "a training"):
        page.selection.library.refresh()
        page.update()
        assert list(page.param.group.objects.values())[-1] == "at work"
        assert shown(page, "loss")["x"].max() == 16
        assert "160 of 300" in page.said.object
        assert "14 s" in page.said.object  # that are left
        assert "<img" not in page.said.object


# In a browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    runs = tmp_path_factory.mktemp("runs")
    for k in range(24):
        finished(runs, f"run-{k:02d}", ("MF", "SF-E")[k % 2], seed=k // 2, value=0.1 + k)
    unfinished(runs, EVIL, 100, seed=0)
    pages = [resources.dashboards() / f"{name}.py" for name in ("runs", "training")]
    log = tmp_path_factory.mktemp("log") / "log"
    with served(*pages, log=log, environment={"MFBENCH_RUNS": str(runs), "MFBENCH_MAY_DELETE": "1"}) as address:
        yield address, runs


@pytest.mark.browser
def test_the_page_of_runs_in_a_browser(tab: Any, server: tuple[str, Path]) -> None:
    address, runs = server
    tab.goto(f"{address}/runs")
    tab.set_default_timeout(60_000)
    rows = tab.locator(".tabulator-row")
    rows.first.wait_for()
    assert tab.locator("img").count() == 0
    tab.get_by_text("run-05", exact=True).click()
    tab.get_by_role("heading", name="run-05").wait_for()
    assert "run=run-05" in tab.url
    tab.get_by_text("run-06", exact=True).click()
    tab.get_by_role("heading", name="What tells two runs apart").wait_for()
    link = tab.url
    tab.goto("about:blank")
    tab.goto(link)
    tab.get_by_role("heading", name="What tells two runs apart").wait_for()
    tab.get_by_text("run-05", exact=True).first.click()
    tab.get_by_role("heading", name="run-06").wait_for()
    tab.get_by_role("button", name="Delete this run").click()
    tab.get_by_role("button", name="Delete it for good").click()
    tab.wait_for_function("() => !document.body.innerText.includes('Delete it for good')")
    assert not (runs / "run-06").exists()
    assert tab.title() != "1"
    assert tab.troubles == []


@pytest.mark.browser
def test_the_page_of_trainings_in_a_browser(tab: Any, server: tuple[str, Path]) -> None:
    address, runs = server
    tab.set_default_timeout(60_000)
    tab.goto(f"{address}/training?group=100/0")
    ends = """() => Math.max(...Bokeh.documents.flatMap(d => [...d._all_models.values()])
        .filter(m => m.type == 'Range1d').map(m => m.end).filter(end => end < 1e6))"""
    tab.wait_for_function(f"() => window.Bokeh && Bokeh.documents.length && ({ends})() > 300")
    folder = unfinished(runs, EVIL, 260)
    with locked(folder.lock, "a training"):
        tab.get_by_text("260 of 300").wait_for()
        unfinished(runs, EVIL, 280)
        tab.get_by_text("280 of 300").wait_for()
    assert tab.locator("img").count() == 0
    assert tab.troubles == []
