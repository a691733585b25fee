r"""The choice of MF+'s recipe and of the low-level stages' learning rate, by validation errors alone.

On methanol (ships), malonaldehyde and aspirin (files that benchmarks/manifests/ declares, from FOLDER). Errors are of
high-level energies and forces over structures that no arm of the size trained or validated on and that are not in the
test part: the rest of the validation part, and for arms other than the oracle the rest of the high-level structures.
The test part is never predicted. The seeds are not those of benchmarks/mf_plus.py.

    python benchmarks/mf_plus_search.py --data-folder FOLDER --out benchmarks/results/mf-plus-search.json
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import budget, parser, write
from filelock import FileLock

from mfbench.learning.device import DeviceStructures
from mfbench.learning.loss import level_sums
from mfbench.learning.sources import MAX_PAIRS, Source, Term
from mfbench.learning.threads import use_threads
from mfbench.learning.training import fit
from mfbench.study.build import build
from mfbench.study.experiment import experiment
from mfbench.study.pool import spread
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
    task: tuple[str, str, int | None, int, float, dict[str, Any]],
    folder: Path | None,
    stages_folder: Path,
    optimisation: dict[str, Any],
) -> dict[str, Any]:
    """Train one experiment; its errors (kcal/mol, kcal/mol/Angstrom) where it has seen nothing."""
    name, arm, n_high, seed, rate, options = task
    case, data = CASES[name]
    if arm == "oracle":
        settings = experiment(
            case, arm, data=data, seed=seed, threads=1, optimisation={"learning_rate": rate, **optimisation}
        )
    else:
        settings = experiment(
            case,
            arm,
            data=data,
            n_high=n_high,
            seed=seed,
            threads=1,
            optimisation=optimisation,
            arm_options={"low_learning_rate": rate, **options},
        )
    use_threads(1)
    prepared = prepare(settings, None if data == "mini" else folder)
    potential, stages = build(settings, prepared)
    device = DeviceStructures(prepared.training, torch.device("cpu"))
    for stage in stages:
        kept = stages_folder / f"{stage_name(stage, prepared.training, settings, 'cpu', 1)}.safetensors"
        with FileLock(f"{kept}.lock"):  # another process waits and then has it
            fit(stage, device, seed, kept if stage.lesson.shared else None)
    chosen, split = prepared.selection, prepared.split
    pool = chosen.oracle.validation if arm == "oracle" else np.union1d(chosen.oracle.validation, split.oracle_pool)
    unused = np.setdiff1d(pool, np.concatenate([chosen.high.train, chosen.high.validation]))
    full = DeviceStructures(prepared.structures, torch.device("cpu"))
    source = Source(unused, (Term(prepared.high, forces=True),))
    sums = level_sums(potential, full.blocks([source], max_pairs=MAX_PAIRS), training=False)[prepared.high]
    assert sums.energy is not None
    assert sums.force is not None
    row = {"case": name, "arm": arm, "n_high": n_high, "seed": seed, "rate": rate, "options": options}
    return {**row, "n": len(unused), "energy": float(sums.energy.mae()), "force": float(sums.force.mae())}


def main() -> None:
    options = parser(
        __doc__,
        cases=list(CASES),
        sizes=(25, 100),
        seeds=(100,),
        data=True,
        steps=True,
        workers=True,
        stages="runs/mf-plus-search",
    )
    options.add_argument("--rate", type=float, default=1.6e-2, help="of the low level, for the recipes")
    args = options.parse_args()
    args.stages.mkdir(parents=True, exist_ok=True)
    tasks: list[tuple[str, str, int | None, int, float, dict[str, Any]]] = []
    for seed in args.seeds:
        for name in args.cases:
            tasks += [(name, "oracle", None, seed, rate, {}) for rate in RATES]
            tasks += [(name, arm, n, seed, args.rate, options) for n in args.sizes for arm, options in RECIPES]
            tasks += [(name, "MF+", n, seed, rate, {}) for n in args.sizes for rate in RATES if rate != args.rate]
    one = partial(validation_error, folder=args.data_folder, stages_folder=args.stages, optimisation=budget(args))
    rows: dict[int, dict[str, Any]] = {}
    for place, row in spread(one, tasks, args.workers):
        if isinstance(row, Exception):
            raise row
        rows[place] = row
        print(f"[{len(rows)}/{len(tasks)}] {row}", flush=True)
        write(args.out, rows=[rows[k] for k in sorted(rows)])


if __name__ == "__main__":
    main()
