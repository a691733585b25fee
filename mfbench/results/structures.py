"""Test structures one by one: what each was predicted wrong by, for whoever looks at the worst of them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbench.errors import unknown
from mfbench.results.judged import judged
from mfbench.results.predictions import Predictions

COLUMNS = ("structure", "molecule", "temperature", "distance", "energy", "energy_relative", "force", "shown")


def structure_errors(predictions: Predictions, level: str, part: str = "test") -> pd.DataFrame:
    """Errors of the structures of a part at a level, a row a structure, in the data's order.

    Returns:
        Columns structure (its index in the case's data), molecule, temperature (K), distance (Angstrom, from what was
        trained on), energy and energy_relative (predicted minus reference, eV), force (RMSE of its components,
        eV/Angstrom), and shown (whether its positions are kept). NaN: not known, or not labelled.

    Raises:
        UserError: no such level.
    """
    p = predictions
    if level not in p.levels:
        raise unknown("level of these predictions", level, p.levels)
    found: dict[str, NDArray[np.float64]] = {}
    for one in judged(p):
        if one.level != level or one.part != part or one.quantity not in COLUMNS:
            continue
        error = np.where(
            one.labelled.reshape(-1, *[1] * (one.predicted.ndim - 1)), one.predicted - one.reference, np.nan
        )
        if one.quantity == "force":
            square = np.add.reduceat(np.square(error).sum(1), p.offsets[:-1])
            found["force"] = np.sqrt(square / (3 * np.diff(p.offsets)))
        else:
            found[one.quantity] = error
    nothing = np.full(len(p.structure), np.nan)
    table = pd.DataFrame(
        {
            "structure": p.structure,
            "molecule": np.array(p.molecules, dtype=object)[p.molecule],
            "temperature": np.where(p.temperature > 0, p.temperature, np.nan).astype(np.float64),
            "distance": nothing if p.distance is None else p.distance.astype(np.float64),
            **{name: found.get(name, nothing) for name in ("energy", "energy_relative", "force")},
            "shown": np.isin(np.arange(len(p.structure)), p.shown),
        }
    )
    return table[p.unseen if part == "unseen" else ~p.unseen].reset_index(drop=True)
