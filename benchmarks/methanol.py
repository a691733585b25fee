"""Methanol by the MF model of the demo, in ASE: relaxation, 10 ps of dynamics at constant energy, and frequencies.

Trains the demo's ``rmd17-cc`` MF run where it is not finished (`mfbench demo` makes the same one), loads it, and hands
its calculator to ASE: BFGS, velocity Verlet at 0.5 fs from 300 K, and ``ase.vibrations``. Frequencies are compared
with the level's own where mfbench ships them; the SF-E run of the same size stands beside it.

    python benchmarks/methanol.py --runs runs --out benchmarks/results/methanol-cpu-DATE.json
"""

import json
import tempfile
import time
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import build_neighbor_list, natural_cutoffs
from ase.optimize import BFGS
from ase.vibrations import Vibrations
from common import budget, parser, write
from tqdm import tqdm

import mfbench
from mfbench import resources
from mfbench.results.folder import read_run
from mfbench.results.schema import shown

CASE, N_HIGH = "rmd17-cc", 150
TIME_STEP, TEMPERATURE = 0.5, 300  # fs, K


def reference(level: str) -> list[float] | None:
    """The level's own frequencies of methanol, 1/cm, where they ship."""
    rows = json.loads((resources.mini_data() / "frequencies.json").read_text())["rows"]
    return next((row["frequencies"] for row in rows if (row["molecule"], row["level"]) == ("CH3OH", level)), None)


def relaxed(atoms: Atoms) -> int:
    """Relax in place to 1 meV/Angstrom; the number of steps."""
    optimiser = BFGS(atoms, logfile=None)
    if not optimiser.run(fmax=1e-3, steps=500):
        raise SystemExit("the relaxation did not converge in 500 steps")
    return int(optimiser.nsteps)


def dynamics(atoms: Atoms, picoseconds: float) -> dict[str, Any]:
    """Velocity Verlet at constant energy from velocities of 300 K: drift, temperature, bonds, time a step."""
    rng = np.random.default_rng(0)
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses())[:, None])
    Stationary(atoms)
    ZeroRotation(atoms)
    # From a minimum, half of the kinetic energy goes into the bonds.
    wanted = 0.5 * units.kB * 2 * TEMPERATURE * (3 * len(atoms) - 6)
    atoms.set_momenta(atoms.get_momenta() * np.sqrt(wanted / atoms.get_kinetic_energy()))
    neighbours = build_neighbor_list(atoms, natural_cutoffs(atoms, mult=1.25), self_interaction=False)
    pairs = np.argwhere(np.triu(neighbours.get_connectivity_matrix().toarray()))
    length = [atoms.get_distance(i, j) for i, j in pairs]
    steps = round(picoseconds * 1000 / TIME_STEP)
    energies, temperatures, stretch = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    md = VelocityVerlet(atoms, timestep=TIME_STEP * units.fs)
    began = time.perf_counter()
    for k in tqdm(range(steps), desc="dynamics", unit="step", delay=2):
        md.run(1)
        energies[k] = atoms.get_total_energy()
        temperatures[k] = 2 * atoms.get_kinetic_energy() / (units.kB * (3 * len(atoms) - 6))
        stretch[k] = max(abs(atoms.get_distance(i, j) - at) for (i, j), at in zip(pairs, length))
    seconds = time.perf_counter() - began
    slope = np.polyfit(np.arange(steps) * TIME_STEP * 1e-3, energies - energies[0], 1)[0]
    return {
        "picoseconds": picoseconds,
        "drift_meV_atom_ps": float(slope * 1e3 / len(atoms)),
        "energy_spread_meV_atom": float(energies.std() * 1e3 / len(atoms)),
        "mean_temperature_K": float(temperatures.mean()),
        "largest_change_of_a_bond_Angstrom": float(stretch.max()),
        "ms_per_step": 1e3 * seconds / steps,
    }


def frequencies(atoms: Atoms) -> list[float]:
    """Harmonic frequencies, 1/cm, the six smallest in modulus (translations and rotations) left out."""
    with tempfile.TemporaryDirectory() as folder:
        vibrations = Vibrations(atoms, name=f"{folder}/vib", delta=0.005)
        vibrations.run()
        found = vibrations.get_frequencies()
    signed = np.where(np.abs(found.imag) > np.abs(found.real), -np.abs(found.imag), found.real)
    return sorted(float(value) for value in signed[np.argsort(np.abs(signed))[6:]])


def main() -> None:
    options = parser(__doc__, steps=True, runs="runs")
    options.add_argument("--picoseconds", type=float, default=10.0)
    args = options.parse_args()
    dataset = mfbench.load_data("mini-md17cc-methanol")
    start = dataset.positions[dataset.atoms_of([0])], dataset.numbers[dataset.atoms_of([0])]
    rows = []
    for arm in ("MF", "SF-E"):
        settings = mfbench.experiment(CASE, arm, n_high=N_HIGH, optimisation=budget(args))
        folder = mfbench.run(settings, args.runs, device="cpu")
        model = mfbench.load(folder, device="cpu", dtype="float64")
        for level in model.levels:
            atoms = Atoms(positions=start[0], numbers=start[1], calculator=model.calculator(level))
            row: dict[str, Any] = {"arm": arm, "n_high": N_HIGH, "level": level, "relaxation_steps": relaxed(atoms)}
            row["frequencies"] = frequencies(atoms)
            own = reference(level)
            row["frequency_mae"] = float(np.abs(np.subtract(row["frequencies"], own)).mean()) if own else None
            row |= dynamics(atoms, args.picoseconds)
            table = shown(read_run(folder))
            errors = table[(table["level"] == level) & (table["part"] == "test") & (table["metric"] == "mae")]
            row |= {f"{name}_mae": float(v) for name, v in errors.set_index("quantity")["value"].items()}
            rows.append(row)
            print({key: value for key, value in row.items() if key != "frequencies"}, flush=True)
            print("  frequencies", *(f"{value:.0f}" for value in row["frequencies"]), flush=True)
    write(
        args.out,
        threads=torch.get_num_threads(),
        units="errors in kcal/mol and kcal/mol/Angstrom, frequencies in 1/cm",
        rows=rows,
    )


if __name__ == "__main__":
    main()
