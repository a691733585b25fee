"""The dashboards' server, as a process of its own: its start page, who may log in, and how it ends."""

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from conftest import ROOT
from pages import mfbench_with, write_pages
from tables import results_table

from mfbench.cli.serving import free_port
from mfbench.results.folder import RunFolder

pytest.importorskip("panel", reason="panel is not installed")

pytestmark = pytest.mark.slow


@contextmanager
def served(folder: Path, *options: str) -> Iterator[int]:
    """The port of a server of small pages and a few runs; that it ends well when it is told to is checked."""
    for run, rows in results_table(cases=["rmd17-cc"]).groupby("run"):
        RunFolder(folder / "runs" / run).finish(rows)
    port, log = free_port("127.0.0.1"), folder / "log"
    words = [*mfbench_with(write_pages(folder / "pages")), "serve", "--port", str(port), "--no-browser", *options]
    with open(log, "w") as out:
        process = subprocess.Popen(words, cwd=folder, env=_environment(), stdout=out, stderr=subprocess.STDOUT)
    try:
        while "Dashboards:" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(60)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "MFBENCH_RUNS"} | {"PYTHONPATH": str(ROOT)}


def ask(port: int, path: str, cookies: str = "", form: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """The answer to a request; it is read whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Cookie": cookies} if cookies else {}
    if form is None:
        connection.request("GET", path, headers=headers)
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("POST", path, urlencode(form), headers)
    return connection.getresponse()


def handshake(port: int, path: str, cookies: str = "") -> int:
    """What a browser is answered that asks for a page's connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Cookie": cookies}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": f"http://localhost:{port}"}
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def test_the_start_page_is_the_overview(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        title = re.compile(r"<title>(.*?)</title>", re.DOTALL)
        start, overview = (title.findall(ask(port, path).read().decode()) for path in ("/", "/overview"))
        assert start == overview != []
        assert handshake(port, "/ws") == 101


def test_who_does_not_log_in_sees_nothing(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text(json.dumps({"ada": "of this test"}))
    users.chmod(0o600)
    with served(tmp_path, "--basic-auth", str(users)) as port:
        answer = ask(port, "/overview")
        assert answer.status == 302
        assert "login" in answer.headers["Location"]
        assert handshake(port, "/overview/ws") in (302, 401, 403)
        for wrong in ({"username": "ada", "password": "?"}, {"username": "ada", "password": str(users)}):
            answer = ask(port, "/login", form=wrong)
            assert not any(one.startswith("user=") for one in answer.headers.get_all("Set-Cookie", []))
        answer = ask(port, "/login", form={"username": "ada", "password": "of this test"})
        set_ = [one.partition(";")[0] for one in answer.headers.get_all("Set-Cookie", [])]
        cookies = "; ".join(one for one in set_ if not one.endswith("="))
        page = ask(port, "/overview", cookies)
        assert page.status == 200
        assert "user=" in cookies
        assert cookies.partition("user=")[2][:20] not in page.read().decode()
        assert handshake(port, "/overview/ws", cookies) == 101
