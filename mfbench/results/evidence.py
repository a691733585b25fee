"""All that the runs of one case and setup say in one part and metric, each number worked out once."""

from collections.abc import Hashable
from functools import cached_property
from typing import Any

import pandas as pd

from mfbench.results.baselines import zero
from mfbench.results.memo import Memo
from mfbench.results.paired import Means, PairedErrors, Stored, nothing_stored
from mfbench.results.ranking import Best, bests, difference, differences
from mfbench.results.scaling import Axis, crossings, fewer, slopes
from mfbench.results.summary import summarised


class Evidence:
    """Numbers over seeds, in internal units; see the functions of the same names.

    Args:
        table: a results table with one (data, backbone, preset) in the case's rows.
        metric: ``mae`` or ``rmse``.
        stored: what runs predicted, by name.
        means: see ``PairedErrors.of``.

    Raises:
        UserError: no such case, several setups, or another metric.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        case: str,
        part: str = "test",
        metric: str = "mae",
        stored: Stored = nothing_stored,
        means: Means | None = None,
    ) -> None:
        self.errors = PairedErrors.of(table, case, part, metric, stored, means)
        self._fewer = Memo[tuple[str, Axis], pd.DataFrame](16)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Of each size, arm and quantity: ``results.summary``."""
        return summarised(self.errors)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Of each two arms at each size: ``results.ranking``."""
        return differences(self.errors)

    @cached_property
    def slopes(self) -> pd.DataFrame:
        """Of each arm's learning curve: ``results.scaling``."""
        return slopes(self.errors)

    @cached_property
    def crossings(self) -> pd.DataFrame:
        """Of each two arms' learning curves: ``results.scaling``."""
        return crossings(self.errors)

    def fewer(self, other: str = "SF-E", axis: Axis = "labels") -> pd.DataFrame:
        """How many times more labels, or what times the cost, another arm needs: ``results.scaling``."""
        return self._fewer.get((other, axis), lambda: fewer(self.errors, other, axis))

    def difference(self, n_high: int, quantity: str, arm: str, other: str) -> "pd.Series[Any] | None":
        """Of two arms that were thought of beforehand: ``results.ranking``."""
        return difference(self.errors, n_high, quantity, arm, other)

    @cached_property
    def bests(self) -> dict[tuple[int, str], Best]:
        """The best arm by size and quantity: ``results.ranking``."""
        return bests(self.summary, self.differences)

    def best(self, n_high: int, quantity: str) -> Best | None:
        """The best arm of a size and quantity; None where no arm has an error."""
        return self.bests.get((n_high, quantity))

    @cached_property
    def zero(self) -> dict[str, float]:
        """The errors of predicting nothing, by quantity; empty without predictions: ``results.baselines``."""
        return zero(self.errors)


_EVIDENCE = Memo[Hashable, Evidence](64)
_MEANS = Memo[Hashable, Means](8)


def evidence(
    source: Hashable,
    origin: Hashable,
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    stored: Stored = nothing_stored,
) -> Evidence:
    """``Evidence`` that is kept, for pages that ask for the same again and again.

    Args:
        source: what the table holds, and all that chose its rows: another table must have another ``source``.
        origin: where the runs are from, in which version: by it is kept what was read of their predictions.
    """
    return _EVIDENCE.get(
        (source, case, part, metric),
        lambda: Evidence(table, case, part, metric, stored, _MEANS.get(origin, dict)),
    )
