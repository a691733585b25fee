"""Physical checks of a finished run: molecular dynamics, harmonic frequencies, and scans of bonds and torsions.

A low error of the energies can hide forces that are of no use (arXiv:2509.16601), and low errors of both can hide a
surface that molecular dynamics falls through ("Forces are not enough", arXiv:2210.07237). ``check`` measures what
such a model does; its rows join the results table, and ``summary`` shows them beside the errors with a diagnosis.

Everything here works on a ``Surface``, a function that gives energies and forces of many structures at once.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms

from mfbench.elements import formula
from mfbench.errors import UserError, unknown
from mfbench.files import as_json, parse_json
from mfbench.physics.dynamics import dynamics
from mfbench.physics.frequencies import frequencies, references
from mfbench.physics.measure import QUICK, QUICK_REMARK, WHOLE, Effort, Number, Targets
from mfbench.physics.scans import scan
from mfbench.physics.surface import Array, Geometry, Ints, Surface, Told, silent
from mfbench.results.folder import EXTRA, METRICS_FILE, PREDICTIONS_FILE, SCANS_FILE, RunFolder, as_parquet
from mfbench.results.predictions import Predictions
from mfbench.results.schema import conform

TABLE_FILE, DONE_FILE = "physics.parquet", "physics.json"


def predictions_of(run: Path) -> Predictions:
    """What a run predicted; raises UserError where the folder holds no finished run with a model."""
    folder = RunFolder(run)
    if not folder.finished:
        raise UserError(f"{run}: expected the folder of a finished run, found no {METRICS_FILE} that is sealed or old")
    if PREDICTIONS_FILE not in folder.listed():
        raise UserError(f"{run} holds no model: {folder.metrics()['remark'].iloc[0]}")
    return folder.predictions()


def targets(predictions: Predictions, level: str, only: Sequence[str] = ()) -> Targets:
    """The test structures of a run with positions, of known molecules (all, where it has none).

    Args:
        only: names or formulas of molecules; none for all.

    Raises:
        UserError: no such molecule.
    """
    p = predictions
    column = p.levels.index(level)
    ends = np.cumsum([0, *np.diff(p.offsets)[p.shown]])
    rows = [(k, int(s)) for k, s in enumerate(p.shown) if not p.unseen[s]]
    rows = rows or [(k, int(s)) for k, s in enumerate(p.shown)]
    # Energies of another level order geometries as well where this one has none.
    columns = [column, *(k for k in range(len(p.levels)) if k != column)]
    geometries, energies = [], []
    for k, s in rows:
        numbers = p.numbers[p.offsets[s] : p.offsets[s + 1]].astype(np.int64)
        geometries.append(Geometry(p.molecules[p.molecule[s]], numbers, p.positions[ends[k] : ends[k + 1]]))
        labelled = p.energy_mask[s, columns[0]]
        energies.append(p.energy_reference[s, column] if labelled else np.inf)
    for other in columns[1:]:
        if np.isfinite(energies).any():
            break
        energies = [p.energy_reference[s, other] if p.energy_mask[s, other] else np.inf for _, s in rows]
    if only:
        names = [{g.molecule, formula(g.numbers)} for g in geometries]
        if missing := [name for name in only if not any(name in one for one in names)]:
            raise unknown("molecule of this run", missing[0], set().union(*names))
        keep = [k for k, one in enumerate(names) if one & set(only)]
        geometries, energies = [geometries[k] for k in keep], [energies[k] for k in keep]
    return Targets(geometries, np.array(energies), references(level))


def surfaces(run: str | Path, device: str = "auto") -> Callable[[str], Surface]:
    """The surfaces of a run's model, by the level whose head predicts, in float64 whatever it was trained in.

    So rounding is no part of what is measured, but at the 1e-5 eV/Angstrom of weights that were rounded once.
    """
    from mfbench.study.load import load

    model = load(run, device, "float64")

    def at(level: str) -> Surface:
        def predict(numbers: Ints, positions: Array, offsets: Ints) -> tuple[Array, Array]:
            structures = [Atoms(numbers=numbers[a:b], positions=positions[a:b]) for a, b in pairwise(offsets)]
            found = model.predict(structures, level)
            return found.energies, np.zeros((len(numbers), 3)) if found.forces is None else found.forces

        def surface(numbers: Ints, positions: Array, offsets: Ints) -> tuple[Array, Array]:
            try:
                return predict(numbers, positions, offsets)
            except UserError:
                if not np.isin(numbers, model.elements).all():
                    raise
                # Atoms in one place, say: a model refuses, and a check has to go on with the other structures.
                energies, forces = np.full(len(offsets) - 1, np.nan), np.full((len(numbers), 3), np.nan)
                for k, (a, b) in enumerate(pairwise(offsets)):
                    with suppress(UserError):
                        energies[k : k + 1], forces[a:b] = predict(numbers[a:b], positions[a:b], np.array([0, b - a]))
                return energies, forces

        return surface

    return at


CHECKS = ("frequencies", "scans", "dynamics")  # the quick ones first


def check(
    run: Path,
    surfaces: Callable[[str], Surface],
    levels: Sequence[str] = (),
    effort: Effort = WHOLE,
    progress: Callable[[str], AbstractContextManager[Told]] = lambda label: nullcontext(silent),
) -> pd.DataFrame:
    """Do the physical checks of a finished run and add their rows to it, in ``extra/physics.parquet``.

    Each check is written as soon as it is finished; one that is there with the same effort is not done again.
    The curves of the scans are in ``extra/scans.parquet``.

    Args:
        surfaces: the surface of a level's head, see the function of that name.
        levels: levels of the run; none for its high level, and frequencies at every level that has reference ones.
        effort: how much is done.
        progress: makes a progress bar with a label.

    Returns:
        All physical rows of the run.

    Raises:
        UserError: the folder holds no finished run with a model, or the run has no such level or molecule.
    """
    predictions, folder = predictions_of(run), RunFolder(run)
    if missing := [name for name in levels if name not in predictions.levels]:
        raise unknown("level of this run", missing[0], predictions.levels)
    for name, level in _work(predictions, levels):
        wanted = _deciding(name, effort)
        if _done(folder).get(f"{name} {level}") == wanted:
            continue
        head = predictions.heads[predictions.levels.index(level)]
        surface, aim = surfaces(head), targets(predictions, level, effort.only)
        curves = None
        with progress(f"{run.name}, {level}") as told:
            if name == "scans":
                numbers, curves = scan(surface, aim, effort, told)
            else:
                numbers = (dynamics if name == "dynamics" else frequencies)(surface, aim, effort, told)
        rows = _rows(folder, level, numbers, _remark(effort))
        with folder.locked():  # another process may be doing other checks
            if curves is not None:
                _replace(folder, SCANS_FILE, curves.assign(level=level), ["level"])
            _replace(folder, TABLE_FILE, rows, ["level", "quantity"])
            folder.write_extra(DONE_FILE, as_json({**_done(folder), f"{name} {level}": wanted}))
    return folder.table(f"{EXTRA}/{TABLE_FILE}")


def _done(folder: RunFolder) -> dict[str, Any]:
    """Which checks were done, and with how much effort."""
    name = f"{EXTRA}/{DONE_FILE}"
    return parse_json(folder.read(name), folder.file(name)) if folder.file(name).is_file() else {}


def _work(predictions: Predictions, levels: Sequence[str]) -> Iterator[tuple[str, str]]:
    high = predictions.levels[-1]
    for name in CHECKS:
        if levels or name != "frequencies":
            yield from ((name, level) for level in levels or [high])
        else:
            yield from ((name, level) for level in predictions.levels if level == high or references(level))


def _deciding(name: str, effort: Effort) -> dict[str, Any]:
    """What of the effort a check depends on."""
    used = {"dynamics": ("trajectories", "picoseconds", "only", "seed")}.get(name, ("molecules", "only"))
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in asdict(effort).items() if key in used
    }


def _remark(effort: Effort) -> str:
    """What is special about the effort, for a reader of the rows."""
    quick = QUICK_REMARK if effort.picoseconds <= QUICK.picoseconds else ""
    only = f"only {', '.join(effort.only)}" if effort.only else ""
    return "; ".join(one for one in (quick, only) if one)


def _rows(folder: RunFolder, level: str, numbers: Sequence[Number], remark: str) -> pd.DataFrame:
    """Rows of the results table: the run's own columns as in its metrics."""
    metrics = folder.metrics()
    own = metrics[metrics["level"] == level].iloc[0].to_dict() | {"part": "test"}
    said = [{**number._asdict(), "remark": "; ".join(p for p in (number.remark, remark) if p)} for number in numbers]
    return conform(pd.DataFrame([{**own, **number} for number in said]))


def _replace(folder: RunFolder, name: str, rows: pd.DataFrame, keys: list[str]) -> None:
    """Write rows in place of those of a file in ``extra`` that agree with them in the keys."""
    path = folder.file(f"{EXTRA}/{name}")
    if path.is_file():
        old = pd.read_parquet(io.BytesIO(folder.read(f"{EXTRA}/{name}")))
        stale = pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(rows[keys]))
        rows = pd.concat([old[~stale], rows], ignore_index=True) if (~stale).any() else rows
    folder.write_extra(name, as_parquet(rows))
