"""The errors of one case's runs, paired by seed: what all numbers over seeds are made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from mfbench.errors import UserError
from mfbench.results.groups import GroupMeans, group_means, log_errors
from mfbench.results.predictions import Predictions
from mfbench.results.rows import judged_at_high_level, setups_of
from mfbench.results.schema import METRICS, QUANTITIES
from mfbench.results.statistics import FEWEST, LogErrors

Stored = Callable[[str], Predictions | None]  # what a run predicted, by its name; None where that is not at hand

Means = dict[tuple[str, str, str], Mapping[str, GroupMeans] | None]  # by run, level and part, then by quantity

Seed = tuple[int, int]  # of the split and of the run: what arms are paired by


def nothing_stored(run: str) -> Predictions | None:
    """Of results without predictions: intervals are over seeds alone."""
    return None


class Key(NamedTuple):
    """Whose error: an arm's with so many structures of each level, in one quantity."""

    quantity: str
    n_high: int
    arm: str
    n_low: int


class Run(NamedTuple):
    """One run's error in a quantity."""

    name: str
    level: str  # that it is judged at
    error: float  # internal unit
    cost: float  # of its labels, core-seconds; NaN where it is not known
    n: int  # number of values averaged over


@dataclass(frozen=True)
class PairedErrors:
    """Errors at the high level of one case and setup, in one part and metric, by whose they are and by seed."""

    part: str
    metric: str
    runs: Mapping[Key, Mapping[Seed, Run]]  # keys in the order of the table
    stored: Stored
    means: Means = field(default_factory=dict, repr=False)  # filled as runs are read

    @classmethod
    def of(
        cls,
        table: pd.DataFrame,
        case: str,
        part: str = "test",
        metric: str = "mae",
        stored: Stored = nothing_stored,
        means: Means | None = None,
    ) -> Self:
        """Of a results table with one (data, backbone, preset) in the case's rows; of several runs of a seed the last.

        Rows with n = 0 carry no number and are left out.

        Args:
            means: what was read of the same runs before, and will be now.

        Raises:
            UserError: no such case, several setups, or another metric.
        """
        if metric not in METRICS:
            raise UserError(f"statistics over seeds: expected one of the metrics {', '.join(METRICS)}, got {metric!r}")
        rows = judged_at_high_level(table, case, part)
        rows = rows[(rows["metric"] == metric) & (rows["n"] > 0)]
        if len(setups := setups_of(rows)) > 1:
            raise UserError(
                f"statistics over seeds: expected one (data, backbone, preset), got {setups}; "
                "choose one with plots.with_setup(table, ...)"
            )
        keys = map(Key, *(rows[name].tolist() for name in Key._fields))
        seeds = zip(*(rows[name].tolist() for name in ("split_seed", "seed")))
        found: dict[Key, dict[Seed, Run]] = {}
        for key, seed, run in zip(
            keys, seeds, map(Run, *(rows[name].tolist() for name in ("run", "level", "value", "label_seconds", "n")))
        ):
            found.setdefault(key, {})[seed] = run
        return cls(part, metric, found, stored, {} if means is None else means)

    def shared(self, keys: Sequence[Key]) -> list[Seed]:
        """The seeds that all have."""
        return sorted(set.intersection(*(set(self.runs[key]) for key in keys)))

    def together(self, groups: Sequence[Sequence[Key]], fewest: int = 1) -> list[Sequence[Key]]:
        """The groups to read over the same seeds: all that have the largest set of seeds that any ``fewest`` share.

        Of such sets of one size that which the most groups have, then the first. Empty where no seed is shared.
        """
        of = [frozenset(self.shared(group)) for group in groups]
        sets = (frozenset.intersection(*some) for some in combinations(of, fewest))
        seeds = max(sets, key=lambda one: (len(one), sum(one <= own for own in of)), default=frozenset())
        return [group for group, own in zip(groups, of) if seeds and seeds <= own]

    def logs(self, keys: Sequence[Key]) -> list[LogErrors]:
        """Log errors over the seeds that all have, by groups of test structures where these are known."""
        seeds = self.shared(keys)
        every = []
        for key in keys:
            runs = [self.runs[key][seed] for seed in seeds]
            every.append(self._grouped(key.quantity, seeds, runs) or LogErrors.of([run.error for run in runs]))
        if len({one.values.shape for one in every}) > 1:
            every = [LogErrors(one.of_seeds[:, None]) for one in every]
        return every

    def cost(self, keys: Sequence[Key]) -> list[float]:
        """Core-seconds of quantum chemistry for the labels of each, mean over the seeds that all have."""
        seeds = self.shared(keys)
        return [float(np.mean([self.runs[key][seed].cost for seed in seeds])) if seeds else np.nan for key in keys]

    def curve(self, quantity: str, arm: str) -> list[Key]:
        """An arm's sizes, ascending, with its largest number of low-level structures."""
        own = [key for key in self.runs if key.quantity == quantity and key.arm == arm]
        most = max((key.n_low for key in own), default=0)
        return sorted((key for key in own if key.n_low == most), key=lambda key: key.n_high)

    def quantities(self) -> list[str]:
        """The quantities that have an error, in the order of the schema."""
        there = {key.quantity for key in self.runs}
        return [name for name in QUANTITIES if name in there]

    def arms(self, quantity: str) -> list[str]:
        """The arms that have an error in a quantity, in the order of the table."""
        return list(dict.fromkeys(key.arm for key in self.runs if key.quantity == quantity))

    def _grouped(self, quantity: str, seeds: Sequence[Seed], runs: Sequence[Run]) -> LogErrors | None:
        if len(runs) < FEWEST or len({split for split, _ in seeds}) > 1:
            return None
        there = []
        for run in runs:
            if (means := self._means_of(run)) is None:
                return None
            there.append(means[quantity])
        return log_errors(there, self.metric)

    def _means_of(self, run: Run) -> Mapping[str, GroupMeans] | None:
        key = run.name, run.level, self.part
        if key not in self.means:
            predictions = self.stored(run.name)
            self.means[key] = group_means(predictions, run.level, self.part) if predictions is not None else None
        return self.means[key]
