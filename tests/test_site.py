"""The folder of pages: it stands alone, offline, light and dark; nothing from disk becomes HTML."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import results_table
from test_groups import predictions

from mfbench.cli.main import main
from mfbench.results.folder import PREDICTIONS_FILE, RunFolder
from mfbench.results.predictions import Predictions, arrays_bytes
from mfbench.show.site import PAGES
from mfbench.study.evaluation import evaluate

REST = {"steps": 1, "steps_shared": 0, "seconds": 1.0, "structures_per_second": 1.0, "label_seconds": 1.0}
SETUP = {"case": "ani1ccx", "data": "mini", "backbone": "hipnn-ts", "preset": "demo", "n_low": 9, "n_high": 50}
EVIL = "<script>alert(1)</script>"


class Links(HTMLParser):
    """What a page refers to, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def with_positions(found: Predictions) -> Predictions:
    """Predictions that keep the positions of all structures."""
    atoms = int(found.offsets[-1])
    positions = 2.0 * np.random.default_rng(0).normal(size=(atoms, 3))
    return replace(found, shown=np.arange(len(found.structure)), positions=positions)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one case with predictions of two arms, one from elsewhere without, and an unfinished run."""
    folder = tmp_path_factory.mktemp("site")
    runs = folder / "runs"
    for k, arm in enumerate(("SF-E", "MF")):
        run, found = RunFolder(runs / f"run-{arm}"), with_positions(predictions(180, seed=k))
        run.write(PREDICTIONS_FILE, arrays_bytes(found))
        rest = {"run": run.name, "arm": arm, "seed": 0, "split_seed": 0, "device": EVIL}
        run.finish(evaluate(found).assign(**rest, **SETUP, **REST))
    foreign = results_table(cases=["rmd17-cc"], sizes=(50,)).replace({"arm": {"MF": f"MF {EVIL}"}})
    for name, rows in foreign.groupby("run"):
        RunFolder(runs / str(name)).finish(rows)
    RunFolder(runs / "begun").write_settings({"case": EVIL, "arm": "MF"})
    assert main(["report", "--site", str(folder / "site"), "--runs", str(runs)]) == 0
    return folder / "site"


def test_pages_link_to_one_another_and_to_nothing_elsewhere(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} == set(PAGES)
    for name in PAGES:
        text = (site / f"{name}.html").read_text("utf-8")
        for link in Links(text).found:
            assert link.startswith("data:") or (site / link).is_file(), link
        assert {f"{one}.html" for one in PAGES} <= set(Links(text).found)
        assert "https://cdn" not in text
    assert (site / "assets" / "bokeh.min.js").stat().st_size > 500_000
    assert all(path.stat().st_size < 500_000 for path in site.glob("*.html"))  # its copy is shared


def test_nothing_from_disk_becomes_html(site: Path) -> None:
    shown = 0
    for name in PAGES:
        text = (site / f"{name}.html").read_text("utf-8")
        plain = re.sub(r"<script type=.*?</script>", "", text, flags=re.DOTALL)  # what Bokeh escapes in its own way
        assert EVIL not in plain
        shown += plain.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert shown > 3


def test_what_pages_say(site: Path) -> None:
    pages = {name: (site / f"{name}.html").read_text("utf-8") for name in PAGES}
    assert "From density functional to coupled cluster." in pages["index"]
    assert "Worst first, of SF-E" in pages["inside"]
    assert "force RMSE" in pages["inside"]
    assert pages["inside"].count("<figure>") == 3
    assert "No run of this case has its predictions at hand." in pages["inside"]
    assert "unfinished" in pages["runs"]
    assert "doi:10.1038/s41597-020-0473-z" in pages["data"]
    assert "gap closed" in pages["glossary"]


def test_files_can_be_taken_away(site: Path) -> None:
    names = {path.name for path in (site / "files").iterdir()}
    expected = {
        "learning-curve-ani1ccx.svg",
        "learning-curve-rmd17-cc.pdf",
        "errors-ani1ccx.tex",
        "gap-closed-ani1ccx.csv",
    }
    assert expected <= names
    assert (site / "files" / "learning-curve-ani1ccx.png").read_bytes().startswith(b"\x89PNG")


def test_without_runs_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--site", str(tmp_path / "site"), "--runs", str(tmp_path / "none")]) == 2
    assert "no finished runs" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


FONT = """() => [...document.querySelectorAll('main *, nav *, footer')].filter(e => [...e.childNodes].some(
    n => n.nodeType == 3 && n.textContent.trim())).map(e => parseFloat(getComputedStyle(e).fontSize))"""
INK = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => /Axis$/.test(m.type)).map(m => m.major_label_text_color)"""


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("light", 390), ("dark", 1280)])
def test_pages_open_from_disk_without_a_network(browser: Any, site: Path, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: troubles.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else troubles.append(r.url))
    page.on("dialog", lambda d: troubles.append("an alert"))
    page.goto((site / "index.html").as_uri())
    for name, title in PAGES.items():
        page.get_by_role("navigation").get_by_role("link", name=title, exact=True).click()
        page.wait_for_url(f"**/{name}.html")
        if name in ("index", "curves", "inside"):
            page.wait_for_function("() => window.Bokeh && Bokeh.documents.length")
            page.wait_for_function(f"() => new Set(({INK})()).size == 1")
            ink = page.evaluate(f"({INK})()[0]")
            assert ink == page.evaluate("getComputedStyle(document.body).color")
            assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 400) is (scheme == "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= width + 1
        assert min(page.evaluate(FONT)) >= 14
    context.close()
    assert troubles == []
