"""How good predictions are: rows of the results table, by the metrics that every run has and by one's own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mfbench import metrics, results
from mfbench.errors import UserError
from mfbench.metrics import ErrorSums, Metric, centred
from mfbench.predictions import Predictions
from mfbench.structures import read_arrays

PREDICTIONS_FILE = "predictions.h5"
NO_ENERGIES = "energies of this level were not learned from, so total energies have no zero"


def roles(count: int) -> tuple[str, ...]:
    """What each of an experiment's levels is to it, from low to high."""
    return ("low", *["further"] * (count - 2), "high")


@dataclass(frozen=True)
class _Judged:
    """What is predicted of one quantity at one level in one part, and its reference."""

    place: dict[str, str]  # level, role, head, part and quantity
    predicted: Tensor  # (n,), or (n, 3) of forces
    reference: Tensor
    labelled: Tensor  # (n,) which of them have a reference that they can be compared with
    remark: str

    def row(self, metric: str, value: float, unit: str = "") -> dict[str, Any]:
        """A row of the results table, without the experiment's own columns."""
        n = int(self.labelled.sum()) * self.predicted[0].numel()
        said = {"unit": unit, "n": n, "remark": "" if n else self.remark}
        return {**self.place, "metric": metric, "value": value, **said}

    def measured(self, metric: Metric, absent: str | None) -> dict[str, Any]:
        """The row of a metric of one's own: n = 0, and why, where there is nothing to judge, or where it fails."""
        row = self.row(metric.name, math.nan, metric.unit)
        if absent is None:
            try:
                values = (each[self.labelled].double().numpy() for each in (self.predicted, self.reference))
                return {**row, "value": metric(self.place["quantity"], *values)}
            except UserError as error:
                absent = str(error)
        return {**row, "n": 0, "remark": absent}


def evaluate(predictions: Predictions) -> pd.DataFrame:
    """Rows of the results table (without the experiment's own columns) for each level and part."""
    rows = []
    for one in _judged(predictions):
        error = one.predicted - one.reference
        sums = ErrorSums.of(error, one.labelled.reshape(-1, *[1] * (error.dim() - 1)))
        rows += [one.row("mae", float(sums.mae())), one.row("rmse", float(sums.rmse()))]
    return pd.DataFrame(rows)


def measure(folder: Path) -> Path | None:
    """Judge what a finished run predicted by the metrics that were added (see ``extensions``).

    Returns:
        The file of rows of the results table, in the run folder's ``extra``; None where no metric was added.
    """
    own = metrics.known()
    predictions = folder / PREDICTIONS_FILE
    if not own or not predictions.is_file():  # no predictions: the data did not allow the experiment
        return None
    table = results.read_metrics(folder / results.METRICS_FILE)
    # What mfbench's own metrics do not judge, and why.
    absent = table[(table["metric"] == "mae") & (table["n"] == 0)].set_index(["level", "part", "quantity"])["remark"]
    rows = []
    for one in _judged(read_arrays(predictions, Predictions)):
        remark = absent.get((one.place["level"], one.place["part"], one.place["quantity"]))
        rows += [one.measured(metric, remark) for metric in own if one.place["quantity"] in metric.quantities]
    if not rows:
        return None
    same = [name for name in results.COLUMNS if name not in rows[0]]
    found = results.conform(pd.DataFrame(rows).assign(**table.iloc[0][same]))
    file = folder / results.EXTRA / results.METRICS_FILE
    if file.is_file():  # metrics that are not known here stay as they were
        old = results.read_metrics(file)
        found = results.conform(pd.concat([old[~old["metric"].isin([metric.name for metric in own])], found]))
    with results.replacing(file) as temporary:
        found.to_parquet(temporary, index=False)
    return file


def _judged(predictions: Predictions) -> Iterator[_Judged]:
    """All that can be judged: at each level, in each part, each quantity."""
    p = predictions
    n_atoms = torch.as_tensor(np.diff(p.offsets))
    owner = torch.repeat_interleave(torch.arange(len(n_atoms)), n_atoms)
    for column, (level, role) in enumerate(zip(p.levels, roles(len(p.levels)))):
        head = p.heads[column]
        energies = torch.as_tensor(p.energy_predicted[:, column]), torch.as_tensor(p.energy_reference[:, column])
        forces = torch.as_tensor(p.force_predicted[:, column]).double(), torch.as_tensor(p.force_reference[:, column])
        for part, chosen in (("test", ~p.unseen), ("unseen", p.unseen)):
            if not chosen.any():
                continue
            labelled = torch.as_tensor(chosen & p.energy_mask[:, column])
            # Another level's total energy is not comparable: its atoms have other reference energies.
            comparable = labelled & (head == level)
            with_forces = torch.as_tensor(chosen & p.force_mask[:, column])[owner]
            molecule = torch.as_tensor(p.molecule).long()
            relative = centred(energies[1], molecule, labelled)
            error = centred(energies[0] - energies[1], molecule, labelled)
            foreign = "" if head == level else f"no head at this level: judged by its {head} head"
            for quantity, (predicted, reference), mask, remark in (
                ("energy", energies, comparable, foreign),
                ("energy_per_atom", (energies[0] / n_atoms, energies[1] / n_atoms), comparable, foreign),
                ("energy_relative", (relative + error, relative), labelled, ""),
                ("force", (forces[0], forces[1].double()), with_forces, ""),
            ):
                place = {"level": level, "role": role, "head": head, "part": part, "quantity": quantity}
                remark = remark or f"no {quantity.split('_')[0]} labels at this level in this part"
                yield _Judged(place, predicted, reference, mask, remark)
