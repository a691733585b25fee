"""Whether energies are those of molecules: atomisation energies, which no wrong unit leaves as they are."""

from collections.abc import Container, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mfbench.data.candidates import Declared, energy_units, would_fit
from mfbench.data.findings import FEW, RARE, Finding, bounded, places
from mfbench.data.structures import Structures
from mfbench.data.survey import ELEMENTS, beyond_composition, element_counts
from mfbench.elements import SYMBOLS
from mfbench.free_atoms import free_atoms_of

# What a level may be off whose atoms are borrowed from one close by, or are Hartree-Fock's, which binds molecules less.
_SLACK = 3.0  # eV an atom

ATOMISATION = (0.5, 10.0)  # eV an atom

SCATTER = 1.0  # eV an atom: of energies whose free atoms are not known, about those of their composition

# Free atoms of one level, computed by other codes: other cores, spherical or without spin. Seen: 3 eV (spins paired).
FREE = 5.0  # eV

FAR_ENERGY = 5.0  # eV an atom beyond a bound: far beyond it

# Kinds of levels that one's own may be of, each by one of the catalogue.
_KINDS = {
    "all-electron DFT or coupled cluster": "wb97x/6-31g*",
    "Hartree-Fock": "hf/cc-pvqz",
    "GFN2-xTB (valence electrons only)": "gfn2-xtb",
}

_TYPICAL = 4.5  # eV an atom: usual atomisation energy

# energies


def free_atoms(outline: Structures, declared: Declared) -> list[Finding]:
    """The reference energies that the data bring, against mfbench's own."""
    found = []
    for level, own in outline.free_atoms.items():
        known = free_atoms_of(level)
        apart = {z: abs(e - known.energies[z]) for z, e in own.items() if known is not None and z in known.energies}
        wrong = [f"{SYMBOLS[z]}: {own[z]:.6g} eV, {gap:.3g} off" for z, gap in apart.items() if gap > FREE]
        fits = ""
        if wrong and known is not None:
            ratio = float(np.median([own[z] / known.energies[z] for z in apart]))
            fits = would_fit(energy_units(declared.energy_of(level), ratio, None))
        expected = f"energies within {FREE:g} eV of those that mfbench knows"
        more = fits if apart else ", with none to compare"
        got = f"{', '.join(SYMBOLS[z] for z in own)} at {level}{more}"
        found.append(Finding("free atoms", not wrong if apart else None, expected, got, tuple(wrong)))
    return found


def known_atoms(
    level: str, own: Mapping[str, Mapping[int, float]] | None = None
) -> tuple[NDArray[np.float64], float] | None:
    """Energies (len(ELEMENTS),) in eV of free atoms, NaN where unknown, and how far they may be off an atom (eV).

    None for a level of one's own, of which nothing is known.

    Args:
        own: by level and atomic number, those that the data bring.
    """
    known, brought = free_atoms_of(level), (own or {}).get(level, {})
    if known is None:
        return (_table(brought), _SLACK) if brought else None
    exact = known.exact and not level.startswith("hf/") and not brought
    return _table({**known.energies, **brought}), 0.0 if exact else _SLACK


def _table(energies: Mapping[int, float]) -> NDArray[np.float64]:
    """(len(ELEMENTS),) eV, NaN where unknown."""
    return np.array([energies.get(number, np.nan) for number in ELEMENTS])


def atomisation_energy(structures: Structures, level: str) -> NDArray[np.float64]:
    """Atomisation energy in eV an atom of each structure labelled at ``level``; NaN where it cannot be told."""
    known = known_atoms(level, structures.free_atoms)
    if known is None:
        return np.full(len(structures), np.nan)
    return _atomisation(structures, element_counts(structures), structures.level_index(level), known[0])


def _atomisation(outline: Structures, counts: NDArray, k: int, free: NDArray[np.float64]) -> NDArray[np.float64]:
    # An element whose free atom is not known spoils its own structures only: 0 atoms times NaN would spoil all.
    unknown = np.isnan(free)
    known = outline.energy_mask[:, k] & ~counts[:, unknown].any(1)
    per_atom = (counts[:, ~unknown] @ free[~unknown] - outline.energies[:, k]) / outline.n_atoms
    return np.where(known, per_atom, np.nan)


def energies(outline: Structures, counts: NDArray, declared: Declared) -> list[Finding]:
    """Whether energies of the levels of the catalogue are those of molecules, by free atoms."""
    levels = [(k, name) for k, name in enumerate(outline.levels) if outline.energy_mask[:, k].any()]
    known = [(k, known_atoms(name, outline.free_atoms)) for k, name in levels]
    return [_catalogued(outline, counts, k, free, declared) for k, free in known if free is not None]


def own_energies(outline: Structures, counts: NDArray, declared: Declared, trusted: Container[str]) -> list[Finding]:
    """The same of levels of one's own, by the free atoms of some kind of level.

    Args:
        trusted: levels whose energies are known to be in the declared unit by another level's.
    """
    found = []
    for k, name in enumerate(outline.levels):
        if known_atoms(name, outline.free_atoms) is None and outline.energy_mask[:, k].any():
            one = _own(outline, counts, k, declared)
            if one.failed and name in trusted:
                reason = "not those of any such level; but they follow a lower level's (see slope)"
                one = replace(one, ok=None, found=reason, where=())
            found.append(one)
    return found


def _catalogued(
    outline: Structures, counts: NDArray, k: int, known: tuple[NDArray[np.float64], float], declared: Declared
) -> Finding:
    name, (free, slack) = outline.levels[k], known
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
    if low <= np.nanmedian(per_atom) <= high:
        cause = ": most are as usual, so it is hardly the unit; broken bonds, another state, or other rows' energies?"
    else:
        fits = _units_of(outline, counts, k, free, declared.energy_of(name))
        fits += [f"a level of another kind, {kind}" for kind in _kinds_of(outline, counts, k)]
        cause = would_fit(fits)
    return bounded(outline, f"energies, {name}", expected, got, wrong, far, among, cause)


def _kinds_of(outline: Structures, counts: NDArray, k: int) -> list[str]:
    """Kinds of levels whose molecules have such energies."""
    found = []
    for kind, free in _kinds():
        per_atom = _atomisation(outline, counts, k, free)
        if not np.isnan(per_atom).all() and ATOMISATION[0] <= np.nanmedian(per_atom) <= ATOMISATION[1]:
            found.append(kind)
    return found


def _kinds() -> list[tuple[str, NDArray[np.float64]]]:
    """Kinds of levels, and energies of their free atoms."""
    return [(kind, known[0]) for kind, name in _KINDS.items() if (known := known_atoms(name)) is not None]


def _units_of(outline: Structures, counts: NDArray, k: int, free: NDArray[np.float64], unit: str) -> list[str]:
    """Units that the energies would fit, their free atoms being known."""
    unknown = np.isnan(free)
    rows = outline.energy_mask[:, k] & ~counts[:, unknown].any(1)
    expected = counts[rows][:, ~unknown] @ free[~unknown] - _TYPICAL * outline.n_atoms[rows]
    total = outline.energies[rows, k] / expected
    per_atom = total * outline.n_atoms[rows]
    # Whichever goes in proportion; one size of molecules cannot tell.
    spread = [float(np.std(ratio) / max(abs(np.mean(ratio)), 1e-30)) for ratio in (total, per_atom)]
    good = [one <= 3 * min(spread) + 0.02 for one in spread]
    ratios = [float(np.median(ratio)) if fits else None for ratio, fits in zip((total, per_atom), good)]
    return energy_units(unit, *ratios)


def _own(outline: Structures, counts: NDArray, k: int, declared: Declared) -> Finding:
    name, low, high = outline.levels[k], ATOMISATION[0] - _SLACK, ATOMISATION[1] + _SLACK
    mask = outline.energy_mask[:, k]
    mean = f"{np.mean(outline.energies[mask, k] / outline.n_atoms[mask]):.4g} eV an atom"
    usual, units_that_fit, known = [], list[str](), False
    for kind, free in _kinds():
        per_atom = _atomisation(outline, counts, k, free)
        if np.isnan(per_atom).all():
            continue
        known = True
        beyond = (per_atom < low) | (per_atom > high)
        if np.count_nonzero(beyond) <= RARE * np.count_nonzero(mask):
            if other := _per_atom_of(outline, counts, k, kind):
                said = f"energies of one kind of level, in {declared.energy_of(name)} or per atom"
                either = f", as by {kind}, or per atom by {other}: `free_atoms` in the manifest can tell"
                return Finding(f"energies, {name}", False, said, mean + either, places(outline, mask)[:1])
            return Finding(f"energies, {name}", True, f"those of molecules at some kind of level: {kind}", mean)
        unknown = np.isnan(free)
        rows = mask & ~counts[:, unknown].any(1)
        expected = counts[rows][:, ~unknown] @ free[~unknown] / outline.n_atoms[rows] - _TYPICAL
        usual.append(f"about {np.mean(expected):.4g} eV an atom ({kind})")
        units_that_fit += _units_of(outline, counts, k, free, declared.energy_of(name))
    if not known:
        return _scatter(outline, counts, k)
    cause = would_fit(dict.fromkeys(units_that_fit))
    return Finding(f"energies, {name}", False, " or ".join(usual), mean + cause, places(outline, mask)[:1])


def _per_atom_of(outline: Structures, counts: NDArray, k: int, taken: str) -> str | None:
    """A kind of level other than the one ``taken`` whose energies these are to 1 %, divided by the number of atoms."""
    for kind, free in _kinds():
        unknown = np.isnan(free)
        rows = outline.energy_mask[:, k] & ~counts[:, unknown].any(1)
        expected = counts[rows][:, ~unknown] @ free[~unknown]
        if kind != taken and rows.any():
            ratio = outline.energies[rows, k] * outline.n_atoms[rows] / (expected - _TYPICAL * outline.n_atoms[rows])
            if abs(np.median(ratio) - 1) < 0.01:
                return kind
    return None


def _scatter(outline: Structures, counts: NDArray, k: int) -> Finding:
    """What is left to ask where no free atom is known."""
    name, mask = outline.levels[k], outline.energy_mask[:, k]
    expected = f"a scatter of at most {SCATTER:g} eV an atom about the energies of the composition"
    if (n := np.count_nonzero(mask)) < FEW:
        return Finding(f"energies, {name}", None, expected, f"{n} structures: too few")
    residual = beyond_composition(counts, outline.energies[:, k], mask) / outline.n_atoms
    scatter = float(np.nanstd(residual))
    return Finding(f"energies, {name}", scatter <= SCATTER, expected, f"{scatter:.4g} eV an atom")
