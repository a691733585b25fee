"""Histories of trainings: validation errors, loss, learning rate and throughput against steps or time."""

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from mfbench import units
from mfbench.results.schema import QUANTITIES
from mfbench.show.plots import FONT_PT, dress, log_ticks
from mfbench.show.styles import arm_style, curve_style
from mfbench.show.words import level_label, number, pretty_unit

AGAINST = {"step": "Steps", "seconds": "Seconds"}

HEIGHT = 290  # px

MOST_POINTS = 400  # of a line; more would not be seen

MOST_DECADES = 1e5  # from the bottom of an axis to its top

# What is drawn beside errors: its column, what people call it, its unit.
OTHERS = {
    "loss": ("Loss", ""),
    "learning_rate": ("Learning rate", ""),
    "throughput": ("Throughput", "steps/s"),
}

_LINE = ["x", "value", "x_end", "end", "color", "dash"]

_POINT = ["x", "value", "color", "run", "arm", "at", "told"]

# Two that are nowhere and look unlike: of a column of equal values HoloViews makes a constant, which a live plot then
# looks for in vain.
_UNLIKE = pd.DataFrame(
    [
        dict.fromkeys(("x", "value", "x_end", "end"), np.nan)
        | {"color": color, "dash": dash, "run": dash, "arm": dash, "at": dash, "told": dash}
        for color, dash in (("#000000", "solid"), ("#ffffff", "dashed"))
    ]
)


def whole(history: pd.DataFrame) -> pd.DataFrame:
    """A history (``RunFolder.history``) whose stages follow each other, with the speed between its rows.

    Returns:
        The same columns, ``step`` and ``seconds`` counted from the start of the first stage, and ``throughput``
        (steps/s).
    """
    history = history.sort_values(["stage", "step"], kind="stable", ignore_index=True)
    stages = history.groupby("stage")[["step", "seconds"]].max()
    before = stages.cumsum().shift(fill_value=0.0)
    between = history.groupby("stage")[["step", "seconds"]].diff().fillna(history[["step", "seconds"]])
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = (between["step"] / between["seconds"]).where(between["seconds"] > 0)
    moved = {name: history[name] + history["stage"].map(before[name]) for name in ("step", "seconds")}
    return history.assign(**moved, throughput=speed.where(between["step"] > 0))


def lines(
    histories: Mapping[str, pd.DataFrame], arms: Mapping[str, str], what: str, system: str, against: str = "step"
) -> pd.DataFrame:
    """What one figure shows, a row a point.

    Args:
        histories: of runs by name, as ``whole`` gives them.
        arms: of the runs.
        what: ``energy`` or ``force`` (mean absolute validation errors, of each level), or a key of ``OTHERS``.
        system: unit system of errors.

    Returns:
        ``run``, ``arm``, ``level`` (empty where it is no error), ``x`` and ``value``.
    """
    found = []
    for run, history in histories.items():
        for column, level in _columns(history, what).items():
            rows = history[[against, column]].set_axis(["x", "value"], axis=1).dropna()
            rows = rows[rows["value"] > 0]
            if len(rows) > MOST_POINTS:
                rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, MOST_POINTS).astype(int))]
            found.append(rows.assign(run=run, arm=arms[run], level=level))
    columns = ["run", "arm", "level", "x", "value"]
    if not found:
        return pd.DataFrame(columns=columns)
    table = pd.concat(found, ignore_index=True)[columns]
    return table if what in OTHERS else table.assign(value=table["value"] * _factor(what, system))


def _columns(history: pd.DataFrame, what: str) -> dict[str, str]:
    """Columns of a history that one figure shows, and the level that each is of."""
    if what in OTHERS:
        return {what: ""}
    end = f" {what} mae"
    return {name: name.removesuffix(end) for name in map(str, history) if name.endswith(end)}


def _factor(what: str, system: str) -> float:
    """From kcal/mol(/Angstrom), which histories are in, to the unit system."""
    return QUANTITIES[what].factor(system) * units.EV_PER_KCAL


def levels_of(histories: Mapping[str, pd.DataFrame]) -> list[str]:
    """The levels that the errors of histories are of, in the order of their dashes."""
    found = [_columns(one, what) for one in histories.values() for what in ("energy", "force")]
    return sorted({level for columns in found for level in columns.values()})


def left(history: pd.DataFrame, steps: Any) -> float:
    """Seconds until a training of so many steps ends, at the speed of its last validations; NaN: not known."""
    if pd.isna(steps):
        return float("nan")
    speed, done = history["throughput"].tail(5).median(), history["step"].max()
    return (steps - done) / speed if speed > 0 else float("nan")


def draw(
    table: pd.DataFrame, levels: Sequence[str], what: str, system: str = "kcal/mol", against: str = "step"
) -> hv.Overlay:
    """A figure of ``lines``: always the same elements, so that another one takes its place.

    Args:
        levels: all that the figures beside each other show (``levels_of``).
    """
    dashes = {level: curve_style(k)[0] for k, level in enumerate(levels)} | {"": "solid"}
    x = hv.Dimension("x", label=AGAINST[against])
    if what in OTHERS:
        label, unit = OTHERS[what]
    else:
        label, unit = f"{QUANTITIES[what].label} MAE", pretty_unit(QUANTITIES[what].shown[system])
    y = hv.Dimension("value", label=label, unit=unit or None)
    points = table.assign(
        color=[arm_style(arm).color for arm in table["arm"]],
        dash=table["level"].map(dashes),
        at=table["level"].map(level_label),
        told=table["value"].map(number),
    )
    after = points.groupby(["run", "level"])[["x", "value"]].shift(-1).set_axis(["x_end", "end"], axis=1)
    pieces = pd.concat([points, after], axis=1).dropna(subset=["x_end"])
    segments = hv.Segments(pd.concat([pieces[_LINE], _UNLIKE[_LINE]]), [x, y, "x_end", "end"], _LINE[4:])
    scatter = hv.Scatter(pd.concat([points[_POINT], _UNLIKE[_POINT]]), x, [y, *_POINT[2:]])
    common: dict[str, Any] = {"backend": "bokeh", "color": "color", "default_tools": [], "framewise": True}
    segments = segments.opts(line_width=2, line_dash="dash", **common)
    hover = [
        ("Arm", "@{arm}"),
        ("Level", "@{at}"),
        (x.label, "@{x}{0,0}"),
        (y.pprint_label, "@{told}"),
        ("Run", "@{run}"),
    ]
    scatter = scatter.opts(size=4, tools=["hover"], hover_tooltips=[*hover, ("Run", "@{run}")], **common)
    values, ends = points["value"].to_numpy(), points["x"].to_numpy()
    top = values.max() * 1.2 if len(values) else 10.0
    # A cosine ends at next to nothing, which would squeeze all the rest.
    ylim = (max(values.min(initial=top) / 1.2, top / MOST_DECADES), top)
    return hv.Overlay([segments, scatter]).opts(
        backend="bokeh",
        logy=True,
        xlim=(0, ends.max() * 1.02 if len(ends) else 1),
        ylim=ylim,
        yticks=[(tick, f"{tick:g}") for tick in log_ticks(*ylim)],
        responsive=True,
        frame_height=HEIGHT,
        default_tools=["box_zoom", "reset", "save"],
        active_tools=[],  # over the plot, wheel and finger scroll the page
        toolbar="right",
        show_grid=True,
        gridstyle={"grid_line_color": "#8a94a0", "grid_line_alpha": 0.3, "grid_line_width": 1},
        show_legend=False,
        fontsize={"labels": f"{FONT_PT}pt", "ticks": f"{FONT_PT}pt"},
        hooks=[dress],
    )
