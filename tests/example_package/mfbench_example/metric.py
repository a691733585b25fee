"""A metric: how many energies are as good as chemists ask for."""

import numpy as np
from numpy.typing import NDArray

from mfbench.results.metrics import Metric
from mfbench.units import convert

ACCURACY = convert(1.0, "kcal/mol", "eV")


def within(predicted: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The fraction of errors below 1 kcal/mol."""
    return float((np.abs(predicted - reference) < ACCURACY).mean())


WITHIN = Metric("within 1 kcal/mol", within, quantities=("energy", "energy_relative"), unit="fraction")
