"""How arms look: one colour, marker and place in the order each, everywhere."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from mfbench.results.rows import NOTHING, base_arm

INK, FAINT = "#1f2933", "#dde3e9"


@dataclass(frozen=True)
class ArmStyle:
    """How one arm looks, in every plot, table and page, on white and on black.

    Colours: Okabe and Ito (2008) and Paul Tol's sets, colour-blind safe.
    """

    color: str
    marker: str  # bokeh's name
    trained_on: str


# In the order of legends and tables: from no high-level label to all of them.
ARMS: dict[str, ArmStyle] = {
    NOTHING: ArmStyle("#949494", "circle", "nothing: no forces, and each molecule's mean energy"),
    "SF-low": ArmStyle("#767676", "circle", "low-level energies and forces"),
    "zero-shot": ArmStyle("#999933", "square_pin", "SF-low, its atomic energies fitted to high-level energies"),
    "SF-E": ArmStyle("#D55E00", "circle", "high-level energies"),
    "transfer": ArmStyle("#E69F00", "inverted_triangle", "low level first, then high-level energies"),
    "delta": ArmStyle("#CC79A7", "hex", "low level, and its difference to high-level energies"),
    "embedding": ArmStyle("#AA3377", "plus", "both levels, the level being an input"),
    "MF": ArmStyle("#0072B2", "square", "low-level energies and forces + high-level energies"),
    "MF+": ArmStyle("#56B4E9", "star", "low level, and a small closed-form difference to high-level energies"),
    "SF-EF": ArmStyle("#009E73", "triangle", "high-level energies and forces"),
    "oracle": ArmStyle("#994455", "circle", "as many high-level energies and forces as the low level has"),
}

_DASHES = ("solid", "dashed", "dotted", "dotdash")

MATPLOTLIB_MARKERS = {  # bokeh's name -> matplotlib's
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "inverted_triangle": "v",
    "hex": "H",
    "star": "*",
    "plus": "P",
    "square_pin": "X",
    "diamond": "D",
}

_OTHER_COLORS = ("#228833", "#EE3377", "#4477AA")  # for arms of other packages


def arm_style(arm: str) -> ArmStyle:
    """The arm's style; an arm from another package gets one that depends on nothing but its name."""
    base = base_arm(arm)
    if arm in ARMS:
        return ARMS[arm]
    if base in ARMS:  # one of its variants: its colour, with another marker
        others = [marker for marker in ("circle", "square", "triangle", "diamond") if marker != ARMS[base].marker]
        variant = arm.removeprefix(base).strip(" ()")
        marker = others[zlib.crc32(arm.encode()) % len(others)]
        return ArmStyle(ARMS[base].color, marker, f"{ARMS[base].trained_on}; {variant}")
    return ArmStyle(_OTHER_COLORS[zlib.crc32(arm.encode()) % len(_OTHER_COLORS)], "diamond", "")


def arm_order(arms: Iterable[str]) -> list[str]:
    """The distinct arms in the order of ``ARMS``, each followed by its variants, then others by name."""
    known = list(ARMS)
    return sorted(set(arms), key=lambda arm: (known.index(base_arm(arm)) if base_arm(arm) in ARMS else len(known), arm))


def curve_style(rest: int) -> tuple[str, bool]:
    """How the curves of one arm differ: dash of the line, and whether markers are filled; by place among them."""
    return _DASHES[rest % len(_DASHES)], rest % 2 == 0
