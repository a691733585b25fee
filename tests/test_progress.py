"""The progress bar of an experiment: one for each stage, none that runs backwards, or where nobody sees it."""

import time
from pathlib import Path
from typing import Any

import pytest

from mfbench import bars
from mfbench.learning.training import FitState, Stage
from mfbench.study import progress
from mfbench.study.experiment import experiment
from mfbench.study.run import run


def test_each_stage_has_its_own_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    whole = bars.bar

    def record(**options: Any) -> Any:
        made.append(whole(**options))
        return made[-1]

    monkeypatch.setattr(bars, "bar", record)
    settings = experiment("rmd17-cc", "delta", optimisation={"steps": 20, "validations": 4}, threads=1)
    with progress.bar("[1/1]", settings) as show:
        run(settings, tmp_path, progress=show)
    assert [(bar.total, bar.n) for bar in made] == [(14, 14), (6, 6)]
    assert "low level" in made[0].desc
    assert "correction to ccsd/cc-pvdz" in made[1].desc
    with progress.bar("", settings) as show:
        run(settings, tmp_path, progress=show)  # finished: nothing to show
    assert len(made) == 2


def test_a_bar_of_a_run_that_goes_on_starts_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And steps that an earlier call made do not count as speed."""
    made: list[Any] = []
    whole = bars.bar

    def record(**options: Any) -> Any:
        made.append(whole(**options))
        return made[-1]

    monkeypatch.setattr(bars, "bar", record)
    monkeypatch.setattr(bars, "visible", lambda: True)
    settings = experiment("rmd17-cc", "MF", optimisation={"steps": 20, "validations": 10}, threads=1)

    def stop(state: FitState, stage: Stage) -> None:
        if state.step == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings, tmp_path, progress=stop, checkpoint_seconds=0.0)
    assert not [bar for bar in made if bar.unit == "step"]  # a caller's own is shown alone
    started = time.time()
    run(settings, tmp_path)
    (bar,) = [bar for bar in made if bar.unit == "step"]
    assert (bar.initial, bar.n, bar.total) == (12, 20, 20)  # stopped in the report at 14, before its checkpoint
    # Speed is (n - initial) / (now - start_t): the eight steps of this call, over its own time.
    assert 0 < time.time() - bar.start_t <= time.time() - started


def test_no_bar_where_nobody_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "bar", lambda **options: pytest.fail(f"a bar: {options}"))
    settings = experiment("rmd17-cc", "MF", optimisation={"steps": 4, "validations": 2}, threads=1)
    run(settings, tmp_path / "piped")  # stderr is a pipe here
    monkeypatch.setattr(bars, "visible", lambda: True)
    run(settings, tmp_path / "off", progress=False)
