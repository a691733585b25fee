"""Checks of a dataset: what a wrong unit, a swapped column or a damaged file cannot fake.

``check`` looks at everything and gives findings; ``quick`` is the part of it that every conversion and every load of
small files goes through. Both take structures in memory or a converted file, and memory for its atoms does not grow.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mfbench import resources, units
from mfbench.data.manifest import Manifest, Probe
from mfbench.data.store import Reader
from mfbench.data.structures import BoolArray, FloatArray, Structures, join
from mfbench.elements import SYMBOLS
from mfbench.errors import DataCorrupt
from mfbench.theory import level as level_of
from mfbench.units import EV_PER_KCAL

Source = Structures | Reader

Progress = Callable[[int], None]


ELEMENTS = tuple(sorted(number for number in SYMBOLS if number))

_SHOWN = 5  # structures that a finding names

# Keys of isolated_atoms.json, by level.
_ATOM_KEYS = {
    "gfn2-xtb": "gfn2_xtb.energy",
    "pbe/def2-svp": "pbe_svp.energy",
    "wb97x/6-31g*": "wb97x_dz.energy",
    "wb97x/def2-tzvpp": "wb97x_tz.energy",
    "ccsd/cc-pvdz": "ccsd_dz.energy",
    "ccsd(t)*/cbs": "ccsd(t)_cbs.energy",
}

# A level without atoms of its own borrows those of its family, which lie within 3 eV an atom: far less than any unit
# error. Hartree-Fock lacks the correlation energy, some 7 eV an oxygen atom, and has its own: the numerical limit
# (Bunge et al., At. Data Nucl. Data Tables 53 (1993) 113), in Hartree.
_HARTREE_FOCK = {"H": -0.5, "C": -37.688619, "N": -54.400934, "O": -74.809398, "F": -99.409349}

_FAMILIES = {"mp2": "ccsd_dz.energy", "ccsd": "ccsd_dz.energy", "npno": "ccsd_dz.energy", "tpno": "ccsd_dz.energy"}

_FALLBACK = "wb97x_dz.energy"

_SLACK = 3.0  # eV an atom

ATOMISATION = (0.5, 10.0)  # eV an atom

SCATTER = 1.0  # eV an atom: of the energies of one's own level, whose atoms are not known, about its composition's

# Thermal and off-equilibrium structures. Root mean square and largest component, and length of the net force of a
# molecule: up to 0.76 eV/Angstrom among 921 structures of ANI-1x with the large basis (the noise of DFT's grid),
# 0.002 elsewhere.
FORCE = (0.05, 20.0)  # eV/Angstrom

LARGEST_FORCE = 1e3  # eV/Angstrom

NET_FORCE = 2.0  # eV/Angstrom

# Smallest distance, in sums of covalent radii (Cordero et al., 10.1039/b801115j). Seen: 0.73 (1000 K, mini-ani1x).
OVERLAP = 0.5

_RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11, 15: 1.07, 16: 1.05, 17: 1.02, 35: 1.20}

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

RARE = 1e-3  # share of structures that may be beyond a bound, but none by

FAR = 10  # times as much, or

FAR_ENERGY = 5.0  # eV an atom

FEW = 20  # geometries, below which a fit to the composition or a correlation says nothing

RECURRING = 1e-3  # eV: labels of one geometry at one level in one file


@dataclass(frozen=True)
class Finding:
    """What a check found. ``ok`` is None where it could not be made, and ``found`` says why."""

    check: str
    ok: bool | None
    expected: str
    found: str
    where: tuple[str, ...] = ()  # the first structures that fail

    @property
    def failed(self) -> bool:
        """Whether the check was made and failed."""
        return self.ok is not None and not self.ok


def check(declared: Manifest, source: Source, progress: Progress = lambda done: None) -> list[Finding]:
    """Everything that can be checked of a dataset, in a few passes.

    Args:
        progress: told how many structures are done.
    """
    outline, counts = _outline(source), element_counts(source)
    atoms = _look(source, outline, progress)
    return [
        *_counts(declared, outline),
        *_patterns(declared, outline),
        *_energies(outline, counts),
        *_force_sizes(outline, atoms),
        *_consistency(outline, atoms),
        _overlaps(outline, atoms),
        *_recurring(outline),
        *_gaps(outline, counts, atoms),
        *(_probe(probe, outline, atoms) for probe in declared.probes),
    ]


def quick(declared: Manifest, source: Source) -> None:
    """Counts and units of a dataset; raises DataCorrupt where they are not as declared."""
    for outline in _one_by_one(source):
        require(_counts(declared, outline))
    check_physics(source)


def check_physics(source: Source) -> None:
    """Raise DataCorrupt where a level's energies or forces cannot be in the declared unit."""
    counts = element_counts(source)
    for outline in _one_by_one(source):
        require(_energies(outline, counts))
        require([_force_size(outline, k, _sum_of_squares(source, outline.levels[k])) for k in _with_forces(outline)])


def require(findings: Iterable[Finding]) -> None:
    """Raise DataCorrupt for the first check that failed, saying how many more did."""
    failed = [one for one in findings if one.failed]
    if failed:
        first = failed[0]
        where = f" ({'; '.join(first.where)})" if first.where else ""
        more = f"; {len(failed) - 1} more checks failed" if len(failed) > 1 else ""
        raise DataCorrupt(f"{first.check}: expected {first.expected}, got {first.found}{where}{more}")


# what the checks look at


def _outline(source: Source) -> Structures:
    return source.outline if isinstance(source, Reader) else source


def _batches(source: Source) -> Iterator[Structures]:
    if isinstance(source, Reader):
        yield from source.batches()
    else:
        yield source


def element_counts(source: Source) -> NDArray[np.int16]:
    """(S, len(ELEMENTS)) atoms of each element."""
    numbers = np.concatenate(list(source.numbers())) if isinstance(source, Reader) else source.numbers
    starts = source.offsets[:-1]
    counts = np.zeros((len(starts), len(ELEMENTS)), np.int16)
    for k in np.flatnonzero(np.bincount(numbers, minlength=256)[list(ELEMENTS)]):
        counts[:, k] = np.add.reduceat(numbers == ELEMENTS[k], starts, dtype=np.int16)
    return counts


def _with_forces(outline: Structures) -> list[int]:
    return [int(k) for k in np.flatnonzero(outline.force_mask.any(0))]


def _one_by_one(source: Source) -> Iterator[Structures]:
    """The outline of a file with one level at a time: those of millions of structures at many levels are large."""
    if isinstance(source, Reader):
        yield from (source.of_levels((name,)) for name in source.levels)
    else:
        yield source


def _sum_of_squares(source: Source, name: str) -> float:
    """Of all force components at a level; unlabelled ones are zero."""
    pieces = source.forces(name) if isinstance(source, Reader) else [source.forces[source.levels.index(name)]]
    return sum(float(np.sum(np.square(piece), dtype=np.float64)) for piece in pieces)


@dataclass
class _Atoms:
    """What one pass over the atoms leaves: numbers a structure, and some structures of each of some molecules."""

    squares: dict[int, float]  # by level: sum over all force components
    absolute: dict[int, NDArray[np.float64]]  # by level: (S,) mean absolute component
    largest: dict[int, NDArray[np.float32]]  # by level: (S,) largest component
    net: dict[int, NDArray[np.float32]]  # by level: (S,) length of the net force
    closest: NDArray[np.float32]  # (S,) smallest distance in sums of covalent radii
    apart: dict[tuple[int, int], float]  # by pair of levels: rms difference of their forces; NaN: none have both
    sample: dict[int, dict[int, list[Structures]]]  # by level and molecule


_MOLECULES, _FRAMES, _WINDOWS = 50, 600, 6  # that are kept to compare neighbours


def _sampled(outline: Structures, k: int) -> BoolArray:
    """(S,) structures to compare: molecules spread over the data, windows of rows spread over each.

    Rows that follow each other are neighbours in a trajectory; where rows were shuffled, a window is as good as any.
    """
    chosen = np.zeros(len(outline), bool)
    rows = np.flatnonzero(outline.energy_mask[:, k] & outline.force_mask[:, k])
    count = np.bincount(outline.molecule[rows], minlength=len(outline.molecules))
    molecules = np.flatnonzero(count > 2)
    for molecule in molecules[:: max(1, -(-len(molecules) // _MOLECULES))]:
        mine = rows[outline.molecule[rows] == molecule]
        mine = mine[np.sort(np.unique(outline.geometry[mine], return_index=True)[1])]  # a copy tells nothing new
        window = _FRAMES // _WINDOWS
        chosen[mine[np.arange(len(mine)) % max(window, len(mine) // _WINDOWS) < window]] = True
    return chosen


def _look(source: Source, outline: Structures, progress: Progress) -> _Atoms:
    levels, count = _with_forces(outline), len(outline)
    atoms = _Atoms(
        squares=dict.fromkeys(levels, 0.0),
        absolute={k: np.zeros(count) for k in levels},
        largest={k: np.zeros(count, np.float32) for k in levels},
        net={k: np.zeros(count, np.float32) for k in levels},
        closest=np.full(count, np.inf, np.float32),
        apart={},
        sample={k: {} for k in levels},
    )
    sampled = {k: _sampled(outline, k) for k in levels}
    pairs = [(low, high) for low, high in _pairs(outline) if low in levels and high in levels]
    squares, components = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0)
    begin = 0
    for batch in _batches(source):
        rows, starts = slice(begin, begin + len(batch)), batch.offsets[:-1]
        for k in levels:
            size = np.abs(batch.forces[k])
            atoms.squares[k] += float(np.sum(np.square(size), dtype=np.float64))
            atoms.absolute[k][rows] = np.add.reduceat(size.mean(1, dtype=np.float64), starts) / batch.n_atoms
            atoms.largest[k][rows] = np.maximum.reduceat(size.max(1), starts)
            net = np.add.reduceat(batch.forces[k], starts, dtype=np.float64)
            atoms.net[k][rows] = np.linalg.norm(net, axis=1)
        atoms.closest[rows] = _closest(batch)
        for low, high in pairs:
            both = np.repeat(batch.force_mask[:, low] & batch.force_mask[:, high], batch.n_atoms)
            difference = batch.forces[high, both] - batch.forces[low, both]
            squares[low, high] += float(np.sum(np.square(difference), dtype=np.float64))
            components[low, high] += difference.size
        for k in levels:
            mine = np.flatnonzero(sampled[k][rows])
            for molecule in np.unique(batch.molecule[mine]):
                piece = batch[mine[batch.molecule[mine] == molecule]]
                atoms.sample[k].setdefault(int(molecule), []).append(piece)
        begin = rows.stop
        progress(begin)
    atoms.apart.update({one: np.sqrt(squares[one] / n) if n else np.nan for one, n in components.items()})
    return atoms


def _closest(batch: Structures) -> NDArray[np.float32]:
    """(S,) smallest interatomic distance in sums of covalent radii; infinite for a single atom."""
    radius = np.ones(256, np.float32)
    radius[list(_RADII)] = list(_RADII.values())
    closest = np.full(len(batch), np.inf, np.float32)
    for size in np.unique(batch.n_atoms[batch.n_atoms > 1]):
        first, second = np.triu_indices(int(size), 1)
        members = np.flatnonzero(batch.n_atoms == size)
        for chosen in np.array_split(members, max(1, len(members) * len(first) >> 20)):
            places = batch.offsets[chosen, None] + np.arange(size)
            x = batch.positions[places]
            x = (x - x[:, :1]).astype(np.float32)
            r = radius[batch.numbers[places]]
            ratio = np.square(x[:, first] - x[:, second]).sum(-1) / np.square(r[:, first] + r[:, second])
            closest[chosen] = np.sqrt(ratio.min(1))
    return closest


def _bounded(
    outline: Structures,
    check: str,
    expected: str,
    got: str,
    wrong: BoolArray,
    far: BoolArray,
    among: int,
    cause: str = "",
) -> Finding:
    """A bound on every structure: some in a thousand may be beyond it (sets of odd structures are made on purpose),
    none far beyond.

    Args:
        wrong, far: (S,) which structures are beyond the bound, and far beyond it.
        among: how many were looked at.
        cause: what may be the reason.
    """
    count = np.count_nonzero(wrong)
    ok = bool(count <= RARE * among and not far.any())
    note = f", {count:,} structures beyond" if count else ""
    return Finding(
        check, ok, expected, got + note + ("" if ok else cause), _named(outline, far if far.any() else wrong)
    )


def _named(outline: Structures, wrong: BoolArray) -> tuple[str, ...]:
    return tuple(outline.where(int(s)) for s in np.flatnonzero(wrong)[:_SHOWN])


# counts and labels


def _counts(declared: Manifest, outline: Structures) -> list[Finding]:
    found = [
        _count(declared.name, "structures", declared.n_structures, len(outline)),
        _count(declared.name, "molecules", declared.n_molecules, len(outline.molecules)),
    ]
    for labels in sorted(declared.labels, key=lambda one: level_of(one.level)):
        if labels.level not in outline.levels:
            continue
        k = outline.level_index(labels.level)
        for kind, part, expected, mask in (
            ("energies", labels.energy, labels.n_energy, outline.energy_mask),
            ("forces", labels.forces, labels.n_forces, outline.force_mask),
        ):
            got = int(np.count_nonzero(mask[:, k]))
            if part is None:
                found.append(_count(declared.name, f"{kind} at {labels.level}", 0, got))
            elif got or expected == 0:
                found.append(_count(declared.name, f"{kind} at {labels.level}", expected, got))
            else:
                found.append(Finding(f"{kind} at {labels.level}", False, "some", "0: every value is missing"))
    return [one for one in found if not (one.ok and one.found == "0")]


def _count(name: str, what: str, expected: int | None, got: int) -> Finding:
    known = f"any number of {what}" if expected is None else f"{expected:,} {what}"
    return Finding(f"{name}, {what}", expected in (None, got), known, f"{got:,}")


def _patterns(declared: Manifest, outline: Structures) -> list[Finding]:
    """Which labels come together."""
    found = []
    for k, name in enumerate(outline.levels):
        alone = outline.force_mask[:, k] & ~outline.energy_mask[:, k]
        if _declares_both(declared, name):
            got = f"{np.count_nonzero(alone):,} structures with forces alone"
            found.append(
                Finding(
                    f"labels, {name}",
                    not alone.any(),
                    "an energy wherever there are forces",
                    got,
                    _named(outline, alone),
                )
            )
    bits = np.zeros(len(outline), np.int64)
    for k in range(len(outline.levels)):
        bits |= outline.energy_mask[:, k].astype(np.int64) << 2 * k
        bits |= outline.force_mask[:, k].astype(np.int64) << 2 * k + 1
    kinds, counts = np.unique(bits, return_counts=True)
    lines = []
    for kind, count in sorted(zip(kinds.tolist(), counts.tolist()), key=lambda pair: -pair[1])[:6]:
        names = [
            f"{name} {''.join('EF'[b] for b in (0, 1) if kind >> 2 * k + b & 1)}"
            for k, name in enumerate(outline.levels)
            if kind >> 2 * k & 3
        ]
        lines.append(f"{count:,} with {' + '.join(names) or 'no label'}")
    bare = bits == 0
    more = f", and {len(kinds) - 6} more patterns" if len(kinds) > 6 else ""
    found.append(
        Finding(
            "patterns of labels",
            not bare.any(),
            "a label for each structure",
            "; ".join(lines) + more,
            _named(outline, bare),
        )
    )
    return found


def _declares_both(declared: Manifest, name: str) -> bool:
    return any(one.level == name and one.energy and one.forces for one in declared.labels)


# energies


@cache
def isolated_atoms() -> dict[str, dict[str, float]]:
    """Ground-state energies of free atoms in Hartree: element -> file key -> energy."""
    return json.loads((resources.mini_data() / "isolated_atoms.json").read_text())


def free_atoms(level: str) -> tuple[NDArray[np.float64], float] | None:
    """Energies (len(ELEMENTS),) in eV of free atoms, NaN where unknown, and how far they may be off an atom (eV).

    None for a level of one's own, of which nothing is known.
    """
    if "@" in level:
        return None
    if level.startswith("hf/"):
        table, slack = _HARTREE_FOCK, _SLACK
    else:
        family = next((key for name, key in _FAMILIES.items() if level.startswith(name)), _FALLBACK)
        key, slack = _ATOM_KEYS.get(level, family), 0.0 if level in _ATOM_KEYS else _SLACK
        table = {symbol: energies[key] for symbol, energies in isolated_atoms().items()}
    return np.array([table.get(SYMBOLS[number], np.nan) for number in ELEMENTS]) * units.HARTREE, slack


def atomisation_energy(structures: Structures, level: str) -> NDArray[np.float64]:
    """Atomisation energy in eV an atom of each structure labelled at ``level``; NaN where it cannot be told."""
    known = free_atoms(level)
    if known is None:
        return np.full(len(structures), np.nan)
    return _atomisation(structures, element_counts(structures), structures.level_index(level), known[0])


def _atomisation(outline: Structures, counts: NDArray, k: int, free: NDArray[np.float64]) -> NDArray[np.float64]:
    # An element whose free atom is not known spoils its own structures only: 0 atoms times NaN would spoil all.
    unknown = np.isnan(free)
    known = outline.energy_mask[:, k] & ~counts[:, unknown].any(1)
    per_atom = (counts[:, ~unknown] @ free[~unknown] - outline.energies[:, k]) / outline.n_atoms
    return np.where(known, per_atom, np.nan)


def _energies(outline: Structures, counts: NDArray) -> list[Finding]:
    return [_energy(outline, counts, k) for k in range(len(outline.levels)) if outline.energy_mask[:, k].any()]


def _energy(outline: Structures, counts: NDArray, k: int) -> Finding:
    name = outline.levels[k]
    known = free_atoms(name)
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
    return _bounded(outline, f"energies, {name}", expected, got, wrong, far, among, ": wrong unit in the manifest?")


def _residual(counts: NDArray, values: FloatArray, mask: BoolArray) -> NDArray[np.float64]:
    """(S,) values minus what their composition explains (least squares an element); NaN beside the mask."""
    present = counts[mask].any(0)
    a = counts[:, present].astype(np.float64)
    # Normal equations: a few columns, and any number of rows.
    inner = np.linalg.lstsq(a[mask].T @ a[mask], a[mask].T @ values[mask], rcond=1e-12)[0]
    return np.where(mask, values - a @ inner, np.nan)


# forces


def _force_size(outline: Structures, k: int, squares: float) -> Finding:
    n = 3 * int(outline.n_atoms[outline.force_mask[:, k]].sum())
    rms = float(np.sqrt(squares / n))
    ok = FORCE[0] <= rms <= FORCE[1]
    return Finding(
        f"forces, {outline.levels[k]}",
        ok,
        f"a root mean square force component of {FORCE[0]:g} to {FORCE[1]:g} eV/Angstrom",
        f"{rms:.4g} eV/Angstrom" + ("" if ok else ": wrong unit in the manifest?"),
    )


def _force_sizes(outline: Structures, atoms: _Atoms) -> list[Finding]:
    found = []
    for k in _with_forces(outline):
        name = outline.levels[k]
        found.append(_force_size(outline, k, atoms.squares[k]))
        among = int(np.count_nonzero(outline.force_mask[:, k]))
        for what, values, limit in (
            ("largest component of a force", atoms.largest[k], LARGEST_FORCE),
            ("net force of a molecule", atoms.net[k], NET_FORCE),
        ):
            expected, got = f"at most {limit:g} eV/Angstrom", f"up to {values.max():.3g} eV/Angstrom"
            beyond = values > limit, values > FAR * limit
            found.append(_bounded(outline, f"{what}, {name}", expected, got, *beyond, among))
    return found


def _consistency(outline: Structures, atoms: _Atoms) -> list[Finding]:
    """Energy differences of neighbouring frames against minus the mean force times the displacement."""
    found = []
    for k in _with_forces(outline):
        name, expected = outline.levels[k], f"slope 1, correlation above {CORRELATION:g}, in each molecule and in all"
        pairs = {molecule: _pairs_of(parts, k) for molecule, parts in atoms.sample[k].items()}
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
        found.append(Finding(f"energies against forces, {name}", ok, expected, got, tuple(where[:_SHOWN])))
    return found


def _line(change: FloatArray, work: FloatArray) -> tuple[float, float]:
    """Slope and correlation of a line through zero: which end of a pair comes first means nothing."""
    product, spread = float(change @ work), float(np.linalg.norm(change) * np.linalg.norm(work))
    return product / max(float(work @ work), 1e-30), product / max(spread, 1e-30)


def _pairs_of(parts: list[Structures], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """See ``_neighbours``; of a molecule's structures, those of one order of atoms with each other."""
    groups: dict[bytes, list[tuple[Structures, int]]] = {}
    for part in parts:
        for s in range(len(part)):
            raw = part.numbers[part.offsets[s] : part.offsets[s + 1]].tobytes()
            groups.setdefault(raw, []).append((part, s))
    pairs = [_neighbours(_stacked(members), k) for raw, members in groups.items() if len(members) > 2 and len(raw) > 1]
    change, work = (np.concatenate([pair[side] for pair in pairs] or [np.zeros(0)]) for side in (0, 1))
    return change, work


def _stacked(members: list[tuple[Structures, int]]) -> Structures:
    parts = {id(part): part for part, _ in members}
    if len(parts) == 1:
        return members[0][0][np.array([s for _, s in members])]
    return join([part[np.array([s for p, s in members if p is part])] for part in parts.values()])


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


# geometries


def _overlaps(outline: Structures, atoms: _Atoms) -> Finding:
    got = f"{atoms.closest.min():.3g} sums of covalent radii at least"
    expected = f"distances of at least {OVERLAP:g} sums of covalent radii"
    wrong, far = atoms.closest < OVERLAP, atoms.closest < OVERLAP / 2
    return _bounded(outline, "overlapping atoms", expected, got, wrong, far, len(outline))


def _recurring(outline: Structures) -> list[Finding]:
    """Geometries that come more than once, and whether their labels agree."""
    order = np.lexsort((outline.file, outline.geometry))
    ids, files = outline.geometry[order], outline.file[order]
    starts = np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]) | (files[1:] != files[:-1])])  # of a geometry in a file
    sizes = np.diff(np.r_[starts, len(order)])
    more = sizes > 1
    in_one = int(np.count_nonzero(more))
    between = int(np.count_nonzero(np.unique(ids[starts], return_counts=True)[1] > 1))
    wrong = np.zeros(len(outline), bool)
    if in_one:
        members, sizes = order[np.repeat(more, sizes)], sizes[more]
        begins = np.cumsum(sizes) - sizes
        labelled, energies = outline.energy_mask[members], outline.energies[members]
        highest = np.maximum.reduceat(np.where(labelled, energies, -np.inf), begins)
        lowest = np.minimum.reduceat(np.where(labelled, energies, np.inf), begins)
        wrong[members] = np.repeat((highest - lowest > RECURRING).any(1), sizes)
    got = f"{in_one:,} geometries more than once in a file, {between:,} in several files"
    different = f"{np.count_nonzero(wrong):,} structures whose energy differs" if wrong.any() else "equal energies"
    return [
        Finding("geometries that recur", True, "any number (they are kept in one part)", got),
        Finding(
            "labels of geometries that recur in a file",
            not wrong.any(),
            f"equal energies to {RECURRING:g} eV",
            different,
            _named(outline, wrong),
        ),
    ]


# levels against each other


def _pairs(outline: Structures) -> list[tuple[int, int]]:
    """Each level with the lower one that it shares most structures with, the nearest of equals."""
    mask = outline.energy_mask
    found = []
    for high in range(1, len(outline.levels)):
        shared = [int(np.count_nonzero(mask[:, low] & mask[:, high])) for low in range(high)]
        found.append((max(range(high), key=lambda low: (shared[low], low)), high))
    return found


def _gaps(outline: Structures, counts: NDArray, atoms: _Atoms) -> list[Finding]:
    """What each level adds to a lower one, on geometries that have both."""
    found = []
    for low, high in _pairs(outline):
        pair = f"{outline.levels[low]} to {outline.levels[high]}"
        a, b = _shared(outline, low, high)
        if len(a) < FEW:
            found.append(Finding(f"gap, {pair}", None, f"{FEW} geometries with both labels", f"{len(a)} of them"))
            continue
        found += [_gap(pair, outline, counts, (a, low), (b, high)), _together(pair, outline, (a, low), (b, high))]
        if not np.isnan(apart := atoms.apart.get((low, high), np.nan)):
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
        f"(standard deviation), {np.abs(rest).max() / EV_PER_KCAL:.3g} at most, {per_atom.max():.2g} eV an atom "
        f"at most, {np.count_nonzero(np.abs(rest) > 8 * deviation):,} beyond 8 deviations, over {len(a):,} geometries"
    )
    return _bounded(outline, f"gap, {pair}", expected, got, wrong, far, len(a))


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
    where = tuple(f"{outline.molecules[m]}: correlation {each[m]:.2f}" for m in wrong[:_SHOWN])
    return Finding(name, ok, expected, got, where)


def _about_mean(values: FloatArray, molecule: NDArray[np.int32]) -> NDArray[np.float64]:
    mean = np.bincount(molecule, values) / np.maximum(np.bincount(molecule), 1)
    return values - mean[molecule]


def _shared(outline: Structures, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Structures with the low and the high label of one geometry, paired; mostly they are one structure."""
    a, b = (np.flatnonzero(outline.energy_mask[:, k]) for k in (low, high))
    _, first, second = np.intersect1d(outline.geometry[a], outline.geometry[b], return_indices=True)
    return a[first], b[second]


# probes


def _probe(probe: Probe, outline: Structures, atoms: _Atoms) -> Finding:
    k, unit = outline.level_index(probe.level), units.internal(probe.unit)
    forces = probe.quantity == "mean absolute force"
    mask = (outline.force_mask if forces else outline.energy_mask)[:, k].copy()
    if probe.molecule is not None:
        if probe.molecule not in outline.molecules:
            return Finding(_probe_name(probe), False, f"molecule {probe.molecule}", "no such molecule")
        mask &= outline.molecule == outline.molecules.index(probe.molecule)
    if not mask.any():
        return Finding(_probe_name(probe), False, "labelled structures", "none")
    if forces:
        got = float(np.average(atoms.absolute[k][mask], weights=outline.n_atoms[mask])) / unit
    elif probe.quantity == "mean energy":
        got = float(outline.energies[mask, k].mean()) / unit
    else:
        energies = outline.energies[mask, k] / unit
        got = float(energies[np.argmin(np.abs(energies - probe.value))])
    ok = abs(got - probe.value) <= probe.tolerance
    expected = f"{probe.value:.10g} +- {probe.tolerance:g} {probe.unit} ({probe.source})"
    nearest = "the nearest is " if probe.quantity == "has energy" else ""
    return Finding(_probe_name(probe), ok, expected, f"{nearest}{got:.10g}")


def _probe_name(probe: Probe) -> str:
    return f"{probe.quantity}, {probe.molecule or 'all'}, {probe.level}"
