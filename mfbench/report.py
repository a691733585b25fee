"""The results for people: a table for the terminal and one self-contained page. Never loads torch."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.embed import components
from bokeh.util.paths import bokehjs_path

from mfbench import plots, resources
from mfbench.cases import case as find_case
from mfbench.errors import UserError, unknown
from mfbench.plots import METRIC_LABELS, PART_LABELS, arm_order, arm_style, number, pretty_unit
from mfbench.results import (
    CONVENTION,
    METRICS,
    METRICS_FILE,
    PARTS,
    PHYSICS,
    QUANTITIES,
    UNIT_SYSTEMS,
    errors,
    gap_closed,
    metrics_of,
    physical,
    read_json,
    read_metrics,
    replacing,
    shown,
)

REFERENCE_ARMS = ("SF-E", "SF-EF", "SF-low", "oracle")  # gap closed measures the others against these
GAP_QUANTITIES = ("energy", "energy_relative", "force")
# This project's own results, which ship: benchmarks/reference.py makes them.
REFERENCES = {"demo": "three cases, three arms, one seed", "arms": "all arms on ani1x-tz, five paired seeds"}
SPREAD = "MAE: mean ± standard deviation over the seeds"
GAP_CONVENTION = (
    "Gap closed by an arm: 1 − log(err / SF-EF) / log(SF-E / SF-EF) at the same number of high-level "
    "structures; 0 = no better than SF-E, 1 = as good as SF-EF, above 1 = better than SF-EF."
)
INFERRED = (
    "The three cases are inferred from the paper's abstract and the authors' public script; the body of the "
    "paper was not read, and no table of it is reproduced here."
)
CLAIM = (
    "The claim under test (Messerly et al., Mach. Learn.: Sci. Technol. 6 (2025) 035066): one model trained "
    "on low-level energies and forces together with high-level energies only (MF) is far more accurate at "
    "the high level than a model trained on those high-level energies alone (SF-E), and almost as accurate "
    "as one trained on high-level energies and forces (SF-EF)."
)


@dataclass(frozen=True)
class Column:
    """One column of numbers in the table of errors."""

    quantity: str
    metric: str
    head: str  # short name of the quantity, shared by neighbouring columns
    own_unit: str = ""  # of a metric of one's own

    @property
    def key(self) -> str:
        return f"{self.quantity} {self.metric}"

    @property
    def label(self) -> str:
        return METRIC_LABELS.get(self.metric, self.metric)

    def unit(self, system: str) -> str:
        return pretty_unit(self.own_unit or QUANTITIES[self.quantity].shown[system])


COLUMNS = (
    Column("energy", "mae", "Energy"),
    Column("energy", "rmse", "Energy"),
    Column("energy_per_atom", "mae", "Energy/atom"),
    Column("energy_relative", "mae", "Rel. energy"),
    Column("force", "mae", "Force"),
    Column("force", "rmse", "Force"),
)


def columns_of(table: pd.DataFrame) -> tuple[Column, ...]:
    """``COLUMNS``, and one for each quantity and metric of one's own in the table, those of a quantity together."""
    heads = {column.quantity: column.head for column in COLUMNS}
    rows = errors(table)
    own = rows[~rows["metric"].isin(METRICS)].drop_duplicates(["quantity", "metric"])
    more = [Column(q, m, heads[q], unit) for q, m, unit in own[["quantity", "metric", "unit"]].itertuples(index=False)]
    return tuple(sorted([*COLUMNS, *more], key=lambda column: list(heads).index(column.quantity)))


# Tables of numbers


def sections(table: pd.DataFrame) -> list[tuple[str, tuple[str, ...]]]:
    """The (case, (data, backbone, preset)) that have rows: each is shown on its own."""
    if table.empty:
        raise UserError("no results to report: expected finished runs, found none; run `mfbench demo`")
    return [
        (case, settings) for case in plots.cases(table) for settings in plots.settings_of(plots.case_rows(table, case))
    ]


def parts_of(table: pd.DataFrame, case: str) -> list[str]:
    """The parts in which the case has a number at the high level; ``test`` always."""
    return [p for p in PARTS if p == "test" or (plots.judged_at_high_level(table, case, p)["n"] > 0).any()]


def error_table(table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol") -> pd.DataFrame:
    """Errors at the high level, one row per (n_high, arm, n_low): medians over seeds, in the units shown.

    Returns:
        Columns n_high, arm, n_low, seeds (text), the keys of ``columns_of`` (NaN where n = 0), and
        ``n energies`` and ``n forces`` (text), the numbers of values behind each error.
    """
    if system not in UNIT_SYSTEMS:
        raise unknown("unit system", system, UNIT_SYSTEMS)
    rows = shown(plots.judged_at_high_level(table, case, part), system)
    keys, numbers = ["n_high", "arm", "n_low"], columns_of(table)
    lines = []
    for key, group in rows.groupby(keys):
        line: dict[str, Any] = {**dict(zip(keys, key)), "seeds": plots.integers(group["seed"])}
        for column in numbers:
            of = group[(group["quantity"] == column.quantity) & (group["metric"] == column.metric)]
            line[column.key] = of.loc[of["n"] > 0, "value"].median()
        for name, of_kind in (
            ("energies", group["quantity"] != "force"),
            ("forces", group["quantity"] == "force"),
        ):
            found = group.loc[of_kind & (group["n"] > 0), "n"]
            line[f"n {name}"] = plots.counts(found) if len(found) else "0"
        lines.append(line)
    columns = [*keys, "seeds", *(c.key for c in numbers), "n energies", "n forces"]
    result = pd.DataFrame(lines, columns=columns)
    order = {arm: k for k, arm in enumerate(arm_order(result["arm"]))}
    return result.sort_values(keys, key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)


def spread_table(table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol") -> pd.DataFrame:
    """MAE at the high level over several seeds, one row per (n_high, arm, n_low), in the units shown.

    Returns:
        Columns n_high, arm, n_low, seeds (how many), and ``<quantity> mean`` and ``<quantity> spread`` (standard
        deviation) of each of ``GAP_QUANTITIES``, NaN where n = 0. No row where there is one seed alone.
    """
    rows = shown(plots.judged_at_high_level(table, case, part), system)
    rows = rows[(rows["metric"] == "mae") & (rows["n"] > 0) & rows["quantity"].isin(GAP_QUANTITIES)]
    keys = ["n_high", "arm", "n_low"]
    grouped = rows.groupby([*keys, "quantity"])["value"].agg(mean="mean", spread="std", seeds="count").reset_index()
    found = grouped.groupby(keys)["seeds"].max().to_frame()
    for name in GAP_QUANTITIES:
        own = grouped[grouped["quantity"] == name].set_index(keys)
        found = found.join(own[["mean", "spread"]].add_prefix(f"{name} "))
    result = found[found["seeds"] > 1].reset_index()
    order = {arm: k for k, arm in enumerate(arm_order(result["arm"]))}
    return result.sort_values(keys, key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)


def spread_texts(spread: pd.DataFrame, quantity: str) -> list[str]:
    """``1.66 ± 0.12`` of each row of a ``spread_table``."""
    means = column_texts(spread[f"{quantity} mean"], "")
    digits = max((len(text.partition(".")[2]) for text in means), default=0)
    spreads = [f"{value:,.{digits}f}" if np.isfinite(value) else "" for value in spread[f"{quantity} spread"]]
    return [f"{mean} ± {by}" if mean else "n = 0" for mean, by in zip(means, spreads)]


def remarks(table: pd.DataFrame, case: str, part: str = "test") -> list[str]:
    """Why rows have n = 0: ``SF-low, energy and energy per atom (n = 0): ...``."""
    rows = plots.judged_at_high_level(table, case, part)
    rows = rows[rows["n"] == 0]
    said = []
    for arm in arm_order(rows["arm"]):
        for remark, group in rows[rows["arm"] == arm].groupby("remark", sort=False):
            names = [QUANTITIES[q].label.lower() for q in QUANTITIES if q in set(group["quantity"])]
            what = "" if len(names) == len(QUANTITIES) else ", " + " and ".join(names)
            said.append(f"{arm}{what} (n = 0): {str(remark) or 'no labels'}")
    return said


def gap_table(
    table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol", metric: str = "mae"
) -> pd.DataFrame:
    """Gap closed by every arm but the reference ones; medians over seeds, the pairing being by seed.

    Returns:
        Columns n_high, arm, quantity, SF-E, error (the arm's), SF-EF (both in the units shown), ratio
        (error / SF-E), gap_closed, pairs (number of seeds). NaN as in ``results.gap_closed``.
    """
    keys = ["n_high", "arm", "quantity"]
    columns = ["SF-E", "error", "SF-EF", "ratio", "gap_closed"]
    found = []
    rows = plots.joined(plots.case_rows(table, case))
    for arm in arm_order(rows["arm"]):
        if arm not in REFERENCE_ARMS:
            gaps = gap_closed(rows, arm).rename(columns={arm: "error"})
            found.append(gaps[(gaps["part"] == part) & (gaps["metric"] == metric)].assign(arm=arm))
    if not found:
        return pd.DataFrame(columns=[*keys, *columns, "pairs"])
    gaps = pd.concat(found)
    gaps = gaps[gaps["quantity"].isin(GAP_QUANTITIES)]
    factor = gaps["quantity"].map({name: q.factor(system) for name, q in QUANTITIES.items()}).astype(float)
    for column in ("SF-E", "error", "SF-EF"):
        gaps[column] = gaps[column] * factor
    grouped = gaps.groupby(keys, sort=False)
    result = grouped[columns].median().assign(pairs=grouped["ratio"].count()).reset_index()
    order = {name: k for k, name in enumerate([*arm_order(gaps["arm"]), *QUANTITIES])}
    return result.sort_values(keys, key=lambda c: c if c.name == "n_high" else c.map(order), ignore_index=True)


def gap_text(row: "pd.Series[float]") -> str:
    """The gap closed, or why there is none."""
    if not np.isfinite(row["SF-EF"]):
        return "no SF-EF"
    return f"{row['gap_closed']:.2f}" if np.isfinite(row["gap_closed"]) else "no gap"


def physical_table(table: pd.DataFrame, case: str, settings: Sequence[str]) -> pd.DataFrame:
    """Physical checks of the runs of a case with these settings: medians over seeds; empty where there are none.

    Returns:
        Columns n_high, arm, n_low, level, seeds (text) and, of the quantities that were checked, ``<quantity>
        <metric>`` (NaN where n = 0, or where the check was not done).
    """
    rows = plots.with_settings(physical(table[table["case"] == case]), settings)
    rows = rows[rows["metric"] != "rmse"]
    keys = ["n_high", "arm", "n_low", "level"]
    if rows.empty:
        return pd.DataFrame(columns=[*keys, "seeds"])
    rows = rows.assign(value=rows["value"].where(rows["n"] > 0), column=rows["quantity"] + " " + rows["metric"])
    wide = rows.pivot_table(index=keys, columns="column", values="value", aggfunc="median", dropna=False)
    there = rows.groupby(keys)["seed"].agg(plots.integers).rename("seeds")
    wide = there.to_frame().join(wide).reset_index()
    found = [(name, metric) for name in PHYSICS for metric in ("value", "mae") if f"{name} {metric}" in wide]
    order = {arm: k for k, arm in enumerate(arm_order(wide["arm"]))}
    wide = wide.sort_values(keys, key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)
    return wide[[*keys, "seeds", *(f"{name} {metric}" for name, metric in found)]]


def _physical_heads(checks: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(column, label, unit) of the numbers in a table of physical checks."""
    found = []
    for column in checks.columns[5:]:
        name, metric = column.split()
        quantity = PHYSICS[name]
        label = quantity.label if metric == "value" else f"{quantity.label}, {METRIC_LABELS[metric]}"
        found.append((column, label, quantity.shown[UNIT_SYSTEMS[0]]))
    return found


def column_texts(values: Iterable[float], empty: str = "n = 0") -> list[str]:
    """Numbers of one column with the same decimals, three digits of the smallest, so that points align."""
    found = list(values)
    finite = [abs(v) for v in found if np.isfinite(v) and v != 0]
    decimals = min(max(2 - int(np.floor(np.log10(min(finite)) + 1e-12)), 0), 4) if finite else 0
    return [f"{v:,.{decimals}f}" if np.isfinite(v) else empty for v in found]


def seeds_text(rows: pd.DataFrame) -> str:
    """``seed 0`` or ``seeds 0–4 (medians)``, of the runs that used high-level structures."""
    seeds = rows.loc[rows["n_high"] > 0, "seed"] if (rows["n_high"] > 0).any() else rows["seed"]
    return f"seed {plots.integers(seeds)}" if seeds.nunique() == 1 else f"seeds {plots.integers(seeds)} (medians)"


def n_low_text(rows: pd.DataFrame) -> str:
    """``1,000 low-level structures``: what the arms that learn from the low level were given."""
    used = sorted({int(n) for n in rows["n_low"] if n > 0})
    return f"{', '.join(f'{n:,}' for n in used)} low-level structures" if used else "no low-level structures"


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
        if first["preset"] != plots.EXTERNAL
        else "Predicted by another code."
    )
    return "\n".join(
        [title, "", *_aligned(body, left=[0, 1, 2, 3, len(body[0]) - 1], indent="  "), "", CONVENTION, speed]
    )


def _of_them_shared(row: pd.Series) -> str:
    shared = int(row["steps_shared"])
    return f" ({shared:,} of a stage that other runs share)" if shared else ""


def text_table(table: pd.DataFrame, system: str = "kcal/mol") -> str:
    """The errors and the gap closed of every case, aligned; its tables are some 100 columns wide.

    Raises:
        UserError: the table is empty or the unit system unknown.
    """
    blocks = []
    for case, settings in sections(table):
        rows = plots.with_settings(plots.case_rows(table, case), settings)
        data, backbone, preset = settings
        lines = [
            f"{case}: {plots.levels_label(rows, case)}",
            f"  data {data}, {backbone}, preset {preset}; {n_low_text(rows)}; {seeds_text(rows)}",
        ]
        for part in parts_of(rows, case):
            lines += ["", f"  Part {part}: {PART_LABELS[part]}", *_text_errors(rows, case, part, system)]
            lines += [f"    {remark}" for remark in remarks(rows, case, part)]
            lines += _text_spread(rows, case, part, system)
        lines += _text_gaps(rows, case, system)
        lines += _text_physical(physical_table(table, case, settings))
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


def _text_spread(rows: pd.DataFrame, case: str, part: str, system: str) -> list[str]:
    spread = spread_table(rows, case, part, system)
    if spread.empty:
        return []
    quantities = [QUANTITIES[name] for name in GAP_QUANTITIES]
    head = [["n_high", "arm", *(q.label for q in quantities), "seeds"]]
    head += [["", "", *(pretty_unit(q.shown[system]) for q in quantities), ""]]
    texts = zip(*(spread_texts(spread, name) for name in GAP_QUANTITIES))
    body = [
        [f"{line['n_high']:,}", line["arm"], *each, str(line["seeds"])]
        for line, each in zip(spread.to_dict("records"), texts)
    ]
    return ["", f"  {SPREAD}", *_aligned([*head, *body], left=[1])]


def _text_gaps(rows: pd.DataFrame, case: str, system: str) -> list[str]:
    head = ["part", "n_high", "MAE of", "unit", "arm", "SF-E", "arm's", "SF-EF", "arm/SF-E", "gap closed"]
    body = []
    for part in parts_of(rows, case):
        for _, row in gap_table(rows, case, part, system).iterrows():
            quantity = QUANTITIES[row["quantity"]]
            name, unit = quantity.label.lower(), pretty_unit(quantity.shown[system])
            errors = [number(row[c]) if np.isfinite(row[c]) else "n = 0" for c in ("SF-E", "error", "SF-EF")]
            sizes = [part, f"{row['n_high']:,}"]
            body.append([*sizes, name, unit, row["arm"], *errors, f"{row['ratio']:.2f}", gap_text(row)])
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


# HTML, shared by the report and the dashboard

STYLE = """
.mfb{--ink:#1f2933;--soft:#52606d;--line:#dde3e9;--wash:#f6f8fa;color:var(--ink);
  font:16px/1.55 "Helvetica Neue",Helvetica,Arial,"Liberation Sans",sans-serif}
.mfb *{box-sizing:border-box}
.mfb p{max-width:76ch;margin:.5em 0}
.mfb .soft{color:var(--soft)}
.mfb .scroll{overflow-x:auto;margin:.7em 0}
.mfb table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:15px;line-height:1.35;
  white-space:nowrap}
.mfb th,.mfb td{padding:.32em .75em;text-align:right}
.mfb th{font-weight:600;vertical-align:bottom}
.mfb thead th .unit{display:block;font-weight:400;color:var(--soft);font-size:13px}
.mfb thead tr:last-child th{border-bottom:2px solid var(--ink)}
.mfb thead th.group{border-bottom:1px solid var(--line);text-align:center}
.mfb .left{text-align:left}
.mfb td.zero{color:var(--soft)}
.mfb tbody.block tr:first-child>*{border-top:1px solid var(--line)}
.mfb tbody.block:first-of-type tr:first-child>*{border-top:0}
.mfb tbody tr:hover td{background:var(--wash)}
.mfb .arm{font-weight:600;white-space:nowrap}
.mfb .arm svg{vertical-align:-1px;margin-right:.45em}
.mfb ul.notes{margin:.2em 0 .8em;padding-left:1.2em;color:var(--soft);font-size:15px}
.mfb .cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(270px,1fr));gap:14px;margin:1em 0}
.mfb .card{max-width:460px;border:1px solid var(--line);border-radius:8px;padding:14px 18px;background:#fff}
.mfb .card h3{margin:0;font-size:17px}
.mfb .card .pair{display:grid;grid-template-columns:1fr 1fr;gap:10px;margin-top:8px}
.mfb .card .big{font-size:30px;line-height:1.2;font-weight:650;color:#0072B2}
.mfb .card small{display:block;color:var(--soft);font-size:14px;line-height:1.35}
"""


def styled(*parts: str) -> str:
    """Pieces of HTML with the style they need, for a notebook's ``HTML``."""
    return f'<div class="mfb"><style>{STYLE}</style>{"".join(parts)}</div>'


_SHAPES = {
    "circle": '<circle cx="7" cy="7" r="5.5"/>',
    "square": '<rect x="2" y="2" width="10" height="10"/>',
    "triangle": '<path d="M7 1.5 13 12H1z"/>',
    "inverted_triangle": '<path d="M7 12.5 13 2H1z"/>',
    "hex": '<path d="M7 1l5.2 3v6L7 13 1.8 10V4z"/>',
    "star": '<path d="M7 .5l2 4.3 4.7.6-3.4 3.2.9 4.7L7 11l-4.2 2.3.9-4.7L.3 5.4 5 4.8z"/>',
    "plus": '<path d="M5.5 1h3v4.5H13v3H8.5V13h-3V8.5H1v-3h4.5z"/>',
    "square_pin": '<path d="M1 1q6 3 12 0-3 6 0 12-6-3-12 0 3-6 0-12z"/>',
    "diamond": '<path d="M7 .5 13.5 7 7 13.5.5 7z"/>',
}


def arm_html(arm: str) -> str:
    """The arm's name beside its marker."""
    style = arm_style(arm)
    shape = _SHAPES[style.marker]
    if plots.base_arm(arm) in plots.HORIZONTAL:  # a dashed line in the plots
        shape = '<path d="M0 5.8h5.6v2.6H0zM8.4 5.8H14v2.6H8.4z"/>'
    icon = f'<svg width="14" height="14" fill="{style.color}" aria-hidden="true">{shape}</svg>'
    return f'<span class="arm">{icon}{escape(arm)}</span>'


def errors_html(table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol") -> str:
    """The table of errors of one case and part (one data variant, backbone and preset), with its remarks."""
    found, columns = error_table(table, case, part, system), columns_of(table)
    if found.empty:
        return f'<p class="soft">{escape(case)} has no part of {PART_LABELS[part]}.</p>'
    heads = dict.fromkeys((c.head, c.unit(system)) for c in columns)
    columns = tuple(sorted(columns, key=lambda c: list(heads).index((c.head, c.unit(system)))))
    groups = "".join(
        f'<th class="group" colspan="{sum((c.head, c.unit(system)) == head for c in columns)}">'
        f'{head[0]}<span class="unit">{escape(head[1])}</span></th>'
        for head in heads
    )
    names = "".join(f"<th>{escape(c.label)}</th>" for c in columns)
    sizes = '<th>n<sub>high</sub></th><th class="left">Arm</th><th>n<sub>low</sub></th>'
    counted = '<th class="group" colspan="2">n averaged over</th>'
    head = (
        f'<thead><tr><th colspan="3"></th>{groups}{counted}<th></th></tr>'
        f"<tr>{sizes}{names}<th>energies</th><th>forces</th><th>Seeds</th></tr></thead>"
    )
    texts = [[f"{n:,}" for n in found["n_low"]], *(column_texts(found[c.key]) for c in columns)]
    counts = (found[name] for name in ("n energies", "n forces", "seeds"))
    return _rows_html(head, found, zip(*texts, *counts)) + _notes(remarks(table, case, part))


def spread_html(table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol") -> str:
    """The ``spread_table`` of one case and part; empty where there is one seed alone."""
    spread = spread_table(table, case, part, system)
    if spread.empty:
        return ""
    heads = "".join(
        f'<th class="group">{QUANTITIES[name].label}'
        f'<span class="unit">{pretty_unit(QUANTITIES[name].shown[system])}</span></th>'
        for name in GAP_QUANTITIES
    )
    head = f'<thead><tr><th>n<sub>high</sub></th><th class="left">Arm</th>{heads}<th>Seeds</th></tr></thead>'
    texts = zip(*(spread_texts(spread, name) for name in GAP_QUANTITIES), spread["seeds"].astype(str))
    return f"<h4>{SPREAD}</h4>{_rows_html(head, spread, texts)}"


def _rows_html(head: str, rows: pd.DataFrame, texts: Iterable[Sequence[str]]) -> str:
    """A table with a row an arm, those of one n_high in a block: size, arm, and the texts of its other cells."""
    blocks: dict[int, list[str]] = {}
    for n_high, arm, each in zip(rows["n_high"], rows["arm"], texts):
        cells = "".join(map(_cell, each))
        blocks.setdefault(n_high, []).append(
            f'<tr><td>{n_high:,}</td><td class="left">{arm_html(arm)}</td>{cells}</tr>'
        )
    bodies = "".join(f'<tbody class="block">{"".join(lines)}</tbody>' for lines in blocks.values())
    return f'<div class="scroll"><table>{head}{bodies}</table></div>'


def _cell(text: str) -> str:
    return f'<td class="zero">{text}</td>' if text == "n = 0" else f"<td>{text}</td>"


def _notes(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""


def gaps_html(rows: Sequence[tuple[str, pd.DataFrame]], system: str = "kcal/mol", metric: str = "mae") -> str:
    """One table of gap closed over several (title, ``gap_table``); empty text where there is nothing."""
    bodies = []
    for title, gaps in rows:
        lines = []
        for _, row in gaps.iterrows():
            quantity = QUANTITIES[row["quantity"]]
            errors = "".join(
                _cell(number(row[c]) if np.isfinite(row[c]) else "n = 0") for c in ("SF-E", "error", "SF-EF")
            )
            gap = gap_text(row)
            shade = "" if gap[-1].isdigit() else ' class="zero"'
            lines.append(
                f'<tr><td class="left">{escape(title)}</td><td>{row["n_high"]:,}</td>'
                f'<td class="left">{quantity.label}</td>'
                f'<td class="left soft">{pretty_unit(quantity.shown[system])}</td>'
                f'<td class="left">{arm_html(row["arm"])}</td>'
                f"{errors}<td>{row['ratio']:.2f}</td><td{shade}>{gap}</td><td>{row['pairs']}</td></tr>"
            )
        if lines:
            bodies.append(f'<tbody class="block">{"".join(lines)}</tbody>')
    if not bodies:
        return ""
    head = (
        '<thead><tr><th class="left">Case</th><th>n<sub>high</sub></th>'
        f'<th class="left">{METRIC_LABELS[metric]} of</th>'
        '<th class="left">Unit</th><th class="left">Arm</th><th>SF-E</th><th>arm’s</th><th>SF-EF</th>'
        "<th>arm / SF-E</th><th>Gap closed</th><th>Pairs</th></tr></thead>"
    )
    return f'<div class="scroll"><table>{head}{"".join(bodies)}</table></div>'


def physical_html(checks: pd.DataFrame) -> str:
    """A ``physical_table`` as HTML; empty text where it has no rows."""
    if checks.empty:
        return ""
    heads = _physical_heads(checks)
    names = "".join(f'<th>{escape(label)}<span class="unit">{escape(unit)}</span></th>' for _, label, unit in heads)
    numbers = zip(*(column_texts(checks[column], "–") for column, _, _ in heads))
    lines = "".join(
        f'<tr><td>{line["n_high"]:,}</td><td class="left">{arm_html(line["arm"])}</td><td>{line["n_low"]:,}</td>'
        f'<td class="left">{escape(plots.level_label(line["level"]))}</td>{"".join(map(_cell, texts))}'
        f"<td>{line['seeds']}</td></tr>"
        for line, texts in zip(checks.to_dict("records"), numbers)
    )
    head = (
        '<thead><tr><th>n<sub>high</sub></th><th class="left">Arm</th><th>n<sub>low</sub></th>'
        f'<th class="left">Level</th>{names}<th>Seeds</th></tr></thead>'
    )
    # Long names may break here: there are eight of them.
    table = f'<table style="white-space:normal">{head}<tbody class="block">{lines}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def card_html(table: pd.DataFrame, case: str, part: str = "test", metric: str = "mae", arm: str = "MF") -> str:
    """A case at a glance: the arm's error over SF-E's, and the gap closed, at the smallest n_high."""
    gaps = gap_table(table, case, part, metric=metric)
    gaps = gaps[gaps["arm"] == arm]
    gaps = gaps[gaps["n_high"] == gaps["n_high"].min()].set_index("quantity")
    cells = []
    for quantity, name in (("energy", "energy"), ("force", "force")):
        big, small = "–", f"{name}: not measured"
        if quantity in gaps.index:
            row = gaps.loc[quantity]
            gap = gap_text(row)
            closed = f"gap closed {gap}" if gap[-1].isdigit() else f"gap closed: {gap}"
            big, small = f"{row['ratio']:.2f} ×", f"SF-E’s {name} {METRIC_LABELS[metric]}<br>{closed}"
        cells.append(f'<div><span class="big">{big}</span><small>{small}</small></div>')
    size = f"n<sub>high</sub> = {gaps['n_high'].min():,}" if len(gaps) else ""
    what = f"{arm}’s error with {size}" if size else f"no {arm} and SF-E of one size and seed here"
    return (
        f'<div class="card"><h3>{escape(case)}</h3><small>{escape(plots.levels_label(table, case))}</small>'
        f'<small>{what}</small><div class="pair">{"".join(cells)}</div></div>'
    )


# The page

_PAGE_STYLE = """
html{background:#fff}
body{margin:0}
main{max-width:1320px;margin:0 auto;padding:28px 32px 56px}
h1{font-size:30px;line-height:1.2;margin:0 0 .3em;letter-spacing:-.01em}
h2{font-size:23px;line-height:1.25;margin:2.2em 0 .2em;padding-top:.9em;border-top:1px solid var(--line)}
h3{font-size:17px;margin:1.6em 0 .2em}
.lead{font-size:17px}
.mfb .facts{max-width:none;color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:8px 36px;margin:1em 0}
.plots>div{min-width:0}
.arms{display:flex;flex-wrap:wrap;gap:4px 26px;margin:.8em 0;padding:0;list-style:none;font-size:15px}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1.4em;font-size:15px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:900px){main{padding:18px 14px 40px}.plots{grid-template-columns:minmax(0,1fr);gap:26px}
 h1{font-size:25px}h2{font-size:20px}.mfb table{font-size:14px}.mfb th,.mfb td{padding:.3em .55em}}
@media print{main{max-width:none;padding:0}.plots,.card{break-inside:avoid}}
"""


def write_html(
    table: pd.DataFrame,
    path: Path,
    provenance: Mapping[str, str],
    system: str = "kcal/mol",
    cases: Mapping[str, tuple[str, str]] | None = None,
) -> None:
    """Write the results as one page that needs nothing else: it opens from disk, without a network.

    Args:
        table: the results table.
        path: where the page goes; it appears whole, by rename.
        provenance: what to say about where the numbers come from (device, date, commit, versions).
        system: unit system shown, ``kcal/mol`` or ``meV``.
        cases: case name -> (title, basis), texts of the case files.

    Raises:
        UserError: the table is empty or the unit system unknown.
    """
    figures: dict[str, Any] = {}

    def place(element: hv.Element) -> str:
        name = f"figure{len(figures)}"
        figures[name] = hv.render(element, backend="bokeh")
        return f"{{{name}}}"

    found = sections(table)
    body = [_section(table, case, settings, system, cases or {}, place) for case, settings in found]
    script, divs = components(figures) if figures else ("", {})
    text = "\n".join(body)
    for name, div in divs.items():
        text = text.replace(f"{{{name}}}", div)
    page = "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<title>Multi-fidelity learning of interatomic potentials: results</title>",
            # Without an icon of its own a browser asks the network for one.
            '<link rel="icon" href="data:,">',
            f"<style>{STYLE}{_PAGE_STYLE}</style>",
            f"<script>{_bokeh_js()}</script>",
            '</head>\n<body class="mfb">\n<main>',
            _opening(table, found),
            text,
            _closing(table, found, provenance, system),
            "</main>",
            script,
            "</body>\n</html>\n",
        ]
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def reference(name: str = "demo") -> Path:
    """The folder of one of ``REFERENCES``: its results table and where it came from.

    Raises:
        UserError: there is none of that name, or it does not ship with this copy of mfbench.
    """
    if name not in REFERENCES:
        raise unknown("reference result", name, REFERENCES)
    folder = resources.references() / name
    if not (folder / METRICS_FILE).is_file():
        raise UserError(
            f"no reference result {name!r} in this copy of mfbench: `mfbench demo` makes results of your own"
        )
    return folder


def reference_table(name: str = "demo") -> pd.DataFrame:
    """One of this project's own results, which ship with the package; see ``reference``."""
    return read_metrics(reference(name) / METRICS_FILE)


def publish(table: pd.DataFrame, path: Path, provenance: Iterable[Path], system: str = "kcal/mol") -> None:
    """``write_html`` with the texts of the case files and what the provenance files of the runs say."""
    texts: dict[str, tuple[str, str]] = {}
    for name in set(table["case"]):
        try:
            texts[name] = (find_case(name).title, find_case(name).basis)
        except UserError:  # a case of somebody's own, whose file is not at hand: its name is all there is
            continue
    write_html(table, path, origin(provenance), system, texts)


def origin(provenance: Iterable[Path]) -> dict[str, str]:
    """Device, date, commit and versions of some runs, from their ``provenance.json``: what differs is listed."""
    found: dict[str, set[str]] = {}
    for file in provenance:
        content = read_json(file)
        versions = content.get("versions", {})
        for key, value in (
            ("device", content.get("device", "")),
            ("date", str(content.get("finished", ""))[:10]),
            ("commit", content.get("commit", "")),
            ("platform", content.get("platform", "")),
            ("threads", str(content.get("threads", ""))),
            ("versions", ", ".join(f"{name} {versions[name]}" for name in sorted(versions))),
        ):
            if value:
                found.setdefault(key, set()).add(value)
    return {key: "; ".join(sorted(values)) for key, values in found.items()}


def _bokeh_js() -> str:
    """BokehJS itself. Not ``bokeh.resources``: once Panel is imported, that adds links to its own server."""
    code = (bokehjs_path() / "js" / "bokeh.min.js").read_text(encoding="utf-8")
    # It would fetch MathJax for a text between dollar signs: nothing here is one, and the page stays offline.
    code = re.sub(r'https://cdn\.[^"\']*', "data:text/javascript,", code)
    return code.replace("</script", "<\\/script")


def _titles(found: Sequence[tuple[str, tuple[str, ...]]]) -> dict[tuple[str, tuple[str, ...]], str]:
    """Section titles: the case alone where that is unique, else with its settings."""
    names = [case for case, _ in found]
    return {(c, s): c if names.count(c) == 1 else f"{c} ({', '.join(s)})" for c, s in found}


def _opening(table: pd.DataFrame, found: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    seeds = table["seed"].nunique()
    spread = (
        "These are results of <strong>one seed</strong>: they say nothing of the spread over seeds."
        if seeds == 1
        else f"Numbers are medians over up to {seeds} seeds."
    )
    variants = ", ".join(sorted(set(table["data"])))
    arms = "".join(
        f"<li>{arm_html(arm)} <span class='soft'>{escape(arm_style(arm).trained_on)}</span></li>"
        for arm in arm_order(table["arm"])
    )
    cards = "".join(card_html(plots.with_settings(table, settings), case) for case, settings in found)
    return (
        "<h1>Low-level forces and high-level energies: are they all you need?</h1>"
        f'<p class="lead">{escape(CLAIM)} {escape(INFERRED)} Data: {escape(variants)}. {spread}</p>'
        f'<ul class="arms">{arms}</ul>'
        f'<div class="cards">{cards}</div>'
    )


def _section(
    table: pd.DataFrame,
    case: str,
    settings: tuple[str, ...],
    system: str,
    cases: Mapping[str, tuple[str, str]],
    place: Callable[[hv.Element], str],
) -> str:
    rows = plots.with_settings(plots.case_rows(table, case), settings)
    title, basis = cases.get(case, ("", ""))
    data, backbone, preset = map(escape, settings)
    own = rows[rows["preset"] != plots.EXTERNAL]  # of other codes' trainings nothing is known
    steps = sorted({int(s) for s in own.loc[own["n"] > 0, "steps"]})
    seconds = own.drop_duplicates("run")["seconds"]
    facts = [
        f"data {data}, network {backbone}, preset {preset}",
        n_low_text(rows),
        seeds_text(rows),
        f"{', '.join(f'{s:,}' for s in steps)} steps" if steps else "",
        f"{seconds.median():.0f} s a training (median)" if seconds.notna().any() else "",
    ]
    text = [
        f"<section><h2>{escape(case)}{': ' + escape(title) if title else ''}</h2>",
        f"<p>{escape(basis)}</p>" if basis else "",
        f'<p class="facts">{"; ".join(fact for fact in facts if fact)}.</p>',
    ]
    for part in parts_of(rows, case):
        panel = "".join(f"<div>{place(curve)}</div>" for curve in plots.case_panel(rows, case, "mae", system, part))
        text += [
            f"<h3>{part.capitalize()} part: {PART_LABELS[part]}</h3>",
            f'<div class="plots">{panel}</div>',
            errors_html(rows, case, part, system),
            spread_html(rows, case, part, system),
        ]
    if checks := physical_html(physical_table(table, case, settings)):
        text += ["<h3>Physical checks: what the models do, beside their errors</h3>", checks]
    return "\n".join([*text, "</section>"])


def _closing(
    table: pd.DataFrame,
    found: Sequence[tuple[str, tuple[str, ...]]],
    provenance: Mapping[str, str],
    system: str,
) -> str:
    gaps = []
    for (case, settings), title in _titles(found).items():
        rows = plots.with_settings(plots.case_rows(table, case), settings)
        for part in parts_of(rows, case):
            gaps.append((title if part == "test" else f"{title}, {part}", gap_table(rows, case, part, system)))
    gap = gaps_html(gaps, system) or '<p class="soft">No arm beside SF-E and SF-EF yet.</p>'
    origin = {"page written": datetime.now().astimezone().isoformat(timespec="seconds"), **provenance}
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in origin.items())
    return (
        f"<section><h2>Gap closed</h2><p>{escape(GAP_CONVENTION)}</p>{gap}</section>"
        f"<section><h2>How the numbers are made</h2><p>{escape(CONVENTION)} n<sub>high</sub> counts every "
        "high-level structure an arm used, validation included; n<sub>low</sub> the low-level structures "
        "trained on. n = 0 says that there was nothing to train on or to compare with.</p></section>"
        f"<section><h2>Provenance</h2><dl>{items}</dl></section>"
    )
