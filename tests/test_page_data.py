"""The page of data: its parts, driven without a browser, then in one."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from panels import served
from tables import results_table

pytest.importorskip("panel", reason="panel is not installed")

import holoviews as hv
import panel as pn

from mfbench import resources
from mfbench.data import contents
from mfbench.data.cases import case
from mfbench.data.catalogue import Checked, info, listing
from mfbench.data.datasets import DataRequest
from mfbench.data.findings import Finding
from mfbench.data.structures import Structures
from mfbench.results.folder import RunFolder
from mfbench.show import labels, manifests
from mfbench.show.html import copyable

PAGE = resources.dashboards() / "data.py"
LOW, HIGH, CC = "wb97x/6-31g*", "wb97x/def2-tzvpp", "ccsd(t)*/cbs"
KCAL = 23.0605
ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def found() -> contents.Contents:
    return contents.look(DataRequest(("mini-ani1x",)), LOW, HIGH)


@pytest.fixture(scope="module")
def ani(found: contents.Contents) -> Structures:
    return found.sample.structures


# Plots


def humps(plot: hv.Polygons) -> dict[str, Any]:
    return {one["which"]: one for one in plot.data}


def test_plots_show_shares_in_the_units_asked_for(found: contents.Contents) -> None:
    for system, factor in (("kcal/mol", KCAL), ("meV", 1000.0)):
        shown = humps(labels.force_plot(found.forces, system))
        assert list(shown) == ["low", "high", "gap"]
        for name, one in shown.items():
            edges, shares = one["x"][1:-1:2], one["y"][1:-1:2]
            assert shares.sum() == pytest.approx(100, abs=1)
            middle = np.interp(50, np.cumsum(shares), edges[: len(shares)])
            assert middle == pytest.approx(found.forces[name].median() * factor, rel=0.25)
    assert "kcal/mol/Å" in hv.render(labels.force_plot(found.forces)).xaxis[0].axis_label
    assert list(humps(labels.energy_plot(found.energies))) == ["low", "gap"]


def test_plots_of_nothing_are_empty() -> None:
    nothing = pd.DataFrame({"low": [], "high": [], "gap": []}, dtype=float)
    for plot in (labels.energy_plot(nothing), labels.force_plot(nothing), labels.counts_plot()):
        hv.render(plot)
    same = pd.DataFrame({"low": [1.0, 2.0], "high": [1.0, 2.0], "gap": [0.0, 0.0]})
    assert list(humps(labels.force_plot(same))) == ["low", "high"]


def test_counts_stand_at_their_values(ani: Structures) -> None:
    edges, counts = (labels.counts_plot(ani.n_atoms).dimension_values(k) for k in (0, 1))
    assert dict(zip(edges, counts))[6] == np.count_nonzero(ani.n_atoms == 6)
    temperatures = labels.counts_plot(ani.temperature, "Temperature (K)", 50)
    shown = dict(zip(temperatures.dimension_values(0), temperatures.dimension_values(1)))
    assert {t: n for t, n in shown.items() if n} == {300: 217, 600: 420, 1000: 227}


# One structure


def test_a_scene_has_the_forces_of_each_level(ani: Structures) -> None:
    row = 100
    geometry = int(ani.geometry[row])
    atoms = ani.atoms_of(np.array([row]))
    for system, factor in (("kcal/mol", KCAL), ("meV", 1000.0)):
        scene = labels.labels_scene(ani, geometry, (LOW, HIGH), {LOW: "#111111"}, system=system)
        assert [one.title for one in scene.molecules] == ["ωB97X/6-31G*", "ωB97X/def2-TZVPP"]
        for name, one in zip((LOW, HIGH), scene.molecules):
            (arrows,) = one.arrows
            np.testing.assert_allclose(arrows.vectors, ani.forces[ani.level_index(name), atoms] * factor, rtol=1e-5)
    over = labels.labels_scene(ani, geometry, (LOW, HIGH), {}, over=True)
    (molecule,) = over.molecules
    assert [(one.name, one.thick) for one in molecule.arrows] == [("ωB97X/6-31G*", True), ("ωB97X/def2-TZVPP", False)]


def test_levels_without_forces_say_so(ani: Structures) -> None:
    bare = int(ani.geometry[np.flatnonzero(~ani.force_mask[:, ani.level_index(CC)])[0]])
    scene = labels.labels_scene(ani, bare, (LOW, CC), {})
    assert not scene.molecules[1].arrows
    assert scene.molecules[1].note == "no forces at this level"
    assert labels.labels_scene(ani, bare, (), {}).message
    table = labels.labels_table(ani, bare, LOW).set_index("level")
    assert np.isnan(table.loc[CC, "force"])
    assert table.loc[LOW, "apart"] == 0


def test_methanols_forces_are_laid_on_each_other() -> None:
    both = DataRequest(("mini-rmd17-methanol", "mini-md17cc-methanol")).load()
    low, high = "pbe/def2-svp", "ccsd/cc-pvdz"
    geometry = int(contents.geometries(both, "CH4O", (low, high))[0])
    (molecule,) = labels.labels_scene(both, geometry, (low, high), {}, over=True, system="meV").molecules
    first, second = (one.vectors for one in molecule.arrows)
    assert np.linalg.norm(first - second) < 0.4 * np.linalg.norm(first)
    table = labels.labels_table(both, geometry, low, "meV").set_index("level")
    assert table.loc[high, "apart"] == pytest.approx(np.sqrt(np.square(first - second).mean()), rel=1e-6)


# HTML


def test_nothing_from_a_file_becomes_html(found: contents.Contents, ani: Structures) -> None:
    evil = info("mini-ani1x")
    declared = evil.declared.model_copy(update={"title": ATTACK, "license": ATTACK, "notes": ATTACK})
    declared = declared.model_copy(update={"citation": declared.citation.model_copy(update={"bibtex": ATTACK})})
    evil = replace(evil, declared=declared)
    of = case("ani1x-tz").model_copy(update={"name": ATTACK, "title": ATTACK, "basis": ATTACK})
    finding = Finding(ATTACK, False, ATTACK, ATTACK, (ATTACK,))
    pieces = [
        manifests.head_html(ATTACK, [evil], found.sample),
        manifests.declared_html(evil),
        manifests.cases_html([of], ""),
        manifests.findings_html(ATTACK, [finding]),
        manifests.molecules_html(found.molecules.assign(molecule=ATTACK, formula=ATTACK), found.energies),
        manifests.structure_html(pd.DataFrame(columns=["level"]), ATTACK, LOW),
        manifests.datasets_html([replace(one, title=ATTACK, name=ATTACK) for one in listing()], ()),
        copyable(ATTACK),
    ]
    for piece in pieces:
        assert "<img" not in piece
        assert "&lt;img" in piece


def test_tables_say_what_is_declared_and_measured(found: contents.Contents) -> None:
    html = manifests.labels_html([info("mini-ani1x")], found.levels)
    assert html.count("<td>864</td>") == 9  # five energies, four forces
    assert "<td>112</td>" in html
    published = manifests.labels_html([info("ani1x")], None)
    assert "<td>4,956,005</td>" in published
    assert "<td>not known</td>" in published
    assert "mfbench data pull ani1x" in manifests.head_html("ani1x", [info("ani1x")], None)
    assert "doi.org/10.1038/s41597-020-0473-z" in manifests.declared_html(info("ani1x"))
    gap = manifests.gap_html(found.energies, found.forces, LOW, HIGH)
    assert "<b>34.0</b> meV/atom" in gap
    assert "over 864 geometries" in gap


def test_findings_that_failed_are_first() -> None:
    good, bad = Finding("bond lengths", True, "some", "1"), Finding("forces, x", False, "5", "9", ("row 3 of y",))
    html = manifests.findings_html("mine", [good, bad])
    assert html.index("row 3 of y") < html.index("<details>") < html.index("bond lengths")
    assert "2 checks, 1 failed, 1 well" in html


# The page, without a browser


@pytest.fixture(scope="module")
def page() -> Any:
    spec = importlib.util.spec_from_file_location("data_page", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs")
    for run, rows in results_table(seeds=(0,)).groupby("run"):
        RunFolder(folder / str(run)).finish(rows)
    return folder


@pytest.fixture
def view(page: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MFBENCH_RUNS", str(runs))
    return page.Data()


def test_the_cases_data_come_first(view: Any) -> None:
    view.selection.case = "ani1x-tz"
    assert "ani1x-tz, mini data" in view.head.object
    assert "ωB97X/def2-TZVPP" in view.gap.object
    view.selection.case = "rmd17-cc"
    assert "mini-md17cc-methanol" in view.head.object
    assert "over 1,000 geometries" in view.gap.object
    assert view.others.object.index("mini-rmd17-methanol") < view.others.object.index("mini-ani1x")
    assert "Structure 1 of 1,200" in view.place.object
    assert view.query() == "?case=rmd17-cc"


def test_widgets_change_what_is_shown(view: Any) -> None:
    view.selection.case = "ani1ccx"
    before = view.molecules.drawing, view.energy_plot.data
    widgets = {one.label or one.name: one for part in view.controls() for one in part.select(pn.widgets.Widget)}
    widgets["High level"].value = HIGH
    assert "def2-TZVPP" in view.gap.object
    assert view.energy_plot.data is not before[1]
    view.look = "all"
    assert len(view.molecules.drawing["molecules"]) == 5
    view.molecule, view.number = "CH4", 7
    assert "Structure 7 of 48: CH4" in view.place.object
    view._step(1, None)
    assert view.slider.value == view.number == 8
    view.slider.value = 3
    assert "Structure 3 of 48" in view.place.object
    view.selection.system = "meV"
    assert "meV/Å" in view.gap.object
    assert view.query() == "?system=meV&high=wb97x%2Fdef2-tzvpp&molecule=CH4&number=3&look=all"


def test_an_address_brings_it_back(page: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_RUNS", str(runs))
    query = "?dataset=mini-ani1x&low=gfn2-xtb&molecule=H2O&number=9&look=beside"
    view = page.Data(query=query)
    assert view.query() == query
    assert "Structure 9 of 48: H2O" in view.place.object
    assert "From GFN2-xTB" in view.gap.object
    view.follow("?case=ani1x-tz&number=5000&molecule=XYZ&dataset=nowhere&low=none")
    assert view.query() == "?case=ani1x-tz"
    assert "Structure 1 of 48" in view.place.object


def test_what_is_not_here_is_declared_and_how_to_get_it(
    view: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path))
    view.dataset = "ani1x"
    assert "mfbench data pull ani1x" in view.head.object
    assert "4,956,005" in view.levels.object
    assert not view.first.visible
    assert not view.check.visible
    assert "mfbench data check ani1x" in view.checks.object
    view.dataset = ""
    assert view.first.visible
    assert view.check.visible


def test_checks_are_made_when_they_are_asked_for(page: Any, view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("bond lengths", False, "some", "none")
    monkeypatch.setattr(page, "check", lambda name, told: Checked(name, (finding,)))
    view.check.param.trigger("clicks")
    assert "1 checks, 1 failed" in view.checks.object
    assert not view.check.disabled


def test_no_results_and_unknown_cases(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "references", lambda: tmp_path)
    monkeypatch.setenv("MFBENCH_RUNS", str(tmp_path / "none"))
    assert "mini data" in page.Data().head.object
    rows = results_table(cases=["ani1x-tz"]).assign(case="elsewhere")
    for run, some in rows.groupby("run"):
        RunFolder(tmp_path / "runs" / str(run)).finish(some)
    monkeypatch.setenv("MFBENCH_RUNS", str(tmp_path / "runs"))
    assert "mini data" in page.Data().head.object


def test_damaged_data_are_told_of(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("disk <gone>")

    contents.look.cache_clear()
    monkeypatch.setattr(contents, "sample", broken)
    view.dataset = "mini-md17cc-methanol"
    assert "disk &lt;gone&gt;" in view.head.object
    assert not view.first.visible


def test_it_never_loads_torch(runs: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(PAGE)!r})['Data'](); print('torch' in sys.modules)"
    env = os.environ | {"MFBENCH_RUNS": str(runs)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert answer.stdout.strip() == "False"


# In a browser


@pytest.fixture(scope="module")
def server(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with served(PAGE, log=log, environment={"MFBENCH_RUNS": str(runs)}) as address:
        yield f"{address}/data"


RANGES = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type == 'Range1d').map(m => [m.start, m.end])"""
LOG_AXES = """() => window.Bokeh ? Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type == 'LogAxis').length : 0"""


def opened(tab: Any, address: str) -> None:
    tab.set_default_timeout(60_000)
    tab.goto(address)
    tab.wait_for_function(f"() => ({LOG_AXES})() >= 2")
    tab.get_by_text("Drag to turn").wait_for()
    tab.locator("canvas").first.wait_for()


@pytest.mark.browser
def test_page_in_a_browser(tab: Any, server: str) -> None:
    opened(tab, f"{server}?case=ani1ccx")
    tab.get_by_role("heading", name="From ωB97X/6-31G* to CCSD(T)*/CBS").wait_for()
    tab.get_by_text("Structure 1 of 48: C2H6").wait_for()
    tab.get_by_role("button", name="Next").click()
    tab.get_by_text("Structure 2 of 48: C2H6").wait_for()
    tab.wait_for_url("**number=2**")
    before = tab.evaluate(RANGES)
    tab.get_by_role("combobox", name="High level").click()
    tab.get_by_role("menuitem", name="ωB97X/def2-TZVPP", exact=True).click()
    tab.get_by_role("heading", name="From ωB97X/6-31G* to ωB97X/def2-TZVPP").wait_for()
    tab.wait_for_function(f"before => JSON.stringify(({RANGES})()) != JSON.stringify(before)", arg=before)
    tab.get_by_role("button", name="side by side").click()
    tab.wait_for_url("**look=beside**")
    tab.get_by_text("forces of").nth(1).wait_for()
    assert tab.troubles == []


@pytest.mark.browser
def test_a_link_restores_it_and_the_wheel_scrolls(tab: Any, server: str) -> None:
    tab.set_viewport_size({"width": 1280, "height": 720})
    opened(tab, f"{server}?case=rmd17-cc&number=7")
    tab.get_by_text("Structure 7 of 1,200").wait_for()
    assert tab.get_by_role("combobox", name="Case").inner_text() == "rmd17-cc"
    tab.wait_for_function(f"() => !JSON.stringify(({RANGES})()).includes('[0.1,10]')")  # until there are data
    before = tab.evaluate(RANGES)
    place = tab.get_by_role("heading", name="From PBE/def2-SVP to CCSD/cc-pVDZ")
    top = place.bounding_box()["y"]
    tab.mouse.move(1000, 600)  # over a plot
    tab.mouse.wheel(0, 300)
    tab.wait_for_timeout(500)
    assert place.bounding_box()["y"] < top - 100
    assert tab.evaluate(RANGES) == before
    assert tab.troubles == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(tab: Any, server: str, scheme: str) -> None:
    tab.emulate_media(color_scheme=scheme)
    opened(tab, server)
    ink = tab.get_by_role("heading", name="Labels").evaluate("e => getComputedStyle(e).color")
    light = sum(map(int, ink.removeprefix("rgba(").removeprefix("rgb(").rstrip(")").split(",")[:3])) > 384
    assert light == (scheme == "dark")


@pytest.mark.browser
def test_commands_and_citations_are_copied(tab: Any, server: str) -> None:
    tab.set_default_timeout(60_000)
    tab.goto(f"{server}?dataset=rmd17")
    tab.get_by_text("mfbench data pull rmd17").first.wait_for()
    for copied in (0, 1):  # a command, and a citation
        tab.get_by_role("button", name="Copy").first.click()
        tab.get_by_role("button", name="Copied").nth(copied).wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_width_is_too_narrow(tab: Any, server: str, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    opened(tab, server)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width + 1
