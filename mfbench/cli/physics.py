"""Physical checks of runs as text for the terminal."""

from collections.abc import Sequence

import numpy as np

from mfbench.physics.diagnosis import ERRORS, NOT_MEASURED, Diagnosis, Measured, Summary
from mfbench.physics.dynamics import TEMPERATURES
from mfbench.physics.measure import QUICK_REMARK
from mfbench.results.schema import QUANTITIES

# Columns of the checks: quantity, and the three lines of its heading.
_COLUMNS = (
    *(
        (f"nve_{what}_{t}K", (f"{what} {t} K", "", unit))
        for t in TEMPERATURES
        for what, unit in (("drift", "meV/atom/ps"), ("stable", ""))
    ),
    ("frequency", ("frequency", "MAE", "1/cm")),
    ("bond_one_well", ("bonds with", "one well", "")),
    ("bond_inconsistency", ("F vs E", "", "meV")),
    ("torsion_roughness", ("torsion", "roughness", "meV")),
)


def summary_text(found: Sequence[Summary], system: str = "kcal/mol") -> str:
    """Errors and physical checks of runs side by side, with a diagnosis each.

    Args:
        system: unit system of the errors.
    """
    units = [QUANTITIES[name].shown[system] for name in ERRORS]
    first = (("", "", "", "rel. energy", "force"), ("arm", "n_high", "level", "MAE", "MAE"), ("", "", "", *units))
    head = [[*texts, *(names[line] for _, names in _COLUMNS)] for line, texts in enumerate(first)]
    lines = []
    for one in found:
        errors = [one.errors[name] * QUANTITIES[name].factor(system) for name in ERRORS]
        checks = [one.measured.get(quantity, NOT_MEASURED).value for quantity, _ in _COLUMNS]
        lines.append([one.arm, f"{one.n_high:,}", one.level, *map(_number, (*errors, *checks))])
    widths = [max(map(len, column)) for column in zip(*head, *lines)]
    aligned = [
        "  ".join(t.ljust(w) if k in (0, 2) else t.rjust(w) for k, (t, w) in enumerate(zip(line, widths))).rstrip()
        for line in (*head, *lines)
    ]
    return "\n".join([*aligned, "", *(line for one in found for line in _said(one))])


def _said(one: Summary) -> list[str]:
    """The diagnosis of one run, its remarks, and frequencies at other levels."""
    quick = " (quick check)" if one.quick else ""
    said = [f"{one.run}, {one.level}{quick}: {diagnosis_text(one.diagnosis)}"]
    said += [f"  {q.replace('_', ' ')}: {t}" for q, (_, t) in one.measured.items() if t not in ("", QUICK_REMARK)]
    for other in one.other_levels:
        value = f"MAE {other.value:.0f} 1/cm, {other.n} modes" if other.n else other.remark
        said.append(f"  frequency at {other.level}, by the {other.head} head: {value}")
    return said


def diagnosis_text(found: Diagnosis) -> str:
    """One line: whether a fair energy error hides anything."""
    said = ", ".join(_fault_text(quantity, measured) for quantity, measured in found.faults.items())
    unjudged = (
        "" if np.isfinite(found.forces) else " There are no reference forces here: only the physical checks tell."
    )
    fair = f"energies explain {_percent(found.energies)} of the reference's"
    if found.verdict == "hidden":
        return f"A fair energy error hides a bad surface: {fair}, but {said}.{unjudged}"
    if found.verdict == "poor throughout":
        return f"Poor throughout: {fair}, {said}.{unjudged}"
    if found.verdict == "poor energies":
        return f"Poor energies: {fair}; all checks passed.{unjudged}"
    also = f", forces {_percent(found.forces)}" if np.isfinite(found.forces) else ""
    return f"Nothing hidden: {fair}{also}; all checks passed.{unjudged}"


def _fault_text(quantity: str, found: Measured) -> str:
    value, remark = found
    if quantity == "force":
        return f"forces explain {_percent(value)} of the reference's"
    if quantity == "bond_one_well":
        return f"{_percent(1 - value)} of the bond scans have no single well"
    if quantity == "frequency":
        return f"frequencies are off by {value:.0f} 1/cm" if np.isfinite(value) else f"no minimum ({remark})"
    _, what, temperature = quantity.removesuffix("K").split("_")
    if what == "stable":
        return f"{_percent(1 - value)} of the trajectories at {temperature} K do not last"
    return f"energy drifts by {value:.2g} meV/atom/ps at {temperature} K"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "an unknown part"


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "-"
