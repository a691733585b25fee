"""Plots of the results table: pure functions, DataFrame -> HoloViews element (bokeh backend).

Report, dashboard and notebooks show these unchanged. Nothing is computed here beyond choosing rows, the
mean over seeds and the unit shown. All text is at least ``FONT_PT``, so that a plot reads from the back
of a lecture room.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.models.annotations import Legend, Title
from holoviews.plotting import bokeh as _bokeh_backend  # noqa: F401  (loads the backend)

from mfbench.errors import unknown
from mfbench.results.rows import HORIZONTAL, base_arm, curve_rows, level_names
from mfbench.results.schema import QUANTITIES, UNIT_SYSTEMS, shown
from mfbench.results.statistics import over_seeds
from mfbench.show.styles import FAINT, INK, arm_order, arm_style
from mfbench.show.words import (
    METRIC_LABELS,
    PART_LABELS,
    counts,
    integers,
    level_label,
    levels_label,
    number,
    pretty_unit,
)

FONT_PT = 14

FRAME_HEIGHT = 340  # px; the width is the container's

NOTE_WIDTH = 38  # characters of a note's line: fits beside the y axis on a phone

_MARKER_SIZES = {"star": 20, "square_pin": 15}  # thin shapes look smaller than they are


def middles(rows: pd.DataFrame) -> pd.DataFrame:
    """The geometric mean over seeds (of the split and of the run), with their range, per arm and sizes.

    Rows with n = 0 carry no number and are left out.

    Returns:
        Columns arm, n_low, n_high, value, lowest, highest, n (text), seeds (text), runs (count).
    """
    keys = ["arm", "n_low", "n_high"]
    found = rows[rows["n"] > 0].groupby(keys, sort=True)
    columns = {
        "value": found["value"].agg(over_seeds),
        "lowest": found["value"].min(),
        "highest": found["value"].max(),
        "n": found["n"].agg(counts),
        "seeds": found["seed"].agg(integers),
        "runs": found["run"].nunique(),
    }
    return pd.DataFrame(columns).reset_index()


def missing_arms(rows: pd.DataFrame) -> dict[str, str]:
    """Arms none of whose rows has a number (n = 0), with the reason the rows give."""
    missing = {}
    for arm in arm_order(rows["arm"]):
        of_arm = rows[rows["arm"] == arm]
        if (of_arm["n"] == 0).all():
            remarks = [remark for remark in dict.fromkeys(of_arm["remark"]) if remark]
            missing[arm] = "; ".join(remarks) or "no labels"
    return missing


def notes(rows: pd.DataFrame) -> list[str]:
    """What a reader must know to read the curves: missing arms, sizes, seeds, repeated experiments."""
    said = [f"{arm} (n = 0): {reason}" for arm, reason in missing_arms(rows).items()]
    curves = rows[(rows["n"] > 0) & (rows["n_high"] > 0)]
    if curves.empty:
        return said
    runs = curves.groupby(["arm", "n_high"])["run"].nunique()
    if runs.max() > 1:
        few, many = runs.min(), runs.max()
        said.append(f"Line: geometric mean of {few if few == many else f'{few}–{many}'} seeds.")
    else:
        said.append("One seed, so no spread is shown.")
    repeats = curves.groupby(["arm", "n_high", "split_seed", "seed"])["run"].nunique()
    if repeats.max() > 1:
        said.append("Some runs of one seed differ in settings not shown here.")
    return said


# Axes


def log_ticks(low: float, high: float, at_least: int = 3) -> list[float]:
    """Round numbers between two positive bounds: 1, 2, 5 a decade, or finer ones where these are few."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in (
        (1,),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    ):
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= at_least:
            break
    return ticks


def spread(sizes: Iterable[int], span: float, least: float = 0.09) -> list[int]:
    """The sizes that can be labelled without touching: the largest, then down, some 9 % of the axis apart."""
    kept: list[int] = []
    for size in sorted(set(sizes), reverse=True):
        if not kept or math.log(kept[-1] / size) >= least * span:
            kept.append(size)
    return kept[::-1]


def _limits(values: Sequence[float], pad: float) -> tuple[float, float]:
    """Bounds of a log axis: the values and ``pad`` of their span, at least a factor 1.5, on either side."""
    low, high = min(values), max(values)
    factor = max((high / low) ** pad, 1.15 if high / low > 1.5 else 1.5)
    return low / factor, high * factor


def _linear_limits(values: Sequence[float], pad: float) -> tuple[float, float]:
    """Bounds of a linear axis: the values and ``pad`` of their span on either side."""
    low, high = min(values), max(values)
    margin = pad * (high - low) or 1.0
    return low - margin, high + margin


def _plain(value: float) -> str:
    return f"{value:,.10f}".rstrip("0").rstrip(".")


# Elements


def _dress(title: str, subtitle: str, footnotes: Sequence[str]) -> Any:
    """A hook that gives the bokeh figure its title lines, its footnotes and a legend above the frame."""

    def hook(plot: Any, element: Any) -> None:
        figure = plot.state
        # HoloViews runs hooks again on every update of a live plot.
        for place in ("above", "below"):
            kept = [item for item in getattr(figure, place) if not (isinstance(item, Title) and "mfbench" in item.tags)]
            setattr(figure, place, kept)
        figure.title.update(text=title, text_font_size=f"{FONT_PT + 1}pt", text_font_style="bold", text_color=INK)
        legends = list(figure.select({"type": Legend}))
        for legend in legends:
            legend.update(
                orientation="horizontal",
                ncols=3 if len(legend.items) > 4 else 2,
                location="left",
                label_text_font_size=f"{FONT_PT}pt",
                label_text_color=INK,
                border_line_alpha=0,
                background_fill_alpha=0,
                glyph_width=34,
                spacing=12,
                padding=2,
                margin=4,
            )
        style: dict[str, Any] = {
            "text_font_style": "normal",
            "text_font_size": f"{FONT_PT}pt",
            "tags": ["mfbench"],
        }
        # What is added above goes outermost: legend next to the frame, then subtitle, then title.
        figure.above = [*legends, *[a for a in figure.above if a not in legends]]
        if subtitle:
            figure.add_layout(Title(text=subtitle, text_color=INK, **style), "above")
        lines = [line for note in footnotes for line in textwrap.wrap(note, NOTE_WIDTH)]
        if lines:
            figure.add_layout(
                Title(text="\n".join(lines), text_color="#52606d", text_line_height=1.25, **style), "below"
            )
        for axis in figure.axis:
            axis.update(
                axis_label_text_font_style="normal",
                axis_label_text_color=INK,
                major_label_text_color=INK,
                axis_line_color="#9aa5b1",
                major_tick_line_color="#9aa5b1",
                minor_tick_line_color=None,
            )
        # WebGL gains nothing for so few points, and a page may hold only some sixteen of its contexts.
        figure.update(output_backend="canvas", border_fill_color=None, outline_line_color=None, toolbar_location=None)

    return hook


def _message(text: str, title: str, subtitle: str) -> hv.Text:
    """An element that says why there is nothing to plot."""
    words = "\n".join(textwrap.wrap(text.replace("n = 0", "n\u00a0=\u00a00"), 34))
    return hv.Text(0.5, 0.5, words).opts(
        backend="bokeh",
        xlim=(0, 1),
        ylim=(0, 1),
        xaxis=None,
        yaxis=None,
        responsive=True,
        frame_height=FRAME_HEIGHT,
        default_tools=[],
        text_font_size=f"{FONT_PT}pt",
        text_color=INK,
        hooks=[_dress(title, subtitle, [])],
    )


def learning_curve(
    table: pd.DataFrame,
    case: str,
    quantity: str,
    metric: str = "mae",
    system: str = "kcal/mol",
    part: str = "test",
) -> hv.Overlay | hv.Text:
    """Error at the high level against the number of high-level structures, both axes logarithmic.

    (The error's is linear for a metric of one's own that is not positive throughout.)

    A line joins an arm's geometric means over seeds; where an arm has several runs of a size, each is a small
    point. SF-low and the oracle, of one size each, are dashed horizontal lines. Arms without a number
    (n = 0) stand in the legend and are explained below the plot.

    Args:
        table: a results table with one (data, backbone, preset) in the case's rows.
        case: its name in the table.
        quantity: a key of ``results.QUANTITIES``.
        metric: ``mae``, ``rmse`` or one of one's own that the table holds.
        system: unit system shown, ``kcal/mol`` or ``meV``.
        part: ``test`` or ``unseen``.

    Returns:
        An overlay of labelled elements; where the part has no such label at all, a ``Text`` saying so.

    Raises:
        UserError: the table is empty, a name is unknown, or the rows mix setups.
    """
    if system not in UNIT_SYSTEMS:
        raise unknown("unit system", system, UNIT_SYSTEMS)
    rows = shown(curve_rows(table, case, quantity, metric, part), system)
    rows = rows.assign(n_high=rows["n_high"].where(~rows["arm"].map(base_arm).isin(HORIZONTAL), 0))
    name = f"{QUANTITIES[quantity].label} {METRIC_LABELS.get(metric, metric)}"
    unit = pretty_unit(rows["unit"].iloc[0] if len(rows) else QUANTITIES[quantity].shown[system])
    title = case if part == "test" else f"{case}, {part} molecules"
    subtitle = levels_label(table, case)
    held = rows[rows["n"] > 0]
    if held.empty:
        _, high = level_names(table, case)
        where = ", ".join(map(level_label, high)) or "the high level"
        reason = f"No {QUANTITIES[quantity].label.lower()} labels at {where} for {PART_LABELS[part]} (n = 0)."
        return _message(reason, title, subtitle)

    sizes = sorted({int(n) for n in held["n_high"] if n > 0}) or [1]
    xlim = _limits(sizes, 0.15)
    logarithmic = bool((held["value"] > 0).all())  # always so but for people's own metrics
    ylim = _limits(held["value"].tolist(), 0.08) if logarithmic else _linear_limits(held["value"].tolist(), 0.08)
    xticks = [(n, f"{n:,}") for n in spread(sizes, math.log(xlim[1] / xlim[0]))]
    x = hv.Dimension("n_high", label="High-level structures")
    y = hv.Dimension("value", label=name, unit=unit)
    middle, missing = middles(rows), missing_arms(rows)
    elements: list[hv.Element] = []
    for arm in arm_order(rows["arm"]):
        elements += _arm_elements(arm, middle, held, missing, x, y, xlim)
    return hv.Overlay(elements).opts(
        backend="bokeh",
        logx=True,
        logy=logarithmic,
        legend_limit=1000,  # glyphs; beyond 25 HoloViews would leave the legend out
        xlim=xlim,
        ylim=ylim,
        xticks=xticks if held["n_high"].max() > 0 else [(1, "")],
        yticks=[(tick, _plain(tick)) for tick in log_ticks(*ylim)] if logarithmic else 5,
        responsive=True,
        frame_height=FRAME_HEIGHT,
        default_tools=[],  # a wheel over the plot scrolls the page
        show_grid=True,
        gridstyle={"grid_line_color": FAINT, "grid_line_width": 1},
        show_legend=True,
        legend_position="top",
        fontsize={"labels": f"{FONT_PT}pt", "ticks": f"{FONT_PT}pt", "legend": f"{FONT_PT}pt"},
        hooks=[_dress(title, subtitle, notes(rows))],
    )


def _arm_elements(
    arm: str,
    middle: pd.DataFrame,
    held: pd.DataFrame,
    missing: dict[str, str],
    x: hv.Dimension,
    y: hv.Dimension,
    xlim: tuple[float, float],
) -> list[hv.Element]:
    """What one arm adds: line, markers and single runs; a dashed line without n_high; nothing but a name."""
    style = arm_style(arm)
    if arm in missing:
        # One point that is nowhere: with none at all, bokeh would draw no marker in the legend.
        nothing = hv.Scatter([(np.nan, np.nan)], x, y, label=f"{arm} (n = 0)")
        return [
            nothing.opts(backend="bokeh", color=style.color, marker=style.marker, size=11, line_width=2, fill_alpha=0)
        ]
    line = middle[middle["arm"] == arm]
    line = line.assign(shown=[number(v) for v in line["value"]], arm=arm)
    line = line.assign(
        range=[
            f"{number(a)} to {number(b)}" if n > 1 else "–"
            for a, b, n in zip(line["lowest"], line["highest"], line["runs"])
        ]
    )
    extra = ["arm", "n_low", "n", "seeds", "shown", "range"]
    # In braces: HoloViews would otherwise take the @n of @n_high for the column n.
    hover = [
        ("Arm", "@{arm}"),
        ("High-level structures", "@{n_high}{0,0}"),
        ("Low-level structures", "@{n_low}{0,0}"),
        (f"{y.label} ({y.unit})", "@{shown}"),
        ("Over seeds", "@{range}"),
        ("Seeds", "@{seeds}"),
        ("n averaged over", "@{n}"),
    ]
    if (line["n_high"] == 0).all():
        ends = pd.concat([line.assign(n_high=end) for end in xlim])
        dashed = hv.Curve(ends, x, [y, *extra], label=arm)
        hover = [entry for entry in hover if entry[0] != "High-level structures"]
        return [
            dashed.opts(
                backend="bokeh",
                color=style.color,
                line_width=3,
                line_dash="dashed",
                tools=["hover"],
                hover_tooltips=hover,
            )
        ]
    line = line[line["n_high"] > 0]
    curve = hv.Curve(line, x, [y, *extra], label=arm).opts(backend="bokeh", color=style.color, line_width=3)
    marks = hv.Scatter(line, x, [y, *extra], label=arm).opts(
        backend="bokeh",
        color=style.color,
        marker=style.marker,
        size=_MARKER_SIZES.get(style.marker, 12),
        line_color="white",
        tools=["hover"],
        hover_tooltips=hover,
    )
    if line["runs"].max() < 2:
        return [curve, marks]
    several = held[(held["arm"] == arm) & (held["n_high"] > 0)]
    single = hv.Scatter(several, x, [y, "seed", "split_seed", "n"]).opts(
        backend="bokeh", color=style.color, size=6, alpha=0.45, line_color=None, show_legend=False
    )
    return [single, curve, marks]


def case_panel(
    table: pd.DataFrame,
    case: str,
    metric: str = "mae",
    system: str = "kcal/mol",
    part: str = "test",
    energy: str = "energy",
) -> hv.Layout:
    """The learning curves of one case side by side: an energy (any energy of QUANTITIES) and the forces."""
    curves = [learning_curve(table, case, quantity, metric, system, part) for quantity in (energy, "force")]
    return hv.Layout(curves).cols(2).opts(backend="bokeh", shared_axes=False, toolbar=None)
