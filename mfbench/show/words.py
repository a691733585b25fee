"""What people read: names of parts, metrics and levels, numbers and their digits, and sentences beside them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mfbench.results.rows import level_names
from mfbench.results.schema import PHYSICS, UNIT_SYSTEMS
from mfbench.results.statistics import FEWEST
from mfbench.theory import LEVELS

PART_LABELS = {"test": "new geometries of known molecules", "unseen": "molecules never trained on"}

METRIC_LABELS = {"mae": "MAE", "rmse": "RMSE"}  # of others, their names


def metric_labels(metrics: Iterable[str]) -> dict[str, str]:
    """Metrics by what people call them."""
    return {METRIC_LABELS.get(metric, metric): metric for metric in metrics}


def level_label(name: str) -> str:
    """A level's name for people."""
    return LEVELS[name].label if name in LEVELS else name


def levels_label(table: pd.DataFrame, case: str) -> str:
    """``low → high``, with the levels' names for people."""
    return " → ".join(", ".join(level_label(n) for n in names) for names in level_names(table, case) if names)


# Summaries


def integers(values: Iterable[int]) -> str:
    """Distinct integers for people: ``0``, ``0–4`` or ``0, 3, 7``."""
    found = sorted({int(v) for v in values})
    if len(found) > 2 and found[-1] - found[0] == len(found) - 1:
        return f"{found[0]}–{found[-1]}"
    return ", ".join(map(str, found))


def counts(values: Iterable[int]) -> str:
    """A number of values, or its range over seeds: ``1,200`` or ``900–1,200``."""
    low, high = min(found := [int(v) for v in values]), max(found)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def number(value: float) -> str:
    """Three significant digits, never in powers of ten: ``0.0123``, ``1.20``, ``16.9``, ``1,230``."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)) + 1e-12)
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def pretty_unit(unit: str) -> str:
    """The unit with Å for Angstrom."""
    return unit.replace("Angstrom", "Å")


SPREAD = (
    f"Over seeds: geometric mean, with its 95 % interval in brackets from {FEWEST} seeds on; below, the range of the "
    "seeds in parentheses"
)

GAP_CONVENTION = (
    "Gap closed by an arm: 1 − log(err / SF-EF) / log(SF-E / SF-EF) at the same number of high-level "
    "structures; 0 = no better than SF-E, 1 = as good as SF-EF, above 1 = better than SF-EF. Over seeds it is that of "
    "the mean logarithms, and there is none where SF-E and SF-EF cannot be told apart."
)

INFERRED = (
    "The three cases are inferred from the paper's abstract and the authors' public script; the body of the "
    "paper was not read, and no table of it is reproduced here."
)

CLAIM = (
    "The claim under test (Messerly et al., Mach. Learn.: Sci. Technol. 6 (2025) 035066): one model trained "
    "on low-level energies and forces together with high-level energies only (MF) is far more accurate at "
    "the high level than a model trained on those high-level energies alone (SF-E), and almost as accurate "
    "as one trained on high-level energies and forces (SF-EF)."
)


def spread_text(row: "pd.Series[float]") -> str:
    """``1.66 [1.52, 1.81]`` of a row of a ``spread_table``, or ``1.66 (1.60–1.72)`` where seeds are few."""
    low, high, brackets = ("low", "high", "[{}, {}]") if np.isfinite(row["low"]) else ("least", "most", "({}–{})")
    value, *bounds = column_texts([row["value"], row[low], row[high]])
    return f"{value} {brackets.format(*bounds)}"


def gap_text(row: "pd.Series[float] | Mapping[Any, Any]") -> str:
    """The gap closed, with its interval, or why there is none."""
    if row["pairs"] == 0:
        return "no SF-EF"
    if not np.isfinite(row["gap_closed"]):
        of = f" ({row['seeds_with_gap']:.0f} of {row['pairs']:.0f} seeds have one)" if row["pairs"] > 1 else ""
        return f"no gap{of}"
    interval = f" [{row['gap_low']:.2f}, {row['gap_high']:.2f}]" if np.isfinite(row["gap_low"]) else ""
    return f"{row['gap_closed']:.2f}{interval}"


def _physical_heads(checks: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(column, label, unit) of the numbers in a table of physical checks."""
    found = []
    for column in checks.columns[5:]:
        name, metric = column.split()
        quantity = PHYSICS[name]
        label = quantity.label if metric == "value" else f"{quantity.label}, {METRIC_LABELS[metric]}"
        found.append((column, label, quantity.shown[UNIT_SYSTEMS[0]]))
    return found


def column_texts(values: Iterable[float], empty: str = "n = 0") -> list[str]:
    """Numbers of one column with the same decimals, three digits of the smallest, so that points align."""
    found = list(values)
    finite = [abs(v) for v in found if np.isfinite(v) and v != 0]
    decimals = min(max(2 - int(np.floor(np.log10(min(finite)) + 1e-12)), 0), 4) if finite else 0
    return [f"{v:,.{decimals}f}" if np.isfinite(v) else empty for v in found]


def seeds_text(rows: pd.DataFrame) -> str:
    """``seed 0`` or ``seeds 0–4 (geometric means)``, of the runs that used high-level structures."""
    seeds = rows.loc[rows["n_high"] > 0, "seed"] if (rows["n_high"] > 0).any() else rows["seed"]
    return f"seed {integers(seeds)}" if seeds.nunique() == 1 else f"seeds {integers(seeds)} (geometric means)"


def n_low_text(rows: pd.DataFrame) -> str:
    """``1,000 low-level structures``: what the arms that learn from the low level were given."""
    used = sorted({int(n) for n in rows["n_low"] if n > 0})
    return f"{', '.join(f'{n:,}' for n in used)} low-level structures" if used else "no low-level structures"
