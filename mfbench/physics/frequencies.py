"""Harmonic frequencies at the model's own minimum, against those of the level of theory."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses
from ase.optimize import BFGS

from mfbench import resources
from mfbench.files import read_json
from mfbench.physics.measure import Effort, Number, Targets
from mfbench.physics.surface import Array, Diverged, Geometry, Ints, Surface, SurfaceCalculator, Told, silent, skeleton
from mfbench.results.schema import METRICS

FMAX = 1e-3  # eV/Angstrom

MAX_STEPS = 500  # of the optimiser

HESSIAN_STEP = 0.005  # Angstrom

MAX_IMAGINARY = 30.0  # 1/cm; beyond it the geometry is a saddle point, as for the reference frequencies

PUSH = 0.1  # Angstrom, along the imaginary mode, of the atom that moves most

ATTEMPTS = 3

LINEAR = 1e-3  # smallest over largest moment of inertia

REFERENCE_FILE = "frequencies.json"


def hessian(surface: Surface, numbers: Ints, positions: Array, step: float = HESSIAN_STEP) -> Array:
    """Second derivatives (3N, 3N) eV/Angstrom^2, symmetric: central differences of forces predicted in one batch."""
    count = positions.size
    moved = np.repeat(positions.reshape(1, count), 2 * count, axis=0)
    moved[np.arange(count), np.arange(count)] += step
    moved[count + np.arange(count), np.arange(count)] -= step
    offsets = np.arange(2 * count + 1) * len(numbers)
    _, forces = surface(np.tile(numbers, 2 * count), moved.reshape(-1, 3), offsets)
    forces = np.asarray(forces, np.float64).reshape(2, count, count)
    second = -(forces[0] - forces[1]) / (2 * step)
    return (second + second.T) / 2


def harmonic(second: Array, numbers: Ints, positions: Array) -> tuple[Array, Array]:
    """Frequencies (F,) in 1/cm, ascending, imaginary ones negative, and the displacements of their modes (F, N, 3).

    F = 3N - 6, or 3N - 5 for a linear molecule: translations and rotations are projected out.

    Args:
        second: second derivatives (3N, 3N) eV/Angstrom^2.
    """
    masses = atomic_masses[numbers]
    centred = positions - masses @ positions / masses.sum()
    inertia = np.einsum("i,iab->ab", masses, [(r @ r) * np.eye(3) - np.outer(r, r) for r in centred])
    moments, axes = np.linalg.eigh(inertia)
    turns = axes.T[1:] if moments[0] < LINEAR * moments[-1] else axes.T  # about the axis of a line there is none
    root = np.sqrt(masses)[:, None]
    external = [(root * axis).ravel() for axis in np.eye(3)]
    external += [(root * np.cross(axis, centred)).ravel() for axis in turns]
    # Orthonormal columns: first those of the external motions, then all that is left.
    inside = np.linalg.qr(np.array(external).T, mode="complete")[0][:, len(external) :]  # (3N, F)
    scale = np.repeat(root, 3)
    values, vectors = np.linalg.eigh(inside.T @ (second / np.outer(scale, scale)) @ inside)
    per_cm = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
    modes = (inside @ vectors).T / scale
    return np.sign(values) * np.sqrt(np.abs(values)) * per_cm, modes.reshape(len(values), -1, 3)


def frequencies_of(surface: Surface, start: Geometry) -> Array | str:
    """Harmonic frequencies (F,) in 1/cm at the minimum nearest to a geometry, or why there are none."""
    atoms = Atoms(numbers=start.numbers, positions=start.positions, calculator=SurfaceCalculator(surface))
    before = skeleton(start.numbers, start.positions)
    for _ in range(ATTEMPTS):
        try:
            with np.errstate(all="ignore"):
                converged = BFGS(atoms, logfile=None).run(fmax=FMAX, steps=MAX_STEPS)
        except (Diverged, np.linalg.LinAlgError, ValueError):
            converged = None
        if np.isfinite(atoms.positions).all() and skeleton(start.numbers, atoms.positions) != before:
            return "the optimisation broke or made a bond"
        if converged is None:
            return "the optimisation diverged"
        if not converged:
            return f"not optimised to {FMAX:g} eV/Å in {MAX_STEPS} steps"
        second = hessian(surface, start.numbers, atoms.positions)
        if not np.isfinite(second).all():
            return "forces around the minimum are not finite"
        found, modes = harmonic(second, start.numbers, atoms.positions)
        if found[0] >= -MAX_IMAGINARY:
            return found
        atoms.positions += modes[0] * PUSH / np.linalg.norm(modes[0], axis=1).max()
    return f"a saddle point, {-found[0]:.0f}i 1/cm, and no minimum"


@cache
def _references(file: Path) -> tuple[dict[str, Any], ...]:
    return tuple(read_json(file)["rows"]) if file.is_file() else ()


def references(level: str, file: Path | None = None) -> list[tuple[Geometry, Array]]:
    """Minima of a level of theory with their harmonic frequencies (F,) in 1/cm, as they ship with the mini data."""
    return [
        (Geometry(row["molecule"], np.array(row["numbers"]), np.array(row["positions"])), np.array(row["frequencies"]))
        for row in _references(file or resources.mini_data() / REFERENCE_FILE)
        if row["level"] == level
    ]


def frequencies(surface: Surface, targets: Targets, effort: Effort, told: Told = silent) -> list[Number]:
    """Errors of harmonic frequencies at the model's own minima against those of the level, in 1/cm.

    The model's minimum is looked for from the level's own. Modes are matched in ascending order. Molecules of the
    reference that the run was not tested on are left out; so are those for which the model has no minimum, and the
    remark says which.

    Returns:
        ``frequency``, MAE and RMSE; n counts modes.
    """
    here = {skeleton(g.numbers, g.positions) for g in targets.geometries}
    known = [pair for pair in targets.references if skeleton(pair[0].numbers, pair[0].positions) in here]
    known = known[: effort.molecules]
    if not known:
        return [Number("frequency", m, np.nan, 0, targets.no_reference) for m in METRICS]
    errors, failed = [], []
    for k, (geometry, reference) in enumerate(known):
        told("frequencies", k, len(known))
        found = frequencies_of(surface, geometry)
        if isinstance(found, str):
            failed.append(f"{geometry.molecule}: {found}")
        elif len(found) != len(reference):
            failed.append(f"{geometry.molecule}: {len(found)} modes where the reference has {len(reference)}")
        else:
            errors.append(found - reference)
    told("frequencies", len(known), len(known))
    remark = "; ".join(failed)
    if not errors:
        return [Number("frequency", m, np.nan, 0, remark) for m in METRICS]
    error = np.concatenate(errors)
    remark = f"without {remark}" if remark else ""
    return [
        Number("frequency", "mae", float(np.abs(error).mean()), len(error), remark),
        Number("frequency", "rmse", float(np.sqrt((error**2).mean())), len(error), remark),
    ]
