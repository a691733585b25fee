"""Checks of a dataset: what a wrong unit, a swapped column or a damaged file cannot fake.

``check`` looks at everything and gives findings; ``quick`` is what of it every conversion and every load of
small files goes through. Both take structures in memory or a converted file, and memory for its atoms does not grow.
"""

import numpy as np

from mfbench import units
from mfbench.data.candidates import Declared
from mfbench.data.findings import SHOWN, Finding, accepting, places, require, sound
from mfbench.data.manifest import Manifest, Probe
from mfbench.data.molecules import State, stated_in
from mfbench.data.physics_energies import energies, free_atoms, own_energies
from mfbench.data.physics_forces import consistency, force_size, force_sizes
from mfbench.data.physics_geometry import bond_lengths, distorted, geometries
from mfbench.data.physics_levels import by_another, following, gaps, pairs_of, slopes, wanted
from mfbench.data.physics_singles import by_themselves, few_odd, of_level, outliers
from mfbench.data.shapes import shape_of
from mfbench.data.structures import Structures
from mfbench.data.survey import (
    Progress,
    Source,
    Survey,
    element_counts,
    one_by_one,
    outline_of,
    some_of,
    sum_of_squares,
    survey,
    with_forces,
)
from mfbench.theory import level as level_of

SAMPLED = 500  # structures that every load looks at the distances of

RECURRING = 1e-3  # eV: labels of one geometry at one level in one file


def check(declared: Manifest, source: Source, progress: Progress = lambda done: None) -> list[Finding]:
    """Everything that can be checked of a dataset, in a few passes.

    Args:
        progress: told how many structures are done.
    """
    outline, counts, units_of = outline_of(source), element_counts(source), Declared.of(declared)
    pairs = pairs_of(outline)
    single = {k: of_level(outline, k) for k in range(len(outline.levels)) if outline.energy_mask[:, k].any()}
    both = {pair.high: wanted(outline, pair) for pair in pairs}
    looked_at = [one.chosen for one in (*both.values(), *(one for two in single.values() for one in two))]
    seen = survey(source, outline, progress, looked_at)
    known = energies(outline, counts, units_of)
    lines = slopes(outline, counts, pairs, units_of, sound(known))
    trusted = following(outline, pairs, lines, sound(known))
    own = own_energies(outline, counts, units_of, trusted)
    off = {k: by_themselves(outline, seen, k, of) for k, of in single.items()}
    beside = {pair.high: by_another(outline, seen, pair, both[pair.high]) for pair in pairs}
    lined = consistency(outline, seen, units_of, trusted | sound(own), {k: few_odd(one) for k, one in off.items()})
    found = [
        *_counts(declared, outline),
        *_patterns(declared, outline),
        *free_atoms(outline, units_of),
        bond_lengths(seen.shape.typical, units_of),
        *geometries(outline, seen.shape),
        *known,
        *lines,
        *own,
        *force_sizes(outline, seen, units_of),
        *lined,
        *outliers(outline, off, {one.check.partition(", ")[2] for one in lined if one.failed}),
        distorted(outline, seen.shape),
        *_recurring(outline),
        *_states(outline),
        *gaps(outline, counts, seen, pairs, beside),
        *(_probe(probe, outline, seen) for probe in declared.probes),
    ]
    return accepting(found, declared.accept, declared.reason)


def quick(declared: Manifest, source: Source) -> None:
    """Counts and units of a dataset; raises DataCorrupt where they are not as declared."""
    for outline in one_by_one(source):
        require(_counts(declared, outline))
    check_physics(source, declared)


def check_physics(source: Source, declared: Manifest | None = None) -> None:
    """Raise DataCorrupt where lengths, or a level's energies or forces, cannot be in the declared unit.

    Args:
        declared: says the units, and what it accepts; eV and Angstrom otherwise, and nothing.
    """
    units_of = Declared({}, {}, "Angstrom") if declared is None else Declared.of(declared)
    accepted, reason = ((), "") if declared is None else (declared.accept, declared.reason)

    def sure(found: list[Finding]) -> None:
        require(accepting(found, accepted, reason))

    counts = element_counts(source)
    sure([bond_lengths(shape_of(some_of(source, SAMPLED)).typical, units_of)])
    trusted, sizes = set[str](), list[Finding]()
    for outline in one_by_one(source):
        found = energies(outline, counts, units_of)
        sure([*free_atoms(outline, units_of), *found])
        trusted |= sound(found)
        for k in with_forces(outline):
            sizes.append(force_size(outline, k, sum_of_squares(source, outline.levels[k]), units_of))
    if any("@" in name for name in source.levels):  # only then: it takes all levels at once
        outline = outline_of(source)
        pairs = pairs_of(outline)
        lines = slopes(outline, counts, pairs, units_of, trusted)
        sure([*lines, *own_energies(outline, counts, units_of, following(outline, pairs, lines, trusted))])
    sure(sizes)


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
        for kind, keys, expected, mask in (
            ("energies", labels.energy, labels.n_energy, outline.energy_mask),
            ("forces", labels.forces, labels.n_forces, outline.force_mask),
        ):
            got = int(np.count_nonzero(mask[:, k]))
            if keys is None:
                found.append(_count(declared.name, f"{kind} at {labels.level}", 0, got))
            elif got or expected == 0:
                found.append(_count(declared.name, f"{kind} at {labels.level}", expected, got))
            else:
                found.append(
                    Finding(f"{kind} at {labels.level}", False, "some", f"0: {_missing(declared, labels.level)}")
                )
    return [one for one in found if not (one.ok and one.found == "0")]


def _missing(declared: Manifest, level: str) -> str:
    """Why a level may have no label, where the manifest says that it has some."""
    every = [*declared.labels, *(one for file in declared.files for held in file.contents for one in held.labels)]
    asked = [one.where for one in every if one.level == level and one.where]
    words = " or ".join(", ".join(f"{key}: {value}" for key, value in one.items()) for one in asked)
    hint = f", or no structure has `where: {{{words}}}` as it is written here (upper and lower case differ)"
    return f"every value is missing{hint if words else ''}"


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
            got += ", their energy being absent or not a number (NaN): give it, or leave out their forces"
            found.append(
                Finding(
                    f"labels, {name}",
                    not alone.any(),
                    "an energy wherever there are forces",
                    got,
                    places(outline, alone),
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
            places(outline, bare),
        )
    )
    return found


def _declares_both(declared: Manifest, name: str) -> bool:
    return any(one.level == name and one.energy and one.forces for one in declared.labels)


# geometries


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
            places(outline, wrong),
        ),
    ]


def _states(outline: Structures) -> list[Finding]:
    """Molecules with a charge, or in another state than the lowest."""
    stated = [name for name in outline.molecules if stated_in(name) != State()]
    more = f", and {len(stated) - SHOWN} more" if len(stated) > SHOWN else ""
    found = f"{'; '.join(stated[:SHOWN])}{more}"
    return [Finding("charges and spins", True, "any (each state is a molecule of its own)", found)] if stated else []


# probes


def _probe(probe: Probe, outline: Structures, seen: Survey) -> Finding:
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
        got = float(np.average(seen.absolute[k][mask], weights=outline.n_atoms[mask])) / unit
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
