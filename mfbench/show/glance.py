"""A case at a glance: what its arms' errors are to one another, in words, in numbers, and in one table."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.evidence import Evidence
from mfbench.results.ranking import Best
from mfbench.results.rows import judged_at_high_level
from mfbench.results.schema import QUANTITIES
from mfbench.results.statistics import FEWEST
from mfbench.show.claims import FEWER_LABELS, best_text, interval_text, seeds_of, spread_verdict, times_text
from mfbench.show.glossary import why
from mfbench.show.styles import arm_order
from mfbench.show.words import METRIC_LABELS, counts, gap_text, integers, level_label, number

CLAIMED = "MF"  # the arm that the claim under test is about


def size_of(evidence: Evidence, arm: str = CLAIMED) -> int | None:
    """The smallest number of high-level labels with which the arm and SF-E share a seed; None where there is none."""
    errors = evidence.errors
    keys = [
        (own, other) for q in errors.quantities() for own in errors.curve(q, arm) for other in errors.curve(q, "SF-E")
    ]
    sizes = [own.n_high for own, other in keys if own.n_high == other.n_high and errors.shared([own, other])]
    return min(sizes, default=None)


def card_html(case: str, evidence: Evidence | None, levels: str, energy: str = "energy") -> str:
    """A case in three lines: its levels, and MF's errors over SF-E's with the fewest labels."""
    head = f"<strong>{escape(case)}</strong><small>{escape(levels)}</small>"
    size = size_of(evidence) if evidence is not None else None
    if evidence is None or size is None:
        return f"{head}<small>No {CLAIMED} and SF-E of one size and seed here.</small>"
    rows = {q: evidence.difference(size, q, CLAIMED, "SF-E") for q in (energy, "force")}
    told = [f"<b>{number(row['ratio'])} ×</b> {_short(q)}" for q, row in rows.items() if row is not None]
    seeds = seeds_of(int(min(row["seeds"] for row in rows.values() if row is not None)))
    return f"{head}{CLAIMED} / SF-E: {', '.join(told)}<small>{size:,} high-level labels, {seeds}</small>"


def _short(quantity: str) -> str:
    return QUANTITIES[quantity].label.lower().removesuffix(" component")


def claims_html(evidence: Evidence, quantity: str) -> str:
    """What is said of one quantity with the fewest labels: two ratios, the best arm, labels saved; each explained."""
    size = size_of(evidence)
    if size is None:
        return f'<p class="soft">No {CLAIMED} and SF-E of one size and seed here.</p>'
    lines = [_ratio_line(evidence, size, quantity, other) for other in ("SF-E", "SF-EF")]
    lines += [_best_line(evidence, size, quantity), _fewer_line(evidence, size, quantity)]
    head = f"{QUANTITIES[quantity].label} {METRIC_LABELS[evidence.errors.metric]}, {size:,} high-level labels"
    return f'<h3>{escape(head)}</h3><dl class="claims">{"".join(lines)}</dl>'


def _line(name: str, text: str, explanation: str) -> str:
    return f"<dt>{escape(name)}</dt><dd>{text}{why(explanation, name)}</dd>"


def _ratio_line(evidence: Evidence, size: int, quantity: str, other: str) -> str:
    name = f"{CLAIMED} / {other}"
    row = evidence.difference(size, quantity, CLAIMED, other)
    if row is None:
        has = any(key.n_high == size for key in evidence.errors.curve(quantity, other))
        reason = "no seed in common" if has else f"no {other} with a number here"
        return f"<dt>{escape(name)}</dt><dd class='soft'>{reason}</dd>"
    value = f"<b>{number(row['ratio'])}</b> {interval_text(row)}"
    explanation = (
        f"{CLAIMED}’s error over {other}’s, seed by seed; the geometric mean over seeds. "
        f"{_interval(evidence, row)} {made_of(evidence, size, quantity, (CLAIMED, other))}"
    )
    return _line(name, f"{value}, {escape(spread_verdict(row))}", explanation)


def _best_line(evidence: Evidence, size: int, quantity: str) -> str:
    arms = [key.arm for key in evidence.errors.runs if (key.quantity, key.n_high) == (quantity, size)]
    explanation = (
        "The lowest geometric mean over seeds of the arms that see no high-level forces. Two arms are told apart where "
        f"the ratio of their errors, paired by seed, differs from 1 at the 5 % level, all pairs being corrected for by "
        f"Holm's rule; from {FEWEST} seeds on. {made_of(evidence, size, quantity, arms)}"
    )
    return _line("Best arm", escape(best_text(evidence.best(size, quantity)).rstrip(".")), explanation)


def _fewer_line(evidence: Evidence, size: int, quantity: str) -> str:
    rows = evidence.fewer()
    rows = rows[(rows["n_high"] == size) & (rows["quantity"] == quantity) & (rows["arm"] == CLAIMED)]
    name = "Labels saved"
    if rows.empty:
        return f"<dt>{name}</dt><dd class='soft'>not known</dd>"
    text = f"SF-E needs <b>{times_text(rows.iloc[0])}</b> × as many"
    seeds = seeds_of(int(rows.iloc[0]["seeds"]))
    return _line(name, text, f"{FEWER_LABELS}. Over {seeds} that all of the points have.")


def _interval(evidence: Evidence, row: "pd.Series[float]") -> str:
    if not np.isfinite(row["low"]):
        return f"Below {FEWEST} seeds there is no interval; in parentheses is the range of the seeds."
    over = "seeds and groups of test structures" if _over_structures(evidence) else "seeds"
    return f"In brackets the 95 % interval over {over}."


def _over_structures(evidence: Evidence) -> bool:
    return bool((evidence.summary["groups"] > 1).any())


def made_of(evidence: Evidence, size: int, quantity: str, arms: Sequence[str]) -> str:
    """``n = 180 in each of 10 runs, seeds 0–4.``: what a number is made of."""
    keys = [key for key in evidence.errors.runs if (key.quantity, key.n_high) == (quantity, size) and key.arm in arms]
    runs = [run for key in keys for run in evidence.errors.runs[key].values()]
    seeds = {seed for key in keys for _, seed in evidence.errors.runs[key]}
    return f"n = {counts(run.n for run in runs)} in each of {len(runs)} runs, seeds {integers(seeds)}."


# The table of all numbers

LEVEL_DIFFERS = "judged at {level}, by its {head} head"


def foreign_heads(table: pd.DataFrame, case: str, part: str) -> dict[str, str]:
    """Arms whose numbers are of another level than their models: ``judged at CCSD(T)*/CBS, by its PBE head``."""
    rows = judged_at_high_level(table, case, part)
    rows = rows[(rows["head"] != rows["level"]) & (rows["head"] != "") & (rows["n"] > 0)].drop_duplicates("arm")
    return {
        row["arm"]: LEVEL_DIFFERS.format(level=level_label(row["level"]), head=level_label(row["head"]))
        for _, row in rows.iterrows()
    }


def heads_html(foreign: dict[str, str]) -> str:
    """A badge for each arm whose numbers are of another level than its model."""
    return "".join(
        f'<span class="badge" title="The level of the number and that of the model differ.">'
        f"{escape(arm)}: {escape(text)}</span> "
        for arm, text in foreign.items()
    )


def glance_table(
    evidence: Evidence, system: str, arms: Sequence[str], foreign: dict[str, str], energy: str = "energy"
) -> pd.DataFrame:
    """All sizes and arms, a row each, to be sorted and filtered; errors in the units shown.

    Args:
        arms: that are shown; empty: all.
        foreign: see ``foreign_heads``.
        energy: which of the energies is shown.

    Returns:
        Columns with the heads that people read, whatever the metric and unit; numbers to three digits.
    """
    rows = {(r["n_high"], r["arm"], r["n_low"], r["quantity"]): r for r in evidence.summary.to_dict("records")}
    saved = {(r["n_high"], r["arm"], r["quantity"]): r for r in evidence.fewer().to_dict("records")}
    order = {arm: k for k, arm in enumerate(arm_order(evidence.summary["arm"]))}
    places = {place[:3] for place in rows if not arms or place[1] in arms}
    lines = []
    for n_high, arm, n_low in sorted(places, key=lambda place: (place[0], order[place[1]], place[2])):
        line: dict[str, object] = {"High-level labels": n_high, "Arm": arm}
        for quantity in (energy, "force"):
            row = rows.get((n_high, arm, n_low, quantity))
            numbers = _cells(row, QUANTITIES[quantity].factor(system)) if row else _NO_CELLS
            times = saved.get((n_high, arm, quantity))
            numbers |= {"labels saved": times_text(times) if times and times["most_seen"] > 1 else ""}
            numbers |= {"rank": _rank(evidence.best(n_high, quantity), arm)}
            line |= {f"{_short(quantity).split()[-1].capitalize()}: {name}": text for name, text in numbers.items()}
        seeds = max(int(row["seeds"]) for place, row in rows.items() if place[:3] == (n_high, arm, n_low))
        lines.append(line | {"Seeds": seeds, "Low-level structures": n_low, "Level": foreign.get(arm, "")})
    return pd.DataFrame(lines)


_NO_CELLS = {"error": np.nan, "spread": "n = 0", "over SF-E’s": np.nan, "gap closed": ""}


def _cells(row: dict[Any, Any], factor: float) -> dict[str, object]:
    bounds = {name: row[name] * factor for name in ("low", "high", "least", "most")}
    return {
        "error": _rounded(row["value"] * factor),
        "spread": interval_text({**bounds, "seeds": row["seeds"]}),
        "over SF-E’s": _rounded(row["ratio"]),
        "gap closed": gap_text(row) if np.isfinite(row["ratio"]) else "",
    }


def _rank(best: Best | None, arm: str) -> str:
    if best is None or best.unknown or best.seeds < FEWEST:
        return ""
    return "best" if arm == best.arm else "as good" if arm in best.alike else ""


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
