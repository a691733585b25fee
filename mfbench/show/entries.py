"""Runs as pages show them: all of them in a table, one in full, two beside each other."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mfbench.errors import UserError
from mfbench.results.differences import flat, results_apart, settings_apart
from mfbench.results.library import Library
from mfbench.results.schema import PHYSICS, QUANTITIES
from mfbench.show.histories import left
from mfbench.show.text import run_text, steps_text
from mfbench.show.words import METRIC_LABELS, level_label, number, pretty_unit

# Columns of ``rows_of``, and what people call them.
TITLES = {
    "shown": "",
    "state": "State",
    "case": "Case",
    "data": "Data",
    "arm": "Arm",
    "n_high": "High",
    "seed": "Seed",
    "backbone": "Network",
    "preset": "Preset",
    "steps": "Steps",
    "seconds": "Time (s)",
    "finished": "Finished",
    "run": "Run",
    "problem": "Problem",
}

STATES = ("finished", "at work", "unfinished", "broken")

# Of settings and provenance, what is for programs: what names stood for, hashes, and what a model knows.
LONG = ("resolved", "deciding", "trained_on")


def rows_of(entries: pd.DataFrame) -> pd.DataFrame:
    """Runs (``Library.entries``) with the columns of ``TITLES``; ``shown`` is empty."""
    rows = entries.assign(
        shown="",
        state=entries["state"].mask(entries["running"], "at work"),
        steps=[steps_text(*pair) for pair in zip(entries["step"], entries["steps"])],
        finished=entries["finished"].str.slice(0, 16).str.replace("T", " "),
        seconds=entries["seconds"].round(),
        **{name: entries[name].astype("float64") for name in ("n_high", "seed")},  # for a table of a browser
    )
    return rows[list(TITLES)].reset_index(drop=True)


def run_html(library: Library, run: str, system: str = "kcal/mol") -> str:
    """One run in full: its results, its settings, and where it came from."""
    rows = library.table[library.table["run"] == run]
    entry = library.entries.set_index("run").loc[run]
    parts = [f"<h2>{escape(run)}</h2>"]
    if entry["problem"]:
        parts.append(f'<p class="problem">{escape(entry["problem"])}</p>')
    if len(rows):
        parts.append(f'<div class="scroll"><pre>{escape(pretty_unit(run_text(rows, system)))}</pre></div>')
    for title, read in (("Where it came from", library.provenance), ("Settings", library.settings)):
        try:
            said = read(run)
            found = facts_html({key: value for key, value in said.items() if key not in LONG}) if said else "not kept"
        except UserError as error:
            found = escape(str(error))
        parts.append(f"<details><summary>{title}</summary>{found}</details>")
    return "".join(parts)


def facts_html(facts: Mapping[str, Any]) -> str:
    """Names and what they stand for, as a table."""
    return _table_html(["", ""], [[name, str(value)] for name, value in flat(facts).items()])


def apart_html(library: Library, first: str, second: str, system: str = "kcal/mol") -> str:
    """What tells two runs apart: their settings, and their results side by side."""
    parts = [f"<h2>What tells two runs apart</h2><p>first: {escape(first)}<br>second: {escape(second)}</p>"]
    try:
        settings = settings_apart(library.settings(first), library.settings(second))
        rows = settings[~settings["setting"].str.startswith("resolved.")].to_numpy().tolist()
        found = _table_html(["Setting", "first", "second"], rows) if rows else "<p>Their settings are the same.</p>"
    except UserError as error:
        found = f"<p>{escape(str(error))}</p>"
    results = results_apart(library.table, first, second, system)
    if results.empty:
        return "".join([*parts, found, "<p>Neither has a number.</p>"])
    known = {**QUANTITIES, **PHYSICS}
    body = [
        [
            level_label(row["level"]),
            row["part"],
            f"{known[row['quantity']].label} {METRIC_LABELS.get(row['metric'], row['metric'])}",
            *(number(row[name]) for name in ("first", "second")),
            pretty_unit(row["unit"]),
            f"{row['ratio']:.2f}" if np.isfinite(row["ratio"]) else "–",
        ]
        for row in results.to_dict("records")
    ]
    head = ["Judged at", "Part", "Error", "first", "second", "Unit", "second / first"]
    return "".join([*parts, found, _table_html(head, body, numbers=(3, 4, 6))])


def progress_html(entries: pd.DataFrame, histories: Mapping[str, pd.DataFrame]) -> str:
    """How far runs are: a row each, of those with a history (``histories.whole``)."""
    rows = []
    for entry in entries[entries["run"].isin(list(histories))].to_dict("records"):
        state = "at work" if entry["running"] else entry["state"]
        last = histories[entry["run"]].iloc[-1]
        seconds = left(histories[entry["run"]], entry["steps"]) if entry["running"] else float("nan")
        rows.append(
            [
                entry["arm"],
                state,
                steps_text(entry["step"], entry["steps"]),
                f"{last['seconds']:,.0f} s",
                f"{last['throughput']:,.1f}" if np.isfinite(last["throughput"]) else "–",
                f"{seconds:,.0f} s" if np.isfinite(seconds) else "–",
                entry["run"],
            ]
        )
    head = ["Arm", "State", "Steps", "Time", "Steps/s", "Left", "Run"]
    return _table_html(head, rows, numbers=(2, 3, 4, 5)) if rows else ""


def _table_html(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        sides = ["" if k in numbers else ' class="left"' for k in range(len(cells))]
        made = "".join(f"<{tag}{side}>{escape(cell)}</{tag}>" for side, cell in zip(sides, cells))
        return f"<tr>{made}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if any(head) else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'
