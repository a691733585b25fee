"""How errors fall with labels: slopes of learning curves, where two of them cross, and how many times fewer labels, or
how many times less cost, an arm needs for the error of another.

Curves join the geometric means over paired seeds by straight lines in the logarithms, and are not extrapolated.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import pandas as pd

from mfbench.errors import unknown
from mfbench.results.paired import Key, PairedErrors
from mfbench.results.rows import HORIZONTAL, base_arm
from mfbench.results.statistics import LogErrors, crossing, slope

Axis = Literal["labels", "cost"]  # numbers of high-level structures, or core-seconds for all labels

FEWER = {
    "n_high": "int64",
    "arm": "str",
    "n_low": "int64",
    "quantity": "str",
    "other": "str",  # that needs so many times more for the same error
    "times": "float64",  # inf: more than ``most_seen``; 0: fewer than ``least_seen``; NaN: no cost is known
    "low": "float64",  # 95 % interval, 0 or inf where it is open; NaN below FEWEST seeds
    "high": "float64",
    "least": "float64",  # range over the seeds, 0 or inf as in ``times``
    "most": "float64",
    "least_seen": "float64",  # the other arm's smallest and largest size over the arm's: what could be told
    "most_seen": "float64",
    "seeds": "int64",
}

SLOPES = {
    "arm": "str",
    "n_low": "int64",
    "quantity": "str",
    "slope": "float64",  # error ~ n**slope
    "low": "float64",
    "high": "float64",
    "least": "float64",
    "most": "float64",
    "sizes": "int64",
    "seeds": "int64",
}

CROSSINGS = {
    "quantity": "str",
    "arm": "str",  # lower at the smallest size
    "other": "str",  # lower from the crossing on
    "n_high": "float64",  # inf: they do not cross within what was measured
    "low": "float64",
    "high": "float64",
    "least": "float64",
    "most": "float64",
    "smallest": "int64",  # sizes that both have, of those compared
    "largest": "int64",
    "seeds": "int64",
}


def curves(errors: PairedErrors, quantity: str) -> dict[str, list[Key]]:
    """Each arm's sizes, ascending, of those whose number of high-level structures is a choice."""
    arms = (arm for arm in errors.arms(quantity) if base_arm(arm) not in HORIZONTAL)
    return {arm: errors.curve(quantity, arm) for arm in arms}


def fewer(errors: PairedErrors, other: str = "SF-E", axis: Axis = "labels") -> pd.DataFrame:
    """How many times more labels, or what times the cost, another arm needs for the error of each arm at each size.

    The size at which the other arm's curve reaches the arm's error, over the arm's own; see ``statistics.crossing``.
    Of the other arm's sizes those count that have the most seeds in common with the arm; see
    ``PairedErrors.together``.

    Returns:
        The columns of ``FEWER``; no row of pairs of arms without a common seed, or, of costs, where these are not
        known.
    """
    if axis not in get_args(Axis):
        raise unknown("axis of learning curves", axis, get_args(Axis))
    found = []
    for quantity in errors.quantities():
        of = curves(errors, quantity)
        for key in (key for arm, keys in of.items() if arm != other for key in keys):
            line = _fewer(errors, key, of.get(other, []), axis)
            found += [(key.n_high, key.arm, key.n_low, quantity, other, *line)] if line else []
    return pd.DataFrame(found, columns=list(FEWER)).astype(FEWER)


def _fewer(errors: PairedErrors, key: Key, others: Sequence[Key], axis: Axis) -> tuple[float, ...]:
    others = [size for _, size in errors.together([(key, size) for size in others])]
    if not others:
        return ()
    own, *sizes = errors.cost([key, *others]) if axis == "cost" else [float(k.n_high) for k in (key, *others)]
    if not np.isfinite([own, *sizes]).all() or own <= 0:
        return ()
    error, *curve = errors.logs([key, *others])
    order = np.argsort(sizes)
    sizes = [sizes[k] for k in order]
    at = crossing(sizes, [curve[k] - error for k in order])
    ends = at.value, at.low, at.high, at.seeds.min(), at.seeds.max(), sizes[0], sizes[-1]
    return *(float(end / own) for end in ends), len(at.seeds)


def slopes(errors: PairedErrors) -> pd.DataFrame:
    """The power with which each arm's error falls with its number of high-level structures.

    Returns:
        The columns of ``SLOPES``, a row for each arm and quantity with a seed at two sizes or more.
    """
    found = []
    for quantity in errors.quantities():
        for arm, keys in curves(errors, quantity).items():
            keys = [key for (key,) in errors.together([(key,) for key in keys], fewest=2)]
            if not keys:
                continue
            one = slope([key.n_high for key in keys], errors.logs(keys))
            numbers = one.value, one.low, one.high, one.seeds.min(), one.seeds.max(), len(keys), len(one.seeds)
            found.append((arm, keys[0].n_low, quantity, *numbers))
    return pd.DataFrame(found, columns=list(SLOPES)).astype(SLOPES)


def crossings(errors: PairedErrors) -> pd.DataFrame:
    """Where the learning curves of each two arms first cross, of the sizes that both have with the same seeds.

    Returns:
        The columns of ``CROSSINGS``; no row of arms without a common seed at any size.
    """
    found = []
    for quantity in errors.quantities():
        for one, other in combinations(curves(errors, quantity).values(), 2):
            line = _crossing(errors, one, other)
            found += [(quantity, *line)] if line else []
    return pd.DataFrame(found, columns=list(CROSSINGS)).astype(CROSSINGS)


def _crossing(errors: PairedErrors, one: Sequence[Key], other: Sequence[Key]) -> tuple[object, ...]:
    of_size = {key.n_high: key for key in other}
    pairs = errors.together([(key, of_size[key.n_high]) for key in one if key.n_high in of_size])
    if not pairs:
        return ()
    logs = iter(errors.logs([key for pair in pairs for key in pair]))
    ratios = [next(logs) - next(logs) for _ in pairs]
    lower, upper = one[0].arm, other[0].arm
    if ratios[0].values.mean() < 0:
        ratios = [LogErrors(-ratio.values) for ratio in ratios]
    else:
        lower, upper = upper, lower
    sizes = [pair[0].n_high for pair in pairs]
    at = crossing(sizes, ratios)
    ends = at.value, at.low, at.high, at.seeds.min(), at.seeds.max(), sizes[0], sizes[-1], len(at.seeds)
    return lower, upper, *ends
