"""Fixtures shared by the tests."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from server import Server


# One thread a test process, set before torch is loaded: threads that spin for the cores of another process
# slow both down many times over.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> ModuleType:
    """A script of benchmarks/ as a module. Its folder is no place for others to import from: names there are short."""
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))  # of what the scripts share
        spec.loader.exec_module(module)
    return module


# Energies of free atoms in mfbench/data/mini/isolated_atoms.json, by level: computed by other code than mfbench's own.
FREE_ATOM_KEYS = {
    "gfn2-xtb": "gfn2_xtb.energy",
    "pbe/def2-svp": "pbe_svp.energy",
    "wb97x/6-31g*": "wb97x_dz.energy",
    "wb97x/def2-tzvpp": "wb97x_tz.energy",
    "ccsd/cc-pvdz": "ccsd_dz.energy",
    "ccsd(t)*/cbs": "ccsd(t)_cbs.energy",
}
# What a finished run folder holds.
RUN_FILES = {
    "settings.json",
    "provenance.json",
    "history.csv",
    "predictions.h5",
    "split.npz",
    "weights.safetensors",
    "metrics.parquet",
    "seal.json",
}


@pytest.fixture(scope="module", autouse=True)
def _forget_what_was_added() -> Iterator[None]:
    """Cases, arms and datasets that a module's tests add are known to them alone."""
    from mfbench import extensions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extensions, "_own", {kind: dict(things) for kind, things in extensions._own.items()})
        yield


@pytest.fixture(autouse=True)
def _own_case_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test brings case files of its own, under the same names as others: as a process of its own would."""
    monkeypatch.setattr("mfbench.data.cases._files", {})


@pytest.fixture(autouse=True)
def auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no device is named, as numbers are compared bit for bit; test_gpu.py names its own."""
    if threads := sys.modules.get("mfbench.learning.threads"):
        whole = threads.device_of
        for module in [module for name, module in sys.modules.items() if name.startswith("mfbench.")]:
            if getattr(module, "device_of", None) is whole:
                monkeypatch.setattr(module, "device_of", lambda name: whole("cpu" if name == "auto" else name))


@pytest.fixture
def shared_real() -> Path:
    """Folder of published data files beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data" / "real"
    if not folder.is_dir():
        pytest.skip("needs the published files in ../shared/data/real beside the checkout")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An empty folder for run folders."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium to drive (variable CHROMIUM, else on PATH); skips where there is none."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium (Debian's package chromium), or its path in the variable CHROMIUM")
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A browser that Playwright drives; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        webgl = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # without a graphics card
        arguments = ["--no-sandbox", "--disable-background-networking", *webgl]
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A page that notes, in ``troubles``, errors of its console and requests to anywhere but this machine."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(20_000)
    page.troubles = []
    page.on("console", lambda m: page.troubles.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.troubles.append(str(e)))
    local = ("http://localhost:", "ws://localhost:", "file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else page.troubles.append(r.url))
    yield page
    page.close()


@dataclass(frozen=True)
class Site:
    """A server with the files, and a machine that has nothing yet."""

    server: "Server"
    files: dict[str, Path]
    cache: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple["Server", dict[str, Path], Path]]:
    import published
    from server import serve

    folder = tmp_path_factory.mktemp("published")
    with serve({}) as server:
        base = server.url().rstrip("/")
        files = published.make(folder / "files", folder / "manifests", base)
        server.files.update(files)
        yield server, files, folder / "manifests"


@pytest.fixture
def site(
    served: tuple["Server", dict[str, Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    server, files, manifests = served
    import torch

    from mfbench import resources

    monkeypatch.setattr(resources, "manifests", lambda: manifests)
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    server.requests.clear()
    server.faults.clear()
    threads = torch.get_num_threads()
    yield Site(server, files, tmp_path / "cache")
    torch.set_num_threads(threads)
