"""Libraries: what a folder of runs, or results that ship, hold."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import script
from sealing import as_run, reseal, unseal
from test_results import row, table

from mfbench import resources
from mfbench.errors import UserError
from mfbench.files import write_json
from mfbench.results import index as index_module
from mfbench.results import library as library_module
from mfbench.results.folder import RunFolder
from mfbench.results.index import INDEX_FILE, read_index, write_index
from mfbench.results.library import ENTRIES, Library
from mfbench.results.locks import locked
from mfbench.results.reference import pack
from mfbench.results.runs import read_runs
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.run import run

KNOWN = {"case": "rmd17-cc", "data": "mini", "arm": "MF", "backbone": "hipnn-ts", "preset": "demo"}


def short(arm: str = "MF", seed: int = 0) -> Experiment:
    return experiment("rmd17-cc", arm, n_high=20, seed=seed, optimisation={"steps": 4, "validations": 2}, threads=1)


class Stopped(Exception):
    """Training ends here."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and one that was stopped after its first validation."""
    folder, threads = tmp_path_factory.mktemp("runs"), torch.get_num_threads()
    run(short(), folder)

    def stop(state: object, stage: object) -> None:
        if state.step == 4:  # type: ignore[attr-defined]
            raise Stopped

    with pytest.raises(Stopped):
        run(short(seed=1), folder, progress=stop, checkpoint_seconds=0.0)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def here(trained: Path, runs: Path) -> Path:
    """A copy of the two."""
    return shutil.copytree(trained, runs, dirs_exist_ok=True)


def add(runs: Path, name: str, value: float = 0.1, arm: str = "MF") -> RunFolder:
    """A finished run of one row."""
    folder = RunFolder(runs / name)
    folder.finish(as_run(table(row(arm, value)), name))
    return folder


def entry(library: Library, run: str) -> dict[str, object]:
    return library.entries.set_index("run").loc[run].to_dict()


# States


def test_finished_and_unfinished_runs(here: Path) -> None:
    library, (finished, stopped) = Library.of_folder(here), (short().name, short(seed=1).name)
    assert library.entries["run"].tolist() == sorted([finished, stopped])
    assert library.entries.dtypes.astype(str).to_dict() == ENTRIES
    pd.testing.assert_frame_equal(library.table, read_runs(here).table)
    assert set(library.table["run"]) == {finished}

    said = entry(library, finished)
    assert {key: said[key] for key in KNOWN} == {**KNOWN, "preset": short().recipe}
    assert (said["state"], said["step"], said["steps"], said["seed"]) == ("finished", 4, 4, 0)
    assert said["commit"] == library.provenance(finished)["commit"]
    assert said["finished"] == library.provenance(finished)["finished"]
    assert said["bytes"] == sum(path.stat().st_size for path in (here / finished).iterdir())

    said = entry(library, stopped)
    assert {key: said[key] for key in KNOWN} == KNOWN
    assert (said["state"], said["step"], said["steps"], said["seed"]) == ("unfinished", 2, 4, 1)
    assert not said["running"]
    assert said["problem"] == said["finished"] == ""
    assert library.remarks == ()

    for name, chosen in ((finished, short()), (stopped, short(seed=1))):
        assert library.settings(name) == chosen.model_dump(mode="json")
    assert library.provenance(stopped) == {}


def test_histories_of_finished_and_unfinished_runs(here: Path) -> None:
    library = Library.of_folder(here)
    whole, part = library.history(short().name), library.history(short(seed=1).name)
    pd.testing.assert_frame_equal(whole, pd.read_csv(here / short().name / "history.csv").astype("float64"))
    assert whole["step"].tolist() == [2.0, 4.0]
    assert part["step"].tolist() == [2.0]
    assert set(part.columns) == set(whole.columns)
    assert {"ccsd/cc-pvdz energy mae", "selected", "loss", "learning_rate"} <= set(part.columns)
    stage = float(library.history(short().name)["stage"].iloc[0])
    assert (part["stage"] == stage).all()


def test_predictions_are_kept_in_bounded_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(here / short().name, here / "other")
    frame = RunFolder(here / short().name).metrics()
    RunFolder(here / "other").finish(as_run(frame, "other"))
    library = Library.of_folder(here)
    first = library.predictions(short().name)
    assert first is not None
    np.testing.assert_array_equal(first.energy_predicted, RunFolder(here / short().name).predictions().energy_predicted)
    assert library.predictions(short().name) is first
    monkeypatch.setattr(library_module, "KEPT_BYTES", 1)
    library.predictions("other")
    assert library.predictions(short().name) is not first
    assert library.predictions(short(seed=1).name) is None


def test_a_broken_run_is_named_and_hides_no_other(here: Path) -> None:
    add(here, "bad")
    write_json(here / "bad" / "settings.json", {**KNOWN, "seed": 3})
    (here / "bad" / "metrics.parquet").write_bytes(b"not what was sealed")
    add(here, "<b>bad")
    frame = as_run(table(row("MF", 0.1)), "wrong").assign(value=np.inf)
    frame.to_parquet(RunFolder(add(here, "wrong").path).file("metrics.parquet"), index=False)
    reseal(here / "wrong")
    (here / "gone").symlink_to(here / "nowhere")
    library = Library.of_folder(here)
    states = library.entries.set_index("run")["state"].to_dict()
    assert states == {
        short().name: "finished",
        short(seed=1).name: "unfinished",
        "<b>bad": "finished",
        **dict.fromkeys(("bad", "wrong", "gone"), "broken"),
    }
    assert "bad/metrics.parquet: expected sha256" in str(entry(library, "bad")["problem"])
    assert "expected a finite number" in str(entry(library, "wrong")["problem"])
    assert "a link to" in str(entry(library, "gone")["problem"])
    assert (entry(library, "bad")["arm"], entry(library, "bad")["seed"]) == ("MF", 3)
    assert set(library.table["run"]) == {short().name, "<b>bad"}
    assert [remark for remark in library.remarks if remark.startswith("left out: ")] == list(library.remarks)
    assert len(library.remarks) == 3
    with pytest.raises(UserError, match="expected sha256"):
        RunFolder(here / "bad").metrics()


def test_all_broken_is_no_reason_to_show_nothing(runs: Path) -> None:
    add(runs, "bad")
    (runs / "bad" / "seal.json").write_text("[")
    library = Library.of_folder(runs)
    assert library.table.empty
    assert library.entries["state"].tolist() == ["broken"]
    assert pd.isna(library.entries["seed"].iloc[0])


def test_runs_from_before_seals_are_said_to_be_so(runs: Path) -> None:
    unseal(add(runs, "old").path)
    library = Library.of_folder(runs)
    assert library.entries["state"].tolist() == ["finished"]
    assert "1 of 1 runs are from before results were sealed" in library.remarks[0]


@pytest.mark.parametrize("content", ["[", "{}", '{"case": 3, "seed": "<b>", "n_high": true, "optimisation": []}'])
def test_settings_that_say_nothing_of_use(content: str, runs: Path) -> None:
    (runs / "odd").mkdir()
    (runs / "odd" / "settings.json").write_text(content)
    (runs / "odd" / "checkpoint-0.safetensors").write_bytes(b"\xff" * 64)
    (runs / "no run").mkdir()
    library = Library.of_folder(runs)
    assert library.entries["run"].tolist() == ["odd"]
    assert entry(library, "odd")["state"] == "unfinished"
    assert "odd/" in str(entry(library, "odd")["problem"])
    assert pd.isna(entry(library, "odd")["n_high"])
    with pytest.raises(UserError, match="checkpoint-0"):
        library.history("odd")


def test_a_run_is_there_once_by_whatever_links(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_SETTLED", 0)
    add(runs, "one")
    add(tmp_path, "far", 0.3)
    add(tmp_path / "other", "one", 0.5)
    (runs / "no run").mkdir()
    (runs / "stopped").mkdir()
    write_json(runs / "stopped" / "settings.json", KNOWN)
    aims = {"alias": "one", "also": "stopped", "far": tmp_path / "far", "near": tmp_path / "far", "none": "no run"}
    aims |= {"a copy": tmp_path / "other" / "one", "a far one": tmp_path / "far", "gone": tmp_path / "nowhere"}
    for name, aim in aims.items():
        (runs / name).symlink_to(runs / aim)
    library = Library.of_folder(runs)
    repeated = {"alias": "one", "also": "stopped", "near": "far", "a far one": "far", "a copy": "one"}
    states = library.entries.set_index("run")["state"].to_dict()
    assert states == {
        "one": "finished",
        "far": "finished",
        "stopped": "unfinished",
        **dict.fromkeys([*repeated, "gone"], "broken"),
    }
    assert len(library.entries) == len(states)
    for name, stays in repeated.items():
        assert str(entry(library, name)["problem"]).endswith(f"a link to the same run as {stays}")
    assert library.table["value"].tolist() == [0.3, 0.1]
    assert not library.refresh()

    library.remove("alias")
    assert RunFolder(runs / "one").finished
    assert entry(library, "one")["state"] == "finished"
    library.remove("far")  # a link: the run itself is elsewhere, and the other link leads to it
    assert library.entries.loc[library.entries["run"] == "far", "state"].tolist() == ["finished"]
    assert RunFolder(tmp_path / "far").finished


def test_who_opens_a_folder_again_at_once_does_not_wait(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library.of_folder(runs)
    add(runs, "new")
    assert Library.of_folder(runs).entries.empty
    assert library.refresh()
    assert Library.of_folder(runs).entries["run"].tolist() == ["new"]
    (runs / "new" / "seal.json").unlink()
    (runs / "new" / "settings.json").write_text("{}")
    monkeypatch.setattr(library_module, "_OPENED", 0.0)
    assert Library.of_folder(runs).entries["state"].tolist() == ["unfinished"]


def test_no_run_is_reached_but_by_its_name(here: Path, tmp_path: Path) -> None:
    outside = shutil.copytree(here / short().name, tmp_path / "outside")
    library = Library.of_folder(here)
    for name in ("../outside", str(outside), "", ".", short().name + "/", "no run"):
        for ask in (library.settings, library.history, library.predictions, library.provenance):
            with pytest.raises(UserError, match="expected one of its 2 runs, got"):
                ask(name)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert Library.of_folder(tmp_path / "absent").entries.empty
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        Library.of_folder(tmp_path / "file")


# What changes


def test_a_refresh_sees_what_was_changed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_SETTLED", 0)
    library = Library.of_folder(here)
    assert Library.of_folder(here) is library
    assert not library.refresh()
    before, seen = library.table, (library.version, library.entries_version)

    write_json(here / short(seed=1).name / "settings.json", {**KNOWN, "seed": 7})
    assert library.refresh()
    assert entry(library, short(seed=1).name)["seed"] == 7
    assert library.table is before  # a training that goes on changes no number
    assert (library.version, library.entries_version) == (seen[0], seen[1] + 1)

    add(here, "a", 0.2)
    add(here, "z", 0.3)
    assert library.refresh(age=3600.0) is False
    assert library.refresh()
    assert library.version == seen[0] + 1
    pd.testing.assert_frame_equal(library.table, read_runs(here).table)
    shutil.rmtree(here / "a")
    (here / "z" / "metrics.parquet").write_bytes(b"")
    assert library.refresh()
    pd.testing.assert_frame_equal(library.table, before)
    assert entry(library, "z")["state"] == "broken"
    assert not library.refresh()


def test_a_run_at_work_is_seen_and_so_is_its_end(here: Path) -> None:
    library, name = Library.of_folder(here), short(seed=1).name
    with locked(RunFolder(here / name).lock, name):
        assert library.refresh()
        assert entry(library, name)["running"]
        assert not library.refresh()
    assert library.refresh()
    assert not entry(library, name)["running"]


def test_threads_share_one_reading(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[Path] = []
    whole = library_module.look

    def look(path: Path, *more: object) -> object:
        counts.append(path)
        return whole(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(library_module, "look", look)
    found: list[Library] = []
    threads = [threading.Thread(target=lambda: found.append(Library.of_folder(here))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(map(id, found))) == 1
    assert len(counts) == 1


# The index


@pytest.fixture
def many(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(index_module, "_SETTLED", 0)
    for k in range(25):
        add(runs, f"run-{k:02d}", 0.1 + k, ("MF", "SF-E")[k % 2])
    add(runs, "broken").file("metrics.parquet").write_bytes(b"")
    (runs / "link").symlink_to(runs / "run-03")
    return runs


def read_by_another_process(folder: Path) -> tuple[list[int], str]:
    """What another process was told of reading, and the table that it read."""
    code = (
        "import sys; from mfbench.results.library import Library; said = []\n"
        "library = Library.of_folder(sys.argv[1], lambda done, total: said.append(total))\n"
        "print(said); print(library.table.to_json(double_precision=15)); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    said, read = done.stdout.splitlines()
    return json.loads(said), read


def test_another_process_reads_only_what_it_must(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("mfbench.results.runs._TOGETHER", 10)
    whole = Library.of_folder(many, lambda done, total: told.append((done, total))).table
    assert told == [(10, 26), (20, 26), (26, 26)]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and time.time() - max(p.stat().st_ctime for p in many.rglob("*")) < 2.5:
        time.sleep(0.1)
    said, read = read_by_another_process(many)
    assert said == [1]  # the broken one
    assert read == whole.to_json(double_precision=15)
    (many / INDEX_FILE).unlink()
    assert read_by_another_process(many) == ([26], read)
    assert (many / INDEX_FILE).is_file()


def test_whatever_is_in_the_index_the_table_is_that_of_the_runs(many: Path) -> None:
    whole = read_runs(many).table
    content = (many / INDEX_FILE).read_bytes()
    records, rows = read_index(many)
    assert set(records) == {path.name for path in many.iterdir() if path.name.startswith("run-")}
    older = {name: replace(one, state=(("seal.json", 1, 2, 3, 4),)) for name, one in records.items()}
    swapped = dict(zip(records, [*list(records.values())[1:], next(iter(records.values()))]))  # none its own
    moved = {f"no-{name}": one for name, one in records.items()}
    for forged in (older, swapped, moved):
        write_index(many, forged, rows.assign(value=7.0))
        pd.testing.assert_frame_equal(read_runs(many).table, whole)
    for damaged in (b"", b"x" * 100, content[:-9], content[:200] + b"\0" + content[201:], b"[" * 10**5):
        (many / INDEX_FILE).write_bytes(damaged)
        pd.testing.assert_frame_equal(read_runs(many).table, whole)
    (many / INDEX_FILE).unlink()
    (many / INDEX_FILE).mkdir()
    pd.testing.assert_frame_equal(read_runs(many).table, whole)


def test_runs_that_are_gone_or_copied_are_not_those_of_the_index(many: Path, tmp_path: Path) -> None:
    read_runs(many)
    shutil.rmtree(many / "run-04")
    kept = read_runs(many).table
    assert "run-04" not in set(kept["run"])
    copied = tmp_path / "copied"
    subprocess.run(["cp", "-a", str(many), str(copied)], check=True)
    (copied / "run-05" / "metrics.parquet").write_bytes(b"changed")
    os.utime(copied / "run-05" / "metrics.parquet", ns=(1, (many / "run-05").stat().st_mtime_ns))
    assert "run-05" not in set(read_runs(copied).table["run"])


# Results that ship


def packed(runs: Sequence[RunFolder], out: Path, predicted: Sequence[str]) -> None:
    pack(runs, out, {"commit": "abc", "device": "a CPU", "finished": "2026-01-31"}, predicted)


def test_packed_results_are_read_as_runs_are(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent, name = add(here, "absent"), short().name  # of no history
    write_json(absent.file("settings.json"), KNOWN)
    reseal(absent.path)
    packed([RunFolder(here / name), absent], tmp_path / "shipped" / "cases", [name])
    monkeypatch.setattr(resources, "references", lambda: tmp_path / "shipped")
    library_module._shipped.cache_clear()
    shipped, live = Library.shipped("cases"), Library.of_folder(here)
    for one in (name, "absent"):
        same = [library.table[library.table["run"] == one].reset_index(drop=True) for library in (shipped, live)]
        pd.testing.assert_frame_equal(*same)
    assert shipped.entries["state"].tolist() == ["finished", "finished"]
    assert shipped.entries["commit"].tolist() == ["abc", "abc"]
    assert not shipped.refresh()
    assert shipped.remarks == ()
    pd.testing.assert_frame_equal(shipped.history(name), live.history(name), rtol=1e-6, check_like=True)
    assert shipped.history("absent").empty
    assert shipped.settings(name) == live.settings(name)
    assert shipped.provenance(name)["device"] == "a CPU"
    found, own = shipped.predictions(name), live.predictions(name)
    assert found is not None
    assert own is not None
    np.testing.assert_array_equal(found.force_predicted, own.force_predicted)
    assert shipped.predictions("absent") is None
    for bad in ("../cases", "no run"):
        with pytest.raises(UserError, match="expected one of its 2 runs"):
            shipped.predictions(bad)
    library_module._shipped.cache_clear()


def test_what_is_complete_is_packed() -> None:
    reference = script("reference")
    wanted = reference.comparison("rmd17-cc", ["SF-E", "MF", "SF-low", "oracle"], [25, 50], range(2))
    finished = {one.name for one in wanted if (one.arm, one.seed, one.n_high) != ("MF", 1, 25)} - {
        one.name for one in wanted if one.arm == "oracle" and one.seed
    }
    found = reference.complete(wanted, finished)
    sized = [(one.arm, one.n_high, one.seed) for one in found if one.n_high]
    assert sized == [("SF-E", 25, 0), ("SF-E", 50, 0), ("MF", 25, 0), ("MF", 50, 0), ("SF-E", 50, 1), ("MF", 50, 1)]
    assert [(one.arm, one.seed) for one in found if not one.n_high] == [("SF-low", 0), ("oracle", 0), ("SF-low", 1)]
    shown = [one for one in found if one.name in reference.predicted(found)]
    assert [(one.arm, one.n_high, one.seed) for one in shown] == [
        *(("SF-E", 50, 0), ("MF", 50, 0)),
        *(("SF-low", 0, 0), ("oracle", 0, 0)),
    ]
    published = reference.comparison("rmd17-cc", ["MF"], [50], data="ethanol")
    assert reference.predicted(published) == []


def test_results_that_ship_without_histories() -> None:
    shipped = Library.shipped("demo")
    run = shipped.entries["run"].iloc[0]
    assert len(shipped.entries) == shipped.table["run"].nunique()
    assert shipped.settings(run) == {}
    assert shipped.history(run).empty
    assert shipped.predictions(run) is None
    with pytest.raises(UserError, match="unknown reference result"):
        Library.shipped("demos")
