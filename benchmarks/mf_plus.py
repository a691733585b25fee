r"""MF+ beside MF, SF-E, SF-EF and the oracle: paired seeds, errors at the high level on the test part.

The recipe of MF+ was chosen by the validation errors of other data (benchmarks/mf_plus_search.py); these runs score it.
Arms of a seed share split, subset and initialisation. Given are medians over seeds of each arm's error; the gap closed,
1 - log(err/SF-EF)/log(SF-E/SF-EF), and the oracle ratio, err/oracle, where the labels for them exist; and MF+/MF and
MF+/SF-E. ``steps_shared`` of ``steps`` are those of a low-level stage that all sizes of a seed share.

    python benchmarks/mf_plus.py --workers 2 --out benchmarks/results/mf-plus-cpu-DATE.json
    python benchmarks/mf_plus.py --cases benchmarks/ethanol-split01.yaml --data ethanol --data-folder FOLDER \
        --out benchmarks/results/mf-plus-ethanol-cpu-DATE.json
"""

from typing import Any

import numpy as np
import pandas as pd
from common import budget, parser, records, run_all, write

from mfbench.results.rows import gap
from mfbench.results.schema import shown
from mfbench.study.grid import comparison

CASES = ("ani1x-tz", "ani1ccx")
ARMS = ("SF-E", "MF", "SF-EF", "MF+", "oracle")
QUANTITIES = ("energy", "energy_relative", "force")


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
                closed = gap(errors[arm], errors["SF-E"], errors["SF-EF"])
                # Seeds without a gap have none to close, and the median of the others is not that of all.
                row[f"{arm} gap closed"], row["seeds with a gap"] = np.median(closed), int(np.isfinite(closed).sum())
                row[f"{arm} oracle ratio"] = (errors[arm] / errors["oracle"]).median()
            row |= {f"MF+/{arm}": (errors["MF+"] / errors[arm]).median() for arm in ("MF", "SF-E", "SF-EF")}
            found.append(row)
    return found


def main() -> None:
    options = parser(
        __doc__,
        cases=CASES,
        sizes=(25, 50, 100),
        seeds=range(5),
        data=True,
        steps=True,
        workers=True,
        runs="runs/mf-plus",
    )
    options.add_argument("--data", default="mini")
    options.add_argument("--arms", nargs="+", default=ARMS)
    args = options.parse_args()
    experiments = [
        settings
        for seed in args.seeds
        for case in args.cases
        for settings in comparison(
            case, args.arms, args.sizes, [seed], data=args.data, threads=1, optimisation=budget(args)
        )
    ]
    table = run_all(experiments, args)
    table = table[table["n"].groupby(table["run"]).transform("sum") > 0]  # of arms that the labels allow
    rows = pd.DataFrame(summary(table))
    print(rows.round(3).to_string(index=False))
    costs = table.groupby(["case", "arm"])[["steps", "steps_shared", "seconds"]].median().reset_index()
    write(args.out, units="kcal/mol, kcal/mol/Angstrom", medians=records(rows), costs=costs.to_dict("records"))


if __name__ == "__main__":
    main()
