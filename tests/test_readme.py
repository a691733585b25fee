"""Every command of the README is executed (with few steps), and every claim of a file it names holds."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import writers
from conftest import ROOT

import mfbench
from mfbench.cli.main import main

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Set-up, which tests/test_packaging.py runs in environments of its own.
SET_UP = {
    "python3 -m venv .venv",
    ".venv/bin/pip install .",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 10
    assert {"make demo", "make test", "mfbench report --reference"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if command in SET_UP:
        return
    words = shlex.split(command)
    if words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert {"demo": "mfbench demo", "test": "pytest"}[words[1]] in done.stdout
        return
    assert Path(words[0]).name == "mfbench", f"a command that this test does not know: {command}"
    arguments = words[1:]
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "data" or "--data" in arguments:
        request.getfixturevalue("site")  # small files on this machine stand for the published ones
        if "--n-high" in arguments:
            arguments[arguments.index("--n-high") + 1] = "20"
    if arguments[:2] == ["data", "check"]:
        assert main(["data", "pull", "rmd17"]) == 0
    if "mydata" in command:
        writers.write_own(tmp_path / "mydata.extxyz")
        (tmp_path / "mydata.yaml").write_text(blocks("yaml")[1])
        if "import" not in arguments:
            assert main(["data", "import", "mydata.extxyz", "--manifest", "mydata.yaml"]) == 0
    if arguments[0] in ("run", "demo", "compare"):
        arguments += ["--steps", "2"]
    if arguments[0] == "demo":
        arguments += ["--cases", "rmd17-cc"]
    if arguments == ["report"]:
        assert main(["run", "rmd17-cc", "--arm", "SF-E", "--steps", "2"]) == 0
    assert main(arguments) == 0


def test_the_case_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mycase.yaml").write_text(blocks("yaml")[0])
    monkeypatch.chdir(tmp_path)
    assert main(["run", "mycase.yaml", "--arm", "MF", "--steps", "2"]) == 0


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first example, with fewer steps; the others name things of the reader's own."""
    code = blocks("python")[0]
    few = code.replace("sizes=[50, 150], seeds=range(3)", 'sizes=[50], optimisation={"steps": 2}')
    assert few != code
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(few, found)
    assert set(found["table"]["arm"]) == {"SF-E", "MF", "SF-EF"}


@pytest.mark.parametrize("code", blocks("python"))
def test_python_of_the_readme_imports_the_package_and_asks_for_what_it_offers(code: str) -> None:
    assert re.findall(r"^(?:import|from) (.*)", code, re.MULTILINE) == ["mfbench"]
    names = re.findall(r"\bmfbench\.(\w+)", code)
    assert names
    assert set(names) <= set(mfbench.__all__)


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:benchmarks|tests|notebooks|data_manifests)/[\w./]+)`", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / name).exists(), name


def measured() -> dict[tuple[str, str, str], dict[str, float | None]]:
    """(case as the README names it, n_high, quantity) -> medians, from benchmarks/results."""
    found = {}
    for name, label in (("paired-seeds", "`{}`"), ("ethanol-ccsd_t", "`{}`, ethanol")):
        (file,) = (ROOT / "benchmarks" / "results").glob(f"{name}-cpu-*.json")
        for row in json.loads(file.read_text())["medians"]:
            if row["part"] == "test" and row["metric"] == "mae":
                found[label.format(row["case"]), str(row["n_high"]), row["quantity"]] = row
    return found


def test_figures_are_those_measured() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()]
    rows = [row for row in rows if len(row) == 8 and row[2] in ("energy", "force")]
    assert len(rows) == 10
    for case, n_high, quantity, *shown in rows:
        got = measured()[case, n_high, quantity]
        values = [got[key] for key in ("SF-E", "MF", "SF-EF", "ratio", "gap_closed")]
        assert shown == ["–" if value is None else f"{value:.2f}" for value in values]


def test_figures_of_mf_plus_are_those_measured() -> None:
    found = {}
    for name, label in (("ani1x-tz", "`ani1x-tz`"), ("ani1ccx", "`ani1ccx`"), ("ethanol", "ethanol")):
        (file,) = (ROOT / "benchmarks" / "results").glob(f"mf-plus-{name}-cpu-*.json")
        for row in json.loads(file.read_text())["medians"]:
            if row["part"] == "test":
                found[label, str(row["n_high"]), row["quantity"]] = row
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()]
    rows = [row for row in rows if len(row) == 11 and row[2] in ("energy", "force")]
    assert len(rows) == 18
    keys = ("SF-E", "MF", "SF-EF", "MF+", "oracle", "MF+/MF", "MF+ gap closed", "MF+ oracle ratio")
    for case, n_high, quantity, *shown in rows:
        got = found[case, n_high, quantity]
        assert shown == ["–" if got[key] is None else f"{got[key]:.2f}" for key in keys]
    at_100 = [row for (_, n, quantity), row in found.items() if n == "100" and quantity in ("energy", "force")]
    ratios = [row["MF+ oracle ratio"] for row in at_100 if row["oracle"] is not None]
    assert f"{100 * (min(ratios) - 1):.0f} to {100 * (max(ratios) - 1):.0f} % from the oracle" in README
    unseen = [
        row["MF+/MF"]
        for name in ("ani1x-tz", "ani1ccx")
        for file in (ROOT / "benchmarks" / "results").glob(f"mf-plus-{name}-cpu-*.json")
        for row in json.loads(file.read_text())["medians"]
        if row["part"] == "unseen" and row["quantity"] == "energy"
    ]
    assert f"({min(unseen):.2f} to {max(unseen):.2f} times" in README


def test_figures_of_methanol_are_those_measured() -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob("methanol-cpu-*.json")
    rows = {(row["arm"], row["level"]): row for row in json.loads(file.read_text())["rows"]}
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()]
    shown = [row for row in shown if len(row) == 6 and (row[0], row[1].strip("`")) in rows]
    assert len(shown) == len(rows)
    for arm, level, *figures in shown:
        row = rows[arm, level.strip("`")]
        mae = "–" if row["frequency_mae"] is None else f"{row['frequency_mae']:.0f}"
        drift, bond = f"{row['drift_meV_atom_ps']:.3f}", f"{row['largest_change_of_a_bond_Angstrom']:.2f}"
        assert figures == [mae, drift, f"{row['mean_temperature_K']:.0f}", bond]
    lowest, *_, highest = rows["SF-E", "ccsd/cc-pvdz"]["frequencies"]
    assert f"({-lowest:.0f} 1/cm)" in README
    assert f"up to {highest:,.0f} 1/cm" in README


def test_figures_of_a_level_known_for_methanol_alone_are_those_measured() -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob("narrow-high-cpu-*.json")
    rows = json.loads(file.read_text())["rows"]
    most = {arm: max(row["most"] for row in rows if row["arm"] == arm) for arm in ("MF", "MF+", "SF-E")}
    words = f"{most['MF']:.2f} eV with MF, by {most['MF+']:.2f} with MF+, and by {most['SF-E']:.2f} with SF-E"
    assert words in " ".join(README.split())


def test_what_changed_is_what_was_measured() -> None:
    results = ROOT / "benchmarks" / "results"
    (short,), (long,) = results.glob("same-numbers-short-cpu-*.json"), results.glob("same-numbers-cpu-*.json")
    differing = {row["run"].split()[0] for row in json.loads(short.read_text())["rows"] if not row["same"]}
    assert differing == {"rmd17-cc"}
    moved = {}
    for row in json.loads(long.read_text())["rows"]:
        for quantity in ("energy", "force"):
            if (before := row["before"][quantity]) == before:  # not NaN
                moved[row["run"].split()[1], quantity] = 100 * abs(row["after"][quantity] / before - 1)
    steady = ("SF-E", "MF", "zero-shot", "transfer", "MF+")
    most = [max(moved[arm, quantity] for arm in steady) for quantity in ("energy", "force")]
    text = " ".join(README.split())
    assert f"by at most {most[0]:.1f} % and forces by at most {most[1]:.1f} %" in text
    others = [moved[arm, "energy"] for arm in ("SF-EF", "embedding", "delta")]
    assert "energies of SF-EF by {:.0f} %, embedding {:.0f} % and delta {:.0f} %".format(*others) in text


def test_figures_of_other_codes_are_those_measured() -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob("peers-cpu-*.json")
    report = json.loads(file.read_text())
    rows = {row["arm"]: row for row in report["rows"]}
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()]
    shown = [row for row in shown if len(row) == 3 and row[0] in rows]
    assert len(shown) == len(rows) == len(report["steps"]) + len(report["trips"])
    for arm, *figures in shown:
        assert figures == [f"{rows[arm][key]:.2f}" for key in ("energy mae", "force mae")]
    said = " ".join(README.split())
    assert (
        f"cut to a width of {report['small']['width']} and their training to {report['small']['epochs']} epochs" in said
    )
    assert f"our arms had all their {report['steps']['MF']:,} steps" in said
    assert len(set(report["steps"].values())) == 1


def test_figures_of_intervals_are_those_measured() -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob("coverage-*.json")
    rows = json.loads(file.read_text())["rows"]
    held = [100 * row[name] for row in rows for name in ("error", "ratio", "gap closed")]
    assert 93 <= round(min(held)) <= round(max(held)) <= 97
    called = 100 * max(row["equal arms called different"] for row in rows)
    assert called <= 5
    text = " ".join(README.split())
    assert f"held the truth in {min(held):.0f} to {max(held):.0f} % of them" in text
    assert f"called different in at most {called:.1f} %" in text
    assert f"as few as {100 * min(row['ratio, percentile bootstrap'] for row in rows):.0f} %" in text


def test_figures_of_the_scale_are_those_measured() -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob("ani1x-scale-cpu-*.json")
    report = json.loads(file.read_text())
    assert all(limit["met"] for limit in report["limits"])
    rows = {(row["name"], row["part"]): row for row in report["rows"]}
    shown = re.findall(r"^\| .*`([\w-]+)` \| ([\d.]+) s \| ([\d.]+) GiB \| (.*) \|$", README, re.MULTILINE)
    assert len(shown) == 6
    for name, seconds, peak, against in shown:
        row = next(found for (key, _), found in rows.items() if key == name and found["status"] == "done")
        assert seconds == f"{row['wall_s']:.1f}"
        assert peak == f"{row['peak_bytes'] / 2**30:.1f}"
        if times := re.match(r"([\d.]+) ×", against):
            assert times[1] == f"{row['times_yardstick']:.1f}"
