"""Packaging: declared dependencies, import times, and the wheel at work outside the checkout."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfbench.version import __version__

ROOT = Path(__file__).resolve().parents[1]
# PyPI's name -> conda-forge's, where they differ.
CONDA_NAMES = {
    "torch": "pytorch",
    "playwright": "playwright-python",
    "tblite": "tblite-python",
    "types-pyyaml": "types-pyyaml",
}


def bounds(requirements: list[str]) -> dict[str, str]:
    """``["ase>=3.26"]`` -> ``{"ase": "3.26"}``; anything but a plain lower bound fails."""
    matches = {text: re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", text) for text in requirements}
    assert all(matches.values()), f"expected NAME>=VERSION, got {[t for t, m in matches.items() if not m]}"
    return {m[1].lower(): m[2] for m in matches.values() if m}


def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return content


def conda_names(requirements: list[str]) -> dict[str, str]:
    return {CONDA_NAMES.get(name, name): bound for name, bound in bounds(requirements).items()}


def test_environment_yml_agrees_with_pyproject() -> None:
    declared = project()["project"]
    extras = declared["optional-dependencies"]
    own = [text for text in extras["dev"] if text.startswith("mfbench[")]
    assert own == ["mfbench[dashboards,notebooks]"]
    expected = conda_names(
        [
            *declared["dependencies"],
            *extras["dashboards"],
            *extras["notebooks"],
            *(text for text in extras["dev"] if text not in own),
        ]
    )
    text = (ROOT / "environment.yml").read_text("utf-8")
    content = yaml.safe_load(text)
    assert content["channels"] == ["conda-forge"]
    conda = [one for one in content["dependencies"] if isinstance(one, str)]
    (pip,) = (one["pip"] for one in content["dependencies"] if isinstance(one, dict))
    assert f"python{declared['requires-python']}" in conda
    assert "pip" in conda
    assert "--editable ." in pip
    listed = [one for one in conda if one != "pip" and not one.startswith("python>")]
    listed += [one for one in pip if one != "--editable ."]
    assert len(listed) == len(set(listed))
    assert bounds(listed) == expected
    # The extra qm has no place in an environment for all systems: a comment says how to add it.
    assert conda_names(re.findall(r'"([^"]+>=[^"]+)"', text)) == conda_names(extras["qm"])


def test_hatchling_of_dev_is_that_of_the_build() -> None:
    content = project()
    (build,) = content["build-system"]["requires"]
    assert build in content["project"]["optional-dependencies"]["dev"]


def test_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    paper = citation["preferred-citation"]
    assert citation["version"] == __version__
    assert citation["license"] == project()["project"]["license"]
    assert paper["authors"][0]["family-names"] == "Messerly"
    assert (paper["volume"], paper["start"], paper["year"]) == (6, "035066", 2025)
    assert any("2505.01590" in one["value"] for one in paper["identifiers"])


def best_seconds(code: str, repeats: int = 5) -> float:
    """Wall time of a fresh interpreter that runs the code: the least of several, for busy machines."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)


def loaded_by(code: str) -> set[str]:
    """Top-level packages in ``sys.modules`` after the code has run in a fresh interpreter."""
    code += "\nimport sys; print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    return set(run.stdout.splitlines()[-1].split())


def test_import_is_light() -> None:
    assert not {"torch", "panel", "pandas", "numpy"} & loaded_by("import mfbench")
    assert best_seconds("import mfbench") < 0.3


HELP = """
import sys
from mfbench.cli.main import main
sys.argv = ["mfbench", "--help"]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""


def test_help_is_quick() -> None:
    assert not {"torch", "panel"} & loaded_by(HELP)
    assert best_seconds(HELP) < 0.4


@pytest.mark.parametrize("file", ["mfbench/results/folder.py", "mfbench/show/plots.py", "mfbench/show/page.py"])
def test_what_shows_results_does_not_load_torch(file: str) -> None:
    assert "torch" not in loaded_by(f"import {file.removesuffix('.py').replace('/', '.')}")


def test_the_dashboard_does_not_load_torch() -> None:
    page = ROOT / "dashboards" / "overview.py"
    assert "torch" not in loaded_by(f"import runpy; runpy.run_path({str(page)!r})")


# The wheel, outside the checkout.

WHERE = """
import json
from mfbench import resources
names = ("manifests", "cases", "mini_data", "dashboards", "notebooks")
print(json.dumps({name: str(getattr(resources, name)()) for name in names}))
"""
RUN = ("run", "rmd17-cc", "--arm", "MF", "--n-high", "50", "--steps", "5", "--seed", "0")


def call(command: list[str], cwd: Path, expected: int = 0) -> str:
    """Run a command, with no trace of the checkout in its environment; returns its output."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert run.returncode == expected, f"{command}: {run.returncode=}\n{run.stdout[-4000:]}\n{run.stderr[-4000:]}"
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    call([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)], folder)
    (built,) = folder.glob("mfbench-*.whl")
    return built


def make_venv(folder: Path, *options: str) -> Path:
    """A fresh virtual environment; returns its Python."""
    call([sys.executable, "-m", "venv", *options, str(folder)], folder.parent)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def check_installed(python: Path, venv: Path, empty: Path) -> None:
    """The installed package finds its folders in the environment and trains a model in an empty folder."""
    folders = {name: Path(path) for name, path in json.loads(call([str(python), "-c", WHERE], empty)).items()}
    for name, folder in folders.items():
        assert folder.is_dir(), f"resources.{name}() = {folder} does not exist"
        assert folder.is_relative_to(venv.resolve()), f"resources.{name}() = {folder} is outside {venv}"
    assert len(list(folders["cases"].glob("*.yaml"))) >= 3
    assert len(list(folders["manifests"].glob("*.yaml"))) >= 3
    assert (folders["mini_data"] / "mini-ani1x.h5").stat().st_size > 100_000
    runs = empty / "runs"
    call([str(python.parent / "mfbench"), *RUN, "--runs", str(runs)], empty)
    assert len(list(runs.glob("*/metrics.parquet"))) == 1


def test_the_wheel_holds_what_is_needed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top.split(".")[-1] for top in tops} == {"mfbench", "dist-info"}
    shipped = {name.split("/")[1] for name in names if name.startswith("mfbench/")}
    assert {"__init__.py", "data", "data_manifests", "dashboards", "notebooks"} <= shipped
    assert not [name for name in names if re.search(r"__pycache__|/runs/|\.part$", name)]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 30e6


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installed beside this environment's third-party packages, which a .pth file lends to a fresh one.

    A folder lent by a .pth file does not have its own .pth files read, so an editable mfbench stays unseen.
    """
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    python = make_venv(venv, "--without-pip")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    call([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], tmp_path)
    purelib = call([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], empty).strip()
    lent = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(purelib) / "lent.pth").write_text("\n".join(lent) + "\n")
    check_installed(python, venv, empty)


@pytest.mark.slow
def test_the_wheel_installs_with_its_dependencies(wheel: Path, tmp_path: Path) -> None:
    """Downloads gigabytes. PIP_OPTIONS is heeded as in the Makefile."""
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    python = make_venv(venv)
    options = os.environ.get("PIP_OPTIONS", "").split()
    call([str(python), "-m", "pip", "install", "--quiet", *options, str(wheel)], empty)
    check_installed(python, venv, empty)
