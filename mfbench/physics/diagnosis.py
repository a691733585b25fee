"""What the physical checks of a run say beside its errors, for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mfbench.physics.check import TABLE_FILE, predictions_of
from mfbench.physics.dynamics import TEMPERATURES
from mfbench.physics.measure import QUICK_REMARK
from mfbench.results.folder import EXTRA, RunFolder
from mfbench.results.predictions import Predictions
from mfbench.results.schema import QUANTITIES

# Diagnosis

# Bounds of the diagnosis, our own: parts of the spread of the reference explained, meV/atom/ps and 1/cm.
FAIR, MAX_DRIFT, MAX_FREQUENCY = 0.9, 1.0, 100.0


def explained(predictions: Predictions, level: str) -> tuple[float, float]:
    """Parts of the spread of reference energies (relative, by molecule) and forces explained: 1 - sum e^2 / sum y^2.

    1 is perfect, 0 no better than a constant energy, or than no force at all. NaN without labels.
    """
    p = predictions
    column = p.levels.index(level)
    known = ~p.unseen if (~p.unseen).any() else p.unseen
    error, spread = 0.0, 0.0
    labelled = known & p.energy_mask[:, column]
    for molecule in np.unique(p.molecule[labelled]):
        rows = labelled & (p.molecule == molecule)
        reference, predicted = (
            e[rows, column] - e[rows, column].mean() for e in (p.energy_reference, p.energy_predicted)
        )
        error, spread = error + float(((predicted - reference) ** 2).sum()), spread + float((reference**2).sum())
    atoms = np.repeat(known & p.force_mask[:, column], np.diff(p.offsets))
    reference, predicted = (f[atoms, column].astype(np.float64) for f in (p.force_reference, p.force_predicted))
    total = float((reference**2).sum())
    return (
        1 - error / spread if spread else np.nan,
        1 - float(((predicted - reference) ** 2).sum()) / total if total else np.nan,
    )


def diagnosis(energies: float, forces: float, numbers: Mapping[str, tuple[float, str]]) -> str:
    """One line: whether a fair energy error hides anything.

    Args:
        energies, forces: what ``explained`` gives.
        numbers: quantity -> (value, remark) of the physical checks.
    """
    said = []
    if forces < FAIR:
        said.append(f"forces explain {_percent(forces)} of the reference's")
    for temperature in TEMPERATURES:
        stable, drift = (numbers.get(f"nve_{what}_{temperature}K", (np.nan, ""))[0] for what in ("stable", "drift"))
        if stable < 1:
            said.append(f"{_percent(1 - stable)} of the trajectories at {temperature} K do not last")
        if drift > MAX_DRIFT:
            said.append(f"energy drifts by {drift:.2g} meV/atom/ps at {temperature} K")
    frequency, remark = numbers.get("frequency", (np.nan, ""))
    if frequency > MAX_FREQUENCY:
        said.append(f"frequencies are off by {frequency:.0f} 1/cm")
    elif "frequency" in numbers and not np.isfinite(frequency) and not remark.startswith("no reference"):
        said.append(f"no minimum ({remark})")
    if numbers.get("bond_one_well", (np.nan, ""))[0] < 1:
        said.append(f"{_percent(1 - numbers['bond_one_well'][0])} of the bond scans have no single well")
    unjudged = "" if np.isfinite(forces) else " There are no reference forces here: only the physical checks tell."
    fair = f"energies explain {_percent(energies)} of the reference's"
    if said and energies >= FAIR:
        return f"A fair energy error hides a bad surface: {fair}, but {', '.join(said)}.{unjudged}"
    if said:
        return f"Poor throughout: {fair}, {', '.join(said)}.{unjudged}"
    if energies < FAIR:
        return f"Poor energies: {fair}; all checks passed.{unjudged}"
    also = f", forces {_percent(forces)}" if np.isfinite(forces) else ""
    return f"Nothing hidden: {fair}{also}; all checks passed.{unjudged}"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %" if np.isfinite(part) else "an unknown part"


def summary(runs: Sequence[Path], levels: Sequence[str] = (), system: str = "kcal/mol") -> str:
    """Errors and physical checks of runs side by side, with a diagnosis each.

    Args:
        levels: which levels to show; none for each run's high level.
        system: unit system of the errors.
    """
    energy, force = (QUANTITIES[name] for name in ("energy_relative", "force"))
    head = [
        ["", "", "", "rel. energy", "force", *(f"{what} {t} K" for t in TEMPERATURES for what in ("drift", "stable"))],
        ["arm", "n_high", "level", "MAE", "MAE", *["", ""] * len(TEMPERATURES)],
        ["", "", "", energy.shown[system], force.shown[system], *["meV/atom/ps", ""] * len(TEMPERATURES)],
    ]
    last = (
        ("frequency", ["frequency", "MAE", "1/cm"]),
        ("bond_one_well", ["bonds with", "one well", ""]),
        ("bond_inconsistency", ["F vs E", "", "meV"]),
        ("torsion_roughness", ["torsion", "roughness", "meV"]),
    )
    for line, texts in zip(head, zip(*(names for _, names in last))):
        line += texts
    quantities = [f"nve_{what}_{t}K" for t in TEMPERATURES for what in ("drift", "stable")] + [name for name, _ in last]
    lines, said = [], []
    for run in runs:
        predictions = predictions_of(run)
        folder = RunFolder(run)
        metrics, physical = folder.metrics(), folder.table(f"{EXTRA}/{TABLE_FILE}")
        for level in levels or (predictions.levels[-1],):
            known = metrics[(metrics["level"] == level) & (metrics["metric"] == "mae")]
            known = known.sort_values("part").drop_duplicates("quantity").set_index("quantity")
            first = known.iloc[0]
            errors = [
                float(known["value"].get(name, np.nan)) * quantity.factor(system)
                for name, quantity in (("energy_relative", energy), ("force", force))
            ]
            here = physical[(physical["level"] == level) & (physical["metric"] != "rmse")]
            numbers = {row["quantity"]: (row["value"], row["remark"]) for row in here.to_dict("records")}
            cells = [_number(value) for value in (*errors, *(numbers.get(q, (np.nan, ""))[0] for q in quantities))]
            lines.append([first["arm"], f"{first['n_high']:,}", level, *cells])
            quick = " (quick check)" if any(QUICK_REMARK in text for _, text in numbers.values()) else ""
            said.append(f"{run.name}, {level}{quick}: {diagnosis(*explained(predictions, level), numbers)}")
            said += [f"  {q.replace('_', ' ')}: {t}" for q, (_, t) in numbers.items() if t not in ("", QUICK_REMARK)]
            others = physical[(physical["quantity"] == "frequency") & (physical["metric"] == "mae")]
            for row in others[others["level"] != level].to_dict("records") if level not in levels else ():
                value = f"MAE {row['value']:.0f} 1/cm, {row['n']} modes" if row["n"] else row["remark"]
                said.append(f"  frequency at {row['level']}, by the {row['head']} head: {value}")
    widths = [max(map(len, column)) for column in zip(*head, *lines)]
    aligned = [
        "  ".join(t.ljust(w) if k in (0, 2) else t.rjust(w) for k, (t, w) in enumerate(zip(line, widths))).rstrip()
        for line in (*head, *lines)
    ]
    return "\n".join([*aligned, "", *said])


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "-"
