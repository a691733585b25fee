"""Scans of bonds and torsions: has a bond one well, do forces fit the energy, is a torsion smooth."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.integrate import cumulative_simpson  # type: ignore[import-untyped]
from scipy.signal import find_peaks  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from mfbench.elements import COVALENT_RADII
from mfbench.physics.measure import Effort, Number, Targets, average
from mfbench.physics.surface import CHUNK, Array, Geometry, Ints, Surface, Told, bonds, silent, skeleton, stack

# Of a bond: from and to, in units of its length, and points: as close as Simpson's rule needs on a rough surface.
STRETCH = (0.8, 1.4, 241)

TORSION_STEP = 10  # degrees

MAX_BONDS, MAX_TORSIONS = 6, 3  # scans a molecule

SINGLE = 0.92  # a shorter bond, in units of the sum of the radii, is a double one and not rotated

PROMINENCE = 1e-3  # eV; a shallower dip or bump of a curve is noise of single precision or no matter

HIGHEST_ORDER = 6  # of a torsion's Fourier series: that of a methyl group on a planar one

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
    _, piece = connected_components(graph, directed=False)
    if piece[a] == piece[b]:
        return None
    sides = piece == piece[a], piece == piece[b]
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
        radii = COVALENT_RADII[geometry.numbers[[a, b]]].sum()
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
        chunk = points[at : at + CHUNK]
        numbers, positions, offsets = stack([Geometry("", s.numbers, s.positions[p]) for s, p in chunk])
        energy, force = surface(numbers, positions, offsets)
        energies.append(np.asarray(energy, np.float64))
        forces += [(force[a:b] * s.tangent[p]).sum() for (s, p), (a, b) in zip(chunk, pairwise(offsets))]
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


def scan(surface: Surface, targets: Targets, effort: Effort, told: Told = silent) -> tuple[list[Number], pd.DataFrame]:
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
    lowest: dict[int, tuple[float, Geometry]] = {}
    for geometry, energy in zip(targets.geometries, targets.energies):
        key = skeleton(geometry.numbers, geometry.positions)
        if key not in lowest or energy < lowest[key][0]:
            lowest[key] = (energy, geometry)
    # A distorted structure may have lost a bond by the criterion: of each molecule, what most of it is comes first.
    by_molecule: dict[str, tuple[float, Geometry]] = {}
    for energy, geometry in lowest.values():
        if geometry.molecule not in by_molecule or energy < by_molecule[geometry.molecule][0]:
            by_molecule[geometry.molecule] = (energy, geometry)
    chosen = [geometry for _, geometry in by_molecule.values()][: effort.molecules]
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
        average("bond_one_well", np.mean, wells, "no bond outside a ring", ", ".join(bad[:5])),
        average("bond_inconsistency", np.max, gaps, "no bond outside a ring"),
        average("torsion_roughness", np.mean, rough, "no bond to turn about"),
    ]
    columns = ["molecule", "kind", "atoms", "coordinate", "energy", "force"]
    return table, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
