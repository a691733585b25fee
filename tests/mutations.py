"""Good files of people's own, spoiled in one of many ways: what ``test_mutations`` imports.

A mutation changes frames, a manifest or the bytes of a file, by a random generator, and says with which words the
import has to refuse it; some change nothing that counts, some what no check could know.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.random import Generator
from writers import Frame, frames_to_ase, frames_to_extxyz, structures_as_atoms

from mfbench.data import datasets
from mfbench.data.structures import Structures
from mfbench.units import EV_PER_KCAL

LOW, HIGH = "wb97x/6-31g*", "ccsd(t)*/cbs"
DECLARED_OWN = ("cheap@15", "mine@95")  # names of the two as levels of one's own
MOLECULES = ("H2O", "CH3OH", "HCN", "CH3CHO")
FRAMES = 24  # of each molecule
SUFFIX = {"extxyz": ".extxyz", "ase": ".db", "hdf5": ".h5"}
KINDS_OF_FILE = tuple(SUFFIX)


@dataclass
class Spoiled:
    """A data set that a mutation works on."""

    fmt: str
    frames: list[Frame]
    manifest: dict[str, Any]
    cut: float | None = None  # share of the file that is kept
    line: str = ""  # of an extxyz file that is damaged: "short" or "word"
    short: str = ""  # key of an HDF5 file that loses its last row
    kept: list[int] = field(default_factory=list)  # rows of the original that the frames are; empty: all, in order

    def label(self, level: int) -> dict[str, Any]:
        """The declaration of the low (0) or high (1) level's labels."""
        return self.manifest["labels"][level]

    def row(self, rng: Generator, least: int = 1) -> int:
        """Some frame, of as many atoms."""
        rows = [k for k, (atoms, *_) in enumerate(self.frames) if len(atoms) >= least]
        return int(rng.choice(rows))


@dataclass(frozen=True)
class Mutation:
    """One way to spoil. ``outcome``: it must be refused, come out the same, or be refused or kept apart; perhaps it is
    refused, for it is small; or it is beyond any check."""

    change: Callable[[Spoiled, Generator], None]
    words: str  # that a refusal has, as a pattern
    outcome: Literal["refused", "same", "either", "perhaps", "unknowable"] = "refused"
    formats: tuple[str, ...] = KINDS_OF_FILE


def good() -> tuple[Structures, list[Frame]]:
    """Part of the mini data: energies at both levels, forces at the low one."""
    whole = datasets.load("mini-ani1x", levels=(LOW, HIGH))
    rows = [np.flatnonzero(whole.molecule == whole.molecules.index(name))[:FRAMES] for name in MOLECULES]
    source = whole[np.concatenate(rows)]
    frames = structures_as_atoms(source)
    for _, scalars, arrays in frames:
        del scalars["split"]
        arrays.pop("cc_forces", None)
    return source, frames


def declared(fmt: str) -> dict[str, Any]:
    """The right manifest."""
    low = {"energy": {"key": "dft_energy", "unit": "eV"}, "forces": {"key": "dft_forces", "unit": "eV/Angstrom"}}
    return {
        "title": "spoiled",
        "format": fmt,
        "license": "any",
        "citation": {"text": "nobody"},
        "molecule_key": "molecule",
        "labels": [{"level": LOW, **low}, {"level": HIGH, "energy": {"key": "cc_energy", "unit": "eV"}}],
    }


def sound(fmt: str, frames: list[Frame]) -> Spoiled:
    """A copy that is spoiled next."""
    return Spoiled(fmt, [(atoms.copy(), dict(s), deepcopy(a)) for atoms, s, a in frames], declared(fmt))


# writing


def write(spoiled: Spoiled, folder: Path) -> Path:
    """Write the file as it is spoiled."""
    path = folder / f"spoiled{SUFFIX[spoiled.fmt]}"
    if spoiled.fmt == "hdf5":
        _write_hdf5(path, spoiled)
    else:
        {"extxyz": frames_to_extxyz, "ase": frames_to_ase}[spoiled.fmt](path, spoiled.frames)
    if spoiled.line:
        lines = path.read_text().split("\n")
        at = 2 + len(lines) // 3
        lines[at] = lines[at].rsplit(" ", 1)[0] if spoiled.line == "short" else lines[at].replace(".", "?", 1)
        path.write_text("\n".join(lines))
    if spoiled.cut is not None:
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * spoiled.cut)])
    return path


def _write_hdf5(path: Path, spoiled: Spoiled) -> None:
    frames = spoiled.frames
    with h5py.File(path, "w") as file:
        file["numbers"] = np.concatenate([atoms.numbers for atoms, *_ in frames])
        file["positions"] = np.concatenate([atoms.positions for atoms, *_ in frames])
        file["n_atoms"] = [len(atoms) for atoms, *_ in frames]
        file["molecule"] = [scalars["molecule"] for _, scalars, _ in frames]
        for key in sorted({key for _, scalars, _ in frames for key in scalars} - {"molecule"}):
            file[key] = [float(scalars.get(key, np.nan)) for _, scalars, _ in frames]
        for key in sorted({key for *_, arrays in frames for key in arrays}):
            file[key] = np.concatenate([a.get(key, np.full((len(atoms), 3), np.nan)) for atoms, _, a in frames])
        if any(atoms.pbc.any() for atoms, *_ in frames):
            file["cell"] = np.stack([atoms.cell.array for atoms, *_ in frames])
            file["pbc"] = np.stack([atoms.pbc for atoms, *_ in frames])
        if spoiled.short:
            values = file[spoiled.short][:-1]
            del file[spoiled.short]
            file[spoiled.short] = values


# units and keys


def energy_unit(s: Spoiled, rng: Generator) -> None:
    level = int(rng.integers(2))
    s.label(level)["energy"]["unit"] = str(rng.choice(["Ha", "kcal/mol", "kJ/mol", "meV"]))
    if level and rng.random() < 0.5:
        s.label(level)["level"] = "mine@95"


def all_units(s: Spoiled, rng: Generator) -> None:
    unit = str(rng.choice(["Ha", "kcal/mol", "kJ/mol", "meV"]))
    for level, own in ((0, "cheap@15"), (1, "mine@95")):
        s.label(level)["energy"]["unit"] = unit
        if rng.random() < 0.5:
            s.label(level)["level"] = own
    s.label(0)["forces"]["unit"] = f"{unit}/Angstrom"


def force_unit(s: Spoiled, rng: Generator) -> None:
    units = ["Ha/Angstrom", "Ha/Bohr", "eV/Bohr", "kcal/mol/Angstrom", "kJ/mol/Angstrom", "meV/Angstrom"]
    s.label(0)["forces"]["unit"] = str(rng.choice(units))


def length_unit(s: Spoiled, rng: Generator) -> None:
    s.manifest["length_unit"] = "Bohr"


def bohr(s: Spoiled, rng: Generator) -> None:
    """In the file, not in the manifest; with or without forces."""
    for atoms, *_ in s.frames:
        atoms.positions /= 0.529177210903
    if rng.random() < 0.5:
        del s.label(0)["forces"]


def sign_of_forces(s: Spoiled, rng: Generator) -> None:
    for *_, arrays in s.frames:
        arrays["dft_forces"] *= -1


def sign_of_energies(s: Spoiled, rng: Generator) -> None:
    key = str(rng.choice(["dft_energy", "cc_energy"]))
    for _, scalars, _ in s.frames:
        scalars[key] *= -1


def per_atom(s: Spoiled, rng: Generator) -> None:
    level = int(rng.integers(2))
    for atoms, scalars, _ in s.frames:
        scalars[s.label(level)["energy"]["key"]] /= len(atoms)
    if level and rng.random() < 0.5:
        s.label(level)["level"] = "mine@95"


def misspelt_key(s: Spoiled, rng: Generator) -> None:
    part = s.label(0)[str(rng.choice(["energy", "forces"]))]
    k = int(rng.integers(len(part["key"])))
    part["key"] = part["key"][:k] + part["key"][k + 1 :]


def exchanged_keys(s: Spoiled, rng: Generator) -> None:
    s.label(0)["energy"], s.label(1)["energy"] = s.label(1)["energy"], s.label(0)["energy"]


# shapes and damage


def wrong_shape(s: Spoiled, rng: Generator) -> None:
    if s.fmt == "hdf5":
        s.short = str(rng.choice(["dft_forces", "dft_energy", "numbers", "positions", "molecule"]))
    elif s.fmt == "extxyz":
        s.line = str(rng.choice(["short", "word"]))
    else:
        row = s.row(rng)
        s.frames[row][2]["dft_forces"] = s.frames[row][2]["dft_forces"][:, :2]


def cut_short(s: Spoiled, rng: Generator) -> None:
    s.cut = float(rng.uniform(0.05, 0.99))


def not_a_number(s: Spoiled, rng: Generator) -> None:
    """In positions, or the energy of a structure that has forces."""
    atoms, scalars, _ = s.frames[s.row(rng)]
    if rng.random() < 0.5:
        atoms.positions[rng.integers(len(atoms)), rng.integers(3)] = np.nan
    else:
        scalars["dft_energy"] = np.nan


def missing_label(s: Spoiled, rng: Generator) -> None:
    """A label that is not there is not there: the rest stays."""
    _, scalars, arrays = s.frames[s.row(rng)]
    if rng.random() < 0.5:
        scalars["cc_energy"] = np.nan
    else:
        arrays["dft_forces"][0, 0] = np.nan


def absurd(s: Spoiled, rng: Generator) -> None:
    atoms, *_ = s.frames[s.row(rng)]
    size = float(rng.choice([1e3, 1e5, 1e6, 1e30, 1e150]))
    atoms.positions[rng.integers(len(atoms)), rng.integers(3)] = size * (1 + rng.random())


# what the structures are


def periodic(s: Spoiled, rng: Generator) -> None:
    for atoms, *_ in s.frames:
        atoms.cell, atoms.pbc = np.eye(3) * rng.uniform(8, 12), True


def charges(s: Spoiled, rng: Generator) -> None:
    """A third of the frames are of cations, with forces as they were."""
    for k, (_, scalars, _) in enumerate(s.frames):
        charged = k % 3 == 0
        scalars["charge"] = int(charged)
        if charged:
            scalars["dft_energy"] += 11.0
            scalars["cc_energy"] += 11.3


def another_element(s: Spoiled, rng: Generator) -> None:
    atoms, *_ = s.frames[s.row(rng)]
    heavy = np.flatnonzero(atoms.numbers > 1)
    k = int(rng.choice(heavy))
    atoms.numbers[k] = int(rng.choice([z for z in (6, 7, 8) if z != atoms.numbers[k]]))


# rows and single values


def shifted_rows(s: Spoiled, rng: Generator) -> None:
    """Labels of the next frame, within the file."""
    by, what = int(rng.integers(1, 4)), str(rng.choice(["dft_energy", "cc_energy", "both", "dft_forces"]))
    keys = ["dft_energy", "cc_energy"] if what == "both" else [what]
    place = 2 if what == "dft_forces" else 1
    for key in keys:
        values = [frame[place][key] for frame in s.frames]
        sizes = [len(frame[0]) for frame in s.frames]
        for k, frame in enumerate(s.frames):
            other = (k + by) % len(s.frames)
            if sizes[other] == sizes[k] or place == 1:
                frame[place][key] = values[other]


def shifted_in_molecules(s: Spoiled, rng: Generator) -> None:
    """The same, each molecule's rows among themselves."""
    by, key = int(rng.integers(1, 4)), str(rng.choice(["dft_energy", "cc_energy"]))
    values = [scalars[key] for _, scalars, _ in s.frames]
    for k, (_, scalars, _) in enumerate(s.frames):
        scalars[key] = values[k // FRAMES * FRAMES + (k + by) % FRAMES]


def one_energy(least: float, most: float) -> Callable[[Spoiled, Generator], None]:
    """By so much, kcal/mol an atom; as often by 1 to 2 as by 2 to 4.

    Of all 96 structures, either level and either sign, 10 of 384 shifts by 1.001 are not known, 5 by 1.5 and 1 by 3:
    those of a water molecule 1.8 eV above the others first.
    """

    def change(s: Spoiled, rng: Generator) -> None:
        _shift(s, rng, least * (most / least) ** rng.random())

    return change


def _shift(s: Spoiled, rng: Generator, kcal: float) -> None:
    atoms, scalars, _ = s.frames[s.row(rng)]
    key = str(rng.choice(["dft_energy", "cc_energy"]))
    scalars[key] += float(rng.choice([-1, 1])) * len(atoms) * EV_PER_KCAL * kcal


def moved_atom(s: Spoiled, rng: Generator) -> None:
    atoms, *_ = s.frames[s.row(rng)]
    way = rng.normal(size=3)
    atoms.positions[rng.integers(len(atoms))] += 1.4 * way / np.linalg.norm(way)


def one_force(s: Spoiled, rng: Generator) -> None:
    forces = s.frames[s.row(rng)][2]["dft_forces"]
    forces[rng.integers(len(forces)), rng.integers(3)] += float(rng.choice([-1, 1])) * rng.uniform(1, 5)


def scaled_positions(s: Spoiled, rng: Generator) -> None:
    """By 15 to 40 %, or into another length."""
    factor = float(rng.choice([rng.uniform(1.15, 1.4), rng.uniform(0.65, 0.87), 0.1, 10.0, 100.0]))
    for atoms, *_ in s.frames:
        atoms.positions *= factor


def columns_of_positions(s: Spoiled, rng: Generator) -> None:
    """Two axes exchanged in the positions and not in the forces."""
    order = [[1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0]][int(rng.integers(4))]
    for atoms, *_ in s.frames:
        atoms.positions = atoms.positions[:, order]


def order_of_forces(s: Spoiled, rng: Generator) -> None:
    """Forces in another order of the atoms."""
    for atoms, _, arrays in s.frames:
        arrays["dft_forces"] = np.roll(arrays["dft_forces"], 1 + int(rng.integers(len(atoms) - 1)), 0)


def twice(s: Spoiled, rng: Generator) -> None:
    """A frame that comes again, with another energy."""
    atoms, scalars, arrays = s.frames[s.row(rng)]
    again = dict(scalars)
    again[str(rng.choice(["dft_energy", "cc_energy"]))] += float(rng.uniform(0.01, 0.5))
    s.frames.append((atoms.copy(), again, deepcopy(arrays)))
    s.kept = [*range(len(s.frames) - 1)]


# what changes nothing that counts, and what nobody could know


def moved_as_a_whole(s: Spoiled, rng: Generator) -> None:
    for atoms, *_ in s.frames:
        atoms.positions += rng.normal(size=3) * 5


def other_order(s: Spoiled, rng: Generator) -> None:
    s.kept = rng.permutation(len(s.frames)).tolist()
    s.frames = [s.frames[k] for k in s.kept]


def more_keys(s: Spoiled, rng: Generator) -> None:
    for _, scalars, arrays in s.frames:
        scalars["weight"] = float(rng.random())
        arrays["dipoles"] = rng.normal(size=arrays["dft_forces"].shape)


def last_digit(s: Spoiled, rng: Generator) -> None:
    scalars = s.frames[s.row(rng)][1]
    scalars["dft_energy"] += 1e-6


def axes_alike(s: Spoiled, rng: Generator) -> None:
    """Two axes exchanged in positions and forces: the mirror image, which has the same energy."""
    for atoms, _, arrays in s.frames:
        atoms.positions, arrays["dft_forces"] = atoms.positions[:, [1, 0, 2]], arrays["dft_forces"][:, [1, 0, 2]]


def frames_lost(s: Spoiled, rng: Generator) -> None:
    """The end of the file is gone, at the end of a structure."""
    count = int(rng.integers(30, len(s.frames)))
    s.frames, s.kept = s.frames[:count], [*range(count)]


def small_noise(s: Spoiled, rng: Generator) -> None:
    """Of a meV on all high-level energies."""
    for _, scalars, _ in s.frames:
        scalars["cc_energy"] += float(rng.normal(0, 1e-3))


_LINE = "energies against forces"
_SINGLE = "outliers|energies, .*hardly|gap, "

MUTATIONS: dict[str, Mutation] = {
    "unit of energies": Mutation(energy_unit, r"would fit: .*\beV\b"),
    "all units alike": Mutation(all_units, r"would fit: .*\beV\b"),
    "unit of forces": Mutation(force_unit, rf"({_LINE}|^forces), .*would fit: .*\beV/Angstrom\b"),
    "unit of lengths": Mutation(length_unit, r"bond lengths: .*would fit: length_unit: Angstrom"),
    "Bohr": Mutation(bohr, r"bond lengths: .*would fit: length_unit: Bohr"),
    "sign of forces": Mutation(sign_of_forces, rf"{_LINE}, .*would fit: gradients"),
    "sign of energies": Mutation(sign_of_energies, "energies, .*would fit: minus eV"),
    "energies per atom": Mutation(per_atom, "would fit: .*eV/atom"),
    "misspelt key": Mutation(misspelt_key, "expected the keys? "),
    "exchanged keys": Mutation(exchanged_keys, f"{_LINE}, .*keys of the two exchanged"),
    "wrong shape": Mutation(wrong_shape, "expected .*(rows|shape)|not a readable|not extended xyz|columns|values"),
    "cut short": Mutation(cut_short, "cut short|not a readable|expected a number of atoms|the file ends before"),
    "not a number": Mutation(not_a_number, "not finite|labels, .*an energy wherever there are forces"),
    "missing label": Mutation(missing_label, "", "same"),
    "absurd coordinate": Mutation(absurd, "coordinates beyond|fragments far apart|not finite"),
    "periodic cell": Mutation(periodic, "periodic"),
    "two charges": Mutation(charges, "charge", "either"),
    "another element": Mutation(another_element, "energies, .*hardly the unit|one formula|of other elements"),
    "rows shifted": Mutation(shifted_rows, f"{_LINE}|energies together|outliers|energies, .*hardly|net torque|gap"),
    "rows shifted in molecules": Mutation(shifted_in_molecules, f"{_LINE}, .*order|energies together|outliers"),
    "one energy, by 4 to 400": Mutation(one_energy(4, 400), _SINGLE),  # kcal/mol an atom
    "one energy, by 1 to 4": Mutation(one_energy(1.001, 4), _SINGLE),
    "one energy, by 0.5 to 1": Mutation(one_energy(0.5, 0.999), _SINGLE, "perhaps"),
    "one energy, by 0.1 to 0.5": Mutation(one_energy(0.1, 0.5), _SINGLE, "perhaps"),
    "moved atom": Mutation(moved_atom, "net torque|overlapping atoms|distorted|fragments"),
    "one force": Mutation(one_force, "net (force|torque) of a molecule"),
    "positions scaled": Mutation(scaled_positions, f"{_LINE}, .*slope|bond lengths|overlapping"),
    "columns of positions": Mutation(columns_of_positions, f"net torque|{_LINE}"),
    "order of forces": Mutation(order_of_forces, f"net torque|{_LINE}"),
    "twice": Mutation(twice, "recur"),
    "moved as a whole": Mutation(moved_as_a_whole, "", "same"),
    "another order of rows": Mutation(other_order, "", "same"),
    "more keys": Mutation(more_keys, "", "same"),
    "last digit": Mutation(last_digit, "", "unknowable"),
    "axes alike": Mutation(axes_alike, "", "unknowable"),
    "frames lost": Mutation(frames_lost, "", "unknowable"),
    "noise of a meV": Mutation(small_noise, "", "unknowable"),
}
