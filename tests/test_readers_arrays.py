"""HDF5 and npz files as people have them: what other keys and attributes say is heeded, or refused with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_inputs import BOXES, CC, DFT, imported, manifest_of, torchani, water

from mfbench.data.molecules import CHARGE_KEYS
from mfbench.data.readers import base
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.units import HARTREE


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))


Change = Callable[[h5py.File], None]


def plain(folder: Path, change: Change, **says: Any) -> Structures:
    """24 frames of water as plain arrays, changed, with energies and forces at one level; imported."""
    frames = water()
    with h5py.File(folder / "plain.h5", "w") as file:
        file["numbers"] = np.concatenate([frame.numbers for frame in frames])
        file["positions"] = np.concatenate([frame.positions for frame in frames])
        file["n_atoms"] = [len(frame) for frame in frames]
        file["energies"] = [frame.info["dft_energy"] / HARTREE for frame in frames]
        file["forces"] = np.concatenate([frame.arrays["dft_forces"] for frame in frames]) / HARTREE
        change(file)
    return imported(folder / "plain.h5", manifest(**says), folder)[0]


def groups(folder: Path, change: Change, **says: Any) -> Structures:
    """The same in the group ``set/water``."""
    torchani(folder / "groups.h5", water())
    with h5py.File(folder / "groups.h5", "a") as file:
        change(file)
    return imported(folder / "groups.h5", manifest(**says), folder)[0]


def npz(folder: Path, fmt: str = "sgdml", **arrays: Any) -> tuple[Path, dict[str, Any]]:
    """The same as an npz file with further arrays, and its manifest."""
    frames, names = water(), ("z", "R", "E", "F")
    if fmt == "rmd17":
        names = ("nuclear_charges", "coords", "energies", "forces")
    values = (
        frames[0].numbers,
        np.stack([frame.positions for frame in frames]),
        np.array([frame.info["dft_energy"] for frame in frames]) / HARTREE,
        np.stack([frame.arrays["dft_forces"] for frame in frames]) / HARTREE,
    )
    np.savez(folder / "file.npz", **{**dict(zip(names, values)), **arrays})
    return folder / "file.npz", manifest(names[2], names[3], format=fmt)


def manifest(energy: str = "energies", forces: str = "forces", **says: Any) -> dict[str, Any]:
    keys = {"energy": {"key": energy, "unit": "Ha"}, "forces": {"key": forces, "unit": "Ha/Angstrom"}}
    whole = manifest_of("spice_like") | {"labels": [{"level": DFT} | keys], "length_unit": "Angstrom"}
    return whole | says


def levels(key: str = "head") -> list[dict[str, Any]]:
    (one,) = manifest()["labels"]
    high = {"level": CC, "energy": one["energy"]}
    return [one | {"where": {key: "dft"}}, high | {"where": {key: "cc"}}]


def put(key: str, value: Any) -> Change:
    """Adds an array, in the group where there is one."""

    def change(file: h5py.File) -> None:
        file[f"set/water/{key}" if "set" in file else key] = value

    return change


def attribute(name: str, value: Any, *, at_file: bool = False) -> Change:
    def change(file: h5py.File) -> None:
        (file["set/water"] if "set" in file and not at_file else file).attrs[name] = value

    return change


def copied(file: h5py.File, name: str) -> h5py.Group:
    """A second group like the first, of geometries a little apart."""
    file.copy("set/water", name)
    file[f"{name}/coordinates"][...] += 1e-4
    return file[name]


def molecules(found: Structures) -> dict[str, int]:
    counts = np.bincount(found.molecule, minlength=len(found.molecules)).tolist()
    return dict(zip(found.molecules, counts))


both = pytest.mark.parametrize("kind", [plain, groups])

HEADS = ["dft", "cc"] * 12


# Levels that another key tells apart


@both
@pytest.mark.parametrize("key", ["head", "theory", "Method"])
def test_a_key_that_parts_the_labels_is_told(kind: Any, key: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"the key '{key}' parts them \(cc, dft\): .* `where: {{{key}: cc}}`"):
        kind(tmp_path, put(key, HEADS))
    assert len(kind(tmp_path, put(key, HEADS), ignored_keys=[key])) == 24
    assert len(kind(tmp_path, put(key, ["dft"] * 24))) == 24


def test_groups_of_several_levels_are_told_apart(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        copied(file, "set/other").attrs["head"] = "cc"
        file["set/water"].attrs["head"] = "dft"

    with pytest.raises(UserError, match=r"the key 'head' parts them \(cc, dft\)"):
        groups(tmp_path, change)


@both
def test_labels_of_keys_of_their_own_are_not_parted(kind: Any, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        put("head", HEADS)(file)
        group = file["set/water"] if "set" in file else file
        of_cc = np.arange(24) % 2 == 1
        energies, forces = group["energies"][()], group["forces"][()].reshape(24, 3, 3)
        group["cc"] = np.where(of_cc, energies + 1.5 / HARTREE, np.nan)
        group["energies"][...] = np.where(of_cc, np.nan, energies)
        group["forces"][...] = np.where(of_cc[:, None, None], np.nan, forces).reshape(group["forces"].shape)

    both = [*manifest()["labels"], {"level": CC, "energy": {"key": "cc", "unit": "Ha"}}]
    assert kind(tmp_path, change, labels=both).energy_mask.sum(0).tolist() == [12, 12]


@both
def test_a_key_that_is_no_state_may_be_left_aside(kind: Any, tmp_path: Path) -> None:
    change = put("spin", np.arange(24 * 3).reshape(24, 3) if kind is groups else np.arange(24 * 3))
    with pytest.raises(UserError, match=r"key 'spin': expected .* 24 rows .*say `ignored_keys: \[spin\]`"):
        kind(tmp_path, change)
    assert len(kind(tmp_path, change, ignored_keys=["spin"])) == 24


@both
def test_where(kind: Any, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        put("head", HEADS)(file)
        group = file["set/water"] if "set" in file else file
        group["energies"][1::2] += 1.5 / HARTREE  # what the other level adds

    plainly = kind(tmp_path, lambda file: None)
    found = kind(tmp_path, change, labels=levels())
    order = np.argsort(found.row)
    assert found.energy_mask[order].tolist() == [[True, False], [False, True]] * 12
    assert found.energies[order][0::2, 0] == pytest.approx(plainly.energies[0::2, 0], abs=1e-9)
    assert found.energies[order][1::2, 1] == pytest.approx(plainly.energies[1::2, 0] + 1.5, abs=1e-9)
    with pytest.raises(UserError, match=r"expected the keys \['hd'\]|expected the key 'hd'"):
        kind(tmp_path, change, labels=levels("hd"))


@pytest.mark.parametrize("how", ["array", "attribute"])
def test_where_with_one_value_a_group(how: str, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        other = copied(file, "set/other")
        for group, value in ((file["set/water"], "dft"), (other, "cc")):
            if how == "array":
                group["head"] = value
            else:
                group.attrs["head"] = value
        del other["forces"]
        other["energies"][...] += 1.5 / HARTREE

    found = groups(tmp_path, change, labels=levels())
    assert found.molecules == ("other", "water")
    assert found.energy_mask.sum(0).tolist() == [24, 24]
    assert found.force_mask.sum(0).tolist() == [24, 0]


@both
def test_config_type_is_told(kind: Any, tmp_path: Path) -> None:
    name = "plain.h5" if kind is plain else "groups.h5"
    kind(tmp_path, put("config_type", ["a", "b"] * 12))
    _, checked = imported(tmp_path / name, manifest(), tmp_path)
    told = [one.found for one in checked.findings if "config_type" in one.found]
    assert told == ["config_type has 2 values (a, b) and is not looked at, in 24 structures"]


# Boxes


@both
@pytest.mark.parametrize("key", ["cell", "lattice", "Lattice", "unit_cell"])
@pytest.mark.parametrize("shape", [(3,), (3, 3), (24, 3), (24, 3, 3)])
def test_boxes_are_refused(kind: Any, key: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    box = np.broadcast_to(30 * (np.eye(3) if shape[-2:] == (3, 3) else np.ones(3)), shape)
    with pytest.raises(UserError, match=r"structure 0: expected isolated molecules.*`vacuum_boxes: true`"):
        kind(tmp_path, put(key, box))
    assert len(kind(tmp_path, put(key, box), **BOXES)) == 24
    assert len(kind(tmp_path, put(key, 0 * box))) == 24
    with pytest.raises(UserError, match="structure 0: vacuum_boxes: expected at least 4 Angstrom"):
        kind(tmp_path, put(key, box / 6), **BOXES)


@both
@pytest.mark.parametrize("value", [True, [True, True, False], [True] * 24, [[True] * 3] * 24])
def test_pbc_alone_is_refused(kind: Any, value: Any, tmp_path: Path) -> None:
    for change in (put("pbc", value), attribute("pbc", value)):
        with pytest.raises(UserError, match="structure 0: expected isolated molecules"):
            kind(tmp_path, change)
    with pytest.raises(UserError, match="vacuum_boxes: expected the cell of a periodic structure, got none"):
        kind(tmp_path, put("pbc", value), **BOXES)
    assert len(kind(tmp_path, put("pbc", np.zeros_like(value)))) == 24


@both
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("says", [{}, BOXES])
def test_a_cell_that_is_not_finite(kind: Any, value: float, says: dict[str, Any], tmp_path: Path) -> None:
    box = np.zeros((24, 3, 3))
    box[7, 0, 0] = value
    with pytest.raises(UserError, match="structure 7: expected a cell of finite numbers"):
        kind(tmp_path, put("cell", box), **says)


@both
def test_a_cell_of_another_shape(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"key 'cell': expected a value of shape .* or 24 rows of them, got \(6,\)"):
        kind(tmp_path, put("cell", [10.0, 10, 10, 90, 90, 90]), **BOXES)


def test_boxes_of_npz_files(tmp_path: Path) -> None:
    path, says = npz(tmp_path, Lattice=30 * np.eye(3))
    with pytest.raises(UserError, match="structure 0: expected isolated molecules"):
        imported(path, says, tmp_path)
    path, says = npz(tmp_path, cell=np.full((24, 3), np.nan))
    with pytest.raises(UserError, match="expected a cell of finite numbers"):
        imported(path, says | BOXES, tmp_path)


# Names


@both
def test_numbers_as_names(kind: Any, tmp_path: Path) -> None:
    names = [1234567.0] * 12 + [1234568.0] * 12
    assert molecules(kind(tmp_path, put("name", names), molecule_key="name")) == {"1234567": 12, "1234568": 12}
    with pytest.raises(UserError, match=r"'charge': expected a whole number, got '0\.9999999'"):
        kind(tmp_path, put("charge", np.full(24, 0.9999999)))


@both
@pytest.mark.parametrize("key", [*CHARGE_KEYS, "Charge", "TOTAL_CHARGE"])
def test_charges_mixed_are_two_molecules(kind: Any, key: str, tmp_path: Path) -> None:
    plainly = kind(tmp_path, lambda file: None)
    found = kind(tmp_path, put(key, np.arange(24) % 2))
    name = plainly.molecules[0]
    assert molecules(found) == {name: 12, f"{name}, charge 1": 12}
    order = np.argsort(found.row)
    assert found.molecule[order].tolist() == [0, 1] * 12
    assert np.array_equal(found.energies[order], plainly.energies)
    assert np.array_equal(found.positions.reshape(24, 3, 3)[order], plainly.positions.reshape(24, 3, 3))
    assert np.array_equal(found.forces[0].reshape(24, 3, 3)[order], plainly.forces[0].reshape(24, 3, 3))


@both
def test_a_charge_for_all(kind: Any, tmp_path: Path) -> None:
    for change in (put("charge", -1), put("charge", [-1]), attribute("charge", -1)):
        (name,) = kind(tmp_path, change).molecules
        assert name.endswith(", charge -1")
    (name,) = kind(tmp_path, attribute("Charge", -1, at_file=True)).molecules
    assert name.endswith(", charge -1")


def test_groups_whose_names_recur(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        copied(file, "train/0")
        copied(file, "extra/0")["coordinates"][...] += 1e-3

    assert set(groups(tmp_path, change).molecules) == {"extra/0", "train/0", "water"}

    def of_one(file: h5py.File) -> None:
        change(file)
        for name in ("train/0", "extra/0"):
            file[name].attrs["molecule"] = "mine"

    assert set(groups(tmp_path, of_one).molecules) == {"mine", "water"}


# Keys that the manifest names


@both
@pytest.mark.parametrize("key", ["charge_key", "spin_key", "molecule_key", "set_key"])
def test_named_keys_must_exist(kind: Any, key: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected the key.* '?\[?'smlies'"):
        kind(tmp_path, put("smiles", ["1"] * 24), **{key: "smlies"})


@both
def test_named_keys_are_used(kind: Any, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        put("smiles", "O")(file)
        put("Q", np.full(24, 2))(file)
        put("S", np.full(24, 3))(file)
        put("part", ["train", "test"] * 12)(file)

    found = kind(tmp_path, change, molecule_key="smiles", charge_key="q", spin_key="S", set_key="part")
    assert found.molecules == ("O, charge 2, multiplicity 3",)
    assert sorted(found.row[found.in_set("test")]) == list(range(1, 24, 2))


def test_a_named_key_of_some_groups(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        copied(file, "set/other").attrs["smiles"] = "O"

    assert groups(tmp_path, change, molecule_key="smiles").molecules == ("O", "water")


def test_other_keys_of_elements_and_positions(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file.move("numbers", "Z")
        file.move("positions", "R")

    with pytest.raises(UserError, match="expected the key 'numbers'"):
        plain(tmp_path, change)
    assert len(plain(tmp_path, change, numbers_key="Z", positions_key="R")) == 24


@pytest.mark.parametrize("fmt", ["sgdml", "rmd17"])
@pytest.mark.parametrize("shape", [(), (1,), (24,), (24, 1)])
def test_states_of_npz_files(fmt: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    path, says = npz(tmp_path, fmt, charge=np.ones(shape), q=np.full(shape, 3))
    assert imported(path, says, tmp_path)[0].molecules == ("H2O, charge 1",)
    path, says = npz(tmp_path, fmt, q=np.full(shape, 3), Spin=3)
    found, _ = imported(path, says | {"charge_key": "Q"}, tmp_path)
    assert found.molecules == ("H2O, charge 3, multiplicity 4",)
    with pytest.raises(UserError, match=r"expected the keys \['qq'\]"):
        imported(path, says | {"charge_key": "qq"}, tmp_path)


def test_states_that_mix_in_an_npz_file_are_kept_apart(tmp_path: Path) -> None:
    path, says = npz(tmp_path, charge=np.arange(24) // 12)
    assert molecules(imported(path, says, tmp_path)[0]) == {"H2O": 12, "H2O, charge 1": 12}
    path, says = npz(tmp_path, charge=np.zeros(23))
    with pytest.raises(UserError, match=r"key 'charge': expected a value of shape .* or 24 rows of them, got \(23,\)"):
        imported(path, says, tmp_path)


def test_an_npz_file_of_two_levels_is_refused(tmp_path: Path) -> None:
    path, says = npz(tmp_path, theory=np.array(HEADS))
    with pytest.raises(UserError, match=r"'theory' parts them .* give each level a file of its own"):
        imported(path, says, tmp_path)
    path, says = npz(tmp_path, theory=np.array("CCSD(T)"))
    assert len(imported(path, says, tmp_path)[0]) == 24


# Units


@both
@pytest.mark.parametrize("at_file", [True, False])
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("energies_units", "hartree", "kcal/mol"),
        ("energy_unit", b"Ha", b"eV"),
        ("units", "Eh", "kJ/mol"),
        ("unit", ["Hartree"], ["eV"]),
        ("forces_unit", "hartree/angstrom", "hartree/bohr"),
        ("force_units", "hartree/angstrom", "eV/Angstrom"),
        ("units", "hartree/angstrom", "hartree/bohr"),
        ("length_unit", "Ang", "Bohr"),
        ("units", "angstrom", "nm"),
        ("positions_unit", "angstrom", "bohr"),
        ("coordinates_units", "angstrom", "bohr"),
    ],
)
def test_units_in_attributes(kind: Any, at_file: bool, name: str, right: Any, wrong: Any, tmp_path: Path) -> None:
    assert len(kind(tmp_path, attribute(name, right, at_file=at_file))) == 24
    with pytest.raises(UserError, match=rf"attribute '{name}': the file states the unit '[\w/]+', the manifest"):
        kind(tmp_path, attribute(name, wrong, at_file=at_file))


@both
def test_the_unit_of_an_array_goes_before_those_about_it(kind: Any, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        group = file["set/water"] if "set" in file else file
        group["energies"].attrs["units"] = ["hartree"]
        file.attrs["energy_units"] = "eV"

    assert len(kind(tmp_path, change)) == 24


def test_units_of_sgdml_as_bytes(tmp_path: Path) -> None:
    path, says = npz(tmp_path, e_unit=b"kcal/mol", r_unit=b"Ang")
    with pytest.raises(UserError, match="e_unit: the file states the unit 'kcal/mol', the manifest 'Ha'"):
        imported(path, says, tmp_path)


# Files made to harm


def test_groups_that_link_one_another_twice(tmp_path: Path) -> None:
    def bomb(file: h5py.File) -> None:
        inner = file["set/water"]
        for depth in range(15):
            outer = file.create_group(f"level{depth}")
            outer["a"] = outer["b"] = inner
            inner = outer

    with pytest.raises(UserError, match=r"expected each group once, .* one that another name leads to, too"):
        groups(tmp_path, bomb)

    def circle(file: h5py.File) -> None:
        file["set/again"] = file["set"]

    with pytest.raises(UserError, match=r"set/again: expected each group once"):
        groups(tmp_path, circle)


def test_groups_that_are_deep(tmp_path: Path) -> None:
    def deep(count: int) -> Change:
        return lambda file: file.move("set/water", "/".join(["x"] * count))

    assert groups(tmp_path, deep(16)).molecules == ("x",)
    with pytest.raises(UserError, match="at most 16 deep, got one that is deeper"):
        groups(tmp_path, deep(17))


@both
@pytest.mark.parametrize("key", ["charge", "Charge", "head", "cell", "pbc", "q"])
@pytest.mark.parametrize("how", ["external", "virtual", "soft", "external link"])
def test_nothing_else_is_read(kind: Any, key: str, how: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros(1)

    def change(file: h5py.File) -> None:
        group = file["set/water"] if "set" in file else file
        if how == "external":
            group.create_dataset(key, (1,), "i8", external=[(str(secret), 0, 8)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((1,), float)
            layout[:] = h5py.VirtualSource(str(secret), "x", (1,))
            group.create_virtual_dataset(key, layout)
        else:
            group[key] = h5py.SoftLink("/energies") if how == "soft" else h5py.ExternalLink(str(secret), "/x")

    with pytest.raises(UserError, match=r"expected (an array stored|it) in this file"):
        kind(tmp_path, change, **({"charge_key": "q"} if key == "q" else {}))


@both
def test_arrays_of_zeros_that_would_fill_the_memory(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_AT_ONCE", 1 << 20)

    def change(file: h5py.File) -> None:
        group, key = (file["set/water"], "species") if "set" in file else (file, "n_atoms")
        del group[key]
        group.create_dataset(key, (1 << 40,), "i8", compression="gzip", chunks=(1 << 16,))

    assert len(kind(tmp_path, lambda file: None)) == 24
    with pytest.raises(UserError, match=r"key '(n_atoms|species)': expected at most 1,048,576 bytes"):
        kind(tmp_path, change)


@pytest.mark.parametrize("key", ["z", "E", "cell", "charge"])
def test_npz_arrays_of_zeros(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_AT_ONCE", 1 << 20)
    path, says = npz(tmp_path, **{key: np.zeros((24, 1 << 14))})
    with pytest.raises(UserError, match=rf"key '{key}': expected at most 1,048,576 bytes to be read at once"):
        imported(path, says, tmp_path)


def test_npz_arrays_in_fortran_order_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, says = npz(tmp_path)
    with np.load(path) as archive:
        turned = {key: np.asfortranarray(array) for key, array in archive.items()}
    np.savez(path, **turned)
    assert len(imported(path, says, tmp_path)[0]) == 24
    monkeypatch.setattr(base, "MOST_AT_ONCE", 1000)
    with pytest.raises(UserError, match="key 'R': expected at most 1,000 bytes to be read at once"):
        imported(path, says, tmp_path)


def test_a_key_that_two_levels_use_is_read_once(tmp_path: Path) -> None:
    path, says = npz(tmp_path, more=np.full(24, 0.05))
    (low,) = says["labels"]
    high = {"level": CC, "energy": {"key": ["E", "more"], "unit": "Ha"}}
    found, _ = imported(path, says | {"labels": [low, high]}, tmp_path)
    assert found.energies[:, 1] - found.energies[:, 0] == pytest.approx(0.05 * HARTREE, abs=1e-9)
