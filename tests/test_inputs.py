"""Files as people have them: each in ``inputs/`` imports to what it means, or is refused with reason and remedy.

The files are made up; other members of most kinds are made here of the same molecules.
"""

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import h5py
import numpy as np
import pytest
import yaml
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mfbench.data import datasets
from mfbench.data.catalogue import Checked
from mfbench.data.importing import import_files
from mfbench.data.molecules import State, named, state_of, stated_by, stated_in
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.units import BOHR, HARTREE

INPUTS = Path(__file__).parent / "inputs"

DFT, CC = "wb97x/6-31g*", "ccsd(t)*/cbs"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))


def manifest_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((INPUTS / f"{name}.yaml").read_text())


def imported(paths: list[Path] | Path, manifest: dict[str, Any], folder: Path) -> tuple[Structures, Checked]:
    """What an import of files makes, read from the cache."""
    description = folder / "tried.yaml"
    description.write_text(json.dumps(manifest))  # which is YAML, and without aliases
    checked = import_files([paths] if isinstance(paths, Path) else paths, description)
    return datasets.load("tried"), checked


def file_of(name: str) -> Path:
    return next(path for path in INPUTS.glob(f"{name}.*") if path.suffix != ".yaml")


BOXES = {"vacuum_boxes": True}

BARE: dict[str, Any] = {"comment": ["energy"], "columns": {"forces": 5}}
BARE["labels"] = manifest_of("bare_comment")["labels"]
BARE["labels"][0]["forces"]["gradient"] = True

# name, what the manifest says besides, molecules and how many of each, levels with energies
GOOD: list[tuple[str, dict[str, Any], dict[str, int], int]] = [
    ("schnetpack_like", {}, {"H2O": 24}, 2),
    ("boxed_no_pbc", BOXES, {"H2O": 24}, 2),
    ("boxed_kliff", BOXES, {"H2O": 24}, 2),
    ("boxed_zero_lattice", {}, {"H2O": 24}, 2),
    ("charges_mixed", {}, {"H2O": 24, "H2O, charge -1": 6}, 2),
    ("bare_comment", BARE, {"H2O": 24}, 1),
    ("flat_int_molecules", {}, {"3": 24, "5": 24}, 2),
    ("names_like_numbers", {}, {"007": 24, "7": 24}, 2),
    ("spelling_deuterium", {}, {"H2O": 24}, 2),
    ("spelling_numbers", {}, {"H2O": 24}, 2),
    ("spelling_labels", {}, {"H2O": 24}, 2),
    ("spelling_d_exponent", {}, {"H2O": 24}, 2),
    ("spelling_none", {}, {"H2O": 24}, 2),
]


@pytest.mark.parametrize(("name", "says", "molecules", "levels"), GOOD, ids=[one[0] for one in GOOD])
def test_is_imported(name: str, says: dict[str, Any], molecules: dict[str, int], levels: int, tmp_path: Path) -> None:
    found, _ = imported(file_of(name), manifest_of(name) | says, tmp_path)
    counts = np.bincount(found.molecule, minlength=len(found.molecules)).tolist()
    assert dict(zip(found.molecules, counts)) == molecules
    assert found.energy_mask.any(0).sum() == levels
    assert found.force_mask[:, 0].all()


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("flat_units_contradict", {}, r"key 'cc_energy': the file states the unit 'hartree', the manifest 'eV'"),
    ("flat_with_cell", {}, r"flat_with_cell.h5: structure 0: .* periodic structure; .* `vacuum_boxes: true`"),
    ("boxed_no_pbc", {}, r"boxed_no_pbc.extxyz: structure 0: .* `vacuum_boxes: true`"),
    ("boxed_kliff", {}, r"boxed_kliff.extxyz: structure 0: .* `vacuum_boxes: true`"),
    ("bare_comment", {}, r"comment lines are bare: .* `comment: \[energy\]`.*`columns: \{forces: 5\}`"),
    ("heads_nested", {}, r"key 'REF_energy': expected labels of one level; the key 'head' parts them \(cc, dft\)"),
    ("spice_like", {}, r"key 'dft_total_gradient' is called a gradient.*`gradient: true`"),
]


@pytest.mark.parametrize(("name", "says", "reason"), REFUSED, ids=[one[0] for one in REFUSED])
def test_is_refused_with_the_reason(name: str, says: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        imported(file_of(name), manifest_of(name) | says, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.h5"))


def test_labels_that_another_key_tells_apart(tmp_path: Path) -> None:
    manifest = manifest_of("heads_nested")
    (dft,) = manifest["labels"]
    cc = {"level": CC, "energy": dft["energy"], "where": {"head": "cc"}}
    found, _ = imported(
        file_of("heads_nested"), manifest | {"labels": [dft | {"where": {"head": "dft"}}, cc]}, tmp_path
    )
    assert found.energy_mask.sum(0).tolist() == [48, 16]
    assert not (found.energy_mask.all(1)).any()
    assert set(found.geometry[found.energy_mask[:, 1]]) <= set(found.geometry[found.energy_mask[:, 0]])
    assert found.force_mask.sum(0).tolist() == [48, 0]
    gap = found.energies[found.energy_mask[:, 1], 1].mean() - found.energies[found.energy_mask[:, 0], 0].mean()
    assert 0.5 < gap < 2  # eV: what coupled cluster adds, and not another molecule


def test_a_parting_key_may_be_left_aside(tmp_path: Path) -> None:
    frames = ase.io.read(file_of("heads_nested"), ":")
    kept = [frame for frame in frames if frame.info["head"] == "dft"]
    for k, frame in enumerate(kept):
        frame.info["head"] = f"batch{k % 2}"
    ase.io.write(tmp_path / "two.extxyz", kept)
    manifest = manifest_of("heads_nested")
    with pytest.raises(UserError, match=r"'head' parts them \(batch0, batch1\)"):
        imported(tmp_path / "two.extxyz", manifest, tmp_path)
    found, _ = imported(tmp_path / "two.extxyz", manifest | {"ignored_keys": ["head"]}, tmp_path)
    assert len(found) == 48


def test_groups_with_gradients(tmp_path: Path) -> None:
    manifest = manifest_of("spice_like")
    manifest["labels"][0]["forces"]["gradient"] = True
    found, _ = imported(file_of("spice_like"), manifest, tmp_path)
    assert found.molecules == ("CH4", "H2O")
    with h5py.File(file_of("spice_like")) as file:
        gradient, energy = file["H2O/dft_total_gradient"][()], file["H2O/dft_total_energy"][()]
        positions = file["H2O/conformations"][()]
    water = found[np.flatnonzero(found.molecule == 1)]
    assert water.energies[:, 0] == pytest.approx(energy * HARTREE, abs=1e-9)
    assert water.positions.reshape(positions.shape) == pytest.approx(positions * BOHR, abs=1e-9)
    assert water.forces[0].reshape(positions.shape) == pytest.approx(-gradient * HARTREE / BOHR, abs=1e-5)


def torchani(path: Path, frames: list[Any]) -> None:
    """A file as TorchANI's: groups in groups, symbols for elements."""
    with h5py.File(path, "w") as file:
        group = file.create_group("set/water")
        group["species"] = [symbol.encode() for symbol in frames[0].get_chemical_symbols()]
        group["coordinates"] = np.stack([frame.positions for frame in frames])
        group["energies"] = np.array([frame.info["dft_energy"] for frame in frames]) / HARTREE
        group["forces"] = np.stack([frame.arrays["dft_forces"] for frame in frames]) / HARTREE


def water(name: str = "boxed_zero_lattice") -> list[Any]:
    frames = ase.io.read(file_of(name), ":")
    for frame in frames:
        frame.pbc, frame.cell = False, None
    return frames


def test_groups_in_groups(tmp_path: Path) -> None:
    torchani(tmp_path / "ani.h5", water())
    labels = {
        "level": DFT,
        "energy": {"key": "energies", "unit": "hartree"},
        "forces": {"key": "forces", "unit": "hartree/angstrom"},
    }
    base = {key: value for key, value in manifest_of("spice_like").items() if key != "length_unit"}
    found, _ = imported(tmp_path / "ani.h5", base | {"labels": [labels]}, tmp_path)
    assert found.molecules == ("water",)
    expected = [frame.info["dft_energy"] for frame in water()]
    assert found.energies[:, 0] == pytest.approx(expected, abs=1e-6)


def test_keys_of_groups_are_named_where_they_are_others(tmp_path: Path) -> None:
    torchani(tmp_path / "ani.h5", water())
    with h5py.File(tmp_path / "ani.h5", "a") as file:
        file["set/water"].move("species", "kinds")
    labels = {"level": DFT, "energy": {"key": "energies", "unit": "Ha"}}
    base = {key: value for key, value in manifest_of("spice_like").items() if key != "length_unit"}
    with pytest.raises(
        UserError, match=r"holds coordinates, energies, forces, kinds: name the right one with `numbers_key`"
    ):
        imported(tmp_path / "ani.h5", base | {"labels": [labels]}, tmp_path)
    found, _ = imported(tmp_path / "ani.h5", base | {"labels": [labels], "numbers_key": "kinds"}, tmp_path)
    assert len(found) == 24


def test_a_link_in_the_middle_of_a_key_is_not_followed(tmp_path: Path) -> None:
    torchani(tmp_path / "other.h5", water())
    with h5py.File(tmp_path / "ani.h5", "w") as file:
        file["set"] = h5py.ExternalLink("other.h5", "/set")
    labels = {"level": DFT, "energy": {"key": "energies", "unit": "Ha"}}
    with pytest.raises(UserError, match="expected it in this file, got a link to another place"):
        imported(tmp_path / "ani.h5", manifest_of("spice_like") | {"labels": [labels]}, tmp_path)


# Spellings


def rewritten(
    folder: Path, change: Callable[[str], str], name: str = "boxed_zero_lattice", encoding: str = "utf-8"
) -> Path:
    text = file_of(name).read_text().replace('Lattice="0 0 0 0 0 0 0 0 0" ', "")
    (folder / "file.extxyz").write_bytes(change(text).encode(encoding))
    return folder / "file.extxyz"


SPELLINGS: dict[str, Callable[[str], str]] = {
    "byte order mark": lambda text: "\ufeff" + text,
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "deuterium": lambda text: re.sub(r"^H ", "D ", text, flags=re.M),
    "numbers": lambda text: re.sub(r"^O ", "8 ", re.sub(r"^H ", "1 ", text, flags=re.M), flags=re.M),
    "spaces": lambda text: re.sub(r"^3$", "   3", text, flags=re.M),
    "no label": lambda text: text.replace("dft_energy", "charge=None dft_energy"),
    "exponents": lambda text: re.sub(r"dft_energy=(-?)(\d)(\d+)\.(\d+)", r"dft_energy=\1\2.\3\4D+03", text),
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_spellings_give_the_same_numbers(kind: str, tmp_path: Path) -> None:
    plain, _ = imported(file_of("boxed_zero_lattice"), manifest_of("boxed_zero_lattice"), tmp_path)
    found, checked = imported(rewritten(tmp_path, SPELLINGS[kind]), manifest_of("boxed_zero_lattice"), tmp_path)
    assert np.array_equal(found.numbers, plain.numbers)
    assert np.array_equal(found.positions, plain.positions)
    assert found.energies == pytest.approx(plain.energies, abs=1e-9)
    assert np.array_equal(found.forces, plain.forces)
    told = [one for one in checked.findings if "deuterium" in one.found]
    assert bool(told) == (kind == "deuterium")


def test_latin_1(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda text: text.replace("dft_energy", "by=Müller dft_energy"), encoding="latin-1")
    assert len(imported(path, manifest_of("boxed_zero_lattice"), tmp_path)[0]) == 24


def test_gzip_and_trajectory(tmp_path: Path) -> None:
    manifest = manifest_of("boxed_zero_lattice")
    plain, _ = imported(file_of("boxed_zero_lattice"), manifest, tmp_path)
    packed = tmp_path / "file.xyz.gz"
    packed.write_bytes(gzip.compress(file_of("boxed_zero_lattice").read_bytes()))
    found, _ = imported(packed, manifest, tmp_path)
    assert np.array_equal(found.energies, plain.energies)
    frames = water()
    for frame in frames:
        frame.calc = SinglePointCalculator(frame, energy=frame.info["dft_energy"], forces=frame.arrays["dft_forces"])
    ase.io.write(tmp_path / "file.traj", frames)
    labels = [{"level": DFT, "energy": {"key": "energy", "unit": "eV"}, "forces": {"key": "forces", "unit": "eV/A"}}]
    found, _ = imported(tmp_path / "file.traj", manifest | {"format": "ase", "labels": labels}, tmp_path)
    assert np.array_equal(found.energies[:, 0], plain.energies[:, 0])


UNITS = {"mHa": 1e3 / HARTREE, "mEh": 1e3 / HARTREE, "kJ/mol": 96.48533212, "eV/atom": 1 / 3}


@pytest.mark.parametrize("unit", UNITS)
def test_units_of_energy(unit: str, tmp_path: Path) -> None:
    frames = water()
    for frame in frames:
        frame.info["dft_energy"] *= UNITS[unit]
    ase.io.write(tmp_path / "file.extxyz", frames)
    manifest = manifest_of("boxed_zero_lattice")
    manifest["labels"][0]["energy"]["unit"] = unit
    plain, _ = imported(file_of("boxed_zero_lattice"), manifest_of("boxed_zero_lattice"), tmp_path)
    found, _ = imported(tmp_path / "file.extxyz", manifest, tmp_path)
    assert found.energies == pytest.approx(plain.energies, abs=2e-6)


def test_lengths_in_nm(tmp_path: Path) -> None:
    frames = water()
    for frame in frames:
        frame.positions /= 10
        frame.arrays["dft_forces"] *= 10
    ase.io.write(tmp_path / "file.extxyz", frames)
    manifest = manifest_of("boxed_zero_lattice") | {"length_unit": "nm"}
    manifest["labels"][0]["forces"]["unit"] = "eV/nm"
    found, _ = imported(tmp_path / "file.extxyz", manifest, tmp_path)
    assert found.positions.reshape(-1, 3, 3) == pytest.approx(np.stack([one.positions for one in water()]), abs=1e-6)


@pytest.mark.parametrize(
    "text", ["2\n999\nH 0 0 0\nH 0 0 0.7\n", "2\nProperties=species:S:1:pos:R:999999999\nH 0 0 0\nH 0 0 1\n"]
)
def test_columns_without_end(text: str, tmp_path: Path) -> None:
    (tmp_path / "file.extxyz").write_text(text)
    with pytest.raises(UserError, match=r"file.extxyz"):
        imported(tmp_path / "file.extxyz", manifest_of("boxed_zero_lattice"), tmp_path)


@pytest.mark.parametrize("symbol", ["Xx", "CA", "13C", "200", "0"])
def test_what_is_no_element_is_named_with_its_row(symbol: str, tmp_path: Path) -> None:
    lines = file_of("boxed_zero_lattice").read_text().splitlines()
    lines[7] = lines[7].replace("O ", f"{symbol} ", 1)
    (tmp_path / "file.extxyz").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"structure 1, atom 0: expected an element, got '{symbol}'"):
        imported(tmp_path / "file.extxyz", manifest_of("boxed_zero_lattice"), tmp_path)


def test_a_locked_file_says_so(tmp_path: Path) -> None:
    shutil.copy(file_of("flat_int_molecules"), tmp_path / "file.h5")
    code = (
        "import sys; from pathlib import Path; from mfbench.data.readers.base import open_hdf5\n"
        "try: open_hdf5(Path(sys.argv[1]))\nexcept Exception as error: print(error)"
    )
    with h5py.File(tmp_path / "file.h5", "a"):
        command = [sys.executable, "-c", code, str(tmp_path / "file.h5")]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "it is locked: close the program that writes it" in told
    assert "HDF5_USE_FILE_LOCKING=FALSE" in told


# Several files


def test_several_files_each_with_its_own_keys(tmp_path: Path) -> None:
    frames = water()
    low, high = [frame.copy() for frame in frames], [frame.copy() for frame in frames[::3]]
    for frame in low:
        del frame.info["cc_energy"]
    for frame in high:
        frame.info = {"E": frame.info["cc_energy"] / HARTREE}
        del frame.arrays["dft_forces"]
    ase.io.write(tmp_path / "low.extxyz", low)
    ase.io.write(tmp_path / "high.extxyz", high)
    whole = manifest_of("boxed_zero_lattice")
    dft = whole.pop("labels")[0]
    cc = {"level": CC, "energy": {"key": "E", "unit": "Ha"}}
    whole["files"] = [{"name": "low.extxyz", "labels": [dft]}, {"name": "high.extxyz", "labels": [cc]}]
    found, _ = imported([tmp_path / "low.extxyz", tmp_path / "high.extxyz"], whole, tmp_path)
    assert found.levels == (DFT, CC)
    assert found.energy_mask.sum(0).tolist() == [24, 8]
    assert set(found.geometry[24:]) <= set(found.geometry[:24])  # overlap by geometry, as always
    with pytest.raises(UserError, match=r"files: expected those of the command line \(low.extxyz\)"):
        imported([tmp_path / "low.extxyz"], whole, tmp_path)


# Charge and spin


WATER, RADICAL = np.array([8, 1, 1]), np.array([6, 1, 1, 1])


@pytest.mark.parametrize(
    ("values", "numbers", "state"),
    [
        ({}, WATER, State()),
        ({"charge": "0"}, WATER, State()),
        ({"charge": 0, "multiplicity": 1}, WATER, State()),
        ({"multiplicity": 2}, RADICAL, State()),
        ({"multiplicity": 3}, WATER, State(None, 3)),
        ({"total_charge": 1, "spin_multiplicity": 2}, WATER, State(1)),
        ({"total_charge": 1, "spin_multiplicity": 4}, WATER, State(1, 4)),
        ({"charge": -1.0, "total_charge": "-1"}, RADICAL, State(-1)),
        ({"Charge": "1", "multiplicity": 1}, RADICAL, State(1)),
        ({"multiplicity": 3, "spin": 2}, WATER, State(None, 3)),
        ({"q": 2}, WATER, State(2)),
        # Either the multiplicity, or the number of unpaired electrons.
        ({"spin": 0}, WATER, State()),
        ({"spin": 1}, WATER, State()),
        ({"spin": 2}, WATER, State(None, 3)),
        ({"spin": 3}, WATER, State(None, 3)),
        ({"spin": 1}, RADICAL, State()),
        ({"spin": 2}, RADICAL, State()),
        ({"spin": 3}, RADICAL, State(None, 4)),
        ({"spin": 1, "charge": 1}, RADICAL, State(1)),
    ],
)
def test_states(values: dict[str, Any], numbers: np.ndarray, state: State) -> None:
    assert state_of(values, numbers, ("q", None)) == state


@pytest.mark.parametrize(
    "values", [{"charge": 0.5}, {"charge": "x"}, {"charge": 1, "total_charge": 0}, {"charge": [1, 0]}]
)
def test_what_is_no_charge(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected"):
        state_of(values, WATER)


def test_states_of_atoms() -> None:
    def state(**info: Any) -> State:
        return state_of(stated_by(water, info), WATER)

    water = molecule("H2O")
    assert state() == State()
    water.set_initial_charges([-0.834, 0.417, 0.417])  # of a force field: no whole number in all
    assert state() == State()
    water.set_initial_charges([0.999, 0, 0])
    water.set_initial_magnetic_moments([-1, 0, 0])
    assert state() == State(1)
    water.set_initial_magnetic_moments([3, 0, 0])
    assert state() == State(1, 4)
    assert state(charge=0, Spin=1) == State()  # what is said of the whole goes before its atoms


def test_charges_of_atoms_are_read(tmp_path: Path) -> None:
    frames = ase.io.read(file_of("isolated_atoms"), ":")
    for k, atoms in enumerate(frames):
        energy, forces = atoms.info["REF_energy"], atoms.arrays.get("REF_forces")
        atoms.set_initial_charges([float(k % 2 and len(atoms) > 1), *np.zeros(len(atoms) - 1)])
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    ase.io.write(tmp_path / "file.traj", frames)
    labels = [{"level": DFT, "energy": {"key": "energy", "unit": "eV"}, "forces": {"key": "forces", "unit": "eV/A"}}]
    manifest = manifest_of("isolated_atoms") | {"format": "ase", "labels": labels}
    found, _ = imported(tmp_path / "file.traj", manifest, tmp_path)
    assert sorted(found.molecules) == ["CH4", "CH4, charge 1", "H2O", "H2O, charge 1"]


@pytest.mark.parametrize(
    ("values", "numbers", "words"),
    [
        ({"multiplicity": 2}, WATER, "'multiplicity': expected an odd multiplicity of 10 electrons, got 2"),
        ({"multiplicity": -1}, WATER, "expected an odd multiplicity of 10 electrons, got -1"),
        ({"charge": 1, "multiplicity": 0}, WATER, "expected an even multiplicity of 9 electrons, got 0"),
        (
            {"spin": 0},
            RADICAL,
            "'spin': expected an even multiplicity or an odd number of unpaired ones of 9 electrons",
        ),
        ({"Spin": 12}, WATER, r"say `ignored_keys: \[Spin\]`"),
    ],
)
def test_what_so_many_electrons_cannot_have(values: dict[str, Any], numbers: np.ndarray, words: str) -> None:
    with pytest.raises(UserError, match=words):
        state_of(values, numbers)


def test_a_key_that_is_no_spin_may_be_left_aside(tmp_path: Path) -> None:
    for k, frame in enumerate(frames := water()):
        frame.info["spin"] = 2 * (k % 2) + 3.0
    ase.io.write(tmp_path / "spins.extxyz", frames)
    manifest = manifest_of("boxed_zero_lattice")
    found, _ = imported(tmp_path / "spins.extxyz", manifest, tmp_path)
    assert sorted(found.molecules) == ["H2O, multiplicity 3", "H2O, multiplicity 5"]
    found, _ = imported(tmp_path / "spins.extxyz", manifest | {"ignored_keys": ["spin"]}, tmp_path)
    assert found.molecules == ("H2O",)


@pytest.mark.parametrize("form", [int, lambda k: np.array([k]), lambda k: [k]], ids=["number", "array", "list"])
def test_charges_of_a_database(form: Any, tmp_path: Path) -> None:
    with ase.db.connect(tmp_path / "charges.db") as database:
        for k, atoms in enumerate(water()):
            labels = {"energy": atoms.info["dft_energy"], "forces": atoms.arrays["dft_forces"]}
            database.write(atoms, data={**labels, "total_charge": form(k % 2)})
    labels = [{"level": DFT, "energy": {"key": "energy", "unit": "eV"}, "forces": {"key": "forces", "unit": "eV/A"}}]
    manifest = manifest_of("boxed_zero_lattice") | {"format": "ase", "labels": labels}
    found, _ = imported(tmp_path / "charges.db", manifest, tmp_path)
    assert sorted(found.molecules) == ["H2O", "H2O, charge 1"]
    with ase.db.connect(tmp_path / "charges.db") as database:
        database.update(1, data={"total_charge": np.array([1.0, 0.0])})
    with pytest.raises(UserError, match="structure 0: key 'total_charge': expected one whole number, got array"):
        imported(tmp_path / "charges.db", manifest, tmp_path)


@pytest.mark.parametrize("state", [State(), State(1), State(-2, 3), State(None, 3)])
def test_a_name_tells_the_state(state: State) -> None:
    assert stated_in(named("007, or so", state)) == state


@pytest.mark.parametrize("state", [State(), State(1), State(-2, 3), State(None, 5)])
def test_a_state_is_kept_by_keys_and_named_once(state: State) -> None:
    numbers = np.array([8, 8, 1]) if state.charge == 1 else np.array([8, 1, 1])
    assert state_of(state.keyed(), numbers) == state
    assert named(named("007, or so", state), state) == named("007, or so", state)


def test_the_whole_state_has_what_is_usual_too() -> None:
    water, radical = np.array([8, 1, 1]), np.array([6, 1, 1, 1])
    assert {state: state.whole(water) for state in (State(), State(1), State(None, 3))} == {
        State(): (0, 1),
        State(1): (1, 2),
        State(None, 3): (0, 3),
    }
    assert State().whole(radical) == (0, 2)
    assert State(-1).whole(radical) == (-1, 1)


def test_charges_that_mix_within_a_group(tmp_path: Path) -> None:
    torchani(tmp_path / "ani.h5", water())
    with h5py.File(tmp_path / "ani.h5", "a") as file:
        file["set/water/charge"] = np.arange(24) % 2
    labels = {"level": DFT, "energy": {"key": "energies", "unit": "Ha"}}
    with pytest.raises(UserError, match="key 'charge': expected a whole number"):
        imported(tmp_path / "ani.h5", manifest_of("spice_like") | {"labels": [labels]}, tmp_path)


def test_a_molecule_has_one_formula(tmp_path: Path) -> None:
    frames = water() + [frame for frame in ase.io.read(file_of("names_like_numbers"), ":") if len(frame) != 3][:3]
    assert len({frame.get_chemical_formula() for frame in frames}) == 2
    for frame in frames:
        frame.info["molecule"] = "one"
    ase.io.write(tmp_path / "file.extxyz", frames)
    with pytest.raises(UserError, match=r"molecule 'one': expected one formula, got H2O and, in row 24"):
        imported(tmp_path / "file.extxyz", manifest_of("names_like_numbers"), tmp_path)


# Boxes


def test_a_box_without_vacuum_is_refused(tmp_path: Path) -> None:
    frames = water()
    for frame in frames:
        frame.cell, frame.pbc = [5.0, 5.0, 5.0], True
    ase.io.write(tmp_path / "file.extxyz", frames)
    manifest = manifest_of("boxed_zero_lattice") | BOXES
    with pytest.raises(UserError, match=r"structure 0: vacuum_boxes: expected at least 4 Angstrom"):
        imported(tmp_path / "file.extxyz", manifest, tmp_path)


def test_a_molecule_that_its_box_cuts_is_refused(tmp_path: Path) -> None:
    frames = water()
    for frame in frames:
        frame.cell, frame.pbc = [20.0, 20.0, 20.0], True
        frame.wrap()
    ase.io.write(tmp_path / "file.extxyz", frames)
    with pytest.raises(UserError, match="a molecule that is cut by its box"):
        imported(tmp_path / "file.extxyz", manifest_of("boxed_zero_lattice") | BOXES, tmp_path)


@pytest.mark.parametrize("key", ["cell", "lattice"])
def test_a_cell_in_an_npz_is_refused(key: str, tmp_path: Path) -> None:
    frames = water()
    arrays = {
        "z": frames[0].numbers,
        "R": np.stack([frame.positions for frame in frames]),
        "E": np.array([frame.info["dft_energy"] for frame in frames]),
        "F": np.stack([frame.arrays["dft_forces"] for frame in frames]),
    }
    np.savez(tmp_path / "file.npz", **arrays, **{key: 10 * np.eye(3)})
    labels = [{"level": DFT, "energy": {"key": "E", "unit": "eV"}, "forces": {"key": "F", "unit": "eV/Angstrom"}}]
    manifest = manifest_of("boxed_zero_lattice") | {"format": "sgdml", "labels": labels}
    with pytest.raises(UserError, match="`vacuum_boxes: true`"):
        imported(tmp_path / "file.npz", manifest, tmp_path)
    np.savez(tmp_path / "file.npz", **arrays, e_unit="kcal/mol", r_unit="Ang")
    with pytest.raises(UserError, match="e_unit: the file states the unit 'kcal/mol', the manifest 'eV'"):
        imported(tmp_path / "file.npz", manifest, tmp_path)


def test_units_on_the_comment_line(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda text: text.replace("dft_energy", "dft_energy_unit=Hartree dft_energy"))
    with pytest.raises(UserError, match="'dft_energy': the file states the unit 'Hartree', the manifest 'eV'"):
        imported(path, manifest_of("boxed_zero_lattice"), tmp_path)


# Manifests


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("title: x\ntitle: y\n", "line 2: expected each key once|expected each key once, got 'title' twice"),
        ("n_structures: 0x" + "f" * 100_000 + "\n", "expected an integer below"),
        ("n_structures: " + "9" * 100_000 + "\n", "cannot read"),
        ('title: "a\\0b"\n', "expected printable text"),
        ('title: "a\\e[31mb"\n', "expected printable text"),
    ],
)
def test_manifests_that_are_bombs(text: str, reason: str, tmp_path: Path) -> None:
    description = tmp_path / "tried.yaml"
    description.write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        import_files([file_of("boxed_zero_lattice")], description)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["*", "-rf", "a b", "a;b", "x" * 300, ".hidden"])
def test_names_from_a_safe_alphabet(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name: Value error, expected letters, digits"):
        imported(file_of("boxed_zero_lattice"), manifest_of("boxed_zero_lattice") | {"name": name}, tmp_path)


# Files of real users, where they are


def labels(level: str, energy: str, unit: str, forces: str = "", **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"level": level, "energy": {"key": energy, "unit": unit}}
    if forces:
        said["forces"] = {"key": forces, "unit": f"{unit}/Angstrom"}
    return said | more


QM9, OWN = "b3lyp/6-31g(2df,p)@45", "dft@40"

# files, what the manifest says, and structures, or the reason why they are refused
PEOPLE: dict[str, tuple[list[str], dict[str, Any], int | str]] = {
    "metatrain ethanol": (["mt_ethanol.xyz"], {"labels": [labels(OWN, "energy", "kcal/mol", "forces")]}, 100),
    "metatrain ethanol in eV": (["mt_ethanol.xyz"], {"labels": [labels(OWN, "energy", "eV", "forces")]}, "eV"),
    "predictions, not labels": (
        ["mt_ethanol_pred.xyz"],
        {"labels": [labels(OWN, "energy", "kcal/mol", "forces")]},
        "energies against forces",
    ),
    "QM9": (["mt_qm9.xyz"], {"labels": [labels(QM9, "U0", "Ha")]}, 100),
    "QM9 in eV": (["mt_qm9.xyz"], {"labels": [labels(QM9, "U0", "eV")]}, "Ha"),
    "SchNetPack QM9": (["spk_qm9.db"], {"format": "ase", "labels": [labels(QM9, "energy_U0", "Ha")]}, 20),
    "SchNetPack QM9 in eV": (
        ["spk_qm9.db"],
        {"format": "ase", "labels": [labels(QM9, "energy_U0", "eV")]},
        "the file states the unit 'Ha', the manifest 'eV'",
    ),
    "SchNetPack ethanol": (
        ["spk_ethanol.db"],
        {"format": "ase", "labels": [labels(OWN, "energy", "kcal/mol", "forces")]},
        20,
    ),
    "SchNetPack isomers": (
        ["spk_iso.db"],
        {"format": "ase", "labels": [labels("pbe+vdw-ts", "total_energy", "eV")]},
        40,
    ),
    "MACE tutorial": (
        ["tut_data_solvent_xtb_train_50.xyz"],
        {"labels": [labels("gfn2-xtb", "energy_xtb", "eV", "forces_xtb")]},
        50,
    ),
    "acetylacetone with its free atoms": (
        ["bot_dataset_acac_train_300K.xyz", "bot_dataset_acac_isolated_atoms.xyz"],
        {"labels": [labels("pbe@30", "energy", "eV", "forces")]},
        500,
    ),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_files_of_real_users(name: str, shared_real: Path, tmp_path: Path) -> None:
    files, says, right = PEOPLE[name]
    paths = [shared_real / "people" / file for file in files]
    manifest = {"title": name, "format": "extxyz", "license": "see there", "citation": {"text": "see there"}, **says}
    if isinstance(right, str):
        with pytest.raises(UserError, match=right):
            imported(paths, manifest, tmp_path)
    else:
        assert len(imported(paths, manifest, tmp_path)[0]) == right


# What would be left aside, or would never end


def test_free_atoms_may_share_a_name(tmp_path: Path) -> None:
    """MACE's standard files call all of them IsolatedAtom."""
    frames = ase.io.read(file_of("isolated_atoms"), ":")
    for atoms in frames:
        atoms.info["name"] = str(atoms.symbols) if len(atoms) > 1 else "IsolatedAtom"
    ase.io.write(tmp_path / "named.extxyz", frames)
    found, _ = imported(tmp_path / "named.extxyz", manifest_of("isolated_atoms") | {"molecule_key": "name"}, tmp_path)
    assert DFT in found.free_atoms


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"columns": {"forces": 5}, "format": "hdf5"}, "columns: expected none in the format hdf5"),
        ({"numbers_key": "z"}, "numbers_key: expected none in the format extxyz"),
        ({"molecule_key": "m", "format": "rmd17"}, "molecule_key: expected none in the format rmd17"),
    ],
)
def test_keys_that_a_format_does_not_read(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        imported(file_of("boxed_zero_lattice"), manifest_of("boxed_zero_lattice") | more, tmp_path)


def test_labels_of_files_that_would_be_left_aside(tmp_path: Path) -> None:
    manifest, path = manifest_of("boxed_zero_lattice"), file_of("boxed_zero_lattice")
    whole = manifest["labels"][0]
    bare = {key: value for key, value in whole.items() if key != "forces"}
    one = {"name": path.name, "labels": [whole]}
    with pytest.raises(UserError, match=f"forces at {re.escape(DFT)}: expected forces among the dataset's labels"):
        imported(path, manifest | {"labels": [bare], "files": [one]}, tmp_path)
    with pytest.raises(UserError, match="expected each level once, or each with its `where`"):
        imported(path, manifest | {"labels": [whole], "files": [{**one, "labels": [whole, whole]}]}, tmp_path)
    with pytest.raises(UserError, match="expected each name once"):
        imported(path, manifest | {"labels": [whole], "files": [one, one]}, tmp_path)


@pytest.mark.parametrize("unit", ["eV/atom", "Angstrom", "Rydberg", "eV/Angstrom", "Ha"])
def test_units_of_another_kind_that_a_file_states(unit: str, tmp_path: Path) -> None:
    text = file_of("boxed_zero_lattice").read_text()
    path = tmp_path / "stated.extxyz"
    path.write_text(text.replace("dft_energy=", f"dft_energy_unit={unit} dft_energy="))
    with pytest.raises(UserError, match=f"'dft_energy': the file states the unit '{unit}', the manifest 'eV'"):
        imported(path, manifest_of("boxed_zero_lattice"), tmp_path)


@pytest.mark.parametrize("line", ["x" * 10**6, "a={" * 10**5, 'a="' * 10**5, "a" + " " * 10**6, "a=[1 " * 10**5])
def test_long_comment_lines_end(line: str, tmp_path: Path) -> None:
    path = tmp_path / "long.extxyz"
    path.write_text(f"1\n{line}\nH 0 0 0\n")
    with pytest.raises(UserError):
        imported(path, manifest_of("boxed_zero_lattice"), tmp_path)


def test_counts_that_no_file_could_hold(tmp_path: Path) -> None:
    path = tmp_path / "odd.xyz.gz"
    path.write_bytes(gzip.compress(b"999999999\n\n" + b"\n" * 10**6))
    with pytest.raises(UserError, match="expected 999999999 atoms, the file is far too small"):
        imported(path, manifest_of("boxed_zero_lattice"), tmp_path)
    path.write_bytes(gzip.compress(b"\n1\n\nH 0 0 0\n"))
    with pytest.raises(UserError, match="expected a number of atoms at its beginning, got an empty line"):
        imported(path, manifest_of("boxed_zero_lattice"), tmp_path)
