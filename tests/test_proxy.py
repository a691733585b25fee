"""The dashboards behind jupyter-server-proxy, below a path, with a token: in a real browser."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from conftest import ROOT
from pages import mfbench_with, write_pages
from tables import results_table

from mfbench.cli.serving import launcher
from mfbench.results.folder import RunFolder

TOKEN = "of-this-test"
PREFIX = "/user/ada"


def test_jupyter_finds_the_launcher() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["jupyter_serverproxy_servers"]["mfbench"].partition(":")
    assert getattr(import_module(module), name) is launcher
    config = pytest.importorskip("jupyter_server_proxy.config", reason="jupyter-server-proxy is not installed")
    assert config.ServerProcess(name="mfbench", **launcher()).launcher_entry.title == "mfbench dashboards"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Jupyter server with the launcher."""
    pytest.importorskip("jupyter_server_proxy", reason="jupyter-server-proxy is not installed")
    folder = tmp_path_factory.mktemp("jupyter")
    for run, rows in results_table(cases=["rmd17-cc"]).groupby("run"):
        RunFolder(folder / "runs" / run).finish(rows)
    settings = launcher()
    settings["command"] = [*mfbench_with(write_pages(folder / "pages")), *settings["command"][3:]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "ServerApp": {"base_url": PREFIX, "port": port, "open_browser": False, "allow_root": True},
        "IdentityProvider": {"token": TOKEN},
        "ServerProxy": {"servers": {"mfbench": settings}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = [sys.executable, "-m", "jupyter_server", "--config", str(folder / "config.json")]
    # Nothing of the person's own Jupyter, and the tests' own copy of mfbench.
    homes = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **homes, "PYTHONPATH": str(ROOT)}
    environment.pop("MFBENCH_RUNS", None)
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        for _ in range(240):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://localhost:{port}{PREFIX}/api", timeout=20).close()
                break
            except OSError:
                time.sleep(0.25)
        yield f"http://localhost:{port}{PREFIX}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
@pytest.mark.browser
def test_pages_behind_jupyter(jupyter: str, tab: Any) -> None:
    assert tab.request.get(f"{jupyter}/mfbench/", max_redirects=0).status in (302, 403)  # without the token
    tab.set_default_timeout(120_000)
    tab.goto(f"{jupyter}/mfbench/?token={TOKEN}")
    tab.get_by_text("overview shows kcal/mol").wait_for()
    tab.get_by_role("combobox", name="Unit").click()
    tab.get_by_role("menuitem", name="meV").click()
    tab.get_by_text("overview shows meV").wait_for()
    assert "system=meV" in tab.url
    link = tab.get_by_role("link", name="Learning curves")
    link.focus()
    assert re.match(rf"{jupyter}/mfbench/curves\?.*system=meV", link.evaluate("link => link.href"))
    link.click()
    tab.get_by_text("curves shows meV").wait_for()
    assert tab.url.startswith(f"{jupyter}/mfbench/curves")
    assert tab.troubles == []
