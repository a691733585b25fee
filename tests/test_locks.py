"""Locks: one holder at a time, dead holders are replaced by one, and whoever waits is told for what."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mfbench.errors import UserError
from mfbench.files import sweep
from mfbench.results import locks
from mfbench.results.locks import Holder, locked, read

HOLD = """
import sys, time
from pathlib import Path
from mfbench.results.locks import locked
with locked(Path(sys.argv[1]), "a run"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""

# Takes the lock many times; under it, reads a number, waits, and writes the next: any overlap loses one.
COUNT = """
import os, sys, time
from pathlib import Path
from mfbench.results.locks import locked
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(int(sys.argv[3])):
    with locked(lock, "a number", lambda text: None):
        now = int(number.read_text())
        time.sleep(0.002)
        number.write_text(str(now + 1))
"""


def process(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PAUSE", (0.01, 0.02))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".run.lock"


def write(path: Path, holder: Holder) -> None:
    path.write_text(json.dumps(asdict(holder)))


def dead(path: Path) -> Holder:
    """The lock of a process that was killed while it held it."""
    with process(HOLD, path, 60) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        holding.send_signal(signal.SIGKILL)
    found = read(path)
    assert found is not None
    assert found.dead()
    return found


def test_a_lock_says_who_holds_it_and_leaves_nothing(path: Path) -> None:
    with locked(path, "a run") as lock:
        holder = read(path)
        assert holder is not None
        assert (holder.pid, holder.dead(), holder.here()) == (os.getpid(), False, True)
        assert lock.held()
        lock.check()
    assert os.listdir(path.parent) == []


def test_processes_take_turns(path: Path, tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    writers = [process(COUNT, path, number, 20) for _ in range(3)]
    assert [one.wait(120) for one in writers] == [0, 0, 0]
    for one in writers:
        one.stdout.close()  # type: ignore[union-attr]
    assert number.read_text() == "60"
    assert os.listdir(tmp_path) == ["number"]


def test_threads_take_turns(path: Path, quick: None) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(10):
            with locked(path, "a run", lambda text: None):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == [1]
    assert os.listdir(path.parent) == []


def test_whoever_waits_is_told_once_for_what(path: Path, quick: None) -> None:
    told: list[str] = []
    with process(HOLD, path, 0.5) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        with locked(path, "the run X", told.append):
            assert holding.wait(10) == 0
    (text,) = told
    assert f"the run X: waiting for process {holding.pid} on " in text
    assert f"remove {path}" in text


def test_the_lock_of_a_killed_process_is_taken_over_at_once(path: Path, quick: None) -> None:
    dead(path)
    told: list[str] = []
    began = time.monotonic()
    with locked(path, "a run", told.append) as lock:
        assert time.monotonic() - began < 5
        assert lock.held()
    assert not told
    assert os.listdir(path.parent) == []


def test_one_takes_over(path: Path, tmp_path: Path) -> None:
    """Many see the same dead holder at the same time; the number would lose counts if two of them took its lock."""
    for _ in range(3):
        dead(path)
        number = tmp_path / "number"
        number.write_text("0")
        writers = [process(COUNT, path, number, 3) for _ in range(4)]
        for one in writers:
            assert one.wait(120) == 0
            one.stdout.close()  # type: ignore[union-attr]
        assert number.read_text() == "12"


def test_a_taker_that_died_is_taken_over_too(path: Path, quick: None) -> None:
    holder = dead(path)
    write(path.with_name(f"{path.name}.takeover"), replace(holder, token="guard"))
    with locked(path, "a run"):
        pass
    assert os.listdir(path.parent) == []


def test_a_number_that_another_process_has_now_holds_nothing(path: Path, quick: None) -> None:
    with locked(path, "a run"):
        mine = read(path)
    assert mine is not None
    write(path, replace(mine, started="1"))
    with locked(path, "a run"):
        pass


def test_another_machine_is_waited_for_while_it_touches_its_lock(
    path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SILENT", 0.5)
    foreign = Holder("elsewhere", 4194304, "another boot", "1", "yesterday", "theirs")
    write(path, foreign)
    assert not foreign.dead()
    over = threading.Event()

    def touch() -> None:
        while not over.wait(0.05):
            os.utime(path)

    touching = threading.Thread(target=touch)
    touching.start()
    told: list[str] = []
    taken = threading.Event()

    def take() -> None:
        with locked(path, "a run", told.append):
            taken.set()

    taking = threading.Thread(target=take)
    taking.start()
    assert not taken.wait(1.5)
    over.set()
    touching.join()
    assert taken.wait(10)
    taking.join()
    assert "process 4194304 on elsewhere, which has been making it since yesterday" in told[0]


def test_its_holder_touches_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TOUCHED", 0.05)
    with locked(path, "a run"):
        os.utime(path, (1, 1))
        for _ in range(100):
            if path.stat().st_mtime > 1:
                break
            time.sleep(0.05)
        assert path.stat().st_mtime > 1


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 1}', "[" * 100_000])
def test_a_lock_that_says_nothing_of_use_is_waited_for_as_another_machines(
    content: str, path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SILENT", 0.2)
    path.write_text(content)
    told: list[str] = []
    with locked(path, "a run", told.append):
        assert len(told) == 1
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("instead", [None, "another"])
def test_a_lock_that_was_removed_is_noticed(instead: str | None, path: Path) -> None:
    with locked(path, "a run") as lock:
        path.unlink()
        if instead is not None:
            write(path, Holder("here", 1, "", "", "now", instead))
        with pytest.raises(UserError, match=rf"run\.lock: expected the lock .*, found {instead or 'none'}"):
            lock.check()
    assert path.exists() == (instead is not None)  # another's lock stays


def test_without_links_the_lock_is_made_alone(path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    test_threads_take_turns(path, None)
    test_a_lock_says_who_holds_it_and_leaves_nothing(path)


def test_temporary_files_of_dead_processes_are_swept(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from mfbench.files import temporary_for as t; "
    code += "Path(t(Path(sys.argv[1]))).write_text('half')"
    with process(code, tmp_path / "a.json") as writing:
        writing.wait(60)
    (name,) = os.listdir(tmp_path)
    kept = {
        ".a.json.0123456789.1.part",  # another machine's
        name.replace(f".{writing.pid}.", f".{os.getpid()}."),  # this process's, of another thread
        name.replace(f".{writing.pid}.", f".{os.getppid()}."),  # of a process that runs
        ".b.json.1.part",  # from before, of who knows where, and young
        "a.part",
    }
    old = ".c.json.4194304.part"
    for one in (*kept, old):
        (tmp_path / one).write_text("")
    os.utime(tmp_path / old, (1, 1))
    sweep(tmp_path, "b.json")
    assert set(os.listdir(tmp_path)) == {*kept, old, name}
    sweep(tmp_path)
    assert set(os.listdir(tmp_path)) == kept
