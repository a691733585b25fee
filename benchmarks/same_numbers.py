r"""Do two checkouts of mfbench give the same numbers? Short runs of every arm in both, compared on one machine.

With HIP-NN-TS: weights and predictions bit for bit, and every error. With SchNetPack's networks, in float64: losses,
weights after some steps (which gradients made) and energies to 1e-10 of their largest size, a number of the level's and
tensor's own. Of runs that differ, test errors at the high level stand beside it, before and after.

    git worktree add ../before HEAD~1
    python benchmarks/same_numbers.py ../before . --out same.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from common import write
from safetensors.numpy import load_file

from mfbench.results.folder import read_run
from mfbench.results.rows import judged_at_high_level
from mfbench.results.schema import shown

ARMS = ("SF-E", "MF", "SF-EF", "SF-low", "zero-shot", "transfer", "delta", "embedding", "MF+", "oracle")
SCHNETPACK = ("schnet", "painn", "so3net")
TOLERANCE = 1e-10
TIMES = ("seconds", "structures_per_second", "device")


def commands(steps: int) -> dict[str, list[str]]:
    """The runs, by a name for each: every arm, and what changes what an arm learns from."""
    few = ["--n-high", "25", "--steps", str(steps)]
    found = {f"{case} {arm}": [case, "--arm", arm, *few] for case in ("rmd17-cc", "ani1x-tz") for arm in ARMS}
    found |= {
        f"ladder {arm}": ["ladder", "--arm", arm, *few] for arm in ("MF", "transfer", "delta", "MF+", "embedding")
    }
    for arm, options in (
        ("MF", ["--no-low-forces"]),
        ("MF", ["--no-low-energies"]),
        ("MF+", ["--no-low-energies"]),
        ("transfer", ["--no-low-energies"]),
        ("MF", ["--noise", "low-force=1", "--noise", "high-energy=1"]),
        ("SF-EF", ["--high-forces", "0.5"]),
        ("transfer", ["--arm-option", "freeze=backbone"]),
        ("transfer", ["--arm-option", "freeze=1", "--arm-option", "head=new"]),
        ("delta", ["--arm-option", "weight_decay=0.01", "--arm-option", "network.n_features=8"]),
        ("MF+", ["--arm-option", "targets=model", "--arm-option", "difference.l_max=1"]),
        ("MF", ["--overlap", "partly"]),
    ):
        found[f"ani1x-tz {arm} {' '.join(options)}"] = ["ani1x-tz", "--arm", arm, *few, *options]
    found["ani1x-tz MF paper"] = ["ani1x-tz", "--arm", "MF", *few[:2], "--steps", "3", "--preset", "paper"]
    for network in SCHNETPACK:
        for arm in ("MF", "SF-EF", "embedding"):
            own = ["--backbone", network, "--dtype", "float64"]
            found[f"{network} {arm}"] = ["ani1x-tz", "--arm", arm, "--n-high", "25", "--steps", "4", *own]
    return found


def made(checkout: Path, words: list[str], runs: Path) -> Path:
    """The run folder that a checkout makes."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mfbench", "run", *words, "--device", "cpu", "--runs", str(runs)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}: {' '.join(words)}: {done.stderr[-2000:]}")
    return Path(done.stdout.splitlines()[-1].removeprefix("Run folder: "))


def numbers(run: Path) -> dict[str, np.ndarray]:
    """All numbers of a run but its times, by name."""
    found = {f"weights {name}": array for name, array in load_file(run / "weights.safetensors").items()}
    with h5py.File(run / "predictions.h5") as file:
        found |= {f"predictions {name}": file[name][()] for name in file}
    for name, table in (
        ("metrics", pd.read_parquet(run / "metrics.parquet")),
        ("history", pd.read_csv(run / "history.csv")),
    ):
        columns = [c for c in table if c not in TIMES and pd.api.types.is_numeric_dtype(table[c])]
        found |= {f"{name} {column}": table[column].to_numpy() for column in columns}
    with np.load(run / "split.npz") as file:
        found |= {f"split {name}": file[name] for name in file.files if file[name].dtype.kind in "iuf"}
    return found


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference over the largest number; infinity where shapes or gaps differ."""
    if one.shape != other.shape or not np.array_equal(np.isnan(one.astype(float)), np.isnan(other.astype(float))):
        return float("inf")
    if one.size == 0 or np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
        return 0.0
    gap = np.nanmax(np.abs(one.astype(float) - other.astype(float)))
    return float(gap / max(np.nanmax(np.abs(one.astype(float))), 1e-300))


def compared(one: Path, other: Path, name: str) -> dict[str, Any]:
    """How two run folders differ, and whether that is too much."""
    exact = name.split()[0] not in SCHNETPACK
    left, right = numbers(one), numbers(other)
    apart = {key: difference(left[key], right[key]) for key in left.keys() & right.keys()}
    # Forces are kept in single precision, of which the last bit may turn.
    bounds = {key: 0.0 if exact else 1e-6 if "force" in key else TOLERANCE for key in apart}
    bad = sorted(key for key, gap in apart.items() if gap > bounds[key])
    bad += sorted(f"{key}, in one alone" for key in left.keys() ^ right.keys())
    same = not bad and one.name == other.name
    found = {"run": name, "largest": max(apart.values()), "same": same, "differing": bad}
    return found if same else {**found, "before": errors(one), "after": errors(other)}


def errors(run: Path) -> dict[str, float]:
    """Test errors at the high level, in kcal/mol and kcal/mol/Angstrom."""
    table = read_run(run)
    table = shown(judged_at_high_level(table, table["case"].iloc[0]))
    rows = table[(table["metric"] == "mae") & table["quantity"].isin(["energy", "force"])]
    return {str(row["quantity"]): round(float(row["value"]), 4) for _, row in rows.iterrows()}


def commit(checkout: Path) -> str:
    """The commit of a checkout."""
    words = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--keep", type=Path, help="folder of the runs; those that are there are not made again")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = (args.keep or Path(scratch)).resolve()
        for name, words in commands(args.steps).items():
            if args.only in name:
                folders = [made(c, words, root / side) for c, side in ((args.before, "before"), (args.after, "after"))]
                rows.append(compared(*folders, name))
                said = "same" if rows[-1]["same"] else f"DIFFERS in {', '.join(rows[-1]['differing'][:4]) or 'name'}"
                print(f"{name}: {said} (largest {rows[-1]['largest']:.1e})", flush=True)
    commits = {side: commit(checkout) for side, checkout in (("before", args.before), ("after", args.after))}
    write(args.out, steps=args.steps, commits=commits, rows=rows)
    if not all(row["same"] for row in rows):
        raise SystemExit("the numbers differ")


if __name__ == "__main__":
    main()
