"""How good predictions are: rows of the results table, by the metrics that every run has and by one's own."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mfbench.data.nearness import distance_to_nearest
from mfbench.errors import UserError
from mfbench.learning.device import DeviceStructures
from mfbench.learning.predict import predict as predict_rows
from mfbench.learning.problem import Lesson, trained_on
from mfbench.learning.sums import ErrorSums
from mfbench.models.contract import Potential
from mfbench.results import metrics
from mfbench.results.checks import one_line
from mfbench.results.folder import EXTRA, METRICS_FILE, PREDICTIONS_FILE, RunFolder, as_parquet
from mfbench.results.judged import Judged, judged
from mfbench.results.metrics import Metric
from mfbench.results.predictions import Predictions, sample_rows
from mfbench.results.schema import COLUMNS, conform
from mfbench.study.prepare import Prepared


def predict(
    potential: Potential, data: DeviceStructures, prepared: Prepared, lessons: Sequence[Lesson], seed: int
) -> Predictions:
    """Predict the test and unseen parts at all levels of the experiment."""
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    heads = tuple(name if name in potential.heads else potential.heads[0] for name in prepared.levels)
    found = predict_rows(potential, data.atoms, indices, list(dict.fromkeys(heads)), forces=True)
    assert found.forces is not None
    source = [list(dict.fromkeys(heads)).index(name) for name in heads]
    energies, forces = found.energies[:, source], found.forces[:, source].astype(np.float32)
    return as_predictions(prepared, lessons, heads, energies, forces, seed)


def as_predictions(
    prepared: Prepared,
    lessons: Sequence[Lesson],
    heads: tuple[str, ...],
    energies: NDArray[np.float64],
    forces: NDArray[np.float32],
    seed: int,
) -> Predictions:
    """Predictions of the test and unseen parts, in this order, beside all the reference labels that there are.

    Args:
        lessons: what was trained on.
        heads: the level whose head predicted each of the experiment's L levels.
        energies: (T, L) eV; forces: (A, L, 3) eV/Angstrom.
        seed: which structures' positions are kept.
    """
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    part, levels = prepared.structures[indices], prepared.levels
    reference = [part.level_index(name) for name in levels]
    shown = sample_rows(len(part), seed)
    return Predictions(
        levels=levels,
        heads=heads,
        molecules=part.molecules,
        structure=indices,
        geometry=part.geometry,
        molecule=part.molecule,
        temperature=part.temperature,
        unseen=np.isin(indices, prepared.split.unseen),
        offsets=part.offsets,
        numbers=part.numbers,
        energy_reference=part.energies[:, reference],
        energy_predicted=energies,
        force_reference=part.forces[reference].swapaxes(0, 1),
        force_predicted=forces,
        energy_mask=part.energy_mask[:, reference],
        force_mask=part.force_mask[:, reference],
        shown=shown,
        positions=part[shown].positions.astype(np.float64),
        distance=distance_to_nearest(prepared.structures, indices, trained_on(lessons)),
    )


NO_ENERGIES = "energies of this level were not learned from, so total energies have no zero"


def _row(one: Judged, metric: str, value: float, unit: str = "") -> dict[str, Any]:
    """A row of the results table, without the experiment's own columns."""
    n = int(one.labelled.sum()) * one.predicted[0].size
    return {**one.place, "metric": metric, "value": value, "unit": unit, "n": n, "remark": "" if n else one.remark}


def _measured(one: Judged, metric: Metric, absent: str | None) -> dict[str, Any]:
    """The row of a metric of one's own: n = 0, and why, where there is nothing to judge, or where it fails."""
    row = _row(one, metric.name, math.nan, metric.unit)
    if absent is None:
        try:
            values = (each[one.labelled] for each in (one.predicted, one.reference))
            return {**row, "value": metric(one.quantity, *values)}
        except UserError as error:
            absent = one_line(str(error))
    return {**row, "n": 0, "remark": absent}


def evaluate(predictions: Predictions) -> pd.DataFrame:
    """Rows of the results table (without the experiment's own columns) for each level and part."""
    rows = []
    for one in judged(predictions):
        error = torch.as_tensor(one.predicted - one.reference)
        sums = ErrorSums.of(error, torch.as_tensor(one.labelled).reshape(-1, *[1] * (error.dim() - 1)))
        rows += [_row(one, "mae", float(sums.mae())), _row(one, "rmse", float(sums.rmse()))]
    return pd.DataFrame(rows)


def measure(run: Path) -> Path | None:
    """Judge what a finished run predicted by the metrics that were added (see ``extensions``).

    Returns:
        The file of rows of the results table, in the run folder's ``extra``; None where no metric was added.
    """
    own, folder = metrics.known(), RunFolder(run)
    if not own or PREDICTIONS_FILE not in folder.listed():  # no predictions: the data did not allow the experiment
        return None
    table = folder.metrics()
    # What mfbench's own metrics do not judge, and why.
    absent = table[(table["metric"] == "mae") & (table["n"] == 0)].set_index(["level", "part", "quantity"])["remark"]
    rows = []
    for one in judged(folder.predictions()):
        remark = absent.get((one.level, one.part, one.quantity))
        rows += [_measured(one, metric, remark) for metric in own if one.quantity in metric.quantities]
    if not rows:
        return None
    same = [name for name in COLUMNS if name not in rows[0]]
    found = conform(pd.DataFrame(rows).assign(**table.iloc[0][same]))
    name = f"{EXTRA}/{METRICS_FILE}"
    with folder.locked():
        if folder.file(name).is_file():  # metrics that are not known here stay as they were
            old = folder.table(name)
            found = conform(pd.concat([old[~old["metric"].isin([metric.name for metric in own])], found]))
        folder.write_extra(METRICS_FILE, as_parquet(found))
    return folder.file(name)
