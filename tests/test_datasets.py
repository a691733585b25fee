"""Datasets: the readers on shipped, damaged and published files, and units pinned by independent numbers."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.units
import h5py
import numpy as np
import pytest
from conftest import FREE_ATOM_KEYS, ROOT
from numpy.typing import NDArray
from problems import same_structures
from published import declare, label, md17_cc, rmd17_split
from writers import write_group, write_sgdml

from mfbench import resources
from mfbench.data import store
from mfbench.data.checks import check_physics
from mfbench.data.datasets import DataMissing, DataRequest, convert, joined, load
from mfbench.data.manifest import Manifest, manifest
from mfbench.data.readers import base
from mfbench.data.reading import read
from mfbench.data.structures import Structures
from mfbench.errors import DataCorrupt

MINI = resources.mini_data()
# ASE's constants are of another CODATA year than mfbench's: equal to some 1e-8.
EV_PER_KCAL, HARTREE, RTOL = ase.units.kcal / ase.units.mol, ase.units.Hartree, 1e-6
SHIPPED = ("mini-ani1x", "mini-rmd17-methanol", "mini-md17cc-methanol")
ANI1X_KEYS = {  # level -> energy and forces key
    "gfn2-xtb": ("gfn2_xtb.energy", "gfn2_xtb.forces"),
    "wb97x/6-31g*": ("wb97x_dz.energy", "wb97x_dz.forces"),
    "wb97x/def2-tzvpp": ("wb97x_tz.energy", "wb97x_tz.forces"),
    "ccsd/cc-pvdz": ("ccsd_dz.energy", "ccsd_dz.forces"),
    "ccsd(t)*/cbs": ("ccsd(t)_cbs.energy", "ccsd(t)_cbs.forces"),
}
MOLECULES = {
    *("CH4", "NH3", "H2O", "C2H2", "C2H4", "C2H6", "HCN", "H2CO", "CH3OH", "CH3NH2"),
    *("N2H4", "H2O2", "HCOOH", "CH3CN", "H2CCO", "CH3CHO", "CO2", "N2O"),
}


@pytest.fixture(scope="module")
def ani1x() -> Structures:
    return load("mini-ani1x")


@pytest.fixture(scope="module")
def methanol() -> Structures:
    return DataRequest(("mini-rmd17-methanol", "mini-md17cc-methanol")).load()


# the shipped data


def test_mini_ani1x_counts(ani1x: Structures) -> None:
    assert len(ani1x) == 864
    assert ani1x.levels == tuple(ANI1X_KEYS)
    assert np.bincount(ani1x.molecule).tolist() == [48] * 18
    assert set(ani1x.molecules) == MOLECULES
    assert ani1x.energy_mask.sum(0).tolist() == [864] * 5
    assert ani1x.force_mask.sum(0).tolist() == [864] * 4 + [112]
    temperatures, counts = np.unique(ani1x.temperature, return_counts=True)
    assert dict(zip(temperatures.tolist(), counts.tolist())) == {300: 217, 600: 420, 1000: 227}
    assert len(np.unique(ani1x.geometry)) == 864


def test_mini_ani1x_holds_what_the_file_holds(ani1x: Structures) -> None:
    """Each value is the raw one times a unit factor of ASE's."""
    with h5py.File(MINI / "mini-ani1x.h5") as file:
        for group in file.values():
            chosen = np.flatnonzero(ani1x.molecule == ani1x.molecules.index(group.attrs["molecule"]))
            part = ani1x[chosen]
            assert part.row.tolist() == list(range(48))
            shape = group["coordinates"].shape
            np.testing.assert_array_equal(part.numbers.reshape(shape[:2])[0], group["atomic_numbers"][()])
            np.testing.assert_array_equal(part.positions.reshape(shape), group["coordinates"][()])
            np.testing.assert_array_equal(part.temperature, group["temperature"][()])
            for column, (energy, force) in enumerate(ANI1X_KEYS.values()):
                np.testing.assert_allclose(part.energies[:, column], group[energy][()] * HARTREE, rtol=RTOL)
                raw = group[force][()]
                there = np.isfinite(raw).all((1, 2))
                assert part.force_mask[:, column].tolist() == there.tolist()
                got = part.forces[column].reshape(shape)
                np.testing.assert_allclose(got[there], raw[there] * HARTREE, rtol=RTOL, atol=1e-9)
                assert not got[~there].any()


def test_coupled_cluster_forces_are_those_of_the_last_frames(ani1x: Structures) -> None:
    many = ["H2O", "NH3", "HCN", "C2H2", "H2CO", "CH4", "CO2", "N2O", "H2O2", "C2H4"]
    last = [48 - (8 if ani1x.molecules[m] in many else 4) for m in ani1x.molecule]
    assert (ani1x.force_mask[:, 4] == (ani1x.row >= last)).all()


def test_mini_methanol_holds_what_the_files_hold(methanol: Structures) -> None:
    assert methanol.levels == ("gfn2-xtb", "pbe/def2-svp", "ccsd/cc-pvdz", "ccsd(t)/cc-pvdz")
    assert methanol.molecules == ("CH4O",)
    assert methanol.energy_mask.sum(0).tolist() == [1200, 1200, 1000, 1000]
    assert methanol.force_mask.sum(0).tolist() == [1200, 1200, 1000, 0]
    offset = 0
    for name, count, positions, keys in (
        (
            "mini_methanol_rmd17.npz",
            1200,
            "coords",
            {1: ("energies", "forces"), 0: ("old_energies", "old_forces")},
        ),
        ("methanol_ccsd-train.npz", 700, "R", {2: ("E", "F"), 3: ("E_ccsd_t", None)}),
        ("methanol_ccsd-test.npz", 300, "R", {2: ("E", "F"), 3: ("E_ccsd_t", None)}),
    ):
        part = methanol[np.arange(offset, offset + count)]
        offset += count
        assert {methanol.files[f] for f in part.file} == {name}
        with np.load(MINI / name, allow_pickle=False) as raw:
            np.testing.assert_array_equal(part.positions.reshape(count, 6, 3), raw[positions])
            for column, (energy, force) in keys.items():
                np.testing.assert_allclose(part.energies[:, column], raw[energy].reshape(-1) * EV_PER_KCAL, rtol=RTOL)
                if force:
                    got = part.forces[column].reshape(count, 6, 3)
                    np.testing.assert_allclose(got, raw[force] * EV_PER_KCAL, rtol=RTOL, atol=1e-6)
    assert offset == len(methanol)


def test_mini_methanol_recurs_rotated(methanol: Structures) -> None:
    """1,200 geometries, 1,000 of which come twice, in another order and frame."""
    low, high = methanol.geometry[:1200], methanol.geometry[1200:]
    assert len(set(low.tolist())) == 1200
    assert len(set(high.tolist())) == 1000
    assert set(high.tolist()) <= set(low.tolist())
    place = {int(g): i for i, g in enumerate(low)}
    x = methanol.positions.reshape(-1, 6, 3)
    twins = x[[place[int(g)] for g in high]]
    assert (np.abs(twins - x[1200:]).max((1, 2)) > 1e-2).mean() > 0.95


@pytest.mark.parametrize("name", SHIPPED)
def test_atomisation_energies(name: str) -> None:
    """0.5 to 10 eV an atom at every level; free atoms of the same level, read here anew."""
    s = load(name)
    atoms = json.loads((MINI / "isolated_atoms.json").read_text())
    symbols = {1: "H", 6: "C", 7: "N", 8: "O"}
    for column, level in enumerate(s.levels):
        if level not in FREE_ATOM_KEYS:
            continue
        free = np.array([atoms[symbols[int(z)]][FREE_ATOM_KEYS[level]] for z in s.numbers]) * HARTREE
        per_atom = (np.add.reduceat(free, s.offsets[:-1]) - s.energies[:, column]) / s.n_atoms
        assert s.energy_mask[:, column].all()
        assert per_atom.min() > 0.5
        assert per_atom.max() < 10


def slope_of_energy(part: Structures, level: str, pairs: int) -> tuple[float, float]:
    """Energy differences of neighbouring frames of one molecule against minus mean force times displacement.

    Each frame is turned onto its neighbour (Kabsch), its forces with it.

    Returns:
        Slope and correlation over the closest pairs of frames. The slope is 1 (up to third derivatives) if
        and only if energies, forces and coordinates are in units of one system.
    """
    column, shape = part.level_index(level), (len(part), -1, 3)
    energies, forces = part.energies[:, column], part.forces[column].astype(float).reshape(shape)
    x = part.positions.reshape(shape)
    x = x - x.mean(1, keepdims=True)
    i, j = np.triu_indices(len(x), 1)
    u, _, v = np.linalg.svd(np.einsum("pna,pnb->pab", x[i], x[j]))
    proper = np.ones((len(i), 1, 3))
    proper[:, 0, 2] = np.sign(np.linalg.det(u @ v))
    turn = (u * proper) @ v
    moved = x[j] - x[i] @ turn
    near = np.argsort(np.square(moved).sum((1, 2)))[:pairs]
    i, j, turn, moved = i[near], j[near], turn[near], moved[near]
    work = -0.5 * ((forces[i] @ turn + forces[j]) * moved).sum((1, 2))
    change = energies[j] - energies[i]
    return float(change @ work / (work @ work)), float(np.corrcoef(change, work)[0, 1])


def test_mini_ani1x_forces_are_slopes_of_the_energies(ani1x: Structures) -> None:
    """At the four levels with forces for every frame; a length in Bohr or a sign would show."""
    for index, name in enumerate(ani1x.molecules):
        part = ani1x[np.flatnonzero(ani1x.molecule == index)]
        for level in ani1x.levels[:4]:
            slope, r = slope_of_energy(part, level, pairs=60)
            assert slope == pytest.approx(1, abs=0.1), (name, level)
            assert r > 0.96, (name, level)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("mini-rmd17-methanol", "gfn2-xtb"),
        ("mini-rmd17-methanol", "pbe/def2-svp"),
        ("mini-md17cc-methanol", "ccsd/cc-pvdz"),
    ],
)
def test_mini_methanol_forces_are_slopes_of_the_energies(name: str, level: str) -> None:
    slope, r = slope_of_energy(load(name)[np.arange(400)], level, pairs=60)
    assert slope == pytest.approx(1, abs=0.05)
    assert r > 0.99


# wrong units


def reunited(name: str, level: str, energy: str | None = None, forces: str | None = None) -> Manifest:
    """A shipped manifest with another unit declared for one level."""
    content = manifest(name).model_dump()
    for one in content["labels"]:
        if one["level"] == level and energy:
            one["energy"]["unit"] = energy
        if one["level"] == level and forces:
            one["forces"]["unit"] = forces
    return Manifest.model_validate(content)


# Hartree declared as something else is off by 627, 27, 2625 or 27211; kcal/mol by 627, 23, 4.2 or 23060.
@pytest.mark.parametrize("unit", ["kcal/mol", "eV", "kJ/mol", "meV"])
@pytest.mark.parametrize("level", list(ANI1X_KEYS))
def test_wrong_energy_units_of_an_ani1x_file_are_refused(level: str, unit: str) -> None:
    with pytest.raises(DataCorrupt, match=r"expected atomisation energies of 0\.5 to 10 eV an atom.*would fit: Ha"):
        load(reunited("mini-ani1x", level, energy=unit))


@pytest.mark.parametrize("unit", ["Ha", "eV", "kJ/mol", "meV"])
@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("mini-rmd17-methanol", "pbe/def2-svp"),
        ("mini-rmd17-methanol", "gfn2-xtb"),
        ("mini-md17cc-methanol", "ccsd/cc-pvdz"),
        ("mini-md17cc-methanol", "ccsd(t)/cc-pvdz"),  # no free atoms of its own: wider bounds
    ],
)
def test_wrong_energy_units_of_an_npz_are_refused(name: str, level: str, unit: str) -> None:
    with pytest.raises(DataCorrupt, match=r"expected atomisation energies of .*would fit: kcal/mol"):
        load(reunited(name, level, energy=unit))


# The check of forces is an order of magnitude only: a factor of 27 or less (Bohr for Angstrom) can pass it.
@pytest.mark.parametrize(
    ("name", "level", "unit"),
    [
        ("mini-ani1x", "wb97x/6-31g*", "kcal/mol/Angstrom"),  # / 627
        ("mini-ani1x", "ccsd(t)*/cbs", "kJ/mol/Angstrom"),  # / 2625
        ("mini-ani1x", "wb97x/def2-tzvpp", "meV/Angstrom"),  # / 27211
        ("mini-rmd17-methanol", "pbe/def2-svp", "Ha/Angstrom"),  # x 627
        ("mini-rmd17-methanol", "pbe/def2-svp", "eV/Angstrom"),  # x 23
        ("mini-md17cc-methanol", "ccsd/cc-pvdz", "Ha/Bohr"),  # x 1186
        ("mini-md17cc-methanol", "ccsd/cc-pvdz", "eV/Bohr"),  # x 44
    ],
)
def test_wrong_force_units_are_refused(name: str, level: str, unit: str) -> None:
    with pytest.raises(DataCorrupt, match=r"expected a root mean square force component of 0\.05 to 20 eV/Angstrom"):
        load(reunited(name, level, forces=unit))


@pytest.mark.parametrize("scale", [627.5, 1 / 627.5, 1e3, 1e-3])
def test_the_physics_check_sees_scaled_forces(ani1x: Structures, scale: float) -> None:
    check_physics(ani1x)
    with pytest.raises(DataCorrupt, match="root mean square force"):
        check_physics(replace(ani1x, forces=ani1x.forces * np.float32(scale)))


def test_a_single_wrong_energy_is_named(ani1x: Structures) -> None:
    energies = ani1x.energies.copy()
    energies[700, 1] += 100
    with pytest.raises(DataCorrupt, match=r"1 structures beyond.*\(\w+, row 28 of mini-ani1x\.h5\)"):
        check_physics(replace(ani1x, energies=energies))


def test_xtb_energies_in_place_of_dft_ones_are_refused() -> None:
    """Free atoms of an all-electron level are 1,000s of eV from GFN2-xTB's valence-only ones."""
    content = manifest("mini-ani1x").model_dump()
    content["labels"][0]["energy"], content["labels"][1]["energy"] = (
        content["labels"][1]["energy"],
        content["labels"][0]["energy"],
    )
    with pytest.raises(DataCorrupt, match="would fit: a level of another kind, all-electron DFT"):
        load(Manifest.model_validate(content))


# damaged files


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n_structures", 865, "expected 865 structures, got 864"),
        ("n_energy", 863, r"expected 863 energies at wb97x/6-31g\*, got 864"),
        ("n_forces", 112, r"expected 112 forces at wb97x/6-31g\*, got 864"),
    ],
)
def test_wrong_counts(field: str, value: int, message: str) -> None:
    content = manifest("mini-ani1x").model_dump()
    (content if field == "n_structures" else content["labels"][1])[field] = value
    with pytest.raises(DataCorrupt, match=message):
        load(Manifest.model_validate(content))


def test_a_damaged_copy_is_refused_before_it_is_read(tmp_path: Path) -> None:
    content = manifest("mini-rmd17-methanol").model_dump()
    content["shipped"] = False
    raw = bytearray((MINI / "mini_methanol_rmd17.npz").read_bytes())
    raw[1000] ^= 1
    (tmp_path / "mini_methanol_rmd17.npz").write_bytes(raw)
    with pytest.raises(DataCorrupt, match="expected sha256 c2eb8cd3"):
        load(Manifest.model_validate(content), tmp_path)


def test_data_that_are_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MFBENCH_DATA", f"{tmp_path / 'site'}:{tmp_path / 'own'}")
    with pytest.raises(DataMissing, match=r"'md17-cc' is not on this machine \(no .*ethanol_ccsd_t\.zip") as caught:
        load("md17-cc")
    for text in (str(tmp_path / "site"), str(tmp_path / "own"), "mfbench data pull md17-cc", "--data-folder"):
        assert text in str(caught.value)


ANI1X_LABELS = [label("wb97x/6-31g*", "wb97x_dz.energy", "wb97x_dz.forces", "Ha", 48)]
Damage = Callable[[Path], None]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_group(tmp_path / "small.h5")


def rewrite(key: str, value: object) -> Damage:
    """Replace a key of the group; None leaves it out."""

    def damage(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file["H2O"][key]
            if value is not None:
                file["H2O"][key] = value

    return damage


def cut(to: float) -> Damage:
    """Keep this fraction of the file."""

    def damage(path: Path) -> None:
        raw = path.read_bytes()
        path.write_bytes(raw[: int(to * len(raw))])

    return damage


def overwrite(raw: bytes) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(raw)

    return damage


def drop_group(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["H2O"]


def test_the_undamaged_file_is_read(small: Path) -> None:
    assert len(read(declare("ani1x", [small], 48, ANI1X_LABELS), [small])) == 48


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut(0), "not a readable ani1x file"),
        (cut(0.01), "not a readable ani1x file"),
        (cut(0.5), "not a readable ani1x file: .*truncated"),
        (cut(0.99), "not a readable ani1x file"),
        (overwrite(b"<html>challenge</html>" * 100), "not a readable ani1x file"),
        (drop_group, "expected structures, found none"),
        (rewrite("coordinates", None), r"small\.h5: expected the key 'coordinates'"),
        (rewrite("atomic_numbers", None), "expected the key 'atomic_numbers'"),
        (rewrite("wb97x_dz.energy", None), "expected the key 'wb97x_dz.energy'"),
        (rewrite("wb97x_dz.forces", None), "expected the key 'wb97x_dz.forces'"),
        (
            rewrite("wb97x_dz.energy", np.zeros(47)),
            r"small\.h5, H2O: key .*expected 48 rows, got shape \(47,\)",
        ),
        (rewrite("wb97x_dz.energy", np.zeros((48, 2))), r"expected shape \(48,\), got \(48, 2\)"),
        (rewrite("wb97x_dz.forces", np.zeros((48, 4, 3))), r"expected shape \(48, 3, 3\), got \(48, 4, 3\)"),
        (rewrite("coordinates", np.zeros((48, 3))), "expected shape|array.shape"),
        (rewrite("coordinates", np.zeros((48, 3, 2))), r"array\.shape=\(48, 3, 2\)"),
        (rewrite("coordinates", np.full((48, 3, 3), np.nan)), "48 frames with positions that are not finite"),
        (rewrite("wb97x_dz.energy", np.full(48, np.inf)), "48 frames with infinite energies"),
        (rewrite("atomic_numbers", np.array([8, 1, 120])), r"unknown atomic numbers \[120\]"),
        (rewrite("atomic_numbers", np.float64(8)), "'atomic_numbers': expected an array stored in this file"),
        (rewrite("wb97x_dz.energy", ["-76.4"] * 48), "key 'wb97x_dz.energy': expected real numbers, got"),
        (
            rewrite("coordinates", np.full((48, 3, 3), b"1.0")),
            "key 'coordinates': expected real numbers, got",
        ),
        (rewrite("wb97x_dz.energy", np.zeros(48, complex)), "expected real numbers, got"),
        (rewrite("temperature", np.zeros(3)), r"'temperature': expected 48 rows, got shape \(3,\)"),
    ],
)
def test_damaged_hdf5(small: Path, damage: Damage, message: str) -> None:
    declared = declare("ani1x", [small], 48, ANI1X_LABELS)
    damage(small)
    with pytest.raises(DataCorrupt, match=message):
        read(declared, [small])


def test_a_group_in_place_of_an_array(small: Path) -> None:
    with h5py.File(small, "a") as file:
        del file["H2O"]["wb97x_dz.energy"]
        file["H2O"].create_group("wb97x_dz.energy")
    with pytest.raises(DataCorrupt, match=r"small\.h5"):
        read(declare("ani1x", [small], 48, ANI1X_LABELS), [small])


@pytest.mark.parametrize(
    "how", ["external group", "external array", "soft link", "external storage", "virtual", "array as a group"]
)
def test_links_out_of_an_hdf5_file_are_not_followed(how: str, small: Path, tmp_path: Path) -> None:
    other, key = write_group(tmp_path / "secret.h5"), "wb97x_dz.energy"
    with h5py.File(small, "a") as file:
        group = file["H2O"]
        if how == "array as a group":
            file["Z"] = np.zeros(3)
        elif how == "external group":
            file["Z"] = h5py.ExternalLink(str(other), "/H2O")
        else:
            del group[key]
        if how == "external array":
            group[key] = h5py.ExternalLink(str(other), f"/H2O/{key}")
        elif how == "soft link":
            group[key] = h5py.SoftLink("/H2O/wb97x_tz.energy")
        elif how == "external storage":
            group.create_dataset(key, (48,), np.float64, external=[(str(other), 0, h5py.h5f.UNLIMITED)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((48,), np.float64)
            layout[:] = h5py.VirtualSource(str(other), f"H2O/{key}", (48,))
            group.create_virtual_dataset(key, layout)
    with pytest.raises(DataCorrupt, match=r"in this file|expected a group"):
        read(declare("ani1x", [small], 48, ANI1X_LABELS), [small])


RMD17_LABELS = [label("pbe/def2-svp", "energies", "forces", "kcal/mol", 1200)]


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "copy.npz"
    path.write_bytes((MINI / "mini_methanol_rmd17.npz").read_bytes())
    return path


def resave(key: str, value: object) -> Damage:
    """Replace a key of the archive; None leaves it out."""

    def damage(path: Path) -> None:
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays[key] = value
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})

    return damage


def broken_stream(path: Path) -> None:
    """A zip whose directory is whole and one member's deflated bytes are not."""
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("energies.npy")
    start = info.header_offset + 30 + len(info.filename) + 20
    raw[start : start + 64] = b"\xff" * 64
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut(0), "not a readable rmd17 file"),
        (cut(0.5), "not a readable rmd17 file: .*not a zip"),
        (overwrite(b"<html>challenge</html>" * 100), "not a readable rmd17 file"),
        (overwrite(b"PK\x03\x04" + b"\x00" * 200), "not a readable rmd17 file"),
        (broken_stream, "not a readable rmd17 file"),
        (resave("energies", None), r"copy\.npz: expected the key 'energies'"),
        (resave("forces", None), "expected the key 'forces'"),
        (resave("coords", None), "expected the key 'coords'"),
        (resave("nuclear_charges", None), "expected the key 'nuclear_charges'"),
        (
            resave("energies", np.zeros(1199)),
            r"copy\.npz: key 'energies': expected 1200 rows, got shape \(1199,\)",
        ),
        (resave("forces", np.zeros((1200, 6))), r"expected shape \(1200, 6, 3\), got \(1200, 6\)"),
        (
            resave("coords", np.zeros((1200, 5, 3))),
            r"positions: array\.shape=\(1200, 5, 3\) != \(1200, 6, 3\)",
        ),
        (resave("coords", np.float64(1)), "expected structures, found none"),
        (resave("energies", np.array(["-72000.5"] * 1200)), "key 'energies': expected real numbers, got"),
        (resave("nuclear_charges", np.array(list("COHHHH"))), "key 'nuclear_charges': expected real numbers"),
        (resave("nuclear_charges", np.array([6, 8, 1, 1, 1, 99])), r"unknown atomic numbers \[99\]"),
        (resave("energies", np.full(1200, np.inf)), "1200 frames with infinite energies"),
    ],
)
def test_damaged_npz(npz: Path, damage: Damage, message: str) -> None:
    declared = declare("rmd17", [npz], 1200, RMD17_LABELS)
    damage(npz)
    with pytest.raises(DataCorrupt, match=message):
        read(declared, [npz])


def test_arrays_in_fortran_order(npz: Path) -> None:
    declared = declare("rmd17", [npz], 1200, RMD17_LABELS)
    expected = read(declared, [npz])
    with np.load(npz) as archive:
        turned = {key: np.asfortranarray(array) for key, array in archive.items()}
    np.savez(npz, **turned)
    same_structures(read(declared, [npz]), expected)


def test_pieces_of_any_size_are_the_same(npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = declare("rmd17", [npz], 1200, RMD17_LABELS)
    expected = read(declared, [npz])
    monkeypatch.setattr(base, "_SLAB_ATOMS", 6 * 7)
    same_structures(read(declared, [npz]), expected)


def test_an_array_that_claims_to_be_huge(npz: Path) -> None:
    """A header of a few bytes that asks for a terabyte of memory."""
    declared = declare("rmd17", [npz], 1200, RMD17_LABELS)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 36, 6, 3)})
    with np.load(npz) as archive:
        arrays = {key: archive[key] for key in archive if key != "coords"}
    np.savez(npz, **arrays)
    with zipfile.ZipFile(npz, "a") as archive:
        archive.writestr("coords.npy", header.getvalue())
    with pytest.raises(DataCorrupt, match="key 'coords': expected at most 17,179,869,184 bytes"):
        read(declared, [npz])


def test_the_fingerprint_in_an_sgdml_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"

    def found(spoilt: str = "") -> Structures:
        write_sgdml(path, spoilt)
        return read(declare("sgdml", [path], 700, [label("ccsd/cc-pvdz", "E", "F", "kcal/mol", 700)]), [path])

    assert len(found()) == 700
    for key in ("E", "F", "R"):
        with pytest.raises(DataCorrupt, match=r"expected the fingerprint [0-9a-f]{32} that it carries, got"):
            found(key)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "expected row numbers, one a line"),
        ("1,2,3\n4\nx\n", "expected row numbers"),
        ("-1\n2\n", "expected row numbers|each row once"),
        ("1\n2\n1\n", "expected each row once, got 1 twice"),
        ("99999999999999999999\n1", "expected row numbers|heading"),
    ],
)
def test_damaged_index_files(text: str, message: str, npz: Path, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(text)
    content = declare("rmd17", [npz, tmp_path / "index.csv"], 1200, RMD17_LABELS).model_dump()
    content["files"][1]["index_of"] = "train_01"
    with pytest.raises(DataCorrupt, match=message):
        read(Manifest.model_validate(content), [npz, tmp_path / "index.csv"])


def test_an_index_file_names_rows(npz: Path, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("row\n3\n1199\n0\n")
    content = declare("rmd17", [npz, tmp_path / "index.csv"], 1200, RMD17_LABELS).model_dump()
    content["files"][1]["index_of"] = "train_01"
    structures = read(Manifest.model_validate(content), [npz, tmp_path / "index.csv"])
    assert np.flatnonzero(structures.in_set("train_01")).tolist() == [0, 3, 1199]


def test_a_bare_array_is_not_an_archive(npz: Path) -> None:
    declared = declare("rmd17", [npz], 1200, RMD17_LABELS)
    with open(npz, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataCorrupt, match="not a readable rmd17 file"):
        read(declared, [npz])


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["member", "whole file"])
def test_nothing_is_unpickled(npz: Path, tmp_path: Path, how: str) -> None:
    declared = declare("rmd17", [npz], 1200, RMD17_LABELS)
    sprung = tmp_path / "unpickled"
    if how == "member":
        resave("energies", np.array([Trap(sprung)] * 1200, dtype=object))(npz)
    else:
        npz.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataCorrupt, match="never unpickled" if how == "member" else "not a readable rmd17 file"):
        read(declared, [npz])
    assert not sprung.exists()


def test_the_trap_would_spring(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "unpickled")))
    assert (tmp_path / "unpickled").exists()


def test_energies_may_be_a_sum_of_keys(small: Path) -> None:
    """MP2/cc-pVDZ = HF + correlation; a missing term leaves the structure without the label."""
    with h5py.File(small, "a") as file:
        correlation = file["H2O"]["mp2_dz.corr_energy"][()]
        expected = (file["H2O"]["hf_dz.energy"][()] + correlation) * HARTREE
        correlation[3] = np.nan
        file["H2O"]["mp2_dz.corr_energy"][...] = correlation
    labels = [{"level": "hf/cc-pvdz", "energy": {"key": ["hf_dz.energy", "mp2_dz.corr_energy"], "unit": "Ha"}}]
    s = read(declare("ani1x", [small], 48, labels), [small])
    assert s.energy_mask[:, 0].tolist() == [i != 3 for i in range(48)]
    np.testing.assert_allclose(s.energies[s.energy_mask], np.delete(expected, 3), rtol=RTOL)


@pytest.mark.parametrize("name", SHIPPED)
def test_coordinates_in_bohr(name: str) -> None:
    """A manifest's length unit is heeded by both readers."""
    declared = manifest(name)
    paths = [MINI / file.name for file in declared.files]
    one = read(declared, paths)
    two = read(Manifest.model_validate({**declared.model_dump(), "length_unit": "Bohr"}), paths)
    np.testing.assert_allclose(two.positions, one.positions * ase.units.Bohr, rtol=RTOL)


def test_labels_in_bohr(small: Path) -> None:
    labels = [label("wb97x/6-31g*", "wb97x_dz.energy", "wb97x_dz.forces", "Ha", 48)]
    labels[0]["forces"]["unit"] = "Ha/Bohr"
    s = read(declare("ani1x", [small], 48, labels), [small])
    with h5py.File(small) as file:
        raw = file["H2O"]["wb97x_dz.forces"][()].reshape(-1, 3)
    np.testing.assert_allclose(s.forces[0], raw * (HARTREE / ase.units.Bohr), rtol=RTOL, atol=1e-8)


# published files


@pytest.mark.parametrize(
    ("molecule", "names", "level", "n", "formula", "shared"),
    [
        ("ethanol", ("ethanol_ccsd_t-train.npz",), "ccsd(t)/cc-pvtz", 1000, "C2H6O", (0, 7)),
        ("malonaldehyde", ("malonaldehyde_ccsd_t-train.npz",), "ccsd(t)/cc-pvdz", 1000, "C3H4O2", (1, 1)),
        (
            "aspirin",
            ("aspirin_ccsd-train.npz", "aspirin_ccsd-test.reconstructed.npz"),
            "ccsd/cc-pvdz",
            1500,
            "C9H8O4",
            (5, 3),
        ),
    ],
)
def test_published_md17(
    shared_real: Path,
    molecule: str,
    names: tuple[str, ...],
    level: str,
    n: int,
    formula: str,
    shared: tuple[int, int],
) -> None:
    """Read, checked by physics, and joined: ``shared`` geometries of rMD17's train and test part recur."""
    low, high = rmd17_split(shared_real, molecule), md17_cc(shared_real, names, level, n)
    whole = joined([low, high])
    assert whole.molecules == (formula,)
    assert whole.levels == ("pbe/def2-svp", level)
    assert whole.energy_mask.sum(0).tolist() == [2000, n]
    assert len(set(whole.geometry[:2000].tolist())) == 2000
    recurring = np.isin(whole.geometry[:2000], whole.geometry[2000:])
    assert (int(recurring[:1000].sum()), int(recurring[1000:].sum())) == shared
    for part in (low, high):
        slope, r = slope_of_energy(part[np.arange(600)], part.levels[0], pairs=20)
        assert slope == pytest.approx(1, abs=0.1)
        assert r > 0.98


def test_published_geometries_recur_by_distances_recomputed_here(shared_real: Path) -> None:
    """The ethanol seven, by an independent search: all sorted distances, whatever the elements."""
    low = rmd17_split(shared_real, "ethanol")
    high = md17_cc(shared_real, ("ethanol_ccsd_t-train.npz",), "ccsd(t)/cc-pvtz", 1000)
    first, second = np.triu_indices(9, 1)

    def distances(s: Structures) -> NDArray:
        x = s.positions.reshape(-1, 9, 3)
        return np.sort(np.linalg.norm(x[:, first] - x[:, second], axis=-1), axis=1)

    a, b = distances(low), distances(high)
    pairs = {(i, int(j)) for i in range(len(a)) for j in np.flatnonzero(np.abs(a[i] - b).max(1) < 1e-4)}
    whole = joined([low, high])
    found = {(int(i), int(j)) for i in range(2000) for j in np.flatnonzero(whole.geometry[2000:] == whole.geometry[i])}
    assert found == pairs
    assert len({i for i, _ in pairs}) == 7
    assert all(i >= 1000 for i, _ in pairs)


def test_published_files_through_converted_ones(shared_real: Path, tmp_path: Path) -> None:
    """Real files of the three formats: what is read from the converted file is what the reader gives."""
    ani = shared_real / "ani1x_sample" / "ani1x_50formulas.h5"
    rmd = shared_real / "rmd17" / "rmd17_aspirin_train_01.npz"
    coupled = shared_real / "md17_cc" / "malonaldehyde_ccsd_t-train.npz"
    for declared, path in (
        (declare("ani1x", [ani], 96, [label("wb97x/6-31g*", "wb97x_dz.energy", "wb97x_dz.forces", "Ha", 96)]), ani),
        (declare("rmd17", [rmd], 1000, [label("pbe/def2-svp", "energies", "forces", "kcal/mol", 1000)]), rmd),
        (declare("sgdml", [coupled], 1000, [label("ccsd(t)/cc-pvdz", "E", "F", "kcal/mol", 1000)]), coupled),
    ):
        out = convert(declared, [path], tmp_path / f"{path.stem}.h5")
        same_structures(store.read(out), read(declared, [path]))


def test_published_ethanol_forces(shared_real: Path) -> None:
    low = rmd17_split(shared_real, "ethanol")
    assert np.abs(low.forces[:, : 9 * 1000]).mean() / EV_PER_KCAL == pytest.approx(20.3, abs=0.05)


def test_published_ethanol_through_manifests_given_by_path(shared_real: Path) -> None:
    folder = ROOT / "benchmarks" / "manifests"
    names = ("rmd17-ethanol-split01", "md17cc-ethanol")
    whole = DataRequest(tuple(str(folder / f"{name}.yaml") for name in names), folder=shared_real).load()
    assert len(whole) == 3000
    assert whole.levels == ("pbe/def2-svp", "pbe+vdw-ts", "ccsd(t)/cc-pvtz")
    assert whole.energy_mask.sum(0).tolist() == [2000, 2000, 1000]


def test_published_ani1x(shared_real: Path) -> None:
    path = shared_real / "ani1x_sample" / "ani1x_50formulas.h5"
    labels = [
        label("wb97x/6-31g*", "wb97x_dz.energy", "wb97x_dz.forces", "Ha", 96),
        label("wb97x/def2-tzvpp", "wb97x_tz.energy", "wb97x_tz.forces", "Ha", 73),
        label("ccsd(t)*/cbs", "ccsd(t)_cbs.energy", None, "Ha", 3),
    ]
    s = load(declare("ani1x", [path], 96, labels), shared_real)
    assert len(s.molecules) == 50
    assert s.molecules[0] == "C10H10"
    assert set(s.numbers.tolist()) == {1, 6, 7, 8}
    assert s.energy_mask.sum(0).tolist() == [96, 73, 3]
    assert s.force_mask.sum(0).tolist() == [96, 73, 0]
    with h5py.File(path) as file:
        group = file["C10H10"]
        np.testing.assert_allclose(s.energies[:2, 0], group["wb97x_dz.energy"][()] * HARTREE, rtol=RTOL)
        raw = group["wb97x_tz.forces"][()] * HARTREE
        there = np.isfinite(raw).all((1, 2))
        assert s.force_mask[:2, 1].tolist() == there.tolist()
        np.testing.assert_allclose(s.forces[1, :40].reshape(2, 20, 3)[there], raw[there], rtol=RTOL, atol=1e-9)
    # Both levels of wB97X are within 1.5 eV an atom of each other; a swapped pair of columns would show.
    both = s.energy_mask[:, :2].all(1)
    shift = (s.energies[both, 1] - s.energies[both, 0]) / s.n_atoms[both]
    assert (shift < 0).all()
    assert shift.min() > -1.5


@pytest.mark.parametrize("unit", ["kcal/mol", "eV"])
def test_published_ani1x_in_a_wrong_unit(shared_real: Path, unit: str) -> None:
    path = shared_real / "ani1x_sample" / "ani1x_50formulas.h5"
    labels = [label("wb97x/6-31g*", "wb97x_dz.energy", None, unit, 96)]
    with pytest.raises(DataCorrupt, match="expected atomisation energies"):
        load(declare("ani1x", [path], 96, labels), shared_real)
