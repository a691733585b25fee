"""Molecular dynamics at constant energy: whether it is stable, and how far the energy drifts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses
from ase.md.velocitydistribution import Stationary, ZeroRotation
from numpy.typing import NDArray

from mfbench.physics.measure import TIME_STEP, Effort, Number, Targets, absent
from mfbench.physics.surface import Array, Geometry, Ints, Surface, Told, bonds, silent, stack

TEMPERATURES = (300, 500)  # K

# A trajectory is stable until the length of one of its bonds differs by more than this from what it was at the
# start: the threshold of arXiv:2210.07237 for molecules, which measures from the mean length in the reference data.
BOND_CHANGE = 0.5  # Angstrom

MAX_TEMPERATURE = 10_000.0  # K; a hotter molecule is not one, whatever its bonds

SHORTEST = 50.0  # fs that a trajectory must last for a slope to be fitted to its energy

# Molecular dynamics


@dataclass(frozen=True)
class Trajectories:
    """S trajectories at constant energy."""

    energies: Array  # (steps + 1, S) total energy, eV; NaN from where a trajectory is no longer sound
    broken: NDArray[np.int64]  # (S,) the step at which that is, -1 where it never is
    reasons: tuple[str, ...]  # (S,) empty where it never is
    positions: Array  # (A, 3) Angstrom, at the end or where it broke


def velocities(geometry: Geometry, temperature: float, rng: np.random.Generator) -> Array:
    """Maxwell-Boltzmann velocities (N, 3) in ASE's unit, without net momentum or rotation.

    What is left are 3N - 6 degrees of freedom at the temperature.
    """
    atoms = Atoms(numbers=geometry.numbers, positions=geometry.positions)
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * rng.standard_normal((len(atoms), 3)))
    # Not preserving the temperature, which ASE counts over all 3N: six atoms would be half as hot again.
    Stationary(atoms, preserve_temperature=False)
    ZeroRotation(atoms, preserve_temperature=False)
    return atoms.get_velocities()


def velocity_verlet(
    surface: Surface,
    geometries: Sequence[Geometry],
    start: Sequence[Array],
    steps: int,
    time_step: float = TIME_STEP,
    told: Told = silent,
) -> Trajectories:
    """Velocity Verlet (10.1063/1.442716) of many molecules in one batch.

    A trajectory is stopped, and no longer computed, once the length of one of its bonds differs from that at the
    start by more than ``BOND_CHANGE``, its energy is not finite, or it is hotter than ``MAX_TEMPERATURE``.

    Args:
        start: velocities of each geometry, (N, 3) in ASE's unit.
        time_step: fs.
    """
    numbers, positions, offsets = stack(geometries)
    velocity = np.concatenate(list(start))
    sizes = np.diff(offsets)
    pairs = [bonds(g.numbers, g.positions) + at for g, at in zip(geometries, offsets)]
    pair, bond_of = np.concatenate(pairs), np.repeat(np.arange(len(pairs)), [len(p) for p in pairs])
    length = np.linalg.norm(positions[pair[:, 0]] - positions[pair[:, 1]], axis=1)
    mass = atomic_masses[numbers][:, None]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    freedom = np.maximum(3 * sizes - 6, 1)
    dt = time_step * units.fs

    count = len(sizes)
    energies = np.full((steps + 1, count), np.nan)
    broken, reasons = np.full(count, -1), [""] * count
    alive, atoms = np.arange(count), np.arange(len(numbers))  # what is still computed
    force = np.zeros_like(positions)

    def evaluate() -> Array:
        found = np.concatenate([[0], np.cumsum(sizes[alive])])
        energy, force[atoms] = surface(numbers[atoms], positions[atoms], found)
        return energy

    for step in range(steps + 1):
        if step:
            velocity[atoms] += 0.5 * dt * force[atoms] / mass[atoms]
            positions[atoms] += dt * velocity[atoms]
        energy = evaluate()
        if step:
            velocity[atoms] += 0.5 * dt * force[atoms] / mass[atoms]
        with np.errstate(all="ignore"):
            moving = 0.5 * (mass * velocity**2).sum(1)
            kinetic = np.bincount(owner, moving, minlength=count)[alive]
            change = np.abs(np.linalg.norm(positions[pair[:, 0]] - positions[pair[:, 1]], axis=1) - length)
            torn = np.bincount(bond_of, change > BOND_CHANGE, minlength=count)[alive] > 0
            finite = np.isfinite(energy + kinetic)
            hot = ~(2 * kinetic / (units.kB * freedom[alive]) < MAX_TEMPERATURE)
        energies[step, alive] = energy + kinetic
        lost = torn | hot | ~finite
        if lost.any():
            energies[step, alive[lost]] = np.nan
            broken[alive[lost]] = step
            for one, was_finite, was_torn in zip(alive[lost], finite[lost], torn[lost]):
                reasons[one] = "a bond broke" if was_torn else "too hot" if was_finite else "energy not finite"
            alive = alive[~lost]
            atoms = np.flatnonzero(np.isin(owner, alive))
            if not len(alive):
                told("dynamics", (steps + 1) * count, (steps + 1) * count)
                break
        told("dynamics", (step + 1) * count, (steps + 1) * count)
    return Trajectories(energies, broken, tuple(reasons), positions)


def drifts(found: Trajectories, n_atoms: Ints, time_step: float = TIME_STEP) -> Array:
    """Slope of the total energy by least squares, (S,) meV/atom/ps; NaN where a trajectory lasted under 50 fs."""
    slopes = np.full(len(n_atoms), np.nan)
    for k, energy in enumerate(found.energies.T):
        sound = np.flatnonzero(np.isfinite(energy))
        if len(sound) * time_step >= SHORTEST:
            slopes[k] = np.polyfit(sound * time_step * 1e-3, energy[sound] - energy[sound[0]], 1)[0] * 1e3 / n_atoms[k]
    return slopes


def dynamics(surface: Surface, targets: Targets, effort: Effort, told: Told = silent) -> list[Number]:
    """Drift of the energy and stability of molecular dynamics at constant energy, at each of ``TEMPERATURES``.

    Trajectories start from test structures drawn by the seed, with velocities of that temperature (what is half of
    it later, for a structure at rest, or more for a distorted one), at time steps of 0.5 fs.

    Returns:
        ``nve_drift_<T>K``: mean of the absolute slopes of the total energy, meV/atom/ps, each over the time that its
        trajectory was stable; n counts those that lasted 50 fs. Of forces that are a gradient it is the error of the
        time step, which a smooth surface keeps small and a rough one does not. ``nve_stable_<T>K``: fraction of the
        trajectories that were stable to the end, see ``velocity_verlet``; n counts all.
    """
    rng = np.random.default_rng([effort.seed, 0])
    able = [g for g in targets.geometries if len(g.numbers) > 1]
    if not able:
        return absent([f"nve_{what}_{t}K" for t in TEMPERATURES for what in ("drift", "stable")], "no molecule to move")
    chosen = rng.permutation(len(able))
    chosen = np.resize(chosen, effort.trajectories)  # fewer structures than trajectories: other velocities
    geometries, start = [], []
    for temperature in TEMPERATURES:
        for pick in chosen:
            geometries.append(able[pick])
            start.append(velocities(able[pick], temperature, rng))
    steps = max(1, round(effort.picoseconds * 1000 / TIME_STEP))
    found = velocity_verlet(surface, geometries, start, steps, told=told)
    slopes = drifts(found, np.array([len(g.numbers) for g in geometries]))
    numbers = []
    for k, temperature in enumerate(TEMPERATURES):
        mine = slice(k * effort.trajectories, (k + 1) * effort.trajectories)
        usable = np.abs(slopes[mine][np.isfinite(slopes[mine])])
        stopped = found.broken[mine][found.broken[mine] >= 0]
        reasons = sorted(set(found.reasons[mine]) - {""})
        remark = f"{len(stopped)} of {effort.trajectories} trajectories ended early: {', '.join(reasons)}"
        if len(stopped):
            remark += f", first after {stopped.min() * TIME_STEP:.0f} fs"
        short = "" if len(usable) else f"no trajectory of {SHORTEST:.0f} fs" + (f": {remark}" if len(stopped) else "")
        drift = float(usable.mean()) if len(usable) else np.nan
        numbers += [
            Number(f"nve_drift_{temperature}K", "value", drift, len(usable), short),
            Number(
                f"nve_stable_{temperature}K",
                "value",
                1 - len(stopped) / effort.trajectories,
                effort.trajectories,
                remark if len(stopped) else "",
            ),
        ]
    return numbers
