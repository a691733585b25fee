"""What a learning curve draws: errors over seeds against the number of high-level labels, or against what labels cost.

Every backend draws the same: rows are chosen, summed up over seeds and brought to the units shown here, once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from mfbench.errors import unknown
from mfbench.results.rows import HORIZONTAL, base_arm, curve_rows
from mfbench.results.schema import QUANTITIES, UNIT_SYSTEMS, shown
from mfbench.results.statistics import over_seeds

Against = Literal["n_high", "label_seconds"]

AGAINST: dict[str, str] = {"n_high": "High-level structures", "label_seconds": "Label cost"}

COST_UNITS = {"core-days": 86400.0, "core-hours": 3600.0, "core-minutes": 60.0, "core-seconds": 1.0}  # seconds in each

POINTS = {
    "series": "str",  # the arm, and what else tells this curve from others
    "arm": "str",
    "rest": "str",  # of the series: all but the arm; empty where arms alone differ
    "n_high": "int64",
    "n_low": "int64",
    "x": "float64",  # what the error is against; NaN where it has none, or is not known
    "value": "float64",  # geometric mean over seeds; NaN where n = 0
    "low": "float64",  # 95 % interval; NaN where there is none
    "high": "float64",
    "least": "float64",  # range over the runs
    "most": "float64",
    "seeds": "int64",
    "runs": "int64",
    "n": "int64",  # number of values averaged over, the fewest of the runs
    "remark": "str",  # why n = 0
}

_SERIES = ["series", "arm", "rest", "n_high", "n_low"]  # columns that are one point's

RUNS = {
    "series": "str",
    "arm": "str",
    "rest": "str",
    "run": "str",
    "n_high": "int64",
    "n_low": "int64",
    "split_seed": "int64",
    "seed": "int64",
    "x": "float64",
    "value": "float64",
    "n": "int64",
}


@dataclass(frozen=True)
class Curves:
    """Learning curves of one case and quantity: tidy, in the units shown, whatever draws them.

    A series whose ``points`` are all of n = 0 has nothing to draw, and says why in ``remark``.
    """

    case: str
    quantity: str
    metric: str
    part: str
    unit: str  # of errors
    against: Against
    against_unit: str  # of x; empty for numbers
    points: pd.DataFrame  # columns ``POINTS``: a row for each series and size
    runs: pd.DataFrame  # columns ``RUNS``: a row for each run that has a number
    over: str = ""  # the arm that errors are divided by; empty: none

    def without(self, arms: Collection[str]) -> "Curves":
        """The same, some arms left out."""
        points, runs = (one[~one["arm"].isin(arms)] for one in (self.points, self.runs))
        return replace(self, points=points, runs=runs)

    @property
    def logarithmic(self) -> bool:
        """Whether all errors are positive: always so but for people's own metrics."""
        return bool((self.runs["value"] > 0).all())

    def with_line(self, arm: str, value: float) -> "Curves":
        """The same, with a line from side to side at an error (of the unit shown) that is of no run."""
        line = {"series": arm, "arm": arm, "rest": "", "n_high": 0, "n_low": 0, "x": np.nan, "value": value}
        line |= {"low": np.nan, "high": np.nan, "least": value, "most": value, "remark": ""}
        counts = {"seeds": 0, "runs": 0, "n": int(self.runs["n"].max())}
        own = pd.DataFrame([line | counts])[list(POINTS)].astype(POINTS)
        return replace(self, points=pd.concat([self.points, own], ignore_index=True))


def curves(
    table: pd.DataFrame,
    case: str,
    quantity: str,
    metric: str = "mae",
    system: str = "kcal/mol",
    part: str = "test",
    against: Against = "n_high",
    by: Sequence[str] = (),
    spread: pd.DataFrame | None = None,
) -> Curves:
    """The learning curves of a case.

    Args:
        table: a results table, perhaps with columns of settings beside its own.
        quantity: a key of ``QUANTITIES``.
        metric: ``mae``, ``rmse`` or one of one's own that the table holds.
        system: unit system shown, ``kcal/mol`` or ``meV``.
        against: a key of ``AGAINST``; costs are shown in one of ``COST_UNITS``.
        by: columns that tell curves of one arm apart.
        spread: ``results.summary`` of the case, part and metric, with columns of ``by`` where it holds several of a
            kind: where intervals come from. None: no intervals.

    Raises:
        UserError: the table is empty, a name is unknown, or rows of one curve would mix setups.
    """
    for kind, got, known in (("unit system", system, UNIT_SYSTEMS), ("axis", against, AGAINST)):
        if got not in known:
            raise unknown(kind, got, known)
    rows = _named(shown(curve_rows(table, case, quantity, metric, part, by), system), by, against)
    points = _points(rows, by)
    if spread is not None:
        points = _with_intervals(points, spread[spread["quantity"] == quantity], QUANTITIES[quantity].factor(system))
    runs = rows[rows["n"] > 0]
    against_unit = "" if against == "n_high" else cost_unit(points["x"])
    if against_unit:
        points, runs = (one.assign(x=one["x"] / COST_UNITS[against_unit]) for one in (points, runs))
    unit = str(rows["unit"].iloc[0]) if len(rows) else QUANTITIES[quantity].shown[system]
    points, runs = points[list(POINTS)].astype(POINTS), runs[list(RUNS)].astype(RUNS).reset_index(drop=True)
    return Curves(case, quantity, metric, part, unit, against, against_unit, points, runs)


def ratios(found: Curves, other: str, differences: pd.DataFrame | None = None) -> Curves:
    """Each arm's errors over another's of the same size, paired by seed.

    Args:
        other: the arm that is divided by; it is 1 throughout.
        differences: ``results.ranking.differences`` of the same runs: where intervals come from.
    """
    keys = ["rest", "n_high", "split_seed", "seed"]
    base = found.runs[found.runs["arm"] == other].drop_duplicates(keys, keep="last").set_index(keys)["value"]
    runs = found.runs[(found.runs["arm"] != other) & (found.runs["n_high"] > 0)]
    below = base.reindex(pd.MultiIndex.from_frame(runs[keys])).to_numpy()
    runs = runs.assign(value=runs["value"] / below)[np.isfinite(below)]
    rows = [
        dict(zip(_SERIES, key)) | _point(alike.assign(remark="").to_dict("records"))
        for key, alike in runs.groupby(_SERIES)
    ]
    points = pd.DataFrame(rows, columns=list(POINTS)).astype(POINTS)
    if differences is not None:
        own = differences[(differences["other"] == other) & (differences["quantity"] == found.quantity)]
        points = _with_intervals(points, own, 1.0)
    told = replace(found, unit="", points=points, runs=runs.reset_index(drop=True), over=other)
    return told.with_line(other, 1.0) if rows else told


def cost_unit(seconds: Iterable[float]) -> str:
    """The largest of ``COST_UNITS`` in which none of some costs (core-seconds) is below 0.5, NaN left aside."""
    least = min((cost for cost in seconds if cost > 0), default=1.0)
    return next((name for name, size in COST_UNITS.items() if least >= size / 2), "core-seconds")


def _named(rows: pd.DataFrame, by: Sequence[str], against: Against) -> pd.DataFrame:
    """The rows with ``series``, ``rest`` and ``x``."""
    rest = [" · ".join(map(str, values)) for values in rows[list(by)].to_numpy()]
    series = [f"{arm} · {other}" if other else arm for arm, other in zip(rows["arm"], rest)]
    x = rows[against].where(rows[against] > 0).astype(float)
    if against == "n_high":
        x = x.mask(rows["arm"].map(base_arm).isin(HORIZONTAL).astype(bool))
    return rows.assign(series=series, rest=rest, x=x)


def _points(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """A row for each series and size; ``low`` and ``high`` are not known yet."""
    keys = [*_SERIES, *by]
    told = rows[[*keys, "x", "value", "split_seed", "seed", "run", "n", "remark"]]
    groups: dict[tuple[object, ...], list[Mapping[Any, Any]]] = {}
    for row in told.to_dict("records"):  # some hundred, which pandas' own grouping takes ten times as long for
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = [dict(zip(keys, key)) | _point(alike) for key, alike in groups.items()]
    points = pd.DataFrame(found, columns=[*POINTS, *by])
    return points.sort_values(["series", "n_high", "n_low"], ignore_index=True)


def _point(alike: Sequence[Mapping[Any, Any]]) -> dict[str, object]:
    held = [row for row in alike if row["n"] > 0]
    places = {row["x"] for row in held or alike}
    values = [row["value"] for row in held]
    return {
        "x": places.pop() if len(places) == 1 else over_seeds(list(places)),
        "value": over_seeds(values),
        "low": np.nan,
        "high": np.nan,
        "least": min(values, default=np.nan),
        "most": max(values, default=np.nan),
        "seeds": len({(row["split_seed"], row["seed"]) for row in held}),
        "runs": len({row["run"] for row in held}),
        "n": min((row["n"] for row in held), default=0),
        "remark": "" if held else "; ".join(dict.fromkeys(row["remark"] or "no labels" for row in alike)),
    }


def _with_intervals(points: pd.DataFrame, spread: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The points with the intervals that a summary, or a table of differences, has for them."""
    own = [name for name in points if name in spread and name not in POINTS]
    keys = [name for name in ("arm", "n_high", "n_low", *own) if name in spread]
    bounds = (spread[["low", "high"]] * factor).itertuples(index=False, name=None)
    known = dict(zip(zip(*(spread[key].tolist() for key in keys)), bounds))
    found = [known.get(key, (np.nan, np.nan)) for key in zip(*(points[key].tolist() for key in keys))]
    return points.assign(low=[low for low, _ in found], high=[high for _, high in found])
