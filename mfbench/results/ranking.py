"""Which arm is best where, and which arms can be told apart: ratios of every two of them, paired by seed."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mfbench.results.paired import PairedErrors
from mfbench.results.rows import HORIZONTAL, base_arm
from mfbench.results.scaling import curves
from mfbench.results.statistics import estimate, holm, resolvable

DIFFERENCES = {
    "n_high": "int64",
    "quantity": "str",
    "arm": "str",
    "other": "str",
    "ratio": "float64",  # the arm's error over the other's, over the seeds that both have
    "low": "float64",  # 95 % interval; NaN below FEWEST seeds
    "high": "float64",
    "least": "float64",  # range over the seeds
    "most": "float64",
    "differs": "boolean",  # all pairs of the size and quantity being compared; NA below FEWEST seeds
    "resolvable": "float64",  # smallest ratio that these data would tell from 1
    "seeds": "int64",
}

WITH_HIGH_FORCES = ("SF-EF",)  # arms that see what the others do without: what these are measured against


def differences(errors: PairedErrors) -> pd.DataFrame:
    """Each arm against each other one at each size: their ratio, and whether they differ, by Holm's rule.

    As all pairs of a size and quantity are corrected for together, any of them may be picked out afterwards, that of
    the best two included.

    Returns:
        The columns of ``DIFFERENCES``, each pair both ways round.
    """
    found = []
    for quantity in errors.quantities():
        keys = [key for of_arm in curves(errors, quantity).values() for key in of_arm]
        for n_high in sorted({key.n_high for key in keys}):
            pairs = combinations([key for key in keys if key.n_high == n_high], 2)
            compared = [
                (one, other, estimate(logs[0] - logs[1]))
                for one, other in pairs
                if len((logs := errors.logs([one, other]))[0].values)
            ]
            differ = holm([ratio.p for *_, ratio in compared])
            for (one, other, ratio), differs in zip(compared, differ):
                told = differs if np.isfinite(ratio.low) else pd.NA
                bounds = np.array([ratio.value, ratio.low, ratio.high, ratio.seeds.min(), ratio.seeds.max()])
                rest = told, resolvable(ratio), len(ratio.seeds)
                found.append((n_high, quantity, one.arm, other.arm, *bounds, *rest))
                found.append((n_high, quantity, other.arm, one.arm, *(1 / bounds[[0, 2, 1, 4, 3]]), *rest))
    return pd.DataFrame(found, columns=list(DIFFERENCES)).astype(DIFFERENCES)


@dataclass(frozen=True)
class Best:
    """The arm with the lowest error of one size and quantity, of those that see no high-level forces."""

    arm: str
    alike: tuple[str, ...]  # that cannot be told from it
    unknown: tuple[str, ...]  # of which too few seeds are there to say
    seeds: int  # the fewest over which it was compared; of no comparison its own


def best(summary: pd.DataFrame, differences: pd.DataFrame, n_high: int, quantity: str) -> Best | None:
    """The best arm, and which ones cannot be told from it; None where no arm has an error.

    Args:
        summary: of ``results.summary``.
        differences: of the same errors.
    """
    rows = summary[(summary["n_high"] == n_high) & (summary["quantity"] == quantity)]
    pairs = differences[(differences["n_high"] == n_high) & (differences["quantity"] == quantity)]
    rows = rows[~rows["arm"].map(base_arm).isin([*HORIZONTAL, *WITH_HIGH_FORCES])]
    rows = rows[rows["n_low"] == rows.groupby("arm")["n_low"].transform("max")]
    if rows.empty:
        return None
    rows = rows.sort_values("value")
    first = rows.iloc[0]
    pairs = pairs[(pairs["arm"] == first["arm"]) & pairs["other"].isin(rows["arm"])]
    others = rows["arm"].tolist()[1:]
    told = dict(zip(pairs["other"], pairs["differs"]))
    return Best(
        str(first["arm"]),
        tuple(arm for arm in others if told.get(arm, pd.NA) is not pd.NA and not told[arm]),
        tuple(arm for arm in others if told.get(arm, pd.NA) is pd.NA),
        int(pairs["seeds"].min() if len(pairs) else first["seeds"]),
    )
