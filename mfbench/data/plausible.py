"""What energies and forces of molecules cannot be: bounds and relations that a wrong unit or swapped rows break."""

import numpy as np
from numpy.typing import NDArray

from mfbench.data.findings import SHOWN, Finding, bounded
from mfbench.data.structures import BoolArray, FloatArray, Structures, join
from mfbench.data.survey import ELEMENTS, Survey, element_counts, level_pairs, with_forces
from mfbench.elements import SYMBOLS
from mfbench.free_atoms import catalogue
from mfbench.units import EV_PER_KCAL

# What a level may be off whose atoms are borrowed from one close by, or are Hartree-Fock's, which binds molecules less.
_SLACK = 3.0  # eV an atom

# Free atoms of one level, computed by other codes: other cores, spherical or without spin. Seen: 3 eV (spins paired).
FREE = 5.0  # eV

ATOMISATION = (0.5, 10.0)  # eV an atom

SCATTER = 1.0  # eV an atom: of the energies of one's own level, whose atoms are not known, about its composition's

# Thermal and off-equilibrium structures. Root mean square and largest component, and length of the net force of a
# molecule: up to 0.76 eV/Angstrom among 921 structures of ANI-1x with the large basis (the noise of DFT's grid),
# 0.002 elsewhere.
FORCE = (0.05, 20.0)  # eV/Angstrom

LARGEST_FORCE = 1e3  # eV/Angstrom

NET_FORCE = 2.0  # eV/Angstrom

# Smallest distance, in sums of covalent radii. Seen: 0.73 (1000 K, mini-ani1x).
OVERLAP = 0.5

# Neighbours of a trajectory: root mean square displacement of an atom up to which the mean of two forces tells the
# change of the energy, and below which rounded energies drown it. Seen, in shipped and published data: slopes of 0.95
# to 1.04, correlations above 0.95 over all molecules of a level; 0.94 to 1.16, above 0.95 in one (10 to 60 pairs).
NEAR = (0.01, 0.2)  # Angstrom

SLOPE = 0.25  # in all, and

SLOPE_IN_ONE = 0.35  # in one molecule; a length in Bohr for Angstrom gives 1.89 or 0.53

CORRELATION = 0.7

GAP = 1.0  # eV an atom, between two levels, atomic energies aside; seen: 0.43 (HF to MP2)

# Two levels' energies over one molecule's geometries go together, those of other rows do not. Seen: correlations above
# 0.9 over all molecules of a pair of levels, and above 0.38 in one (HF against MP2, CO2).
TOGETHER, TOGETHER_IN_ONE = 0.5, 0.2

ODD_MOLECULES = 0.05  # share of molecules that may be beyond what is asked of each one

FAR = 10  # times a bound: far beyond it; or

FAR_ENERGY = 5.0  # eV an atom beyond it

FEW = 20  # geometries, below which a fit to the composition or a correlation says nothing

# energies


def free_atoms(outline: Structures) -> list[Finding]:
    """The reference energies that the data bring, against the catalogue's."""
    found = []
    for level, own in outline.free_atoms.items():
        known = catalogue(level)
        apart = {z: abs(e - known.energies[z]) for z, e in own.items() if known is not None and z in known.energies}
        symbols = ", ".join(SYMBOLS[z] for z in own)
        wrong = [f"{SYMBOLS[z]}: {own[z]:.6g} eV, {gap:.3g} off" for z, gap in apart.items() if gap > FREE]
        expected = f"energies within {FREE:g} eV of those that mfbench knows"
        more = "" if apart else ", with none to compare"
        got = f"{symbols} at {level}" + (": wrong unit in the manifest?" if wrong else more)
        found.append(Finding("free atoms", not wrong if apart else None, expected, got, tuple(wrong)))
    return found


def known_atoms(level: str) -> tuple[NDArray[np.float64], float] | None:
    """Energies (len(ELEMENTS),) in eV of free atoms, NaN where unknown, and how far they may be off an atom (eV).

    None for a level of one's own, of which nothing is known.
    """
    known = catalogue(level)
    if known is None:
        return None
    slack = 0.0 if known.exact and not level.startswith("hf/") else _SLACK
    return np.array([known.energies.get(number, np.nan) for number in ELEMENTS]), slack


def atomisation_energy(structures: Structures, level: str) -> NDArray[np.float64]:
    """Atomisation energy in eV an atom of each structure labelled at ``level``; NaN where it cannot be told."""
    known = known_atoms(level)
    if known is None:
        return np.full(len(structures), np.nan)
    return _atomisation(structures, element_counts(structures), structures.level_index(level), known[0])


def _atomisation(outline: Structures, counts: NDArray, k: int, free: NDArray[np.float64]) -> NDArray[np.float64]:
    # An element whose free atom is not known spoils its own structures only: 0 atoms times NaN would spoil all.
    unknown = np.isnan(free)
    known = outline.energy_mask[:, k] & ~counts[:, unknown].any(1)
    per_atom = (counts[:, ~unknown] @ free[~unknown] - outline.energies[:, k]) / outline.n_atoms
    return np.where(known, per_atom, np.nan)


def energies(outline: Structures, counts: NDArray) -> list[Finding]:
    return [_energy(outline, counts, k) for k in range(len(outline.levels)) if outline.energy_mask[:, k].any()]


def _energy(outline: Structures, counts: NDArray, k: int) -> Finding:
    name = outline.levels[k]
    known = known_atoms(name)
    if known is None:
        expected = f"a scatter of at most {SCATTER:g} eV an atom about the energies of the composition"
        if (n := np.count_nonzero(outline.energy_mask[:, k])) < FEW:
            return Finding(f"energies, {name}", None, expected, f"{n} structures: too few")
        residual = _residual(counts, outline.energies[:, k], outline.energy_mask[:, k]) / outline.n_atoms
        scatter = float(np.nanstd(residual))
        return Finding(
            f"energies, {name}",
            scatter <= SCATTER,
            expected,
            f"{scatter:.4g} eV an atom" + ("" if scatter <= SCATTER else ": wrong unit in the manifest?"),
        )
    free, slack = known
    low, high = ATOMISATION[0] - slack, ATOMISATION[1] + slack
    per_atom = _atomisation(outline, counts, k, free)
    expected = f"atomisation energies of {low:g} to {high:g} eV an atom"
    if np.isnan(per_atom).all():
        return Finding(f"energies, {name}", None, expected, "elements whose free atoms are not known")
    wrong = (per_atom < low) | (per_atom > high)
    far = (per_atom < low - FAR_ENERGY) | (per_atom > high + FAR_ENERGY)
    got = f"{np.nanmin(per_atom):.4g} to {np.nanmax(per_atom):.4g} eV an atom"
    if aside := np.count_nonzero(outline.energy_mask[:, k] & np.isnan(per_atom)):
        got += f", {aside:,} with elements whose free atoms are not known"
    among = int(np.count_nonzero(outline.energy_mask[:, k]))
    return bounded(outline, f"energies, {name}", expected, got, wrong, far, among, ": wrong unit in the manifest?")


def _residual(counts: NDArray, values: FloatArray, mask: BoolArray) -> NDArray[np.float64]:
    """(S,) values minus what their composition explains (least squares an element); NaN beside the mask."""
    present = counts[mask].any(0)
    a = counts[:, present].astype(np.float64)
    # Normal equations: a few columns, and any number of rows.
    inner = np.linalg.lstsq(a[mask].T @ a[mask], a[mask].T @ values[mask], rcond=1e-12)[0]
    return np.where(mask, values - a @ inner, np.nan)


# forces


def force_size(outline: Structures, k: int, squares: float) -> Finding:
    n = 3 * int(outline.n_atoms[outline.force_mask[:, k]].sum())
    rms = float(np.sqrt(squares / n))
    ok = FORCE[0] <= rms <= FORCE[1]
    return Finding(
        f"forces, {outline.levels[k]}",
        ok,
        f"a root mean square force component of {FORCE[0]:g} to {FORCE[1]:g} eV/Angstrom",
        f"{rms:.4g} eV/Angstrom" + ("" if ok else ": wrong unit in the manifest?"),
    )


def force_sizes(outline: Structures, seen: Survey) -> list[Finding]:
    found = []
    for k in with_forces(outline):
        name = outline.levels[k]
        found.append(force_size(outline, k, seen.squares[k]))
        among = int(np.count_nonzero(outline.force_mask[:, k]))
        for what, values, limit in (
            ("largest component of a force", seen.largest[k], LARGEST_FORCE),
            ("net force of a molecule", seen.net[k], NET_FORCE),
        ):
            expected, got = f"at most {limit:g} eV/Angstrom", f"up to {values.max():.3g} eV/Angstrom"
            beyond = values > limit, values > FAR * limit
            found.append(bounded(outline, f"{what}, {name}", expected, got, *beyond, among))
    return found


def consistency(outline: Structures, seen: Survey) -> list[Finding]:
    """Energy differences of neighbouring frames against minus the mean force times the displacement."""
    found = []
    for k in with_forces(outline):
        name, expected = outline.levels[k], f"slope 1, correlation above {CORRELATION:g}, in each molecule and in all"
        pairs = {molecule: _pairs_of(pieces, k) for molecule, pieces in seen.sample[k].items()}
        change, work = (np.concatenate([pair[side] for pair in pairs.values()] or [np.zeros(0)]) for side in (0, 1))
        if len(change) < 10:
            reason = f"{len(change)} pairs of structures {NEAR[0]:g} to {NEAR[1]:g} Angstrom apart: too few"
            found.append(Finding(f"energies against forces, {name}", None, expected, reason))
            continue
        lines = {molecule: _line(*pair) for molecule, pair in pairs.items() if len(pair[0]) >= 10}
        wrong = [m for m, (slope, r) in lines.items() if abs(slope - 1) > SLOPE_IN_ONE or r < CORRELATION]
        slope, correlation = _line(change, work)
        ok = abs(slope - 1) <= SLOPE and correlation >= CORRELATION and len(wrong) <= ODD_MOLECULES * len(lines)
        got = f"slope {slope:.3f}, correlation {correlation:.3f} over {len(change):,} pairs"
        if not ok:
            got += f", {len(wrong)} of {len(lines)} molecules off"
            got += ": wrong unit or sign of forces, or labels in another order?"
        where = [f"{outline.molecules[m]}: slope {lines[m][0]:.2f}, correlation {lines[m][1]:.2f}" for m in wrong]
        found.append(Finding(f"energies against forces, {name}", ok, expected, got, tuple(where[:SHOWN])))
    return found


def _line(change: FloatArray, work: FloatArray) -> tuple[float, float]:
    """Slope and correlation of a line through zero: which end of a pair comes first means nothing."""
    product, spread = float(change @ work), float(np.linalg.norm(change) * np.linalg.norm(work))
    return product / max(float(work @ work), 1e-30), product / max(spread, 1e-30)


def _pairs_of(pieces: list[Structures], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """See ``_neighbours``; of a molecule's structures, those of one order of atoms with each other."""
    groups: dict[bytes, list[tuple[Structures, int]]] = {}
    for piece in pieces:
        for s in range(len(piece)):
            raw = piece.numbers[piece.offsets[s] : piece.offsets[s + 1]].tobytes()
            groups.setdefault(raw, []).append((piece, s))
    pairs = [_neighbours(_stacked(members), k) for raw, members in groups.items() if len(members) > 2 and len(raw) > 1]
    change, work = (np.concatenate([pair[side] for pair in pairs] or [np.zeros(0)]) for side in (0, 1))
    return change, work


def _stacked(members: list[tuple[Structures, int]]) -> Structures:
    pieces = {id(piece): piece for piece, _ in members}
    if len(pieces) == 1:
        return members[0][0][np.array([s for _, s in members])]
    return join([piece[np.array([s for p, s in members if p is piece])] for piece in pieces.values()])


def _neighbours(frames: Structures, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Change of the energy and work of the mean force (eV) over the closest pairs, each turned onto the other."""
    shape = (len(frames), -1, 3)
    x = frames.positions.astype(np.float64).reshape(shape)
    x = x - x.mean(1, keepdims=True)
    force = frames.forces[k].astype(np.float64).reshape(shape)
    i, j = np.triu_indices(len(frames), 1)
    # A bound without turning: the sorted distances from the centre move no more than the atoms do.
    radii = np.linalg.norm(x, axis=2)
    bound = np.square(np.sort(radii, 1)[i] - np.sort(radii, 1)[j]).mean(1)
    likely = np.argsort(bound, kind="stable")[:4000]
    i, j = i[likely], j[likely]
    u, _, v = np.linalg.svd(np.einsum("pna,pnb->pab", x[i], x[j]))
    proper = np.ones((len(i), 1, 3))
    proper[:, 0, 2] = np.sign(np.linalg.det(u @ v))
    turn = (u * proper) @ v
    moved = x[j] - x[i] @ turn
    distance = np.sqrt(np.square(moved).sum((1, 2)) / x.shape[1])
    near = np.argsort(np.where(distance < NEAR[0], np.inf, distance), kind="stable")[:60]
    near = near[(distance[near] >= NEAR[0]) & (distance[near] <= NEAR[1])]
    i, j, turn, moved = i[near], j[near], turn[near], moved[near]
    work = -0.5 * ((force[i] @ turn + force[j]) * moved).sum((1, 2))
    return frames.energies[j, k] - frames.energies[i, k], work


def overlaps(outline: Structures, seen: Survey) -> Finding:
    got = f"{seen.closest.min():.3g} sums of covalent radii at least"
    expected = f"distances of at least {OVERLAP:g} sums of covalent radii"
    wrong, far = seen.closest < OVERLAP, seen.closest < OVERLAP / 2
    return bounded(outline, "overlapping atoms", expected, got, wrong, far, len(outline))


# levels against each other


def gaps(outline: Structures, counts: NDArray, seen: Survey) -> list[Finding]:
    """What each level adds to a lower one, on geometries that have both."""
    found = []
    for low, high in level_pairs(outline):
        pair = f"{outline.levels[low]} to {outline.levels[high]}"
        a, b = _shared(outline, low, high)
        if len(a) < FEW:
            found.append(Finding(f"gap, {pair}", None, f"{FEW} geometries with both labels", f"{len(a)} of them"))
            continue
        found += [_gap(pair, outline, counts, (a, low), (b, high)), _together(pair, outline, (a, low), (b, high))]
        if not np.isnan(apart := seen.apart.get((low, high), np.nan)):
            got = f"{apart:.3g} eV/Angstrom apart (root mean square)" if apart else f"the same forces{_ONE_KEY}"
            found.append(Finding(f"forces, {pair}", True if apart else None, "forces that differ", got))
    return found


Side = tuple[NDArray[np.int64], int]  # structures, and their level

# Odd, and not wrong by itself: files made for a test copy labels, too.
_ONE_KEY = " at both: is one key declared for two levels?"


def _gap(pair: str, outline: Structures, counts: NDArray, one: Side, other: Side) -> Finding:
    """Size of the gap, atomic energies aside."""
    (a, low), (b, high) = one, other
    expected = f"at most {GAP:g} eV an atom"
    gap = outline.energies[b, high] - outline.energies[a, low]
    if not gap.any():
        return Finding(f"gap, {pair}", None, expected, f"the same energies{_ONE_KEY}")
    rest = _residual(counts[a], gap, np.ones(len(a), bool))
    per_atom, deviation = np.abs(rest) / outline.n_atoms[a], float(np.std(rest))
    wrong, far = np.zeros(len(outline), bool), np.zeros(len(outline), bool)
    wrong[a[per_atom > GAP]], far[a[per_atom > FAR * GAP]] = True, True
    got = (
        f"{gap.mean() / EV_PER_KCAL:.6g} kcal/mol on average; atomic energies aside {deviation / EV_PER_KCAL:.3g} "
        f"(standard deviation), {np.abs(rest).max() / EV_PER_KCAL:.3g} at most, {per_atom.max():.2g} eV an atom at "
        f"most, {np.count_nonzero(np.abs(rest) > 8 * deviation):,} beyond 8 deviations, over {len(a):,} geometries"
    )
    return bounded(outline, f"gap, {pair}", expected, got, wrong, far, len(a))


def _together(pair: str, outline: Structures, one: Side, other: Side) -> Finding:
    """Whether two levels' energies rise and fall together within a molecule: the only sign of energies in other rows
    at a level without forces."""
    (a, low), (b, high) = one, other
    name = f"energies together, {pair}"
    expected = f"correlations above {TOGETHER:g}, in each molecule above {TOGETHER_IN_ONE:g}"
    molecule = outline.molecule[a]
    size = np.bincount(molecule)
    enough = size[molecule] > 2
    if np.count_nonzero(enough) < FEW:
        return Finding(name, None, expected, f"{np.count_nonzero(enough)} geometries of molecules with a few: too few")
    x, y = (_about_mean(outline.energies[rows, k], molecule) for rows, k in ((a, low), (b, high)))
    xy, xx, yy = (np.bincount(molecule, u * v) for u, v in ((x, y), (x, x), (y, y)))
    correlation = float(xy.sum() / np.sqrt(max(xx.sum() * yy.sum(), 1e-30)))
    each = xy / np.sqrt(np.maximum(xx * yy, 1e-30))
    judged = size >= FEW
    wrong = np.flatnonzero(judged & (each < TOGETHER_IN_ONE))
    ok = bool(correlation >= TOGETHER and len(wrong) <= ODD_MOLECULES * np.count_nonzero(judged))
    got = f"{correlation:.3f}" + ("" if ok else f", {len(wrong)} molecules below: labels of other rows?")
    where = tuple(f"{outline.molecules[m]}: correlation {each[m]:.2f}" for m in wrong[:SHOWN])
    return Finding(name, ok, expected, got, where)


def _about_mean(values: FloatArray, molecule: NDArray[np.int32]) -> NDArray[np.float64]:
    mean = np.bincount(molecule, values) / np.maximum(np.bincount(molecule), 1)
    return values - mean[molecule]


def _shared(outline: Structures, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Structures with the low and the high label of one geometry, paired; mostly they are one structure."""
    a, b = (np.flatnonzero(outline.energy_mask[:, k]) for k in (low, high))
    _, first, second = np.intersect1d(outline.geometry[a], outline.geometry[b], return_indices=True)
    return a[first], b[second]
