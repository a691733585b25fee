"""Commands that show what there is: ``cases``, ``report`` and ``serve``."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mfbench.cli.options import add_command, add_report_file, add_runs, add_unit, check_unit
from mfbench.errors import UserError

if TYPE_CHECKING:
    from mfbench.cli.options import Commands

LOCAL = "127.0.0.1"


def add_cases(commands: "Commands") -> None:
    add_command(commands, "cases", "list the test cases, their levels, data and sizes", _cases)


def add_report(commands: "Commands") -> None:
    report = add_command(
        commands, "report", "print the results table and write it with its plots as one HTML page", _report
    )
    report.add_argument(
        "--reference", nargs="?", const="demo", metavar="NAME", help="results that ship: demo (default) or arms"
    )
    report.add_argument(
        "--site",
        type=Path,
        metavar="FOLDER",
        help="write a folder of pages instead, for a course site: no server needed",
    )
    add_report_file(report)
    add_runs(report)
    add_unit(report)


def add_serve(commands: "Commands") -> None:
    serve = add_command(commands, "serve", "open the dashboards in a browser", _serve)
    serve.add_argument("--port", type=int, default=5006)
    serve.add_argument(
        "--address",
        default=LOCAL,
        metavar="HOST",
        help=f"where to listen ({LOCAL}: this machine alone); there is no log-in: whoever reaches it reads the runs",
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
    serve.add_argument("--no-browser", action="store_true", help="only serve")
    add_runs(serve)


def _cases(options: argparse.Namespace) -> None:
    from mfbench.data.cases import case, case_names
    from mfbench.theory import level

    for name in case_names():
        found = case(name)
        print(f"{found.name}: {found.title}")
        for data, rules in found.data.items():
            low, high = level(found.low).label, level(found.high_of(data)).label
            sizes = " and ".join([", ".join(map(str, rules.sizes[:-1])), str(rules.sizes[-1])][len(rules.sizes) < 2 :])
            where = ", published data" if rules.published else ""
            names = " or ".join([data, *(alias for alias, proper in found.aliases.items() if proper == data)])
            between = " and ".join(f"{level(name).label} on {n or 'all'}" for name, n in rules.further.items())
            further = f", with {between} of the low-level structures" if between else ""
            text = f"{low} (E+F) -> {high} (E), {rules.overlap} geometries{further}; n_high {sizes}{where}"
            print(f"  --data {names}: {text}")
        print(f"  {found.basis}")


def _report(options: argparse.Namespace) -> None:
    from mfbench.results.folder import PROVENANCE_FILE
    from mfbench.results.reference import reference, reference_table
    from mfbench.results.runs import predictions_of, read_runs
    from mfbench.show.page import publish
    from mfbench.show.text import text_table

    check_unit(options.unit)
    if options.site:
        _site(options)
        return
    if options.reference:
        table = reference_table(options.reference)
        provenance, stored = [reference(options.reference) / PROVENANCE_FILE], predictions_of([])
    else:
        found = read_runs(options.runs)
        table, stored = found.table, predictions_of(found.folders)
        provenance = [file for run in found.folders for file in [run / PROVENANCE_FILE] if file.is_file()]
        for remark in found.remarks():
            print(f"mfbench: {remark}", file=sys.stderr)
    if table.empty:
        raise UserError(
            f"no finished runs in {options.runs}: make some with `mfbench demo` or `mfbench run`, name their "
            "folder with --runs, or see this project's own with `mfbench report --reference`"
        )
    publish(table, options.out, provenance, options.unit, stored)
    print(text_table(table, options.unit, stored))
    print(f"Report: {options.out.resolve().as_uri()}")


def _site(options: argparse.Namespace) -> None:
    from mfbench.cli.taking import library
    from mfbench.show.site import write_site

    first = write_site(library(options), options.site, options.unit)
    print(f"Site: {first.resolve().as_uri()}")


def _serve(options: argparse.Namespace) -> None:
    import importlib.util

    from mfbench import resources

    if importlib.util.find_spec("panel") is None:
        raise UserError("the dashboards need Panel, which is not installed: pip install 'mfbench[dashboards]'")
    pages = sorted(str(page) for page in resources.dashboards().glob("*.py"))
    port = options.port or _free_port(options.address)
    command = [sys.executable, "-m", "panel", "serve", *pages, "--address", options.address, "--port", str(port)]
    for origin in (*(f"{host}:{port}" for host in _hosts(options.address)), *options.allow_websocket_origin):
        command += ["--allow-websocket-origin", _origin(origin)]
    if prefix := options.prefix.strip("/"):
        command += ["--prefix", prefix]
    if not options.no_browser:
        command.append("--show")
    if status := _until_it_ends(command, {**os.environ, "MFBENCH_RUNS": str(options.runs)}):
        raise UserError(f"the dashboards stopped with exit code {status}; is port {port} taken?")


def _until_it_ends(command: list[str], environment: dict[str, str]) -> int:
    """Run a server, and end it with this process, as schedulers end this one alone; its exit status."""
    import signal
    import subprocess

    with subprocess.Popen(command, env=environment) as server:
        before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            status = server.wait()
        finally:
            server.terminate()
            signal.signal(signal.SIGTERM, before)
    return 0 if status == -signal.SIGTERM else status


def _origin(given: str) -> str:
    """Host and port, of what may be copied from a browser's address line; raises UserError."""
    host = given.partition("://")[2].partition("/")[0] if "://" in given else given.rstrip("/")
    if host == "*" or "/" in host or not host:
        raise UserError(
            f"--allow-websocket-origin: expected a host, with its port if the address line shows one, got {given!r}; "
            "one for all would let any page on the web read the runs"
        )
    return host


def _free_port(address: str) -> int:
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
