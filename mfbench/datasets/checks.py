"""Checks of a dataset: what a wrong unit, a swapped column or a damaged file cannot fake.

``check`` looks at everything and gives findings; ``quick`` is the part of it that every conversion and every load of
small files goes through. Both take structures in memory or a converted file, and memory for its atoms does not grow.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mfbench import resources, units
from mfbench.errors import DataCorrupt
from mfbench.levels import level as level_of
from mfbench.manifest import Manifest, Probe
from mfbench.store import Reader
from mfbench.structures import SYMBOLS, BoolArray, FloatArray, Structures, join

Source = Structures | Reader
Progress = Callable[[int], None]

KCAL = units.internal("kcal/mol")
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
# molecule: 0.52 eV/Angstrom was seen in ANI-1x with the large basis (the noise of DFT's grid), 0.002 elsewhere.
FORCE = (0.05, 20.0)  # eV/Angstrom
LARGEST_FORCE = 1e3  # eV/Angstrom
NET_FORCE = 2.0  # eV/Angstrom
# Smallest distance, in sums of covalent radii (Cordero et al., 10.1039/b801115j). Seen: 0.73 (1000 K, mini-ani1x).
OVERLAP = 0.5
_RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11, 15: 1.07, 16: 1.05, 17: 1.02, 35: 1.20}
# Neighbours of a trajectory: root mean square displacement of an atom up to which the mean of two forces tells the
# change of the energy. Seen, in shipped and published data: slopes of 0.95 to 1.04, correlations above 0.97.
NEAR = 0.2  # Angstrom
SLOPE = 0.25
CORRELATION = 0.7
GAP = 3.0  # eV an atom, between two levels, atomic energies aside
RECURRING = 1e-3  # eV: labels of one geometry at one level in one file


@dataclass(frozen=True)
class Finding:
    """What a check found. ``ok`` is None where it could not be made, and ``found`` says why."""

    check: str
    ok: bool | None
    expected: str
    found: str
    where: tuple[str, ...] = ()  # the first structures that fail


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
        *_gaps(outline, counts),
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
    failed = [one for one in findings if one.ok is False]
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
    sample: dict[int, list[Structures]] = field(default_factory=dict)  # by molecule


_MOLECULES, _FRAMES = 30, 600  # that are kept to compare neighbours


def _look(source: Source, outline: Structures, progress: Progress) -> _Atoms:
    levels, count = _with_forces(outline), len(outline)
    atoms = _Atoms(
        squares=dict.fromkeys(levels, 0.0),
        absolute={k: np.zeros(count) for k in levels},
        largest={k: np.zeros(count, np.float32) for k in levels},
        net={k: np.zeros(count, np.float32) for k in levels},
        closest=np.full(count, np.inf, np.float32),
    )
    kept: dict[int, int] = {}
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
        for molecule in np.unique(batch.molecule):
            have = kept.get(int(molecule), 0)
            if have < _FRAMES and (have or len(kept) < _MOLECULES):
                mine = np.flatnonzero(batch.molecule == molecule)[: _FRAMES - have]
                kept[int(molecule)] = have + len(mine)
                atoms.sample.setdefault(int(molecule), []).append(batch[mine])
        begin = rows.stop
        progress(begin)
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
    present = counts.any(0)
    per_atom = (counts[:, present] @ free[present] - outline.energies[:, k]) / outline.n_atoms
    return np.where(outline.energy_mask[:, k], per_atom, np.nan)


def _energies(outline: Structures, counts: NDArray) -> list[Finding]:
    return [_energy(outline, counts, k) for k in range(len(outline.levels)) if outline.energy_mask[:, k].any()]


def _energy(outline: Structures, counts: NDArray, k: int) -> Finding:
    name = outline.levels[k]
    known = free_atoms(name)
    if known is None:
        residual = _residual(counts, outline.energies[:, k], outline.energy_mask[:, k]) / outline.n_atoms
        scatter = float(np.nanstd(residual))
        return Finding(
            f"energies, {name}",
            scatter <= SCATTER,
            f"a scatter of at most {SCATTER:g} eV an atom about the energies of the composition",
            f"{scatter:.4g} eV an atom" + ("" if scatter <= SCATTER else ": wrong unit in the manifest?"),
        )
    free, slack = known
    low, high = ATOMISATION[0] - slack, ATOMISATION[1] + slack
    per_atom = _atomisation(outline, counts, k, free)
    expected = f"atomisation energies of {low:g} to {high:g} eV an atom"
    if np.isnan(per_atom).all():
        return Finding(f"energies, {name}", None, expected, "elements whose free atoms are not known")
    wrong = (per_atom < low) | (per_atom > high)
    span = f"{np.nanmin(per_atom):.4g} to {np.nanmax(per_atom):.4g} eV an atom"
    note = f", {np.count_nonzero(wrong):,} structures outside: wrong unit in the manifest?" if wrong.any() else ""
    return Finding(f"energies, {name}", not wrong.any(), expected, span + note, _named(outline, wrong))


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
        for what, values, limit in (
            ("largest component of a force", atoms.largest[k], LARGEST_FORCE),
            ("net force of a molecule", atoms.net[k], NET_FORCE),
        ):
            wrong = values > limit
            above = f", {np.count_nonzero(wrong):,} above" if wrong.any() else ""
            got = f"up to {values.max():.3g} eV/Angstrom{above}"
            found.append(
                Finding(
                    f"{what}, {name}", not wrong.any(), f"at most {limit:g} eV/Angstrom", got, _named(outline, wrong)
                )
            )
    return found


def _consistency(outline: Structures, atoms: _Atoms) -> list[Finding]:
    """Energy differences of neighbouring frames against minus the mean force times the displacement."""
    found = []
    for k in _with_forces(outline):
        name = outline.levels[k]
        pairs = [_neighbours(frames, k) for frames in _samples(outline, atoms, k)]
        change, work = (np.concatenate([pair[side] for pair in pairs]) if pairs else np.zeros(0) for side in (0, 1))
        expected = f"a change of energy that is the work of the forces (slope 1, correlation above {CORRELATION:g})"
        if len(change) < 10:
            reason = f"{len(change)} pairs of structures within {NEAR:g} Angstrom: too few"
            found.append(Finding(f"energies against forces, {name}", None, expected, reason))
            continue
        slope = float(change @ work / max(work @ work, 1e-30))
        spread = float(np.linalg.norm(change) * np.linalg.norm(work))
        correlation = float(change @ work / max(spread, 1e-30))
        ok = abs(slope - 1) <= SLOPE and correlation >= CORRELATION
        got = f"slope {slope:.3f}, correlation {correlation:.3f} over {len(change):,} pairs"
        note = "" if ok else ": wrong unit or sign of forces, or labels in another order?"
        found.append(Finding(f"energies against forces, {name}", ok, expected, got + note))
    return found


def _samples(outline: Structures, atoms: _Atoms, k: int) -> Iterator[Structures]:
    """For each molecule of the sample, its structures of one order of atoms with both labels."""
    for parts in atoms.sample.values():
        groups: dict[bytes, list[tuple[Structures, int]]] = {}
        for part in parts:
            for s in np.flatnonzero(part.energy_mask[:, k] & part.force_mask[:, k]):
                raw = part.numbers[part.offsets[s] : part.offsets[s + 1]].tobytes()
                groups.setdefault(raw, []).append((part, int(s)))
        for numbers, members in groups.items():
            if len(members) > 2 and len(numbers) > 1:
                yield _stacked(members)


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
    near = np.argsort(distance, kind="stable")[:60]
    near = near[(distance[near] <= NEAR) & (distance[near] > 1e-4)]
    i, j, turn, moved = i[near], j[near], turn[near], moved[near]
    work = -0.5 * ((force[i] @ turn + force[j]) * moved).sum((1, 2))
    return frames.energies[j, k] - frames.energies[i, k], work


# geometries


def _overlaps(outline: Structures, atoms: _Atoms) -> Finding:
    wrong = atoms.closest < OVERLAP
    below = f", {np.count_nonzero(wrong):,} structures below" if wrong.any() else ""
    got = f"{atoms.closest.min():.3g} sums of covalent radii at least{below}"
    expected = f"distances of at least {OVERLAP:g} sums of covalent radii"
    return Finding("overlapping atoms", not wrong.any(), expected, got, _named(outline, wrong))


def _recurring(outline: Structures) -> list[Finding]:
    """Geometries that come more than once, and whether their labels agree."""
    order = np.argsort(outline.geometry, kind="stable")
    ids = outline.geometry[order]
    recurs = np.concatenate([[False], ids[1:] == ids[:-1]]) if len(ids) else np.zeros(0, bool)
    groups = np.unique(ids[recurs])
    in_one = between = 0
    wrong = np.zeros(len(outline), bool)
    starts = np.searchsorted(ids, groups)
    ends = np.searchsorted(ids, groups, side="right")
    for begin, end in zip(starts, ends):
        members = order[begin:end]
        files = outline.file[members]
        between += len(np.unique(files)) > 1
        for file in np.unique(files):
            mine = members[files == file]
            if len(mine) < 2:
                continue
            in_one += 1
            energies = np.where(outline.energy_mask[mine], outline.energies[mine], np.nan)
            with np.errstate(all="ignore"):
                span = np.fmax.reduce(energies) - np.fmin.reduce(energies)
            wrong[mine] |= bool(np.nanmax(span, initial=0) > RECURRING)
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


def _gaps(outline: Structures, counts: NDArray) -> list[Finding]:
    """What each level adds to the one below it, atomic energies aside, on geometries that have both."""
    found = []
    for low, high in pairwise(range(len(outline.levels))):
        pair = f"{outline.levels[low]} to {outline.levels[high]}"
        a, b = _shared(outline, low, high)
        if len(a) < 3:
            found.append(Finding(f"gap, {pair}", None, "geometries with both labels", f"{len(a)} of them"))
            continue
        gap = outline.energies[b, high] - outline.energies[a, low]
        rest = _residual(counts[a], gap, np.ones(len(a), bool))
        per_atom = np.abs(rest) / outline.n_atoms[a]
        far = np.zeros(len(outline), bool)
        far[a[per_atom > GAP]] = True
        got = (
            f"{np.std(rest) / KCAL:.3g} kcal/mol (standard deviation), {np.abs(rest).max() / KCAL:.3g} at most, "
            f"over {len(a):,} geometries"
        )
        found.append(Finding(f"gap, {pair}", not far.any(), f"at most {GAP:g} eV an atom", got, _named(outline, far)))
    return found


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
