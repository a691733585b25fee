"""What one case's results say: each arm's error over its seeds, against SF-E, the gap closed, and which arms differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mfbench.results.paired import Key, PairedErrors, Stored, nothing_stored
from mfbench.results.statistics import Comparison, Estimate, compare, estimate, gap_closed

COLUMNS = {
    "n_high": "int64",
    "arm": "str",
    "n_low": "int64",
    "quantity": "str",
    "value": "float64",  # geometric mean over the seeds, internal unit
    "low": "float64",  # 95 % interval; NaN below FEWEST seeds
    "high": "float64",
    "least": "float64",  # range over the seeds
    "most": "float64",
    "seeds": "int64",
    "groups": "int64",  # of test structures that the interval is over, too; 1: over seeds alone
    "ratio": "float64",  # to SF-E of the same size, over the seeds that both have
    "ratio_low": "float64",
    "ratio_high": "float64",
    "gap_closed": "float64",  # NaN where there is no gap
    "gap_low": "float64",
    "gap_high": "float64",
    "seeds_with_gap": "int64",  # of ``pairs``: those in which SF-EF is better than SF-E
    "pairs": "int64",  # seeds that the arm, SF-E and SF-EF have; 0: there is no SF-EF
    "against": "float64",  # ratio to the arm that all are compared with
    "against_low": "float64",
    "against_high": "float64",
    "differs": "boolean",  # from that arm, all arms of the size being compared with it; NA below FEWEST seeds
    "resolvable": "float64",  # smallest ratio to that arm that these data would tell from 1
}


def summary(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    stored: Stored = nothing_stored,
    against: str = "MF",
) -> pd.DataFrame:
    """Numbers over seeds of one case and setup, judged at the high level: a row for each size, arm and quantity.

    Args:
        table: a results table with one (data, backbone, preset) in the case's rows.
        metric: ``mae`` or ``rmse``.
        stored: what runs predicted, so that intervals are over test structures, too.
        against: the arm that all others are compared with, corrected for there being several (Holm).

    Returns:
        The columns of ``COLUMNS``. Rows with n = 0 carry no number and are left out.

    Raises:
        UserError: no such case, or another metric.
    """
    return summarised(PairedErrors.of(table, case, part, metric, stored), against)


def summarised(errors: PairedErrors, against: str = "MF") -> pd.DataFrame:
    """``summary`` of errors that are paired already."""
    sizes: dict[tuple[int, str], list[Key]] = {}
    for key in errors.runs:
        sizes.setdefault((key.n_high, key.quantity), []).append(key)
    found = [line for size in sorted(sizes) for line in _Size(errors, sizes[size]).lines(against)]
    return pd.DataFrame(found, columns=list(COLUMNS)).astype(COLUMNS)


@dataclass(frozen=True)
class _Size:
    """The arms with one number of high-level structures, judged on one quantity."""

    errors: PairedErrors
    keys: Sequence[Key]

    def lines(self, against: str) -> list[tuple[object, ...]]:
        sf_e, sf_ef, other = (self._largest(name) for name in ("SF-E", "SF-EF", against))
        compared = self._compared(other)
        return [self._line(key, sf_e, sf_ef, compared.get(key)) for key in self.keys]

    def _line(self, key: Key, sf_e: Key | None, sf_ef: Key | None, told: Comparison | None) -> tuple[object, ...]:
        logs = self.errors.logs([key])[0]
        own = estimate(logs)
        ratio, gap = _NONE, _NONE
        if sf_e is not None:
            one, other = self.errors.logs([key, sf_e])
            ratio = estimate(one - other) if len(one.values) else _NONE
        if sf_e is not None and sf_ef is not None:
            one, lower, upper = self.errors.logs([key, sf_e, sf_ef])
            gap = gap_closed(one, lower, upper) if len(one.values) else _NONE
        differs = told.differs if told is not None and np.isfinite(told.ratio.low) else pd.NA
        return (
            *(key.n_high, key.arm, key.n_low, key.quantity, own.value, own.low, own.high),
            *(own.seeds.min(), own.seeds.max(), len(own.seeds), logs.values.shape[1]),
            *(ratio.value, ratio.low, ratio.high, gap.value, gap.low, gap.high),
            *(int(np.isfinite(gap.seeds).sum()), len(gap.seeds)),
            *((told.ratio.value, told.ratio.low, told.ratio.high) if told is not None else (np.nan,) * 3),
            *(differs, told.resolvable if told is not None else np.nan),
        )

    def _largest(self, arm: str) -> Key | None:
        """The arm with its largest number of low-level structures."""
        return max((key for key in self.keys if key.arm == arm), default=None)

    def _compared(self, other: Key | None) -> dict[Key, Comparison]:
        """Each arm against one, over the same two seeds or more; see ``PairedErrors.together``."""
        if other is None:
            return {}
        pairs = [(key, other) for key in self.keys if key != other and len(self.errors.shared([key, other])) >= 2]
        keys = [other, *(key for key, _ in self.errors.together(pairs))]
        named = dict(zip(map(str, range(len(keys))), self.errors.logs(keys)))
        return {keys[int(one.arm)]: one for one in compare(named, "0")}


_NONE = Estimate(np.nan, np.nan, np.nan, np.zeros(0), np.nan, np.nan)
