"""Figures on paper: HoloViews' elements drawn by Matplotlib, as PDF, SVG or PNG, with where they came from inside.

What a figure looks like is decided here: sizes, text, legend. The same figure is the same file, byte for byte.
"""

import io
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib as mpl
from holoviews.plotting import mpl as _matplotlib_backend  # noqa: F401  (loads the backend)
from matplotlib.figure import Figure as Page
from matplotlib.lines import Line2D

from mfbench.errors import UserError, unknown
from mfbench.files import write_bytes
from mfbench.results.rows import HORIZONTAL, base_arm
from mfbench.show.sheets import Numbers
from mfbench.show.styles import FAINT, INK, MATPLOTLIB_MARKERS, arm_style
from mfbench.version import __version__

FORMATS = ("pdf", "png", "svg")

WIDTH = "3.37in"  # a column of a journal with two

FONT_PT = 8.0

DPI = 300  # of PNG

_PER_INCH = {"in": 1.0, "cm": 2.54, "mm": 25.4, "pt": 72.0}

_FEW, _MANY = 60, 5000  # points in a panel

_NARROWEST = 2.2  # in, of a panel beside another

_DRAWING = threading.Lock()  # Matplotlib's settings are the process's


@dataclass(frozen=True)
class Figure:
    """A figure to take away: its panels, and the numbers behind them."""

    numbers: Numbers
    panels: tuple[hv.Overlay, ...]  # with options of HoloViews' Matplotlib backend
    title: str = ""
    legend: Mapping[str, str] | None = None  # arm -> its text; None: no legend

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
    keys = _keys(figure.legend or {})
    longest = max(map(len, (figure.legend or {}).values()), default=0)
    across = max(1, min(len(keys), int(width * 72 / font_size / (0.62 * longest + 4)))) if keys else 1
    lines = math.ceil(len(keys) / across) + bool(figure.title)
    height = rows * 0.78 * width / columns + lines * 1.6 * font_size / 72
    page = Page(figsize=(width, height), layout="constrained")
    axes: list[Any] = list(page.subplots(rows, columns, squeeze=False).flat)
    renderer = hv.Store.renderers["matplotlib"]
    for panel, axis in zip(figure.panels, axes):
        renderer.get_plot(panel, fig=page, axis=axis)
    for axis in axes[len(figure.panels) :]:
        axis.set_axis_off()
    if figure.title:
        page.suptitle(figure.title)
    if keys:
        page.legend(
            handles=keys,
            loc="outside lower center",
            ncols=across,
            frameon=False,
            handlelength=2.2,
            columnspacing=1.2,
            borderaxespad=0.2,
        )
    return page


def _keys(legend: Mapping[str, str]) -> list[Line2D]:
    """What stands in the legend: each arm's line and marker beside its name."""
    found = []
    for arm, text in legend.items():
        marker = None if base_arm(arm) in HORIZONTAL else MATPLOTLIB_MARKERS[arm_style(arm).marker]
        found.append(Line2D([], [], marker=marker, markersize=4.5, label=text, **line_style(arm)))
    return found


# How elements look


def line_style(arm: str) -> dict[str, Any]:
    """An arm's line, for ``hv.Curve``."""
    across = base_arm(arm) in HORIZONTAL
    return {"color": arm_style(arm).color, "linewidth": 1.2, "linestyle": "--" if across else "-"}


def mark_style(arm: str, many: int = 1) -> dict[str, Any]:
    """An arm's markers, for ``hv.Scatter``; of many points small and pale dots."""
    style = arm_style(arm)
    if many > _FEW:
        return {"color": style.color, "marker": "o", "s": 3, "alpha": 0.35, "linewidth": 0}
    marker = MATPLOTLIB_MARKERS[style.marker]
    return {"color": style.color, "marker": marker, "s": 22, "edgecolors": "white", "linewidth": 0.4}


def bar_style(arm: str) -> dict[str, Any]:
    """The bars over an arm's seeds, for ``hv.ErrorBars``."""
    return {"edgecolor": arm_style(arm).color, "linewidth": 0.8, "capsize": 1.5}


def rule_style() -> dict[str, Any]:
    """A line to compare with, for ``hv.Curve``, ``hv.HLine`` and ``hv.VLine``."""
    return {"color": INK, "linewidth": 0.7}


def panel(elements: Sequence[hv.Element], many: int = 1, **options: Any) -> hv.Overlay:
    """Elements as one panel of a figure; on log axes the ticks that are given are all there are.

    Args:
        many: points in it; very many are kept as a picture inside a drawing.
    """
    hooks = [_no_minor_ticks, *([_as_picture] if many > _MANY else [])]
    usual = {"aspect": "auto", "show_title": False, "show_legend": False, "show_frame": True, "show_grid": True}
    return hv.Overlay(list(elements)).opts(backend="matplotlib", hooks=hooks, **{**usual, **options})


def _as_picture(plot: Any, element: hv.Element) -> None:
    for points in plot.handles["axis"].collections:
        points.set_rasterized(True)


def _no_minor_ticks(plot: Any, element: hv.Element) -> None:
    """Matplotlib would number them between the others, as powers of ten."""
    plot.handles["axis"].minorticks_off()


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
