"""Every notebook is executed, with fewer steps, and leaves what it promises; -m slow runs it as it is."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

nbformat: Any = pytest.importorskip("nbformat", reason="needs the extra dev")
nbclient: Any = pytest.importorskip("nbclient", reason="needs the extra dev")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(path: Path, folder: Path, steps: int | None) -> Any:
    """The notebook after running all its cells in ``folder``."""
    notebook = nbformat.read(path, as_version=4)
    if steps is not None:
        changed = 0
        for cell in notebook.cells:
            cell.source, count = re.subn(r"(N_HIGH, STEPS = \d+), \d+", rf"\1, {steps}", cell.source)
            changed += count
        assert changed == 1
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def outputs(notebook: Any, kind: str) -> list[str]:
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == ["01_first_light.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = executed(path, tmp_path, steps=20)
    assert len(list((tmp_path / "runs").glob("*/metrics.parquet"))) == 3
    tables = "".join(outputs(notebook, "text/html"))
    for arm in ("SF-E", "MF", "SF-EF"):
        assert arm in tables
    assert "CCSD/cc-pVDZ" in tables
    assert len(outputs(notebook, "application/vnd.holoviews_exec.v0+json")) == 3  # the extension and two plots


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_import_the_package_and_nothing_below_it(path: Path) -> None:
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    modules = re.findall(r"^\s*(?:import|from) ([\w.]+)", code, re.MULTILINE)
    assert {name for name in modules if name.startswith("mfbench")} == {"mfbench"}
    assert set(modules) <= {"mfbench", "holoviews", "pandas", "IPython.display"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_cell_defines_a_long_function(path: Path) -> None:
    """What is longer than five lines belongs in the library."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            for body in re.findall(r"^def .*?(?=^\S|\Z)", cell.source, re.MULTILINE | re.DOTALL):
                assert len(body.strip().splitlines()) <= 6


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_as_it_is_takes_under_two_minutes(path: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    executed(path, tmp_path, steps=None)
    assert time.monotonic() - began < 120
