"""The commands on a folder of runs, and what they are made of."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sealing import as_run, reseal
from test_results import row, table

from mfbench.cli.main import main, parser
from mfbench.cli.options import choice, given
from mfbench.errors import UserError
from mfbench.files import write_json
from mfbench.results.differences import flat, results_apart, settings_apart
from mfbench.results.folder import RunFolder
from mfbench.results.library import Library
from mfbench.results.locks import locked
from mfbench.study.command import command
from mfbench.study.experiment import Experiment, experiment
from mfbench.units import EV_PER_KCAL


def saved(runs: Path, chosen: Experiment, *values: float) -> str:
    """A run folder with settings, finished if it has values."""
    folder = RunFolder(runs / chosen.name)
    folder.path.mkdir(parents=True)
    write_json(folder.file("settings.json"), chosen.model_dump(mode="json"))
    if values:
        parts = zip(values, ("test", "unseen"))
        rows = [row(chosen.arm, value, part=part, metric=m) for value, part in parts for m in ("mae", "rmse")]
        folder.finish(as_run(table(*rows), chosen.name))
    return chosen.name


# The command that makes a run


def parsed(line: str) -> tuple[str, Path]:
    """The run that a line of the command line names, and the folder that it is made in."""
    _, *words = shlex.split(line)
    options = parser().parse_args(words)
    chosen = experiment(
        options.case,
        options.arm,
        data=options.data,
        backbone_name=options.backbone,
        preset_name=options.preset,
        n_high=options.n_high,
        optimisation=given(options, "steps", "batch_size", "learning_rate"),
        **choice(options),
        **given(options, "dtype", "threads"),
    )
    return chosen.name, options.runs


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"arm_name": "SF-low"},
        {"case_name": "rmd17-cc", "data": "ethanol", "n_high": 200, "seed": 4, "exceed_max_train": True},
        {"preset_name": "paper"},
        {"preset_name": "paper", "optimisation": {"steps": 7, "learning_rate": 1e-5}},
        {"backbone_name": "painn", "preset_name": "standard", "threads": 3, "dtype": "float64", "split_seed": 2},
        {"labels": {"low_energies": False, "high_forces": 0.25, "noise": {"low force": 0.5 * EV_PER_KCAL}}},
        {"arm_name": "transfer", "arm_options": {"freeze": "backbone", "low_learning_rate": 3e-7}, "n_low": 100},
        {"case_name": "rmd17-cc", "overlap": "nested"},
        {"case_name": "rmd17-cc", "further": {"ccsd/cc-pvdz": None}, "data": "ethanol"},
    ],
)
def test_the_command_names_the_same_run(chosen: dict[str, Any]) -> None:
    wanted = experiment(**{"case_name": "ani1x-tz", "arm_name": "MF", **chosen})
    settings = wanted.model_dump(mode="json")
    assert parsed(command(settings)) == (wanted.name, Path("runs"))
    assert parsed(command(settings, "my runs")) == (wanted.name, Path("my runs"))


def test_the_command_says_no_more_than_it_must() -> None:
    settings = experiment("ani1ccx", "MF", n_high=50, seed=3).model_dump(mode="json")
    assert command(settings) == "mfbench run ani1ccx --arm MF --n-high 50 --seed 3"


@pytest.mark.parametrize(
    "chosen",
    [
        {"network": {"n_features": 16}},
        {"optimisation": {"warmup": 3, "loss": {"force": 2.0}}},
        {"preset_name": "paper", "pooled": False, "epochs": 3},
    ],
)
def test_what_the_command_line_cannot_say_is_said_in_python(chosen: dict[str, Any]) -> None:
    wanted, said = experiment("ani1x-tz", "MF", **chosen), dict[str, Any]()
    lines = command(wanted.model_dump(mode="json")).replace("mfbench.run(", "said.update(made=")
    exec(lines.replace(", 'runs')", ")"), {"said": said})
    assert said["made"].name == wanted.name


def test_what_cannot_be_made_again_is_said_to_be_so() -> None:
    settings = experiment("ani1x-tz", "MF").model_dump(mode="json")
    other = {**settings, "resolved": {**settings["resolved"], "data": {"mini-ani1x.h5": "0" * 64}}}
    with pytest.raises(UserError, match=r"expected to make the run ani1x-tz-mini-MF-.* would make"):
        command(other)
    for bad in ({**settings, "seed": -1}, {"case": "ani1x-tz"}, {}, {**settings, "case": "<b>"}):
        with pytest.raises(UserError):
            command(bad)


# What tells two runs apart


def test_settings_apart() -> None:
    first = {"arm": "MF", "optimisation": {"steps": 3, "loss": {"energy": 1.0}}, "further": {}}
    second = {"arm": "MF", "optimisation": {"steps": 4, "loss": {"energy": 1.0}}, "further": {"a": None}, "new": [1]}
    assert flat(first) == {"arm": "MF", "optimisation.steps": 3, "optimisation.loss.energy": 1.0}
    assert settings_apart(first, second).to_numpy().tolist() == [
        ["optimisation.steps", "3", "4"],
        ["further.a", "–", "None"],
        ["new", "–", "[1]"],
    ]
    assert settings_apart(first, first).empty


def test_results_apart() -> None:
    rows = pd.concat(
        [as_run(table(row("MF", 1.0), row("MF", 0.0, part="unseen")), "a"), as_run(table(row("MF", 2.0)), "b")]
    )
    found = results_apart(rows, "a", "b", "meV")
    assert found[["part", "unit", "first", "second"]].fillna(-1).to_numpy().tolist() == [
        ["test", "meV", 1000.0, 2000.0],
        ["unseen", "meV", 0.0, -1],
    ]
    assert found["ratio"].iloc[0] == 2.0
    assert pd.isna(found["ratio"].iloc[1])
    assert results_apart(rows, "c", "d").empty


# The commands


@pytest.fixture
def three(runs: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    monkeypatch.chdir(runs.parent)
    mf = saved(runs, experiment("rmd17-cc", "MF"), 0.1, 0.2)
    sfe = saved(runs, experiment("rmd17-cc", "SF-E", seed=1), 0.3)
    return mf, sfe, saved(runs, experiment("rmd17-cc", "MF", seed=2))


def test_listing(three: tuple[str, str, str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(runs / three[1]).file("metrics.parquet").write_bytes(b"\x1b[31m")
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert all(name in out for name in three)
    assert out.splitlines()[-1] == "3 runs: 1 finished, 1 unfinished, 1 broken"
    assert "left out" in err
    assert "\x1b" not in out + err
    for options, found in (
        (["--state", "unfinished"], [three[2]]),
        (["--arm", "MF", "--seed", "2"], [three[2]]),
        (["--arm", "SF-EF"], []),
        (["--n-high", "50", "--state", "finished", "--runs", str(runs)], []),
    ):
        assert main(["runs", "list", *options]) == 0
        out = capsys.readouterr().out
        assert [name for name in three if name in out] == found
    assert main(["runs", "list", "--state", "lost"]) == 2
    assert main(["runs", "--runs", str(runs), "list"]) == 0


def test_showing_and_comparing(three: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", three[0][-10:]]) == 0
    out = capsys.readouterr().out
    assert "mfbench run rmd17-cc --arm MF --n-high 50" in out
    assert "optimisation.steps" in out
    assert "resolved" not in out
    assert main(["runs", "show", three[2]]) == 0
    assert "--seed 2" in capsys.readouterr().out
    assert main(["runs", "diff", three[0], three[1]]) == 0
    out = capsys.readouterr().out
    assert "SF-E" in out
    assert "3.00" in out  # 0.3 to 0.1
    for wrong in (["show", "rmd17"], ["show", "no"], ["diff", three[0], "../x"], ["rm", "no", "--yes"]):
        assert main(["runs", *wrong]) == 2
        assert "to name one of its 3 runs" in capsys.readouterr().err


def test_deleting(three: tuple[str, str, str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "rm", three[0]]) == 2  # nobody to ask
    assert (runs / three[0]).is_dir()
    with locked(RunFolder(runs / three[2]).lock, "a training"):
        assert main(["runs", "rm", three[2], "--yes"]) == 2
        assert "nobody is at work on" in capsys.readouterr().err
        assert (runs / three[2] / "settings.json").is_file()
    assert main(["runs", "rm", three[0], three[2], "--yes"]) == 0
    assert [path.name for path in runs.iterdir()] == [three[1]]


def test_deleting_a_link_leaves_what_it_leads_to(three: tuple[str, str, str], runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(runs / three[0], outside / three[0])
    (runs / three[0]).symlink_to(outside / three[0])
    library = Library.of_folder(runs)
    library.remove(three[0])
    assert RunFolder(outside / three[0]).finished
    assert three[0] not in set(library.entries["run"])
    (runs / three[1] / "metrics.parquet").write_bytes(b"")
    reseal(runs / three[1])
    library.refresh()
    library.remove(three[1])  # broken ones, too
    with pytest.raises(UserError, match="which ships"):
        Library.shipped("demo").remove(Library.shipped("demo").entries["run"].iloc[0])
