"""What learning curves say in numbers, as HTML: slopes, crossings, labels saved, and ratios of arms paired by seed."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.evidence import Evidence
from mfbench.results.scaling import Axis
from mfbench.results.schema import QUANTITIES
from mfbench.results.statistics import FEWEST
from mfbench.show.claims import best_text, interval_text, ratio_text, seeds_of, times_text
from mfbench.show.glossary import why
from mfbench.show.html import arm_html, blocks_html, notes_html
from mfbench.show.styles import arm_order
from mfbench.show.words import METRIC_LABELS, number

_AXES: dict[Axis, str] = {"labels": "high-level labels", "cost": "core time for labels"}

SLOPE = (
    "Error falls as n to the power of this: −0.5 says that four times the labels halve it. Least squares over the "
    f"sizes, in the logarithms, of each seed; in brackets the 95 % interval, of fewer than {FEWEST} seeds their range "
    "in parentheses."
)
CROSSING = (
    "Where the curves, straight lines between the sizes in the logarithms, first meet. Nothing is extrapolated: curves "
    "that do not meet within the sizes measured are not listed."
)
TIMES = (
    "The size at which the other arm's curve reaches the arm's error, over the arm's own. Nothing is extrapolated: ≥ "
    "where its largest size is too small, < where its smallest is too large."
)
RATIO = (
    "The arm's error over the other's, geometric mean over the seeds that both have, with its 95 % interval from "
    f"{FEWEST} seeds on (below, the range of the seeds). Whether they differ is told for all pairs of a size together "
    "(Holm's rule). Seen from: the smallest ratio, or its inverse, that these data would tell from 1, at 80 % power."
)


def sentences(evidence: Evidence, quantities: Sequence[str], arm: str, other: str, axis: Axis = "labels") -> str:
    """The main of it in words, for two arms: at the smallest and largest size that both have, and the best arm."""
    pairs = evidence.differences
    said = []
    for quantity in quantities:
        rows = pairs[(pairs["quantity"] == quantity) & (pairs["arm"] == arm) & (pairs["other"] == other)]
        sizes = sorted(set(rows["n_high"]))
        said += [
            f"n = {n:,}: {ratio_text(evidence, n, quantity, arm, other)}" for n in dict.fromkeys(sizes[:1] + sizes[-1:])
        ]
        said += _times_sentences(evidence, quantity, arm, other, axis)
        every = sorted(set(pairs.loc[pairs["quantity"] == quantity, "n_high"]))
        if every and (best := evidence.best(every[-1], quantity)):
            said.append(f"{QUANTITIES[quantity].label}, n = {every[-1]:,}: {best_text(best)}")
    return notes_html(said or [f"{arm} and {other} have no size and seed in common here."])


def _times_sentences(evidence: Evidence, quantity: str, arm: str, other: str, axis: Axis) -> list[str]:
    rows = evidence.fewer(other, axis)
    rows = rows[(rows["quantity"] == quantity) & (rows["arm"] == arm) & (rows["most_seen"] > 1)].sort_values("n_high")
    name = QUANTITIES[quantity].label.lower()
    return [
        f"For {arm}’s {name} error with n = {row['n_high']:,}, {other} needs {times_text(row)} times the "
        f"{_AXES[axis]} ({seeds_of(int(row['seeds']))})."
        for _, row in rows.head(1).iterrows()
    ]


def times_html(evidence: Evidence, quantities: Sequence[str], other: str, axis: Axis = "labels") -> str:
    """How many times more labels, or what times their cost, an arm needs for the errors of the others."""
    found = evidence.fewer(other, axis)
    found = found[found["quantity"].isin(quantities) & (found["most_seen"] > 1)]
    return _table(
        f"How many times the {_AXES[axis]} {other} needs for the same error",
        TIMES,
        quantities,
        {
            key: {row["quantity"]: [times_text(row)] for _, row in rows.iterrows()} | {"": str(rows["seeds"].min())}
            for key, rows in found.groupby(["n_high", "arm"])
        },
    )


def ratios_html(evidence: Evidence, quantities: Sequence[str], other: str) -> str:
    """Each arm's error over another's, paired by seed."""
    found = evidence.differences
    found = found[found["quantity"].isin(quantities) & (found["other"] == other)]
    return _table(
        f"Error over {other}’s, paired by seed",
        RATIO,
        quantities,
        {
            key: {row["quantity"]: _ratio(row) for _, row in rows.iterrows()} | {"": str(rows["seeds"].min())}
            for key, rows in found.groupby(["n_high", "arm"])
        },
        ("ratio", "differ", "seen from"),
    )


def _ratio(row: pd.Series) -> list[str]:
    differs = "?" if pd.isna(row["differs"]) else "yes" if row["differs"] else "no"
    seen = number(row["resolvable"]) if np.isfinite(row["resolvable"]) else "–"
    return [f"{number(row['ratio'])} {interval_text(row)}", differs, seen]


def slopes_html(evidence: Evidence, quantities: Sequence[str]) -> str:
    """The power with which each arm's error falls."""
    found = evidence.slopes
    found = found[found["quantity"].isin(quantities)]
    order = {arm: k for k, arm in enumerate(arm_order(found["arm"]))}
    heads = "".join(f"<th>{QUANTITIES[name].label}</th>" for name in quantities)
    lines = []
    for arm, rows in sorted(found.groupby("arm"), key=lambda pair: order[str(pair[0])]):
        told = {row["quantity"]: f"{row['slope']:.2f} {_bounds(row)}" for _, row in rows.iterrows()}
        cells = "".join(f"<td>{told.get(name, '–')}</td>" for name in quantities)
        counts = f"<td>{rows['sizes'].min()}</td><td>{rows['seeds'].min()}</td>"
        lines.append(f'<tr><td class="left">{arm_html(str(arm))}</td>{cells}{counts}</tr>')
    if not lines:
        return ""
    head = f'<thead><tr><th class="left">Arm</th>{heads}<th>Sizes</th><th>Seeds</th></tr></thead>'
    table = f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"
    return f'<h3>Slopes{why(SLOPE, "a slope")}</h3><div class="scroll">{table}</div>'


def _bounds(row: pd.Series) -> str:
    if np.isfinite(row["low"]):
        return f"[{row['low']:.2f}, {row['high']:.2f}]"
    return f"({row['least']:.2f} to {row['most']:.2f})" if row["seeds"] > 1 else ""


def crossings_html(evidence: Evidence, quantities: Sequence[str]) -> str:
    """Which curves cross, and where."""
    found = evidence.crossings
    found = found[found["quantity"].isin(quantities) & found["n_high"].map(lambda n: n > 0 and math.isfinite(n))]
    lines = [
        f"{QUANTITIES[row['quantity']].label}: {row['arm']} is lower below n = {row['n_high']:,.0f} {_where(row)}, "
        f"{row['other']} above ({seeds_of(int(row['seeds']))})."
        for _, row in found.sort_values(["quantity", "n_high"]).iterrows()
    ]
    said = notes_html(lines) or '<p class="soft">No two curves cross within the sizes measured.</p>'
    return f"<h3>Crossing points{why(CROSSING, 'a crossing point')}</h3>{said}"


def _where(row: pd.Series) -> str:
    low, high = (row["low"], row["high"]) if np.isfinite(row["low"]) else (row["least"], row["most"])
    if row["seeds"] < 2:
        return ""
    texts = [
        "below the smallest" if low == 0 else f"{low:,.0f}",
        "beyond the largest" if math.isinf(high) else f"{high:,.0f}",
    ]
    return f"[{texts[0]}, {texts[1]}]" if np.isfinite(row["low"]) else f"({texts[0]} to {texts[1]})"


def _table(
    title: str,
    explanation: str,
    quantities: Sequence[str],
    rows: Mapping[Any, Mapping[str, Any]],
    columns: Sequence[str] = ("",),
) -> str:
    """A table of sizes and arms by quantities, each in one column or in several; empty text where it has no rows."""
    if not rows:
        return ""
    order = {arm: k for k, arm in enumerate(arm_order([arm for _, arm in rows]))}
    lines = [
        [f"{n_high:,}", arm, *(text for name in quantities for text in told.get(name, ["–"] * len(columns))), told[""]]
        for (n_high, arm), told in sorted(rows.items(), key=lambda item: (item[0][0], order[item[0][1]]))
    ]
    span = f' class="group" colspan="{len(columns)}"' if len(columns) > 1 else ""
    heads = "".join(f"<th{span}>{QUANTITIES[name].label}</th>" for name in quantities)
    first = '<th>n<sub>high</sub></th><th class="left">Arm</th>'
    if len(columns) > 1:
        below = "".join(f"<th>{column}</th>" for column in columns) * len(quantities)
        head = f'<thead><tr><th colspan="2"></th>{heads}<th></th></tr><tr>{first}{below}<th>Seeds</th></tr></thead>'
    else:
        head = f"<thead><tr>{first}{heads}<th>Seeds</th></tr></thead>"
    return f"<h3>{escape(title)}{why(explanation, title)}</h3>{blocks_html(head, lines)}"


@lru_cache(maxsize=64)
def section(
    heading: str,
    setup: tuple[str, ...],
    evidence: Evidence,
    quantities: tuple[str, ...],
    arm: str,
    other: str,
    axis: Axis = "labels",
) -> str:
    """All of it of one case and setup, kept for pages that show the same again and again."""
    of = f'<p class="soft">{escape(", ".join(setup))}; {escape(METRIC_LABELS[evidence.errors.metric])}</p>'
    tables = (
        times_html(evidence, quantities, other, axis),
        ratios_html(evidence, quantities, other),
        slopes_html(evidence, quantities),
    )
    placed = "".join(f"<div>{table}</div>" for table in tables if table)
    return (
        f"<section><h2>{escape(heading)}: in words</h2>{of}{sentences(evidence, quantities, arm, other, axis)}"
        f'<div class="beside">{placed}</div>{crossings_html(evidence, quantities)}</section>'
    )
