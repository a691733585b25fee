"""Plots of the results table: pure functions, DataFrame -> HoloViews element (bokeh backend).

Report, dashboard and notebooks show these unchanged. Nothing is computed here: ``results.curves`` says what is drawn.
A plot is a few elements, whatever it holds: HoloViews takes some 15 ms an element. Inside a ``hv.DynamicMap`` all of
it is updated in place, axes included. All text is at least ``FONT_PT``, so that it reads from the back of a lecture
room.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.core.properties import value as literal
from bokeh.models.annotations import Legend, LegendItem, Title
from holoviews.plotting import bokeh as _bokeh_backend  # noqa: F401  (loads the backend)

from mfbench.results.curves import AGAINST, Against, Curves, curves
from mfbench.results.rows import level_names
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


def notes(found: Curves) -> list[str]:
    """What a reader must know to read the curves: what is missing and why, seeds, repeated experiments."""
    missing = found.points.groupby("series").filter(lambda alike: (alike["n"] == 0).all())
    said = [f"{name} (n = 0): {'; '.join(rows['remark'].unique())}" for name, rows in missing.groupby("series")]
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


def draw(found: Curves, frame_height: int = FRAME_HEIGHT) -> hv.Overlay:
    """Learning curves, without title and legend: always the same elements, empty where there is nothing of the kind.

    An arm's points are the means over seeds, and a line joins them; small points are single runs; a bar is the interval
    or, of few seeds, their range. Arms without a size of their own are dashed lines from side to side.
    """
    quantity = QUANTITIES[found.quantity]
    x = hv.Dimension("x", label=AGAINST[found.against], unit=found.against_unit or None)
    y_label = f"{quantity.label} {METRIC_LABELS.get(found.metric, found.metric)}"
    y = hv.Dimension("value", label=y_label, unit=pretty_unit(found.unit))
    points, runs = _styled(found.points, found), _styled(found.runs, found)
    held = points[points["n"] > 0]
    drawn = held[held["x"].notna()]
    flat = held[held["x"].isna()] if found.against == "n_high" else held[held["n_high"] == 0]
    several = runs[runs.groupby(["series", "n_high", "n_low"])["run"].transform("nunique") > 1].dropna(subset=["x"])
    sizes = sorted(set(drawn["x"])) or [1.0]
    shown = [*held["value"], *several["value"], *_bars(drawn)["low"], *_bars(drawn)["high"]] or [1.0]
    xlim = _limits(sizes, 0.15)
    ylim = _limits(shown, 0.08) if found.logarithmic else _linear_limits(shown, 0.08)
    xticks = spread(sizes, math.log(xlim[1] / xlim[0])) if found.against == "n_high" else log_ticks(*xlim)
    elements = [_flat(flat, x, y, xlim), _bar(drawn, x, y), _lines(drawn, x, y), _seeds(several, x, y)]
    return hv.Overlay([*elements, _marks(points, found, x, y)]).opts(
        backend="bokeh",
        logx=True,
        logy=found.logarithmic,
        xlim=xlim,
        ylim=ylim,
        xticks=[(tick, _plain(tick)) for tick in xticks] if len(drawn) else [(1, "")],
        yticks=[(tick, _plain(tick)) for tick in log_ticks(*ylim)] if found.logarithmic else 5,
        responsive=True,
        frame_height=frame_height,
        default_tools=["box_zoom", "reset", "save"],  # no wheel: over the plot it scrolls the page
        active_tools=[],  # nor does a finger's drag zoom
        toolbar="right",
        show_grid=True,
        gridstyle={"grid_line_color": _GREY, "grid_line_alpha": 0.3, "grid_line_width": 1},
        show_legend=False,
        fontsize={"labels": f"{FONT_PT}pt", "ticks": f"{FONT_PT}pt"},
        hooks=[_dress],
    )


def _styled(rows: pd.DataFrame, found: Curves) -> pd.DataFrame:
    """The rows, with how each is drawn."""
    arms = {arm: arm_style(arm) for arm in found.points["arm"].unique()}
    rests = {rest: curve_style(k) for k, rest in enumerate(sorted(found.points["rest"].unique()))}
    markers = rows["arm"].map({arm: style.marker for arm, style in arms.items()})
    return rows.assign(
        color=rows["arm"].map({arm: style.color for arm, style in arms.items()}),
        marker=markers,
        size=markers.map(lambda name: _MARKER_SIZES.get(name, 12)),
        dash=rows["rest"].map({rest: dash for rest, (dash, _) in rests.items()}),
        fill=rows["rest"].map({rest: float(filled) for rest, (_, filled) in rests.items()}),
    )


def _bars(points: pd.DataFrame) -> pd.DataFrame:
    """The points with an interval, else with a range, as ``low`` and ``high``."""
    known = points["low"].notna()
    bars = points.assign(
        low=points["low"].where(known, points["least"]), high=points["high"].where(known, points["most"])
    )
    return bars.assign(width=np.where(known, 4.0, 2.0))[known | (points["seeds"] > 1)]


def _flat(rows: pd.DataFrame, x: hv.Dimension, y: hv.Dimension, xlim: tuple[float, float]) -> hv.Contours:
    told = ["series", "color", "shown", "range", "seeds", "n"]
    lines = [
        {x.name: list(xlim), y.name: [row["value"]] * 2, **{name: row[name] for name in told}}
        for row in _told(rows).to_dict("records")
    ]
    element = hv.Contours(lines, [x, y], told, label="Flat")
    hover = _hover(y, told)
    return element.opts(
        backend="bokeh", color="color", line_width=3, line_dash="dashed", tools=["hover"], hover_tooltips=hover
    )


def _bar(points: pd.DataFrame, x: hv.Dimension, y: hv.Dimension) -> hv.Segments:
    bars = _bars(points)
    ends = pd.DataFrame({"x": bars["x"], "low": bars["low"], "end": bars["x"], "high": bars["high"]})
    ends = ends.assign(color=bars["color"], width=bars["width"])
    element = hv.Segments(ends, [x, "low", "end", "high"], ["color", "width"], label="Spread")
    return element.opts(backend="bokeh", color="color", line_width="width", alpha=0.45)


def _lines(points: pd.DataFrame, x: hv.Dimension, y: hv.Dimension) -> hv.Contours:
    lines = []
    for _, rows in points[points["n_high"] > 0].groupby(["series", "n_low"]):
        rows = rows.sort_values("x")
        first = rows.iloc[0]
        lines.append({x.name: rows["x"], y.name: rows["value"], "color": first["color"], "dash": first["dash"]})
    element = hv.Contours(lines, [x, y], ["color", "dash"], label="Lines")
    return element.opts(backend="bokeh", color="color", line_dash="dash", line_width=3)


def _seeds(runs: pd.DataFrame, x: hv.Dimension, y: hv.Dimension) -> hv.Scatter:
    rows = runs.assign(shown=[number(one) for one in runs["value"]])
    told = ["series", "shown", "seed", "split_seed", "n"]
    element = hv.Scatter(rows, x, [y, "color", *told], label="Seeds")
    return element.opts(
        backend="bokeh",
        color="color",
        size=6,
        alpha=0.45,
        line_color=None,
        tools=["hover"],
        hover_tooltips=_hover(y, told, x),
    )


def _marks(points: pd.DataFrame, found: Curves, x: hv.Dimension, y: hv.Dimension) -> hv.Scatter:
    """One marker a size; of a series without a number one that is nowhere, so that a legend can show it."""
    flat = points["x"].isna() & (points["n"] > 0)
    rows = _told(points[~flat])
    told = ["series", "n_low", "shown", "range", "seeds", "n"]
    element = hv.Scatter(rows, x, [y, "color", "marker", "size", "fill", *told], label="Marks")
    return element.opts(
        backend="bokeh",
        color="color",
        marker="marker",
        size="size",
        fill_alpha="fill",
        line_width=2,
        tools=["hover"],
        hover_tooltips=_hover(y, told, x),
    )


def _told(points: pd.DataFrame) -> pd.DataFrame:
    """The points with what is read beside them, as text."""
    known = points["low"].notna()
    bounds = zip(points["low"].where(known, points["least"]), points["high"].where(known, points["most"]))
    return points.assign(
        shown=[number(one) for one in points["value"]],
        range=[
            "–" if seeds < 2 else f"{number(low)} to {number(high)}{' (95 %)' if interval else ' (range)'}"
            for (low, high), seeds, interval in zip(bounds, points["seeds"], known)
        ],
    )


def _hover(y: hv.Dimension, told: Sequence[str], x: hv.Dimension | None = None) -> list[tuple[str, str]]:
    """What a point says: its column names in braces, as HoloViews would otherwise take the @n of @n_high for n."""
    texts = {
        "series": ("Arm", "@{series}"),
        "n_low": ("Low-level structures", "@{n_low}{0,0}"),
        "shown": (y.pprint_label, "@{shown}"),
        "range": ("Over seeds", "@{range}"),
        "seeds": ("Seeds", "@{seeds}"),
        "seed": ("Seed", "@{seed}"),
        "split_seed": ("Seed of the split", "@{split_seed}"),
        "n": ("n averaged over", "@{n}{0,0}"),
    }
    across = [] if x is None else [(x.pprint_label, "@{x}{0,0.[0]}")]
    lines = [texts[name] for name in told if name in texts]
    return [*lines[:1], *across, *lines[1:]]


def _dress(plot: Any, element: Any) -> None:
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
        _, high = level_names(table, case)
        where = ", ".join(map(level_label, high)) or "the high level"
        reason = f"No {QUANTITIES[quantity].label.lower()} labels at {where} for {PART_LABELS[part]} (n = 0)."
        return _message(reason, headings)
    if metric in METRICS:
        found = curves(table, case, quantity, metric, system, part, against, (), summary(table, case, part, metric))
    return draw(found).opts(backend="bokeh", hooks=[_dress, _explained(headings, found)])


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
    return hv.Layout(figures).cols(2).opts(backend="bokeh", shared_axes=False)


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
        hooks=[_dress, _explained(headings, None)],
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
    for subplot in plot.subplots.values():
        if subplot.current_frame.label in ("Flat", "Marks"):
            renderer = subplot.handles["glyph_renderer"]
            for k, series in enumerate(renderer.data_source.data["series"]):
                places.setdefault(series, (renderer, k))
    missing = found.points.groupby("series")["n"].max() == 0
    items = [
        LegendItem(label=literal(f"{name} (n = 0)" if missing[name] else name), renderers=[renderer], index=index)
        for name in series_order(found.points)
        for renderer, index in (places[name],)
    ]
    return Legend(
        items=items,
        orientation="horizontal",
        ncols=3 if len(items) > 4 else 2,
        location="left",
        label_text_font_size=f"{FONT_PT}pt",
        border_line_alpha=0,
        background_fill_alpha=0,
        glyph_width=34,
        spacing=12,
        padding=2,
        margin=4,
        tags=["mfbench"],
    )
