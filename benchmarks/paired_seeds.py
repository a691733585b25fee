r"""MF against SF-E and SF-EF over paired seeds, at a case's smaller size, on the high level's test part.

Every experiment goes through ``mfbench.experiment.run`` with the settings of the preset; the arms of a seed
share split, subset and initialisation. The bounds: the median over seeds of MF / SF-E is at most 0.7 for the
energy MAE and at most 0.6 for the force MAE. Where SF-EF exists, the gap closed is given as measured.

    python benchmarks/paired_seeds.py --workers 2 --out benchmarks/results/paired-seeds-cpu-2026-11-23.json
    python benchmarks/paired_seeds.py --cases benchmarks/ethanol-split01.yaml --data ethanol --data-folder FOLDER \
        --sizes 50 200 --seeds 0 1 2

The second takes the files that benchmarks/manifests/ declares from FOLDER.
"""

import argparse
import itertools
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mfbench.data.cases import case
from mfbench.errors import LabelsMissing
from mfbench.results.folder import METRICS_FILE, read_metrics
from mfbench.results.rows import gap_closed
from mfbench.results.schema import shown
from mfbench.study import provenance
from mfbench.study.experiment import experiment
from mfbench.study.run import run

CASES = ("ani1x-tz", "ani1ccx", "rmd17-cc")
ARMS = ("SF-E", "MF", "SF-EF")
BOUNDS = {"energy": 0.7, "force": 0.6}


def one(task: tuple[str, str, int, int, str, Path, Path | None, dict[str, int]]) -> tuple[str, Path | None]:
    """Run one experiment; a line to print, and its run folder."""
    name, arm, n_high, seed, data, runs, folder, optimisation = task
    settings = experiment(name, arm, data=data, n_high=n_high, seed=seed, threads=1, optimisation=optimisation)
    try:
        done = run(settings, runs, data_folder=folder)
    except LabelsMissing as error:
        return f"{name} {arm} n_high={n_high} seed={seed}: n = 0, {error}", None
    return f"{name} {arm} n_high={n_high} seed={seed}: done", done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--data", default="mini")
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", help="default: the smaller size of each case")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, help="gradient steps; few only try the script out (the preset's)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/paired"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    optimisation = {} if args.steps is None else {"steps": args.steps}
    tasks = [
        (name, arm, n_high, seed, args.data, args.runs, args.data_folder, optimisation)
        for seed, name, arm in itertools.product(args.seeds, args.cases, ARMS)
        for n_high in args.sizes or [min(case(name).variant(args.data).sizes)]
    ]
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        folders = []
        for done, (line, folder) in enumerate(pool.imap_unordered(one, tasks), 1):
            print(f"[{done}/{len(tasks)}] {line}", flush=True)
            folders += [folder] if folder else []
    table = pd.concat([read_metrics(folder / METRICS_FILE) for folder in sorted(folders)])
    gaps = gap_closed(shown(table))
    keys = ["case", "n_high", "part", "quantity", "metric"]
    columns = ["SF-E", "MF", "SF-EF", "ratio", "gap_closed"]
    medians = gaps.groupby(keys)[columns].median().reset_index()
    medians["seeds"] = gaps.groupby(keys)["seed"].nunique().to_numpy()
    medians["seeds_with_a_gap"] = gaps.groupby(keys)["gap_closed"].count().to_numpy()
    print(medians.round(3).to_string(index=False))
    bounds = []
    for row in medians.to_dict("records"):
        if row["part"] == "test" and row["metric"] == "mae" and row["quantity"] in BOUNDS:
            bound = BOUNDS[row["quantity"]]
            met = bool(row["ratio"] <= bound)
            bounds.append(
                {**{k: row[k] for k in ("case", "n_high", "quantity", "ratio", "seeds")}, "bound": bound, "met": met}
            )
            print(
                f"{row['case']} n_high={row['n_high']} {row['quantity']}: median MF/SF-E = {row['ratio']:.3f}, "
                f"bound {bound}: {'met' if met else 'MISSED'}"
            )
    if args.out:
        report: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d"),
            "provenance": provenance.describe(torch.device("cpu"), 1),
            "units": "kcal/mol, meV/atom for energy_per_atom, kcal/mol/Angstrom for force",
            "bounds": bounds,
            "medians": medians.astype(object).where(medians.notna(), None).to_dict("records"),
            "paired": gaps.astype(object).where(gaps.notna(), None).to_dict("records"),
        }
        args.out.write_text(json.dumps(report, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
