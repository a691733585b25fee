"""Choices of rows of the results table, and the gap closed."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mfbench.errors import UserError, unknown
from mfbench.results.schema import EXPERIMENT, EXTERNAL, PARTS, QUANTITIES, errors, metrics_of

SETUP = ["data", "backbone", "preset"]  # rows that differ here are never drawn as one curve

NOTHING = "zero"  # no arm, but what predicting nothing gives: see ``results.baselines``

# Arms whose number of high-level structures is not a choice: lines, not curves.
HORIZONTAL = (NOTHING, "SF-low", "oracle")


def base_arm(arm: str) -> str:
    """The arm without what makes it a variant: ``MF`` of ``MF (no low forces)``."""
    return arm.partition(" (")[0]


def recipe_settings(preset: str) -> dict[str, str]:
    """What differs from a preset, of its text in the table: ``{"steps": "60"}`` of ``demo (steps=60)``."""
    return dict(re.findall(r"(\w+)=(.*?)(?=, \w+=|\)$)", preset.partition(" (")[2]))


# Choosing rows


def cases(table: pd.DataFrame) -> list[str]:
    """The cases that have rows, in order of first appearance."""
    return list(dict.fromkeys(table["case"]))


def case_rows(table: pd.DataFrame, case: str) -> pd.DataFrame:
    """The errors of one case; rows of physical checks are no errors and are left out.

    Raises:
        UserError: the table is empty, or has no row of that case.
    """
    return table[_of_case(table, case)]


def _of_case(table: pd.DataFrame, case: str) -> "pd.Series[bool]":
    if table.empty:
        raise UserError("no results to show: expected rows of finished runs, got an empty table; run `mfbench demo`")
    found = table["case"] == case
    if not found.any():
        raise unknown("case in these results", case, cases(table))
    return found & table["quantity"].isin(list(QUANTITIES))


def setups_of(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The distinct (data, backbone, preset) of the rows; one curve shows one of them.

    Other codes' rows join those of the same data, and are a setup of their own only where there are none.
    """
    found = list(table[SETUP].drop_duplicates().itertuples(index=False, name=None))
    own = [one for one in found if one[2] != EXTERNAL]
    return own + [one for one in found if one[2] == EXTERNAL and one[0] not in {data for data, *_ in own}]


def with_setup(table: pd.DataFrame, setup: Sequence[str]) -> pd.DataFrame:
    """The rows with these (data, backbone, preset), and other codes' rows of the same data."""
    external = (table["data"] == setup[0]) & (table["preset"] == EXTERNAL)
    return table[(table[SETUP] == list(setup)).all(axis=1) | external]


def largest_n_low(rows: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Of each arm (and whatever else it is told apart by), the rows with its largest number of low-level structures."""
    return rows[rows["n_low"] == rows.groupby(["arm", *by])["n_low"].transform("max")]


def judged_at_high_level(table: pd.DataFrame, case: str, part: str = "test") -> pd.DataFrame:
    """One case's errors against high-level labels; SF-low's are those of its low-level head."""
    return table[_judged(table, case, part)]


def _judged(table: pd.DataFrame, case: str, part: str) -> "pd.Series[bool]":
    return _of_case(table, case) & (table["role"] == "high") & (table["part"] == part)


def judged_at(table: pd.DataFrame, level: str) -> pd.DataFrame:
    """The table with a level in the place of the high one: its errors are those that are judged by."""
    return table.assign(role=table["role"].mask(table["level"] == level, "high").mask(table["level"] != level, "low"))


def curve_rows(
    table: pd.DataFrame, case: str, quantity: str, metric: str = "mae", part: str = "test", by: Sequence[str] = ()
) -> pd.DataFrame:
    """The rows a learning curve shows: one quantity and metric, judged at the high level.

    Args:
        by: columns that tell curves of one arm apart.

    Raises:
        UserError: a name is unknown, or rows of one curve would mix data choices, backbones or presets.
    """
    for kind, got, known in (
        ("quantity", quantity, QUANTITIES),
        ("metric", metric, metrics_of(table)),
        ("part", part, PARTS),
    ):
        if got not in known:
            raise unknown(kind, got, known)
    # One choice of rows, not one after another: each copies all columns.
    rows = table[_judged(table, case, part) & (table["quantity"] == quantity) & (table["metric"] == metric)]
    for _, alike in rows.groupby(list(by)) if by else [((), rows)]:
        if len(found := setups_of(alike)) > 1:
            raise UserError(
                f"a learning curve shows one (data, backbone, preset), got {found}; "
                "choose one with plots.with_setup(table, ...)"
            )
    return largest_n_low(rows, by)


def level_names(table: pd.DataFrame, case: str) -> tuple[list[str], list[str]]:
    """The low and the high level(s) of a case, as far as its rows tell."""
    rows = case_rows(table, case)
    high = rows.loc[rows["role"] == "high", "level"]
    low = pd.concat([rows.loc[rows["role"] == "low", "level"], rows["head"]])
    return [name for name in dict.fromkeys(low) if name and name not in set(high)], list(dict.fromkeys(high))


def gap(error: ArrayLike, sf_e: ArrayLike, sf_ef: ArrayLike) -> NDArray[np.float64]:
    """The gap closed by errors, one by one: 1 - log(error / sf_ef) / log(sf_e / sf_ef).

    0 = no better than SF-E, 1 = as good as SF-EF; NaN where SF-EF is no better than SF-E, for then there is no gap.
    """
    own, without, best = (np.asarray(one, float) for one in (error, sf_e, sf_ef))
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.log(without / best)
        return np.where(whole > 0, 1 - np.log(own / best) / whole, np.nan)


def gap_closed(table: pd.DataFrame, arm: str = "MF") -> pd.DataFrame:
    """How much of the gap from SF-E to SF-EF an arm closes, at the same number of high-level structures.

    As ``gap`` says, paired by everything but the arm (and the number of low-level structures, which SF-E and SF-EF
    do not use). Only rows judged at the high level by that level's own head.

    Returns:
        Columns: EXPERIMENT without arm and n_low, part, quantity, metric, SF-E, arm, SF-EF,
        ratio (= arm / SF-E) and gap_closed. ``SF-EF`` and ``gap_closed`` are NaN where SF-EF has n = 0.
    """
    keys = [k for k in EXPERIMENT if k not in ("arm", "n_low")] + ["part", "quantity", "metric"]
    rows = errors(table)
    rows = rows[(rows["role"] == "high") & (rows["head"] == rows["level"])]
    # Several low-level sizes of one arm would be averaged by a pivot: keep the largest.
    rows = rows.sort_values("n_low").drop_duplicates([*keys, "arm"], keep="last")
    wide = rows.pivot(index=keys, columns="arm", values="value")
    wide = wide.reindex(columns=["SF-E", arm, "SF-EF"]).dropna(subset=["SF-E", arm]).reset_index()
    with np.errstate(divide="ignore", invalid="ignore"):
        wide["ratio"] = wide[arm] / wide["SF-E"]
    wide["gap_closed"] = gap(wide[arm], wide["SF-E"], wide["SF-EF"])
    wide.columns.name = None
    return wide
