"""Predicted against reference: pure functions, DataFrame -> HoloViews element (bokeh backend).

Up to ``MANY`` points are drawn one by one; more are counted in the pixels of an image by Datashader, so that a million
can be looked into. A page overlays the elements as maps of their own, each updated in place; ``parity`` is all of them
at once.
"""

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from holoviews.plotting import bokeh as _bokeh_backend  # noqa: F401  (loads the backend)
from numpy.typing import NDArray

from mfbench.results.judged import judged
from mfbench.results.predictions import Predictions
from mfbench.results.schema import QUANTITIES
from mfbench.show.styles import arm_style
from mfbench.show.words import pretty_unit

MANY = 20_000  # points

PIXELS = 500  # of the image, across and down

GREY = "#8a94a0"  # legible on white and on black


def _bare(plot: Any, element: Any) -> None:
    """WebGL gains nothing here, and a page may hold only some sixteen of its contexts; no one's mark in the toolbar."""
    plot.state.output_backend = "canvas"
    plot.state.toolbar.logo = None


FRAME: dict[str, Any] = {
    "responsive": True,
    "frame_height": 380,
    "default_tools": ["box_zoom", "pan", "reset", "save"],
    "active_tools": ["box_zoom"],  # a wheel over the plot scrolls the page
    "toolbar": "above",
    "show_legend": False,
    "show_grid": True,
    "fontsize": dict.fromkeys(("labels", "ticks"), "14px"),
    "framewise": True,
    "hooks": [_bare],
}

LOG = "%g"  # how ticks of logarithmic axes are written: no powers of ten

AXES = ["reference", "predicted"]

Window = tuple[float, float, float, float]  # left, bottom, right, top


def pairs(
    runs: Mapping[str, Predictions], level: str, part: str, quantity: str, system: str = "kcal/mol"
) -> pd.DataFrame:
    """What runs predicted of a quantity, beside its reference, in the units shown.

    Args:
        runs: by their names, those of arms.

    Returns:
        Columns reference, predicted, run (categories in the order given), and structure (its index in the case's
        data), a row a value (of forces: a component); empty where nothing is labelled.
    """
    factor = QUANTITIES[quantity].factor(system)
    frames = []
    for name, predictions in runs.items():
        for one in judged(predictions):
            if (one.level, one.part, one.quantity) != (level, part, quantity) or not one.labelled.any():
                continue
            reference = one.reference[one.labelled]
            each = reference.size // len(reference)
            frames.append(
                pd.DataFrame(
                    {
                        "reference": reference.ravel() * factor,
                        "predicted": one.predicted[one.labelled].ravel() * factor,
                        "run": name,
                        "structure": np.repeat(predictions.structure[one.structure[one.labelled]], each),
                    }
                )
            )
    columns = {"reference": float, "predicted": float, "run": object, "structure": np.int64}
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({c: [] for c in columns}).astype(columns)
    return found.assign(run=pd.Categorical(found["run"], list(runs)))


def limits(found: pd.DataFrame) -> Window:
    """What both axes span: all values and a margin."""
    values = found[AXES].to_numpy()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, low - margin, high + margin, high + margin


def nearest(found: pd.DataFrame, x: float, y: float, window: Window) -> int | None:
    """The structure whose point is nearest to a place, as far as 3 % of what the axes span; None where none is."""
    left, bottom, right, top = window
    distance = np.hypot((found["reference"] - x) / (right - left), (found["predicted"] - y) / (top - bottom))
    if found.empty or distance.min() > 0.03:
        return None
    return int(found["structure"].to_numpy()[np.argmin(distance)])


# Elements


def points(found: pd.DataFrame) -> hv.Points:
    """A marker a value; none where there are too many."""
    few = found if len(found) <= MANY else found.head(0)
    styles = {name: arm_style(name) for name in found["run"].cat.categories}
    names = few["run"].astype(str)
    markers = {name: style.marker for name, style in styles.items()}
    table = few.assign(run=names, marker=names.map(markers).astype(str), error=few["predicted"] - few["reference"])
    # Colours by a map: HoloViews looks at each colour of a column, which takes 0.1 ms a point.
    return hv.Points(table, AXES, ["run", "structure", "error", "marker"]).opts(
        backend="bokeh",
        color="run",
        cmap={name: style.color for name, style in styles.items()},
        marker="marker",
        size=6,
        alpha=0.55,
        line_color=None,
        show_legend=False,
        default_tools=[],
        tools=["hover"],
        hover_tooltips=[
            ("", "@run"),
            ("reference", "@reference{0.00}"),
            ("predicted", "@predicted{0.00}"),
            ("error", "@error{0.00}"),
            ("structure", "@structure"),
        ],
    )


def image(found: pd.DataFrame, window: Window | None = None) -> hv.RGB:
    """How many values there are in each pixel of a window, in their run's colour; nothing where they are few."""
    left, bottom, right, top = window or limits(found)
    pixels = _counted(found, window or limits(found)) if len(found) > MANY else np.zeros((1, 1, 4), np.uint8)
    return hv.RGB(pixels, bounds=(left, bottom, right, top)).opts(backend="bokeh", default_tools=[])


def _counted(found: pd.DataFrame, window: Window) -> NDArray[np.uint8]:
    import datashader  # it takes seconds to load, and most runs have fewer values
    from datashader import transfer_functions

    left, bottom, right, top = window
    canvas = datashader.Canvas(PIXELS, PIXELS, (left, right), (bottom, top))
    counts = canvas.points(found, *AXES, datashader.by("run", datashader.count()))
    if not int(counts.sum()):  # which would be shaded throughout
        return np.zeros((1, 1, 4), np.uint8)
    colors = [arm_style(name).color for name in found["run"].cat.categories]
    shaded = transfer_functions.dynspread(transfer_functions.shade(counts, color_key=colors, min_alpha=110))
    return np.flipud(shaded.to_numpy()).view(np.uint8).reshape(PIXELS, PIXELS, 4)


def ring(found: pd.DataFrame, structure: int) -> hv.Points:
    """A ring about each value of one structure."""
    return hv.Points(found.loc[found["structure"] == structure, AXES], AXES).opts(
        backend="bokeh",
        marker="circle",
        size=13,
        fill_alpha=0,
        line_width=2,
        color=GREY,
        default_tools=[],
    )


def diagonal(found: pd.DataFrame, quantity: str, system: str = "kcal/mol") -> hv.Curve:
    """Where predictions are right; it names the axes and sets what they span."""
    left, bottom, right, top = limits(found)
    unit = pretty_unit(QUANTITIES[quantity].shown[system])
    return hv.Curve([(left, left), (right, right)], *AXES).opts(
        backend="bokeh",
        color=GREY,
        line_width=1.5,
        line_dash="dashed",
        xlabel=f"Reference ({unit})",
        ylabel=f"Predicted ({unit})",
        xlim=(left, right),
        ylim=(bottom, top),
        **FRAME,
    )


def lines(table: pd.DataFrame, x: str, y: str) -> hv.Segments:
    """A line a run, through its rows in their order, in its colour: one element, whatever there is.

    Args:
        table: columns run, and what is along x and y.
    """
    end = table.groupby("run", sort=False, observed=True)[[x, y]].shift(-1)
    drawn = table.assign(x_end=end[x], y_end=end[y]).dropna(subset=["x_end", "y_end"]).astype({"run": str})
    return hv.Segments(drawn, [x, y, "x_end", "y_end"], ["run"]).opts(
        backend="bokeh",
        color="run",
        cmap={name: arm_style(name).color for name in drawn["run"].unique()},
        line_width=3,
        show_legend=False,
        tools=["hover"],
    )


def parity(found: pd.DataFrame, quantity: str, system: str = "kcal/mol", structure: int = -1) -> hv.Overlay:
    """Predicted against reference, a colour and marker a run.

    Args:
        found: of ``pairs``.
        structure: one that is marked.
    """
    parts = [diagonal(found, quantity, system), image(found), points(found), ring(found, structure)]
    return hv.Overlay(parts).opts(backend="bokeh", title=QUANTITIES[quantity].label)
