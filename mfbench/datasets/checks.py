"""Units pinned by physics: numbers that a wrong unit or a swapped column cannot fake."""

import json
from functools import cache

import numpy as np

from mfbench import resources, units
from mfbench.errors import DataCorrupt
from mfbench.manifest import Manifest
from mfbench.structures import SYMBOLS, Structures

# Keys of isolated_atoms.json, by level. An all-electron level without an entry borrows wB97X's atoms, which
# lie within 3 eV an atom of any other all-electron level's: far less than any unit error.
_ATOM_KEYS = {
    "gfn2-xtb": "gfn2_xtb.energy",
    "pbe/def2-svp": "pbe_svp.energy",
    "wb97x/6-31g*": "wb97x_dz.energy",
    "wb97x/def2-tzvpp": "wb97x_tz.energy",
    "ccsd/cc-pvdz": "ccsd_dz.energy",
    "ccsd(t)*/cbs": "ccsd(t)_cbs.energy",
}
_FALLBACK = "wb97x_dz.energy"
ATOMISATION = (0.5, 10.0)  # eV an atom
_SLACK = 3.0  # eV an atom, for a level without atoms of its own
# Thermal and off-equilibrium structures: root mean square force component, eV/Angstrom.
FORCE = (0.05, 20.0)


@cache
def isolated_atoms() -> dict[str, dict[str, float]]:
    """Ground-state energies of free atoms in Hartree: element -> file key -> energy."""
    return json.loads((resources.mini_data() / "isolated_atoms.json").read_text())


def atomisation_energy(structures: Structures, level: str) -> np.ndarray:
    """Atomisation energy in eV an atom of each structure labelled at ``level``; NaN for unknown elements."""
    key = _ATOM_KEYS.get(level, _FALLBACK)
    table = np.full(256, np.nan)
    for number, symbol in SYMBOLS.items():
        if symbol in isolated_atoms():
            table[number] = isolated_atoms()[symbol][key] * units.HARTREE
    atoms = np.add.reduceat(table[structures.numbers], structures.offsets[:-1])
    column = structures.level_index(level)
    energy = np.where(structures.energy_mask[:, column], structures.energies[:, column], np.nan)
    return (atoms - energy) / structures.n_atoms


def check_physics(structures: Structures) -> None:
    """Raise DataCorrupt where a level's energies or forces cannot be in the declared unit."""
    for column, level in enumerate(structures.levels):
        slack = 0.0 if level in _ATOM_KEYS else _SLACK
        per_atom = atomisation_energy(structures, level)
        low, high = ATOMISATION[0] - slack, ATOMISATION[1] + slack
        wrong = np.flatnonzero((per_atom < low) | (per_atom > high))
        if len(wrong):
            s = int(wrong[0])
            raise DataCorrupt(
                f"{level}: expected atomisation energies of {low:g} to {high:g} eV an atom, got "
                f"{per_atom[s]:.4g} in structure {structures.row[s]} of {structures.files[structures.file[s]]} "
                f"({structures.molecules[structures.molecule[s]]}) and {len(wrong)} in all: "
                "wrong unit in the manifest?"
            )
        labelled = np.repeat(structures.force_mask[:, column], structures.n_atoms)
        if labelled.any():
            rms = float(np.sqrt(np.mean(np.square(structures.forces[column, labelled], dtype=np.float64))))
            if not FORCE[0] <= rms <= FORCE[1]:
                raise DataCorrupt(
                    f"{level}: expected a root mean square force component of {FORCE[0]:g} to {FORCE[1]:g} "
                    f"eV/Angstrom, got {rms:.4g}: wrong unit in the manifest?"
                )


def check_counts(declared: Manifest, outline: Structures) -> None:
    """Raise DataCorrupt where there are more or fewer structures or labels than declared."""
    if declared.n_structures not in (None, len(outline)):
        raise DataCorrupt(f"{declared.name}: expected {declared.n_structures:,} structures, got {len(outline):,}")
    if declared.n_molecules not in (None, len(outline.molecules)):
        raise DataCorrupt(
            f"{declared.name}: expected {declared.n_molecules:,} molecules, got {len(outline.molecules):,}"
        )
    for labels in declared.labels:
        column = outline.level_index(labels.level)
        for kind, mask, expected in (
            ("energies", outline.energy_mask, labels.n_energy),
            ("forces", outline.force_mask, labels.n_forces),
        ):
            got = int(np.count_nonzero(mask[:, column]))
            if expected is not None and got != expected:
                raise DataCorrupt(f"{declared.name}: expected {expected:,} {kind} at {labels.level}, got {got:,}")
