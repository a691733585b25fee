"""What a run was trained on, recorded beside it, and in words where a structure lies outside of it; numpy alone."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mfbench.data.bonds import bonds_of
from mfbench.data.geometries import Slab
from mfbench.data.molecules import State, named, stated_in
from mfbench.data.structures import Structures
from mfbench.elements import SYMBOLS, formula
from mfbench.errors import UserError
from mfbench.free_atoms import energies_at
from mfbench.learning.problem import Lesson, determined_by, trained_on
from mfbench.models.determined import Determined, Known

# Kinds of molecules that a run records, the most common first: some 1.2 MB of JSON. Seen: 18 in mini-ani1x; in 1,000
# conformers of ANI-1x, 932.
MOST_KINDS = 50_000

NOT_RECORDED = "not recorded what this run was trained on: made by an earlier version of mfbench"


def known_by(structures: Structures, lessons: Sequence[Lesson], heads: Sequence[str]) -> Known:
    """What lessons train on.

    Args:
        heads: the levels that are predicted, from low to high.
    """
    found = determined_by(structures, lessons)
    none = {name: Determined((), (), energies_at(name, structures.free_atoms), {}) for name in heads}
    indices = trained_on(lessons)
    atoms, offsets = structures.atoms_of(indices), np.concatenate([[0], np.cumsum(structures.n_atoms[indices])])
    bonds = bonds_of(Slab(structures.numbers[atoms], structures.positions[atoms], offsets))
    kinds, count = np.unique(bonds.fingerprint, return_counts=True)
    kept = np.argsort(-count, kind="stable")[:MOST_KINDS]
    return Known(
        {name: found.get(name, none[name]) for name in heads},
        _named(structures, indices),
        frozenset(f"{one:016x}" for one in kinds[kept].tolist()),
        # Some odd structures, pulled apart, make no set of pairs.
        int(np.quantile(bonds.at_once(offsets), 0.99, method="lower")),
        float(count[kept].sum() / len(indices)),
    )


def _named(structures: Structures, indices: NDArray[np.int64]) -> tuple[str, ...]:
    """Compositions of structures, each with its charge and multiplicity, once."""
    _, first = np.unique(structures.molecule[indices], return_index=True)
    of_molecules = (
        named(formula(structures.numbers[structures.atoms_of(indices[[k]])]), stated_in(structures.molecules[m]))
        for k, m in zip(first, structures.molecule[indices[first]])
    )
    return tuple(sorted(set(of_molecules)))


def undetermined_text(known: Known) -> list[str]:
    """For people, a line for each level whose energies do not determine its atomic energies."""
    return [
        f"{level}, by energies of {_few(one.formulas)}; in other compositions, atomic energies of "
        f"{one.come_from(one.undetermined)}"
        for level, one in known.levels.items()
        if one.formulas and one.undetermined
    ]


def of_free_atoms(known: Known | None, level: str, numbers: NDArray[np.integer]) -> NDArray[np.float64]:
    """Energies of free atoms, (S,) eV; raises UserError for one that nothing tells."""
    held = energies_at(level, {}) if known is None else known.levels[level].free_atoms
    for number in map(int, numbers):
        if number not in held:
            raise UserError(
                f"a free atom of {SYMBOLS[number]} at {level}: expected its reference energy, none is known; a "
                "dataset may bring it, as a frame of one atom or as free_atoms in its manifest"
            )
    return np.array([held[int(number)] for number in numbers], float)


def outside(known: Known | None, level: str, slab: Slab, states: Sequence[State]) -> tuple[str, ...]:
    """In words, why each structure lies outside what was trained on, (S,); empty where it lies inside.

    Args:
        known: None for a run that did not record it.
        states: charge and multiplicity of each structure, (S,).
    """
    counts = np.diff(slab.offsets)
    if known is None:
        return tuple(
            _free_atom(slab.numbers[a], state) if n == 1 else NOT_RECORDED
            for a, n, state in zip(slab.offsets, counts, states)
        )
    bonds = bonds_of(slab)
    at_once = bonds.at_once(slab.offsets)
    told: dict[tuple[bytes, int, int, State], str] = {}
    found = []
    for s, (begin, end) in enumerate(pairwise(slab.offsets)):
        numbers, molecule = slab.numbers[begin:end], bonds.molecule[begin:end]
        key = np.sort(numbers).tobytes(), int(at_once[s]), int(bonds.fingerprint[s]), states[s]
        if key not in told:
            parts = [numbers[molecule == one] for one in np.unique(molecule)]
            familiar = f"{bonds.fingerprint[s]:016x}" in known.bonds
            told[key] = "; ".join(_reasons(known, level, numbers, states[s], parts, familiar))
        found.append(told[key])
    return tuple(found)


def _reasons(
    known: Known,
    level: str,
    numbers: NDArray[np.integer],
    state: State,
    molecules: list[NDArray[np.integer]],
    familiar: bool,
) -> list[str]:
    """Why one structure lies outside.

    Args:
        molecules: atomic numbers of each of its molecules; familiar: whether its atoms are bonded as trained on.
    """
    if len(numbers) == 1:
        return [_free_atom(numbers[0], state)]
    one, name = known.levels[level], formula(numbers)
    determined = not one.formulas or one.determines(numbers)
    alike = [text for text in known.formulas if text.split(",")[0] == name]  # in whatever states
    reasons = []
    if len(molecules) > known.molecules_at_once:
        parts = " and ".join(map(formula, molecules)) if len(molecules) < 4 else name
        most = "one at a time" if known.molecules_at_once == 1 else f"{known.molecules_at_once} at most"
        reasons.append(f"{len(molecules)} molecules at once ({parts}): trained on {most}")
    elif not alike:
        reasons += [f"{name}: a composition that was not trained on"] if determined else []
    elif not familiar:
        reasons.append(f"{name}: bonded unlike {_trained_on(known.bonds_share)}")
    if named(name, state) not in alike and (alike or state != State()):
        stated = str(state) or "no charge, lowest multiplicity"
        trained_on = f": trained on {' and '.join(alike)}" if alike else ""
        reasons.append(f"{name}: a state ({stated}) that was not trained on{trained_on}")
    if not one.formulas:
        reasons.append(f"no energies at {level} were trained on: total energies there have no zero")
    elif not determined:
        no_zero = "" if one.has_zero(numbers) else ", so its energy has no zero"
        reasons.append(
            f"{name}: not determined by {level}, whose energies are known for {_few(one.formulas)}; atomic energies of "
            f"{one.come_from(numbers)}{no_zero}"
        )
    return reasons


def _trained_on(share: float) -> str:
    """What a structure is unlike whose bonds are not among those recorded, of a share of the structures."""
    if share == 1:
        return "the molecules that were trained on"
    return f"{np.floor(1000 * share) / 10:g} % of the structures that were trained on (the others are not recorded)"


def _free_atom(number: int, state: State) -> str:
    symbol = SYMBOLS[int(number)]
    told = f"a free atom of {symbol}: its reference energy, which no network predicted"
    return told if state.charge is None else f"{told}, and that of the neutral atom, not of {named(symbol, state)}"


def _few(formulas: Sequence[str]) -> str:
    return f"{formulas[0]} alone" if len(formulas) == 1 else f"{len(formulas)} compositions alone"
