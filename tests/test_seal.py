"""Seals, what is checked when run folders are read, and the index of what was checked."""

import math
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import RUN_FILES
from sealing import as_run, reseal, unseal
from test_results import row, table

from mfbench.cli.main import main
from mfbench.errors import DataCorrupt, UserError
from mfbench.files import as_json, digest, read_json, write_json
from mfbench.learning.problem import Stage
from mfbench.learning.training import FitState
from mfbench.results import index as index_module
from mfbench.results.folder import EXTRA, RunFolder, as_parquet, read_metrics, read_run
from mfbench.results.index import INDEX_FILE
from mfbench.results.predictions import Predictions, arrays_bytes, arrays_from
from mfbench.results.runs import load_runs, read_runs
from mfbench.results.seal import Seal
from mfbench.study import load as load_module
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.load import load
from mfbench.study.run import record_absent, run


def short(**settings: Any) -> Experiment:
    return experiment("rmd17-cc", "MF", n_high=20, optimisation={"steps": 4, "validations": 2}, threads=1, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    folder = run(short(), tmp_path_factory.mktemp("runs"))
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def folder(trained: Path, runs: Path) -> Path:
    """A copy of a finished run."""
    return shutil.copytree(trained, runs / trained.name)


# The seal


def test_a_seal_names_every_file_of_a_run(folder: Path) -> None:
    said = read_json(folder / "seal.json")
    assert said["run"] == folder.name
    assert set(said["files"]) == RUN_FILES - {"seal.json"}
    assert all(said["files"][name] == digest((folder / name).read_bytes()) for name in said["files"])
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert max(written, key=lambda name: written[name]) == "seal.json"


def test_the_same_run_gives_the_same_weights_in_another_process(trained: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from test_seal import short; from mfbench.study.run import run; print(run(short(), sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    for name in ("weights.safetensors", "settings.json"):
        assert (Path(done.stdout.strip()) / name).read_bytes() == (trained / name).read_bytes()


def test_a_run_from_before_there_were_seals_is_read_and_said_to_be_unsealed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = read_runs(folder.parent)
    assert sealed.unsealed == ()
    assert sealed.remarks() == []
    unseal(folder)
    old = read_runs(str(folder.parent))
    assert old.unsealed == (folder.name,)
    pd.testing.assert_frame_equal(old.table, sealed.table)
    assert load(folder).arm == "MF"

    def fail(state: FitState, stage: Stage) -> None:
        raise AssertionError("trained again")

    assert run(short(), folder.parent, progress=fail) == folder
    monkeypatch.chdir(folder.parent.parent)
    assert main(["report"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"1 of 1 runs are from before results were sealed: nothing tells whether files were changed: {folder}" in (
        line.replace(folder.name, str(folder))
    )


def test_a_run_cut_short_before_its_seal_is_not_taken_for_one_from_before(folder: Path, trained: Path) -> None:
    (folder / "seal.json").unlink()
    assert not RunFolder(folder).finished
    assert read_runs(folder.parent).table.empty
    run(short(), folder.parent)
    drop = ["seconds", "structures_per_second"]
    pd.testing.assert_frame_equal(read_run(folder).drop(columns=drop), read_run(trained).drop(columns=drop))
    assert RunFolder(folder).sealed


def test_a_renamed_folder_is_refused(folder: Path) -> None:
    other = folder.rename(folder.with_name("mine"))
    for reading in (read_run, load, lambda path: read_metrics(path / "metrics.parquet")):
        with pytest.raises(UserError, match=rf"expected the seal of the run mine, got that of {folder.name}"):
            reading(other)
    unseal_by_hand = RunFolder(other).file("metrics.parquet")
    frame = pd.read_parquet(unseal_by_hand)
    (other / "seal.json").unlink()
    frame.to_parquet(unseal_by_hand, index=False)
    with pytest.raises(UserError, match="expected rows of the run mine, got some of 'rmd17-cc-"):
        read_run(other)


def test_a_link_to_a_run_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "short").symlink_to(folder)
    assert len(load_runs(tmp_path / "linked")) == len(read_run(folder))


@pytest.mark.parametrize("name", sorted(RUN_FILES - {"seal.json"}))
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: expected it in the folder of a finished run, found none"):
        RunFolder(folder).read(name)


def test_a_file_that_was_added_is_no_part_of_the_run(runs: Path) -> None:
    absent = record_absent(experiment("ani1ccx", "SF-EF", threads=1), runs, "no forces there")
    (absent / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"weights\.safetensors: expected a file of the finished run .* added later"):
        RunFolder(absent).read("weights.safetensors")
    with pytest.raises(UserError, match="could not be trained"):
        load(absent)


def test_a_seal_of_a_later_format_is_refused_as_such(folder: Path) -> None:
    said = {**read_json(folder / "seal.json"), "format": 2}
    said.pop("sha256")
    write_json(folder / "seal.json", {**said, "sha256": digest(as_json(said))})
    with pytest.raises(UserError, match=r"seal\.json: expected a seal of format 1, got 2"):
        read_run(folder)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_later_table_cut_short_between_its_seal_and_itself_is_whole(
    lost: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the second writing of it stops before its table or after: one of the two is what the seal says."""
    one = RunFolder(folder)
    first = one.metrics().query("metric == 'mae' and n > 0").assign(metric="hit rate", value=0.5)
    one.write_extra("metrics.parquet", as_parquet(first))
    written, whole = [], os.replace

    def stop(*arguments: Any) -> None:
        written.append(arguments)
        if len(written) > lost:
            raise KeyboardInterrupt
        whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            one.write_extra("metrics.parquet", as_parquet(first.assign(value=0.75)))
    values = set(one.rows().query("metric == 'hit rate'")["value"])
    assert values == {0.5 if lost == 1 else 0.75}
    one.write_extra("metrics.parquet", as_parquet(first.assign(value=1.0)))
    assert set(one.rows().query("metric == 'hit rate'")["value"]) == {1.0}
    shutil.copy(folder / "metrics.parquet", folder / EXTRA / "metrics.parquet")
    with pytest.raises(UserError, match=r"extra/metrics\.parquet: expected sha256"):
        one.rows()


def test_crashes_leave_nothing_for_ever(folder: Path) -> None:
    name = RunFolder(folder).lock.name
    code = "import sys; from pathlib import Path; from mfbench.files import temporary_for as t\n"
    code += "for p in sys.argv[1:]: t(Path(p)).write_text('half')"
    left = [str(folder / "predictions.h5"), str(folder / EXTRA / "a.parquet"), str(folder.parent / f"{name}.token")]
    (folder / EXTRA).mkdir()
    subprocess.run([sys.executable, "-c", code, *left], check=True)
    (folder / "checkpoint-0.safetensors").write_bytes(b"of before")
    run(short(), folder.parent)
    assert {path.name for path in folder.rglob("*")} == {*RUN_FILES, EXTRA}
    assert os.listdir(folder.parent) == [folder.name]


@pytest.mark.parametrize("what", ["run", "runs"])
def test_a_folder_that_vanishes_ends_its_run_with_an_error(what: str, runs: Path) -> None:
    def vanish(state: FitState, stage: Stage) -> None:
        shutil.rmtree(runs / short().name if what == "run" else runs)

    with pytest.raises(UserError, match=r"was (the|its) folder moved or removed while"):
        run(short(), runs, progress=lambda state, stage: vanish(state, stage) if state.step == 4 else None)
    assert not RunFolder(runs / short().name).finished
    assert RunFolder(run(short(), runs)).sealed


def test_a_second_thread_waits_and_finds_it_finished(runs: Path) -> None:
    steps: list[int] = []
    done = [
        threading.Thread(target=run, args=(short(), runs), kwargs={"progress": lambda s, _: steps.append(s.step)})
        for _ in range(2)
    ]
    for one in done:
        one.start()
    for one in done:
        one.join()
    assert steps == [2, 4]


# Tables


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": -5.0}, r"column value, row 1: expected 0 or more, as of any error, got -5\.0"),
        ({"value": math.inf}, "column value, row 1: expected a finite number where n > 0, got inf"),
        ({"value": math.nan}, "column value, row 1: expected a finite number where n > 0, got nan"),
        ({"n": -1}, "column n, row 1: expected 0 or more, got -1"),
        ({"n_high": -1}, "column n_high, row 1: expected 0 or more"),
        ({"seconds": math.nan}, "column seconds, row 1: expected 0 or more, got nan"),
        ({"arm": None}, "column arm, row 1: expected text, got (None|nan)"),
        ({"arm": " "}, "column arm, row 1: expected a name, got ' '"),
        ({"arm": "MF\x1b[31m"}, r"column arm, row 1: expected text without control characters, got 'MF\\x1b\[31m'"),
        ({"remark": "two\nlines"}, "column remark, row 1: expected text without control characters"),
        ({"device": "cpu\u202e"}, "column device, row 1: expected text without control characters"),
        ({"part": "train"}, "column part, row 1: expected one of test, unseen, got 'train'"),
        ({"role": "highest"}, "column role, row 1: expected one of low, further, high"),
        ({"quantity": "stress"}, "column quantity, row 1: expected one of energy"),
        ({"metric": "mae"}, "expected each error once, got row 1 a second time: MF, ccsd/cc-pvdz, test, energy, mae"),
        ({"run": "another"}, "expected rows of the run a, got some of 'another'"),
    ],
)
def test_a_table_that_cannot_be_is_refused(change: dict[str, Any], message: str, runs: Path) -> None:
    frame = pd.DataFrame([row("MF", 0.1, run="a"), row("MF", 0.2, run="a", metric="rmse") | change])
    (runs / "a").mkdir()
    frame.to_parquet(runs / "a" / "metrics.parquet", index=False)
    with pytest.raises(UserError, match=message) as caught:
        read_run(runs / "a")
    assert "metrics.parquet" in str(caught.value)
    good = as_run(table(row("MF", 0.3)), "b")
    RunFolder(runs / "b").finish(good)
    with pytest.warns(UserWarning, match="left out: ") as warned:
        pd.testing.assert_frame_equal(load_runs(runs), good)
    assert len(warned) == 1
    if not {"run", "remark"} & change.keys():  # what no reader would take is not written
        with pytest.raises(UserError, match=message):
            RunFolder(runs / "c").finish(frame.assign(run="c"))
        assert not RunFolder(runs / "c").finished


def test_a_remark_of_another_program_becomes_one_line(runs: Path) -> None:
    RunFolder(runs / "a").finish(as_run(table(row("MF", math.nan, remark="no\n\x1b[31m forces")), "a"))
    assert read_run(runs / "a")["remark"].tolist() == ["no [31m forces"]


def test_all_bad_is_an_error_that_names_them(runs: Path) -> None:
    for name in ("a", "b"):
        (runs / name).mkdir()
        (runs / name / "metrics.parquet").write_bytes(b"no Parquet")
    with pytest.raises(UserError, match=r"no run in .* can be read: .*a/metrics\.parquet is not a .*; .*b/metrics"):
        load_runs(runs)


def test_several_folders_hold_the_same_run(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder.parent, tmp_path / "more")
    assert len(load_runs([str(folder.parent), tmp_path / "more"])) == 2 * len(read_run(folder))


def test_tables_of_before_are_read_beside_those_of_now(runs: Path) -> None:
    old = as_run(table(row("MF", 0.1)), "old").drop(columns=["unit", "steps_shared"])
    (runs / "old").mkdir()
    old.to_parquet(runs / "old" / "metrics.parquet", index=False)
    for name in ("a", "z"):
        RunFolder(runs / name).finish(as_run(table(row("MF", 0.2), row("MF", 0.3, quantity="force")), name))
    found = read_runs(runs)
    assert found.table["run"].tolist() == ["a", "a", "old", "z", "z"]
    assert found.table["unit"].tolist() == [""] * 5
    assert found.unsealed == ("old",)


@pytest.mark.parametrize(
    "content",
    [
        {"versions": ["torch"]},
        {"versions": {"torch": {}}},
        {"device": 1.5},
        {"commit": ["a"]},
        {"platform": "x\x1b[31m"},
    ],
)
def test_odd_provenance_is_named(content: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(folder / "provenance.json", content)
    reseal(folder)
    with pytest.raises(UserError, match=rf"provenance\.json: {next(iter(content))}: expected"):
        load_runs(folder.parent)


# Where runs are


def test_folders_that_cannot_be_read_are_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    for reading in (load_runs, lambda path: run(short(), path), lambda path: load(path)):
        with pytest.raises(UserError, match=r"link: expected a .*folder, got a link to .*gone, which is not there"):
            reading(tmp_path / "link")
    with pytest.raises(UserError, match="file: expected a folder of runs, cannot read it: Not a directory"):
        load_runs(tmp_path / "file")
    with pytest.raises(UserError, match="expected a folder, got a file at"):
        run(short(), tmp_path / "file")
    assert load_runs(tmp_path / "none").empty

    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match="closed: expected a folder of runs, cannot read it: Permission denied"):
        load_runs(tmp_path / "closed")


def test_a_run_that_cannot_be_opened_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "gone").symlink_to(folder.parent / "nowhere")
    (folder.parent / "closed").mkdir()
    whole = Path.is_file

    def closed(path: Path, **named: Any) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, **named)

    monkeypatch.setattr(Path, "is_file", closed)
    found = read_runs(folder.parent)
    assert found.folders == (folder,)
    assert [problem for problem in found.problems if "gone: expected a run folder, got a link to" in problem]
    assert [problem for problem in found.problems if "closed" in problem and "Permission denied" in problem]


# Settings and weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2**80}, r"settings\.json: seed: .*less than"),
        ({"seed": 2**63}, r"settings\.json: seed: .*less than"),
        ({"n_features": 10**6}, r"settings\.json: network: .*4096|settings\.json: .*n_features"),
        ({"n_atom_layers": 10**6}, r"settings\.json: .*n_atom_layers"),
        ({"cutoff": 5.5}, "expected the settings of the run"),
        ({"n_high": 30}, "expected the settings of the run"),
        ({"backbone": "none"}, r"settings\.json: "),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(change: dict[str, Any], message: str, folder: Path) -> None:
    settings = read_json(folder / "settings.json")
    for key, value in change.items():
        (settings["network"] if key in settings["network"] else settings)[key] = value
    write_json(folder / "settings.json", settings)
    reseal(folder)
    with pytest.raises(UserError, match=message):
        load(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"seed": ' + "1" * 100_000 + "}", '{"a":' * 100_000])
def test_settings_that_no_reader_ends(content: str, folder: Path) -> None:
    (folder / "settings.json").write_text(content)
    reseal(folder)
    with pytest.raises(UserError, match=r"cannot read .*settings\.json"):
        load(folder)


def test_seeds_go_as_far_as_the_table_holds(runs: Path) -> None:
    folder = run(short(seed=2**63 - 1), runs)
    assert set(read_run(folder)["seed"]) == {2**63 - 1}
    assert load(folder).settings.seed == 2**63 - 1


def test_big_networks_are_compared_before_they_are_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a case that is not here, so that nothing tells the folder's name."""
    monkeypatch.setattr(Experiment, "name", property(lambda self: folder.name))
    settings, whole = read_json(folder / "settings.json"), load_module.untrained
    real: list[str] = []

    def building(*arguments: Any) -> Any:
        made = whole(*arguments)
        real.extend(parameter.device.type for parameter in made.parameters())
        return made

    monkeypatch.setattr(load_module, "untrained", building)
    for network, message in (
        ({"n_features": 4096, "n_sensitivities": 512}, r"expected [\d,]+ weights or more, got [\d,]+"),
        ({"n_features": 16, "n_sensitivities": 512}, "expected shape"),
    ):
        monkeypatch.setattr(load_module, "_BIG", 10**6)
        write_json(folder / "settings.json", {**settings, "network": {**settings["network"], **network}})
        reseal(folder)
        with pytest.raises(UserError, match=rf"the weights are not those of the network .*{message}"):
            load(folder)
        assert set(real) <= {"meta"}


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}"])
def test_weights_that_are_none(content: bytes, folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(content)
    reseal(folder)
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        load(folder)


def test_predictions_are_made_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunFolder(folder).predictions()
    monkeypatch.chdir(folder)
    before = set(os.listdir())
    again = arrays_from(arrays_bytes(record), Predictions, Path("p.h5"))
    assert set(os.listdir()) == before
    for name, value in vars(record).items():
        assert np.array_equal(getattr(again, name), value)
    with h5py.File(folder / "predictions.h5") as file:  # a file like any other
        assert set(file) | set(file.attrs) == set(vars(record))
    with pytest.raises(DataCorrupt, match=r"p\.h5: expected Predictions as HDF5, got a damaged file"):
        arrays_from(b"no HDF5", Predictions, Path("p.h5"))


# The index


def settled(folder: Path) -> None:
    """Wait until files count as unchanged since long."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and time.time() - max(p.stat().st_ctime for p in folder.rglob("*")) < 0.3:
        time.sleep(0.05)


@pytest.fixture
def many(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enough runs for an index, written once and left alone."""
    monkeypatch.setattr(index_module, "_SETTLED", 2 * 10**8)
    for k in range(25):
        RunFolder(runs / f"run-{k:02d}").finish(as_run(table(row("MF", 0.1 + k)), f"run-{k:02d}"))
    settled(runs)
    return runs


def hashed(many: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, pd.DataFrame]:
    """How many files a reading hashes."""
    seen, whole = [], Seal.check

    def check(seal: Seal, name: str, content: bytes, path: Path) -> None:
        seen.append(path)
        whole(seal, name, content, path)

    with monkeypatch.context() as patch:
        patch.setattr(Seal, "check", check)
        read = read_runs(many)
    return len(seen), read.table


def test_what_was_checked_is_remembered(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, first = hashed(many, monkeypatch)
    assert count == 25
    assert (many / INDEX_FILE).is_file()
    count, again = hashed(many, monkeypatch)
    assert count == 0
    pd.testing.assert_frame_equal(first, again)
    path = many / "run-03" / "metrics.parquet"
    os.utime(path, ns=(1, path.stat().st_mtime_ns))  # the same content, another ctime
    assert hashed(many, monkeypatch)[0] == 1
    (many / INDEX_FILE).unlink()
    assert hashed(many, monkeypatch)[0] == 25


def test_a_change_is_seen_in_spite_of_the_index(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed(many, monkeypatch)
    path = many / "run-03" / "metrics.parquet"
    stat, whole = path.stat(), bytearray(path.read_bytes())
    whole[100] ^= 4
    path.write_bytes(whole)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # size, time and inode as before
    found = read_runs(many)
    assert len(found.folders) == 24
    assert "run-03/metrics.parquet: expected sha256" in found.problems[0]


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b'{"files": 3}', b"\xff"])
def test_a_damaged_index_is_made_again(content: bytes, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed(many, monkeypatch)
    (many / INDEX_FILE).write_bytes(content)
    assert hashed(many, monkeypatch)[0] == 25
    assert hashed(many, monkeypatch)[0] == 0


def test_an_index_somebody_wrote_is_not_believed(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed(many, monkeypatch)
    records, rows = index_module.read_index(many)
    older = {name: replace(one, state=(("seal.json", 1, 2, 3, 4), *one.state[1:])) for name, one in records.items()}
    index_module.write_index(many, older, rows.assign(value=0.0))
    assert hashed(many, monkeypatch)[0] == 25


def test_the_index_of_a_folder_that_is_read_only_is_the_users(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    whole = index_module.write_bytes

    def closed(path: Path, content: bytes) -> None:
        if path.parent == many:
            raise PermissionError(13, "Permission denied")
        whole(path, content)

    monkeypatch.setattr(index_module, "write_bytes", closed)
    assert hashed(many, monkeypatch)[0] == 25
    assert not (many / INDEX_FILE).exists()
    assert list((tmp_path / "cache" / "mfbench" / "runs").iterdir())
    assert hashed(many, monkeypatch)[0] == 0


def test_few_runs_get_no_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_runs(folder.parent)
    assert os.listdir(folder.parent) == [folder.name]
