"""The overview page: driven by its parameters without a browser, then page and report in a real one."""

import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import holoviews as hv
import pytest
from tables import NO_FORCES, error, results_table

from mfbench import resources
from mfbench.results.folder import METRICS_FILE, RunFolder, as_parquet
from mfbench.show.page import write_html
from mfbench.show.words import SPREAD

pn = pytest.importorskip("panel", reason="panel is not installed")

PAGE = resources.dashboards() / "overview.py"
KCAL_PER_EV = 23.0605


def load_page():
    spec = importlib.util.spec_from_file_location("overview", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_runs(folder: Path, table) -> Path:
    for run, rows in table.groupby("run"):
        RunFolder(folder / run).finish(rows)
    return folder


@pytest.fixture(scope="module")
def overview():
    return load_page()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return write_runs(tmp_path_factory.mktemp("runs"), results_table(seeds=(0, 1, 2)))


def mf_at_50(layout: hv.Layout, which: int) -> float:
    _, marks = list(layout)[which]
    rows = marks.dframe()
    return rows[(rows["series"] == "MF") & (rows["alpha"] == 1)].set_index("x").loc[50, "value"]


def html_of(view) -> str:
    return " ".join(pane.object for pane in view.select(pn.pane.HTML))


def test_page_shows_every_case_at_first(overview, runs):
    page = overview.Overview(folder=str(runs))
    assert page.chosen_cases() == ["ani1ccx", "ani1x-tz", "rmd17-cc"]
    view = page.main()
    assert len(view.select(pn.pane.HoloViews)) == 6
    shown = html_of(view)
    assert "PBE/def2-SVP → CCSD/cc-pVDZ" in shown
    assert NO_FORCES in shown
    assert "51 finished runs" in shown
    assert "seeds 0–2" in shown


def test_widgets_change_what_is_shown(overview, runs):
    page = overview.Overview(folder=str(runs))
    widgets = {w.name: w for w in page.controls().select(pn.widgets.Widget)}
    assert mf_at_50(page.curves("ani1x-tz"), 0) == pytest.approx(
        error("MF", "energy", "mae", 50, 1) * KCAL_PER_EV, rel=1e-4
    )
    widgets["Metric of the curves"].value = "rmse"
    assert mf_at_50(page.curves("ani1x-tz"), 1) == pytest.approx(
        error("MF", "force", "rmse", 50, 1) * KCAL_PER_EV, rel=1e-4
    )
    widgets["Unit of energy"].value = "meV"
    widgets["Energy of the curves"].value = "energy_per_atom"
    widgets["Judged on"].value = "unseen"
    expected = error("MF", "energy_per_atom", "rmse", 50, 1, part="unseen") * 1000
    assert mf_at_50(page.curves("ani1x-tz"), 0) == pytest.approx(expected, rel=1e-4)
    assert "meV/Å" in page.tables("ani1x-tz")
    widgets["Case"].value = "rmd17-cc"
    view = page.main()
    assert page.chosen_cases() == ["rmd17-cc"]
    assert "rmd17-cc has no part of molecules never trained on" in html_of(view)


def test_a_metric_of_ones_own_can_be_chosen(overview, tmp_path):
    table = results_table(cases=["ani1x-tz"])
    write_runs(tmp_path, table)
    own = table[(table["metric"] == "mae") & (table["n"] > 0)].assign(metric="hit rate", unit="fraction", value=0.5)
    for run, rows in own.groupby("run"):
        RunFolder(tmp_path / run).write_extra(METRICS_FILE, as_parquet(rows))
    page = overview.Overview(folder=str(tmp_path))
    widgets = {w.name: w for w in page.controls().select(pn.widgets.Widget)}
    assert list(widgets["Metric of the curves"].options) == ["MAE", "RMSE", "hit rate"]
    widgets["Metric of the curves"].value = "hit rate"
    assert mf_at_50(page.curves("ani1x-tz"), 0) == 0.5
    shown = html_of(page.main())
    assert shown.count("<th>hit rate</th>") == 4
    assert "MAE of" in shown  # what is no error closes no gap: those stay the MAE's
    page.source = "arms"
    assert page.metric == "mae"


def test_the_folder_is_fixed_at_the_start(overview, runs, tmp_path):
    """Whoever reaches the server must not name a path on it."""
    page = overview.Overview(folder=str(runs))
    with pytest.raises(TypeError, match="Constant parameter"):
        page.folder = str(tmp_path)
    assert not any("older" in widget.name for widget in page.controls().select(pn.widgets.TextInput))


def test_reload_finds_new_runs_and_keeps_the_choice(overview, tmp_path):
    write_runs(tmp_path, results_table(cases=["rmd17-cc"]))
    page = overview.Overview(folder=str(tmp_path), case="all cases")
    page.case = "rmd17-cc"
    write_runs(tmp_path, results_table(cases=["ani1ccx"], backbone="painn"))
    page.param.trigger("reload")
    assert page.case == "rmd17-cc"
    assert list(page.param.case.objects) == ["all cases", "ani1ccx", "rmd17-cc"]
    assert page.setup in (("mini", "hipnn-ts", "demo"),)
    page.setup = ("mini", "painn", "demo")
    page.case = "all cases"
    assert page.chosen_cases() == ["ani1ccx"]


def test_folder_comes_from_the_environment(overview, runs, monkeypatch):
    monkeypatch.delenv("MFBENCH_RUNS", raising=False)
    assert overview.Overview().folder == "runs"
    monkeypatch.setenv("MFBENCH_RUNS", str(runs))
    assert overview.Overview().table["run"].nunique() == 57


def test_without_runs_the_page_says_what_to_do(overview, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "references", lambda: tmp_path)
    page = overview.Overview(folder=str(tmp_path))
    (message,) = page.main().select(pn.pane.Markdown)
    for words in (str(tmp_path), "mfbench demo", "mfbench run", "MFBENCH_RUNS", "ships no results"):
        assert words in message.object
    assert list(page.param.source.objects) == ["runs"]


def test_the_shipped_reference_can_be_shown(overview, tmp_path, monkeypatch):
    RunFolder(tmp_path / "arms").finish(results_table(cases=["ani1x-tz"], seeds=(0, 1)))
    monkeypatch.setattr(resources, "references", lambda: tmp_path)
    page = overview.Overview(folder=str(tmp_path / "none"))
    assert "*Shipped*" in page.help()
    widgets = {w.name: w for w in page.controls().select(pn.widgets.Widget)}
    assert list(widgets["Results"].options) == ["Run folders", "Shipped: all arms on ani1x-tz, five paired seeds"]
    page.source = "arms"
    assert SPREAD in html_of(page.main())
    assert page.chosen_cases() == ["ani1x-tz"]
    assert "shipped with mfbench" in html_of(page.main())


def test_a_broken_run_is_named(overview, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / METRICS_FILE).write_text("not Parquet")
    page = overview.Overview(folder=str(tmp_path))
    assert "broken" in page.help()
    assert "cannot be read" in page.main().select(pn.pane.Markdown)[0].object


def test_the_page_never_loads_torch(runs):
    code = (
        "import runpy, sys;"
        f"page = runpy.run_path({str(PAGE)!r})['Overview'](folder={str(runs)!r}); page.main();"
        "print(len(page.table), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows, torch = answer.stdout.split()
    assert int(rows) > 0
    assert torch == "False"


# In a browser


@pytest.fixture(scope="module")
def server(runs, tmp_path_factory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "panel", "serve", str(PAGE), "--port", str(port)]
    log = tmp_path_factory.mktemp("server") / "log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, env=os.environ | {"MFBENCH_RUNS": str(runs)}, stdout=out, stderr=subprocess.STDOUT
        )
    address = f"http://localhost:{port}/overview"
    try:
        for _ in range(120):
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


def handshake(port: int, path: str, origin: str) -> int:
    """What a server answers a browser that asks for a page's connection: 101, or 403 for a page of another origin."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": origin, "Sec-WebSocket-Version": "13"}
    connection.request("GET", path, headers=headers | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    status = connection.getresponse().status
    connection.close()
    return status


def test_behind_a_proxy_with_another_name_and_path(runs, tmp_path):
    """As with JupyterHub's proxy: the page is below a path, and the browser calls the server something else."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mfbench", "serve", "--port", str(port), "--no-browser", "--runs", str(runs)]
    command += ["--prefix", "/user/ada/proxy/", "--allow-websocket-origin", "https://hub.example.org/user/ada"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    page = "/user/ada/proxy/overview"
    try:
        for _ in range(120):
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=20).close()
                break
            except OSError:
                time.sleep(0.25)
        assert handshake(port, f"{page}/ws", "https://hub.example.org") == 101
        assert handshake(port, f"{page}/ws", f"http://localhost:{port}") == 101
        assert handshake(port, f"{page}/ws", "https://elsewhere.example.org") == 403
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


@pytest.mark.browser
def test_page_in_a_browser(tab, server):
    tab.goto(server)
    tab.wait_for_function(f"() => window.Bokeh && Bokeh.documents.length && ({AXIS_LABELS})().length == 12")
    tab.wait_for_function(f"() => ({INK})() == 6")  # MF's blue, in two figures of three cases
    assert "Energy MAE (kcal/mol)" in tab.evaluate(AXIS_LABELS)
    assert tab.get_by_text("CCSD(T)*/CBS forces to train on").count() == 1

    tab.get_by_label("Metric of the curves").select_option("RMSE")
    tab.wait_for_function(f"() => ({AXIS_LABELS})().includes('Energy RMSE (kcal/mol)')")
    tab.get_by_label("Case", exact=True).select_option("rmd17-cc")
    tab.wait_for_function(f"() => ({FIGURES})().length == 2")
    tab.get_by_label("Unit of energy").select_option("meV")
    tab.wait_for_function(f"() => ({AXIS_LABELS})().includes('Force component RMSE (meV/Å)')")
    tab.wait_for_function(f"() => ({INK})() == 2")
    assert tab.get_by_text("CCSD(T)*/CBS forces to train on").count() == 0
    expected = error("MF", "energy", "mae", 50, 1) * 1000
    assert tab.get_by_role("cell", name=f"{expected:.1f}", exact=True).count() >= 1
    assert tab.troubles == []


@pytest.mark.browser
def test_report_in_a_browser_without_a_network(tab, tmp_path):
    path = tmp_path / "report.html"
    write_html(results_table(seeds=(0, 1, 2)), path, {"device": "test"})
    tab.context.set_offline(True)
    tab.goto(path.as_uri())
    tab.wait_for_function(f"() => ({INK})() == 10")
    ranges = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
        .filter(m => m.type == 'Range1d').map(m => [m.start, m.end])"""
    before, (figure, *_) = tab.evaluate(ranges), tab.evaluate(FIGURES)
    tab.mouse.move(figure["x"] + figure["width"] / 2, min(figure["y"] + figure["height"] / 2, 990))
    tab.mouse.wheel(0, 300)  # over a plot: the page scrolls, and the plot stays
    tab.wait_for_function("() => scrollY > 100")
    assert tab.evaluate(ranges) == before
    for width, columns in ((1400, 2), (420, 1)):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.wait_for_function(f"() => new Set(({FIGURES})().map(f => Math.round(f.x))).size == {columns}")
        tab.wait_for_function(f"() => ({FIGURES})().every(f => f.right <= innerWidth)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width + 1  # newer browsers round it up
    assert tab.troubles == []
