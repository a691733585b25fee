"""What the physical checks of a run say beside its errors, as records; texts are made in ``cli.physics``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mfbench.physics.check import TABLE_FILE, predictions_of
from mfbench.physics.dynamics import TEMPERATURES
from mfbench.physics.measure import QUICK_REMARK
from mfbench.results.folder import EXTRA, RunFolder
from mfbench.results.predictions import Predictions

# Bounds of the diagnosis, our own: share of the spread of the reference explained, meV/atom/ps and 1/cm.
FAIR, MAX_DRIFT, MAX_FREQUENCY = 0.9, 1.0, 100.0

ERRORS = ("energy_relative", "force")  # quantities whose MAE stands beside the checks


class Measured(NamedTuple):
    """The value of one physical check, and what a reader must know of it."""

    value: float  # NaN where there is none
    remark: str = ""


NOT_MEASURED = Measured(np.nan)


@dataclass(frozen=True)
class Diagnosis:
    """Whether a fair energy error hides anything."""

    verdict: Literal["nothing hidden", "poor energies", "poor throughout", "hidden"]
    energies: float  # what ``explained`` gives
    forces: float
    faults: dict[str, Measured]  # by quantity, ``force`` and those of physical checks: what is out of bounds


@dataclass(frozen=True)
class OtherLevel:
    """Frequencies at a level beside the one that is shown."""

    level: str
    head: str  # the level whose head predicted
    value: float  # MAE, 1/cm
    n: int  # modes
    remark: str


@dataclass(frozen=True)
class Summary:
    """Errors and physical checks of one run at one level, with a diagnosis."""

    run: str
    arm: str
    n_high: int
    level: str
    errors: dict[str, float]  # MAE by quantity, in internal units; NaN where there is none
    measured: dict[str, Measured]  # by quantity
    diagnosis: Diagnosis
    other_levels: tuple[OtherLevel, ...]

    @property
    def quick(self) -> bool:
        """Whether some of it is of a quick check."""
        return any(QUICK_REMARK in one.remark for one in self.measured.values())


def explained(predictions: Predictions, level: str) -> tuple[float, float]:
    """Shares of the spread of reference energies (relative, by molecule) and forces explained: 1 - sum e^2 / sum y^2.

    1 is perfect, 0 no better than a constant energy, or than no force at all. NaN without labels.
    """
    p = predictions
    column = p.levels.index(level)
    known = ~p.unseen if (~p.unseen).any() else p.unseen
    error, spread = 0.0, 0.0
    labelled = known & p.energy_mask[:, column]
    for molecule in np.unique(p.molecule[labelled]):
        rows = labelled & (p.molecule == molecule)
        reference, predicted = (
            e[rows, column] - e[rows, column].mean() for e in (p.energy_reference, p.energy_predicted)
        )
        error, spread = error + float(((predicted - reference) ** 2).sum()), spread + float((reference**2).sum())
    atoms = np.repeat(known & p.force_mask[:, column], np.diff(p.offsets))
    reference, predicted = (f[atoms, column].astype(np.float64) for f in (p.force_reference, p.force_predicted))
    total = float((reference**2).sum())
    return (
        1 - error / spread if spread else np.nan,
        1 - float(((predicted - reference) ** 2).sum()) / total if total else np.nan,
    )


def diagnosis(energies: float, forces: float, measured: Mapping[str, Measured]) -> Diagnosis:
    """Whether a fair energy error hides anything.

    Args:
        energies, forces: what ``explained`` gives.
        measured: results of the physical checks, by quantity.
    """
    faults: dict[str, Measured] = {}
    if forces < FAIR:
        faults["force"] = Measured(forces)
    bounds = {
        f"nve_{what}_{t}K": bad for t in TEMPERATURES for what, bad in (("stable", _below_one), ("drift", _drifts))
    }
    for quantity, bad in (bounds | {"frequency": _off, "bond_one_well": _below_one}).items():
        if quantity in measured and bad(measured[quantity]):
            faults[quantity] = measured[quantity]
    if faults:
        verdict: Any = "hidden" if energies >= FAIR else "poor throughout"
    else:
        verdict = "nothing hidden" if energies >= FAIR else "poor energies"
    return Diagnosis(verdict, energies, forces, faults)


def _below_one(found: Measured) -> bool:
    return found.value < 1


def _drifts(found: Measured) -> bool:
    return found.value > MAX_DRIFT


def _off(found: Measured) -> bool:
    """Frequencies that are off, or not there although the level has some to compare with."""
    absent = not np.isfinite(found.value) and not found.remark.startswith("no reference")
    return found.value > MAX_FREQUENCY or absent


def summary(runs: Sequence[Path], levels: Sequence[str] = ()) -> list[Summary]:
    """Errors and physical checks of runs side by side, with a diagnosis each.

    Args:
        levels: which levels to show; none for each run's high level.
    """
    found = []
    for run in runs:
        predictions = predictions_of(run)
        folder = RunFolder(run)
        metrics, physical = folder.metrics(), folder.table(f"{EXTRA}/{TABLE_FILE}")
        for level in levels or (predictions.levels[-1],):
            known = metrics[(metrics["level"] == level) & (metrics["metric"] == "mae")]
            known = known.sort_values("part").drop_duplicates("quantity").set_index("quantity")
            first = known.iloc[0]
            here = physical[(physical["level"] == level) & (physical["metric"] != "rmse")]
            measured = {row["quantity"]: Measured(row["value"], row["remark"]) for row in here.to_dict("records")}
            others = physical[(physical["quantity"] == "frequency") & (physical["metric"] == "mae")]
            others = others[others["level"] != level] if level not in levels else others[:0]
            rows = others[["level", "head", "value", "n", "remark"]].to_dict("records")
            found.append(
                Summary(
                    run=run.name,
                    arm=first["arm"],
                    n_high=int(first["n_high"]),
                    level=level,
                    errors={name: float(known["value"].get(name, np.nan)) for name in ERRORS},
                    measured=measured,
                    diagnosis=diagnosis(*explained(predictions, level), measured),
                    other_levels=tuple(OtherLevel(**{str(key): value for key, value in row.items()}) for row in rows),
                )
            )
    return found
