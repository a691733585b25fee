"""What the numbers over seeds say, in words: the best arm, ratios of two arms, and labels saved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.evidence import Evidence
from mfbench.results.ranking import Best
from mfbench.results.schema import QUANTITIES
from mfbench.results.statistics import FEWEST
from mfbench.show.words import METRIC_LABELS, number

Numbers = Mapping[Any, Any] | pd.Series  # a row of a table

FEWER_LABELS = (
    "So many times as many high-level labels SF-E needs for the arm's error, along its learning curve. Nothing is "
    f"extrapolated: ≥ where its largest size is too small, < where its smallest is too large; from {FEWEST} seeds on "
    "with a 95 % interval, where that says more"
)


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def seeds_of(count: int) -> str:
    """``1 seed`` or ``5 seeds``."""
    return f"{count} seed{'s' if count != 1 else ''}"


def best_text(best: Best | None) -> str:
    """``MF+ is best; delta cannot be told from it (5 seeds).``, or that seeds are too few to say so."""
    if best is None:
        return "No arm has an error here."
    if best.seeds < FEWEST and (best.unknown or not best.alike):
        return f"{best.arm} is lowest ({seeds_of(best.seeds)}: too few to tell)."
    told = f"; {listed(best.alike)} cannot be told from it" if best.alike else ", and all others differ from it"
    unknown = f"; of {listed(best.unknown)} too few seeds are there" if best.unknown else ""
    return f"{best.arm} is best{told}{unknown} ({seeds_of(best.seeds)})."


def best_lines(evidence: Evidence) -> list[tuple[str, str]]:
    """Where, and which arm is best there: each size's energies and forces, of arms that are compared with others."""
    pairs = evidence.differences
    return [
        (f"{QUANTITIES[quantity].label} {METRIC_LABELS[evidence.errors.metric]}, n_high = {n_high:,}", best_text(found))
        for quantity in ("energy", "force")
        for n_high in sorted(set(pairs.loc[pairs["quantity"] == quantity, "n_high"]))
        if (found := evidence.best(n_high, quantity)) is not None
    ]


def interval_text(row: Numbers) -> str:
    """``[0.18, 0.33]``, of few seeds their range ``(0.18–0.33)``; empty of one."""
    if np.isfinite(row["low"]):
        return f"[{number(row['low'])}, {number(row['high'])}]"
    return f"({number(row['least'])}–{number(row['most'])})" if row["seeds"] > 1 else ""


def spread_verdict(row: Numbers) -> str:
    """Whether a ratio of two arms is more than the seeds' spread, of a row of ``results.ranking.differences``."""
    if np.isfinite(row["low"]):
        if row["low"] > 1 or row["high"] < 1:
            return "beyond the seeds’ spread"
        return f"within the seeds’ spread (a factor of {number(row['resolvable'])} would be seen)"
    if row["seeds"] == 1:
        return "one seed: spread unknown"
    if row["least"] > 1 or row["most"] < 1:
        return f"in each of {row['seeds']} seeds"
    return f"within the range of {seeds_of(row['seeds'])}"


def ratio_text(evidence: Evidence, n_high: int, quantity: str, arm: str = "MF", other: str = "SF-E") -> str:
    """``MF’s energy error is 0.24 [0.18, 0.33] times SF-E’s: beyond the seeds’ spread.``"""
    row = evidence.difference(n_high, quantity, arm, other)
    if row is None:
        return f"{arm} and {other} have no seed in common here."
    ratio = " ".join(filter(None, [number(row["ratio"]), interval_text(row)]))
    name = QUANTITIES[quantity].label.lower()
    return f"{arm}’s {name} error is {ratio} times {other}’s: {spread_verdict(row)}."


def times_text(row: Numbers) -> str:
    """``2.7 [2.1, 3.6]`` or ``≥ 4.0 [1.5, ∞)`` of a row of ``results.scaling.fewer``."""
    if math.isinf(row["times"]):
        value = f"≥ {number(row['most_seen'])}"
    elif row["times"] == 0:
        value = f"< {number(row['least_seen'])}"
    else:
        value = number(row["times"])
    least, most = (row["low"], row["high"]) if np.isfinite(row["low"]) else (row["least"], row["most"])
    if least >= row["most_seen"] or most <= row["least_seen"]:  # the bound is all there is to say
        interval = ""
    elif np.isfinite(row["low"]):
        interval = f" [{number(row['low'])}, {_end(row['high'], ']')}"
    elif row["seeds"] > 1:
        interval = f" ({number(row['least'])}–{_end(row['most'], ')')}"
    else:
        interval = ""
    return value + interval


def _end(value: float, bracket: str) -> str:
    return "∞)" if math.isinf(value) else f"{number(value)}{bracket}"
