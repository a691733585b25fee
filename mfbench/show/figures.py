"""Figures for papers: pure functions, results -> ``Figure``, drawn by HoloViews' Matplotlib backend.

Rows and numbers are those of the pages (``results.curves``, ``results.summary``, ``results.judged``): nothing is
computed here. ``save`` writes a figure as PDF, SVG or PNG; ``FIGURES`` names them all.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import holoviews as hv
import numpy as np
import pandas as pd

from mfbench.errors import UserError, unknown
from mfbench.results.curves import AGAINST, Against, Curves, curves
from mfbench.results.judged import Judged, judged
from mfbench.results.paired import Stored, nothing_stored
from mfbench.results.predictions import Predictions
from mfbench.results.rows import judged_at_high_level
from mfbench.results.schema import QUANTITIES, UNIT_SYSTEMS
from mfbench.results.summary import summary
from mfbench.show.paper import Figure, Key, bars, lines, panel, rules, save
from mfbench.show.plots import log_ticks, series_order, spread
from mfbench.show.sheets import numbers_of, with_units
from mfbench.show.styles import arm_order, curve_style
from mfbench.show.tables import gap_table
from mfbench.show.words import METRIC_LABELS, PART_LABELS, levels_label, number, pretty_unit

__all__ = ["FIGURES", "Figure", "errors", "gap", "label_cost", "learning_curve", "of_curves", "parity", "save"]

BOTH = ("energy", "force")

_BARS = "bars: 95 % interval from five seeds on, range of the seeds below"

Origin = Mapping[str, str] | None


def learning_curve(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    system: str = "kcal/mol",
    quantities: Sequence[str] = BOTH,
    arms: Sequence[str] = (),
    stored: Stored = nothing_stored,
    origin: Origin = None,
) -> Figure:
    """Error at the high level against the number of high-level structures, log-log, a panel for each quantity.

    Lines join geometric means over seeds; SF-low and the oracle, of one size each, are dashed.

    Args:
        table: a results table with one (data, backbone, preset) in the case's rows.
        case: its name in the table.
        part: ``test`` or ``unseen``.
        metric: ``mae`` or ``rmse``.
        system: unit system shown, ``kcal/mol`` or ``meV``.
        quantities: keys of ``results.QUANTITIES``.
        arms: those to show; empty: all.
        stored: what runs predicted, so that intervals are over test structures, too (``results.summary``).
        origin: where the results came from (``results.origin``), for what the file says of itself.

    Raises:
        UserError: a name is unknown, the rows mix setups, or there is no number to show.
    """
    return _against("n_high", table, case, part, metric, system, quantities, arms, stored, origin)


def label_cost(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    system: str = "kcal/mol",
    quantities: Sequence[str] = BOTH,
    arms: Sequence[str] = (),
    stored: Stored = nothing_stored,
    origin: Origin = None,
) -> Figure:
    """Error at the high level against what the labels cost in quantum chemistry; arguments as ``learning_curve``."""
    return _against("label_seconds", table, case, part, metric, system, quantities, arms, stored, origin)


def errors(
    table: pd.DataFrame,
    case: str,
    size: int | None = None,
    part: str = "test",
    metric: str = "mae",
    system: str = "kcal/mol",
    quantities: Sequence[str] = BOTH,
    arms: Sequence[str] = (),
    stored: Stored = nothing_stored,
    origin: Origin = None,
) -> Figure:
    """The arms' errors at one number of high-level structures, a line each; arguments as ``learning_curve``.

    Args:
        size: the number; the smallest by default. Arms that have no such choice are shown whatever it is.
    """
    found = _curves("n_high", table, case, part, metric, system, quantities, stored)
    sizes = sorted({int(n) for one in found for n in one.points.loc[one.points["x"].notna(), "n_high"]})
    size = size if size is not None else min(sizes, default=0)
    if sizes and size not in sizes:
        raise unknown("number of high-level structures", str(size), [str(n) for n in sizes])
    points = [_of_arms(one.points[one.points["x"].isna() | (one.points["n_high"] == size)], arms) for one in found]
    shown = _told(points, case, part)
    order = arm_order(shown["arm"])[::-1]
    panels = [_dots(held, _error_label(one), order) for one, held in zip(found, points)]
    rows = _rows(table, case, part, metric, quantities, shown["arm"])
    what = (
        f"{METRIC_LABELS[metric]} of each arm with {size:,} high-level structures; geometric mean over seeds; {_BARS}"
    )
    numbers = numbers_of("errors", what, rows, _in_full(found, points), origin)
    title = f"{_title(table, case, part)}, {size:,} high-level structures"
    return Figure(numbers, tuple(panels), title)


def gap(
    table: pd.DataFrame,
    case: str,
    part: str = "test",
    metric: str = "mae",
    system: str = "kcal/mol",
    quantities: Sequence[str] = BOTH,
    arms: Sequence[str] = (),
    stored: Stored = nothing_stored,
    origin: Origin = None,
) -> Figure:
    """The gap closed from SF-E to SF-EF against the number of high-level structures; arguments as ``learning_curve``.

    Where SF-E and SF-EF cannot be told apart there is none, and no point.
    """
    found = gap_table(table, case, part, system, metric, stored)
    found = _of_arms(found[found["quantity"].isin(list(quantities))], arms)
    if not found["gap_closed"].notna().any():
        raise UserError(
            f"{case}, {PART_LABELS[part]}: expected a gap between SF-E and SF-EF that arms close, found none: is there "
            "no SF-EF, or can the two not be told apart? `mfbench table gap` says which"
        )
    rows = _rows(table, case, part, metric, quantities, found["arm"])
    panels = [_gaps(found[found["quantity"] == name], QUANTITIES[name].label) for name in quantities]
    what = f"Gap closed, {METRIC_LABELS[metric]}: 0 = no better than SF-E, 1 = as good as SF-EF; bars: 95 % interval"
    numbers = numbers_of("gap", what, rows, with_units(found, system), origin)
    return Figure(
        numbers, tuple(panels), _title(table, case, part), tuple(Key(arm, arm) for arm in arm_order(found["arm"]))
    )


def parity(
    table: pd.DataFrame,
    run: str,
    stored: Stored,
    part: str = "test",
    system: str = "kcal/mol",
    quantities: Sequence[str] = ("energy_relative", "force"),
    origin: Origin = None,
) -> Figure:
    """What one run predicted at the high level against its reference, a panel for each quantity.

    Args:
        table: a results table with the run's rows.
        run: its name.
        stored: what runs predicted, by name.
        part: ``test`` or ``unseen``.
        system: unit system shown.
        quantities: keys of ``results.QUANTITIES``; by default relative energies, since total energies of different
            molecules would hide the errors.

    Raises:
        UserError: there is no such run, or it kept no predictions of this part.
    """
    own = table[table["run"] == run]
    predictions = stored(run) if len(own) else None
    if predictions is None:
        raise UserError(f"parity of {run}: expected a finished run that kept its predictions, found none of that name")
    rows = judged_at_high_level(own, own["case"].iloc[0], part)
    rows = rows[rows["quantity"].isin(list(quantities))]
    panels, told = [], []
    for one in judged(predictions):
        if one.role == "high" and one.part == part and one.quantity in quantities and one.labelled.any():
            points = _points(predictions, one, system).assign(arm=own["arm"].iloc[0])
            told.append(points)
            label = f"{QUANTITIES[one.quantity].label} ({points['unit'].iloc[0]})"
            panels.append(_parity(points, label, _said(rows, one.quantity, system)))
    if not panels:
        raise UserError(
            f"parity of {run}: expected labels for {PART_LABELS[part]} at the high level, found none (n = 0)"
        )
    first = own.iloc[0]
    what = f"What {first['arm']} predicted, with n_high = {first['n_high']}, against the reference"
    numbers = numbers_of(
        f"parity-{first['arm']}-{first['n_high']}-{first['seed']}",
        what,
        rows,
        pd.concat(told, ignore_index=True),
        origin,
    )
    title = f"{first['case']}: {first['arm']}, {first['n_high']:,} high-level structures, seed {first['seed']}"
    return Figure(numbers, tuple(panels), title)


def of_curves(found: Sequence[Curves], table: pd.DataFrame, title: str = "", origin: Origin = None) -> Figure:
    """Curves that were chosen already, such as a page's, a panel each.

    Args:
        found: of one case, part and metric, against one thing.
        table: a results table with their runs' rows.

    Raises:
        UserError: none has a number to show.
    """
    first = found[0]
    points = [one.points for one in found]
    shown = _told(points, first.case, first.part)
    if first.against == "label_seconds" and shown["x"].isna().all():
        raise UserError(
            f"{first.case}: expected runs whose label cost is known, found none: were they made by an earlier version?"
        )
    rows = _rows(table, first.case, first.part, first.metric, [one.quantity for one in found], shown["arm"])
    what = (
        f"{METRIC_LABELS.get(first.metric, first.metric)} against {AGAINST[first.against].lower()}; lines: geometric "
        f"mean over seeds; {_BARS}"
    )
    name = {"n_high": "learning-curve", "label_seconds": "label-cost"}[first.against]
    numbers = numbers_of(name, what, rows, _in_full(found, points), origin)
    return Figure(numbers, tuple(_lines(one) for one in found), title, _legend(shown, first.against))


FIGURES: dict[str, Callable[..., Figure]] = {
    "learning-curve": learning_curve,
    "label-cost": label_cost,
    "errors": errors,
    "gap": gap,
    "parity": parity,
}


# What is shown


def _against(
    against: Against,
    table: pd.DataFrame,
    case: str,
    part: str,
    metric: str,
    system: str,
    quantities: Sequence[str],
    arms: Sequence[str],
    stored: Stored,
    origin: Origin,
) -> Figure:
    table = _of_arms(table, arms)
    found = _curves(against, table, case, part, metric, system, quantities, stored)
    return of_curves(found, table, _title(table, case, part), origin)


def _curves(
    against: Against,
    table: pd.DataFrame,
    case: str,
    part: str,
    metric: str,
    system: str,
    quantities: Sequence[str],
    stored: Stored,
) -> list[Curves]:
    if system not in UNIT_SYSTEMS:
        raise unknown("unit system", system, UNIT_SYSTEMS)
    intervals = summary(table, case, part, metric, stored)
    return [curves(table, case, name, metric, system, part, against, spread=intervals) for name in quantities]


def _of_arms(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    if strange := [arm for arm in arms if arm not in set(rows["arm"])]:
        raise unknown("arm in these results", strange[0], arm_order(rows["arm"]))
    return rows[rows["arm"].isin(list(arms))] if arms else rows


def _told(points: Sequence[pd.DataFrame], case: str, part: str) -> pd.DataFrame:
    """All points; raises UserError where none has a number."""
    shown = pd.concat(points, ignore_index=True)
    if not (shown["n"] > 0).any():
        reasons = "; ".join(dict.fromkeys(shown["remark"])) or "no such labels"
        raise UserError(f"{case}, {PART_LABELS[part]}: expected errors to show, found none (n = 0): {reasons}")
    return shown


def _rows(
    table: pd.DataFrame, case: str, part: str, metric: str, quantities: Sequence[str], arms: Iterable[str]
) -> pd.DataFrame:
    """The rows of the results table that points are of."""
    rows = judged_at_high_level(table, case, part)
    return rows[(rows["metric"] == metric) & rows["quantity"].isin(list(quantities)) & rows["arm"].isin(set(arms))]


def _in_full(found: Sequence[Curves], points: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The points of several quantities as one table, with their units."""
    first = found[0]
    named = {"x": f"{first.against} ({first.against_unit})"} if first.against_unit else {}
    drop = ["series", "rest", *([] if named else ["x"])]
    each = [
        held.drop(columns=drop).assign(quantity=one.quantity, metric=one.metric, unit=pretty_unit(one.unit))
        for one, held in zip(found, points)
    ]
    return pd.concat(each, ignore_index=True).rename(columns=named)


def _points(predictions: Predictions, one: Judged, system: str) -> pd.DataFrame:
    """What was predicted of a quantity beside its reference: a row for each value, in the units shown."""
    factor = QUANTITIES[one.quantity].factor(system)
    places = np.repeat(one.structure[one.labelled], 3 if one.predicted.ndim == 2 else 1)
    return pd.DataFrame(
        {
            "quantity": one.quantity,
            "unit": pretty_unit(QUANTITIES[one.quantity].shown[system]),
            "molecule": np.asarray(predictions.molecules)[predictions.molecule[places]],
            "structure": predictions.structure[places],
            "reference": factor * one.reference[one.labelled].ravel(),
            "predicted": factor * one.predicted[one.labelled].ravel(),
        }
    )


def _legend(shown: pd.DataFrame, against: Against) -> tuple[Key, ...]:
    """The series; of one without any number it says so."""
    keys = []
    dashes = _dashes(shown)
    for series in series_order(shown):
        own = shown[shown["series"] == series]
        arm, text = own["arm"].iloc[0], series if (own["n"] > 0).any() else f"{series} (n = 0)"
        flat = bool(own["x"].isna().all()) and against == "n_high"
        keys.append(Key(arm, text, "dashed" if flat else dashes[own["rest"].iloc[0]], marker=not flat))
    return tuple(keys)


def _dashes(points: pd.DataFrame) -> dict[str, str]:
    """The dash of each kind of curves that an arm has several of, as Matplotlib calls it."""
    rests = sorted(points["rest"].unique())
    return {rest: curve_style(k)[0].replace("dotdash", "dashdot") for k, rest in enumerate(rests)}


def _error_label(found: Curves) -> str:
    metric = METRIC_LABELS.get(found.metric, found.metric)
    return f"{QUANTITIES[found.quantity].label} {metric} ({pretty_unit(found.unit)})"


def _title(table: pd.DataFrame, case: str, part: str) -> str:
    return f"{case}: {levels_label(table, case)}" + ("" if part == "test" else f", {part} molecules")


def _said(rows: pd.DataFrame, quantity: str, system: str) -> str:
    """The run's error of a quantity, out of its rows: ``MAE 2.06 kcal/mol, n = 180``."""
    of = rows[(rows["quantity"] == quantity) & (rows["metric"] == "mae")].iloc[0]
    unit = pretty_unit(QUANTITIES[quantity].shown[system])
    return f"MAE {number(of['value'] * QUANTITIES[quantity].factor(system))} {unit}, n = {of['n']:,}"


# Panels


def _lines(found: Curves) -> hv.Overlay:
    """Learning curves of one quantity; what has no place along the axis is dashed from side to side."""
    held = found.points[found.points["n"] > 0].sort_values(["series", "n_low", "x"])
    placed, flat = held[held["x"].notna()], held[held["x"].isna()]
    after = placed.groupby(["series", "n_low"])[["x", "value"]].shift(-1)
    dash = placed["rest"].map(_dashes(found.points))
    xlim, ylim = _limits([*placed["x"]] or [1.0], 0.1), _limits(_extent(held), 0.05)
    pieces = [
        lines(placed["arm"], placed["x"], placed["value"], after["x"], after["value"], [*dash]),
        bars(placed["arm"], placed["x"], _low(placed), placed["x"], _high(placed)),
    ]
    if found.against == "n_high":
        pieces.append(lines(flat["arm"], xlim[0], flat["value"], xlim[1], flat["value"], "dashed"))
    unit = f" ({found.against_unit})" if found.against_unit else ""
    xticks = log_ticks(*xlim) if unit else spread(placed["n_high"], math.log(xlim[1] / xlim[0]))
    return panel(
        AGAINST[found.against] + unit,
        _error_label(found),
        pieces,
        placed.rename(columns={"value": "y"}),
        [] if len(held) else [(xlim[0], 1.0, "n = 0")],
        logx=bool(len(held)),
        logy=bool(len(held)),
        xlim=xlim,
        ylim=ylim,
        xticks=_ticks(xticks),
        yticks=_ticks(log_ticks(*ylim)),
    )


def _dots(points: pd.DataFrame, label: str, order: Sequence[str]) -> hv.Overlay:
    """Errors of arms, one below the other."""
    held = points[points["n"] > 0]
    place = [float(order.index(arm)) for arm in held["arm"]]
    xlim = _limits(_extent(held), 0.05)
    return panel(
        label,
        "",
        [bars(held["arm"], _low(held), place, _high(held), place)],
        held.assign(x=held["value"], y=place),
        logx=True,
        xlim=xlim,
        ylim=(-0.6, len(order) - 0.4),
        xticks=_ticks(log_ticks(*xlim)),
        yticks=[(float(k), arm if arm in set(held["arm"]) else f"{arm} (n = 0)") for k, arm in enumerate(order)],
    )


def _gaps(found: pd.DataFrame, label: str) -> hv.Overlay:
    """The gap closed, of one quantity: arms of one size beside each other, between the lines of SF-E and SF-EF."""
    arms, sizes = arm_order(found["arm"]), sorted(set(found["n_high"]))
    beside = {arm: 0.7 * ((k + 0.5) / len(arms) - 0.5) for k, arm in enumerate(arms)}
    held = found[found["gap_closed"].notna()]
    place = [sizes.index(n) + beside[arm] for n, arm in zip(held["n_high"], held["arm"])]
    ends = np.array([0.0, 1.0, *held[["gap_closed", "gap_low", "gap_high"]].to_numpy().ravel()])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    pad, xlim = 0.06 * (high - low), (-0.5, len(sizes) - 0.5)
    return panel(
        AGAINST["n_high"],
        f"Gap closed, {label.lower()}",
        [
            rules(*((xlim[0], level, xlim[1], level) for level in (0.0, 1.0))),
            bars(held["arm"], place, held["gap_low"], place, held["gap_high"]),
        ],
        held.assign(x=place, y=held["gap_closed"]),
        [
            *((xlim[0], level, name) for level, name in ((0.0, "SF-E"), (1.0, "SF-EF"))),
            *((k - 0.2, 0.5, "no gap") for k, n in enumerate(sizes) if n not in set(held["n_high"])),
        ],
        xlim=xlim,
        ylim=(low - pad, high + pad),
        xticks=[(float(k), f"{n:,}") for k, n in enumerate(sizes)],
    )


def _parity(points: pd.DataFrame, label: str, said: str) -> hv.Overlay:
    """Predicted against reference."""
    ends = points[["reference", "predicted"]].to_numpy()
    low, high = float(ends.min()), float(ends.max())
    pad = 0.04 * (high - low) or 1.0
    limits = low - pad, high + pad
    return panel(
        f"{label}, reference",
        "Predicted",
        [rules((limits[0], limits[0], limits[1], limits[1]))],
        points.rename(columns={"reference": "x", "predicted": "y"}),
        [(limits[0], high - 2 * pad, said)],
        xlim=limits,
        ylim=limits,
        aspect="equal",
    )


def _low(held: pd.DataFrame) -> "pd.Series[float]":
    """The lower end of the interval or, where seeds are too few for one, of their range."""
    return held["low"].fillna(held["least"])


def _high(held: pd.DataFrame) -> "pd.Series[float]":
    return held["high"].fillna(held["most"])


def _extent(held: pd.DataFrame) -> list[float]:
    ends = np.concatenate([held["value"], _low(held), _high(held)])
    return [float(ends.min()), float(ends.max())] if len(ends) else [1.0]


def _limits(values: Sequence[float], pad: float) -> tuple[float, float]:
    """Bounds of a log axis: the values and ``pad`` of their span, at least a factor 1.15, on either side."""
    factor = max((max(values) / min(values)) ** pad, 1.15)
    return min(values) / factor, max(values) * factor


def _ticks(values: Iterable[float]) -> list[tuple[float, str]]:
    """Ticks with plain numbers, not powers of ten; one without a label where there is none, as HoloViews takes one."""
    return [(value, f"{value:,.10f}".rstrip("0").rstrip(".")) for value in values] or [(1.0, "")]
