"""What no training at all gives: the scale to read errors by."""

import numpy as np

from mfbench.results.judged import judged
from mfbench.results.paired import PairedErrors


def zero(errors: PairedErrors) -> dict[str, float]:
    """The error of forces of zero and of relative energies of zero (each molecule's mean energy), by quantity.

    From the references that a run stored beside its predictions, in internal units; of several splits, those of one.
    Empty where predictions are not at hand, of no arm's first run.
    """
    for run in {key.arm: next(iter(of_key.values())) for key, of_key in errors.runs.items()}.values():
        predictions = errors.stored(run.name)
        if predictions is None:
            continue
        found = {}
        for one in judged(predictions):
            if (one.level, one.part) == (run.level, errors.part) and one.quantity in ("force", "energy_relative"):
                size = np.abs(one.reference[one.labelled])
                if size.size:
                    found[one.quantity] = float(np.sqrt(np.mean(size**2)) if errors.metric == "rmse" else size.mean())
        return found
    return {}
