"""Every conversion constant, with its source. Inside mfbench: eV, Angstrom, eV/Angstrom.

A unit is a string: an energy (``eV``, ``meV``, ``Ha``, ``mHa``, ``Ry``, ``kcal/mol``, ``kJ/mol``), optionally per atom
(``meV/atom``) or per length (``Ha/Angstrom``, ``kcal/mol/Angstrom``, ``Ha/Bohr``).
"""

import re

from mfbench.errors import unknown

# Exact by the definition of the SI (2019): elementary charge in C, Avogadro constant in 1/mol;
# the thermochemical calorie is 4.184 J by definition.
ELEMENTARY_CHARGE = 1.602176634e-19

AVOGADRO = 6.02214076e23

CALORIE = 4.184

# CODATA 2018 (Tiesinga et al., Rev. Mod. Phys. 93, 025010): Hartree in eV, Bohr radius in Angstrom.
HARTREE = 27.211386245988

BOHR = 0.529177210903

# What energies depend on where a unit was converted: ASE's default constants, of CODATA 2014, give others.
CONSTANTS = {"CODATA": 2018, "Hartree in eV": HARTREE, "Bohr in Angstrom": BOHR}

_KJ_PER_MOL = 1e3 / (AVOGADRO * ELEMENTARY_CHARGE)

ENERGY_UNITS = {
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": HARTREE,
    "mHa": 1e-3 * HARTREE,
    "Ry": HARTREE / 2,
    "kcal/mol": CALORIE * _KJ_PER_MOL,
    "kJ/mol": _KJ_PER_MOL,
}

EV_PER_KCAL = ENERGY_UNITS["kcal/mol"]  # eV in a kcal/mol, 0.0434

KCAL_PER_EV = 1 / EV_PER_KCAL  # kcal/mol in an eV, 23.06

LENGTH_UNITS = {"Angstrom": 1.0, "Bohr": BOHR, "nm": 10.0, "pm": 0.01}

# How else people and programs write them, in lower case.
_SPELLINGS = {
    **{unit.lower(): unit for unit in (*ENERGY_UNITS, *LENGTH_UNITS)},
    **dict.fromkeys(("hartree", "hartrees", "eh", "e_h"), "Ha"),
    **dict.fromkeys(("millihartree", "meh"), "mHa"),
    **dict.fromkeys(("rydberg", "rydbergs"), "Ry"),
    **dict.fromkeys(("kcal", "kcal mol-1", "kcal*mol-1", "kcal/mole"), "kcal/mol"),
    **dict.fromkeys(("kj", "kj mol-1", "kj*mol-1", "kj/mole"), "kJ/mol"),
    **dict.fromkeys(("electronvolt", "electronvolts"), "eV"),
    **dict.fromkeys(("ang", "angstroms", "a", "å", "\u212b"), "Angstrom"),
    **dict.fromkeys(("a0", "a_0", "bohrs"), "Bohr"),
    **dict.fromkeys(("nanometer", "nanometre"), "nm"),
}


def internal(unit: str) -> float:
    """The value of one ``unit`` in internal units (eV, eV/atom, eV/Angstrom or Angstrom).

    Raises:
        UserError: the unit is not known.
    """
    if unit in LENGTH_UNITS:
        return LENGTH_UNITS[unit]
    energy, _, per = unit.rpartition("/")
    if unit in ENERGY_UNITS:
        return ENERGY_UNITS[unit]
    if energy in ENERGY_UNITS and per == "atom":
        return ENERGY_UNITS[energy]
    if energy in ENERGY_UNITS and per in LENGTH_UNITS:
        return ENERGY_UNITS[energy] / LENGTH_UNITS[per]
    raise unknown("unit", unit, [*ENERGY_UNITS, *LENGTH_UNITS, "<energy>/atom", "<energy>/<length>"])


def spelled(text: str) -> str | None:
    """The unit that a file states, however it spells it (``hartree/bohr``, ``eV/Ang``); None where it is not known."""
    plain = re.sub(r"[()^]", "", " ".join(text.strip().lower().split()))
    plain = re.sub(r"/mol[ *](?=\w)", "/mol/", plain)
    if plain in _SPELLINGS:
        return _SPELLINGS[plain]
    energy, _, per = plain.rpartition("/")
    if not energy:
        energy, _, per = plain.removesuffix("-1").rpartition(" ")
    energy, per = (_SPELLINGS.get(part.strip(" *"), part.strip(" *")) for part in (energy, per))
    known = energy in ENERGY_UNITS and (per == "atom" or per in LENGTH_UNITS)
    return f"{energy}/{per}" if known else None


def dimension(unit: str) -> str:
    """``energy``, ``energy/atom``, ``force`` or ``length``."""
    internal(unit)
    if unit in LENGTH_UNITS:
        return "length"
    if unit in ENERGY_UNITS:
        return "energy"
    return "energy/atom" if unit.endswith("/atom") else "force"


def convert(value: float, unit: str, to: str) -> float:
    """``value`` in ``unit``, expressed in ``to``; both must be of one dimension."""
    if dimension(unit) != dimension(to):
        raise unknown(f"conversion from {unit} to", to, ENERGY_UNITS)
    return value * internal(unit) / internal(to)
