"""How errors of test structures are distributed, and what of them depends on: DataFrame -> HoloViews element."""

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from mfbench.errors import UserError
from mfbench.results.groups import GROUPINGS, By, distance_edges, errors_by
from mfbench.results.predictions import Predictions
from mfbench.results.schema import QUANTITIES
from mfbench.show.parity import FRAME, LOG, lines
from mfbench.show.styles import arm_style
from mfbench.show.words import METRIC_LABELS, counts, pretty_unit

MOST = 14  # groups that are shown, the worst, where there are more

SHARES = np.concatenate([np.linspace(0, 1, 201)[1:-1], [0.998, 1.0]])  # of all values: where a distribution is drawn


def distribution(found: pd.DataFrame) -> pd.DataFrame:
    """Of each run of ``parity.pairs``, below which error which share of its values lies.

    Returns:
        Columns run, error (of absolute values, above 0) and share (%).
    """
    frames = []
    for name, own in found.groupby("run", observed=True):
        errors = np.quantile((own["predicted"] - own["reference"]).abs().to_numpy(), SHARES)
        frames.append(pd.DataFrame({"run": str(name), "error": errors, "share": 100 * SHARES})[errors > 0])
    nothing = pd.DataFrame({"run": np.array([], str), "error": np.zeros(0), "share": np.zeros(0)})
    return pd.concat(frames, ignore_index=True) if frames else nothing


def ecdf(found: pd.DataFrame, quantity: str, system: str = "kcal/mol") -> hv.Segments:
    """Which share of the values has a smaller error, a line a run, on a logarithmic axis."""
    table = distribution(found)
    unit = pretty_unit(QUANTITIES[quantity].shown[system])
    return lines(table, "error", "share").opts(
        backend="bokeh",
        logx=True,
        xformatter=LOG,
        xlim=_span(table["error"].to_numpy(float)),
        ylim=(0, 100),
        xlabel=f"Error ({unit})",
        ylabel="Values with less (%)",
        hover_tooltips=[
            ("", "@run"),
            ("of the values", "@share{0} %"),
            ("have less than", f"@error{{0.[000]}} {unit}"),
        ],
        **{**FRAME, "frame_height": 300},
    )


def grouped(
    runs: Mapping[str, Predictions], by: By, level: str, part: str, quantity: str, metric: str, system: str
) -> pd.DataFrame:
    """Errors of runs in groups of test structures, in the units shown.

    Returns:
        Columns run, group (with n), value and n; ``MOST`` groups at most, then the worst. What cannot be grouped so
        (see ``errors_by``) is an empty table with the reason in its ``attrs["reason"]``.
    """
    columns = ["run", "group", "value", "n"]
    frames, edges = [], distance_edges(runs.values())
    for name, predictions in runs.items():
        try:
            own = errors_by(predictions, by, level, part, edges)
        except UserError as error:
            return _nothing(columns, str(error))
        own = own[own["quantity"] == quantity]
        frames.append(own.assign(run=name, value=own[metric] * QUANTITIES[quantity].factor(system))[columns])
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    if table.empty:
        return _nothing(columns, "By element there are forces alone." if by == "element" else "Nothing is labelled.")
    worst = table.groupby("group", sort=False)["value"].max()
    if len(worst) > MOST:
        table = table[table["group"].isin(worst.nlargest(MOST).index)]
    if by == "molecule":
        order = worst.sort_values(ascending=False).index
        table = table.sort_values("group", key=lambda names: names.map({name: k for k, name in enumerate(order)}))
    elif by == "temperature":
        table = table.sort_values("group", key=lambda names: pd.to_numeric(names, errors="coerce"), kind="stable")
    elif by == "distance":
        table = table.sort_values("group", kind="stable")
    n = table.groupby("group")["n"].agg(counts)
    table["group"] = [f"{group} (n = {n[group]})" for group in table["group"]]
    return table.reset_index(drop=True)


def _nothing(columns: list[str], reason: str) -> pd.DataFrame:
    table = pd.DataFrame({name: [] for name in columns})
    table.attrs["reason"] = reason
    return table


def dots(table: pd.DataFrame, by: By, quantity: str, metric: str, system: str = "kcal/mol") -> hv.Points:
    """Errors of groups as dots, a colour and marker a run, on a logarithmic axis.

    Args:
        table: of ``grouped``.
    """
    order = list(dict.fromkeys(table["group"]))
    styles = {name: arm_style(name) for name in set(table["run"])}
    drawn = table.assign(
        color=[styles[name].color for name in table["run"]], marker=[styles[name].marker for name in table["run"]]
    )
    drawn["group"] = pd.Categorical(drawn["group"], order[::-1]) if order else drawn["group"]
    drawn = drawn.sort_values("group").astype(dict.fromkeys(("run", "group", "color", "marker"), str))
    unit = pretty_unit(QUANTITIES[quantity].shown[system])
    return hv.Points(drawn, ["value", "group"], ["run", "n", "color", "marker"]).opts(
        backend="bokeh",
        color="color",
        marker="marker",
        size=12,
        line_color="white",
        logx=True,
        xformatter=LOG,
        xlim=_span(table["value"].to_numpy(float)),
        xlabel=f"{METRIC_LABELS[metric]} ({unit})",
        ylabel=GROUPINGS[by],
        tools=["hover"],
        hover_tooltips=[("", "@run"), ("", "@group"), (METRIC_LABELS[metric], f"@value{{0.[000]}} {unit}")],
        **{**FRAME, "frame_height": 300},
    )


def _span(values: np.ndarray) -> tuple[float, float]:
    """Of a logarithmic axis: positive values and some more."""
    positive: Any = values[np.isfinite(values) & (values > 0)]
    return (float(positive.min()) / 1.25, float(positive.max()) * 1.25) if len(positive) else (0.1, 1.0)
