"""Whether forces are those of isolated molecules, and minus the slope of the energies."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbench import units
from mfbench.data.candidates import ENERGIES, FORCES, LENGTHS, Declared, fitting, would_fit
from mfbench.data.findings import FAR, SHOWN, Finding, bounded
from mfbench.data.structures import FloatArray, Structures
from mfbench.data.survey import Survey, with_forces

# Thermal and off-equilibrium structures: root mean square, and largest, component.
FORCE = (0.05, 20.0)  # eV/Angstrom

USUAL_FORCE = (0.3, 3.0)  # eV/Angstrom, root mean square: of units, those are named that bring it here

LARGEST_FORCE = 1e3  # eV/Angstrom

# Net force, and net torque over the radius of gyration: both vanish but for the noise of the level's grid, which the
# median tells; eV/Angstrom. Seen: medians below 0.004 and largest of 0.02, but 0.2 and 0.8 of ANI-1x's large basis.
NET, MOST_NET, NOISE = 0.1, 2.0, 30  # the least bound, the largest, and the bound in medians

# Neighbours of a trajectory: root mean square displacement of an atom up to which the mean of two forces tells the
# change of the energy, and below which rounded energies drown it. What it leaves out grows with the third power, and
# pairs are weighted accordingly. Seen, in shipped and published data: slopes of 0.97 to 1.03, correlations above 0.95
# over all molecules of a level (1.08 over 10 pairs); 0.96 to 1.12 in one (10 to 60 pairs).
NEAR = (0.01, 0.2)  # Angstrom

SLOPE, LEAST_SLOPE, ERRORS = 0.25, 0.1, 4  # in all: off by so many standard errors, or by the second, never the first

SLOPE_IN_ONE = 0.3  # in one molecule; a length in Bohr for Angstrom gives 1.89 or 0.53

CORRELATION = 0.7

ODD_MOLECULES = 0.05  # share of molecules that may be beyond what is asked of each one

# Another level's energies go with these forces so much better than this one's: medians of what is left out. Seen: above
# 1.1 (CCSD(T) with CCSD forces), mostly above 2.
CLOSER = 0.6

NEIGHBOURS = 6  # of each structure that are looked at, beside the closest of all


def force_size(outline: Structures, k: int, squares: float, declared: Declared) -> Finding:
    """Whether forces are of the usual size, from the sum of their squares."""
    n = 3 * int(outline.n_atoms[outline.force_mask[:, k]].sum())
    rms, unit = float(np.sqrt(squares / n)), declared.forces_of(outline.levels[k])
    ok = FORCE[0] <= rms <= FORCE[1]
    likely = [
        name for name, value in FORCES.items() if USUAL_FORCE[0] <= rms * value / units.internal(unit) <= USUAL_FORCE[1]
    ]
    return Finding(
        f"forces, {outline.levels[k]}",
        ok,
        f"a root mean square force component of {FORCE[0]:g} to {FORCE[1]:g} eV/Angstrom",
        f"{rms:.4g} eV/Angstrom" + ("" if ok else would_fit(likely)),
    )


def force_sizes(outline: Structures, seen: Survey, declared: Declared) -> list[Finding]:
    """Sizes of forces, and what of them must vanish."""
    found = []
    for k in with_forces(outline):
        name, mask = outline.levels[k], outline.force_mask[:, k]
        found.append(force_size(outline, k, seen.squares[k], declared))
        for what, values, limit in (
            ("largest component of a force", seen.largest[k], LARGEST_FORCE),
            ("net force of a molecule", seen.net[k], _noise(seen.net[k][mask])),
            ("net torque of a molecule", seen.torque[k], _noise(seen.torque[k][mask])),
        ):
            expected, got = f"at most {limit:.3g} eV/Angstrom", f"up to {values.max():.3g} eV/Angstrom"
            beyond = values > limit, values > FAR * limit
            cause = "" if what.startswith("largest") else ": an atom moved, a force changed, or another field?"
            found.append(bounded(outline, f"{what}, {name}", expected, got, *beyond, int(mask.sum()), cause))
    return found


def _noise(values: NDArray[np.float32]) -> float:
    return float(np.clip(NOISE * np.median(values), NET, MOST_NET))


# energies against forces


@dataclass(frozen=True)
class Pairs:
    """Pairs of near structures, each turned onto the other."""

    distance: NDArray[np.float64]  # (P,) root mean square displacement of an atom, Angstrom
    change: NDArray[np.float64]  # (P,) of the energy, eV
    changes: NDArray[np.float64]  # (P, L) of the energies at all levels, NaN where there is none
    work: NDArray[np.float64]  # (P,) minus the mean force times the displacement, eV

    @property
    def near(self) -> NDArray[np.int64]:
        """The closest pairs."""
        if not len(self.distance):
            return np.zeros(0, np.int64)
        closest = np.argsort(np.where(self.distance < NEAR[0], np.inf, self.distance), kind="stable")[:60]
        return closest[(self.distance[closest] >= NEAR[0]) & (self.distance[closest] <= NEAR[1])]


def consistency(
    outline: Structures, seen: Survey, declared: Declared, trusted: Container[str], odd: Mapping[int, NDArray[np.int64]]
) -> list[Finding]:
    """Energy differences of neighbouring frames against minus the mean force times the displacement.

    Args:
        trusted: levels whose energies are known to be in the declared unit.
        odd: by level, a few structures that are off and say nothing of the others.
    """
    found = []
    for k in with_forces(outline):
        rows = np.setdiff1d(seen.sample[k], odd[k])
        pairs = {
            int(molecule): _pairs_of(seen.some(rows[outline.molecule[rows] == molecule]), k)
            for molecule in np.unique(outline.molecule[rows])
        }
        found.append(_consistent(outline, k, pairs, declared, trusted))
    return found


Lines = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # distance, change, work


def _consistent(
    outline: Structures, k: int, pairs: dict[int, list[Pairs]], declared: Declared, trusted: Container[str]
) -> Finding:
    name, expected = outline.levels[k], f"slope 1, correlation above {CORRELATION:g}, in each molecule and in all"
    near = {molecule: _joined(groups) for molecule, groups in pairs.items()}
    whole: Lines = tuple(np.concatenate([one[side] for one in near.values()] or [np.zeros(0)]) for side in range(3))  # type: ignore[assignment]
    if len(whole[0]) < 10:
        reason = f"{len(whole[0])} pairs of structures {NEAR[0]:g} to {NEAR[1]:g} Angstrom apart: too few"
        return Finding(f"energies against forces, {name}", None, expected, reason)
    lines = {molecule: _line(*one) for molecule, one in near.items() if len(one[0]) >= 10}
    wrong = [m for m, (slope, r, _) in lines.items() if abs(slope - 1) > SLOPE_IN_ONE or r < CORRELATION]
    slope, correlation, error = _line(*whole)
    together = abs(correlation) >= CORRELATION
    right = abs(slope - 1) <= np.clip(ERRORS * error, LEAST_SLOPE, SLOPE) and correlation >= CORRELATION
    ok = bool(right and len(wrong) <= ODD_MOLECULES * len(lines))
    got = f"slope {slope:.3f}, correlation {correlation:.3f} over {len(whole[0]):,} pairs"
    if ok and (closer := _closer(outline, k, pairs)):
        got += f", but the energies of {closer} go better with these forces; would fit: the keys of the two exchanged"
        return Finding(f"energies against forces, {name}", False, expected, got)
    if not ok:
        got += f", {len(wrong)} of {len(lines)} molecules off"
        alike = abs(slope - 1) > LEAST_SLOPE and together
        got += would_fit(_units_of(slope, name, declared, trusted)) if alike else "; labels in another order?"
    where = [f"{outline.molecules[m]}: slope {lines[m][0]:.2f}, correlation {lines[m][1]:.2f}" for m in wrong]
    return Finding(f"energies against forces, {name}", ok, expected, got, tuple(where[:SHOWN]))


def _closer(outline: Structures, k: int, pairs: dict[int, list[Pairs]]) -> str:
    """The level whose energies the forces of another go with; empty where they go with their own."""
    near = [(one, one.near) for groups in pairs.values() for one in groups]
    work = np.concatenate([one.work[rows] for one, rows in near])
    rest = np.abs(np.concatenate([one.changes[rows] for one, rows in near]) - work[:, None])  # (P, L)
    for other, level in enumerate(outline.levels):
        both = np.isfinite(rest[:, other])
        if other != k and np.count_nonzero(both) >= 10:
            mine, theirs = np.median(rest[both][:, [k, other]], 0)
            if theirs < CLOSER * mine:
                return level
    return ""


def _units_of(slope: float, level: str, declared: Declared, trusted: Container[str]) -> list[str]:
    """What would bring a slope to 1: one mistake."""
    found = []
    if slope < 0:
        found.append("gradients, which are minus the forces")
        if abs(slope + 1) < SLOPE_IN_ONE:
            return found
        found = []
    sign = "minus " if slope < 0 else ""
    found += [f"{sign}forces in {unit}" for unit in fitting(1 / slope, declared.forces_of(level), FORCES)]
    if level not in trusted:
        found += [f"energies in {unit}" for unit in fitting(slope, declared.energy_of(level), ENERGIES)]
    return found + [f"length_unit: {unit}" for unit in fitting(1 / slope, declared.length, LENGTHS)]


def _joined(groups: list[Pairs]) -> Lines:
    sides = [(one.distance[one.near], one.change[one.near], one.work[one.near]) for one in groups]
    distance, change, work = (np.concatenate([side[n] for side in sides] or [np.zeros(0)]) for n in range(3))
    return distance, change, work


def _line(distance: FloatArray, change: FloatArray, work: FloatArray) -> tuple[float, float, float]:
    """Slope, correlation and error of the slope of a line through zero: which end of a pair is first means nothing."""
    weight = distance**-2  # of either: near pairs tell more
    change, work = change * weight, work * weight
    square = max(float(work @ work), 1e-30)
    slope = float(change @ work) / square
    error = float(np.linalg.norm(change - slope * work)) / np.sqrt(square * max(len(work) - 1, 1))
    spread = float(np.linalg.norm(change) * np.linalg.norm(work))
    return slope, float(change @ work) / max(spread, 1e-30), error


def _pairs_of(frames: Structures, k: int) -> list[Pairs]:
    """See ``_neighbours``; of a molecule's structures, those of one order of atoms with each other."""
    groups: dict[bytes, list[int]] = {}
    for s in range(len(frames)):
        groups.setdefault(frames.numbers[frames.offsets[s] : frames.offsets[s + 1]].tobytes(), []).append(s)
    return [
        _neighbours(frames[np.array(members)], k)
        for raw, members in groups.items()
        if len(members) > 2 and len(raw) > 1
    ]


def _neighbours(frames: Structures, k: int) -> Pairs:
    """The closest pairs of all, and the closest of each structure, each turned onto the other."""
    shape = (len(frames), -1, 3)
    x = frames.positions.astype(np.float64).reshape(shape)
    x = x - x.mean(1, keepdims=True)
    force = frames.forces[k].astype(np.float64).reshape(shape)
    i, j = np.triu_indices(len(frames), 1)
    # A bound without turning: the sorted distances from the centre move no more than the atoms do.
    radii = np.sort(np.linalg.norm(x, axis=2), 1)
    bound = np.square(radii[i] - radii[j]).mean(1)
    likely = np.argsort(bound, kind="stable")[:4000]
    square = np.full((len(frames), len(frames)), np.inf)
    square[i, j] = square[j, i] = bound
    mine = np.argsort(square, 1, kind="stable")[:, :NEIGHBOURS]
    own = np.sort(np.stack([np.repeat(np.arange(len(frames)), mine.shape[1]), mine.ravel()]), 0)
    i, j = np.unique(np.concatenate([np.stack([i[likely], j[likely]]), own[:, own[0] != own[1]]], 1), axis=1)
    u, _, v = np.linalg.svd(np.einsum("pna,pnb->pab", x[i], x[j]))
    proper = np.ones((len(i), 1, 3))
    proper[:, 0, 2] = np.sign(np.linalg.det(u @ v))
    turn = (u * proper) @ v
    moved = x[j] - x[i] @ turn
    distance = np.sqrt(np.square(moved).sum((1, 2)) / x.shape[1])
    kept = np.argsort(distance, kind="stable")
    kept = kept[distance[kept] < NEAR[1]]
    i, j, turn, moved, distance = i[kept], j[kept], turn[kept], moved[kept], distance[kept]
    work = -0.5 * ((force[i] @ turn + force[j]) * moved).sum((1, 2))
    energies = np.where(frames.energy_mask, frames.energies, np.nan)
    changes = energies[j] - energies[i]
    return Pairs(distance, changes[:, k], changes, work)
