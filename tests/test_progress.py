"""The progress bar of an experiment: one for each stage, none that runs backwards."""

from pathlib import Path
from typing import Any

import pytest

from mfbench import bars
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
