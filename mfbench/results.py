"""The tidy results table and the run folders it is read from. Nothing here imports torch.

A *run folder* holds one experiment:

    settings.json      the experiment, resolved and complete
    provenance.json    versions, commit, device, data hashes, seeds, time
    history.csv        one row per validation
    predictions.h5     reference and predicted labels of the test structures
    weights.safetensors
    metrics.parquet    the rows of the results table; written last, by rename: it exists = the run finished
    extra/             what later checks add; more rows of the results table in some of its Parquet files

The *results table* has one row per (run, level, part, quantity, metric), with the columns of ``COLUMNS``.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from mfbench import units
from mfbench.errors import UserError, unknown

FORMAT_VERSION = 1
METRICS_FILE = "metrics.parquet"
PROVENANCE_FILE = "provenance.json"
EXTRA = "extra"  # folder, in a finished run folder, of what later checks add
STAGES = "stages"  # folder, among the run folders, of trainings that several experiments start from

COLUMNS: dict[str, str] = {
    "run": "str",  # name of the run folder
    "case": "str",
    "data": "str",  # variant of the case's data, e.g. "mini"
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
    "remark": "str",  # why a row has n = 0, else empty; of a physical check also what a reader must know
}
# Columns that came later, and what they are in results from before.
_LATER: dict[str, Any] = {"steps_shared": 0, "unit": ""}
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON by temp file and rename."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises UserError where the file is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"cannot read {path}: expected a JSON object, got {type(content).__name__}")
    return content


def is_finished(run: Path) -> bool:
    """Whether the run folder holds a finished run."""
    return (run / METRICS_FILE).is_file()


def write_metrics(run: Path, metrics: pd.DataFrame) -> None:
    """Finish a run: its metrics appear whole, by rename, after all else in the folder."""
    with replacing(run / METRICS_FILE) as temporary:
        conform(metrics).to_parquet(temporary, index=False)


def load_runs(folders: Iterable[Path] | Path) -> pd.DataFrame:
    """The results table of all finished runs in a folder (or folders) of run folders.

    Returns:
        The rows of every ``metrics.parquet``, each followed by those that later checks added, ordered by run; empty
        where there is none. ``errors`` and ``physical`` part the two.
    """
    roots = [folders] if isinstance(folders, Path) else list(folders)
    files = sorted(file for root in roots for file in root.glob(f"*/{METRICS_FILE}"))
    frames = [read_run(file.parent) for file in files]
    return conform(pd.concat(frames)) if frames else empty_table()


def read_run(run: Path) -> pd.DataFrame:
    """The rows of one finished run, followed by those that later checks added."""
    return conform(pd.concat([read_metrics(file) for file in (run / METRICS_FILE, *extra_tables(run))]))


def extra_tables(run: Path) -> list[Path]:
    """The files that later checks of a run added and that hold rows of the results table."""
    found = []
    for file in sorted((run / EXTRA).glob("*.parquet")):
        try:
            names = pyarrow.parquet.read_schema(file).names
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {file}: {error}") from error
        if {"quantity", "metric", "value"} <= set(names):
            found.append(file)
    return found


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are errors of energies and forces."""
    return table[table["quantity"].isin(list(QUANTITIES))]


def physical(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of physical checks."""
    return table[table["quantity"].isin(list(PHYSICS))]


def read_metrics(file: Path) -> pd.DataFrame:
    """One file of results rows (Parquet), checked against the schema."""
    try:
        return conform(pd.read_parquet(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not a results table of mfbench: {error}") from error


def shown(table: pd.DataFrame, system: str = "kcal/mol") -> pd.DataFrame:
    """The table with ``value`` in the units shown to people, which the column ``unit`` names in every row."""
    known = {**QUANTITIES, **PHYSICS}
    factor = table["quantity"].map({name: q.factor(system) for name, q in known.items()}).astype(float)
    unit = table["quantity"].map({name: q.shown[system] for name, q in known.items()})
    own = table["unit"] != ""  # a metric of one's own, in a unit of its own
    return table.assign(value=table["value"] * factor.mask(own, 1.0), unit=unit.mask(own, table["unit"]))


def metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics of energies and forces that the table holds: ``METRICS`` first, then people's own."""
    return list(dict.fromkeys([*METRICS, *errors(table)["metric"]]))


def gap_closed(table: pd.DataFrame, arm: str = "MF") -> pd.DataFrame:
    """How much of the gap from SF-E to SF-EF an arm closes, at the same number of high-level structures.

    1 - log(err / err_SF-EF) / log(err_SF-E / err_SF-EF), paired by everything but the arm (and the number
    of low-level structures, which SF-E and SF-EF do not use): 0 = no better than SF-E, 1 = as good as
    SF-EF. Only rows judged at the high level by that level's own head. NaN where SF-EF is no better
    than SF-E, for then there is no gap to close.

    Returns:
        Columns: EXPERIMENT without arm and n_low, part, quantity, metric, SF-E, arm, SF-EF,
        ratio (= arm / SF-E) and gap_closed. ``SF-EF`` and ``gap_closed`` are NaN where SF-EF has n = 0.
    """
    keys = [k for k in EXPERIMENT if k not in ("arm", "n_low")] + ["part", "quantity", "metric"]
    rows = errors(table)
    rows = rows[(rows["role"] == "high") & (rows["head"] == rows["level"])]
    # Several low-level sizes of one arm would be averaged by a pivot: keep the largest.
    rows = rows.sort_values("n_low").drop_duplicates([*keys, "arm"], keep="last")
    wide = rows.pivot(index=keys, columns="arm", values="value")
    wide = wide.reindex(columns=["SF-E", arm, "SF-EF"]).dropna(subset=["SF-E", arm]).reset_index()
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.log(wide["SF-E"].to_numpy() / wide["SF-EF"].to_numpy())
        left = np.log(wide[arm].to_numpy() / wide["SF-EF"].to_numpy())
        wide["ratio"] = wide[arm] / wide["SF-E"]
        wide["gap_closed"] = np.where(gap > 0, 1 - left / gap, np.nan)
    wide.columns.name = None
    return wide
