"""Buttons beside figures and tables: the files that they give, in Python and in a browser."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import panels
import pytest
from tables import results_table

from mfbench.errors import UserError
from mfbench.show import sheets

takeaway = pytest.importorskip("mfbench.show.takeaway", reason="panel is not installed")

APP = """
import holoviews as hv
import pandas as pd
import panel as pn
from tables import results_table

from mfbench.show import sheets
from mfbench.show.takeaway import TakeAway

NUMBERS = pd.DataFrame({"n_high": [25, 50], "value": [2.0, 1.5]})

def figure():
    from mfbench.show.paper import Figure
    curve = hv.Curve(NUMBERS, "n_high", "value").opts(backend="matplotlib")
    return Figure(sheets.Numbers("curve of $5 <b>", "Two numbers.", NUMBERS, ("a run",)), (hv.Overlay([curve]),))

def table(case):
    return lambda: sheets.errors(results_table(), case)

pn.extension()
pn.Column(
    TakeAway("curve", figure=figure),
    TakeAway("errors", table=table("rmd17-cc"), address=False),
    TakeAway("none", table=table("nowhere")),
    TakeAway("broken", data=lambda: 1 / 0),
).servable()
"""


def numbers() -> pd.DataFrame:
    return pd.DataFrame({"n_high": [25, 50], "value": [2.0, 1 / 3]})


def test_buttons_are_those_of_what_there_is() -> None:
    def labels(**given: Any) -> list[str]:
        return [one["label"] for one in takeaway.TakeAway("view", **given).formats]

    def figure() -> Any:
        raise AssertionError("asked for before it was pressed")

    assert labels() == []
    assert labels(figure=figure) == ["PNG", "SVG", "CSV"]
    assert labels(data=numbers) == ["CSV"]
    assert labels(table=figure) == ["CSV", "Markdown", "LaTeX"]
    assert labels(figure=figure, table=figure) == ["PNG", "SVG", "CSV", "Markdown", "LaTeX"]


def test_files_of_a_table() -> None:
    bar = takeaway.TakeAway("errors", table=lambda: sheets.errors(results_table(), "rmd17-cc"))
    names = {}
    for format in ("csv", "md", "latex"):
        name, content = bar.file(format)
        names[name] = content.decode()
    assert set(names) == {f"errors-rmd17-cc-test.{end}" for end in ("csv", "md", "tex")}
    assert names["errors-rmd17-cc-test.csv"].startswith("case,data,backbone,preset,part,n_high,arm,")
    assert r"\toprule" in names["errors-rmd17-cc-test.tex"]
    with pytest.raises(UserError, match="unknown format 'png'"):
        bar.file("png")


def test_numbers_are_in_full_and_names_of_files_are_plain() -> None:
    name, content = takeaway.TakeAway("../history of <b>", data=numbers).file("csv")
    assert name == "history-of-b.csv"
    assert content == b"n_high,value\n25,2.0\n50,0.3333333333333333\n"


def test_what_cannot_be_made_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = takeaway.TakeAway("errors", table=lambda: sheets.errors(results_table(), "nowhere"))
    sent: list[dict[str, str]] = []
    monkeypatch.setattr(bar, "_send_msg", sent.append)
    for asked in ("csv", "exe", {"not": "a format"}):
        with ThreadPoolExecutor(1) as beside:  # a browser of other tests has a loop in this thread
            beside.submit(asyncio.run, bar._pressed(SimpleNamespace(data=asked))).result()
    assert ["problem" in answer and "content" not in answer for answer in sent] == [True] * 3
    assert "unknown case in these results 'nowhere'" in sent[0]["problem"]


def test_a_page_with_it_loads_neither_matplotlib_nor_torch() -> None:
    code = (
        "import sys; from mfbench.show.takeaway import TakeAway; TakeAway('view', figure=print);"
        "print([name for name in ('matplotlib', 'torch') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# In a browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "take.py").write_text(APP)
    here = str(Path(__file__).parent)
    with panels.served(folder / "take.py", log=folder / "log", environment={"PYTHONPATH": here}) as address:
        yield f"{address}/take"


def pressed(tab: Any, what: str, button: str) -> tuple[str, bytes]:
    """Name and content of the file that a button gives."""
    place = tab.get_by_role("group", name=f"Take away: {what}")
    with tab.expect_download(timeout=90_000) as download:  # Matplotlib looks for fonts when it is first used
        place.get_by_role("button", name=button, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


@pytest.mark.browser
def test_downloads_arrive(tab: Any, app: str) -> None:
    tab.goto(app)
    tab.get_by_role("button", name="PNG").wait_for()
    begins = {"PNG": b"\x89PNG\r\n", "SVG": b"<?xml", "CSV": b"n_high,value\n25,2.0\n"}
    for button, begin in begins.items():
        name, content = pressed(tab, "curve", button)
        assert name == f"curve-of-5-b.{button.lower()}"
        assert content.startswith(begin)
    for button, end in {"CSV": "csv", "Markdown": "md", "LaTeX": "tex"}.items():
        name, content = pressed(tab, "errors", button)
        assert name == f"errors-rmd17-cc-test.{end}"
        assert b"SF-EF" in content
    assert tab.troubles == []


@pytest.mark.browser
def test_what_goes_wrong_is_said_beside_the_button(tab: Any, app: str) -> None:
    tab.goto(app)
    for what, said in {"none": "unknown case in these results", "broken": "the server's log says why"}.items():
        button = tab.get_by_role("group", name=f"Take away: {what}").get_by_role("button", name="CSV")
        button.click()
        tab.get_by_role("group", name=f"Take away: {what}").get_by_text(said).wait_for()
        assert button.is_enabled()
    assert tab.troubles == []


@pytest.mark.browser
def test_the_address_is_copied_and_all_is_reached_by_keyboard(browser: Any, app: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{app}?case=rmd17-cc")
    page.get_by_role("button", name="PNG").wait_for()
    labels = []
    for _ in range(4):
        page.keyboard.press("Tab")
        labels.append(
            page.evaluate(
                "() => { let e = document.activeElement; while (e.shadowRoot) e = "
                "e.shadowRoot.activeElement; return e.textContent }"
            )
        )
    assert labels == ["PNG", "SVG", "CSV", "Link"]
    page.keyboard.press("Enter")
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == f"{app}?case=rmd17-cc"
    size = "e => parseFloat(getComputedStyle(e).fontSize)"
    assert all(one.evaluate(size) >= 14 for one in page.get_by_role("button").all())
    assert page.get_by_role("group", name="Take away: errors").get_by_role("button", name="Link").count() == 0
    context.close()
