"""Other codes are installed, train on what is exported as it is, and are judged: their own commands do it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

NOT_INSTALLED = 3  # of benchmarks/peers.py
CODES = ["mace", "hippynn", "metatrain", "deepmd", "aimnet"]


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "benchmarks" / "peers.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*script, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("code", CODES)
def test_trip(code: str, tmp_path: Path) -> None:
    """In environments in the folder MFBENCH_PEERS, where they stay for the next time; else in one for this test."""
    folder = os.environ.get("MFBENCH_PEERS", str(tmp_path))
    words = ["--codes", code, "--cases", "rmd17-cc", "ani1ccx", "--arms", "MF", "MF+", "SF-E", "--epochs", "1"]
    done = run(*words, "--width", "8", "--ours", "--folder", folder, "--out", "out.json", folder=tmp_path)
    if done.returncode == NOT_INSTALLED:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "out.json").read_text())
    assert len(made["trips"]) == 6
    assert all(one["seconds"] > 0 and one["parameters"] > 0 for one in made["trips"])
    for row in made["rows"]:
        assert int(row["n energies"].replace(",", "")) > 100
        assert int(row["n forces"].replace(",", "")) > 1000
        assert 0 < row["force mae"] < 100  # kcal/mol/Angstrom: forces of zero are off by some 30


def test_what_pip_cannot_install_is_told_in_one_line(tmp_path: Path) -> None:
    done = run("--codes", "hippynn", "--folder", "made", "--pip-options=--no-index", folder=tmp_path)
    assert done.returncode == NOT_INSTALLED, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("hippynn cannot be installed: ERROR: ")
    assert "hippynn==0.1.3" in line
    assert not (tmp_path / "made" / "hippynn" / "installed").exists()


def test_a_code_that_ends_with_an_error_is_no_reason_to_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import peers

    def broken(asked: Any) -> list[list[str]]:
        assert (asked.folder / "options.yaml").exists()
        return [[sys.executable, "-c", "raise SystemExit('options.yaml: no such architecture')"]]

    monkeypatch.setitem(peers.PEERS, "metatrain", replace(peers.PEERS["metatrain"], train=broken))
    monkeypatch.setattr(peers, "environment", lambda *given: (tmp_path, "0"))
    monkeypatch.setattr(sys, "argv", ["peers.py", "--codes", "metatrain", "--folder", str(tmp_path), "--ours"])
    with pytest.raises(SystemExit, match=r"(?s)exit status 1; see .*train-0\.log\noptions.yaml: no such architecture"):
        peers.main()
