"""The campaign: kills, several processes at once, full disks and flipped bits; see ``campaign`` for the processes."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ase.build import molecule
from conftest import RUN_FILES

from mfbench.cli.main import main
from mfbench.errors import UserError
from mfbench.results.folder import EXTRA, RunFolder, as_parquet
from mfbench.results.origin import origin
from mfbench.results.runs import read_runs
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.load import load
from mfbench.study.run import run

HERE = Path(__file__).resolve().parent


def campaign(folder: Path, what: str, number: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the undisturbed twin came to, and what the others did."""
    command = [sys.executable, str(HERE / "campaign.py"), str(folder), what, str(number), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    twin, *others = map(json.loads, done.stdout.splitlines())
    assert twin["status"] == 0, done.stderr
    return twin, others


def same(one: dict[str, Any], twin: dict[str, Any]) -> bool:
    assert one["status"] == 0, one["at"]
    assert set(one["folder"]) == RUN_FILES, one["at"]
    assert one["files"] == twin["files"], one["at"]  # nothing is left over, neither there nor beside it
    return one["table"] == twin["table"] and one["weights"] == twin["weights"]


def test_a_run_killed_at_some_writes_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    twin, others = campaign(tmp_path, "events", 3)
    assert len(others) == 3
    assert all(one["killed"] and same(one, twin) for one in others)


@pytest.mark.slow
def test_a_run_killed_at_every_write_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    twin, others = campaign(tmp_path, "events", 0)
    assert len(others) > 60
    assert {one["at"].split()[0] for one in others} >= {"fsync", "replace", "link", "unlink", "write_bytes"}
    assert all(one["killed"] and same(one, twin) for one in others)


@pytest.mark.parametrize("number", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_goes_on_to_the_same_numbers(number: int, tmp_path: Path) -> None:
    twin, others = campaign(tmp_path, "kills", number)
    assert all(same(one, twin) for one in others)
    assert number < 10 or any(one["killed"] for one in others)  # a few may all come too late on a busy machine


@pytest.mark.parametrize("number", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_a_run_once(number: int, tmp_path: Path) -> None:
    twin, (one,) = campaign(tmp_path, "race", number)
    assert one["codes"] == [0] * number
    assert sorted(one["seen"])[:-1] == [0] * (number - 1)
    assert max(one["seen"]) > 0
    assert same(one, twin)


# In this process


def short(**settings: Any) -> Experiment:
    return experiment(
        "rmd17-cc", "transfer", n_high=20, optimisation={"steps": 4, "validations": 2}, threads=1, **settings
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a table of a later check."""
    threads = torch.get_num_threads()
    path = run(short(), tmp_path_factory.mktemp("runs"))
    torch.set_num_threads(threads)
    folder = RunFolder(path)
    later = folder.metrics().query("metric == 'mae' and n > 0").assign(metric="hit rate", unit="", value=0.5)
    with folder.locked():
        folder.write_extra("metrics.parquet", as_parquet(later))
    return path


@contextmanager
def full_after(writes: int, monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[list[int]]:
    """A disk that is full from that write on: half of it arrives."""
    seen = [0]

    def at(whole: Callable[..., Any]) -> Callable[..., Any]:
        def write(path: Path, content: Any, *arguments: Any, **named: Any) -> Any:
            seen[0] += 1
            if seen[0] > writes:
                whole(path, content[: len(content) // 2], *arguments, **named)
                raise OSError(number, os.strerror(number))
            return whole(path, content, *arguments, **named)

        return write

    with monkeypatch.context() as patch:
        for name in ("write_bytes", "write_text"):
            patch.setattr(Path, name, at(getattr(Path, name)))
        yield seen


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_is_said_in_one_line_wherever_it_happens(
    every: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_after(10**6, monkeypatch, errno.ENOSPC) as seen:
        run(short(), tmp_path / "whole", checkpoint_seconds=0.0)
    assert seen[0] > 12
    for k in range(0, seen[0], every):
        runs, number = tmp_path / f"runs-{k}", (errno.ENOSPC, errno.EDQUOT)[k % 2]
        told = r"^cannot write \S+: its (disk is full|owner's quota)[^\n]*$"
        with full_after(k, monkeypatch, number), pytest.raises(UserError, match=told):
            run(short(), runs, checkpoint_seconds=0.0)
        assert not list(runs.rglob(".*"))  # nothing half-written, no lock
        assert read_runs(runs).table.empty
        drop = ["seconds", "structures_per_second"]
        again, twin = (RunFolder(path).metrics().drop(columns=drop) for path in (run(short(), runs), finished))
        pd.testing.assert_frame_equal(again, twin, check_exact=True)
        assert {path.name for path in (runs / finished.name).iterdir()} == RUN_FILES


def test_a_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, where mounting is allowed: it fills up, says so, and with more room the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.strip()}")
    try:
        with pytest.raises(UserError, match=r"needs about \d+ MB in .*, where \d+ are free"):
            run(short(), disk)
        assert not list(disk.iterdir())
        monkeypatch.setattr("mfbench.study.run.require_space", lambda *arguments: None)
        with pytest.raises(UserError, match=r"cannot write \S+: its disk is full"):
            run(short(), disk)
        assert not list(disk.rglob("*.part"))
        more = ["mount", "-o", "remount,size=64m", str(disk)]
        assert subprocess.run(more, check=False).returncode == 0
        assert RunFolder(run(short(), disk)).sealed
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def numbers(runs: Path) -> dict[str, Any]:
    """Every number that reading a run gives, or why it gives none."""
    folder = next(path for path in runs.iterdir() if path.is_dir())

    def predicted() -> Any:
        model = load(folder, dtype="float64")
        found = [model.predict(molecule("CH3CH2OH"), level) for level in model.levels]
        return [(one.energies.tolist(), one.forces.tolist()) for one in found]  # type: ignore[union-attr]

    def recorded() -> Any:
        p = RunFolder(folder).predictions()
        return [getattr(p, name).tolist() for name in ("energy_predicted", "energy_reference", "force_predicted")]

    def table() -> Any:
        found = read_runs(runs)
        assert not found.problems  # of one run, they are an error
        assert not found.unsealed
        return found.table.to_json(double_precision=15)

    def provenance() -> Any:
        return origin([RunFolder(folder).provenance()])

    found = {}
    for one in (predicted, recorded, table, provenance):
        try:
            found[one.__name__] = one()
        except UserError as error:
            found[one.__name__] = error
    return found


@pytest.mark.parametrize("number", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_refused_by_name_or_changes_nothing(number: int, finished: Path, tmp_path: Path) -> None:
    rng = random.Random(number)
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs / finished.name)
    right = numbers(runs)
    assert not [one for one in right.values() if isinstance(one, UserError)]
    files = sorted(path for path in (runs / finished.name).rglob("*") if path.is_file())
    assert {path.name for path in files} == {*RUN_FILES, "metrics.parquet.seal.json"}
    refused: dict[str, int] = dict.fromkeys((str(path.relative_to(runs)) for path in files), 0)
    for k in range(number):
        path = files[k % len(files)]
        whole = path.read_bytes()
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
        for name, got in numbers(runs).items():
            if isinstance(got, UserError):
                assert str(path) in str(got), f"byte {at}, bit {bit} of {path.name}: {name}: {got}"
                refused[str(path.relative_to(runs))] += 1
            else:
                assert got == right[name], f"byte {at}, bit {bit} of {path.name}: {name}"
        path.write_bytes(whole)
    assert numbers(runs) == right
    # Of history and split nobody reads a number; all others are refused by those who read them.
    unread = {f"{finished.name}/{name}" for name in ("history.csv", "split.npz")}
    assert {name for name, count in refused.items() if not count} <= unread


def test_files_of_another_run_are_refused(finished: Path, tmp_path: Path) -> None:
    """Whole files of a run of the same shape, one by one: nothing of it is taken for this run's."""
    other = run(short(seed=1), tmp_path / "other")
    for name in sorted(RUN_FILES - {"history.csv", "split.npz"}):
        runs = tmp_path / name
        shutil.copytree(finished, runs / finished.name)
        shutil.copy(other / name, runs / finished.name / name)
        assert any(isinstance(one, UserError) and name in str(one) for one in numbers(runs).values()), name
    shutil.copytree(other, tmp_path / "renamed" / finished.name)
    found = numbers(tmp_path / "renamed")
    assert all(isinstance(one, UserError) for one in found.values())
    assert "expected the seal of the run" in str(found["table"])


def test_one_bad_run_does_not_keep_the_others_from_a_report(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "runs" / finished.name)
    bad = run(short(seed=1), tmp_path / "runs")
    whole = (bad / "metrics.parquet").read_bytes()
    (bad / "metrics.parquet").write_bytes(whole[:-9] + b"\x1b" + whole[-8:])
    assert main(["report"]) == 0
    shown = capsys.readouterr()
    assert f"left out: runs/{bad.name}/metrics.parquet: expected sha256" in shown.err
    assert (tmp_path / "report.html").is_file()
    (tmp_path / "runs" / finished.name / "metrics.parquet").write_bytes(b"")
    assert main(["report"]) == 2
    shown = capsys.readouterr()
    assert finished.name in shown.err
    assert bad.name in shown.err
    assert len(shown.err.splitlines()) == 1


def test_extra_of_this_fixture_is_read(finished: Path) -> None:
    rows = RunFolder(finished).rows()
    assert np.isin(["mae", "rmse", "hit rate"], rows["metric"]).all()
    assert (finished / EXTRA / "metrics.parquet.seal.json").is_file()
