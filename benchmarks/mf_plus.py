r"""MF+ beside MF, SF-E, SF-EF and the oracle: paired seeds, errors at the high level on the test part.

The recipe of MF+ was chosen by the validation errors of other data (benchmarks/mf_plus_search.py); these runs score it.
Arms of a seed share split, subset and initialisation. Given are medians over seeds of each arm's error; the gap closed,
1 - log(err/SF-EF)/log(SF-E/SF-EF), and the oracle ratio, err/oracle, where the labels for them exist; and MF+/MF and
MF+/SF-E. ``steps_shared`` of ``steps`` are those of a low-level stage that all sizes of a seed share.

    python benchmarks/mf_plus.py --workers 2 --out benchmarks/results/mf-plus-cpu-DATE.json
    python benchmarks/mf_plus.py --cases benchmarks/ethanol-split01.yaml --data ethanol --data-folder FOLDER \
        --out benchmarks/results/mf-plus-ethanol-cpu-DATE.json
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mfbench.errors import LabelsMissing
from mfbench.results.folder import METRICS_FILE, read_metrics
from mfbench.results.schema import shown
from mfbench.study import provenance
from mfbench.study.experiment import Experiment
from mfbench.study.grid import comparison
from mfbench.study.run import run

CASES = ("ani1x-tz", "ani1ccx")
ARMS = ("SF-E", "MF", "SF-EF", "MF+", "oracle")
QUANTITIES = ("energy", "energy_relative", "force")


def one(task: tuple[Experiment, Path, Path | None]) -> tuple[str, Path | None]:
    """Run one experiment; a line to print, and its run folder."""
    settings, runs, folder = task
    name = f"{settings.case} {settings.arm} n_high={settings.n_high} seed={settings.seed}"
    try:
        return f"{name}: done", run(settings, runs, data_folder=folder)
    except LabelsMissing as error:
        return f"{name}: n = 0, {error}", None


def summary(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each case, size, part and quantity: medians over the seeds, which are paired before."""
    rows = shown(table[(table["role"] == "high") & (table["metric"] == "mae") & (table["n"] > 0)])
    found = []
    for (case, part, quantity), group in rows.groupby(["case", "part", "quantity"]):
        if quantity not in QUANTITIES:
            continue
        oracle = group[group["arm"] == "oracle"].set_index("seed")["value"]
        for n_high, at_size in group[group["arm"] != "oracle"].groupby("n_high"):
            errors = at_size.pivot(index="seed", columns="arm", values="value").reindex(columns=ARMS)
            errors["oracle"] = oracle
            row = {"case": case, "part": part, "quantity": quantity, "n_high": int(n_high), "seeds": len(errors)}
            row |= {arm: errors[arm].median() for arm in ARMS}
            row |= {f"{arm} spread": errors[arm].std() for arm in ARMS}
            for arm in ("MF", "MF+"):
                gap = 1 - np.log(errors[arm] / errors["SF-EF"]) / np.log(errors["SF-E"] / errors["SF-EF"])
                row[f"{arm} gap closed"] = gap.median()
                row[f"{arm} oracle ratio"] = (errors[arm] / errors["oracle"]).median()
            row |= {f"MF+/{arm}": (errors["MF+"] / errors[arm]).median() for arm in ("MF", "SF-E", "SF-EF")}
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--data", default="mini")
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument("--steps", type=int, help="gradient steps; few only try the script out (the preset's)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/mf-plus"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    optimisation = {} if args.steps is None else {"steps": args.steps}
    tasks = [
        (settings, args.runs, args.data_folder)
        for seed in args.seeds
        for case in args.cases
        for settings in comparison(
            case, args.arms, args.sizes, [seed], data=args.data, threads=1, optimisation=optimisation
        )
    ]
    folders = []
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for done, (line, folder) in enumerate(pool.imap_unordered(one, tasks), 1):
            print(f"[{done}/{len(tasks)}] {line}", flush=True)
            folders += [folder] if folder else []
    table = pd.concat([read_metrics(folder / METRICS_FILE) for folder in sorted(folders)])
    rows = summary(table)
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    if args.out:
        costs = table.groupby(["case", "arm"])[["steps", "steps_shared", "seconds"]].median().reset_index()
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "provenance": provenance.describe(torch.device("cpu"), 1),
            "units": "kcal/mol, kcal/mol/Angstrom",
            "medians": pd.DataFrame(rows).astype(object).where(pd.DataFrame(rows).notna(), None).to_dict("records"),
            "costs": costs.to_dict("records"),
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
