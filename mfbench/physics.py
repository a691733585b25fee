"""Physical checks of a finished run: molecular dynamics, harmonic frequencies, and scans of bonds and torsions.

A low error of the energies can hide forces that are of no use (arXiv:2509.16601), and low errors of both can hide a
surface that molecular dynamics falls through ("Forces are not enough", arXiv:2210.07237). ``check`` measures what
such a model does; its rows join the results table, and ``summary`` shows them beside the errors with a diagnosis.

Everything here works on a ``Surface``, a function that gives energies and forces of many structures at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_masses, chemical_symbols, covalent_radii
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.optimize import BFGS
from numpy.typing import NDArray
from scipy.integrate import cumulative_simpson  # type: ignore[import-untyped]
from scipy.signal import find_peaks  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from mfbench import resources, results
from mfbench.errors import UserError, unknown
from mfbench.predictions import Predictions
from mfbench.structures import formula, read_arrays

Array = NDArray[np.float64]
Ints = NDArray[np.integer]

# Energies (S,) eV and forces (A, 3) eV/Angstrom of S structures, from atomic numbers (A,), positions (A, 3) Angstrom
# and offsets (S + 1,): atoms of structure s are offsets[s]:offsets[s + 1].
Surface = Callable[[Ints, Array, Ints], tuple[Array, Array]]
# Told what is being done, how many structures are done, and of how many.
Told = Callable[[str, int, int | None], None]

TEMPERATURES = (300, 500)  # K
TIME_STEP = 0.5  # fs
# Two atoms are bonded where their distance is below this times the sum of ASE's covalent radii: ASE's own factor of 1
# misses C-H bonds at equilibrium (1.09 against 0.76 + 0.31).
BOND_FACTOR = 1.25
# A trajectory is stable until the length of one of its bonds differs by more than this from what it was at the
# start: the threshold of arXiv:2210.07237 for molecules, which measures from the mean length in the reference data.
BOND_CHANGE = 0.5  # Angstrom
MAX_TEMPERATURE = 10_000.0  # K; a hotter molecule is not one, whatever its bonds
SHORTEST = 50.0  # fs that a trajectory must last for a slope to be fitted to its energy

FMAX = 1e-3  # eV/Angstrom
MAX_STEPS = 500  # of the optimiser
HESSIAN_STEP = 0.005  # Angstrom
MAX_IMAGINARY = 30.0  # 1/cm; beyond it the geometry is a saddle point, as for the reference frequencies
PUSH = 0.1  # Angstrom, along the imaginary mode, of the atom that moves most
ATTEMPTS = 3
LINEAR = 1e-3  # smallest over largest moment of inertia

# Of a bond: from and to, in parts of its length, and points: as close as Simpson's rule needs on a rough surface.
STRETCH = (0.8, 1.4, 241)
TORSION_STEP = 10  # degrees
MAX_BONDS, MAX_TORSIONS = 6, 3  # scans a molecule
SINGLE = 0.92  # a shorter bond, in parts of the sum of the radii, is a double one and not rotated
PROMINENCE = 1e-3  # eV; a shallower dip or bump of a curve is noise of single precision or no matter
HIGHEST_ORDER = 6  # of a torsion's Fourier series: that of a methyl group on a planar one
CHUNK = 2048  # structures predicted at once

EXTRA = results.EXTRA
TABLE_FILE, SCANS_FILE, DONE_FILE = "physics.parquet", "scans.parquet", "physics.json"
REFERENCE_FILE = "frequencies.json"


class Diverged(Exception):
    """The surface gave no finite energy or force."""


@dataclass(frozen=True)
class Geometry:
    """One structure to start from."""

    molecule: str
    numbers: NDArray[np.int64]  # (N,)
    positions: Array  # (N, 3) Angstrom


@dataclass(frozen=True)
class Settings:
    """How much is done; what is not here is a constant of this module."""

    trajectories: int = 10  # per temperature
    picoseconds: float = 2.0
    molecules: int = 20  # most that are optimised or scanned
    only: tuple[str, ...] = ()  # names or formulas of molecules; none: all
    seed: int = 0  # of the geometries that trajectories start from and of their velocities

    def __post_init__(self) -> None:
        for name, lowest in (("trajectories", 1), ("molecules", 1), ("picoseconds", TIME_STEP / 1000)):
            if not (value := getattr(self, name)) >= lowest:
                raise UserError(f"{name}: expected at least {lowest}, got {value}")


QUICK_REMARK = "quick check"
QUICK = Settings(trajectories=2, picoseconds=0.05, molecules=1)


class Number(NamedTuple):
    """One result: a row of the results table without its experiment."""

    quantity: str
    metric: str
    value: float
    n: int
    remark: str = ""


def silent(doing: str, done: int, total: int | None) -> None:
    """Tell nobody."""


def stack(geometries: Sequence[Geometry]) -> tuple[Ints, Array, Ints]:
    """Numbers (A,), positions (A, 3) and offsets (S + 1,) of geometries, one after the other."""
    numbers = np.concatenate([g.numbers for g in geometries])
    positions = np.concatenate([g.positions for g in geometries])
    return numbers, positions, np.concatenate([[0], np.cumsum([len(g.numbers) for g in geometries])])


# Bonds


def bonds(numbers: Ints, positions: Array) -> NDArray[np.int64]:
    """Bonded pairs (B, 2), first < second: closer than ``BOND_FACTOR`` times the sum of the covalent radii."""
    first, second = np.triu_indices(len(numbers), 1)
    distance = np.linalg.norm(positions[second] - positions[first], axis=1)
    near = distance < BOND_FACTOR * (covalent_radii[numbers[first]] + covalent_radii[numbers[second]])
    return np.stack([first[near], second[near]], axis=1)


def skeleton(numbers: Ints, positions: Array) -> tuple[tuple[int, ...], ...]:
    """What is bonded to what, whatever the order of the atoms: of each atom, its element and its neighbours'."""
    neighbours: list[list[int]] = [[] for _ in numbers]
    for a, b in bonds(numbers, positions):
        neighbours[a].append(int(numbers[b]))
        neighbours[b].append(int(numbers[a]))
    return tuple(sorted((int(z), *sorted(around)) for z, around in zip(numbers, neighbours)))


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


def dynamics(surface: Surface, targets: "Targets", settings: Settings, told: Told = silent) -> list[Number]:
    """Drift of the energy and stability of molecular dynamics at constant energy, at each of ``TEMPERATURES``.

    Trajectories start from test structures drawn by the seed, with velocities of that temperature (what is half of
    it later, for a structure at rest, or more for a distorted one), at time steps of 0.5 fs.

    Returns:
        ``nve_drift_<T>K``: mean of the absolute slopes of the total energy, meV/atom/ps, each over the time that its
        trajectory was stable; n counts those that lasted 50 fs. Of forces that are a gradient it is the error of the
        time step, which a smooth surface keeps small and a rough one does not. ``nve_stable_<T>K``: fraction of the
        trajectories that were stable to the end, see ``velocity_verlet``; n counts all.
    """
    rng = np.random.default_rng([settings.seed, 0])
    able = [g for g in targets.geometries if len(g.numbers) > 1]
    if not able:
        return _absent(
            [f"nve_{what}_{t}K" for t in TEMPERATURES for what in ("drift", "stable")], "no molecule to move"
        )
    chosen = rng.permutation(len(able))
    chosen = np.resize(chosen, settings.trajectories)  # fewer structures than trajectories: other velocities
    geometries, start = [], []
    for temperature in TEMPERATURES:
        for pick in chosen:
            geometries.append(able[pick])
            start.append(velocities(able[pick], temperature, rng))
    steps = max(1, round(settings.picoseconds * 1000 / TIME_STEP))
    found = velocity_verlet(surface, geometries, start, steps, told=told)
    slopes = drifts(found, np.array([len(g.numbers) for g in geometries]))
    numbers = []
    for k, temperature in enumerate(TEMPERATURES):
        part = slice(k * settings.trajectories, (k + 1) * settings.trajectories)
        usable = np.abs(slopes[part][np.isfinite(slopes[part])])
        stopped = found.broken[part][found.broken[part] >= 0]
        reasons = sorted(set(found.reasons[part]) - {""})
        remark = f"{len(stopped)} of {settings.trajectories} trajectories ended early: {', '.join(reasons)}"
        if len(stopped):
            remark += f", first after {stopped.min() * TIME_STEP:.0f} fs"
        short = "" if len(usable) else f"no trajectory of {SHORTEST:.0f} fs" + (f": {remark}" if len(stopped) else "")
        drift = float(usable.mean()) if len(usable) else np.nan
        numbers += [
            Number(f"nve_drift_{temperature}K", "value", drift, len(usable), short),
            Number(
                f"nve_stable_{temperature}K",
                "value",
                1 - len(stopped) / settings.trajectories,
                settings.trajectories,
                remark if len(stopped) else "",
            ),
        ]
    return numbers


# Harmonic frequencies


class SurfaceCalculator(Calculator):
    """A surface as an ASE calculator; raises Diverged where its numbers are not finite."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]  # type: ignore[misc]

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self.surface = surface

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        own: Any = self.atoms
        energy, forces = self.surface(own.numbers, own.positions, np.array([0, len(own)]))
        if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
            raise Diverged
        self.results = {"energy": float(energy[0]), "forces": np.asarray(forces, np.float64)}


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
    return tuple(results.read_json(file)["rows"]) if file.is_file() else ()


def references(level: str, file: Path | None = None) -> list[tuple[Geometry, Array]]:
    """Minima of a level of theory with their harmonic frequencies (F,) in 1/cm, as they ship with the mini data."""
    return [
        (Geometry(row["molecule"], np.array(row["numbers"]), np.array(row["positions"])), np.array(row["frequencies"]))
        for row in _references(file or resources.mini_data() / REFERENCE_FILE)
        if row["level"] == level
    ]


def frequencies(surface: Surface, targets: "Targets", settings: Settings, told: Told = silent) -> list[Number]:
    """Errors of harmonic frequencies at the model's own minima against those of the level, in 1/cm.

    The model's minimum is looked for from the level's own. Modes are matched in ascending order. Molecules of the
    reference that the run was not tested on are left out; so are those for which the model has no minimum, and the
    remark says which.

    Returns:
        ``frequency``, MAE and RMSE; n counts modes.
    """
    here = {skeleton(g.numbers, g.positions) for g in targets.geometries}
    known = [pair for pair in targets.references if skeleton(pair[0].numbers, pair[0].positions) in here]
    known = known[: settings.molecules]
    if not known:
        return [Number("frequency", m, np.nan, 0, targets.no_reference) for m in results.METRICS]
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
        return [Number("frequency", m, np.nan, 0, remark) for m in results.METRICS]
    error = np.concatenate(errors)
    remark = f"without {remark}" if remark else ""
    return [
        Number("frequency", "mae", float(np.abs(error).mean()), len(error), remark),
        Number("frequency", "rmse", float(np.sqrt((error**2).mean())), len(error), remark),
    ]


# Scans


@dataclass(frozen=True)
class Scan:
    """One coordinate of a molecule moved over P points, everything else rigid."""

    kind: str  # "bond" or "torsion"
    molecule: str
    numbers: NDArray[np.int64]  # (N,)
    atoms: tuple[int, int]  # the bond that is stretched, or turned about
    coordinate: Array  # (P,) Angstrom, or degrees from the start
    positions: Array  # (P, N, 3) Angstrom
    tangent: Array  # (P, N, 3) how the atoms move with the coordinate, in Angstrom per Angstrom or per radian

    @property
    def label(self) -> str:
        """The bond, e.g. ``C0-H3``."""
        return "-".join(f"{chemical_symbols[self.numbers[a]]}{a}" for a in self.atoms)


def _moving_side(count: int, pairs: Ints, a: int, b: int) -> tuple[int, int, NDArray[np.bool_]] | None:
    """(fixed, moving, which atoms (N,) move with the latter) once a bond is cut; None in a ring."""
    kept = pairs[~((pairs[:, 0] == a) & (pairs[:, 1] == b))]
    graph = np.zeros((count, count))
    graph[kept[:, 0], kept[:, 1]] = 1
    _, part = connected_components(graph, directed=False)
    if part[a] == part[b]:
        return None
    sides = part == part[a], part == part[b]
    return (a, b, sides[1]) if sides[1].sum() <= sides[0].sum() else (b, a, sides[0])


def scans(geometry: Geometry) -> list[Scan]:
    """Stretches of bonds and turns about them. Bonds in rings are left out: nothing moves rigidly there.

    One bond a pair of elements, the first by atom, from 0.8 to 1.4 of its length. Turns: about each single bond
    (judged by its length) both of whose ends hold more atoms, not all in line with it, in steps of 10 degrees.
    """
    pairs = bonds(geometry.numbers, geometry.positions)
    stretches: dict[tuple[int, ...], Scan] = {}
    turns = []
    for a, b in pairs.tolist():
        split = _moving_side(len(geometry.numbers), pairs, a, b)
        if split is None:
            continue
        fixed, moving, side = split
        elements = tuple(sorted(geometry.numbers[[a, b]].tolist()))
        if elements not in stretches:
            stretches[elements] = _stretch(geometry, (fixed, moving), side)
        radii = covalent_radii[geometry.numbers[[a, b]]].sum()
        single = np.linalg.norm(geometry.positions[a] - geometry.positions[b]) > SINGLE * radii
        if single and all(_bent(geometry.positions, pairs, *ends) for ends in ((a, b), (b, a))):
            turns.append(_turn(geometry, (fixed, moving), side))
    return [*list(stretches.values())[:MAX_BONDS], *turns[:MAX_TORSIONS]]


def _bent(positions: Array, pairs: Ints, end: int, other: int) -> bool:
    """Whether some neighbour of an end of a bond is off its line by more than 10 degrees."""
    axis = positions[other] - positions[end]
    around = [int(p.sum() - end) for p in pairs if end in p and other not in p]
    return any(_sine(positions[k] - positions[end], axis) > np.sin(np.radians(10)) for k in around)


def _sine(a: Array, b: Array) -> float:
    return float(np.linalg.norm(np.cross(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))


def _stretch(geometry: Geometry, atoms: tuple[int, int], side: NDArray[np.bool_]) -> Scan:
    fixed, moving = geometry.positions[list(atoms)]
    length = float(np.linalg.norm(moving - fixed))
    coordinate = length * np.linspace(*STRETCH)
    tangent = np.where(side[:, None], (moving - fixed) / length, 0.0)
    positions = geometry.positions + (coordinate - length)[:, None, None] * tangent
    tangents = np.broadcast_to(tangent, positions.shape)
    return Scan("bond", geometry.molecule, geometry.numbers, atoms, coordinate, positions, tangents)


def _turn(geometry: Geometry, atoms: tuple[int, int], side: NDArray[np.bool_]) -> Scan:
    fixed, moving = geometry.positions[list(atoms)]
    axis = (moving - fixed) / np.linalg.norm(moving - fixed)
    coordinate = np.arange(0, 360, TORSION_STEP, dtype=np.float64)
    arm = geometry.positions - moving
    cos, sin = (f(np.radians(coordinate))[:, None, None] for f in (np.cos, np.sin))
    turned = cos * arm + sin * np.cross(axis, arm) + (1 - cos) * (arm @ axis)[:, None] * axis  # Rodrigues
    positions = np.where(side[:, None], moving + turned, geometry.positions)
    tangents = np.where(side[:, None], np.cross(axis, turned), 0.0)
    return Scan("torsion", geometry.molecule, geometry.numbers, atoms, coordinate, positions, tangents)


def curves(surface: Surface, found: Sequence[Scan], told: Told = silent) -> list[tuple[Array, Array]]:
    """Energy (P,) eV along each scan, and the force along its coordinate (P,), eV/Angstrom or eV/radian."""
    points = [(scan, p) for scan in found for p in range(len(scan.coordinate))]
    energies, forces = [], []
    for at in range(0, len(points), CHUNK):
        told("scans", at, len(points))
        part = points[at : at + CHUNK]
        numbers, positions, offsets = stack([Geometry("", s.numbers, s.positions[p]) for s, p in part])
        energy, force = surface(numbers, positions, offsets)
        energies.append(np.asarray(energy, np.float64))
        forces += [(force[a:b] * s.tangent[p]).sum() for (s, p), (a, b) in zip(part, pairwise(offsets))]
    told("scans", len(points), len(points))
    energy, along = (np.concatenate(energies), np.array(forces)) if points else (np.zeros(0), np.zeros(0))
    ends = np.cumsum([0, *(len(scan.coordinate) for scan in found)])
    return [(energy[a:b], along[a:b]) for a, b in pairwise(ends)]


def has_one_well(energy: Array) -> bool:
    """Whether a curve (P,) falls to one minimum and rises from it to both ends.

    That is: one minimum and no maximum between the ends, dips and bumps below ``PROMINENCE`` aside.
    """
    if not np.isfinite(energy).all():
        return False
    wells, humps = (find_peaks(curve, prominence=PROMINENCE)[0] for curve in (-energy, energy))
    return len(wells) == 1 and len(humps) == 0


def roughness(energy: Array) -> float:
    """RMS, in eV, of what a Fourier series to order ``HIGHEST_ORDER`` leaves of a full turn's energy (P,)."""
    series = np.fft.rfft(energy)
    series[: HIGHEST_ORDER + 1] = 0
    return float(np.sqrt((np.fft.irfft(series, len(energy)) ** 2).mean()))


def inconsistency(coordinate: Array, energy: Array, force: Array) -> float:
    """Largest difference, in eV, of the energy along a path (P,) and minus the integral of the force (Simpson)."""
    work = cumulative_simpson(force, x=coordinate, initial=0.0)
    return float(np.abs(energy - energy[0] + work).max())


def scan(
    surface: Surface, targets: "Targets", settings: Settings, told: Told = silent
) -> tuple[list[Number], pd.DataFrame]:
    """Smoothness of rigid scans of bonds and torsions, judged without a reference, and the curves.

    Each molecule is scanned at its test structure of lowest reference energy, so that all runs of a split are
    scanned at the same geometry.

    Returns:
        ``bond_one_well``: fraction of the stretches with exactly one minimum, rising to both ends (as any level of
        theory gives from 0.8 to 1.4 of a length near equilibrium); n counts stretches. Spurious minima and holes
        that bond scans show go with unstable dynamics (arXiv:2602.04861).
        ``bond_inconsistency``: largest difference of energy and integrated force over all stretches, meV: 0, up to
        rounding and the points' distance, for forces that are a gradient.
        ``torsion_roughness``: mean over turns of ``roughness``, meV; atoms that clash are part of it, so compare
        runs by it and do not expect 0.
        Curves: columns molecule, kind, atoms, coordinate, energy (eV), force.
    """
    lowest: dict[tuple[tuple[int, ...], ...], tuple[float, Geometry]] = {}
    for geometry, energy in zip(targets.geometries, targets.energies):
        key = skeleton(geometry.numbers, geometry.positions)
        if key not in lowest or energy < lowest[key][0]:
            lowest[key] = (energy, geometry)
    # A distorted structure may have lost a bond by the criterion: of each molecule, what most of it is comes first.
    by_molecule: dict[str, tuple[float, Geometry]] = {}
    for energy, geometry in lowest.values():
        if geometry.molecule not in by_molecule or energy < by_molecule[geometry.molecule][0]:
            by_molecule[geometry.molecule] = (energy, geometry)
    chosen = [geometry for _, geometry in by_molecule.values()][: settings.molecules]
    found = [one for geometry in chosen for one in scans(geometry)]
    values = curves(surface, found, told)
    wells, gaps, rough = [], [], []
    frames = []
    for one, (energy, force) in zip(found, values):
        if one.kind == "bond":
            wells.append(has_one_well(energy))
            gaps.append(inconsistency(one.coordinate, energy, force) * 1e3)
        else:
            rough.append(roughness(energy) * 1e3)
        place = {"molecule": one.molecule, "kind": one.kind, "atoms": one.label}
        frames.append(pd.DataFrame({**place, "coordinate": one.coordinate, "energy": energy, "force": force}))
    bad = [
        f"{one.molecule} {one.label}" for one, well in zip((s for s in found if s.kind == "bond"), wells) if not well
    ]
    table = [
        _average("bond_one_well", np.mean, wells, "no bond outside a ring", ", ".join(bad[:5])),
        _average("bond_inconsistency", np.max, gaps, "no bond outside a ring"),
        _average("torsion_roughness", np.mean, rough, "no bond to turn about"),
    ]
    columns = ["molecule", "kind", "atoms", "coordinate", "energy", "force"]
    return table, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _average(quantity: str, how: Callable[[Any], Any], values: Sequence[float], none: str, remark: str = "") -> Number:
    if not len(values):
        return Number(quantity, "value", np.nan, 0, none)
    value = float(how(values))
    if not np.isfinite(value):
        return Number(quantity, "value", np.nan, 0, "energies or forces are not finite")
    return Number(quantity, "value", value, len(values), f"not so: {remark}" if remark else "")


def _absent(quantities: Iterable[str], remark: str) -> list[Number]:
    return [Number(quantity, "value", np.nan, 0, remark) for quantity in quantities]


# A run folder


@dataclass(frozen=True)
class Targets:
    """What a run is checked on, at one level."""

    geometries: list[Geometry]  # its test structures whose positions are kept
    energies: Array  # their reference energies, eV, inf where there is none
    references: list[tuple[Geometry, Array]]  # minima and frequencies of that level
    no_reference: str = "no reference frequencies for these molecules at this level"


def predictions_of(run: Path) -> Predictions:
    """What a run predicted; raises UserError where the folder holds no finished run with a model."""
    if not results.is_finished(run):
        raise UserError(f"{run}: expected the folder of a finished run, found no {results.METRICS_FILE}")
    if not (run / "predictions.h5").is_file():
        raise UserError(f"{run} holds no model: {results.read_metrics(run / results.METRICS_FILE)['remark'].iloc[0]}")
    return read_arrays(run / "predictions.h5", Predictions)


def targets(predictions: Predictions, level: str, only: Sequence[str] = ()) -> Targets:
    """The test structures of a run with positions, of known molecules (all, where it has none).

    Args:
        only: names or formulas of molecules; none for all.

    Raises:
        UserError: no such molecule.
    """
    p = predictions
    column = p.levels.index(level)
    ends = np.cumsum([0, *np.diff(p.offsets)[p.shown]])
    rows = [(k, int(s)) for k, s in enumerate(p.shown) if not p.unseen[s]]
    rows = rows or [(k, int(s)) for k, s in enumerate(p.shown)]
    # Energies of another level order geometries as well where this one has none.
    columns = [column, *(k for k in range(len(p.levels)) if k != column)]
    geometries, energies = [], []
    for k, s in rows:
        numbers = p.numbers[p.offsets[s] : p.offsets[s + 1]].astype(np.int64)
        geometries.append(Geometry(p.molecules[p.molecule[s]], numbers, p.positions[ends[k] : ends[k + 1]]))
        labelled = p.energy_mask[s, columns[0]]
        energies.append(p.energy_reference[s, column] if labelled else np.inf)
    for other in columns[1:]:
        if np.isfinite(energies).any():
            break
        energies = [p.energy_reference[s, other] if p.energy_mask[s, other] else np.inf for _, s in rows]
    if only:
        names = [{g.molecule, formula(g.numbers)} for g in geometries]
        if missing := [name for name in only if not any(name in one for one in names)]:
            raise unknown("molecule of this run", missing[0], set().union(*names))
        keep = [k for k, one in enumerate(names) if one & set(only)]
        geometries, energies = [geometries[k] for k in keep], [energies[k] for k in keep]
    return Targets(geometries, np.array(energies), references(level))


def surfaces(run: Path, device: str = "cpu") -> Callable[[str], Surface]:
    """The surfaces of a run's model, by the level whose head predicts, in float64 whatever it was trained in.

    So rounding is no part of what is measured, but at the 1e-5 eV/Angstrom of weights that were rounded once.
    """
    from mfbench.models import load

    model = load(run, device, "float64")

    def at(level: str) -> Surface:
        def predict(numbers: Ints, positions: Array, offsets: Ints) -> tuple[Array, Array]:
            structures = [Atoms(numbers=numbers[a:b], positions=positions[a:b]) for a, b in pairwise(offsets)]
            found = model.predict(structures, level)
            return found.energies, np.zeros((len(numbers), 3)) if found.forces is None else found.forces

        def surface(numbers: Ints, positions: Array, offsets: Ints) -> tuple[Array, Array]:
            try:
                return predict(numbers, positions, offsets)
            except UserError:
                if not np.isin(numbers, model.elements).all():
                    raise
                # Atoms in one place, say: a model refuses, and a check has to go on with the other structures.
                energies, forces = np.full(len(offsets) - 1, np.nan), np.full((len(numbers), 3), np.nan)
                for k, (a, b) in enumerate(pairwise(offsets)):
                    with suppress(UserError):
                        energies[k : k + 1], forces[a:b] = predict(numbers[a:b], positions[a:b], np.array([0, b - a]))
                return energies, forces

        return surface

    return at


CHECKS = ("frequencies", "scans", "dynamics")  # the quick ones first


def check(
    run: Path,
    surfaces: Callable[[str], Surface],
    levels: Sequence[str] = (),
    settings: Settings = Settings(),
    progress: Callable[[str], AbstractContextManager[Told]] = lambda label: nullcontext(silent),
) -> pd.DataFrame:
    """Do the physical checks of a finished run and add their rows to it, in ``extra/physics.parquet``.

    Each check is written as soon as it is finished; one that is there with the same settings is not done again.
    The curves of the scans are in ``extra/scans.parquet``.

    Args:
        surfaces: the surface of a level's head, see the function of that name.
        levels: levels of the run; none for its high level, and frequencies at every level that has reference ones.
        settings: how much is done.
        progress: makes a progress bar with a label.

    Returns:
        All physical rows of the run.

    Raises:
        UserError: the folder holds no finished run with a model, or the run has no such level or molecule.
    """
    predictions = predictions_of(run)
    if missing := [name for name in levels if name not in predictions.levels]:
        raise unknown("level of this run", missing[0], predictions.levels)
    done_file = run / EXTRA / DONE_FILE
    for name, level in _work(predictions, levels):
        done = results.read_json(done_file) if done_file.is_file() else {}
        wanted = _deciding(name, settings)
        if done.get(f"{name} {level}") == wanted:
            continue
        head = predictions.heads[predictions.levels.index(level)]
        surface, aim = surfaces(head), targets(predictions, level, settings.only)
        with progress(f"{run.name}, {level}") as told:
            if name == "scans":
                numbers, found = scan(surface, aim, settings, told)
                _replace(run / EXTRA / SCANS_FILE, found.assign(level=level), ["level"])
            else:
                numbers = (dynamics if name == "dynamics" else frequencies)(surface, aim, settings, told)
        rows = _rows(run, level, numbers, _remark(settings))
        _replace(run / EXTRA / TABLE_FILE, rows, ["level", "quantity"])
        results.write_json(done_file, {**done, f"{name} {level}": wanted})
    return results.read_metrics(run / EXTRA / TABLE_FILE)


def _work(predictions: Predictions, levels: Sequence[str]) -> Iterator[tuple[str, str]]:
    high = predictions.levels[-1]
    for name in CHECKS:
        if levels or name != "frequencies":
            yield from ((name, level) for level in levels or [high])
        else:
            yield from ((name, level) for level in predictions.levels if level == high or references(level))


def _deciding(name: str, settings: Settings) -> dict[str, Any]:
    """The settings that a check depends on."""
    used = {"dynamics": ("trajectories", "picoseconds", "only", "seed")}.get(name, ("molecules", "only"))
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(settings).items()
        if key in used
    }


def _remark(settings: Settings) -> str:
    """What is special about the settings, for a reader of the rows."""
    quick = QUICK_REMARK if settings.picoseconds <= QUICK.picoseconds else ""
    only = f"only {', '.join(settings.only)}" if settings.only else ""
    return "; ".join(part for part in (quick, only) if part)


def _rows(run: Path, level: str, numbers: Sequence[Number], remark: str) -> pd.DataFrame:
    """Rows of the results table: the run's own columns as in its metrics."""
    metrics = results.read_metrics(run / results.METRICS_FILE)
    own = metrics[metrics["level"] == level].iloc[0].to_dict() | {"part": "test"}
    said = [{**number._asdict(), "remark": "; ".join(p for p in (number.remark, remark) if p)} for number in numbers]
    return results.conform(pd.DataFrame([{**own, **number} for number in said]))


def _replace(path: Path, rows: pd.DataFrame, keys: list[str]) -> None:
    """Write rows in place of those of a file that agree with them in the keys; the file appears whole, by rename."""
    if path.is_file():
        old = pd.read_parquet(path)
        stale = pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(rows[keys]))
        rows = pd.concat([old[~stale], rows], ignore_index=True) if (~stale).any() else rows
    with results.replacing(path) as temporary:
        rows.to_parquet(temporary, index=False)


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
    energy, force = (results.QUANTITIES[name] for name in ("energy_relative", "force"))
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
        metrics = results.read_metrics(run / results.METRICS_FILE)
        physical = results.read_metrics(run / EXTRA / TABLE_FILE)
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
