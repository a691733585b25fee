r"""The choice of MF+'s recipe and of the low-level stages' learning rate, by validation errors alone.

On methanol (ships), malonaldehyde and aspirin (files that benchmarks/manifests/ declares, from FOLDER). Errors are of
high-level energies and forces over structures that no arm of the size trained or validated on and that are not in the
test part: the rest of the validation part, and for arms other than the oracle the rest of the high-level structures.
The test part is never predicted. The seeds are not those of benchmarks/mf_plus.py.

    python benchmarks/mf_plus_search.py --data-folder FOLDER --out benchmarks/results/mf-plus-search.json
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfbench.learning.device import DeviceStructures
from mfbench.learning.loss import level_sums
from mfbench.learning.sources import Source, Term
from mfbench.learning.threads import use_threads
from mfbench.learning.training import fit
from mfbench.study import provenance
from mfbench.study.build import build
from mfbench.study.experiment import experiment
from mfbench.study.prepare import prepare
from mfbench.study.run import stage_name

CASES = {
    "methanol": ("rmd17-cc", "mini"),
    "malonaldehyde": ("benchmarks/malonaldehyde-split01.yaml", "malonaldehyde"),
    "aspirin": ("benchmarks/aspirin-split01.yaml", "aspirin"),
}
RATES = (8e-3, 1.6e-2, 3.2e-2)
SMALL = {"n_features": 8}
# What is tried, beside the oracle at every rate: arm and its options.
RECIPES: list[tuple[str, dict[str, Any]]] = [
    ("delta", {}),
    ("delta", {"network": SMALL}),
    ("delta", {"network": SMALL, "weight_decay": 0.1}),
    *(("MF+", {"difference": {"n_radial": n, "l_max": m}}) for n, m in ((6, 0), (6, 2), (6, 3), (8, 2), (8, 3))),
    ("MF+", {"difference": {"cutoff": 4.0}}),
    ("MF+", {"targets": "model"}),
]


def validation_error(
    name: str,
    arm: str,
    n_high: int | None,
    seed: int,
    rate: float,
    options: dict[str, Any],
    folder: Path | None,
    stages_folder: Path,
    budget: dict[str, int],
) -> dict[str, Any]:
    """Train one experiment; its errors (kcal/mol, kcal/mol/Angstrom) where it has seen nothing."""
    case, data = CASES[name]
    if arm == "oracle":
        settings = experiment(
            case, arm, data=data, seed=seed, threads=1, optimisation={"learning_rate": rate, **budget}
        )
    else:
        settings = experiment(
            case,
            arm,
            data=data,
            n_high=n_high,
            seed=seed,
            threads=1,
            optimisation=budget,
            arm_options={"low_learning_rate": rate, **options},
        )
    use_threads(1)
    prepared = prepare(settings, None if data == "mini" else folder)
    potential, stages = build(settings, prepared)
    device = DeviceStructures(prepared.training, torch.device("cpu"))
    for stage in stages:
        kept = stages_folder / f"{stage_name(stage, prepared.training, settings, 'cpu', 1)}.safetensors"
        fit(stage, device, seed, kept if stage.lesson.shared else None)
    chosen, split = prepared.selection, prepared.split
    pool = chosen.oracle.validation if arm == "oracle" else np.union1d(chosen.oracle.validation, split.oracle_pool)
    unused = np.setdiff1d(pool, np.concatenate([chosen.high.train, chosen.high.validation]))
    full = DeviceStructures(prepared.structures, torch.device("cpu"))
    source = Source(unused, (Term(prepared.high, forces=True),))
    sums = level_sums(potential, full.blocks([source], max_pairs=1 << 18), training=False)[prepared.high]
    assert sums.energy is not None
    assert sums.force is not None
    row = {"case": name, "arm": arm, "n_high": n_high, "seed": seed, "rate": rate, "options": options}
    return {**row, "n": len(unused), "energy": float(sums.energy.mae()), "force": float(sums.force.mae())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-folder", type=Path, help="of the files that do not ship")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--rate", type=float, default=1.6e-2, help="of the low level, for the recipes")
    parser.add_argument("--steps", type=int, help="gradient steps; few only try the script out (the preset's)")
    parser.add_argument("--stages", type=Path, default=Path("runs/mf-plus-search"), help="where low levels are kept")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.stages.mkdir(parents=True, exist_ok=True)
    budget = {} if args.steps is None else {"steps": args.steps}
    tasks: list[tuple[str, str, int | None, int, float, dict[str, Any]]] = []
    for seed in args.seeds:
        for name in args.cases:
            tasks += [(name, "oracle", None, seed, rate, {}) for rate in RATES]
            tasks += [(name, arm, n, seed, args.rate, options) for n in args.sizes for arm, options in RECIPES]
            tasks += [(name, "MF+", n, seed, rate, {}) for n in args.sizes for rate in RATES if rate != args.rate]
    rows = []
    for done, task in enumerate(tasks, 1):
        rows.append(validation_error(*task, args.data_folder, args.stages, budget))
        print(f"[{done}/{len(tasks)}] {rows[-1]}", flush=True)
        if args.out:
            report = {
                "date": time.strftime("%Y-%m-%d"),
                "provenance": provenance.describe(torch.device("cpu"), 1),
                "rows": rows,
            }
            args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
