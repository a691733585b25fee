"""Free atoms: mfbench's own energies, and frames of one atom, which are reference energies and no structures."""

import json
from pathlib import Path

import ase.io
import numpy as np
import problems
import pytest
from ase import Atoms
from conftest import FREE_ATOM_KEYS

import mfbench
from mfbench import resources, theory, units
from mfbench.cli.main import main
from mfbench.data import datasets, store
from mfbench.data.importing import import_files
from mfbench.data.manifest import Manifest
from mfbench.data.structures import Frames, Structures, assemble, join
from mfbench.elements import SYMBOLS
from mfbench.errors import DataCorrupt, UserError
from mfbench.free_atoms import FILE, energies_at, free_atoms_of

INPUTS = Path(__file__).parent / "inputs"
LEVEL = "wb97x/6-31g*"
FREE = {1: -13.587, 6: -1029.491, 8: -2041.983}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Energies of mfbench's own


def test_every_level_has_free_atoms_and_some_are_borrowed() -> None:
    table = json.loads(FILE.read_text())
    for name in theory.LEVELS:
        found = free_atoms_of(name)
        assert found is not None, name
        assert {1, 6, 7, 8, 9, 16, 17} <= found.energies.keys()
        assert found.exact == (name not in table["like"])
        assert bool(energies_at(name, {})) == found.exact  # what is borrowed is no reference
    assert free_atoms_of("mine@30") is None
    assert not energies_at("mine@30", {})


def test_it_agrees_with_what_the_mini_data_bring() -> None:
    own = json.loads((resources.mini_data() / "isolated_atoms.json").read_text())
    for level, key in FREE_ATOM_KEYS.items():
        found = free_atoms_of(level)
        assert found is not None
        for number in (1, 6, 7, 8):
            assert found.energies[number] / units.HARTREE == pytest.approx(own[SYMBOLS[number]][key], abs=1e-6)


def test_methods_are_in_order() -> None:
    """Correlation lowers the energy of every atom but hydrogen, and larger bases lower Hartree-Fock's."""
    for z in (6, 7, 8, 9, 16, 17):
        hf, mp2, ccsd, triples = (energies_at(f"{name}/cc-pvdz", {})[z] for name in ("hf", "mp2", "ccsd", "ccsd(t)"))
        assert hf > mp2
        assert ccsd > triples
        assert hf > ccsd
    for z in (1, 6, 7, 8):
        dz, tz, qz = (energies_at(f"hf/cc-pv{x}z", {})[z] for x in "dtq")
        assert dz > tz > qz
    # The numerical limit: Bunge et al., At. Data Nucl. Data Tables 53 (1993) 113.
    limits = {1: -0.5, 6: -37.688619, 7: -54.400934, 8: -74.809398, 9: -99.409349}
    for z, limit in limits.items():
        assert energies_at("hf/cc-pvqz", {})[z] / units.HARTREE == pytest.approx(limit, abs=0.01)


def test_what_the_data_bring_goes_before_what_is_known() -> None:
    found = energies_at(LEVEL, {LEVEL: {1: -13.0}})
    assert found[1] == -13.0
    assert found[6] == energies_at(LEVEL, {})[6]


# In files


def imported(*files: Path, manifest: Path = INPUTS / "isolated_atoms.yaml") -> Structures:
    return mfbench.load_data(import_files(list(files), manifest).name, progress=False)


def test_atoms_among_molecules_are_kept_apart_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    file = INPUTS / "isolated_atoms.extxyz"
    assert main(["data", "import", str(file), "--manifest", str(INPUTS / "isolated_atoms.yaml")]) == 0
    assert f"free atoms: H, C, O at {LEVEL}" in capsys.readouterr().out
    for command in ("info", "check"):
        assert main(["data", command, "isolated_atoms"]) == 0
        assert f"H, C, O at {LEVEL}" in capsys.readouterr().out
    data = mfbench.load_data("isolated_atoms", progress=False)
    frames = ase.io.read(file, ":")
    assert data.n_atoms.min() > 1
    assert len(data) == len(frames) - 3
    assert data.free_atoms == {LEVEL: FREE}
    assert data.row.tolist() == [k for k, one in enumerate(frames) if len(one) > 1]  # those of the file
    assert "O" not in data.molecules
    chosen = data[np.array([1, 0])]
    assert chosen.free_atoms == data.free_atoms


def test_atoms_in_a_file_of_their_own(tmp_path: Path) -> None:
    frames = ase.io.read(INPUTS / "isolated_atoms.extxyz", ":")
    atoms, molecules = tmp_path / "atoms.extxyz", tmp_path / "molecules.extxyz"
    for one in frames:
        one.info.pop("config_type")  # one atom is enough of a sign
    ase.io.write(atoms, [one for one in frames if len(one) == 1], format="extxyz")
    ase.io.write(molecules, [one for one in frames if len(one) > 1], format="extxyz")
    assert "REF_forces" not in atoms.read_text()
    for files in ((atoms, molecules), (molecules, atoms)):
        data = imported(*files)
        assert data.free_atoms == {LEVEL: FREE}
        assert data.files == ("molecules.extxyz",)
    with pytest.raises(DataCorrupt, match="expected structures, found none but free atoms"):
        imported(atoms)
    bare = tmp_path / "bare.extxyz"
    ase.io.write(bare, Atoms("H"), format="extxyz")
    with pytest.raises(DataCorrupt, match=r"bare\.extxyz: expected the keys .* no structure has them"):
        imported(molecules, bare)


def test_atoms_that_disagree_are_named(tmp_path: Path) -> None:
    frames = ase.io.read(INPUTS / "isolated_atoms.extxyz", ":")
    other = frames[0].copy()
    other.info["REF_energy"] = -13.5
    ase.io.write(tmp_path / "two.extxyz", [*frames, other], format="extxyz")
    message = rf"free atoms of H at {LEVEL.replace('*', '.')}: expected one energy, got -13\.587000 eV \(row 0 of two"
    with pytest.raises(DataCorrupt, match=message + rf".*-13\.500000 eV \(row {len(frames)} of two"):
        imported(tmp_path / "two.extxyz")
    other.info["REF_energy"] = -13.5871
    ase.io.write(tmp_path / "two.extxyz", [*frames, other], format="extxyz")
    assert imported(tmp_path / "two.extxyz").free_atoms[LEVEL][1] == -13.587


def declared(tmp_path: Path, free_atoms: object) -> Path:
    content = json.loads((INPUTS / "isolated_atoms.yaml").read_text()) | {"free_atoms": free_atoms}
    path = tmp_path / "declared.yaml"
    path.write_text(json.dumps(content))
    return path


def test_the_manifest_declares_what_the_files_do_not_have(tmp_path: Path) -> None:
    hartree = {"unit": "Ha", "H": FREE[1] / units.HARTREE, "N": -54.57}
    data = imported(INPUTS / "isolated_atoms.extxyz", manifest=declared(tmp_path, {LEVEL: hartree}))
    assert data.free_atoms[LEVEL][1] == pytest.approx(FREE[1])
    assert data.free_atoms[LEVEL][7] == pytest.approx(-54.57 * units.HARTREE)
    with pytest.raises(
        DataCorrupt, match=r"expected one energy, got -13\.60\d+ eV \(the manifest\) and -13\.587000 eV"
    ):
        imported(INPUTS / "isolated_atoms.extxyz", manifest=declared(tmp_path, {LEVEL: hartree | {"H": -0.5}}))


@pytest.mark.parametrize(
    ("free_atoms", "message"),
    [
        ({LEVEL: {"H": -0.5}}, "expected unit: a unit of energy"),
        ({LEVEL: {"unit": "eV/Angstrom", "H": -0.5}}, "expected unit: a unit of energy"),
        ({LEVEL: {"unit": "eV", "Hx": -0.5}}, "expected an energy for some of H, C"),
        ({LEVEL: {"unit": "eV", "H": "many"}}, "expected an energy for some of H, C"),
        ({"ccsd/cc-pvdz": {"unit": "eV", "H": -13.6}}, "are not among the levels"),
        ({LEVEL: {"unit": "eV", "N": -54.57}}, "free atoms: expected energies within 5 eV.*N: -54.57 eV"),
    ],
)
def test_what_a_manifest_may_not_declare(free_atoms: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        imported(INPUTS / "isolated_atoms.extxyz", manifest=declared(tmp_path, free_atoms))


def test_a_conversion_keeps_them(tmp_path: Path) -> None:
    imported(INPUTS / "isolated_atoms.extxyz")
    with store.Reader(next((tmp_path / "cache").glob("*/*.h5"))) as reader:
        assert reader.outline.free_atoms == {LEVEL: FREE}
        assert next(reader.batches()).free_atoms == {LEVEL: FREE}
    content = json.loads((INPUTS / "isolated_atoms.yaml").read_text())
    path = INPUTS / "isolated_atoms.extxyz"
    content |= {"name": "again", "files": [{"name": path.name, "sha256": "0" * 64}]}
    manifest = Manifest.model_validate(content)
    problems.same_structures(
        datasets.read(manifest, [path]), store.read(datasets.convert(manifest, [path], tmp_path / "x.h5"))
    )


def test_files_converted_before_are_read_unless_atoms_are_among_their_structures(tmp_path: Path) -> None:
    import h5py

    imported(INPUTS / "isolated_atoms.extxyz")
    path = next((tmp_path / "cache").glob("*/*.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 1
        del file.attrs["free_atoms"]
    assert store.read(path).free_atoms == {}
    assert store.free_atoms(path) == {}
    with h5py.File(path, "r+") as file:  # as version 1 wrote it: a structure of one atom
        file["offsets"][1] = 1
    with pytest.raises(DataCorrupt, match="convert the dataset anew"):
        store.read(path)


# In memory


def piece(numbers: tuple[int, ...], energies: list[float], name: str = "x") -> Frames:
    energy = np.array([energies])
    positions = np.arange(len(numbers))[None, :, None] * np.ones(3)
    return Frames(name, np.array(numbers, np.uint8), positions, energy, [None] * len(energies), name, np.array([0]))


def test_levels_that_an_atom_lacks_are_not_invented() -> None:
    data = assemble((LEVEL, "ccsd/cc-pvdz"), [piece((1,), [-13.6, np.nan]), piece((1, 1), [-31.0, -31.5])])
    assert data.free_atoms == {LEVEL: {1: -13.6}}
    assert len(data) == 1


def test_joined_datasets_share_them_and_may_not_disagree() -> None:
    one = assemble((LEVEL,), [piece((1,), [-13.6]), piece((1, 1), [-31.0])])
    other = assemble(("ccsd/cc-pvdz",), [piece((8,), [-2038.0], "o"), piece((1, 1), [-31.0], "p")])
    assert join([one, other]).free_atoms == {LEVEL: {1: -13.6}, "ccsd/cc-pvdz": {8: -2038.0}}
    bad = assemble((LEVEL,), [piece((1,), [-13.0], "q"), piece((1, 1), [-31.0], "q")])
    with pytest.raises(DataCorrupt, match=r"free atoms of H at .* expected one energy in all datasets"):
        join([one, bad])
    request = datasets.DataRequest(("mini-ani1x",), (LEVEL,))
    assert request.load().free_atoms == {}
