"""Are the dashboards fast enough, for one visitor and for thirty, with 5,000 runs in the folder and a million points?

A server in a process of its own shows a folder of made-up runs over loopback. Pages are painted by Chromium; widgets,
zooms and visitors speak Bokeh's protocol, as browsers do, so that what is measured is the server's answer: from the
change of a widget to the last change of the page that follows it.

    python benchmarks/dashboards.py --out benchmarks/results/dashboards-cpu-DATE.json

``--only`` takes some of the parts, ``--quick`` tries all of them out with few runs, points, visitors and seconds.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import parser, write
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect
from tqdm import tqdm

from mfbench.cli.serving import free_port
from mfbench.resources import dashboards
from mfbench.results.folder import PREDICTIONS_FILE, RunFolder
from mfbench.results.predictions import save_arrays
from mfbench.results.runs import look
from mfbench.show.shell import PAGES

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from predicted import predicted, structures_of
from tables import results_table

PARTS = ("paint", "widgets", "zoom", "visitors", "memory")  # in this order
MILLION = "?case=ani1x-tz&backbones=%5B%22million%22%5D"  # the run of many points, on the page "inside"
SEEDS, SIZES = range(5), (25, 50, 75, 100, 150, 200)  # with 3 cases: some 300 runs of one recipe
QUIET = 0.5  # s without a change: the answer to a widget is complete
WAIT = 120.0  # s, at most, for anything

# A figure or a table is seen.
SEEN = """() => { const walk = node => { for (const e of node.querySelectorAll('*')) {
    const seen = e.matches('.bk-Figure, canvas.bk-layer, .tabulator-row, .mfb table, canvas');
    if (seen && e.getBoundingClientRect().height > 10 && e.getBoundingClientRect().width > 50) return true;
    if (e.shadowRoot && walk(e.shadowRoot)) return true; } return false; }
    return walk(document) ? performance.now() : 0; }"""


@dataclass(frozen=True)
class Scale:
    """How much of each."""

    runs: int = 5000
    points: int = 1_000_000
    paints: int = 5
    changes: int = 10
    visitors: int = 30
    seconds: float = 300.0
    every: float = 10.0
    sessions: int = 200


QUICK = Scale(runs=60, points=30_000, paints=1, changes=2, visitors=2, seconds=4.0, every=2.0, sessions=4)


# Runs


def make_runs(folder: Path, scale: Scale) -> None:
    """Sealed run folders of made-up results, recipe by recipe; a few with predictions, one with many points."""
    done, recipe = 0, 0
    with tqdm(total=scale.runs, desc="making runs", leave=False, disable=None) as shown:
        while done < scale.runs:
            table = results_table(sizes=SIZES, seeds=SEEDS, backbone=f"network-{recipe}")
            for name, rows in table.groupby("run", sort=False):
                if done < scale.runs:
                    run = RunFolder(folder / str(name))
                    if recipe == 0 and rows["seed"].iloc[0] == 0 and rows["case"].iloc[0] == "ani1x-tz":
                        run.path.mkdir(parents=True)
                        save_arrays(run.file(PREDICTIONS_FILE), predicted(60, rows["arm"].iloc[0]))
                    run.finish(rows)
                    done += 1
                    shown.update()
            recipe += 1
    for name, rows in results_table(["ani1x-tz"], ["MF"], [50], backbone="million").groupby("run"):
        run = RunFolder(folder / str(name))
        run.path.mkdir(parents=True)
        save_arrays(run.file(PREDICTIONS_FILE), predicted(structures_of(scale.points)))
        run.finish(rows)


# The server


@contextmanager
def server(runs: Path, log: Path) -> Iterator[tuple[str, int]]:
    """Where the dashboards are served, by which process."""
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "mfbench", "serve", "--port", str(port), "--no-browser", "--runs", str(runs)]
    with open(log, "w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            while "Dashboards:" not in log.read_text():
                if process.poll() is not None:
                    raise SystemExit(f"the server ended: {log.read_text()}")
                time.sleep(0.1)
            yield f"http://localhost:{port}", process.pid
        finally:
            process.terminate()


def resident(process: int) -> float:
    """Memory of a process, MiB (Linux)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


# A visitor, in Bokeh's protocol


@dataclass
class Visitor:
    """A session: its connection, and the objects of the page's document by their ids."""

    connection: WebSocketClientConnection
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: float = 0.0  # when the last change came
    _listening: asyncio.Task[None] | None = None

    @staticmethod
    async def visit(address: str) -> "Visitor":
        """Get the page, connect as its script does, take its document, and wait until it is complete."""
        page = await AsyncHTTPClient().fetch(address, request_timeout=WAIT)
        (token,) = set(re.findall(r'"token":\s*"([^"]+)"', page.body.decode()))
        url = address.partition("?")[0].replace("http://", "ws://") + "/ws"
        visitor = Visitor(await websocket_connect(url, subprotocols=["bokeh", token], max_message_size=1 << 30))
        await visitor._message()  # it greets
        await visitor._send("PULL-DOC-REQ", {})
        while (message := await visitor._message())[0] != "PULL-DOC-REPLY":
            pass
        visitor._learn(message[1]["doc"])
        visitor._listening = asyncio.ensure_future(visitor._listen())
        await visitor._send("PATCH-DOC", {"events": [_event("document_ready")]})  # Panel begins with its work then
        await visitor._settled(time.perf_counter(), needed=False)
        return visitor

    async def leave(self) -> None:
        """Close the page."""
        assert self._listening is not None
        self._listening.cancel()
        self.connection.close()

    async def answer(self, *events: dict[str, Any]) -> float:
        """Tell the server of events; seconds until the last change of the page that follows."""
        began = time.perf_counter()
        await self._send("PATCH-DOC", {"events": list(events)})
        return await self._settled(began, needed=True) - began

    async def toggle(self) -> float:
        """Choose another unit, or another value of the first widget that has two, and take the time."""
        widget = self.widget()
        values = widget["attributes"]
        other = next(one for one in _options(values) if one != values["value"])
        values["value"] = other
        return await self.answer(_set(widget["id"], "value", other))

    def widget(self) -> dict[str, Any]:
        """The widget of the unit, or the first that has something to choose from."""
        there = [
            one
            for one in self.objects.values()
            if len(set(_options(one["attributes"]))) > 1 and isinstance(one["attributes"].get("value"), str)
        ]
        return min(there, key=lambda one: one["attributes"].get("label") != "Unit")

    async def zoom(self, part: float) -> float | None:
        """Show the middle of a plot whose points are counted in pixels, and take the time; None without such a plot."""
        plots = [one for one in self.objects.values() if one.get("name") == "Figure" and _counted(one)]
        if not plots:
            return None
        ends: dict[str, float] = {}
        events = []
        for axis in "xy":
            span = self.objects[plots[0]["attributes"][f"{axis}_range"]["id"]]
            start, end = (float(span["attributes"][name]) for name in ("start", "end"))
            middle, half = (start + end) / 2, part * (end - start) / 2
            ends |= {f"{axis}0": middle - half, f"{axis}1": middle + half}
            span["attributes"] |= {"start": middle - half, "end": middle + half}
            events += [_set(span["id"], "start", middle - half), _set(span["id"], "end", middle + half)]
        return await self.answer(*events, _event("rangesupdate", model={"id": plots[0]["id"]}, **ends))

    async def _send(self, kind: str, content: dict[str, Any]) -> None:
        for part in ({"msgid": uuid.uuid4().hex, "msgtype": kind}, {}, content):
            await self.connection.write_message(json.dumps(part))

    async def _message(self) -> tuple[str, dict[str, Any]]:
        """The next message: its kind and content; its buffers are dropped."""
        parts = [await self.connection.read_message() for _ in range(3)]
        if None in parts:
            raise WebSocketClosedError
        header, _, content = (json.loads(part) for part in parts if part is not None)
        for _ in range(2 * header.get("num_buffers", 0)):
            await self.connection.read_message()
        return header["msgtype"], content

    async def _listen(self) -> None:
        while True:
            kind, content = await self._message()
            if kind == "PATCH-DOC":
                self.changed = time.perf_counter()
                self._learn(content)
            elif kind == "ERROR":
                raise SystemExit(f"the server says: {content}")

    async def _settled(self, since: float, needed: bool) -> float:
        """Wait until no change came for a while; when the last one came."""
        assert self._listening is not None
        while True:
            await asyncio.sleep(QUIET / 20)
            now, last = time.perf_counter(), max(since, self.changed)
            if now - last > QUIET and (self.changed > since or not needed):
                return last
            if self._listening.done():
                self._listening.result()
            if now - since > WAIT:
                raise SystemExit(f"no answer in {WAIT:.0f} s")

    def _learn(self, found: Any) -> None:
        """Note all objects in what the server sent."""
        for value in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
            self._learn(value)
        if isinstance(found, dict) and "id" in found and "attributes" in found:
            self.objects[found["id"]] = found


def _set(model: str, attribute: str, value: Any) -> dict[str, Any]:
    return {"kind": "ModelChanged", "model": {"id": model}, "attr": attribute, "new": value}


def _event(name: str, **values: Any) -> dict[str, Any]:
    said = {"type": "map", "entries": [[key, value] for key, value in values.items()]}
    return {
        "kind": "MessageSent",
        "msg_type": "bokeh_event",
        "msg_data": {"type": "event", "name": name, "values": said},
    }


def _options(attributes: dict[str, Any]) -> list[str]:
    """What a widget offers, where that is a list of texts, or of labels and texts."""
    options = attributes.get("options")
    found = [one[-1] if isinstance(one, list) else one for one in options] if isinstance(options, list) else []
    return found if all(isinstance(one, str) for one in found) else []


def _counted(plot: dict[str, Any]) -> bool:
    """Whether a plot holds an image, as one has whose points are counted in pixels."""
    return any(f'"name": "{glyph}"' in json.dumps(plot) for glyph in ("ImageRGBA", "Image"))


# What is measured


def paint(address: str, pages: list[str], scale: Scale) -> dict[str, Any]:
    """Seconds from the call of a page in a new browser window until a figure or table of it is seen."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    found: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for page in pages:
            seconds = []
            for _ in range(scale.paints):
                window = browser.new_context(viewport={"width": 1280, "height": 720})
                tab = window.new_page()
                tab.set_default_timeout(1000 * WAIT)
                tab.goto(f"{address}/{page}", wait_until="commit")
                seconds.append(tab.wait_for_function(SEEN).json_value() / 1000)
                window.close()
            found[page] = summary(seconds)
        browser.close()
    return found


async def widgets(address: str, pages: list[str], scale: Scale) -> dict[str, Any]:
    """Seconds from the change of a widget until the last change of the page."""
    found: dict[str, Any] = {}
    for page in pages:
        visitor = await Visitor.visit(f"{address}/{page}")
        await visitor.toggle()  # what is made at the first change is made
        label = visitor.widget()["attributes"].get("label", "")
        found[page] = {"widget": label, **summary([await visitor.toggle() for _ in range(scale.changes)])}
        await visitor.leave()
    return found


async def zoom(address: str, pages: list[str], scale: Scale) -> dict[str, Any]:
    """Seconds from a zoom in a parity plot until its image is there."""
    if "inside" not in pages:
        return {"skipped": "there is no page inside"}
    visitor = await Visitor.visit(f"{address}/inside{MILLION}")
    seconds = [await visitor.zoom(0.9) for _ in range(scale.changes)]
    await visitor.leave()
    found = [one for one in seconds if one is not None]
    return {"points": scale.points, **summary(found)} if found else {"skipped": "no plot of so many points"}


async def visitors(address: str, pages: list[str], scale: Scale) -> dict[str, Any]:
    """Answers to many who are there at once, each of whom changes a widget now and then, at times of their own."""
    rng = np.random.default_rng(0)
    there = [await Visitor.visit(f"{address}/{pages[k % len(pages)]}") for k in range(scale.visitors)]
    seconds: list[float] = []
    end = time.perf_counter() + scale.seconds

    async def stay(visitor: Visitor, wait: float) -> None:
        await asyncio.sleep(wait)
        while True:
            due = time.perf_counter() + scale.every
            seconds.append(await visitor.toggle())
            if due > end:
                break
            await asyncio.sleep(due - time.perf_counter())
        await visitor.leave()

    await asyncio.gather(*(stay(one, float(rng.uniform(0, scale.every))) for one in there))
    return {"visitors": scale.visitors, "seconds": scale.seconds, "every": scale.every, **summary(seconds)}


async def memory(address: str, pages: list[str], scale: Scale, process: int) -> dict[str, Any]:
    """Memory of the server over sessions that come, change a widget and go, one after the other."""
    found = [resident(process)]
    for number in range(scale.sessions):
        visitor = await Visitor.visit(f"{address}/{pages[number % len(pages)]}")
        await visitor.toggle()
        await visitor.leave()
        found.append(resident(process))
    await asyncio.sleep(scale.every * 3)  # the last sessions end
    first = max(found[: 1 + scale.sessions // 4])
    return {
        "sessions": scale.sessions,
        "plateau MiB": first,
        "end MiB": resident(process),
        "ratio": resident(process) / first,
        "MiB": found[:: max(1, scale.sessions // 20)],
    }


def summary(seconds: list[float]) -> dict[str, Any]:
    """The middle, and what one of twenty exceeds."""
    return {"median": median(seconds), "95 %": float(np.percentile(seconds, 95)), "n": len(seconds)}


def measured(only: list[str], scale: Scale, folder: Path) -> dict[str, Any]:
    """All parts, or those that are asked for."""
    runs = folder / "runs"
    if not runs.is_dir():
        make_runs(runs, scale)
    found: dict[str, Any] = {"runs": scale.runs}
    for name in ("first index", "second index"):
        began = time.perf_counter()
        look(runs)
        found[name] = time.perf_counter() - began
    pages = [page for page in PAGES if (dashboards() / f"{page}.py").is_file()]
    if missing := sorted(set(PAGES) - set(pages)):
        print(f"skipped, for they are not there yet: {', '.join(missing)}", flush=True)
    parts: dict[str, Callable[[str, int], dict[str, Any]]] = {
        "paint": lambda address, _: paint(address, pages, scale),
        "widgets": lambda address, _: asyncio.run(widgets(address, pages, scale)),
        "zoom": lambda address, _: asyncio.run(zoom(address, pages, scale)),
        "visitors": lambda address, _: asyncio.run(visitors(address, pages, scale)),
        "memory": lambda address, process: asyncio.run(memory(address, pages, scale, process)),
    }
    for fresh in (False, True):  # memory is that of a server that nobody visited before
        together = [part for part in PARTS if part in only and (part == "memory") == fresh]
        if not together:
            continue
        with server(runs, folder / "log") as (address, process):
            for page in pages:  # what only the first visitor pays is paid
                urllib.request.urlopen(f"{address}/{page}", timeout=WAIT).close()
            for part in together:
                found[part] = parts[part](address, process)
                print(part, json.dumps(found[part]), flush=True)
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some of the parts")
    options.add_argument("--quick", action="store_true", help="little of each, to try it out")
    options.add_argument("--folder", type=Path, help="where made-up runs are kept for another time")
    args = options.parse_args()
    scale = QUICK if args.quick else Scale()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measured(args.only, scale, folder)
    write(args.out, **found)


if __name__ == "__main__":
    main()
