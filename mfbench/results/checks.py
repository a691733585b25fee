"""What every table of results is checked for when it is read and before it is written: values, counts and words."""

import re
from typing import Any

import numpy as np
import pandas as pd

from mfbench.errors import UserError
from mfbench.results.schema import COLUMNS, EXPERIMENT, METRICS, PARTS, PHYSICS, QUANTITIES, conform

ROW = ["run", *EXPERIMENT, "level", "part", "quantity", "metric"]  # what tells the rows of a table apart

_ONE_OF = {"role": ("low", "further", "high"), "part": PARTS, "quantity": (*QUANTITIES, *PHYSICS)}

_MAY_BE_EMPTY = ("unit", "device", "remark")

_COUNTS = ("n_low", "n_high", "split_seed", "seed", "n", "steps", "steps_shared", "seconds", "structures_per_second")

# Control characters, with the separators and marks that turn or break a line: a terminal or a page would obey them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """A text without control characters, which come with other programs' messages."""
    return " ".join(_CONTROL.sub(" ", text).split())


def checked(frame: pd.DataFrame, origin: Any) -> pd.DataFrame:
    """The frame as a results table, if all in it can be.

    Args:
        origin: where it is from, for messages.

    Raises:
        UserError: names the column and the first row that is wrong, expected and got.
    """
    for name, kind in COLUMNS.items():
        if kind == "str" and name in frame:
            _check_text(frame[name], origin)
    table = conform(frame)

    def refuse(wrong: "pd.Series[bool]", column: str, expected: str) -> None:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise _refused(origin, column, row, expected, table[column].tolist()[row])

    for name, known in _ONE_OF.items():
        refuse(~table[name].isin(known), name, f"one of {', '.join(known)}")
    for name in _COUNTS:
        refuse(~(table[name] >= 0) | ~np.isfinite(table[name]), name, "0 or more")
    judged, error = table["n"] > 0, table["metric"].isin(METRICS)
    refuse(judged & ~np.isfinite(table["value"]), "value", "a finite number where n > 0")
    refuse(judged & error & (table["value"] < 0), "value", "0 or more, as of any error")
    if (twice := table.duplicated(ROW)).any():
        row = table[twice].iloc[0]
        raise UserError(
            f"{origin}: expected each error once, got row {int(np.flatnonzero(twice)[0])} a second time: "
            f"{row['arm']}, {row['level']}, {row['part']}, {row['quantity']}, {row['metric']}"
        )
    return table


def _check_text(column: "pd.Series[Any]", origin: Any) -> None:
    """Check a column of names or remarks before anything turns its values into text."""
    for value in column.unique():
        if not isinstance(value, str):
            expected = "text"
        elif _CONTROL.search(value):
            expected = "text without control characters"
        elif not value.strip() and column.name not in _MAY_BE_EMPTY:
            expected = "a name"
        else:
            continue
        same = column.isna() if pd.isna(value) else column == value
        raise _refused(origin, str(column.name), int(np.flatnonzero(same)[0]), expected, value)


def _refused(origin: Any, column: str, row: int, expected: str, got: Any) -> UserError:
    return UserError(f"{origin}: column {column}, row {row}: expected {expected}, got {got!r:.80}")
