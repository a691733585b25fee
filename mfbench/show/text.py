"""The results as text for the terminal."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.evidence import Evidence
from mfbench.results.paired import Stored, nothing_stored
from mfbench.results.rows import case_rows, with_setup
from mfbench.results.schema import CONVENTION, EXTERNAL, QUANTITIES, errors, metrics_of, shown
from mfbench.show.claims import FEWER_LABELS, best_lines
from mfbench.show.tables import (
    GAP_QUANTITIES,
    columns_of,
    error_table,
    fewer_lines,
    gap_rows,
    parts_of,
    physical_table,
    remarks,
    sections,
    spread_lines,
    spread_rows,
)
from mfbench.show.words import (
    GAP_CONVENTION,
    INFERRED,
    METRIC_LABELS,
    PART_LABELS,
    SPREAD,
    _physical_heads,
    column_texts,
    gap_text,
    levels_label,
    n_low_text,
    number,
    pretty_unit,
    seeds_text,
)

# For the terminal


def run_text(table: pd.DataFrame, system: str = "kcal/mol") -> str:
    """One run for the terminal: MAE and RMSE per level and part with n, the convention, time and speed."""
    first, rows = table.iloc[0], shown(table, system)
    rows = errors(rows)
    metrics, own = metrics_of(rows), dict(errors(table).loc[lambda t: t["unit"] != "", ["metric", "unit"]].to_numpy())
    rows = rows.assign(unit=[QUANTITIES[name].shown[system] for name in rows["quantity"]])
    keys = ["level", "head", "part", "quantity", "unit", "n", "remark"]
    wide = rows.pivot(index=keys, columns="metric", values="value").reset_index()
    order = {name: k for k, name in enumerate(QUANTITIES)}
    names = [METRIC_LABELS.get(m, f"{m} ({own[m]})" if m in own else m) for m in metrics]
    body = [["level", "part", "quantity", "unit", *names, "n", ""]]
    for role in ("low", "further", "high"):
        levels = set(rows.loc[rows["role"] == role, "level"])
        part = wide[wide["level"].isin(levels)].sort_values(
            ["part", "quantity"], key=lambda c: c.map(order) if c.name == "quantity" else c
        )
        for line in part.to_dict("records"):
            values = [number(line[metric]) if np.isfinite(line[metric]) else "-" for metric in metrics]
            note = line["remark"] or ("" if line["head"] == line["level"] else f"by the {line['head']} head")
            label = QUANTITIES[line["quantity"]].label.lower()
            body.append([line["level"], line["part"], label, line["unit"], *values, f"{line['n']:,}", note])
    title = (
        f"{first['case']} ({first['data']}), {first['arm']}, {first['backbone']}: n_high = {first['n_high']}, "
        f"n_low = {first['n_low']}, seed {first['seed']}, split seed {first['split_seed']}"
    )
    speed = (
        f"{first['steps']:,} steps{_of_them_shared(first)} in {first['seconds']:.1f} s, "
        f"{first['structures_per_second']:,.0f} structures/s on {first['device']}"
        if first["preset"] != EXTERNAL
        else _others_cost(first)
    )
    recipe = [f"Recipe: {first['preset']}."] if " (" in first["preset"] else []
    lines = _aligned(body, left=[0, 1, 2, 3, len(body[0]) - 1], indent="  ")
    return "\n".join([title, "", *lines, "", CONVENTION, speed, *recipe])


def _of_them_shared(row: pd.Series) -> str:
    shared = int(row["steps_shared"])
    return f" ({shared:,} of a stage that other runs share)" if shared else ""


def _others_cost(row: pd.Series) -> str:
    said = [f"{row['steps']:,} steps"] if row["steps"] else []
    said += [f"{row['seconds']:.1f} s"] if row["seconds"] else []
    on = f" on {row['device']}" if row["device"] else ""
    return f"Predicted by another code, trained in {', '.join(said)}{on}." if said else "Predicted by another code."


def headline(rows: pd.DataFrame, system: str = "kcal/mol") -> str:
    """One run in a line: its errors at the high level, on the test part."""
    first = rows.iloc[0]
    name = f"{first['case']:9s} {first['arm']:6s} n_high={first['n_high']:<4d}"
    chosen = (rows["role"] == "high") & (rows["part"] == "test") & (rows["metric"] == "mae")
    values = shown(errors(rows[chosen]), system).set_index("quantity")
    if not values["n"].any():
        return f"{name} n = 0: {first['remark']}"
    texts = [
        f"{QUANTITIES[quantity].label.lower()} {row['value']:.3g} {row['unit']}"
        for quantity in ("energy", "energy_relative", "force")
        if (row := values.loc[quantity])["n"]
    ]
    return f"{name} MAE: {', '.join(texts)}"


def text_table(table: pd.DataFrame, system: str = "kcal/mol", stored: Stored = nothing_stored) -> str:
    """The errors and the gap closed of every case, aligned; its tables are some 100 columns wide.

    Args:
        stored: see ``results.summary``.

    Raises:
        UserError: the table is empty or the unit system unknown.
    """
    blocks = []
    for case, setup in sections(table):
        rows = with_setup(case_rows(table, case), setup)
        data, backbone, preset = setup
        lines = [
            f"{case}: {levels_label(rows, case)}",
            f"  data {data}, {backbone}, preset {preset}; {n_low_text(rows)}; {seeds_text(rows)}",
        ]
        evidence = {part: Evidence(rows, case, part, stored=stored) for part in parts_of(rows, case)}
        for part, own in evidence.items():
            lines += ["", f"  Part {part}: {PART_LABELS[part]}", *_text_errors(rows, case, part, system)]
            lines += [f"    {remark}" for remark in remarks(rows, case, part)]
            lines += _text_spread(own, system) + _text_fewer(own) + _text_best(own)
        lines += _text_gaps(evidence, system)
        lines += _text_physical(physical_table(table, case, setup))
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, CONVENTION, GAP_CONVENTION.replace("−", "-"), INFERRED]) + "\n"


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int], indent: str = "    ") -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        indent
        + "  ".join(t.ljust(w) if k in left else t.rjust(w) for k, (t, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]


def _text_errors(rows: pd.DataFrame, case: str, part: str, system: str) -> list[str]:
    found, columns = error_table(rows, case, part, system), columns_of(rows)
    several = found["n_low"].groupby(found["arm"]).nunique().max() > 1
    head = [
        ["", "", *([""] if several else []), *(c.head for c in columns), "", ""],
        ["", "", *([""] if several else []), *(c.unit(system) for c in columns), "n", "n"],
        [
            "n_high",
            "arm",
            *(["n_low"] if several else []),
            *(c.label for c in columns),
            "energies",
            "forces",
        ],
    ]
    numbers = [column_texts(found[c.key]) for c in columns]
    body = []
    for k, line in enumerate(found.to_dict("records")):
        low = [f"{line['n_low']:,}"] if several else []
        body.append(
            [
                f"{line['n_high']:,}",
                line["arm"],
                *low,
                *(column[k] for column in numbers),
                line["n energies"],
                line["n forces"],
            ]
        )
    return _aligned([*head, *body], left=[1])


def _text_spread(evidence: Evidence, system: str) -> list[str]:
    lines = spread_lines(spread_rows(evidence.summary, system))
    if not lines:
        return []
    quantities = [QUANTITIES[name] for name in GAP_QUANTITIES]
    head = [["n_high", "arm", *(q.label for q in quantities), "seeds"]]
    head += [["", "", *(pretty_unit(q.shown[system]) for q in quantities), ""]]
    return ["", *_wrapped(f"MAE. {SPREAD}."), *_aligned([*head, *lines], left=[1])]


def _text_fewer(evidence: Evidence) -> list[str]:
    lines = fewer_lines(evidence.fewer())
    if not lines:
        return []
    head = ["n_high", "arm", *(QUANTITIES[name].label for name in GAP_QUANTITIES), "seeds"]
    return ["", *_wrapped(f"{FEWER_LABELS}."), *_aligned([head, *lines], left=[1])]


def _text_best(evidence: Evidence) -> list[str]:
    lines = [line for where, text in best_lines(evidence) for line in _wrapped(f"{where}: {text}")]
    return ["", *lines] if lines else []


def _wrapped(text: str) -> list[str]:
    return [f"  {line}" for line in wrap(text, 96)]


def _text_gaps(evidence: Mapping[str, Evidence], system: str) -> list[str]:
    head = ["part", "n_high", "MAE of", "unit", "arm", "SF-E", "arm's", "SF-EF", "arm/SF-E", "gap closed", "seeds"]
    body = []
    for part, own in evidence.items():
        for _, row in gap_rows(own.summary, system).iterrows():
            quantity = QUANTITIES[row["quantity"]]
            name, unit = quantity.label.lower(), pretty_unit(quantity.shown[system])
            errors = [number(row[c]) if np.isfinite(row[c]) else "n = 0" for c in ("SF-E", "error", "SF-EF")]
            sizes = [part, f"{row['n_high']:,}"]
            body.append(
                [*sizes, name, unit, row["arm"], *errors, f"{row['ratio']:.2f}", gap_text(row), str(row["pairs"])]
            )
    return ["", "  Gap closed", *_aligned([head, *body], left=[0, 2, 3, 4])] if body else []


def _text_physical(checks: pd.DataFrame) -> list[str]:
    """One line a check and a column a run, since the checks are many and their names long."""
    if checks.empty:
        return []
    head = [["", *checks["arm"]], ["n_high", *(f"{n:,}" for n in checks["n_high"])]]
    head += [["level", *checks["level"]]]
    body = [
        [f"{label} ({unit})" if unit else label, *column_texts(checks[column], "-")]
        for column, label, unit in _physical_heads(checks)
    ]
    return ["", "  Physical checks", *_aligned([*head, *body], left=[0])]


# Runs


def entries_text(entries: pd.DataFrame) -> str:
    """Runs (``Library.entries``), a line each, then how many are in what state."""
    head = ["run", "state", "arm", "n_high", "seed", "steps", "time", "finished"]
    body = [
        [
            row["run"],
            "at work" if row["running"] else row["state"],
            row["arm"],
            *("" if pd.isna(row[name]) else str(row[name]) for name in ("n_high", "seed")),
            steps_text(row["step"], row["steps"]),
            "" if pd.isna(row["seconds"]) else f"{row['seconds']:,.0f} s",
            row["finished"].partition("+")[0].replace("T", " "),
        ]
        for row in entries.to_dict("records")
    ]
    states = entries["state"].value_counts()
    said = ", ".join(f"{states[name]:,} {name}" for name in ("finished", "unfinished", "broken") if name in states)
    problems = [f"{row['run']}: {row['problem']}" for row in entries.to_dict("records") if row["problem"]]
    lines = _aligned([head, *body], left=[0, 1, 2], indent="") if body else []
    return "\n".join([*lines, *problems, f"{len(entries):,} runs{': ' * bool(said)}{said}"])


def steps_text(step: Any, steps: Any) -> str:
    """``3,000``, or ``1,920 of 3,000`` where a training has steps before it; empty where that is not known."""
    if pd.isna(step):
        return ""
    return f"{step:,}" if pd.isna(steps) or step == steps else f"{step:,} of {steps:,}"


def facts_text(facts: Mapping[str, Any]) -> str:
    """Names and what they stand for, a line each."""
    return "\n".join(_aligned([[name, str(value)] for name, value in facts.items()], left=[0, 1], indent="  ")) or "  –"


def settings_apart_text(apart: pd.DataFrame) -> str:
    """The settings in which two runs differ (``settings_apart``)."""
    if apart.empty:
        return "The settings are the same."
    rows = [["setting", "first", "second"], *apart.to_numpy().tolist()]
    return "\n".join(_aligned([[str(one)[:60] for one in row] for row in rows], left=[0, 1, 2], indent=""))


def results_apart_text(apart: pd.DataFrame) -> str:
    """The numbers of two runs side by side (``results_apart``)."""
    if apart.empty:
        return "Neither has a number."
    head = ["level", "part", "quantity", "metric", "first", "second", "unit", "second/first"]
    body = [
        [
            row["level"],
            row["part"],
            row["quantity"],
            METRIC_LABELS.get(row["metric"], row["metric"]),
            *(number(row[name]) for name in ("first", "second")),
            row["unit"],
            f"{row['ratio']:.2f}" if np.isfinite(row["ratio"]) else "–",
        ]
        for row in apart.to_dict("records")
    ]
    return "\n".join(_aligned([head, *body], left=[0, 1, 2, 3, 6], indent=""))
