"""Which units would explain what a check measured: ratios of energies, forces and lengths become names here."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mfbench import units
from mfbench.data.manifest import Manifest

# Of logarithms of ratios. Units lie 0.47 apart or more (mHa and kcal/mol); what is expected is known to 15 %.
CLOSE = 0.2


ENERGIES, LENGTHS = units.ENERGY_UNITS, units.LENGTH_UNITS

FORCES = {f"{energy}/{length}": e / x for energy, e in ENERGIES.items() for length, x in LENGTHS.items()}


@dataclass(frozen=True)
class Declared:
    """The units that a manifest declares: by level of energies and forces, and of lengths."""

    energy: Mapping[str, str]
    forces: Mapping[str, str]
    length: str

    @classmethod
    def of(cls, manifest: Manifest) -> "Declared":
        """Those of a manifest."""
        return cls(
            {one.level: one.energy.unit for one in manifest.labels if one.energy},
            {one.level: one.forces.unit for one in manifest.labels if one.forces},
            manifest.length_unit,
        )

    def energy_of(self, level: str) -> str:
        """Of a level's energies."""
        return self.energy.get(level, "eV")

    def forces_of(self, level: str) -> str:
        """Of a level's forces."""
        return self.forces.get(level, "eV/Angstrom")


def fitting(ratio: float, declared: str, table: Mapping[str, float]) -> list[str]:
    """The units in which numbers would be as expected, compared in logarithms, best first; none for a ratio near 1.

    Args:
        ratio: what was measured, in the declared unit, over what is expected; its sign does not count.
        declared: the unit that the numbers were taken to be in.
        table: the units to choose from, and what each is in internal units.
    """
    if not (math.isfinite(ratio) and ratio) or abs(math.log(abs(ratio))) < CLOSE:
        return []
    off = {name: abs(math.log(abs(ratio) * value / units.internal(declared))) for name, value in table.items()}
    return sorted((name for name in off if off[name] < CLOSE), key=lambda name: off[name])


def energy_units(declared: str, total: float | None, per_atom: float | None) -> list[str]:
    """Units of energies that would fit.

    Args:
        total: energies over what is expected (or the slope on it); None where they do not go in proportion.
        per_atom: the same over what is expected an atom.
    """
    if (total or per_atom or 1.0) < 0:
        total, per_atom = total and -total, per_atom and -per_atom
        return [f"minus {unit}" for unit in energy_units(declared, total, per_atom) or [declared]]
    found = [] if total is None else fitting(total, declared, ENERGIES)
    if per_atom is None or declared.endswith("/atom"):
        return found
    if abs(math.log(max(abs(per_atom), 1e-300))) < CLOSE:  # in the declared unit, then
        return [*found, f"{declared}/atom"]
    return found + [f"{name}/atom" for name in fitting(per_atom, declared, ENERGIES)]


def would_fit(names: Collection[str]) -> str:
    """What to say of the candidates."""
    return f"; would fit: {', or '.join(names)}" if names else "; no unit that is known would fit"
