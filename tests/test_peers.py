"""Other codes are installed, train on what is exported as it is, and are judged: their own commands do it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

NOT_INSTALLED = 3  # of benchmarks/peers.py


@pytest.mark.parametrize("code", ["mace", "hippynn", "metatrain", "deepmd"])
def test_trip(code: str, tmp_path: Path) -> None:
    """In environments in the folder MFBENCH_PEERS, where they stay for the next time; else in one for this test."""
    folder = os.environ.get("MFBENCH_PEERS", str(tmp_path))
    words = ["--codes", code, "--cases", "rmd17-cc", "ani1ccx", "--arms", "MF", "MF+", "SF-E", "--epochs", "1"]
    words += ["--width", "8", "--ours", "--folder", folder, "--runs", "runs", "--out", "out.json"]
    script = [sys.executable, str(ROOT / "benchmarks" / "peers.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*script, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    if done.returncode == NOT_INSTALLED:
        pytest.skip(f"pip cannot install {code} here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "out.json").read_text())
    assert len(made["trips"]) == 6
    assert all(one["seconds"] > 0 and one["parameters"] > 0 for one in made["trips"])
    for row in made["rows"]:
        assert int(row["n energies"].replace(",", "")) > 100
        assert int(row["n forces"].replace(",", "")) > 1000
        assert 0 < row["force mae"] < 100  # kcal/mol/Angstrom: forces of zero are off by some 30
