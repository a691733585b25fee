"""What structures hold, as tables: labels at each level, molecules, and how far two levels of theory are apart."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbench.costs import core_seconds
from mfbench.data.datasets import DataRequest
from mfbench.data.physics_levels import shared
from mfbench.data.samples import Sample, sample
from mfbench.data.structures import BoolArray, IntArray, Structures
from mfbench.data.survey import beyond_composition, element_counts
from mfbench.elements import formula

FITS = 0.01  # Angstrom: positions of one geometry, laid on each other


@dataclass(frozen=True, eq=False)
class Contents:
    """What data hold, and how far two levels of theirs are apart."""

    sample: Sample  # what was looked at
    low: str
    high: str
    levels: pd.DataFrame  # of ``by_level``
    molecules: pd.DataFrame  # of ``by_molecule``
    energies: pd.DataFrame  # of ``energies_apart``
    forces: pd.DataFrame  # of ``forces_apart``


@lru_cache(maxsize=8)
def look(request: DataRequest, low: str, high: str) -> Contents:
    """Look at data that are at hand (see ``samples``); kept for those who ask again in this process.

    Args:
        low, high: the levels to compare; where the data have not got them, their lowest and their highest.

    Raises:
        DataMissing: they are not here. DataCorrupt: a file is not what the manifest declares.
    """
    found = sample(request)
    there = found.structures
    low, high = (name if name in there.levels else there.levels[k] for k, name in ((0, low), (-1, high)))
    apart = energies_apart(there, low, high), forces_apart(there, low, high)
    return Contents(found, low, high, by_level(there), by_molecule(there), *apart)


def by_molecule(structures: Structures) -> pd.DataFrame:
    """The molecules that there are structures of, in the order of their names' first coming.

    Returns:
        Columns molecule, formula, atoms and structures (how many).
    """
    there, first, counts = np.unique(structures.molecule, return_index=True, return_counts=True)
    return pd.DataFrame(
        {
            "molecule": [structures.molecules[k] for k in there],
            "formula": [formula(structures.numbers[structures.atoms_of(np.array([s]))]) for s in first],
            "atoms": structures.n_atoms[first],
            "structures": counts,
        }
    )


def by_level(structures: Structures) -> pd.DataFrame:
    """The labels at each level, from low to high.

    Returns:
        Columns level, energies and forces (how many structures have them), force (root mean square of the components)
        and largest (component), in eV/Angstrom, energy cost and forces cost (of one energy, and of one with its forces,
        in core-seconds: see ``costs``); NaN where there is nothing, or nothing is known.
    """
    molecules = by_molecule(structures)
    share = molecules["structures"].to_numpy(float) / len(structures)

    def cost(name: str, forces: bool) -> float:
        return float(share @ np.array([core_seconds(name, one, forces) for one in molecules["formula"]]))

    rows = []
    for k, name in enumerate(structures.levels):
        mask = structures.force_mask[:, k]
        forces = structures.forces[k, np.repeat(mask, structures.n_atoms)].astype(np.float64)
        rows.append(
            {
                "level": name,
                "energies": int(structures.energy_mask[:, k].sum()),
                "forces": int(mask.sum()),
                "force": float(np.sqrt(np.square(forces).mean())) if len(forces) else np.nan,
                "largest": float(np.abs(forces).max(initial=0.0)) if len(forces) else np.nan,
                "energy cost": cost(name, forces=False),
                "forces cost": cost(name, forces=True),
            }
        )
    return pd.DataFrame(rows)


def of_geometry(structures: Structures, geometry: int) -> dict[str, int]:
    """Which structure has a geometry's label at each level that has one; one with forces where there is one."""
    rows = np.flatnonzero(structures.geometry == geometry)
    found = {}
    for k, name in enumerate(structures.levels):
        labelled = [*rows[structures.force_mask[rows, k]], *rows[structures.energy_mask[rows, k]]]
        if labelled:
            found[name] = int(labelled[0])
    return found


def geometries(structures: Structures, molecule: str, levels: tuple[str, str]) -> NDArray[np.int64]:
    """Geometries of a molecule as they first come: with forces at two levels, then with labels at both, then others."""
    rows = np.flatnonzero(structures.molecule == structures.molecules.index(molecule))
    ids, first = np.unique(structures.geometry[rows], return_index=True)
    worth = np.zeros(len(ids), np.int64)
    for name in levels:
        k = structures.level_index(name)
        for mask in (structures.energy_mask, structures.force_mask):
            worth += np.isin(ids, structures.geometry[rows[mask[rows, k]]])
    return ids[np.lexsort((first, -worth))]


def energies_apart(structures: Structures, low: str, high: str) -> pd.DataFrame:
    """Energies of geometries that both levels label, without what their composition explains (least squares).

    Returns:
        A row a geometry: structure (row of the low label), other (row of the high one), molecule, atoms, low and gap
        (high minus low), both in eV an atom.
    """
    a, b = shared(structures, *map(structures.level_index, (low, high)))
    energies = structures.energies[a, structures.level_index(low)]
    gaps = structures.energies[b, structures.level_index(high)] - energies
    atoms, names = structures.n_atoms[a], np.array(structures.molecules, object)
    counts, every = element_counts(structures)[a], np.ones(len(a), bool)
    left = [beyond_composition(counts, values, every) / atoms if len(a) else values for values in (energies, gaps)]
    return pd.DataFrame(
        {
            "structure": a,
            "other": b,
            "molecule": names[structures.molecule[a]],
            "atoms": atoms,
            "low": left[0],
            "gap": left[1],
        }
    )


def forces_apart(structures: Structures, low: str, high: str) -> pd.DataFrame:
    """Lengths of forces on atoms of geometries that have them at both levels, and of their difference.

    Where the levels' labels are of two files that hold a geometry in two orientations, one is laid on the other; what
    does not fit to ``FITS``, as its atoms stand in another order, is left out.

    Returns:
        A row an atom: structure, number (its element), low, high and gap, in eV/Angstrom.
    """
    j, k = map(structures.level_index, (low, high))
    a, b = shared(structures, j, k)
    have = structures.force_mask[a, j] & structures.force_mask[b, k]
    a, b = a[have], b[have]
    turns, fit = onto(structures, a, b)
    a, b, turns = a[fit], b[fit], turns[fit]
    mine, others = structures.atoms_of(a), structures.atoms_of(b)
    of_low = structures.forces[j, mine].astype(np.float64)
    turn = np.repeat(turns, structures.n_atoms[a], 0)
    of_high = np.einsum("ni,nij->nj", structures.forces[k, others].astype(np.float64), turn)
    return pd.DataFrame(
        {
            "structure": np.repeat(a, structures.n_atoms[a]),
            "number": structures.numbers[mine],
            "low": np.linalg.norm(of_low, axis=1),
            "high": np.linalg.norm(of_high, axis=1),
            "gap": np.linalg.norm(of_high - of_low, axis=1),
        }
    )


def onto(structures: Structures, a: IntArray, b: IntArray) -> tuple[NDArray[np.float64], BoolArray]:
    """Rotations that lay structures ``b`` on structures ``a``, pair by pair (Kabsch), and whether they do.

    Returns:
        (G, 3, 3), a vector v of ``b`` being ``v @ rotation`` in the frame of ``a``; (G,).
    """
    turns, fit = np.tile(np.eye(3), (len(a), 1, 1)), np.asarray(a == b)
    apart = np.flatnonzero(~fit & (structures.n_atoms[a] == structures.n_atoms[b]))
    for size in np.unique(structures.n_atoms[a[apart]]):
        which = apart[structures.n_atoms[a[apart]] == size]
        mine, others = (structures.atoms_of(rows[which]).reshape(-1, size) for rows in (a, b))
        x, y = (structures.positions[rows].astype(np.float64) for rows in (mine, others))
        x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
        u, _, v = np.linalg.svd(np.einsum("gni,gnj->gij", y, x))
        u[:, :, 2] *= np.linalg.det(u @ v)[:, None]  # a rotation, no reflection
        turns[which] = u @ v
        off = np.linalg.norm(y @ turns[which] - x, axis=2).max(1)
        fit[which] = (off < FITS) & (structures.numbers[mine] == structures.numbers[others]).all(1)
    return turns, fit
