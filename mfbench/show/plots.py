"""Plots of the results table: pure functions, DataFrame -> HoloViews element (bokeh backend).

Report, dashboard and notebooks show these unchanged. Nothing is computed here: ``results.curves`` says what is drawn.
A plot is a few elements, whatever it holds: HoloViews takes some 15 ms an element. Inside a ``hv.DynamicMap`` all of
it is updated in place, axes included. All text is at least ``FONT_PT``, so that it reads from the back of a lecture
room.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.core.properties import value as literal
from bokeh.models.annotations import Legend, LegendItem, Title
from holoviews.plotting import bokeh as _bokeh_backend  # noqa: F401  (loads the backend)

from mfbench.results.curves import AGAINST, Against, Curves, curves
from mfbench.results.rows import HORIZONTAL, NOTHING, base_arm, level_names
from mfbench.results.schema import METRICS, QUANTITIES
from mfbench.results.statistics import FEWEST
from mfbench.results.summary import summary
from mfbench.show.styles import arm_order, arm_style, curve_style
from mfbench.show.words import (
    METRIC_LABELS,
    PART_LABELS,
    level_label,
    levels_label,
    number,
    pretty_unit,
)

FONT_PT = 14

FRAME_HEIGHT = 340  # px; the width is the container's

NOTE_WIDTH = 38  # characters of a note's line: fits beside the y axis on a phone

_MARKER_SIZES = {"star": 20, "square_pin": 15}  # thin shapes look smaller than they are

_GREY = "#8a94a0"  # of axes and grids, legible on white and on black


# What stands where


def series_order(points: pd.DataFrame) -> list[str]:
    """The distinct series, arms in their order everywhere."""
    place = {arm: k for k, arm in enumerate(arm_order(points["arm"]))}
    distinct = points.drop_duplicates("series")[["arm", "rest", "series"]].itertuples(index=False, name=None)
    return [series for _, _, series in sorted((place[arm], rest, series) for arm, rest, series in distinct)]


def missing_arms(found: Curves) -> dict[str, str]:
    """Series without any number (n = 0), with the reason."""
    counts: dict[str, int] = {}
    reasons: dict[str, dict[str, None]] = {}
    for series, n, remark in zip(*(found.points[name].tolist() for name in ("series", "n", "remark"))):
        counts[series] = counts.get(series, 0) + n
        reasons.setdefault(series, {})[remark] = None
    return {series: "; ".join(reasons[series]) for series, n in counts.items() if n == 0}


def nothing_text(quantity: str, part: str, levels: Sequence[str] = ()) -> str:
    """Why there is nothing to plot."""
    where = ", ".join(map(level_label, levels)) or "the high level"
    return f"No {QUANTITIES[quantity].label.lower()} labels at {where} for {PART_LABELS[part]} (n = 0)."


def notes(found: Curves) -> list[str]:
    """What a reader must know to read the curves: what is missing and why, seeds, repeated experiments."""
    if found.runs.empty:
        return [nothing_text(found.quantity, found.part)]
    said = [f"{series} (n = 0): {reason}" for series, reason in missing_arms(found).items()]
    drawn = found.points[(found.points["n"] > 0) & (found.points["n_high"] > 0)]
    if drawn.empty:
        return said
    few, many = drawn["seeds"].min(), drawn["seeds"].max()
    if many > 1:
        said.append(f"Line: geometric mean of {few if few == many else f'{few}–{many}'} seeds; points: single seeds.")
        bars = [f"95 % interval, from {FEWEST} seeds on"] if drawn["low"].notna().any() else []
        bars += ["range of the seeds"] if (drawn["low"].isna() & (drawn["seeds"] > 1)).any() else []
        said.append(f"Bar: {'; else '.join(bars)}.")
    else:
        said.append("One seed, so no spread is shown.")
    if (drawn["runs"] > drawn["seeds"]).any():
        said.append("Some runs of one seed differ in settings not shown here.")
    if found.against == "label_seconds" and (unknown_cost := sorted(set(drawn.loc[drawn["x"].isna(), "series"]))):
        said.append(f"Not shown, for their label cost is not known: {', '.join(unknown_cost)}.")
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


_LINE = ["x", "value", "x_end", "end", "series", "color", "width", "dash", "alpha"]

_MARK = ["x", "value", "color", "marker", "size", "alpha", "fill", "series", "n_low", "shown", "range", "told", "n"]

_Row = dict[str, Any]

# Two that are nowhere and look unlike: a column of equal values HoloViews makes a constant of, and where that comes and
# goes in a live plot, bokeh looks for the column in vain.
_UNLIKE: list[_Row] = [
    dict.fromkeys(("x", "value", "x_end", "end"), math.nan)
    | {"series": "", "color": color, "width": size, "dash": dash, "alpha": alpha, "fill": alpha}
    | {"marker": marker, "size": size, "n_low": 0, "shown": "", "range": "", "told": "", "n": 0}
    for color, size, dash, alpha, marker in (("#000000", 1, "solid", 0.0, "dot"), ("#ffffff", 2, "dashed", 0.5, "dash"))
]


def draw(found: Curves, frame_height: int = FRAME_HEIGHT) -> hv.Overlay:
    """Learning curves, without title and legend: always the same elements, empty where there is nothing of the kind.

    An arm's points are the means over seeds, and a line joins them; small points are single runs; a bar is the interval
    or, of few seeds, their range. Arms without a size of their own are dashed lines from side to side.
    """
    quantity = QUANTITIES[found.quantity]
    x = hv.Dimension("x", label=AGAINST[found.against], unit=found.against_unit or None)
    y_label = f"{quantity.label} {METRIC_LABELS.get(found.metric, found.metric)}"
    y_label += f" / {found.over}’s" if found.over else ""
    y = hv.Dimension("value", label=y_label, unit=pretty_unit(found.unit) or None)
    points, runs = _styled(found.points, found), _styled(found.runs, found)
    held = [point for point in points if point["n"] > 0]
    flat = [point for point in held if _is_flat(point["arm"]) or point["arm"] == found.over]
    drawn = [point for point in held if not math.isnan(point["x"])]
    bars = [_bar(point) for point in drawn if point["seeds"] > 1]
    seeds = [_seed(run) for run in runs if (run["series"], run["n_high"], run["n_low"]) in _repeated(drawn)]
    sizes = sorted({point["x"] for point in drawn}) or [1.0]
    ends = [end for bar in bars for end in (bar["value"], bar["end"])]
    xlim = _limits(sizes, 0.15)
    shown = [one["value"] for one in (*held, *seeds)] + ends or [1.0]
    ylim = _limits(shown, 0.08) if found.logarithmic else _linear_limits(shown, 0.08)
    xticks = spread(sizes, math.log(xlim[1] / xlim[0])) if found.against == "n_high" else log_ticks(*xlim)
    lines = [*(_across(point, xlim) for point in flat), *bars, *_pieces(drawn)]
    # Unseen points along dashed lines, for these to tell their number, too.
    along = [point | {"x": x, "alpha": 0.0, "fill": 0.0} for point in flat for x in np.geomspace(*xlim, 9)]
    # Not drawn, being nowhere: for a legend to show of series without a number.
    nowhere = [point | {"fill": 0.0} for point in points if point["n"] == 0]
    marks = [*along, *seeds, *drawn, *nowhere]
    segments = hv.Segments(_columns([*lines, *_UNLIKE], _LINE), [x, y, "x_end", "end"], _LINE[4:])
    scatter = hv.Scatter(_columns([*marks, *_UNLIKE], _MARK), x, [y, *_MARK[2:]])
    # No tool takes the wheel: over the plot it scrolls the page. Ranges follow what is drawn.
    common: dict[str, Any] = {"backend": "bokeh", "color": "color", "framewise": True}
    segments = segments.opts(line_width="width", line_dash="dash", alpha="alpha", default_tools=[], **common)
    scatter = scatter.opts(
        marker="marker",
        size="size",
        line_alpha="alpha",
        fill_alpha="fill",
        line_width=2,
        default_tools=["box_zoom", "reset", "save"],
        tools=["hover"],
        hover_tooltips=_hover(x, y),
        **common,
    )
    return hv.Overlay([segments, scatter]).opts(
        backend="bokeh",
        logx=True,
        logy=found.logarithmic,
        xlim=xlim,
        ylim=ylim,
        xticks=[(tick, _plain(tick)) for tick in xticks] if drawn else [(1, "")],
        yticks=[(tick, _plain(tick)) for tick in log_ticks(*ylim)] if found.logarithmic else 5,
        responsive=True,
        frame_height=frame_height,
        active_tools=[],  # a finger's drag scrolls the page, too
        toolbar="right",
        show_grid=True,
        gridstyle={"grid_line_color": _GREY, "grid_line_alpha": 0.3, "grid_line_width": 1},
        show_legend=False,
        fontsize={"labels": f"{FONT_PT}pt", "ticks": f"{FONT_PT}pt"},
        hooks=[dress],
    )


def _is_flat(arm: str) -> bool:
    return base_arm(arm) in HORIZONTAL


def _styled(table: pd.DataFrame, found: Curves) -> list[_Row]:
    """The rows, with how each is drawn and what it tells."""
    rests = {rest: curve_style(k) for k, rest in enumerate(sorted(found.points["rest"].unique()))}
    rows: list[_Row] = table.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        style, (dash, filled) = arm_style(row["arm"]), rests[row["rest"]]
        size = _MARKER_SIZES.get(style.marker, 12)
        row |= {"color": style.color, "marker": style.marker, "size": size, "dash": dash, "width": 3.0}
        row |= {"alpha": 1.0, "fill": float(filled), "shown": number(row["value"])}
        row |= {"range": _range_text(row), "told": str(row["seeds"])} if "seeds" in row else {}
    return rows


def _range_text(point: _Row) -> str:
    if point["seeds"] < 2:
        return "–"
    low, high, what = ("least", "most", "range") if math.isnan(point["low"]) else ("low", "high", "95 %")
    return f"{number(point[low])} to {number(point[high])} ({what})"


def _columns(rows: Sequence[_Row], names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}


def _bar(point: _Row) -> _Row:
    """The interval; or the range where there is none, which is thinner."""
    low, high, width = ("least", "most", 2.0) if math.isnan(point["low"]) else ("low", "high", 4.0)
    ends = {"value": point[low], "x_end": point["x"], "end": point[high]}
    return point | ends | {"width": width, "dash": "solid", "alpha": 0.45}


def _across(point: _Row, xlim: tuple[float, float]) -> _Row:
    dash = "dotted" if point["arm"] == NOTHING else "dashed"
    return point | {"x": xlim[0], "x_end": xlim[1], "end": point["value"], "dash": dash}


def _pieces(points: Sequence[_Row]) -> list[_Row]:
    """Each point of a curve, joined to the next."""
    rows = sorted((p for p in points if not _is_flat(p["arm"])), key=lambda p: (p["series"], p["n_low"], p["x"]))
    return [
        one | {"x_end": other["x"], "end": other["value"]}
        for one, other in pairwise(rows)
        if (one["series"], one["n_low"]) == (other["series"], other["n_low"])
    ]


def _repeated(points: Sequence[_Row]) -> set[tuple[str, int, int]]:
    return {(point["series"], point["n_high"], point["n_low"]) for point in points if point["runs"] > 1}


def _seed(run: _Row) -> _Row:
    look = {"marker": "circle", "size": 6, "alpha": 0.0, "fill": 0.45}
    return run | look | {"range": "this seed alone", "told": f"{run['seed']} (split {run['split_seed']})"}


def _hover(x: hv.Dimension, y: hv.Dimension) -> list[tuple[str, str]]:
    """What a point says; names in braces, as HoloViews would otherwise take the @n of @n_low for the column n."""
    return [
        ("Arm", "@{series}"),
        (x.pprint_label, "@{x}{0,0.[0]}"),
        ("Low-level structures", "@{n_low}{0,0}"),
        (y.pprint_label, "@{shown}"),
        ("Over seeds", "@{range}"),
        ("Seeds", "@{told}"),
        ("n averaged over", "@{n}{0,0}"),
    ]


def dress(plot: Any, element: Any) -> None:
    """A hook that gives the bokeh figure what HoloViews has no option for."""
    figure = plot.state
    for axis in figure.axis:
        axis.update(
            axis_label_text_font_style="normal",
            axis_line_color=_GREY,
            major_tick_line_color=_GREY,
            minor_tick_line_color=None,
        )
    # WebGL gains nothing for so few points, and a page may hold only some sixteen of its contexts.
    figure.update(output_backend="canvas", border_fill_color=None, outline_line_color=None)
    figure.toolbar.update(autohide=True, logo=None)


# Figures that stand alone, as in a notebook


def learning_curve(
    table: pd.DataFrame,
    case: str,
    quantity: str,
    metric: str = "mae",
    system: str = "kcal/mol",
    part: str = "test",
    against: Against = "n_high",
) -> hv.Overlay | hv.Text:
    """Error at the high level against the number of high-level structures or what labels cost, both axes logarithmic.

    (The error's is linear for a metric of one's own that is not positive throughout.) With title, legend and notes:
    arms without a number (n = 0) stand in the legend and are explained below the plot.

    Args:
        table: a results table with one (data, backbone, preset) in the case's rows.
        case, quantity, metric, system, part, against: see ``results.curves``.

    Returns:
        An overlay of labelled elements; where the part has no such label at all, a ``Text`` saying so.

    Raises:
        UserError: the table is empty, a name is unknown, or the rows mix setups.
    """
    found = curves(table, case, quantity, metric, system, part, against)
    title = case if part == "test" else f"{case}, {part} molecules"
    headings = [title, levels_label(table, case)]
    if found.runs.empty:
        return _message(nothing_text(quantity, part, level_names(table, case)[1]), headings)
    if metric in METRICS:
        found = curves(table, case, quantity, metric, system, part, against, (), summary(table, case, part, metric))
    return draw(found).opts(backend="bokeh", hooks=[dress, _explained(headings, found)])


def case_panel(
    table: pd.DataFrame,
    case: str,
    metric: str = "mae",
    system: str = "kcal/mol",
    part: str = "test",
    energy: str = "energy",
) -> hv.Layout:
    """The learning curves of one case side by side: an energy (any energy of QUANTITIES) and the forces."""
    figures = [learning_curve(table, case, quantity, metric, system, part) for quantity in (energy, "force")]
    return hv.Layout(figures).cols(2).opts(backend="bokeh", shared_axes=False, merge_tools=False)


def _message(text: str, headings: Sequence[str]) -> hv.Text:
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
        hooks=[dress, _explained(headings, None)],
    )


def _explained(headings: Sequence[str], found: Curves | None) -> Any:
    """A hook that gives the bokeh figure headings and, of curves, a legend above the frame and notes below it."""

    def hook(plot: Any, element: Any) -> None:
        figure = plot.state
        # HoloViews runs hooks again on every update of a live plot.
        for place in ("above", "below"):
            setattr(figure, place, [item for item in getattr(figure, place) if "mfbench" not in item.tags])
        # What is added above goes outermost: legend next to the frame, then subtitle, then title.
        if found is not None:
            figure.add_layout(_legend(plot, found), "above")
            lines = [line for note in notes(found) for line in textwrap.wrap(note, NOTE_WIDTH)]
            figure.add_layout(_text("\n".join(lines), text_line_height=1.25), "below")
        title, *more = headings
        for text in more:
            figure.add_layout(_text(text), "above")
        figure.title.update(text=title, text_font_size=f"{FONT_PT + 1}pt", text_font_style="bold")

    return hook


def _text(text: str, **style: Any) -> Title:
    return Title(text=text, text_font_style="normal", text_font_size=f"{FONT_PT}pt", tags=["mfbench"], **style)


def _legend(plot: Any, found: Curves) -> Legend:
    """A legend: an item a series, drawn as its first point or as its dashed line."""
    places: dict[str, tuple[Any, int]] = {}
    for subplot in reversed(plot.subplots.values()):  # markers before lines
        rows = subplot.current_frame.dframe()
        for k, (series, alpha) in enumerate(zip(rows["series"], rows["alpha"])):
            if alpha == 1:
                places.setdefault(series, (subplot.handles["glyph_renderer"], k))
    missing = missing_arms(found)
    items = [
        LegendItem(label=literal(f"{name} (n = 0)" if name in missing else name), renderers=[renderer], index=index)
        for name in series_order(found.points)
        for renderer, index in (places[name],)
    ]
    legend = Legend(
        orientation="horizontal",
        ncols=3 if len(items) > 4 else 2,
        location="left",
        label_text_font_size=f"{FONT_PT}pt",
        border_line_alpha=0,
        background_fill_alpha=0,
        glyph_width=34,
        spacing=12,
        margin=4,
        tags=["mfbench"],
    )
    legend.update(items=items, padding=2)
    return legend
