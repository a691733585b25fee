"""What a label costs: core-seconds of quantum chemistry, measured for the molecules of the mini data.

Measured on one core, with PySCF and tblite (``data/mini/label_cost.csv``). Molecules that were not measured are scaled
from those that were by the number of electrons, to the formal power of the method (Jensen, Introduction to
Computational Chemistry, 3rd ed., Wiley 2017). At this size coupled cluster is hardly dearer than DFT in a large basis;
its steeper growth shows in larger molecules only.
"""

import csv
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mfbench import resources
from mfbench.elements import formula, numbers_of
from mfbench.theory import level

# Formal power of the time with the size of the molecule, by how the name of a level begins.
_POWERS = {"gfn2": 3, "pbe": 3, "hf": 4, "wb97x": 4, "mp2": 5, "ccsd/": 6, "ccsd(t)": 7}

SOURCE = (
    "core-seconds on one core of the machine that computed the mini data; other molecules scaled by their number of "
    "electrons to the formal power of the method"
)


@cache
def _measured() -> Mapping[tuple[str, bool], Mapping[str, float]]:
    """(level, with forces) -> composition -> core-seconds."""
    found: dict[tuple[str, bool], dict[str, float]] = {}
    with open(resources.mini_data() / "label_cost.csv", newline="") as file:
        for row in csv.DictReader(file):
            name, composition = row["level"].replace("gfn2_xtb", "gfn2-xtb"), formula(numbers_of(row["molecule"]))
            for column, forces in (("energy_core_s", False), ("energy_and_forces_core_s", True)):
                if row[column]:
                    found.setdefault((name, forces), {})[composition] = float(row[column])
    return found


def label_cost(name: str, forces: bool) -> float | None:
    """Mean cost in core-seconds of an energy (with its forces) over the molecules of the mini data.

    None where it was not measured.
    """
    values = _measured().get((level(name).name, forces), {}).values()
    return sum(values) / len(values) if values else None


@cache
def core_seconds(name: str, composition: str, forces: bool) -> float:
    """Cost of one molecule's energy (with its forces) at a level; NaN where nothing of that level was measured.

    Forces that were not measured are central differences of energies, 6 for each atom; an energy that was not measured
    alone costs as much as with its forces.
    """
    held = _measured()
    numbers = numbers_of(composition)
    if values := held.get((name, forces), {}):
        return values.get(composition) or _scaled(name, values, numbers)
    if (name, not forces) not in held:
        return float("nan")
    return core_seconds(name, composition, not forces) * (6 * len(numbers) + 1 if forces else 1)


def _scaled(name: str, values: Mapping[str, float], numbers: NDArray[np.integer]) -> float:
    power = next((one for start, one in _POWERS.items() if name.startswith(start)), None)
    if power is None:
        return float("nan")
    each = [value / float(numbers_of(one).sum()) ** power for one, value in values.items()]
    return float(np.median(each)) * float(numbers.sum()) ** power
