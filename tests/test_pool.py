"""Calls in processes of their own: what comes back, what is lost, and how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from mfbench import extensions
from mfbench.errors import UserError
from mfbench.results.metrics import Metric, metric
from mfbench.study.pool import spread


def half(number: int) -> float:
    if number == 3:
        raise UserError("three is odd")
    return number / 2


def metrics_known(_: int) -> list[str]:
    return sorted(extensions.own()["metrics"])


def worst(predicted: object, reference: object) -> float:
    return 0.0


def killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture
def nothing_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "_own", {kind: {} for kind in extensions._own})


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_of_its_item_alone(workers: int, nothing_added: None) -> None:
    found = dict(spread(half, [2, 3, 4, 5], workers))
    assert isinstance(found.pop(1), UserError)
    assert found == {0: 1.0, 2: 2.0, 3: 2.5}
    assert list(spread(half, [], workers)) == []


def test_at_least_one_worker() -> None:
    with pytest.raises(UserError, match="workers: expected 1 or more, got 0"):
        next(spread(half, [1], 0))


def test_what_was_added_here_is_known_there(nothing_added: None) -> None:
    metric(Metric("worst", worst))
    assert dict(spread(metrics_known, [0, 1], 2)) == {0: ["worst"], 1: ["worst"]}


def test_what_cannot_be_sent_is_told_before_any_work(nothing_added: None, monkeypatch: pytest.MonkeyPatch) -> None:
    metric(Metric("secret", lambda p, r: 0.0))
    with pytest.raises(UserError, match=r"'secret' \(metrics\) cannot be sent.*workers=1"):
        next(spread(half, [1, 2], 2))
    of_a_notebook = type("Own", (), {"__module__": "__main__"})()
    monkeypatch.setattr(extensions, "_own", {"arms": {"own": of_a_notebook}})
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())
    with pytest.raises(UserError, match=r"'own'.*in a notebook.*workers=1"):
        next(spread(half, [1, 2], 2))


def test_a_worker_that_is_killed_is_told(nothing_added: None) -> None:
    found = dict(spread(killed, [0, 1, 2], 2))
    assert len(found) == 3
    assert "killed, or out of memory" in str(found[1])


SLEEPING = """
import sys, time
from pathlib import Path
from mfbench.study.pool import spread

def sleep(k):
    Path(f"{k}.began").touch()
    time.sleep(60)
    Path(f"{k}.ended").touch()

if __name__ == "__main__":
    try:
        for place, _ in spread(sleep, range(5), 2):
            print(place)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_they_end_with_their_parent(how: str, tmp_path: Path) -> None:
    """By Ctrl-C, which a terminal sends to all of them, at once and without a word; and where the parent is killed."""
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Python ignores Ctrl-C where it was begun in the background of a shell.
    begin = [sys.executable, "-c", "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "]
    begin[-1] += "os.execv(sys.executable, [sys.executable, 'sleeping.py'])"
    process = subprocess.Popen(
        begin, cwd=tmp_path, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 60
    while len(list(tmp_path.glob("*.began"))) < 2:
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.05)
    if how == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    _, told = process.communicate(timeout=20)  # stderr is closed when all that share it have ended
    assert process.returncode == (130 if how == "ctrl-c" else -signal.SIGKILL)
    assert "Traceback" not in told
    assert not list(tmp_path.glob("*.ended"))
