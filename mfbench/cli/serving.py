"""The command ``serve``: the dashboards as pages of a server, for this machine, a group, or JupyterLab's proxy."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfbench.cli.options import add_command, add_runs
from mfbench.errors import UserError
from mfbench.files import parse_json, read_bytes

if TYPE_CHECKING:
    from mfbench.cli.options import Commands

LOCAL = "127.0.0.1"

START = "overview"  # the page at the server's root

# Bokeh's limits. A page keeps what is chosen in its address, so nothing is lost with a session that ends.
LIMITS = {
    "--unused-session-lifetime": 15_000,  # ms after the last connection: as long as a short loss of the network
    "--check-unused-sessions": 5_000,  # ms between looks for such
    "--websocket-max-message-size": 1 << 20,  # bytes from a browser, which sends what was chosen, and no files
}

NOT_SHARED = ("Cookie", "Authorization", "X-Forwarded-Access-Token")  # of requests: never part of a page

_SLOW = 2.0  # s of reading that are told of


def add_serve(commands: "Commands") -> None:
    serve = add_command(commands, "serve", "open the dashboards in a browser", _serve)
    serve.add_argument("--port", type=int, default=5006, help="0: one that is free (5006)")
    serve.add_argument(
        "--address",
        default=LOCAL,
        metavar="HOST",
        help=f"where to listen ({LOCAL}: this machine alone); whoever reaches it reads the runs (see --basic-auth)",
    )
    serve.add_argument(
        "--basic-auth",
        type=Path,
        metavar="FILE",
        help='names and passwords that log in, as JSON: {"ada": "..."}; a file that nobody else can read',
    )
    serve.add_argument(
        "--prefix", default="", metavar="PATH", help="path below which a proxy shows the pages, where it keeps the path"
    )
    serve.add_argument(
        "--allow-websocket-origin",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="what the browser calls this server, where a proxy or tunnel has another name or port; may be repeated",
    )
    serve.add_argument(
        "--may-delete", action="store_true", help="let the page of runs delete them; for this machine's pages alone"
    )
    serve.add_argument("--no-browser", action="store_true", help="only serve")
    add_runs(serve)
    serve.set_defaults(runs=Path(os.environ.get("MFBENCH_RUNS", "runs")))


def _serve(options: argparse.Namespace) -> None:
    import importlib.util

    if importlib.util.find_spec("panel") is None:
        raise UserError("the dashboards need Panel, which is not installed: pip install 'mfbench[dashboards]'")
    port = options.port or free_port(options.address)
    origins = [*(f"{host}:{port}" for host in _hosts(options.address)), *map(_origin, options.allow_websocket_origin)]
    passwords = _passwords(options.basic_auth) if options.basic_auth else None
    os.environ["MFBENCH_RUNS"] = str(options.runs)
    os.environ["MFBENCH_MAY_DELETE"] = str(int(_may_delete(options)))
    _read_ahead()
    words = ["--address", options.address, "--port", str(port), *_words(options.prefix.strip("/"), origins)]
    host = "localhost" if options.address in (LOCAL, "0.0.0.0", "::") else options.address
    address = f"http://{host}:{port}/{options.prefix.strip('/')}".rstrip("/") + "/"
    _panel(words, passwords, address, browser=not options.no_browser)


def _may_delete(options: argparse.Namespace) -> bool:
    """Whether pages may delete runs; raises UserError where others could: whoever sees the pages may."""
    elsewhere = options.address not in (LOCAL, "localhost", "::1") or options.allow_websocket_origin or options.prefix
    if options.may_delete and (elsewhere or options.basic_auth):
        raise UserError(
            "--may-delete: expected pages that this machine alone shows, got --address, --prefix, --basic-auth or "
            "--allow-websocket-origin; delete runs with `mfbench runs rm`"
        )
    return bool(options.may_delete)


def _words(prefix: str, origins: list[str]) -> list[str]:
    """What ``panel serve`` is told, beside where to listen."""
    from mfbench import resources

    words = sorted(str(page) for page in resources.dashboards().glob("*.py"))
    words += ["--index", START, "--log-level", "warning", "--exclude-headers", *NOT_SHARED]
    for option, value in LIMITS.items():
        words += [option, str(value)]
    for origin in origins:
        words += ["--allow-websocket-origin", origin]
    return [*words, "--prefix", prefix] if prefix else words


def _panel(words: list[str], passwords: dict[str, str] | None, address: str, browser: bool) -> None:
    """Serve in this process, which has read the runs, until it is ended."""
    import secrets
    import webbrowser

    from panel import config
    from panel.command.serve import Serve

    class Pages(Serve):
        def customize_server(self, server: Any) -> Any:
            print(f"Dashboards: {address} (Ctrl+C ends them)", flush=True)
            if browser:
                server.io_loop.add_callback(webbrowser.open, address)
            return server

    parser = argparse.ArgumentParser()
    command = Pages(parser=parser)
    options = parser.parse_args(words)
    if passwords is not None:  # not as words: the machine's other users see those
        options.basic_auth = passwords
        options.cookie_secret = None if config.cookie_secret else secrets.token_urlsafe(32)
    try:
        command.invoke(options)
    except SystemExit as error:
        raise UserError(f"the dashboards could not start at {address}: is its port taken? {error}") from error


def _read_ahead() -> None:
    """Read the runs before anybody visits; what a visitor would be told of an unreadable folder is not told here."""
    from mfbench import bars
    from mfbench.show.shell import open_runs

    began = time.monotonic()
    with bars.runs("Reading the runs") as told:
        try:
            runs = len(open_runs(told).entries)
        except UserError as error:
            print(f"mfbench: {error}", file=sys.stderr)
            return
    if (seconds := time.monotonic() - began) > _SLOW:
        print(f"Read {runs:,} runs in {seconds:.0f} s; what was read is kept (.runs.index).", flush=True)


def _passwords(path: Path) -> dict[str, str]:
    """Names and passwords out of a file that nobody else can read; raises UserError."""
    expected = '--basic-auth: expected names and passwords as JSON, {"ada": "..."}'
    found: Any = parse_json(read_bytes(path), path)
    if not (isinstance(found, dict) and found and all(isinstance(one, str) and one for one in found.values())):
        raise UserError(f"{expected}, found something else in {path}")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise UserError(f"--basic-auth: expected a file that nobody else can read, so: chmod 600 {path}")
    return found


def _origin(given: str) -> str:
    """Host and port, of what may be copied from a browser's address line; raises UserError."""
    host = given.partition("://")[2].partition("/")[0] if "://" in given else given.rstrip("/")
    if "*" in host or "/" in host or not host:
        raise UserError(
            f"--allow-websocket-origin: expected a host, with its port if the address line shows one, got {given!r}; "
            "one for all would let any page on the web read the runs"
        )
    return host


def free_port(address: str) -> int:
    """A port nobody listens on: it has to be known beforehand, as it is a piece of the pages' origin."""
    import socket

    try:
        with socket.create_server((address, 0)) as server:
            return server.getsockname()[1]
    except OSError as error:
        raise UserError(f"--address: expected an address of this machine, got {address!r}: {error.strerror}") from error


def _hosts(address: str) -> list[str]:
    """What a page may be called as by its own browser: a page of another origin is refused its connection."""
    import socket

    names = [address, "localhost", LOCAL]
    if address in ("0.0.0.0", "::"):  # on all interfaces: also by the names of the machine
        names = ["localhost", LOCAL, socket.gethostname(), socket.getfqdn()]
    return list(dict.fromkeys(names))


# In JupyterLab


def launcher() -> dict[str, Any]:
    """A tile in JupyterLab that opens the dashboards behind jupyter-server-proxy, as its entry points are written.

    The proxy has checked who asks, and from which page: it calls the server by the name that the server knows.
    """
    return {
        "command": [sys.executable, "-m", "mfbench", "serve", "--port", "{port}", "--no-browser"],
        "request_headers_override": {"Origin": "http://localhost:{port}"},
        "timeout": 300,  # s: the first reading of thousands of runs
        "new_browser_tab": True,
        "launcher_entry": {"title": "mfbench dashboards", "category": "Other"},
    }
