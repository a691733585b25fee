"""What no training at all gives, on the high level's test part: the scale to read the errors by.

*zero*: forces of zero, and each molecule's mean energy. *low level*: the low level's own forces and relative
energies where the same frame has them, as a perfect model of the low level would predict.

    python benchmarks/baselines.py --out benchmarks/results/baselines-2026-11-23.json
"""

import json

import numpy as np
from common import CASES, parser

from mfbench import units
from mfbench.study.experiment import experiment
from mfbench.study.prepare import prepare


def baselines(name: str) -> dict[str, float | str | None]:
    """Mean absolute errors in kcal/mol and kcal/mol/Angstrom."""
    prepared = prepare(experiment(name, "SF-E"))
    part = prepared.structures[prepared.split.test]
    low, high = part.level_index(prepared.low), part.level_index(prepared.high)

    def relative(energies: np.ndarray, mask: np.ndarray) -> float:
        centred = [energies[mask & (part.molecule == m)] for m in np.unique(part.molecule[mask])]
        return float(np.abs(np.concatenate([e - e.mean() for e in centred])).mean()) * units.KCAL_PER_EV

    def atoms(mask: np.ndarray) -> np.ndarray:
        return np.repeat(mask, part.n_atoms)

    energy, force = part.energy_mask[:, high], part.force_mask[:, high]
    both_energies, both_forces = energy & part.energy_mask[:, low], force & part.force_mask[:, low]
    gap = part.forces[low].astype(float) - part.forces[high]
    return {
        "case": name,
        "zero, relative energy": relative(part.energies[:, high], energy),
        "zero, force": float(np.abs(part.forces[high, atoms(force)]).mean(dtype=float)) * units.KCAL_PER_EV,
        "low level, relative energy": relative(part.energies[:, low] - part.energies[:, high], both_energies)
        if both_energies.any()
        else None,
        "low level, force": float(np.abs(gap[atoms(both_forces)]).mean()) * units.KCAL_PER_EV
        if both_forces.any()
        else None,
    }


def main() -> None:
    args = parser(__doc__).parse_args()
    rows = [baselines(name) for name in CASES]
    for row in rows:
        print(", ".join(f"{k}: {v if isinstance(v, str | None) else round(v, 2)}" for k, v in row.items()))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
