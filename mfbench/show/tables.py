"""The results as tables of numbers, in the units shown: medians over seeds, gaps closed, physical checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mfbench.errors import UserError, unknown
from mfbench.results.rows import case_rows, cases, gap_closed, joined, judged_at_high_level, setups_of, with_setup
from mfbench.results.schema import METRICS, PARTS, PHYSICS, QUANTITIES, UNIT_SYSTEMS, errors, physical, shown
from mfbench.show.styles import arm_order
from mfbench.show.words import METRIC_LABELS, counts, integers, pretty_unit

BOUNDING_ARMS = ("SF-E", "SF-EF", "SF-low", "oracle")  # gap closed measures the others against these

GAP_QUANTITIES = ("energy", "energy_relative", "force")


@dataclass(frozen=True)
class Column:
    """One column of numbers in the table of errors."""

    quantity: str
    metric: str
    head: str  # short name of the quantity, shared by neighbouring columns
    own_unit: str = ""  # of a metric of one's own

    @property
    def key(self) -> str:
        return f"{self.quantity} {self.metric}"

    @property
    def label(self) -> str:
        return METRIC_LABELS.get(self.metric, self.metric)

    def unit(self, system: str) -> str:
        return pretty_unit(self.own_unit or QUANTITIES[self.quantity].shown[system])


COLUMNS = (
    Column("energy", "mae", "Energy"),
    Column("energy", "rmse", "Energy"),
    Column("energy_per_atom", "mae", "Energy/atom"),
    Column("energy_relative", "mae", "Rel. energy"),
    Column("force", "mae", "Force"),
    Column("force", "rmse", "Force"),
)


def columns_of(table: pd.DataFrame) -> tuple[Column, ...]:
    """``COLUMNS``, and one for each quantity and metric of one's own in the table, those of a quantity together."""
    heads = {column.quantity: column.head for column in COLUMNS}
    rows = errors(table)
    own = rows[~rows["metric"].isin(METRICS)].drop_duplicates(["quantity", "metric"])
    more = [Column(q, m, heads[q], unit) for q, m, unit in own[["quantity", "metric", "unit"]].itertuples(index=False)]
    return tuple(sorted([*COLUMNS, *more], key=lambda column: list(heads).index(column.quantity)))


# Tables of numbers


def sections(table: pd.DataFrame) -> list[tuple[str, tuple[str, ...]]]:
    """The (case, (data, backbone, preset)) that have rows: each is shown on its own."""
    if table.empty:
        raise UserError("no results to report: expected finished runs, found none; run `mfbench demo`")
    return [(case, setup) for case in cases(table) for setup in setups_of(case_rows(table, case))]


def parts_of(table: pd.DataFrame, case: str) -> list[str]:
    """The parts in which the case has a number at the high level; ``test`` always."""
    return [p for p in PARTS if p == "test" or (judged_at_high_level(table, case, p)["n"] > 0).any()]


def error_table(table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol") -> pd.DataFrame:
    """Errors at the high level, one row per (n_high, arm, n_low): medians over seeds, in the units shown.

    Returns:
        Columns n_high, arm, n_low, seeds (text), the keys of ``columns_of`` (NaN where n = 0), and
        ``n energies`` and ``n forces`` (text), the numbers of values behind each error.
    """
    if system not in UNIT_SYSTEMS:
        raise unknown("unit system", system, UNIT_SYSTEMS)
    rows = shown(judged_at_high_level(table, case, part), system)
    keys, numbers = ["n_high", "arm", "n_low"], columns_of(table)
    lines = []
    for key, group in rows.groupby(keys):
        line: dict[str, Any] = {**dict(zip(keys, key)), "seeds": integers(group["seed"])}
        for column in numbers:
            of = group[(group["quantity"] == column.quantity) & (group["metric"] == column.metric)]
            line[column.key] = of.loc[of["n"] > 0, "value"].median()
        for name, of_kind in (
            ("energies", group["quantity"] != "force"),
            ("forces", group["quantity"] == "force"),
        ):
            found = group.loc[of_kind & (group["n"] > 0), "n"]
            line[f"n {name}"] = counts(found) if len(found) else "0"
        lines.append(line)
    columns = [*keys, "seeds", *(c.key for c in numbers), "n energies", "n forces"]
    result = pd.DataFrame(lines, columns=columns)
    order = {arm: k for k, arm in enumerate(arm_order(result["arm"]))}
    return result.sort_values(keys, key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)


def spread_table(table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol") -> pd.DataFrame:
    """MAE at the high level over several seeds, one row per (n_high, arm, n_low), in the units shown.

    Returns:
        Columns n_high, arm, n_low, seeds (how many), and ``<quantity> mean`` and ``<quantity> spread`` (standard
        deviation) of each of ``GAP_QUANTITIES``, NaN where n = 0. No row where there is one seed alone.
    """
    rows = shown(judged_at_high_level(table, case, part), system)
    rows = rows[(rows["metric"] == "mae") & (rows["n"] > 0) & rows["quantity"].isin(GAP_QUANTITIES)]
    keys = ["n_high", "arm", "n_low"]
    grouped = rows.groupby([*keys, "quantity"])["value"].agg(mean="mean", spread="std", seeds="count").reset_index()
    found = grouped.groupby(keys)["seeds"].max().to_frame()
    for name in GAP_QUANTITIES:
        own = grouped[grouped["quantity"] == name].set_index(keys)
        found = found.join(own[["mean", "spread"]].add_prefix(f"{name} "))
    result = found[found["seeds"] > 1].reset_index()
    order = {arm: k for k, arm in enumerate(arm_order(result["arm"]))}
    return result.sort_values(keys, key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)


def remarks(table: pd.DataFrame, case: str, part: str = "test") -> list[str]:
    """Why rows have n = 0: ``SF-low, energy and energy per atom (n = 0): ...``."""
    rows = judged_at_high_level(table, case, part)
    rows = rows[rows["n"] == 0]
    said = []
    for arm in arm_order(rows["arm"]):
        for remark, group in rows[rows["arm"] == arm].groupby("remark", sort=False):
            names = [QUANTITIES[q].label.lower() for q in QUANTITIES if q in set(group["quantity"])]
            what = "" if len(names) == len(QUANTITIES) else ", " + " and ".join(names)
            said.append(f"{arm}{what} (n = 0): {str(remark) or 'no labels'}")
    return said


def gap_table(
    table: pd.DataFrame, case: str, part: str = "test", system: str = "kcal/mol", metric: str = "mae"
) -> pd.DataFrame:
    """Gap closed by every arm but ``BOUNDING_ARMS``; medians over seeds, the pairing being by seed.

    Returns:
        Columns n_high, arm, quantity, SF-E, error (the arm's), SF-EF (both in the units shown), ratio
        (error / SF-E), gap_closed, pairs (number of seeds). NaN as in ``results.gap_closed``.
    """
    keys = ["n_high", "arm", "quantity"]
    columns = ["SF-E", "error", "SF-EF", "ratio", "gap_closed"]
    found = []
    rows = joined(case_rows(table, case))
    for arm in arm_order(rows["arm"]):
        if arm not in BOUNDING_ARMS:
            gaps = gap_closed(rows, arm).rename(columns={arm: "error"})
            found.append(gaps[(gaps["part"] == part) & (gaps["metric"] == metric)].assign(arm=arm))
    if not found:
        return pd.DataFrame(columns=[*keys, *columns, "pairs"])
    gaps = pd.concat(found)
    gaps = gaps[gaps["quantity"].isin(GAP_QUANTITIES)]
    factor = gaps["quantity"].map({name: q.factor(system) for name, q in QUANTITIES.items()}).astype(float)
    for column in ("SF-E", "error", "SF-EF"):
        gaps[column] = gaps[column] * factor
    grouped = gaps.groupby(keys, sort=False)
    result = grouped[columns].median().assign(pairs=grouped["ratio"].count()).reset_index()
    order = {name: k for k, name in enumerate([*arm_order(gaps["arm"]), *QUANTITIES])}
    return result.sort_values(keys, key=lambda c: c if c.name == "n_high" else c.map(order), ignore_index=True)


def physical_table(table: pd.DataFrame, case: str, setup: Sequence[str]) -> pd.DataFrame:
    """Physical checks of the runs of a case of this setup: medians over seeds; empty where there are none.

    Returns:
        Columns n_high, arm, n_low, level, seeds (text) and, of the quantities that were checked, ``<quantity>
        <metric>`` (NaN where n = 0, or where the check was not done).
    """
    rows = with_setup(physical(table[table["case"] == case]), setup)
    rows = rows[rows["metric"] != "rmse"]
    keys = ["n_high", "arm", "n_low", "level"]
    if rows.empty:
        return pd.DataFrame(columns=[*keys, "seeds"])
    rows = rows.assign(value=rows["value"].where(rows["n"] > 0), column=rows["quantity"] + " " + rows["metric"])
    wide = rows.pivot_table(index=keys, columns="column", values="value", aggfunc="median", dropna=False)
    there = rows.groupby(keys)["seed"].agg(integers).rename("seeds")
    wide = there.to_frame().join(wide).reset_index()
    found = [(name, metric) for name in PHYSICS for metric in ("value", "mae") if f"{name} {metric}" in wide]
    order = {arm: k for k, arm in enumerate(arm_order(wide["arm"]))}
    wide = wide.sort_values(keys, key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)
    return wide[[*keys, "seeds", *(f"{name} {metric}" for name, metric in found)]]
