"""Pages of the dashboards in notebooks: the same views, and a picture of them in what is exported."""

import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from pages import write_pages
from tables import results_table

import mfbench
from mfbench import resources
from mfbench.results.folder import RunFolder
from mfbench.show.notebooks import dashboard
from mfbench.show.shell import PAGES, View

PNG = b"\x89PNG"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with runs and pages."""
    for run, rows in results_table(cases=["ani1x-tz", "rmd17-cc"]).groupby("run"):
        RunFolder(tmp_path / "runs" / run).finish(rows)
    write_pages(tmp_path / "pages")
    return tmp_path


def test_a_page_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "dashboards", lambda: folder / "pages")
    page = dashboard("curves", folder / "runs", "?case=rmd17-cc&system=meV")
    assert isinstance(page, View)
    assert (page.selection.chosen.case, page.selection.chosen.system) == ("rmd17-cc", "meV")
    assert type(page) is type(dashboard("curves", str(folder / "runs")))
    with pytest.raises(mfbench.UserError, match="unknown page 'curve'"):
        dashboard("curve")
    (folder / "file").write_text("")
    with pytest.raises(mfbench.UserError, match="Not a directory"):  # nothing else is shown in its place
        dashboard("curves", folder / "file")
    monkeypatch.setenv("MFBENCH_RUNS", str(folder / "runs"))
    assert dashboard("overview").selection.library.label == str(folder / "runs")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_had(name: str, folder: Path) -> None:
    if not (resources.dashboards() / f"{name}.py").is_file():
        pytest.skip(f"there is no page {name} yet")
    assert isinstance(dashboard(name, folder / "runs"), View)


def test_a_page_loads_no_torch(folder: Path) -> None:
    code = "import sys, mfbench; mfbench.dashboard('overview', sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(folder / "runs")], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.slow
def test_an_exported_notebook_holds_a_picture(folder: Path) -> None:
    nbformat: Any = pytest.importorskip("nbformat", reason="needs the extra dev")
    nbclient: Any = pytest.importorskip("nbclient", reason="needs the extra dev")
    nbconvert: Any = pytest.importorskip("nbconvert", reason="needs the extra dev")
    cells = [
        "import panel as pn; import mfbench; pn.extension(inline=True)",
        "from pathlib import Path; from mfbench import resources; resources.dashboards = lambda: Path('pages')",
        "mfbench.dashboard('overview', 'runs', '?case=rmd17-cc')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    (shown,) = [output["data"] for output in notebook.cells[-1].outputs if "image/png" in output.get("data", {})]
    assert "application/vnd.holoviews_exec.v0+json" in shown  # what JupyterLab shows
    assert base64.b64decode(shown["image/png"]).startswith(PNG)
    exported, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    (picture,) = re.findall(r'<img[^>]*class="mfb-still"[^>]*src="data:image/png;base64,([^"]+)"', exported)
    assert picture == shown["image/png"]
