"""Many experiments: run once each, in one table, whatever fails, stops them, or shares them out."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mfbench import bars
from mfbench.errors import UserError
from mfbench.learning.training import FitState, Stage, silent
from mfbench.results.folder import is_finished
from mfbench.results.runs import load_runs
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.grid import Outcome, comparison, run_all

TIMES = ["seconds", "structures_per_second"]


def short(arm: str = "MF", case: str = "rmd17-cc", **settings: Any) -> Experiment:
    return experiment(case, arm, optimisation={"steps": 6, "validations": 3}, threads=1, **settings)


def test_what_cannot_be_trained_and_what_fails_keep_nothing_from_the_table(runs: Path) -> None:
    told: list[Outcome] = []
    chosen = [short(), short("SF-EF", "ani1ccx"), short("SF-E"), short()]
    table = run_all(chosen, runs, told=told.append, progress=False)
    assert list(dict.fromkeys(table["run"])) == [one.name for one in chosen[:3]]  # each once, in their order
    absent = table[table["case"] == "ani1ccx"]
    assert (absent["n"] == 0).all()
    assert absent["remark"].str.contains("no forces").all()
    assert [(one.number, one.total, one.ran) for one in told] == [(1, 3, True), (2, 3, True), (3, 3, True)]
    too_many = short(n_high=100_000)
    told.clear()
    with pytest.raises(UserError, match=r"1 of 3 experiments failed.*n100000.*expected 10 to") as raised:
        run_all([too_many, short("SF-E"), short("SF-E", seed=1)], runs, told=told.append, progress=False)
    assert too_many.name in str(raised.value)
    assert [(one.settings.arm, one.ran, one.error is None) for one in told] == [
        ("MF", True, False),
        ("SF-E", False, True),
        ("SF-E", True, True),
    ]
    assert is_finished(runs / short("SF-E", seed=1).name)


def test_a_fault_of_the_code_keeps_its_traceback(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(place: str, settings: Experiment) -> Any:
        if settings.arm == "SF-E":
            raise TypeError("not yours")
        return nullcontext(silent)

    with pytest.raises(RuntimeError, match=r"1 of 2 experiments failed.*not yours") as raised:
        run_all([short("SF-E"), short()], runs, progress=broken)
    assert isinstance(raised.value.__cause__, TypeError)
    assert f"{short('SF-E').name} failed: not yours" in capsys.readouterr().err  # told at once
    assert is_finished(runs / short().name)


def test_stopped_by_ctrl_c_it_goes_on(runs: Path) -> None:
    chosen = comparison("rmd17-cc", ["SF-E", "MF"], [50], optimisation={"steps": 6, "validations": 3})

    def stop(place: str, settings: Experiment) -> Any:
        def show(state: FitState, stage: Stage) -> None:
            if settings.arm == "MF":
                raise KeyboardInterrupt

        return nullcontext(show)

    with pytest.raises(KeyboardInterrupt):
        run_all(chosen, runs, progress=stop)
    assert [is_finished(runs / one.name) for one in chosen] == [True, False]
    told: list[Outcome] = []
    run_all(chosen, runs, progress=False, told=told.append)
    assert [one.ran for one in told] == [False, True]


def test_one_bar_over_all(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts experiments, moves within each, and what was finished before is no speed of this call."""
    made: list[Any] = []
    seen: list[tuple[float, float]] = []
    whole = bars.bar

    def record(**options: Any) -> Any:
        made.append(whole(**options))
        update = made[-1].update

        def watched(by: float) -> None:
            update(by)
            seen.append((made[-1].n, made[-1].initial))

        made[-1].update = watched
        return made[-1]

    run_all([short("SF-E")], runs, progress=False)
    monkeypatch.setattr(bars, "bar", record)
    monkeypatch.setattr(bars, "visible", lambda: True)
    run_all([short("SF-E"), short("delta")], runs)
    (bar,) = [one for one in made if one.total == 2]
    assert (bar.initial, bar.n) == (1, 2)
    assert "E(ccsd/cc-pvdz)=" in bar.postfix
    places = [n for n, _ in seen]
    assert places == sorted(places)
    assert any(1 < n < 2 for n in places)
    assert not run_all([], runs).shape[0]


@pytest.mark.slow
def test_several_workers_give_the_same_table(tmp_path: Path) -> None:
    chosen = [short(arm, n_high=n) for arm, n in (("delta", 50), ("delta", 60), ("SF-E", 50))]
    chosen.append(short("SF-EF", "ani1ccx"))
    one = run_all(chosen, tmp_path / "one", device="cpu", progress=False)
    two = run_all(chosen, tmp_path / "two", workers=2, device="cpu", progress=False)
    pd.testing.assert_frame_equal(one.drop(columns=TIMES), two.drop(columns=TIMES), check_exact=True)
    assert len(load_runs(tmp_path / "two")) == len(two)
