"""What errors over paired seeds are worth: intervals, differences between arms, and the gap closed.

An arm's errors are a table of S seeds by G groups of test structures (molecules, or blocks of a trajectory), which all
seeds are judged on. Both are samples: other seeds, and other test structures, would give other numbers. On the
logarithm of the error (errors of trainings scatter by factors), seeds and groups are crossed random effects: the
variance of the mean is that of a two-way analysis of variance, and an interval takes Student's t at the degrees of
freedom of Satterthwaite (Biometrics Bulletin 2 (1946) 110). Arms are compared by the differences of their tables,
paired by seed and group, and several comparisons are corrected for by Holm's rule (Scand. J. Stat. 6 (1979) 65). With
five seeds, percentiles of a bootstrap are narrower than they should be: ``benchmarks/coverage.py`` counts for both how
often they hold the truth.

Below ``FEWEST`` seeds there are points and no interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats  # type: ignore[import-untyped]

from mfbench.results.rows import gap

Array = NDArray[np.float64]

FEWEST = 5  # seeds, for an interval

LEVEL = 0.95

POWER = 0.8  # with which the smallest difference that data can resolve would be found


def over_seeds(values: ArrayLike) -> float:
    """The number that stands for several seeds: their geometric mean; of numbers not all positive, their mean.

    NaN is no number; NaN where there is none.
    """
    found = np.asarray(values, np.float64)
    found = found[~np.isnan(found)]
    if not len(found):
        return np.nan
    return float(np.exp(np.log(found).mean()) if (found > 0).all() else found.mean())


@dataclass(frozen=True)
class LogErrors:
    """Logarithms of one arm's error: the mean over all entries is that of the geometric mean over the seeds.

    Row s has the seed's log error as its mean; its entries tell how much each group of test structures moves it (what
    leaving the group out does, as in a jackknife).
    """

    values: Array  # (S, G)

    @classmethod
    def of(cls, errors: ArrayLike, counts: ArrayLike | None = None, root: bool = False) -> "LogErrors":
        """Of the errors of seeds, or of seeds in groups.

        Args:
            errors: (S,) errors over all structures, whose sampling is then left aside; or (S, G) means over each group,
                of absolute errors, or of squared ones with ``root``.
            counts: (G,) numbers averaged over in each group; None: equal ones.
            root: the error is the root of the mean.
        """
        found = np.asarray(errors, np.float64)
        grouped = found if found.ndim == 2 else found[:, None]
        share = np.ones(grouped.shape[1]) if counts is None else np.asarray(counts, np.float64)
        share = share / share.sum()
        whole = grouped @ share  # (S,)
        power = 0.5 if root else 1.0
        if share.max() == 1:  # one group, or all but one are empty
            return cls(power * np.log(whole)[:, None])
        without = (whole[:, None] - grouped * share) / (1 - share)  # each group left out
        moved = (len(share) - 1) * np.log(whole[:, None] / without)
        return cls(power * (np.log(whole)[:, None] + moved - moved.mean(1, keepdims=True)))

    @property
    def of_seeds(self) -> Array:
        """Each seed's log error, (S,)."""
        return self.values.mean(1)

    def __sub__(self, other: "LogErrors") -> "LogErrors":
        """Log ratio of two arms, paired by seed and group."""
        if self.values.shape[0] != other.values.shape[0]:
            raise ValueError(f"{self.values.shape=} != {other.values.shape=}: seeds are paired")
        if self.values.shape[1] != other.values.shape[1]:  # one of them knows no groups: compare by seeds alone
            return LogErrors((self.of_seeds - other.of_seeds)[:, None])
        return LogErrors(self.values - other.values)


@dataclass(frozen=True)
class Estimate:
    """A number over seeds. The interval is NaN below ``FEWEST`` seeds, where ``seeds`` are all there is to show."""

    value: float
    low: float
    high: float
    seeds: Array  # (S,) the number of each seed alone; NaN where it has none
    error: float  # standard error, of the logarithm where the number is an error or a ratio
    freedom: float  # degrees of freedom

    @property
    def p(self) -> float:
        """Two-sided probability of so large a log ratio between equal arms; NaN without an interval."""
        if not self.error > 0:
            return np.nan
        return float(2 * stats.t.sf(abs(np.log(self.value)) / self.error, self.freedom))


def variance(one: Array, other: Array | None = None) -> tuple[float, float]:
    """Variance of the grand mean of a table (S, G), or covariance of two tables', and its degrees of freedom.

    Rows and columns are random; with one column, rows alone.
    """
    tables = one, one if other is None else other
    count, groups = one.shape
    rows = [each.mean(1) - each.mean() for each in tables]
    of_rows = rows[0] @ rows[1] / (count - 1) / count
    if groups == 1:
        return float(of_rows), count - 1.0
    columns = [each.mean(0) - each.mean() for each in tables]
    rest = [each - each.mean() - r[:, None] - c for each, r, c in zip(tables, rows, columns)]
    of_columns = columns[0] @ columns[1] / (groups - 1) / groups
    of_rest = float((rest[0] * rest[1]).sum()) / ((count - 1) * (groups - 1)) / (count * groups)
    total = of_rows + of_columns - of_rest  # which both of the others hold
    if other is None:
        total = max(total, of_rows, of_columns)  # never less than one source alone: a difference may be anything
    squares = of_rows**2 / (count - 1) + of_columns**2 / (groups - 1) + of_rest**2 / ((count - 1) * (groups - 1))
    return float(total), float(total**2 / squares) if squares > 0 else count - 1.0


def estimate(errors: LogErrors, level: float = LEVEL) -> Estimate:
    """An arm's error (geometric mean over seeds), or of a difference of two arms their ratio, with its interval."""
    seeds, mean = np.exp(errors.of_seeds), float(errors.values.mean())
    if len(seeds) < FEWEST:
        return Estimate(float(np.exp(mean)), np.nan, np.nan, seeds, np.nan, np.nan)
    of_mean, freedom = variance(errors.values)
    error = float(np.sqrt(of_mean))
    half = stats.t.ppf((1 + level) / 2, freedom) * error
    return Estimate(float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half)), seeds, error, freedom)


def resolvable(difference: Estimate, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest ratio of two arms that such data would tell from 1, with this power; NaN without an interval."""
    if not difference.error > 0:
        return np.nan
    reach = stats.t.ppf((1 + level) / 2, difference.freedom) + stats.t.ppf(power, difference.freedom)
    return float(np.exp(reach * difference.error))


def gap_closed(arm: LogErrors, sf_e: LogErrors, sf_ef: LogErrors, level: float = LEVEL) -> Estimate:
    """The gap closed by an arm: 1 - mean log(arm / SF-EF) / mean log(SF-E / SF-EF), with Fieller's interval.

    It is NaN where there is no gap: from ``FEWEST`` seeds on, where SF-E and SF-EF cannot be told apart or SF-EF is the
    worse one; below, where SF-EF is no better in any of the seeds. Its ``seeds`` say which ones have a gap.
    """
    above, whole = arm - sf_ef, sf_e - sf_ef
    seeds = gap(*(np.exp(one.of_seeds) for one in (arm, sf_e, sf_ef)))
    none = Estimate(np.nan, np.nan, np.nan, seeds, np.nan, np.nan)
    mean, below = float(above.values.mean()), float(whole.values.mean())
    if len(seeds) < FEWEST:
        return none if np.isnan(seeds).any() else Estimate(1 - mean / below, np.nan, np.nan, seeds, np.nan, np.nan)
    if above.values.shape != whole.values.shape:
        above, whole = (LogErrors(one.of_seeds[:, None]) for one in (above, whole))
    of_whole, freedom = variance(whole.values)
    if not below > stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(of_whole):
        return none
    ratio = mean / below
    of_both, freedom = variance(above.values - ratio * whole.values)
    t = stats.t.ppf((1 + level) / 2, freedom)
    of_above, shared = variance(above.values)[0], variance(above.values, whole.values)[0]
    # All ratios r for which (mean - r below)^2 <= t^2 variance of (above - r whole).
    a = below**2 - t**2 * of_whole
    b = mean * below - t**2 * shared
    c = mean**2 - t**2 * of_above
    if not a > 0 or b**2 < a * c:
        return none
    root = np.sqrt(b**2 - a * c)
    low, high = sorted((float(1 - (b + root) / a), float(1 - (b - root) / a)))
    return Estimate(1 - ratio, low, high, seeds, float(np.sqrt(of_both)) / below, freedom)


def holm(p: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of several comparisons differ, by Holm's rule: all of them hold together at the level; NaN never does."""
    found = [False] * len(p)
    order = sorted((k for k, one in enumerate(p) if np.isfinite(one)), key=lambda k: p[k])
    for rank, k in enumerate(order):
        if p[k] > (1 - level) / (len(order) - rank):
            break
        found[k] = True
    return found


@dataclass(frozen=True)
class Comparison:
    """One arm against another: the ratio of their errors, and whether they differ, others compared along with them."""

    arm: str
    other: str
    ratio: Estimate
    differs: bool
    resolvable: float  # smallest ratio that these data would tell from 1


def compare(arms: Mapping[str, LogErrors], against: str, level: float = LEVEL) -> list[Comparison]:
    """Each arm against one of them, corrected for there being several."""
    ratios = {name: estimate(one - arms[against], level) for name, one in arms.items() if name != against}
    differ = holm([one.p for one in ratios.values()], level)
    return [
        Comparison(name, against, one, differs, resolvable(one, level))
        for (name, one), differs in zip(ratios.items(), differ)
    ]
