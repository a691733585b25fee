"""Each arm's own best learning rate for the demo preset, by validation error alone.

For every arm, rate, case and seed an experiment of the smaller size is trained as ``mfbench run`` would, and
the lowest validation error that its last stage saw is kept: of the experiment's own high-level validation
*energies*, for SF-EF of high-level energies and forces, for SF-low of low-level ones. The rate is that of all stages
but a low-level one with a rate of its own (benchmarks/mf_plus_search.py), which is trained once for all rates. The test
part is never predicted. An arm's rate is the one with the least geometric mean over cases and seeds; the
seeds are not those of benchmarks/paired_seeds.py. What ``--out`` holds already is kept and not repeated, so
that a search whose best rate lies at its edge is widened by naming more rates.

    python benchmarks/learning_rate_search.py --workers 2 --out benchmarks/results/learning-rates.json
"""

import itertools
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from common import CASES, parser, write
from filelock import FileLock

from mfbench.errors import LabelsMissing
from mfbench.learning.device import DeviceStructures
from mfbench.learning.threads import use_threads
from mfbench.learning.training import fit
from mfbench.study.build import build
from mfbench.study.experiment import experiment
from mfbench.study.pool import spread
from mfbench.study.prepare import prepare
from mfbench.study.run import stage_name

ARMS = ("SF-E", "MF", "SF-EF", "SF-low", "embedding", "transfer", "delta")
RATES = (1e-3, 2e-3, 4e-3, 8e-3)


def validation_error(task: tuple[str, str, float, int, dict[str, Any], dict[str, Any], Path]) -> dict[str, Any]:
    """Train one experiment; its lowest validation error (kcal/mol, kcal/mol/Angstrom) and time."""
    case, arm, rate, seed, network, optimisation, stages = task
    settings = experiment(
        case, arm, seed=seed, threads=1, network=network, optimisation={**optimisation, "learning_rate": rate}
    )
    use_threads(1)
    prepared = prepare(settings)
    row = {"case": case, "arm": arm, "learning_rate": rate, "seed": seed}
    try:
        _, trained = build(settings, prepared)
    except LabelsMissing as error:
        return {**row, "error": None, "remark": str(error)}
    data = DeviceStructures(prepared.training, torch.device("cpu"))
    for stage in trained:
        kept = stages / f"{stage_name(stage, prepared.training, settings, 'cpu', 1)}.safetensors"
        with FileLock(f"{kept}.lock"):
            state = fit(stage, data, settings.seed, kept if stage.lesson.shared and len(trained) > 1 else None)
    return {**row, "error": state.best_error, "best_step": state.best_step, "seconds": round(state.seconds, 1)}


def main() -> None:
    options = parser(__doc__, cases=CASES, seeds=(100, 101), workers=True, stages="runs/learning-rates")
    options.add_argument("--arms", nargs="+", default=ARMS)
    options.add_argument("--rates", type=float, nargs="+", default=RATES)
    options.add_argument("--network", type=json.loads, default={}, help="settings that differ, as JSON")
    options.add_argument("--optimisation", type=json.loads, default={}, help="settings that differ, as JSON")
    args = options.parse_args()
    args.stages.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if args.out and args.out.is_file():
        saved = json.loads(args.out.read_text())
        if (saved["network"], saved["optimisation"]) != (args.network, args.optimisation):
            options.error(f"{args.out} was made with other settings: name another file")
        rows = saved["rows"]
    done_already = {(row["case"], row["arm"], row["learning_rate"], row["seed"]) for row in rows}
    tasks = [
        (*task, args.network, args.optimisation, args.stages)
        for task in itertools.product(args.cases, args.arms, args.rates, args.seeds)
        if task not in done_already
    ]
    for done, (_, row) in enumerate(spread(validation_error, tasks, args.workers), 1):
        if isinstance(row, Exception):
            raise row
        rows.append(row)
        print(f"[{done}/{len(tasks)}] {row}", flush=True)
    logs: dict[tuple[str, float], list[float]] = defaultdict(list)
    for row in rows:
        if row["error"] is not None:
            logs[row["arm"], row["learning_rate"]].append(math.log(row["error"]))
    means = {key: math.exp(sum(values) / len(values)) for key, values in logs.items()}
    best = {}
    for arm in sorted({arm for arm, _ in means}):
        of_arm = {rate: round(means[arm, rate], 4) for rate in sorted(r for a, r in means if a == arm)}
        best[arm] = min(of_arm, key=of_arm.__getitem__)
        print(f"{arm:7s} {of_arm} -> {best[arm]:g}")
    write(  # the provenance is of the rows that were made last
        args.out,
        network=args.network,
        optimisation=args.optimisation,
        best=best,
        geometric_means=[{"arm": a, "learning_rate": r, "error": e} for (a, r), e in sorted(means.items())],
        rows=sorted(rows, key=lambda r: (r["arm"], r["case"], r["learning_rate"], r["seed"])),
    )


if __name__ == "__main__":
    main()
