"""What physical checks have in common: how much is done, what it is done to, and what comes of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mfbench.errors import UserError
from mfbench.physics.surface import Array, Geometry

TIME_STEP = 0.5  # fs


@dataclass(frozen=True)
class Effort:
    """How much is done; what is not here is a constant of this module."""

    trajectories: int = 10  # per temperature
    picoseconds: float = 2.0
    molecules: int = 20  # most that are optimised or scanned
    only: tuple[str, ...] = ()  # names or formulas of molecules; none: all
    seed: int = 0  # of the geometries that trajectories start from and of their velocities

    def __post_init__(self) -> None:
        for name, lowest in (("trajectories", 1), ("molecules", 1), ("picoseconds", TIME_STEP / 1000)):
            if not (value := getattr(self, name)) >= lowest:
                raise UserError(f"{name}: expected at least {lowest}, got {value}")


WHOLE = Effort()
QUICK_REMARK = "quick check"

QUICK = Effort(trajectories=2, picoseconds=0.05, molecules=1)


class Number(NamedTuple):
    """One result: a row of the results table without its experiment."""

    quantity: str
    metric: str
    value: float
    n: int
    remark: str = ""


def average(quantity: str, how: Callable[[Any], Any], values: Sequence[float], none: str, remark: str = "") -> Number:
    if not len(values):
        return Number(quantity, "value", np.nan, 0, none)
    value = float(how(values))
    if not np.isfinite(value):
        return Number(quantity, "value", np.nan, 0, "energies or forces are not finite")
    return Number(quantity, "value", value, len(values), f"not so: {remark}" if remark else "")


def absent(quantities: Iterable[str], remark: str) -> list[Number]:
    return [Number(quantity, "value", np.nan, 0, remark) for quantity in quantities]


# A run folder


@dataclass(frozen=True)
class Targets:
    """What a run is checked on, at one level."""

    geometries: list[Geometry]  # its test structures whose positions are kept
    energies: Array  # their reference energies, eV, inf where there is none
    references: list[tuple[Geometry, Array]]  # minima and frequencies of that level
    no_reference: str = "no reference frequencies for these molecules at this level"
