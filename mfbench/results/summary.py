"""What one case's results say: each arm's error over its seeds, against SF-E, the gap closed, and which arms differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mfbench.errors import UserError
from mfbench.results import groups
from mfbench.results.predictions import Predictions
from mfbench.results.rows import joined, judged_at_high_level
from mfbench.results.schema import METRICS, QUANTITIES
from mfbench.results.statistics import FEWEST, Comparison, Estimate, LogErrors, compare, estimate, gap_closed

Stored = Callable[[str], Predictions | None]  # what a run predicted, by its name; None where that is not at hand

Seed = tuple[int, int]  # of the split and of the run: what arms are paired by

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


def nothing_stored(run: str) -> Predictions | None:
    """Of results without predictions: intervals are over seeds alone."""
    return None


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
    if metric not in METRICS:
        raise UserError(f"statistics over seeds: expected one of the metrics {', '.join(METRICS)}, got {metric!r}")
    rows = judged_at_high_level(joined(table), case, part)
    rows = rows[(rows["metric"] == metric) & (rows["n"] > 0) & rows["quantity"].isin(list(QUANTITIES))]
    found = []
    for (n_high, quantity), alike in rows.groupby(["n_high", "quantity"], sort=True):
        found += _Size(n_high, quantity, part, metric, _by_arm(alike), stored).lines(against)  # type: ignore[arg-type]
    return pd.DataFrame(found, columns=list(COLUMNS)).astype(COLUMNS)


_Runs = Mapping[Seed, "pd.Series[float]"]


def _by_arm(rows: pd.DataFrame) -> Mapping[tuple[str, int], _Runs]:
    """The rows of each (arm, n_low), by seed; of several runs of a seed the last."""
    found: dict[tuple[str, int], dict[Seed, pd.Series[float]]] = {}
    for _, row in rows.iterrows():
        found.setdefault((row["arm"], row["n_low"]), {})[row["split_seed"], row["seed"]] = row
    return found


@dataclass(frozen=True)
class _Size:
    """The arms with one number of high-level structures, judged on one quantity."""

    n_high: int
    quantity: str
    part: str
    metric: str
    arms: Mapping[tuple[str, int], _Runs]
    stored: Stored

    def lines(self, against: str) -> list[dict[str, object]]:
        sf_e, sf_ef, other = (self._largest(name) for name in ("SF-E", "SF-EF", against))
        compared = self._compared(other)
        return [self._line(key, sf_e, sf_ef, compared.get(key)) for key in self.arms]

    def _line(
        self, key: tuple[str, int], sf_e: tuple[str, int] | None, sf_ef: tuple[str, int] | None, told: Comparison | None
    ) -> dict[str, object]:
        (arm, n_low), logs = key, self._logs([key])[0]
        own = estimate(logs)
        ratio, gap = _NONE, _NONE
        if sf_e is not None:
            one, other = self._logs([key, sf_e])
            ratio = estimate(one - other) if len(one.values) else _NONE
        if sf_e is not None and sf_ef is not None:
            one, lower, upper = self._logs([key, sf_e, sf_ef])
            gap = gap_closed(one, lower, upper) if len(one.values) else _NONE
        differs = told.differs if told is not None and np.isfinite(told.ratio.low) else pd.NA
        values = (
            *(self.n_high, arm, n_low, self.quantity, own.value, own.low, own.high),
            *(own.seeds.min(), own.seeds.max(), len(own.seeds), logs.values.shape[1]),
            *(ratio.value, ratio.low, ratio.high, gap.value, gap.low, gap.high),
            *(int(np.isfinite(gap.seeds).sum()), len(gap.seeds)),
            *((told.ratio.value, told.ratio.low, told.ratio.high) if told is not None else (np.nan,) * 3),
            *(differs, told.resolvable if told is not None else np.nan),
        )
        return dict(zip(COLUMNS, values))

    def _largest(self, arm: str) -> tuple[str, int] | None:
        """The arm with its largest number of low-level structures."""
        return max((key for key in self.arms if key[0] == arm), default=None)

    def _compared(self, other: tuple[str, int] | None) -> dict[tuple[str, int], Comparison]:
        """Each arm against one, over the seeds that all of them have."""
        if other is None:
            return {}
        keys = [key for key in self.arms if key == other or len(self._shared([key, other])) >= 2]
        logs = self._logs(keys)
        if len(keys) < 2 or not len(logs[0].values):
            return {}
        named = dict(zip(map(str, range(len(keys))), logs))
        return {keys[int(one.arm)]: one for one in compare(named, str(keys.index(other)))}

    def _shared(self, keys: Sequence[tuple[str, int]]) -> list[Seed]:
        return sorted(set.intersection(*(set(self.arms[key]) for key in keys)))

    def _logs(self, keys: Sequence[tuple[str, int]]) -> list[LogErrors]:
        """Log errors of arms over the seeds that all have, by groups of test structures where these are known."""
        seeds = self._shared(keys)
        every = []
        for key in keys:
            rows = [self.arms[key][seed] for seed in seeds]
            every.append(self._grouped(rows) or LogErrors.of([row["value"] for row in rows]))
        if len({one.values.shape for one in every}) > 1:
            every = [LogErrors(one.of_seeds[:, None]) for one in every]
        return every

    def _grouped(self, rows: Sequence["pd.Series[float]"]) -> LogErrors | None:
        if len(rows) < FEWEST or len({row["split_seed"] for row in rows}) > 1:
            return None
        runs = [self.stored(str(row["run"])) for row in rows]
        if any(run is None for run in runs):
            return None
        there = [run for run in runs if run is not None]
        return groups.log_errors(there, str(rows[0]["level"]), self.quantity, self.part, self.metric)


_NONE = Estimate(np.nan, np.nan, np.nan, np.zeros(0), np.nan, np.nan)
