r"""MF against SF-E and SF-EF over paired seeds, at a case's smaller size, on the high level's test part.

Every experiment goes through ``mfbench.run_all`` with the settings of the preset; the arms of a seed
share split, subset and initialisation. The bounds: the median over seeds of MF / SF-E is at most 0.7 for the
energy MAE and at most 0.6 for the force MAE. Where SF-EF exists, the gap closed is given as measured.

    python benchmarks/paired_seeds.py --workers 2 --out benchmarks/results/paired-seeds-cpu-2026-11-23.json
    python benchmarks/paired_seeds.py --cases benchmarks/ethanol-split01.yaml --data ethanol --data-folder FOLDER \
        --sizes 50 200 --seeds 0 1 2

The second takes the files that benchmarks/manifests/ declares from FOLDER.
"""

import itertools

from common import CASES, budget, parser, records, run_all, write

from mfbench.data.cases import case
from mfbench.results.rows import gap_closed
from mfbench.results.schema import shown
from mfbench.study.experiment import experiment

ARMS = ("SF-E", "MF", "SF-EF")
BOUNDS = {"energy": 0.7, "force": 0.6}


def main() -> None:
    options = parser(
        __doc__, cases=CASES, sizes=(), seeds=range(5), data=True, steps=True, workers=True, runs="runs/paired"
    )
    options.add_argument("--data", default="mini")
    args = options.parse_args()
    experiments = [
        experiment(name, arm, data=args.data, n_high=n_high, seed=seed, threads=1, optimisation=budget(args))
        for seed, name, arm in itertools.product(args.seeds, args.cases, ARMS)
        for n_high in args.sizes or [min(case(name).choice(args.data).sizes)]
    ]
    table = run_all(experiments, args)
    table = table[table["n"].groupby(table["run"]).transform("sum") > 0]  # of arms that the labels allow
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
    write(
        args.out,
        units="kcal/mol, meV/atom for energy_per_atom, kcal/mol/Angstrom for force",
        bounds=bounds,
        medians=records(medians),
        paired=records(gaps),
    )


if __name__ == "__main__":
    main()
