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
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # type: ignore[import-untyped]

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
    error: float  # standard error, of the logarithm where the number is an error or a ratio; NaN of a crossing
    freedom: float  # degrees of freedom

    @property
    def p(self) -> float:
        """Two-sided probability of so large a log ratio between equal arms; NaN without an interval."""
        if not self.error > 0:
            return np.nan
        return float(2 * special.stdtr(self.freedom, -abs(np.log(self.value)) / self.error))


def student(freedom: ArrayLike, level: float = LEVEL) -> Any:
    """How many standard errors an interval reaches to either side."""
    return special.stdtrit(freedom, (1 + level) / 2)  # scipy.stats says the same, a hundred times slower


def variance(one: Array, other: Array | None = None) -> tuple[Any, Any]:
    """Variance of the grand mean of a table (..., S, G), or covariance of two tables', and its degrees of freedom.

    Rows and columns are random; with one column, rows alone. One number each, or one for each of the leading axes.
    """
    tables = [one] if other is None else [one, other]
    count, groups = one.shape[-2:]
    middles = [each.mean((-2, -1), keepdims=True) for each in tables]
    if groups == 1:
        of_rows = _products([each - middle for each, middle in zip(tables, middles)]) / (count - 1) / count
        return of_rows, 0 * of_rows + (count - 1.0)
    rows = [each.mean(-1, keepdims=True) - middle for each, middle in zip(tables, middles)]
    of_rows = _products(rows) / (count - 1) / count
    columns = [each.mean(-2, keepdims=True) - middle for each, middle in zip(tables, middles)]
    rest = [each - middle - r - c for each, middle, r, c in zip(tables, middles, rows, columns)]
    of_columns = _products(columns) / (groups - 1) / groups
    of_rest = _products(rest) / ((count - 1) * (groups - 1)) / (count * groups)
    total = of_rows + of_columns - of_rest  # which both of the others hold
    if other is None:
        # Never less than one source alone: a difference may be anything.
        total = np.maximum(total, np.maximum(of_rows, of_columns))
    squares = of_rows**2 / (count - 1) + of_columns**2 / (groups - 1) + of_rest**2 / ((count - 1) * (groups - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return total, np.where(squares > 0, total**2 / squares, count - 1.0)[()]


def _products(pair: Sequence[Array]) -> Any:
    """Sums of products of two tables, or of one's squares."""
    return (pair[0] * pair[-1]).sum((-2, -1))


def estimate(errors: LogErrors, level: float = LEVEL) -> Estimate:
    """An arm's error (geometric mean over seeds), or of a difference of two arms their ratio, with its interval."""
    seeds, mean = np.exp(errors.of_seeds), float(errors.values.mean())
    if len(seeds) < FEWEST:
        return Estimate(float(np.exp(mean)), np.nan, np.nan, seeds, np.nan, np.nan)
    of_mean, freedom = variance(errors.values)
    error = float(np.sqrt(of_mean))
    half = student(freedom, level) * error
    return Estimate(float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half)), seeds, error, freedom)


def slope(sizes: ArrayLike, curve: Sequence[LogErrors], level: float = LEVEL) -> Estimate:
    """The power with which an arm's error grows with its number of labels (negative: it falls), by least squares.

    Args:
        sizes: (J,) numbers of labels, at least two, or their costs.
        curve: the log errors at each, over the same seeds.
    """
    x = np.log(np.asarray(sizes, np.float64))
    x = x - x.mean()
    values = np.tensordot(x / (x @ x), np.stack([one.values for one in curve]), 1)  # (S, G): each seed's own power
    seeds, mean = values.mean(1), float(values.mean())
    if len(seeds) < FEWEST:
        return Estimate(mean, np.nan, np.nan, seeds, np.nan, np.nan)
    of_mean, freedom = variance(values)
    error = float(np.sqrt(of_mean))
    half = student(freedom, level) * error
    return Estimate(mean, float(mean - half), float(mean + half), seeds, error, freedom)


STEPS = 32  # between two sizes, at which an interval of a crossing is looked for


def crossing(sizes: ArrayLike, curve: Sequence[LogErrors], level: float = LEVEL) -> Estimate:
    """The first size at which a log ratio of errors, of the geometric means over seeds, falls to zero.

    Between two sizes the log ratio is a straight line in log(size). Beyond the last nothing is extrapolated: where it
    stays above zero the size is inf, and 0 where it is below already at the first. The interval is what a test at each
    size leaves (Fieller's, where the line is one of normal values): from the first size at which the ratio is not
    surely above one, 0 where that is the first of all, to the first at which it is surely below, inf where none is.

    Args:
        sizes: (J,) ascending numbers of labels, or their costs.
        curve: the log ratio at each, over the same seeds.
    """
    of = np.asarray(sizes, np.float64)
    x = np.log(of)
    whole = np.stack([one.values for one in curve])  # (J, S, G)
    seeds = np.exp([_first_zero(x, one) for one in whole.mean(2).T])
    value = float(np.exp(_first_zero(x, whole.mean((1, 2)))))
    if whole.shape[1] < FEWEST:
        return Estimate(value, np.nan, np.nan, seeds, np.nan, np.nan)
    share = np.linspace(0, 1, STEPS + 1)[:-1, None]
    between = np.r_[(x[:-1] + share * np.diff(x)).T.ravel(), x[-1]]
    place = np.clip(np.searchsorted(x, between, side="right") - 1, 0, max(len(x) - 2, 0))
    after = np.minimum(place + 1, len(x) - 1)
    weight = (between - x[place]) / np.where(after > place, x[after] - x[place], 1.0)
    tables = whole[place] * (1 - weight)[:, None, None] + whole[after] * weight[:, None, None]
    of_mean, freedom = variance(tables)
    half = student(freedom, level) * np.sqrt(of_mean)
    mean = tables.mean((1, 2))
    low, high = (float(np.exp(_first_zero(between, side))) for side in (mean - half, mean + half))
    return Estimate(value, min(low, float(of[-1])), max(high, float(of[0])), seeds, np.nan, np.nan)


def _first_zero(x: Array, y: Array) -> float:
    """The first x at which straight lines between points fall to zero; -inf: below at the first, inf: nowhere."""
    below = np.flatnonzero(y <= 0)
    if not len(below):
        return np.inf
    k = int(below[0])
    if k == 0:
        return -np.inf
    return float(x[k - 1] + (x[k] - x[k - 1]) * y[k - 1] / (y[k - 1] - y[k]))


def resolvable(difference: Estimate, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest ratio of two arms that such data would tell from 1, with this power; NaN without an interval."""
    if not difference.error > 0:
        return np.nan
    reach = student(difference.freedom, level) + special.stdtrit(difference.freedom, power)
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
    if not below > student(freedom, level) * np.sqrt(of_whole):
        return none
    ratio = mean / below
    of_both, freedom = variance(above.values - ratio * whole.values)
    t = student(freedom, level)
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
