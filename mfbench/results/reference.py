"""This project's own results, which ship with it."""

from pathlib import Path

import pandas as pd

from mfbench import resources
from mfbench.errors import UserError, unknown
from mfbench.results.folder import METRICS_FILE, read_metrics

# This project's own results, which ship: benchmarks/reference.py makes them.
REFERENCES = {"demo": "three cases, three arms, one seed", "arms": "all arms on ani1x-tz, five paired seeds"}


def reference(name: str = "demo") -> Path:
    """The folder of one of ``REFERENCES``: its results table and where it came from.

    Raises:
        UserError: there is none of that name, or it does not ship with this copy of mfbench.
    """
    if name not in REFERENCES:
        raise unknown("reference result", name, REFERENCES)
    folder = resources.references() / name
    if not (folder / METRICS_FILE).is_file():
        raise UserError(
            f"no reference result {name!r} in this copy of mfbench: `mfbench demo` makes results of your own"
        )
    return folder


def reference_table(name: str = "demo") -> pd.DataFrame:
    """One of this project's own results, which ship with the package; see ``reference``."""
    return read_metrics(reference(name) / METRICS_FILE)
