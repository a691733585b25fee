"""The command line, in process: what it prints, what it leaves behind, and one line for whatever is wrong."""

import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.units
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, RUN_FILES
from tables import results_table

from mfbench.cli import serving
from mfbench.cli.main import main
from mfbench.errors import UserError
from mfbench.results.folder import RunFolder
from mfbench.results.runs import load_runs
from mfbench.results.schema import CONVENTION
from mfbench.study.load import load

MINI_CC = "--data mini: PBE/def2-SVP (E+F) -> CCSD/cc-pVDZ (E), disjoint geometries; n_high 50 and 150"
RUN = ["run", "rmd17-cc", "--arm", "MF", "--n-high", "50", "--steps", "4", "--device", "cpu", "--runs", "tmp"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each command runs in an empty folder, and leaves torch's threads as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "data"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def on_screen(text: str) -> list[str]:
    """Lines as a terminal shows them in the end: a progress bar that was wiped away is not there."""
    lines = []
    for raw in text.split("\n"):
        line = ""
        for piece in raw.split("\r"):
            line = piece + line[len(piece) :]
        lines.append(line.rstrip())
    return [line for line in lines if line]


def refused(arguments: list[str], capsys: Capture) -> str:
    """The one line that a bad command line prints; exit code 2 and no traceback."""
    code = main(arguments)
    captured = capsys.readouterr()
    assert code == 2, captured
    (line,) = on_screen(captured.err)
    assert line.startswith("mfbench: error: ")
    assert "Traceback" not in captured.err + captured.out
    assert captured.out == ""
    return line


def rows_of(text: str) -> list[list[str]]:
    """The cells of the lines of a printed table."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.startswith("  ")]


# cases


def test_cases(capsys: Capture) -> None:
    assert main(["cases"]) == 0
    out = capsys.readouterr().out
    titles = [line.split(":")[0] for line in out.splitlines() if re.match(r"[a-z0-9-]+: ", line)]
    assert titles == ["ani1ccx", "ani1x-tz", "ladder", "rmd17-cc"]
    assert "--data mini: PBE/def2-SVP (E+F) -> CCSD/cc-pVDZ (E), disjoint geometries; n_high 50 and 150" in out
    assert "--data mini: ωB97X/6-31G* (E+F) -> CCSD(T)*/CBS (E), nested geometries" in out
    assert "--data ethanol or published: PBE/def2-SVP (E+F) -> CCSD(T)/cc-pVTZ (E)" in out
    assert out.count("Inferred from the abstract") == 3
    assert "with ωB97X/6-31G* on 240 and ωB97X/def2-TZVPP on 120 of the low-level structures" in out


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_and_version(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert not stop.value.code
    assert capsys.readouterr().out.startswith(("usage: mfbench", "mfbench 0."))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["data", "pull", "--help"], ["nonsense"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """So that it answers at once: what a command needs is imported when it runs."""
    code = (
        "import sys, contextlib, io\n"
        "from mfbench.cli.main import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    main({arguments!r})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "mfbench.cli.training" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "panel", "bokeh", "h5py", "ase", "pydantic", "yaml", "tqdm"}


# bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["run", "rmd17", "--arm", "MF"],
            ["unknown case 'rmd17'", "ani1ccx, ani1x-tz, ladder, rmd17-cc", "did you mean"],
        ),
        (["run", "rmd17-cc", "--arm", "MFL"], ["unknown arm 'MFL'", "MF+, SF-E, SF-EF, SF-low"]),
        (["run", "rmd17-cc", "--arm", "mf"], ["unknown arm 'mf'", "MF+, SF-E, SF-EF, SF-low"]),
        ([*RUN, "--backbone", "mace"], ["unknown backbone 'mace'", "hipnn-ts, painn, schnet, so3net"]),
        ([*RUN, "--preset", "large"], ["unknown preset 'large'", "demo, paper"]),
        ([*RUN, "--data", "full"], ["unknown data of case rmd17-cc 'full'", "malonaldehyde, mini, published, toluene"]),
        ([*RUN, "--unit", "Hartree"], ["unknown unit system 'Hartree'", "kcal/mol, meV"]),
        ([*RUN, "--device", "tpu"], ["unknown device 'tpu'", "auto, cpu, cuda or cuda:K"]),
        ([*RUN, "--device", "meta"], ["unknown device 'meta'", "auto, cpu, cuda or cuda:K"]),
        ([*RUN, "--dtype", "float16"], ["dtype", "'float32' or 'float64'", "got 'float16'"]),
        ([*RUN, "--n-high", "5000"], ["n_high: expected 10 to 250 structures", "ccsd/cc-pvdz", "got 5000"]),
        ([*RUN, "--n-high", "251"], ["n_high: expected 10 to 250 structures", "got 251"]),
        ([*RUN, "--n-high", "9"], ["n_high: expected 10 to 250 structures", "got 9"]),
        ([*RUN, "--n-high", "-1"], ["n_high", "greater than or equal to 0", "got -1"]),
        ([*RUN, "--n-high", "many"], ["--n-high", "invalid int value: 'many'"]),
        ([*RUN, "--n-low", "1001"], ["n_low: expected 10 to 650 structures at pbe/def2-svp", "got 1001"]),
        ([*RUN, "--seed", "-1"], ["seed", "greater than or equal to 0", "got -1"]),
        ([*RUN, "--steps", "0"], ["steps", "greater than 0", "got 0"]),
        ([*RUN, "--threads", "0"], ["threads", "greater than 0", "got 0"]),
        ([*RUN, "--learning-rate", "nan"], ["learning_rate", "greater than 0", "got nan"]),
        (
            ["run", "ani1ccx", "--arm", "SF-EF", "--steps", "2"],
            ["no forces at ccsd(t)*/cbs to train on", "expected some among the structures selected", "found none"],
        ),
        (["run", "rmd17-cc"], ["the following arguments are required: --arm", "mfbench run --help"]),
        (["run", "--arm", "MF"], ["the following arguments are required: CASE"]),
        ([], ["the following arguments are required: COMMAND", "mfbench --help"]),
        (["rnu"], ["invalid choice: 'rnu'", "run"]),
        ([*RUN, "--stpes", "3"], ["unrecognized arguments: --stpes 3"]),
        (
            [*RUN, "--data", "ethanol"],
            ["rmd17 (1.07 GB) and md17-cc (size not published) are not on this machine", "--yes"],
        ),
        ([*RUN, "--data", "ethanol", "--offline"], ["rmd17.tar.bz2 is not in", "offline"]),
        (
            [*RUN, "--data", "ethanol", "--data-folder", "absent"],
            ["no file 'rmd17.tar.bz2' in absent", "--data-folder"],
        ),
        (["run", "absent.yaml", "--arm", "MF"], ["cannot read absent.yaml", "No such file"]),
        (["demo", "--cases", "rmd17"], ["unknown case 'rmd17'", "did you mean 'rmd17-cc'"]),
        (["demo", "--unit", "eV"], ["unknown unit system 'eV'", "kcal/mol, meV"]),
        (["report", "--unit", "eV"], ["unknown unit system 'eV'", "kcal/mol, meV"]),
        (["report"], ["no finished runs in runs", "mfbench demo", "--runs", "--reference"]),
        (["report", "--runs", "absent"], ["no finished runs in absent", "mfbench demo"]),
        (["serve", "--port", "http"], ["--port", "invalid int value: 'http'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input(arguments: list[str], expected: list[str], tmp_path: Path, capsys: Capture) -> None:
    line = refused(arguments, capsys)
    for text in expected:
        assert text in line
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_no_gpu(device: str, capsys: Capture) -> None:
    line = refused([*RUN, "--device", device], capsys)
    assert f"device {device!r}: torch sees 0 GPUs here; use --device cpu" in line


def own_case(path: Path, **changes: object) -> Path:
    """A case file of one's own."""
    content: dict[str, Any] = {
        "name": path.stem,
        "title": "One's own",
        "basis": "a test",
        "low": "pbe/def2-svp",
        "high": "ccsd/cc-pvdz",
        "data": {
            "mini": {
                "datasets": ["mini-rmd17-methanol", "mini-md17cc-methanol"],
                "overlap": "disjoint",
                "test": 0.5,
                "high_pool": 100,
            }
        },
    }
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"high": "ccsd/cc-pvd"},
            ["high", "unknown level of theory 'ccsd/cc-pvd'", "did you mean 'ccsd/cc-pvdz'"],
        ),
        ({"low": "b3lyp"}, ["low", "unknown level of theory 'b3lyp'", "gfn2-xtb"]),
        ({"name": "../other"}, ["name", "expected letters, digits and any of"]),
        ({"name": "other.yaml"}, ["name", "expected a name without the ending of a case's file, got 'other.yaml'"]),
        ({"arms": ["MF"]}, ["arms: unknown key: expected one of name, title"]),
        ({"data": {}}, ["data: "]),
    ],
)
def test_a_bad_case_of_ones_own(
    tmp_path: Path, changes: dict[str, object], expected: list[str], capsys: Capture
) -> None:
    own_case(tmp_path / "own.yaml", **changes)
    line = refused(["run", "own.yaml", "--arm", "MF"], capsys)
    for text in ["own.yaml", *expected]:
        assert text in line


def test_an_error_of_several_lines_is_told_in_one(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("expected this,\n  got\tthat")

    monkeypatch.setattr("mfbench.data.cases.case", fail)
    assert main(["cases"]) == 2
    assert capsys.readouterr().err == "mfbench: error: expected this, got that\n"


def test_serve_without_panel(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "panel" else find_spec(name, *rest)
    )

    def no_server(*_: object) -> None:
        raise AssertionError("nothing is started without Panel")

    monkeypatch.setattr(serving, "_panel", no_server)
    line = refused(["serve"], capsys)
    assert "need Panel, which is not installed: pip install 'mfbench[dashboards]'" in line


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What servers are told that are not started here."""
    calls: list[dict[str, Any]] = []

    def record(words: list[str], passwords: dict[str, str] | None, address: str, browser: bool) -> None:
        calls.append({"words": words, "passwords": passwords, "address": address, "browser": browser})

    monkeypatch.setattr(serving, "_panel", record)
    for name in ("MFBENCH_RUNS", "MFBENCH_MAY_DELETE"):
        monkeypatch.setenv(name, "")  # as it was, afterwards
        monkeypatch.delenv(name)
    return calls


SERVE = ["serve", "--runs", "some", "--port", "5123", "--no-browser"]


def after(words: list[str], option: str) -> list[str]:
    return [value for word, value in pairwise(words) if word == option]


def test_serve_tells_panel_what_to_serve(started: list[dict[str, Any]], capsys: Capture) -> None:
    assert main(SERVE) == 0
    words = started[0]["words"]
    assert any(part.endswith("overview.py") for part in words)
    assert after(words, "--index") == ["overview"]
    assert after(words, "--port") == ["5123"]
    assert after(words, "--address") == ["127.0.0.1"]
    assert after(words, "--allow-websocket-origin") == ["127.0.0.1:5123", "localhost:5123"]
    assert started[0]["address"] == "http://localhost:5123/"
    assert not started[0]["browser"]
    assert started[0]["passwords"] is None
    assert os.environ["MFBENCH_RUNS"] == "some"
    assert main([*SERVE, "--address", "0.0.0.0"]) == 0
    words = started[1]["words"]
    assert after(words, "--address") == ["0.0.0.0"]
    origins = after(words, "--allow-websocket-origin")
    assert {"localhost:5123", f"{socket.gethostname()}:5123"} <= set(origins)
    assert not any("*" in one or one.startswith("0.0.0.0") for one in origins)
    proxied = [*SERVE, "--prefix", "/a/b/", "--allow-websocket-origin", "https://hub.org/x", "--port", "0"]
    assert main(proxied) == 0
    assert after(started[2]["words"], "--prefix") == ["a/b"]
    assert "hub.org" in started[2]["words"]
    assert re.fullmatch(r"http://localhost:\d+/a/b/", started[2]["address"])
    for every in ("*", "*:*", "*:5006", "*.*", "*.hub.org", "https://*"):
        assert "one for all would let any page" in refused([*SERVE, "--allow-websocket-origin", every], capsys)
    assert len(started) == 3


def test_pages_may_delete_runs_where_nobody_else_sees_them(
    started: list[dict[str, Any]], tmp_path: Path, capsys: Capture
) -> None:
    assert main(SERVE) == 0
    assert os.environ["MFBENCH_MAY_DELETE"] == "0"
    assert main([*SERVE, "--may-delete"]) == 0
    assert os.environ["MFBENCH_MAY_DELETE"] == "1"
    users = tmp_path / "users.json"
    users.touch(0o600)
    users.write_text('{"ada": "secret"}')
    several = ["--address 0.0.0.0", "--prefix a", "--allow-websocket-origin hub.org", f"--basic-auth {users}"]
    for others in several:
        assert "this machine alone shows" in refused([*SERVE, "--may-delete", *others.split(" ", 1)], capsys)
    assert len(started) == 2


def test_serve_finds_the_runs_in_the_environment(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFBENCH_RUNS", "elsewhere")
    assert main(["serve", "--no-browser"]) == 0
    assert os.environ["MFBENCH_RUNS"] == "elsewhere"


def test_serve_to_those_who_log_in(started: list[dict[str, Any]], tmp_path: Path, capsys: Capture) -> None:
    """Passwords come from a file that nobody else can read, and are in no word that other users of the machine see."""
    file = tmp_path / "users.json"
    file.write_text('{"ada": "secret"}')
    file.chmod(0o644)
    command = [*SERVE, "--basic-auth", str(file)]
    if os.name == "posix":
        assert f"chmod 600 {file}" in refused(command, capsys)
    file.chmod(0o600)
    assert main(command) == 0
    assert started[0]["passwords"] == {"ada": "secret"}
    assert not any("secret" in word for word in started[0]["words"])
    for wrong in ("[]", "{}", '{"ada": 1}', '{"ada": ""}', "secret"):
        file.write_text(wrong)
        assert "users.json" in refused(command, capsys)
    assert "cannot read" in refused([*SERVE, "--basic-auth", str(tmp_path / "none.json")], capsys)
    assert len(started) == 1


def test_serve_as_the_docs_say(started: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "users.json").touch(0o600)
    (tmp_path / "users.json").write_text('{"ada": "secret"}')
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "dashboards.md").read_text(), re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    for name, *words in commands:
        assert name == "mfbench"
        assert main(words) == 0
    assert len(started) == len(commands) >= 4


def test_serve_reads_the_runs_before_anybody_visits(
    started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for run, rows in results_table(cases=["rmd17-cc"]).groupby("run"):
        RunFolder(tmp_path / "runs" / run).finish(rows)
    monkeypatch.setattr(serving, "_SLOW", 0.0)
    assert main(["serve", "--no-browser", "--runs", str(tmp_path / "runs")]) == 0
    assert "Read 7 runs in" in capsys.readouterr().out
    (tmp_path / "file").touch()  # no folder: the pages say so
    assert main(["serve", "--no-browser", "--runs", str(tmp_path / "file")]) == 0
    assert "expected a folder of runs" in capsys.readouterr().err
    assert len(started) == 2


# run


def test_run_prints_errors_and_leaves_a_run_folder(tmp_path: Path, capsys: Capture) -> None:
    assert main(RUN) == 0
    captured = capsys.readouterr()
    (folder,) = (tmp_path / "tmp").iterdir()
    assert f"Run folder: {Path('tmp') / folder.name}" in captured.out
    assert "Traceback" not in captured.err
    assert {path.name for path in folder.iterdir()} == RUN_FILES

    # What is printed is what the predictions say, recomputed here.
    printed = {(row[0], row[2]): row for row in rows_of(captured.out) if len(row) >= 7}
    with h5py.File(folder / "predictions.h5") as file:
        p = {name: file[name][()] for name in file}
        levels = [str(name) for name in file.attrs["levels"]]
    assert levels == ["pbe/def2-svp", "ccsd/cc-pvdz"]
    kcal = ase.units.kcal / ase.units.mol
    atoms = np.diff(p["offsets"])
    assert set(atoms) == {6}
    for column, level in enumerate(levels):
        labelled = p["energy_mask"][:, column]
        wrong = (p["energy_predicted"] - p["energy_reference"])[labelled, column]
        force = (p["force_predicted"] - p["force_reference"])[np.repeat(p["force_mask"][:, column], 6), column]
        for quantity, unit, errors in (
            ("energy", "kcal/mol", wrong / kcal),
            ("energy per atom", "meV/atom", wrong * 1000 / 6),
            ("relative energy", "kcal/mol", (wrong - wrong.mean()) / kcal),
            ("force component", "kcal/mol/Angstrom", force.astype(float) / kcal),
        ):
            row = printed[level, quantity]
            assert (row[1], row[3]) == ("test", unit)
            got = [float(cell.replace(",", "")) for cell in row[4:7]]
            expected = [np.abs(errors).mean(), np.sqrt(np.square(errors).mean()), errors.size]
            assert got == pytest.approx(expected, rel=6e-3), (level, quantity)
    assert printed["pbe/def2-svp", "energy"][6] == "300"
    assert printed["pbe/def2-svp", "force component"][6] == "5,400"
    assert CONVENTION in captured.out
    assert "n_high = 50, n_low = 650, seed 0, split seed 0" in captured.out
    assert re.search(r"4 steps in [\d.]+ s, [\d,]+ structures/s on ", captured.out)
    assert "E(ccsd/cc-pvdz)=" in captured.err  # the bar tells the current errors


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert main(RUN) == 0
    first = capsys.readouterr().out
    (folder,) = (tmp_path / "tmp").iterdir()
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("mfbench.study.run.fit", no_training)
    assert main(RUN) == 0
    assert capsys.readouterr().out == first
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before
    with pytest.raises(AssertionError, match="trained again"):
        main([*RUN, "--seed", "1"])


def test_run_takes_the_smallest_size_of_the_case(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["run", "rmd17-cc", "--arm", "SF-E", "--steps", "2", "--device", "cpu", "--unit", "meV"]
    assert main(arguments) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    table = pd.read_parquet(folder / "metrics.parquet")
    assert set(table["n_high"]) == {50}
    assert set(table["n_low"]) == {0}
    out = capsys.readouterr().out
    assert {row[3] for row in rows_of(out) if len(row) >= 7} - {"unit"} == {"meV", "meV/atom", "meV/Angstrom"}
    # A single-fidelity model has no head at the low level: said, not silent.
    assert "no head at this level: judged by its ccsd/cc-pvdz head" in out


@pytest.mark.parametrize(("name", "parts"), [("ani1ccx", ["test", "unseen"]), ("ani1x-tz", ["test", "unseen"])])
def test_seen_and_unseen_molecules_are_told_apart(name: str, parts: list[str], tmp_path: Path) -> None:
    assert main(["run", name, "--arm", "MF", "--steps", "1", "--device", "cpu"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    table = pd.read_parquet(folder / "metrics.parquet")
    assert sorted(table["part"].unique()) == parts
    counts = table[(table["quantity"] == "energy") & (table["metric"] == "mae")].set_index(["role", "part"])["n"]
    assert counts.to_dict() == {(r, p): 180 if p == "test" else 144 for r in ("low", "high") for p in parts}


def test_the_same_settings_give_the_same_numbers(tmp_path: Path) -> None:
    for runs in ("one", "two"):
        assert main([*RUN[:-1], runs, "--threads", "1"]) == 0
    one, two = (pd.read_parquet(next((tmp_path / runs).glob("*/metrics.parquet"))) for runs in ("one", "two"))
    times = ["seconds", "structures_per_second"]
    pd.testing.assert_frame_equal(one.drop(columns=times), two.drop(columns=times), check_exact=True)


def test_stopped_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mfbench.study.run.predict", stop)  # all trained, nothing written yet
        assert main(RUN) == 130
    last = on_screen(capsys.readouterr().err)[-1]
    assert last == "mfbench: stopped. What was finished is kept; the same command goes on where this one was."
    assert load_runs(tmp_path / "tmp").empty
    assert main(RUN) == 0
    assert not load_runs(tmp_path / "tmp").empty


def test_a_case_of_ones_own_runs(tmp_path: Path) -> None:
    own_case(tmp_path / "own.yaml")
    assert main(["run", "own.yaml", "--arm", "MF", "--steps", "2", "--device", "cpu"]) == 0


def test_a_cases_file_has_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The run is named by the case, and its case is found again by its file: to load it, and to go on."""
    own_case(tmp_path / "first-try.yaml", name="own")
    run = ["run", "first-try.yaml", "--arm", "MF", "--steps", "2", "--device", "cpu"]
    assert main(run) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("own-mini-MF-")
    assert set(load_runs(tmp_path / "runs")["case"]) == {"own"}
    monkeypatch.chdir(tmp_path.parent)
    assert load(folder).arm == "MF"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mfbench.study.run.fit", None)
    assert main(run) == 0  # finished: nothing is trained
    assert capsys.readouterr().out.count("own (mini)") == 2
    export = ["export", "first-try.yaml", "--arm", "MF", "--part", "test", "--out", "test.xyz"]
    assert main(export) == 0
    assert "first-try.yaml" in (tmp_path / "test.xyz.json").read_text()


def test_an_import_tells_first_what_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    inputs = ROOT / "tests" / "inputs"
    command = ["data", "import", str(inputs / "dissociation.extxyz"), "--manifest", "accepted.yaml"]
    manifest = yaml.safe_load((inputs / "dissociation.yaml").read_text())
    (tmp_path / "accepted.yaml").write_text(yaml.safe_dump({**manifest, "accept": ["energies"], "reason": "a scan"}))
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    marks = [line[2:15].strip() for line in lines if line.startswith("  ") and line[2:15].strip()]
    order = ["accepted", "not checked", "ok"]
    assert set(marks) == set(order)
    assert marks == sorted(marks, key=order.index)
    assert main(command) == 0
    assert "import under this name: replaces an earlier one of" in capsys.readouterr().out


def test_runs_is_a_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "tmp").write_text("not a folder")
    assert "tmp" in refused(RUN, capsys)


# demo and report


def test_demo_and_report(tmp_path: Path, capsys: Capture) -> None:
    assert main(["demo", "--steps", "2", "--cases", "rmd17-cc", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    table = load_runs(tmp_path / "runs")
    assert table["run"].nunique() == 7
    made = table.groupby("arm")["n_high"].unique().map(lambda sizes: sorted(sizes.tolist())).to_dict()
    assert made == {"MF": [50, 150], "SF-E": [50, 150], "SF-EF": [50, 150], "SF-low": [0]}
    assert set(table["steps"]) == {2}
    assert "[1/7] " in captured.out
    assert "[7/7] " in captured.out
    assert "Gap closed" in captured.out
    page = tmp_path / "report.html"
    assert page.as_uri() in captured.out
    assert page.stat().st_size > 100_000  # plots and their library are inside

    # The report of the same runs shows the same numbers.
    (tmp_path / "other").mkdir()
    assert main(["report", "--out", "other/again.html"]) == 0
    out = capsys.readouterr().out
    assert (tmp_path / "other" / "again.html").stat().st_size > 100_000
    chosen = table[
        (table["arm"] == "MF")
        & (table["n_high"] == 150)
        & (table["role"] == "high")
        & (table["quantity"] == "force")
        & (table["metric"] == "mae")
    ]
    value = chosen["value"].item() / (ase.units.kcal / ase.units.mol)
    (row,) = [cells for cells in rows_of(out) if cells[:2] == ["150", "MF"]]
    assert float(row[6]) == pytest.approx(value, rel=6e-3)
    assert row[-1] == f"{chosen['n'].item():,}"


def test_what_cannot_be_trained_is_shown(tmp_path: Path, capsys: Capture) -> None:
    """SF-EF where there are no forces to train on: rows with n = 0 and the reason, no gap in the table."""
    main(["compare", "ani1ccx", "--arms", "SF-EF", "--n-high", "50"])
    assert "n = 0: no forces at ccsd(t)*/cbs to train on" in capsys.readouterr().out
    table = load_runs("runs")
    assert set(table["n"]) == {0}
    assert table["value"].isna().all()
    assert table["remark"].str.contains(r"no forces at ccsd\(t\)\*/cbs to train on").all()


def test_report_on_an_empty_folder(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "runs" / "unfinished").mkdir(parents=True)
    (tmp_path / "runs" / "unfinished" / "settings.json").write_text("{}")
    line = refused(["report"], capsys)
    assert "no finished runs in runs: make some with `mfbench demo` or `mfbench run`" in line
    assert not (tmp_path / "report.html").exists()


def test_report_on_a_damaged_run(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "metrics.parquet").write_bytes(b"PAR1 not really")
    assert "metrics.parquet is not a results table of mfbench" in refused(["report"], capsys)
