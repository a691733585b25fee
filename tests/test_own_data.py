"""People's own data: extxyz, ASE databases and plain HDF5 hold what was put in, in any unit, or say what is wrong."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import ase.units
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import ROOT
from problems import same_structures
from writers import structures_as_atoms, write_ase, write_extxyz, write_hdf5, write_own

from mfbench.data import datasets, store
from mfbench.data.importing import import_files
from mfbench.data.manifest import Manifest
from mfbench.data.reading import read
from mfbench.data.structures import Structures
from mfbench.errors import DataCorrupt

LOW, HIGH = "wb97x/6-31g*", "ccsd(t)*/cbs"
MOLECULES = ("H2O", "CH3OH", "HCN")
Writer = Callable[[Path, Structures], None]


@pytest.fixture(scope="module")
def source() -> Structures:
    """Some of the mini data: both levels' energies, low-level forces; high-level forces for the last frames."""
    whole = datasets.load("mini-ani1x", levels=(LOW, HIGH))
    return whole[np.flatnonzero(np.isin(whole.molecule, [whole.molecules.index(name) for name in MOLECULES]))]


def declare(fmt: str, path: Path, unit: str = "eV", **changes: Any) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "own",
            "title": "One's own",
            "format": fmt,
            "license": "any",
            "citation": {"text": "somebody"},
            "molecule_key": "molecule",
            "set_key": "split",
            "files": [{"name": path.name, "sha256": "0" * 64}],
            "labels": [
                {
                    "level": LOW,
                    "energy": {"key": "dft_energy", "unit": unit},
                    "forces": {"key": "dft_forces", "unit": f"{unit}/Angstrom"},
                },
                {
                    "level": HIGH,
                    "energy": {"key": "cc_energy", "unit": unit},
                    "forces": {"key": "cc_forces", "unit": f"{unit}/Angstrom"},
                },
            ],
            **changes,
        }
    )


FORMATS: dict[str, tuple[str, Writer]] = {
    "extxyz": ("own.extxyz", write_extxyz),
    "ase": ("own.db", write_ase),
    "hdf5": ("own.h5", write_hdf5),
}


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_was_put_in_comes_out(fmt: str, tmp_path: Path, source: Structures) -> None:
    name, write = FORMATS[fmt]
    path = tmp_path / name
    write(path, source)
    got = read(declare(fmt, path), [path])
    assert got.levels == (LOW, HIGH)
    assert [got.molecules[k] for k in got.molecule] == [source.molecules[k] for k in source.molecule]
    assert got.row.tolist() == list(range(len(source)))
    assert got.in_set("test").tolist() == [s % 4 == 0 for s in range(len(source))]
    assert got.in_set("train").tolist() == [s % 4 != 0 for s in range(len(source))]
    np.testing.assert_array_equal(got.energy_mask, source.energy_mask)
    np.testing.assert_array_equal(got.force_mask, source.force_mask)
    assert 0 < got.force_mask[:, 1].sum() < len(got)
    np.testing.assert_array_equal(got.numbers, source.numbers)
    np.testing.assert_allclose(got.positions, source.positions, atol=1e-7)
    np.testing.assert_allclose(got.energies, source.energies, rtol=1e-12)
    np.testing.assert_allclose(got.forces, source.forces, atol=1e-6)


@pytest.mark.parametrize("fmt", FORMATS)
def test_through_the_converted_file(fmt: str, tmp_path: Path, source: Structures) -> None:
    name, write = FORMATS[fmt]
    write(tmp_path / name, source)
    declared = declare(fmt, tmp_path / name)
    converted = datasets.convert(declared, [tmp_path / name], tmp_path / "converted.h5")
    same_structures(store.read(converted), read(declared, [tmp_path / name]))


@pytest.mark.parametrize("fmt", FORMATS)
def test_units_are_converted(fmt: str, tmp_path: Path, source: Structures) -> None:
    """The same numbers, declared in kcal/mol and kcal/mol/Angstrom."""
    name, write = FORMATS[fmt]
    write(tmp_path / name, source)
    got = read(declare(fmt, tmp_path / name, "kcal/mol"), [tmp_path / name])
    factor = ase.units.kcal / ase.units.mol
    np.testing.assert_allclose(got.energies, source.energies * factor, rtol=1e-6)
    np.testing.assert_allclose(got.forces, source.forces * factor, rtol=1e-5, atol=1e-6)


def test_labels_that_ase_takes_for_its_own(tmp_path: Path, source: Structures) -> None:
    """Keys called energy and forces end in a calculator when ASE reads them; they are keys like any other."""
    frames = []
    for atoms, scalars, arrays in structures_as_atoms(source):
        atoms.calc = SinglePointCalculator(atoms, energy=scalars["dft_energy"], forces=arrays["dft_forces"])
        frames.append(atoms)
    ase.io.write(tmp_path / "own.extxyz", frames, format="extxyz")
    with ase.db.connect(tmp_path / "own.db") as database:
        for atoms in frames:
            database.write(atoms)
    labels = [
        {"level": LOW, "energy": {"key": "energy", "unit": "eV"}, "forces": {"key": "forces", "unit": "eV/Angstrom"}}
    ]
    for fmt, name in (("extxyz", "own.extxyz"), ("ase", "own.db")):
        declared = declare(fmt, tmp_path / name, labels=labels, molecule_key=None, set_key=None)
        got = read(declared, [tmp_path / name])
        np.testing.assert_allclose(got.energies[:, 0], source.energies[:, 0], rtol=1e-12)
        np.testing.assert_allclose(got.forces[0], source.forces[0], atol=1e-6)
        assert got.molecules == ("CH4O", "CHN", "H2O")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_key_that_no_structure_has(fmt: str, tmp_path: Path, source: Structures) -> None:
    name, write = FORMATS[fmt]
    write(tmp_path / name, source)
    declared = declare(fmt, tmp_path / name, labels=[{"level": LOW, "energy": {"key": "dft_enrgy", "unit": "eV"}}])
    with pytest.raises(DataCorrupt, match="dft_enrgy"):
        read(declared, [tmp_path / name])


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("raw", [b"", b"<html>challenge</html>\n", b"12\nnot a frame\n", b"\0" * 5000])
def test_not_such_a_file(fmt: str, raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / FORMATS[fmt][0]
    path.write_bytes(raw)
    with pytest.raises(
        DataCorrupt,
        match=rf"{path.name}: (not a readable {fmt} file|structure 0: expected)|expected structures, found none",
    ):
        read(declare(fmt, path), [path])


@pytest.mark.parametrize("fmt", FORMATS)
def test_cut_short(fmt: str, tmp_path: Path, source: Structures) -> None:
    name, write = FORMATS[fmt]
    path = tmp_path / name
    write(path, source)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2 + 7])
    with pytest.raises(DataCorrupt, match=rf"{path.name}"):
        read(declare(fmt, path), [path])


def rewrite(path: Path, key: str, value: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[key]
        if value is not None:
            file[key] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("n_atoms", None, "expected the key 'n_atoms'"),
        ("molecule", None, "expected the key 'molecule'"),
        ("numbers", np.array([1, 2, 3]), r"key 'numbers': expected \d+ rows, got shape \(3,\)"),
        ("dft_energy", np.zeros(5), r"key 'dft_energy': expected \d+ rows, got shape \(5,\)"),
        ("dft_energy", np.float64(5), "key 'dft_energy': expected an array"),
        ("n_atoms", [b"three"], "key 'n_atoms': expected real numbers"),
        ("n_atoms", np.array([-3, 3]), "expected positive whole numbers"),
        ("n_atoms", np.array([2.5, 3.5]), "expected positive whole numbers"),
    ],
)
def test_damaged_plain_hdf5(key: str, value: Any, message: str, tmp_path: Path, source: Structures) -> None:
    path = tmp_path / "own.h5"
    write_hdf5(path, source)
    rewrite(path, key, value)
    with pytest.raises(DataCorrupt, match=message):
        read(declare("hdf5", path), [path])


def test_wrong_shape_of_one_structure(tmp_path: Path, source: Structures) -> None:
    path = tmp_path / "own.db"
    with ase.db.connect(path) as database:
        for k, (atoms, scalars, arrays) in enumerate(structures_as_atoms(source)[:5]):
            forces = arrays["dft_forces"][:-1] if k == 3 else arrays["dft_forces"]
            database.write(
                atoms,
                data={"dft_energy": scalars["dft_energy"], "dft_forces": forces, "cc_energy": 0.0, "cc_forces": forces},
            )
    with pytest.raises(DataCorrupt, match=r"own\.db: structure 3, key 'dft_forces': expected shape="):
        read(declare("ase", path), [path])


def test_nothing_of_a_database_is_executed(tmp_path: Path, source: Structures) -> None:
    """A path is a file, never the address of a server or another backend."""
    for name in ("postgresql://user@host/db", "own.json"):
        with pytest.raises(DataCorrupt, match="not a readable ase file"):
            read(declare("ase", tmp_path / "own.db"), [tmp_path / name])
    assert not list(tmp_path.iterdir())


def test_an_empty_line_between_structures(tmp_path: Path, source: Structures) -> None:
    """ASE reads no further; here it is an error. Empty lines at the end are none."""
    path = tmp_path / "own.extxyz"
    write_extxyz(path, source)
    text = path.read_text()
    path.write_text(text + "\n\n")
    assert len(read(declare("extxyz", path), [path])) == len(source)
    lines = text.splitlines(keepends=True)
    path.write_text("".join([*lines[: source.n_atoms[0] + 2], "\n", *lines[source.n_atoms[0] + 2 :]]))
    with pytest.raises(DataCorrupt, match="after structure 0, got an empty line"):
        read(declare("extxyz", path), [path])


def test_periodic_structures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.extxyz"
    ase.io.write(path, [Atoms("H2", [[0, 0, 0], [0.74, 0, 0]], cell=[3, 3, 3], pbc=True)], format="extxyz")
    with pytest.raises(DataCorrupt, match="expected isolated molecules, got a periodic structure"):
        read(declare("extxyz", path), [path])


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("key", ["molecule_key", "set_key"])
def test_misspelled_keys_of_molecules_and_sets(fmt: str, key: str, tmp_path: Path, source: Structures) -> None:
    name, write = FORMATS[fmt]
    write(tmp_path / name, source)
    with pytest.raises(DataCorrupt, match="molekul"):
        read(declare(fmt, tmp_path / name, **{key: "molekul"}), [tmp_path / name])


def test_links_out_of_a_plain_hdf5_file(tmp_path: Path, source: Structures) -> None:
    path = tmp_path / "own.h5"
    write_hdf5(path, source)
    with h5py.File(path, "a") as file:
        file.move("dft_energy", "elsewhere")
        file["dft_energy"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(DataCorrupt, match="expected it in this file"):
        read(declare("hdf5", path), [path])


# docs/your-data.md

DOCS = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [0, 1])
def test_manifests_of_the_docs_import(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    text = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)[number]
    write_own(tmp_path / "both.extxyz", 40)
    frames = ase.io.read(tmp_path / "both.extxyz", ":")
    names = ("low.extxyz", "high.extxyz") if "low.extxyz" in text else ("both.extxyz",)
    for name, key in zip(names, ("pbe", "ccsd")) if len(names) == 2 else ():
        for atoms in frames:
            atoms.info["energy"] = atoms.info[f"{key}_energy"]
            atoms.arrays["forces"] = atoms.arrays["pbe_forces"]
        ase.io.write(tmp_path / name, frames, format="extxyz")
    (tmp_path / "mydata.yaml").write_text(text)
    import_files([tmp_path / name for name in names], tmp_path / "mydata.yaml")
    found = datasets.load("mydata")
    assert found.energy_mask.sum(0).tolist() == [40, 40]
    assert found.force_mask.sum(0).tolist() == [40, 0]
    assert len(np.unique(found.geometry)) == 40


def test_the_docs_tell_every_key_for_data_of_ones_own() -> None:
    of_published = {"doi", "version", "shipped", "n_structures", "n_molecules", "max_train", "probes", "notes", "name"}
    found_at_import = {"failed"}
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", "", DOCS, flags=re.MULTILINE | re.DOTALL)
    told = set(re.findall(r"\w+", " ".join([*blocks, *re.findall(r"`([^`]+)`", text)])))
    assert set(Manifest.model_fields) - of_published - found_at_import <= told
