"""Metrics of one's own: numbers that judge predictions beside the MAE and the RMSE."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbench import extensions
from mfbench.errors import UserError
from mfbench.extensions import Registry
from mfbench.results.schema import METRICS, QUANTITIES

_TAKEN = (*METRICS, "value")  # names of metrics that mfbench itself uses


@dataclass(frozen=True)
class Metric:
    """A number of one's own that judges predictions, beside ``results.METRICS``.

    ``value`` is given what was predicted and its reference, where there is one, both (n,), or (n, 3) of forces: in
    ``quantity_unit``s, which are eV, eV/atom and eV/Angstrom. Relative energies are each minus their molecule's mean.
    """

    name: str  # in the column ``metric``, and as people read it
    value: Callable[[NDArray[np.float64], NDArray[np.float64]], float]  # (predicted, reference)
    quantities: tuple[str, ...] = tuple(QUANTITIES)
    unit: str = ""  # of the value; empty: the quantity's own

    def __call__(self, quantity: str, predicted: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
        """The number; raises UserError where ``value`` fails or gives no finite number."""
        try:
            found = float(self.value(predicted, reference))
        except Exception as error:  # whatever foreign code raises
            raise UserError(f"metric {self.name!r} of {quantity}: {type(error).__name__}: {error}") from error
        if not np.isfinite(found):
            raise UserError(f"metric {self.name!r} of {quantity}: expected a finite number, got {found}")
        return found


REGISTRY = Registry("metrics", Metric, "a Metric of that name", lambda: _TAKEN)


def metric_names() -> tuple[str, ...]:
    """Names of the metrics that were added (see ``extensions``)."""
    return extensions.names("metrics")


def known() -> list[Metric]:
    """All of them; raises UserError where one is no metric."""
    return [metric(name) for name in metric_names()]


def metric(given: str | Metric) -> Metric:
    """The metric of one's own that is called so (see ``extensions``); an object is added.

    Raises:
        UserError: there is none, or it names a quantity that does not exist.
    """
    found = given if isinstance(given, Metric) else REGISTRY.get(given)
    if strange := [one for one in found.quantities if one not in QUANTITIES]:
        raise extensions.wrong("metrics", found.name, f"quantities among {', '.join(QUANTITIES)}", strange[0])
    if isinstance(given, Metric) or found.name in _TAKEN:
        REGISTRY.add(found)
    return found
