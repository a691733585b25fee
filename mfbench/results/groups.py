"""Errors of groups of test structures: by element, molecule, temperature or distance from what was trained on; and the
groups that statistics sample.

A test structure is no independent draw: those of one molecule, or of one stretch of a trajectory, are alike. What is
sampled are molecules where there are many of them, else blocks of neighbours in the data's order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbench.elements import SYMBOLS
from mfbench.errors import UserError, unknown
from mfbench.results.judged import Judged, judged
from mfbench.results.predictions import Predictions
from mfbench.results.statistics import LogErrors

Array = NDArray[np.float64]

By = Literal["element", "molecule", "temperature", "distance"]

GROUPINGS: dict[str, str] = {
    "element": "element",
    "molecule": "molecule",
    "temperature": "temperature (K)",
    "distance": "distance from what was trained on (Å)",
}

MANY = 15  # molecules, to be sampled themselves

BLOCKS = 20  # of neighbours, where there are fewer molecules

BINS = 6  # of distances, of equally many structures

NONE_ALIKE = "no such composition"  # in what was trained on


def errors_by(
    predictions: Predictions, by: By, level: str, part: str = "test", edges: NDArray[np.floating] | None = None
) -> pd.DataFrame:
    """Errors at a level in a part, a row for each quantity and group.

    Args:
        edges: of the groups by distance; none for those of ``distance_edges``.

    Returns:
        Columns quantity, group (text), n, mae and rmse (internal units). By element there are forces alone.

    Raises:
        UserError: an unknown grouping, level or part; or the run did not record what it takes.
    """
    found = []
    for one in _judged_at(predictions, level, part):
        if by == "element" and one.quantity != "force":
            continue
        error = np.abs(one.predicted - one.reference)[one.labelled].reshape(np.count_nonzero(one.labelled), -1)
        names, index = _named(predictions, by, one, edges)
        counts = error.shape[1] * np.bincount(index, minlength=len(names))
        absolute = np.bincount(index, error.sum(1), len(names)) / np.maximum(counts, 1)
        square = np.bincount(index, np.square(error).sum(1), len(names)) / np.maximum(counts, 1)
        table = pd.DataFrame({"group": list(names), "n": counts, "mae": absolute, "rmse": np.sqrt(square)})
        found.append(table[table["n"] > 0].assign(quantity=one.quantity))
    columns = ["quantity", "group", "n", "mae", "rmse"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def _judged_at(predictions: Predictions, level: str, part: str) -> list[Judged]:
    if level not in predictions.levels:
        raise unknown("level of these predictions", level, predictions.levels)
    return [one for one in judged(predictions) if one.level == level and one.part == part and one.labelled.any()]


def distance_edges(runs: Iterable[Predictions]) -> NDArray[np.float64]:
    """Edges of groups by distance that hold equally many structures of the runs together; empty where none is known."""
    recorded = [one.distance.astype(np.float64) for one in runs if one.distance is not None]
    known = np.concatenate([np.zeros(0), *(one[np.isfinite(one)] for one in recorded)])
    return np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1))) if len(known) else known


def _named(
    predictions: Predictions, by: By, one: Judged, edges: NDArray[np.floating] | None
) -> tuple[Sequence[str], NDArray[np.int64]]:
    """Names of groups, and which of them each labelled value is in."""
    rows = one.structure[one.labelled]
    if by == "molecule":
        return predictions.molecules, predictions.molecule[rows].astype(np.int64)
    if by == "element":
        present, index = np.unique(predictions.numbers[one.labelled], return_inverse=True)
        return [SYMBOLS[int(number)] for number in present], index
    if by == "temperature":
        if not (predictions.temperature > 0).any():
            raise UserError("errors by temperature: expected temperatures of the test structures, the data have none")
        present, index = np.unique(predictions.temperature[rows], return_inverse=True)
        return [f"{value:g}" if value else "unknown" for value in present], index
    if by != "distance":
        raise unknown("grouping", by, GROUPINGS)
    if predictions.distance is None:
        raise UserError(
            "errors by distance: expected what the run recorded of it, found nothing: it was made by an earlier version"
        )
    distance = predictions.distance.astype(np.float64)
    edges = distance_edges([predictions]) if edges is None else edges
    names = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)] + [NONE_ALIKE]
    index = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, max(len(names) - 2, 0))
    return names, np.where(np.isfinite(distance), index, len(names) - 1)[rows]


# What statistics sample


def sampled(predictions: Predictions, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Which group each of some test structures (rows, ascending) is in, (R,): molecules, or blocks of neighbours."""
    molecule = np.unique(predictions.molecule[rows], return_inverse=True)[1]
    kinds = int(molecule.max(initial=-1)) + 1
    if kinds >= MANY or not kinds:
        return molecule
    # Blocks of about one size, each within a molecule, in the order of the data: that of a trajectory.
    size = len(rows) / BLOCKS
    order = np.lexsort((predictions.structure[rows], molecule))
    within = np.empty(len(rows), np.int64)
    for one in range(kinds):
        own = order[molecule[order] == one]
        blocks = max(1, round(len(own) / size))
        within[own] = np.arange(len(own)) * blocks // len(own)
    return np.unique(molecule * (len(rows) + 1) + within, return_inverse=True)[1]


@dataclass(frozen=True)
class GroupMeans:
    """Errors of one run in one quantity: means over each of G groups of test structures."""

    structures: bytes  # a digest of which ones are judged on
    counts: NDArray[np.int64]  # (G,) numbers averaged over
    absolute: Array  # (G,) means of absolute errors
    square: Array  # (G,) of squared ones


def group_means(predictions: Predictions, level: str, part: str) -> dict[str, GroupMeans]:
    """A run's errors at a level in a part, by quantity; those without a label to judge by are not there."""
    found = {}
    for one in _judged_at(predictions, level, part):
        rows = one.structure[one.labelled]
        error = np.abs(one.predicted - one.reference)[one.labelled].reshape(len(rows), -1)
        present, index = np.unique(rows, return_inverse=True)
        group = sampled(predictions, present)[index]
        counts = error.shape[1] * np.bincount(group)
        sums = (np.bincount(group, each.sum(1)) for each in (error, np.square(error)))
        where = sha256(predictions.structure[rows].tobytes()).digest()
        found[one.quantity] = GroupMeans(where, counts, *(each / counts for each in sums))
    return found


def log_errors(runs: Sequence[GroupMeans], metric: str) -> LogErrors:
    """Log errors of an arm's runs over seeds, (S, G), as ``results.statistics`` takes them.

    Args:
        runs: one a seed, judged on the same structures.
        metric: ``mae`` or ``rmse``.

    Raises:
        UserError: they were not judged on the same; or an unknown metric.
    """
    if metric not in ("mae", "rmse"):
        raise unknown("metric with intervals over structures", metric, ("mae", "rmse"))
    if len({one.structures for one in runs}) > 1:
        raise UserError("intervals over structures: expected runs judged on the same structures, got several splits")
    root = metric == "rmse"
    return LogErrors.of(np.stack([one.square if root else one.absolute for one in runs]), runs[0].counts, root)
