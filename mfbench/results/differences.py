"""What tells two runs apart: their settings, and their results."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.schema import shown

NOT_SET = "–"  # of a setting that one of the two does not have

# What a row of results is a number of.
_NUMBER = ["level", "part", "quantity", "metric", "unit"]


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by one name each: ``optimisation.steps``; where nothing is in one, nothing is said."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def settings_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> pd.DataFrame:
    """The settings in which two runs differ: ``setting``, ``first``, ``second``, as texts."""
    a, b = flat(first), flat(second)
    names = [name for name in dict.fromkeys([*a, *b]) if name not in a or name not in b or a[name] != b[name]]
    rows = [(name, *(str(one[name]) if name in one else NOT_SET for one in (a, b))) for name in names]
    return pd.DataFrame(rows, columns=["setting", "first", "second"], dtype="str")


def results_apart(table: pd.DataFrame, first: str, second: str, system: str = "kcal/mol") -> pd.DataFrame:
    """The numbers of two runs side by side.

    Returns:
        ``level``, ``part``, ``quantity``, ``metric``, ``unit`` (of the unit system), ``first``, ``second``, and
        ``ratio``, second to first; NaN where there is no number.
    """
    rows = shown(table[table["run"].isin([first, second])], system)
    wide = rows.pivot_table(index=_NUMBER, columns="run", values="value", sort=False, dropna=False, observed=True)
    wide = wide.reindex(columns=[first, second]).set_axis(["first", "second"], axis=1).dropna(how="all").reset_index()
    with np.errstate(divide="ignore", invalid="ignore"):
        return wide.assign(ratio=wide["second"] / wide["first"].where(wide["first"] != 0))
