"""Figures on paper: HoloViews' elements drawn by Matplotlib, as PDF, SVG or PNG, with where they came from inside.

What a figure looks like is decided here: sizes, text, legend. The same figure is the same file, byte for byte.
"""

import io
import math
import os
import re
import textwrap
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
import pandas as pd
from holoviews.plotting import mpl as _matplotlib_backend  # noqa: F401  (loads the backend)
from matplotlib.figure import Figure as Page
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

from mfbench.errors import UserError, unknown
from mfbench.files import write_bytes
from mfbench.show.sheets import Numbers
from mfbench.show.styles import FAINT, INK, MATPLOTLIB_MARKERS, arm_style
from mfbench.version import __version__

FORMATS = ("pdf", "png", "svg")

WIDTH = "3.37in"  # a column of a journal with two

FONT_PT = 8.0

DPI = 300  # of PNG

_PER_INCH = {"in": 1.0, "cm": 2.54, "mm": 25.4, "pt": 72.0}

_FEW, _MANY = 60, 5000  # points in a panel

_AREAS = {"*": 60, "P": 30, "X": 30}  # of markers; thin shapes look smaller than they are

_NARROWEST = 2.2  # in, of a panel beside another

_DRAWING = threading.Lock()  # Matplotlib's settings are the process's


@dataclass(frozen=True)
class Key:
    """A line of a figure's legend."""

    arm: str
    text: str
    dash: str = "solid"
    marker: bool = True


@dataclass(frozen=True)
class Figure:
    """A figure to take away: its panels, and the numbers behind them."""

    numbers: Numbers
    panels: tuple[hv.Overlay, ...]  # with options of HoloViews' Matplotlib backend
    title: str = ""
    legend: tuple[Key, ...] = ()

    def _repr_png_(self) -> bytes:
        """As notebooks show it."""
        return as_bytes(self, "png", width="6.5in")


def inches(length: str) -> float:
    """A length such as ``3.37in``, ``8.6cm``, ``86mm`` or ``243pt``, in inches; raises UserError."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(in|cm|mm|pt)\s*", length)
    found = float(match[1]) / _PER_INCH[match[2]] if match else 0.0
    if not 0.5 <= found <= 40:
        raise UserError(f"width: expected 0.5in to 40in, as in 3.37in, 8.6cm, 86mm or 243pt, got {length!r}")
    return found


def save(figure: Figure, path: str | Path, width: str = WIDTH, font_size: float = FONT_PT) -> Path:
    """Write a figure as PDF, PNG or SVG, which the name of the file says.

    Args:
        width: of the whole figure, with its unit (in, cm, mm or pt); its height follows.
        font_size: in points.

    Returns:
        Where it is.

    Raises:
        UserError: another format, or no such width.
    """
    path = Path(path)
    write_bytes(path, as_bytes(figure, path.suffix.removeprefix("."), width, font_size))
    return path


def as_bytes(figure: Figure, format: str, width: str = WIDTH, font_size: float = FONT_PT) -> bytes:
    """A figure as a file's content; see ``save``."""
    if format not in FORMATS:
        raise unknown("format of figures", format, FORMATS)
    out = io.BytesIO()
    with _DRAWING, mpl.rc_context(_settings(font_size)):
        page = _drawn(figure, inches(width), font_size)
        page.savefig(out, format=format, metadata=_metadata(figure.numbers, format))
    return out.getvalue()


def _settings(font_size: float) -> dict[Any, Any]:
    """Matplotlib's, for a figure on paper."""
    return {
        "font.family": "DejaVu Sans",  # comes with Matplotlib: the same everywhere
        "mathtext.fontset": "dejavusans",
        "font.size": font_size,
        "axes.labelsize": font_size,
        "axes.titlesize": font_size,
        "figure.titlesize": font_size,
        "legend.fontsize": font_size,
        "xtick.labelsize": font_size,
        "ytick.labelsize": font_size,
        "axes.linewidth": 0.6,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "axes.axisbelow": True,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03,
        "text.parse_math": False,  # a dollar in a name is a dollar
        "pdf.fonttype": 42,  # letters stay letters: journals refuse Type 3
        "savefig.dpi": DPI,
        "svg.hashsalt": "mfbench",
        "svg.fonttype": "path",
    }


def _drawn(figure: Figure, width: float, font_size: float) -> Page:
    columns = max(1, min(len(figure.panels), int(width / _NARROWEST)))
    rows = math.ceil(len(figure.panels) / columns)
    longest = max((len(key.text) for key in figure.legend), default=0)
    across = max(1, min(len(figure.legend), int(width * 72 / font_size / (0.62 * longest + 4))))
    title = textwrap.wrap(figure.title, int(width * 72 / font_size / 0.62))
    lines = math.ceil(len(figure.legend) / across) + len(title)
    height = rows * 0.78 * width / columns + lines * 1.6 * font_size / 72
    page = Page(figsize=(width, height), layout="constrained")
    axes: list[Any] = list(page.subplots(rows, columns, squeeze=False).flat)
    renderer = hv.Store.renderers["matplotlib"]
    for panel, axis in zip(figure.panels, axes):
        renderer.get_plot(panel, fig=page, axis=axis)
    for axis in axes[len(figure.panels) :]:
        axis.set_axis_off()
    if title:
        page.suptitle("\n".join(title))
    if figure.legend:
        page.legend(
            handles=[_handle(key) for key in figure.legend],
            loc="outside lower center",
            ncols=across,
            frameon=False,
            handlelength=2.2,
            columnspacing=1.2,
            borderaxespad=0.2,
        )
    return page


def _handle(key: Key) -> Line2D:
    """What stands in the legend beside an arm's name: its line and marker."""
    style = arm_style(key.arm)
    marker = MATPLOTLIB_MARKERS[style.marker] if key.marker else ""
    handle = Line2D([], [], color=style.color, linewidth=1.2, marker=marker, markersize=4.5)
    handle.set(label=key.text, linestyle=key.dash)
    return handle


# Panels


LINES = ("x", "y", "x_end", "y_end", "color", "width", "dash")  # pieces of lines: what ``panel`` takes of them

Values = float | Sequence[float] | pd.Series


def lines(
    arms: Sequence[str] | pd.Series, x: Values, y: Values, x_end: Values, y_end: Values, dash: Sequence[str] | str
) -> pd.DataFrame:
    """Pieces of arms' lines: rows of ``LINES``."""
    return _pieces({"x": x, "y": y, "x_end": x_end, "y_end": y_end}, arms, 1.2, dash)


def bars(arms: Sequence[str] | pd.Series, x: Values, y: Values, x_end: Values, y_end: Values) -> pd.DataFrame:
    """Bars over arms' seeds: rows of ``LINES``."""
    return _pieces({"x": x, "y": y, "x_end": x_end, "y_end": y_end}, arms, 0.8, "solid")


def _pieces(
    ends: Mapping[str, Values], arms: Sequence[str] | pd.Series, width: float, dash: Sequence[str] | str
) -> pd.DataFrame:
    columns = {name: np.broadcast_to(np.asarray(value, float), len(arms)) for name, value in ends.items()}
    look = {"color": [arm_style(arm).color for arm in arms], "width": width, "dash": dash}
    return pd.DataFrame({**columns, **look}).dropna()


def rules(*ends: tuple[float, float, float, float]) -> pd.DataFrame:
    """Thin lines to compare with, each from (x, y) to (x, y): rows of ``LINES``."""
    return pd.DataFrame([(*one, INK, 0.6, "solid") for one in ends], columns=list(LINES))


def panel(
    x: str,
    y: str,
    pieces: Sequence[pd.DataFrame],
    marks: pd.DataFrame,
    notes: Sequence[tuple[float, float, str]] = (),
    **options: Any,
) -> hv.Overlay:
    """One panel of a figure, as few elements: HoloViews takes some 20 ms for each.

    Args:
        x, y: labels of the axes.
        pieces: rows of ``LINES``: see ``lines``, ``bars`` and ``rules``.
        marks: points, with columns x, y and arm; of many of them, small and pale dots.
        notes: texts, and where they begin.
        **options: of HoloViews' Matplotlib backend. On log axes the ticks that are given are all there are.
    """
    elements = [
        hv.Segments(alike, ["x", "y", "x_end", "y_end"], ["color", "width"]).opts(
            backend="matplotlib", color="color", linewidth="width", linestyle=dash
        )
        for dash, alike in pd.concat(list(pieces)).groupby("dash")
    ]
    elements.append(_scatter(marks))
    hooks = [partial(_dress, notes), *([_as_picture] if len(marks) > _MANY else [])]
    usual = {
        "aspect": "auto",
        "show_title": False,
        "show_legend": False,
        "show_frame": True,
        "show_grid": True,
        "xlabel": x,
        "ylabel": y,
    }
    return hv.Overlay(elements).opts(backend="matplotlib", hooks=hooks, **{**usual, **options})


def _scatter(marks: pd.DataFrame) -> hv.Scatter:
    styles = {arm: arm_style(arm) for arm in marks["arm"].unique()}
    few = len(marks) <= _FEW
    names = [MATPLOTLIB_MARKERS[styles[arm].marker] if few else "o" for arm in marks["arm"]]
    area = [_AREAS.get(name, 22) if few else 3 for name in names]
    marks = marks.assign(color=[styles[arm].color for arm in marks["arm"]], marker=names, area=area)
    look = {"edgecolors": "white", "linewidth": 0.4} if few else {"alpha": 0.35, "linewidth": 0}
    points = hv.Scatter(marks, "x", ["y", "color", "marker", "area"])
    return points.opts(backend="matplotlib", color="color", s="area", hooks=[_shapes] if few else [], **look)


def _shapes(plot: Any, element: hv.Element) -> None:
    """A marker for each point: HoloViews takes one for all."""
    markers = [MarkerStyle(name) for name in element.dimension_values("marker")]
    plot.handles["artist"].set_paths([one.get_path().transformed(one.get_transform()) for one in markers])


def _dress(notes: Sequence[tuple[float, float, str]], plot: Any, element: hv.Element) -> None:
    axis = plot.handles["axis"]
    axis.minorticks_off()  # they would be numbered as powers of ten
    axis.grid(True)
    for x, y, text in notes:
        axis.annotate(text, (x, y), xytext=(3, 2), textcoords="offset points")


def _as_picture(plot: Any, element: hv.Element) -> None:
    """Very many points stand in a drawing as a picture."""
    for points in plot.handles["axis"].collections:
        points.set_rasterized(True)


# Where it came from


def _metadata(numbers: Numbers, format: str) -> dict[str, Any]:
    """What the file says of itself, under the names that its format has for it."""
    maker, commit = f"mfbench {__version__}", numbers.origin.get("commit", "")
    runs = [f"run {run}" for run in numbers.runs]
    said = [maker, *([f"commit {commit}"] if commit else []), *runs]
    dated = {} if "SOURCE_DATE_EPOCH" in os.environ else {"CreationDate": None}
    if format == "pdf":
        return {
            "Title": numbers.name,
            "Subject": numbers.caption,
            "Keywords": ", ".join(said),
            "Creator": maker,
            **dated,
        }
    if format == "svg":
        date = {} if dated == {} else {"Date": None}
        return {"Title": numbers.name, "Description": numbers.caption, "Keywords": said, "Creator": maker, **date}
    return {"Title": numbers.name, "Description": numbers.caption, "Source": ", ".join(said), "Software": maker}
