"""What people read: names of parts, metrics and levels, numbers and their digits, and sentences beside them."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from mfbench.results.rows import level_names
from mfbench.results.schema import PHYSICS, UNIT_SYSTEMS
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


SPREAD = "MAE: mean ± standard deviation over the seeds"

GAP_CONVENTION = (
    "Gap closed by an arm: 1 − log(err / SF-EF) / log(SF-E / SF-EF) at the same number of high-level "
    "structures; 0 = no better than SF-E, 1 = as good as SF-EF, above 1 = better than SF-EF."
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


def spread_texts(spread: pd.DataFrame, quantity: str) -> list[str]:
    """``1.66 ± 0.12`` of each row of a ``spread_table``."""
    means = column_texts(spread[f"{quantity} mean"], "")
    digits = max((len(text.partition(".")[2]) for text in means), default=0)
    spreads = [f"{value:,.{digits}f}" if np.isfinite(value) else "" for value in spread[f"{quantity} spread"]]
    return [f"{mean} ± {by}" if mean else "n = 0" for mean, by in zip(means, spreads)]


def gap_text(row: "pd.Series[float]") -> str:
    """The gap closed, or why there is none."""
    if not np.isfinite(row["SF-EF"]):
        return "no SF-EF"
    return f"{row['gap_closed']:.2f}" if np.isfinite(row["gap_closed"]) else "no gap"


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
    """``seed 0`` or ``seeds 0–4 (medians)``, of the runs that used high-level structures."""
    seeds = rows.loc[rows["n_high"] > 0, "seed"] if (rows["n_high"] > 0).any() else rows["seed"]
    return f"seed {integers(seeds)}" if seeds.nunique() == 1 else f"seeds {integers(seeds)} (medians)"


def n_low_text(rows: pd.DataFrame) -> str:
    """``1,000 low-level structures``: what the arms that learn from the low level were given."""
    used = sorted({int(n) for n in rows["n_low"] if n > 0})
    return f"{', '.join(f'{n:,}' for n in used)} low-level structures" if used else "no low-level structures"
