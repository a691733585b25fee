"""The tidy results table: one row per (run, level, part, quantity, metric), with the columns of ``COLUMNS``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mfbench import units
from mfbench.errors import UserError, unknown

EXTERNAL = "external"  # backbone and preset of other codes' predictions: these rows stand beside every recipe's

COLUMNS: dict[str, str] = {
    "run": "str",  # name of the run folder
    "case": "str",
    "data": "str",  # choice of the case's data, e.g. "mini"
    "arm": "str",  # with the labels and options that make a variant of it, e.g. "MF (no low forces)"
    "backbone": "str",
    "preset": "str",  # with whatever differs from it, e.g. "demo (steps=60)"
    "n_low": "int64",  # low-level structures trained on
    "n_high": "int64",  # high-level structures used, validation included; 0 for SF-low
    "split_seed": "int64",
    "seed": "int64",
    "level": "str",  # the level of the reference labels
    "role": "str",  # "low", "further" or "high": that level's place in the experiment
    "head": "str",  # the level whose head predicted; differs from `level` where the arm has none for it
    "part": "str",  # "test": new geometries of known molecules; "unseen": molecules never trained on
    "quantity": "str",  # a key of QUANTITIES or of PHYSICS
    "metric": "str",  # "mae", "rmse" or a metric of one's own; "value" where the number of a physical check is no error
    "value": "float64",  # in `unit`; NaN where n = 0
    "unit": "str",  # of the value, where it is not the quantity's internal unit, else empty
    "n": "int64",  # number of values averaged over
    "steps": "int64",  # of all stages
    "steps_shared": "int64",  # of those, in stages that other experiments share
    "seconds": "float64",  # of training
    "structures_per_second": "float64",
    "device": "str",
    "label_seconds": "float64",  # core-seconds of quantum chemistry for its labels (``mfbench.costs``); NaN: not known
    "remark": "str",  # why a row has n = 0, else empty; of a physical check also what a reader must know
}

# Columns that came later, and what they are in results from before.
_LATER: dict[str, Any] = {"steps_shared": 0, "unit": "", "label_seconds": float("nan")}

EXPERIMENT = ["case", "data", "arm", "backbone", "preset", "n_low", "n_high", "split_seed", "seed"]

PARTS = ("test", "unseen")

METRICS = ("mae", "rmse")

UNIT_SYSTEMS = ("kcal/mol", "meV")


@dataclass(frozen=True)
class Quantity:
    """What an error is an error of: its name for people, internal unit and shown unit per unit system."""

    label: str
    unit: str
    shown: Mapping[str, str]

    def factor(self, system: str) -> float:
        """Multiply an internal value by this to show it in the unit system."""
        if system not in self.shown:
            raise unknown("unit system", system, self.shown)
        if self.shown[system] == self.unit:  # units of physical checks are no others'
            return 1.0
        return units.convert(1.0, self.unit, self.shown[system])


QUANTITIES = {
    "energy": Quantity("Energy", "eV", {"kcal/mol": "kcal/mol", "meV": "meV"}),
    "energy_per_atom": Quantity("Energy per atom", "eV/atom", {"kcal/mol": "meV/atom", "meV": "meV/atom"}),
    "energy_relative": Quantity("Relative energy", "eV", {"kcal/mol": "kcal/mol", "meV": "meV"}),
    "force": Quantity("Force component", "eV/Angstrom", {"kcal/mol": "kcal/mol/Angstrom", "meV": "meV/Angstrom"}),
}


def _same(label: str, unit: str) -> Quantity:
    return Quantity(label, unit, dict.fromkeys(UNIT_SYSTEMS, unit))


# Not errors of labels but what a model does; ``mfbench.physics`` says how each is measured.
PHYSICS = {
    "nve_drift_300K": _same("Energy drift in dynamics at 300 K", "meV/atom/ps"),
    "nve_stable_300K": _same("Stable trajectories at 300 K", ""),
    "nve_drift_500K": _same("Energy drift in dynamics at 500 K", "meV/atom/ps"),
    "nve_stable_500K": _same("Stable trajectories at 500 K", ""),
    "frequency": _same("Harmonic frequencies", "1/cm"),
    "bond_one_well": _same("Bond scans with one well", ""),
    "bond_inconsistency": _same("Energy against force along bonds", "meV"),
    "torsion_roughness": _same("Roughness of torsions", "meV"),
}

CONVENTION = (
    "Energy: total energy of the molecule. Relative energy: reference and prediction each minus its own "
    "mean over the molecule's structures in that part. Force: all Cartesian components, one by one."
)


def empty_table() -> pd.DataFrame:
    """A results table with no rows."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})


def conform(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with exactly the schema's columns and dtypes; raises UserError naming what differs."""
    frame = frame.assign(**{name: value for name, value in _LATER.items() if name not in frame})
    missing = [name for name in COLUMNS if name not in frame]
    extra = [name for name in frame if name not in COLUMNS]
    if missing or extra:
        raise UserError(f"not a results table: {missing=}, {extra=}; expected the columns {list(COLUMNS)}")
    return frame[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are errors of energies and forces."""
    return table[table["quantity"].isin(list(QUANTITIES))]


def physical(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of physical checks."""
    return table[table["quantity"].isin(list(PHYSICS))]


def shown(table: pd.DataFrame, system: str = "kcal/mol") -> pd.DataFrame:
    """The table with ``value`` in the units shown to people, which the column ``unit`` names in every row."""
    known = {**QUANTITIES, **PHYSICS}
    factor = table["quantity"].map({name: q.factor(system) for name, q in known.items()}).astype(float)
    unit = table["quantity"].map({name: q.shown[system] for name, q in known.items()})
    own = table["unit"] != ""  # a metric of one's own, in a unit of its own
    return table.assign(value=table["value"] * factor.mask(own, 1.0), unit=unit.mask(own, table["unit"]))


def metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics of energies and forces that the table holds: ``METRICS`` first, then people's own."""
    return list(dict.fromkeys([*METRICS, *table.loc[table["quantity"].isin(list(QUANTITIES)), "metric"].unique()]))
