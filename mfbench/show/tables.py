"""The results as tables of numbers, in the units shown: over seeds, gaps closed, physical checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mfbench.errors import UserError, unknown
from mfbench.results.paired import Stored, nothing_stored
from mfbench.results.rows import case_rows, cases, judged_at_high_level, setups_of, with_setup
from mfbench.results.schema import METRICS, PARTS, PHYSICS, QUANTITIES, UNIT_SYSTEMS, errors, physical, shown
from mfbench.results.statistics import over_seeds
from mfbench.results.summary import summary
from mfbench.show.claims import times_text
from mfbench.show.styles import arm_order
from mfbench.show.words import METRIC_LABELS, counts, integers, pretty_unit, spread_text

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
    """Errors at the high level, one row per (n_high, arm, n_low): geometric means over seeds, in the units shown.

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
            line[column.key] = over_seeds(of.loc[of["n"] > 0, "value"])
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


def spread_table(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    system: str = "kcal/mol",
    metric: str = "mae",
    stored: Stored = nothing_stored,
) -> pd.DataFrame:
    """Errors at the high level over several seeds: a row for each size, arm and quantity, in the units shown.

    Returns:
        The columns of ``results.summary``, of ``GAP_QUANTITIES``; no row of one seed alone.
    """
    return spread_rows(summary(table, case, part, metric, stored), system)


def spread_rows(numbers: pd.DataFrame, system: str = "kcal/mol") -> pd.DataFrame:
    """``spread_table`` of a ``results.summary``."""
    return _in_order(in_units(numbers[numbers["seeds"] > 1], system))


def spread_lines(spread: pd.DataFrame) -> list[list[str]]:
    """A ``spread_table`` as lines of text: size, arm, an error of each of ``GAP_QUANTITIES``, number of seeds."""
    lines = []
    keys = ["n_high", "arm", "n_low"]
    for (n_high, arm, _), rows in spread.groupby(keys, sort=False):
        told = {row["quantity"]: spread_text(row) for _, row in rows.iterrows()}
        texts = [told.get(quantity, "n = 0") for quantity in GAP_QUANTITIES]
        lines.append([f"{n_high:,}", str(arm), *texts, str(rows["seeds"].max())])
    return lines


def fewer_lines(fewer: pd.DataFrame) -> list[list[str]]:
    """Rows of ``results.scaling.fewer`` as texts: size, arm, one of each of ``GAP_QUANTITIES``, number of seeds.

    Sizes at which the other arm has no larger one are left out: little can be told there.
    """
    lines = []
    found = _in_order(fewer[(fewer["most_seen"] > 1) & fewer["quantity"].isin(GAP_QUANTITIES)])
    for (n_high, arm), rows in found.groupby(["n_high", "arm"], sort=False):
        told = {row["quantity"]: times_text(row) for _, row in rows.iterrows()}
        texts = [told.get(quantity, "–") for quantity in GAP_QUANTITIES]
        lines.append([f"{n_high:,}", str(arm), *texts, str(rows["seeds"].min())])
    return lines


def in_units(numbers: pd.DataFrame, system: str = "kcal/mol") -> pd.DataFrame:
    """A ``results.summary`` of ``GAP_QUANTITIES``, its errors in the units shown."""
    if system not in UNIT_SYSTEMS:
        raise unknown("unit system", system, UNIT_SYSTEMS)
    found = numbers[numbers["quantity"].isin(GAP_QUANTITIES)]
    factor = found["quantity"].map({name: q.factor(system) for name, q in QUANTITIES.items()}).astype(float)
    return found.assign(**{name: found[name] * factor for name in ("value", "low", "high", "least", "most")})


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """By size, then arms and quantities as everywhere."""
    order = {name: k for k, name in enumerate([*arm_order(rows["arm"]), *QUANTITIES])}
    keys = [key for key in ("n_high", "arm", "quantity", "n_low") if key in rows]
    return rows.sort_values(keys, key=lambda c: c.map(order) if c.name in ("arm", "quantity") else c, ignore_index=True)


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
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    system: str = "kcal/mol",
    metric: str = "mae",
    stored: Stored = nothing_stored,
) -> pd.DataFrame:
    """Gap closed by every arm but ``BOUNDING_ARMS`` that has SF-E beside it, with what ``results.summary`` says of it.

    Returns:
        Columns n_high, arm, quantity, SF-E, error (the arm's), SF-EF (in the units shown), ratio (to SF-E), gap_closed,
        gap_low and gap_high (interval), seeds_with_gap, and pairs (seeds that are compared).
    """
    return gap_rows(summary(table, case, part, metric, stored), system)


def gap_rows(numbers: pd.DataFrame, system: str = "kcal/mol") -> pd.DataFrame:
    """``gap_table`` of a ``results.summary``."""
    found = in_units(numbers, system)
    errors_of = {arm: _largest(found, arm).set_index(["n_high", "quantity"])["value"] for arm in ("SF-E", "SF-EF")}
    rows = found[~found["arm"].isin(BOUNDING_ARMS) & found["ratio"].notna()]
    rows = rows[rows["n_low"] == rows.groupby(["n_high", "arm", "quantity"])["n_low"].transform("max")]
    place = pd.MultiIndex.from_frame(rows[["n_high", "quantity"]])
    beside = {arm: values.reindex(place).to_numpy() for arm, values in errors_of.items()}
    rest = ["ratio", "gap_closed", "gap_low", "gap_high", "seeds_with_gap", "pairs"]
    rows = rows.rename(columns={"value": "error"}).assign(**beside)
    return _in_order(rows[["n_high", "arm", "quantity", "SF-E", "error", "SF-EF", *rest]])


def _largest(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """An arm's rows with its largest number of low-level structures."""
    own = rows[rows["arm"] == arm]
    return own.sort_values("n_low").drop_duplicates(["n_high", "quantity"], keep="last")


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
