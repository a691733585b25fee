"""Synthetic results tables that obey the schema, with errors that follow known power laws.

The value of every row is known in closed form (``error``), so tests can assert numbers.
"""

from collections.abc import Iterable

import pandas as pd

from mfbench.results.schema import METRICS, PARTS, QUANTITIES, conform, empty_table

LEVELS = {
    "ani1x-tz": ("wb97x/6-31g*", "wb97x/def2-tzvpp"),
    "ani1ccx": ("wb97x/6-31g*", "ccsd(t)*/cbs"),
    "rmd17-cc": ("pbe/def2-svp", "ccsd/cc-pvdz"),
}
N_LOW = 1000
NO_FORCES = "no CCSD(T)*/CBS forces to train on"
NO_TOTAL_ENERGY = "total energies of two levels are not comparable"

# Prefactor and exponent of error = prefactor * n_high ** -exponent, in eV and eV/Angstrom.
LAWS = {
    "energy": {"SF-E": (1.2, 0.5), "MF": (0.35, 0.5), "SF-EF": (0.28, 0.5)},
    "force": {"SF-E": (3.0, 0.3), "MF": (0.75, 0.3), "SF-EF": (0.60, 0.3)},
}
SF_LOW = {"energy_relative": 0.11, "force": 0.17}
SCALE = {"energy": 1.0, "energy_per_atom": 1 / 8, "energy_relative": 0.8, "force": 1.0}
RMSE_OVER_MAE = 1.4
UNSEEN_OVER_TEST = 1.8
N = {"energy": 240, "energy_per_atom": 240, "energy_relative": 240, "force": 5040}


def error(arm: str, quantity: str, metric: str, n_high: int, seed: int = 0, part: str = "test") -> float:
    """The value of a row, in internal units; seeds differ by 10 %, symmetric around seed 1 on a log axis."""
    if arm == "SF-low":
        value = SF_LOW[quantity]
    else:
        prefactor, exponent = LAWS["force" if quantity == "force" else "energy"][arm]
        value = prefactor * n_high**-exponent * 1.1 ** (seed - 1) * SCALE[quantity]
    value *= RMSE_OVER_MAE if metric == "rmse" else 1.0
    return value * (UNSEEN_OVER_TEST if part == "unseen" else 1.0)


def results_table(
    cases: Iterable[str] = tuple(LEVELS),
    arms: Iterable[str] = ("SF-E", "MF", "SF-EF", "SF-low"),
    sizes: Iterable[int] = (50, 150),
    seeds: Iterable[int] = (0,),
    backbone: str = "hipnn-ts",
) -> pd.DataFrame:
    """A table as the demo makes it: SF-low once a case, no forces to train on in ani1ccx, rMD17 all seen."""
    rows = []
    for case in cases:
        for arm in arms:
            for n_high in (0,) if arm == "SF-low" else sizes:
                for seed in (0,) if arm == "SF-low" else seeds:
                    rows += _run(case, arm, n_high, seed, backbone)
    return conform(pd.DataFrame(rows)) if rows else empty_table()


def _run(case: str, arm: str, n_high: int, seed: int, backbone: str) -> list[dict[str, object]]:
    low, high = LEVELS[case]
    common = {
        "run": f"{case}-{arm}-{n_high}-{seed}-{backbone}",
        "case": case,
        "data": "mini",
        "arm": arm,
        "backbone": backbone,
        "preset": "demo",
        "n_low": N_LOW if arm in ("MF", "SF-low") else 0,
        "n_high": n_high,
        "split_seed": 0,
        "seed": seed,
        "steps": 2000,
        "seconds": 20.0,
        "structures_per_second": 3000.0,
        "device": "cpu",
    }
    parts = ("test",) if case == "rmd17-cc" else PARTS
    rows = []
    for part in parts:
        for quantity in QUANTITIES:
            for metric in METRICS:
                remark = ""
                if case == "ani1ccx" and arm == "SF-EF":
                    remark = NO_FORCES
                elif arm == "SF-low" and quantity not in SF_LOW:
                    remark = NO_TOTAL_ENERGY
                rows.append(
                    common
                    | {
                        "level": high,
                        "role": "high",
                        "head": low if arm == "SF-low" else high,
                        "part": part,
                        "quantity": quantity,
                        "metric": metric,
                        "value": float("nan") if remark else error(arm, quantity, metric, n_high, seed, part),
                        "n": 0 if remark else N[quantity],
                        "remark": remark,
                    }
                )
                if arm in ("MF", "SF-low"):
                    # Small errors at the low level: a plot or table that takes these rows is wrong by far.
                    rows.append(
                        rows[-1] | {"level": low, "role": "low", "head": low, "value": 1e-4, "n": 99, "remark": ""}
                    )
    return rows
