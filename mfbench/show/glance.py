"""A case at a glance: what its arms' errors are to one another, in words, in numbers, and in one table."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from html import escape
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.evidence import Evidence
from mfbench.results.ranking import Best
from mfbench.results.rows import judged_at_high_level, setups_of, with_setup
from mfbench.results.schema import CONVENTION, QUANTITIES
from mfbench.results.statistics import FEWEST
from mfbench.show.claims import FEWER_LABELS, best_text, interval_text, seeds_of, spread_verdict, times_text
from mfbench.show.facets import Facet
from mfbench.show.glossary import CASES, why
from mfbench.show.styles import arm_order
from mfbench.show.words import (
    CLAIM,
    GAP_CONVENTION,
    INFERRED,
    METRIC_LABELS,
    SPREAD,
    counts,
    gap_text,
    integers,
    level_label,
    levels_label,
    n_low_text,
    number,
    pretty_unit,
    seeds_text,
)

Recipe = tuple[tuple[str, ...], Evidence]

CLAIMED = "MF"  # the arm that the claim under test is about

NO_RUNS = (
    "<h2>No finished runs here</h2>"
    "<p>Make some; then load this page again:</p>"
    "<ul><li><code>mfbench demo</code> trains the arms on all three cases (some minutes)</li>"
    "<li><code>mfbench run ani1x-tz --arm MF --n-high 50</code> trains one</li></ul>"
    "<p>Runs kept elsewhere: start with <code>mfbench serve --runs FOLDER</code>, or set <code>MFBENCH_RUNS</code> "
    "before. Or choose other <em>Results</em> at the left.</p>"
)

NOT_COMPARED = f"No {CLAIMED} and SF-E of one size and seed here."


def recipe(facet: Facet) -> Recipe | None:
    """The (data, backbone, preset) with most runs and what it says; None of metrics of people's own."""
    found = facet.evidence
    if not found:
        return None
    setup = setups_of(replace(facet.source, arms=()).recipe)[0]
    return setup, found[setup]


def zero(facet: Facet) -> dict[str, float]:
    """The error of predicting nothing, by quantity; empty where that is not known."""
    found = recipe(facet)
    return {} if found is None else found[1].zero


def size_of(evidence: Evidence, arm: str = CLAIMED) -> int | None:
    """The smallest number of high-level labels with which the arm and SF-E share a seed; None where there is none."""
    errors = evidence.errors
    pairs = [pair for q in errors.quantities() for pair in product(errors.curve(q, arm), errors.curve(q, "SF-E"))]
    sizes = [own.n_high for own, other in pairs if own.n_high == other.n_high and errors.shared([own, other])]
    return min(sizes, default=None)


@lru_cache(maxsize=64)
def heading_html(facet: Facet) -> str:
    """Which runs are shown, and behind a ``?`` the case in plain words."""
    found = recipe(facet)
    (data, backbone, preset), own = found or (setups_of(facet.table)[0], None)
    rows = with_setup(facet.table, (data, backbone, preset))
    facts = [f"data {data}, network {backbone}, preset {preset}", n_low_text(rows), seeds_text(rows)]
    others = [f"{one[1]}, {one[2]}" for one in setups_of(facet.table) if one != (data, backbone, preset)]
    also = f" Below are numbers of these; curves also of {'; '.join(others)}." if others else ""
    also += "" if own else " Of this metric there are curves alone: no ratios, no intervals."
    plain = why(f"{CASES.get(facet.case, '')} {INFERRED}".strip(), facet.case)
    return f'<div class="facts">{escape("; ".join(facts))}.{escape(also)}{plain}</div>'


@lru_cache(maxsize=256)
def card_html(facet: Facet, energy: str = "energy") -> str:
    """A case in three lines: its levels, and MF's errors over SF-E's with the fewest labels."""
    levels = levels_label(facet.source.library.table, facet.case)
    head = f"<strong>{escape(facet.case)}</strong><small>{escape(levels)}</small>"
    found = recipe(facet)
    evidence = found and found[1]
    size = size_of(evidence) if evidence else None
    if not evidence or size is None:
        return f"{head}<small>{NOT_COMPARED}</small>"
    rows = {q: evidence.difference(size, q, CLAIMED, "SF-E") for q in (energy, "force")}
    told = [f"<b>{number(row['ratio'])} ×</b> {_short(q)}" for q, row in rows.items() if row is not None]
    seeds = seeds_of(int(min(row["seeds"] for row in rows.values() if row is not None)))
    return f"{head}<span>{', '.join(told)}</span><small>{CLAIMED} / SF-E, {size:,} high-level labels, {seeds}</small>"


def _short(quantity: str) -> str:
    return QUANTITIES[quantity].label.lower().removesuffix(" component")


@lru_cache(maxsize=256)
def claims_html(facet: Facet, quantity: str) -> str:
    """What is said of one quantity with the fewest labels: two ratios, the best arm, labels saved; each explained."""
    found = recipe(facet)
    size = size_of(found[1]) if found else None
    if found is None or size is None:
        return f'<p class="soft">{NOT_COMPARED}</p>'
    evidence = found[1]
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
    value = f"<b>{number(row['ratio'])}</b> {interval_text(row)}".rstrip()
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


def foreign_heads(facet: Facet) -> dict[str, str]:
    """Arms whose numbers are of another level than their models: ``judged at CCSD(T)*/CBS, by its PBE head``."""
    rows = judged_at_high_level(facet.table, facet.case, facet.source.part)
    rows = rows[(rows["head"] != rows["level"]) & (rows["head"] != "") & (rows["n"] > 0)].drop_duplicates("arm")
    return {
        row["arm"]: f"judged at {level_label(row['level'])}, by its {level_label(row['head'])} head"
        for _, row in rows.iterrows()
    }


def heads_html(facet: Facet) -> str:
    """A badge for each arm whose numbers are of another level than its model."""
    title = "The level of these numbers and that of the model differ."
    return "".join(
        f'<span class="badge" style="white-space:normal" title="{title}">{escape(arm)}: {escape(text)}</span> '
        for arm, text in foreign_heads(facet).items()
    )


def table(facet: Facet, system: str, arms: Sequence[str] = (), energy: str = "energy") -> pd.DataFrame:
    """All sizes and arms, a row each, to be sorted and filtered; errors in the units shown.

    Args:
        arms: that are shown; empty: all.
        energy: which of the energies is shown.

    Returns:
        Columns with the heads that people read, whatever the metric and unit; numbers to three digits.
    """
    found = recipe(facet)
    if found is None:
        return pd.DataFrame()
    evidence, foreign = found[1], foreign_heads(facet)
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


def closing_html(facet: Facet, system: str) -> str:
    """What a reader of all this must know: of the table, of the baselines, and how the numbers are made."""
    metric = METRIC_LABELS.get(facet.source.metric, facet.source.metric)
    units = " and ".join(pretty_unit(QUANTITIES[q].shown[system]) for q in ("energy", "force"))
    known = (
        "zero is the error of predicting no forces and each molecule's mean energy: total energies have no such number."
        if zero(facet)
        else "The error of predicting nothing is not known: it takes a run's predictions, which are not at hand."
    )
    said = f"The table: {metric}, {units}. {SPREAD}. {known} {CONVENTION} {GAP_CONVENTION} {CLAIM}"
    return f'<p class="soft">{escape(said)}</p>'
