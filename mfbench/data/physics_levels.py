"""Levels against each other, over geometries that both label: slopes, gaps, and single energies that are off."""

from collections.abc import Container, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data import smooth
from mfbench.data.candidates import Declared, energy_units, would_fit
from mfbench.data.findings import FAR, FEW, FEW_ODD, SHOWN, Finding, bounded
from mfbench.data.physics_singles import Off, Singles, finding, off, singles
from mfbench.data.smooth import Judged
from mfbench.data.structures import FloatArray, Structures
from mfbench.data.survey import Survey, beyond_composition, level_pairs
from mfbench.units import EV_PER_KCAL

# Ratio of the spreads of two levels' energies over the geometries of molecules. Seen: 0.82 (HF to CCSD(T)) to 1.12
# (GFN2-xTB to CCSD). The two units that lie closest, mHa and kcal/mol, give 1.59.
SLOPES = (0.75, 1.33)

LEAST = 8  # geometries more than molecules, for a slope within them, and for energies that go together

SHARING = 4  # geometries of a molecule, from which on it shares a line with others

JOINT = 0.5  # correlation, below which a slope says nothing

GAP = 1.0  # eV an atom, between two levels, atomic energies aside; seen: 0.43 (HF to MP2)

# Two levels' energies over one molecule's geometries go together, those of other rows do not. Seen: correlations above
# 0.9 over all molecules of a pair of levels, and above 0.38 in one (HF against MP2, CO2).
TOGETHER, TOGETHER_IN_ONE = 0.5, 0.2

ODD_MOLECULES = 0.05  # share of molecules that may be beyond what is asked of each one

# One energy against its molecule's others, a line through the two levels aside, in medians and in eV an atom. Seen: up
# to 14 medians; 0.13 eV an atom (GFN2-xTB to CCSD, medians of 0.013).
OFF, OFF_ENERGY, FAR_OFF = 16, 0.005, 0.3


class Pair(NamedTuple):
    """Two levels, and structures with the low and the high label of one geometry: mostly they are one structure."""

    low: int
    high: int
    a: NDArray[np.int64]  # (G,) structures with the low label
    b: NDArray[np.int64]  # (G,) with the high one

    def name(self, outline: Structures) -> str:
        """Both levels, for people."""
        return f"{outline.levels[self.low]} to {outline.levels[self.high]}"

    def energies(self, outline: Structures) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the low and the high level, (G,)."""
        return outline.energies[self.a, self.low], outline.energies[self.b, self.high]

    def about_median(self, outline: Structures) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same, each about its median."""
        low, high = self.energies(outline)
        return low - np.median(low), high - np.median(high)

    def of(self, which: NDArray[np.int64]) -> "Pair":
        """Some of its geometries."""
        return self._replace(a=self.a[which], b=self.b[which])


def pairs_of(outline: Structures) -> list[Pair]:
    """Each level with a lower one."""
    return [Pair(low, high, *shared(outline, low, high)) for low, high in level_pairs(outline)]


# units


def slopes(
    outline: Structures, counts: NDArray, pairs: list[Pair], declared: Declared, trusted: Container[str]
) -> list[Finding]:
    """Slope of each level's energies on a lower one's: near 1, in whatever unit both are.

    Args:
        trusted: levels whose energies are known to be in the declared unit: the other one's is wrong.
    """
    return [_slope(outline, counts, _without_odd(outline, pair), declared, trusted) for pair in pairs]


def _without_odd(outline: Structures, pair: Pair) -> Pair:
    """The pair without a few geometries that are off: one energy tilts the line of all."""
    rest, limit = _rest(outline, pair)
    odd = rest > limit
    few = np.count_nonzero(odd) <= FEW_ODD * len(odd)
    return pair.of(np.flatnonzero(~odd)) if few else pair


def following(outline: Structures, pairs: list[Pair], found: list[Finding], trusted: set[str]) -> set[str]:
    """The trusted levels, and those that are in their unit by a slope on one of them."""
    trusted = set(trusted)
    for pair, one in zip(pairs, found):
        both = {outline.levels[pair.low], outline.levels[pair.high]}
        if one.ok and both & trusted:
            trusted |= both
    return trusted


def _slope(outline: Structures, counts: NDArray, pair: Pair, declared: Declared, trusted: Container[str]) -> Finding:
    name = f"slope, {pair.name(outline)}"
    expected = f"a slope near 1 ({SLOPES[0]:g} to {SLOPES[1]:g}) of energies over geometries that both levels label"
    low, high = pair.energies(outline)
    if len(low) and not (high - low).any():
        return Finding(name, None, expected, "the same energies")
    n = outline.n_atoms[pair.a]
    each_atom = counts[pair.a] / n[:, None]
    sides = [_varying(outline, counts[pair.a], pair, values) for values in (low, high)]
    sides += [_varying(outline, each_atom, pair, values / n) for values in (low, high)]
    if sides[0] is None or sides[1] is None:
        return Finding(name, None, expected, f"{len(low)} geometries with both labels: too few")
    slope, joint = _ratio(sides[0], sides[1])
    if abs(joint) < JOINT:
        return Finding(name, None, expected, f"correlation {joint:.2f}: no line")
    ok = SLOPES[0] <= slope <= SLOPES[1]
    got = f"slope {slope:.3g} over {len(low):,} geometries"
    if ok:
        return Finding(name, ok, expected, got)
    fits = []
    for k, ratio, divided in ((pair.high, slope, sides[2]), (pair.low, 1 / slope, sides[3])):
        level, other = outline.levels[k], outline.levels[pair.low + pair.high - k]
        if level in trusted and other not in trusted:
            continue
        alone = sides[1] if k == pair.high else sides[0]
        per_atom, closer = (ratio, 0.0) if divided is None or alone is None else _ratio(divided, alone)
        # One size of molecules cannot tell; several go in proportion with one of the two.
        whole = ratio if abs(joint) >= abs(closer) - 1e-3 else None
        each = per_atom if abs(closer) >= abs(joint) - 1e-3 else None
        fits += [f"{unit} for {level}" for unit in energy_units(declared.energy_of(level), whole, each)]
    return Finding(name, ok, expected, got + would_fit(fits))


def _varying(
    outline: Structures, counts: NDArray, pair: Pair, values: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Energies about their molecule's mean, or, of molecules with one geometry, beyond their composition's."""
    molecule = outline.molecule[pair.a]
    if len(values) - len(np.unique(molecule)) >= LEAST:
        return _about_mean(values, molecule)
    if len(values) >= FEW:
        return beyond_composition(counts, values, np.ones(len(values), bool))
    return None


def _ratio(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Ratio of two spreads, with the sign of their correlation, and the correlation: noise tilts no such slope."""
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    if min(xx, yy) <= 0:
        return np.nan, 0.0
    return float(np.copysign(np.sqrt(yy / xx), xy)), xy / np.sqrt(xx * yy)


# gaps


def gaps(
    outline: Structures, counts: NDArray, seen: Survey, pairs: list[Pair], beside: Mapping[int, Off]
) -> list[Finding]:
    """What each level adds to a lower one, on geometries that have both.

    Args:
        beside: by the high level, single energies as a fit judges them (see ``by_another``).
    """
    found = []
    for pair in pairs:
        name = pair.name(outline)
        if len(pair.a) < LEAST:
            expected = f"{LEAST} geometries with both labels"
            found.append(Finding(f"gap, {name}", None, expected, f"{len(pair.a)} of them"))
            continue
        usual = _without_odd(outline, pair)
        found += [
            _gap(name, outline, counts, (pair.a, pair.low), (pair.b, pair.high)),
            _together(name, outline, (usual.a, pair.low), (usual.b, pair.high)),
            _off(name, outline, pair, beside[pair.high]),
        ]
        if not np.isnan(apart := seen.apart.get((pair.low, pair.high), np.nan)):
            got = f"{apart:.3g} eV/Angstrom apart (root mean square)" if apart else f"the same forces{_ONE_KEY}"
            found.append(Finding(f"forces, {name}", apart > 0, "forces that differ", got))
    return found


Side = tuple[NDArray[np.int64], int]  # structures, and their level

_ONE_KEY = " at both: is one key declared for two levels?"


def _gap(pair: str, outline: Structures, counts: NDArray, one: Side, other: Side) -> Finding:
    """Size of the gap, atomic energies aside."""
    (a, low), (b, high) = one, other
    expected = f"at most {GAP:g} eV an atom"
    gap = outline.energies[b, high] - outline.energies[a, low]
    if not gap.any():
        return Finding(f"gap, {pair}", False, expected, f"the same energies{_ONE_KEY}")
    rest = beyond_composition(counts[a], gap, np.ones(len(a), bool))
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
    if np.count_nonzero(enough) < LEAST:
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


def wanted(outline: Structures, pair: Pair) -> Singles:
    """Structures of a pair that a fit is to judge, each with the low label."""
    return singles(outline, np.sort(pair.a), FEW)


def by_another(outline: Structures, seen: Survey, pair: Pair, of: Singles) -> Off:
    """Judge what the high level adds to the line of a molecule's two levels."""
    order = np.argsort(pair.a)

    def judge(rows: NDArray[np.int64]) -> Judged:
        x, y = pair.of(order[np.searchsorted(pair.a[order], rows)]).about_median(outline)
        hot = np.minimum(np.abs(x), np.abs(y))  # either may be the one that is off
        return smooth.beside(seen.some(rows), y - _robust_slope(x, y) * x, hot)

    return off(outline, of, FEW, judge)


def _off(name: str, outline: Structures, pair: Pair, beside: Off) -> Finding:
    """Single energies that leave the line of their molecule's two levels, or a smooth fit about it."""
    expected = f"energies within {OFF} medians of the line of their molecule's two levels"
    rest, limit = _rest(outline, pair)
    known = np.isfinite(rest)
    if not known.any():
        return Finding(f"outliers, {name}", None, expected, f"no molecule with {FEW} geometries")
    wrong, far = np.zeros(len(outline), bool), np.zeros(len(outline), bool)
    wrong[pair.a[rest > limit]], far[pair.a[rest > np.maximum(3 * limit, FAR_OFF)]] = True, True
    cause = ": energies of other rows, or other states?"
    got = f"up to {rest[known].max():.2g} eV an atom"
    line = bounded(outline, f"outliers, {name}", expected, got, wrong, far, int(known.sum()), cause)
    fit = finding(outline, line.check, "a smooth fit of what one level adds to the other", [beside])
    return line if line.failed or not fit.failed else fit


def _rest(outline: Structures, pair: Pair) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each geometry is off the line of its molecule's two levels, and the most that is usual, eV an atom.

    Molecules with few geometries share one line and one median. NaN, twice, where there is hardly anything to share.
    """
    rest, limit = np.full((2, len(pair.a)), np.nan)
    order = np.argsort(outline.molecule[pair.a], kind="stable")
    few = [np.zeros(0, np.int64)]

    def judge(groups: list[NDArray[np.int64]]) -> None:
        rows, both = np.concatenate(groups), [pair.of(one).about_median(outline) for one in groups]
        slope = _robust_slope(*(np.concatenate(side) for side in zip(*both)))
        off = [y - slope * x for x, y in both]
        rest[rows] = np.abs(np.concatenate([one - np.median(one) for one in off])) / outline.n_atoms[pair.a[rows]]
        limit[rows] = max(OFF * float(np.median(rest[rows])), OFF_ENERGY)

    for rows in np.split(order, np.flatnonzero(np.diff(outline.molecule[pair.a][order])) + 1):
        if len(rows) >= FEW:
            judge([rows])
        elif len(rows) >= SHARING:
            few.append(rows)
    if sum(map(len, few)) >= FEW:
        judge(few[1:])
    return rest, limit


def _robust_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The median of y / x, weighted by the size of x as far as it is usual: a few odd energies do not move it."""
    weight = np.minimum(np.abs(x), 3 * np.median(np.abs(x)))
    if not weight.any():
        return 0.0
    ratio = np.divide(y, x, out=np.zeros_like(y), where=weight > 0)
    order = np.argsort(ratio)
    total = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(total, total[-1] / 2)])


def _about_mean(values: FloatArray, molecule: NDArray[np.int32]) -> NDArray[np.float64]:
    mean = np.bincount(molecule, values) / np.maximum(np.bincount(molecule), 1)
    return values - mean[molecule]


def shared(outline: Structures, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Structures with the low and the high label of one geometry, paired; mostly they are one structure."""
    a, b = (np.flatnonzero(outline.energy_mask[:, k]) for k in (low, high))
    _, first, second = np.intersect1d(outline.geometry[a], outline.geometry[b], return_indices=True)
    return a[first], b[second]
