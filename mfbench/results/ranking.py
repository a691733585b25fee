"""Which arm is best where, and which arms can be told apart: ratios of every two of them, paired by seed."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.paired import Key, PairedErrors
from mfbench.results.rows import HORIZONTAL, base_arm
from mfbench.results.scaling import curves
from mfbench.results.statistics import Estimate, estimate, holm, resolvable

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
            pairs = list(combinations([key for key in keys if key.n_high == n_high], 2))
            ratios = [_ratio(errors, *pair) for pair in pairs]
            differ = holm([ratio.p if ratio else np.nan for ratio in ratios])
            for pair, ratio, differs in zip(pairs, ratios, differ):
                found += _both_ways(*pair, ratio, differs) if ratio else []
    return pd.DataFrame(found, columns=list(DIFFERENCES)).astype(DIFFERENCES)


def difference(errors: PairedErrors, n_high: int, quantity: str, arm: str, other: str) -> "pd.Series[Any] | None":
    """One arm against one other that was thought of beforehand: corrected for nothing else.

    Returns:
        What a row of ``differences`` holds; None where they have no seed in common.
    """
    keys = [key for one in (arm, other) for key in errors.curve(quantity, one) if key.n_high == n_high]
    ratio = _ratio(errors, keys[0], keys[1]) if len(keys) == 2 else None
    if ratio is None:
        return None
    line = _both_ways(keys[0], keys[1], ratio, holm([ratio.p])[0])[0]
    return pd.DataFrame([line], columns=list(DIFFERENCES)).astype(DIFFERENCES).iloc[0]


def _ratio(errors: PairedErrors, one: Key, other: Key) -> Estimate | None:
    logs = errors.logs([one, other])
    return estimate(logs[0] - logs[1]) if len(logs[0].values) else None


def _both_ways(one: Key, other: Key, ratio: Estimate, differs: bool) -> list[tuple[object, ...]]:
    told = differs if np.isfinite(ratio.low) else pd.NA
    bounds = np.array([ratio.value, ratio.low, ratio.high, ratio.seeds.min(), ratio.seeds.max()])
    rest = told, resolvable(ratio), len(ratio.seeds)
    where = one.n_high, one.quantity
    return [
        (*where, one.arm, other.arm, *bounds, *rest),
        (*where, other.arm, one.arm, *(1 / bounds[[0, 2, 1, 4, 3]]), *rest),
    ]


@dataclass(frozen=True)
class Best:
    """The arm with the lowest error of one size and quantity, of those that see no high-level forces."""

    arm: str
    alike: tuple[str, ...]  # that cannot be told from it
    unknown: tuple[str, ...]  # of which too few seeds are there to say
    seeds: int  # the fewest over which it was compared; of no comparison its own


def bests(summary: pd.DataFrame, differences: pd.DataFrame) -> dict[tuple[int, str], Best]:
    """The best arm of each size and quantity, and which ones cannot be told from it.

    Args:
        summary: of ``results.summary``.
        differences: of the same errors.
    """
    told: dict[tuple[int, str, str], dict[str, tuple[Any, int]]] = {}
    for n_high, quantity, arm, other, differs, seeds in zip(
        *(differences[name].tolist() for name in ("n_high", "quantity", "arm", "other", "differs", "seeds"))
    ):
        told.setdefault((n_high, quantity, arm), {})[other] = differs, seeds
    rows = summary.sort_values(["n_low", "value"]).drop_duplicates(["n_high", "quantity", "arm"], keep="last")
    rows = rows[~rows["arm"].map(base_arm).isin([*HORIZONTAL, *WITH_HIGH_FORCES]).astype(bool)].sort_values("value")
    arms: dict[tuple[int, str], list[str]] = {}
    for n_high, quantity, arm in zip(*(rows[name].tolist() for name in ("n_high", "quantity", "arm"))):
        arms.setdefault((n_high, quantity), []).append(arm)
    own = dict(zip(zip(rows["n_high"], rows["quantity"], rows["arm"]), rows["seeds"]))
    found = {}
    for (n_high, quantity), (first, *others) in arms.items():
        pairs = told.get((n_high, quantity, first), {})
        differs = {arm: pairs[arm][0] if arm in pairs else pd.NA for arm in others}
        seeds = [pairs[arm][1] for arm in others if arm in pairs]
        found[n_high, quantity] = Best(
            first,
            tuple(arm for arm in others if differs[arm] is not pd.NA and not differs[arm]),
            tuple(arm for arm in others if differs[arm] is pd.NA),
            int(min(seeds, default=own[n_high, quantity, first])),
        )
    return found
