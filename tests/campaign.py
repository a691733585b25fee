"""Kills a small run at chosen places and lets it go on; one process that has loaded everything forks each of them.

    python campaign.py FOLDER events|kills|race N SEED

prints one JSON object a line; ``test_campaign`` judges them.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mfbench.learning.problem import Stage
from mfbench.learning.training import FitState, silent
from mfbench.results.folder import RunFolder
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.prepare import prepare
from mfbench.study.run import run

KILLED = 9
TIMES = ["seconds", "structures_per_second"]


def settings() -> Experiment:
    """Two stages, the first of them shared: all kinds of files are written."""
    return experiment("rmd17-cc", "transfer", n_high=20, optimisation={"steps": 6, "validations": 3}, threads=1)


def train(runs: Path, progress: Callable[[FitState, Stage], None] = silent) -> Path:
    return run(settings(), runs, "cpu", progress=progress, checkpoint_seconds=0.0)


def forked(work: Callable[[], object]) -> int:
    """Begin the work in a process of its own: its number."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    try:
        work()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ending_at(event: int) -> list[str]:
    """End this process at that event of all that touch the disk, a write in its middle; the events so far."""
    seen: list[str] = []

    def at(name: str, whole: Callable[..., Any], torn: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            seen.append(name)
            if len(seen) - 1 == event:
                if torn:
                    whole(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:], **named)
                os._exit(KILLED)
            return whole(*arguments, **named)

        return call

    for name in ("fsync", "replace", "link", "unlink"):
        setattr(os, name, at(name, getattr(os, name)))
    for name in ("write_bytes", "write_text"):
        setattr(Path, name, at(name, getattr(Path, name), torn=True))
    return seen


def outcome(runs: Path) -> dict[str, Any]:
    """What a run has come to, times aside; and every file that there is."""
    folder = RunFolder(runs / settings().name)
    table = folder.rows().drop(columns=TIMES)
    files = sorted(str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file())
    sealed = sorted(path.name for path in folder.path.iterdir())
    for name in folder.listed():
        folder.read(name)
    weights = folder.seal().files["weights.safetensors"]  # type: ignore[union-attr]
    return {"table": table.to_json(double_precision=15), "weights": weights, "files": files, "folder": sealed}


def again(runs: Path) -> dict[str, Any]:
    """Give the same command again, in a process of its own, and look at what it comes to."""
    out = runs.parent / f"{runs.name}.json"

    def work() -> None:
        train(runs)
        out.write_text(json.dumps(outcome(runs)))

    code = status(forked(work))
    return {"status": code, **(json.loads(out.read_text()) if code == 0 else {})}


def at_events(folder: Path, number: int, seed: int) -> None:
    """Kills at ``number`` of the events, drawn by the seed; 0: at every one."""
    listed = folder / "events.json"

    def count() -> None:
        seen = ending_at(-1)
        train(folder / "counted")
        names = list(seen)
        listed.write_text(json.dumps(names))

    assert status(forked(count)) == 0
    events = json.loads(listed.read_text())
    places = range(len(events)) if not number else sorted(random.Random(seed).sample(range(len(events)), number))
    for place in places:
        runs = folder / f"event-{place}"

        def work(place: int = place, runs: Path = runs) -> None:
            ending_at(place)
            train(runs)

        code = status(forked(work))
        print(json.dumps({"at": f"{events[place]} {place}", "killed": code == KILLED, **again(runs)}), flush=True)


def at_times(folder: Path, number: int, seed: int) -> None:
    """SIGKILL at random times, up to three in a row."""
    began = time.monotonic()
    assert status(forked(lambda: train(folder / "timed"))) == 0
    whole, rng = time.monotonic() - began, random.Random(seed)
    done = 0
    while done < number:
        runs, killed = folder / f"time-{done}", 0
        for _ in range(min(rng.choice([1, 1, 2, 3]), number - done)):
            pid = forked(lambda runs=runs: train(runs))  # type: ignore[misc]
            time.sleep(rng.uniform(0, 1.1 * whole))
            os.kill(pid, signal.SIGKILL)
            killed += status(pid) == -signal.SIGKILL
            done += 1
        print(json.dumps({"at": f"times {done}", "killed": bool(killed), **again(runs)}), flush=True)


def race(folder: Path, number: int, seed: int) -> None:
    """Several processes begin one run at the same time: each says how many validations it saw."""
    runs, go = folder / "race", time.time() + 1

    def work(k: int) -> None:
        seen = []

        def told(state: FitState, stage: Stage) -> None:
            seen.append(state.step)
            time.sleep(0.1)  # long enough for the others to be there

        time.sleep(max(0, go - time.time()))
        train(runs, told)
        (folder / f"seen-{k}").write_text(str(len(seen)))

    pids = [forked(lambda k=k: work(k)) for k in range(number)]  # type: ignore[misc]
    codes = [status(pid) for pid in pids]
    seen = [int((folder / f"seen-{k}").read_text()) for k in range(number)]
    print(json.dumps({"at": "race", "codes": codes, "seen": seen, **again(runs)}), flush=True)


def main() -> None:
    folder, what, number, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    prepare(settings())  # read once, for all
    # In a process of its own: the one that forks must stay without threads.
    print(json.dumps({"at": "twin", **again(folder / "twin")}), flush=True)
    {"events": at_events, "kills": at_times, "race": race}[what](folder, number, seed)


if __name__ == "__main__":
    main()
