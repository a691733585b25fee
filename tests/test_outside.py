"""Outside of what was trained on: every arm keeps to the scale of energies there, and says so; free atoms too."""

import json
import shutil
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from conftest import script
from sealing import reseal

import mfbench
from mfbench import extensions
from mfbench.cli.main import main
from mfbench.data import datasets
from mfbench.data.bonds import bonds_of
from mfbench.data.cases import Case
from mfbench.data.geometries import Slab
from mfbench.data.importing import import_files
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.free_atoms import references
from mfbench.learning import arms
from mfbench.study.calculator import Predictor
from mfbench.study.load import known_of, load
from mfbench.study.outside import NOT_RECORDED
from mfbench.study.predict_file import predict_file

INPUTS = Path(__file__).parent / "inputs"
narrow_high = script("narrow_high")
LOW, CCSD, CBS = narrow_high.LOW, narrow_high.CCSD, narrow_high.CBS


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    """What is added here is forgotten after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extensions, "_own", {kind: dict(things) for kind, things in extensions._own.items()})
        yield


@pytest.fixture(scope="module")
def truth() -> Structures:
    return mfbench.load_data("mini-ani1x", progress=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run folder of an arm whose high level is known for methanol alone."""
    runs = tmp_path_factory.mktemp("runs")

    @cache
    def folder(arm: str, high: str = CCSD, steps: int = 40) -> Path:
        settings = mfbench.experiment(
            narrow_high.narrow_case(high), arm, n_high=16, optimisation={"steps": steps}, threads=1
        )
        return mfbench.run(settings, runs, device="cpu", progress=False)

    return folder


def frames(truth: Structures, name: str, count: int = 3) -> np.ndarray:
    return np.flatnonzero(truth.molecule == truth.molecules.index(name))[:count]


@pytest.mark.parametrize("arm", [one.name for one in arms.ARMS if one.uses_high or one.name == "oracle"])
def test_every_arm_keeps_to_the_scale_of_energies_and_says_so(arm: str, trained: Any, truth: Structures) -> None:
    model = load(trained(arm))
    column = truth.level_index(CCSD)
    for name in ("H2O", "H2CO", "CH3OH", "NH3", "HCN"):
        rows = frames(truth, name)
        found = model.predict(truth[rows], CCSD)
        assert np.abs(found.energies - truth.energies[rows, column]).max() < 10, name
        for text in found.outside:
            assert ("not determined by ccsd/cc-pvdz, whose energies are known for CH4O alone" in text) == (
                name != "CH3OH"
            ), text
            assert bool(text) == (name != "CH3OH")
    if LOW in model.levels:
        assert set(model.predict(truth[frames(truth, "H2O")], LOW).outside) == {""}


def test_the_composite_known_for_methanol_alone(trained: Any, truth: Structures) -> None:
    model = load(trained("MF", CBS))
    for name in ("H2O", "H2CO"):
        rows = frames(truth, name, 48)
        found = model.predict(truth[rows], CBS)
        assert np.abs(found.energies - truth.energies[rows, truth.level_index(CBS)]).max() < 10
        assert all("those of wb97x/6-31g* and the difference of free atoms" in text for text in found.outside)


@pytest.mark.parametrize("arm", ["SF-E", "MF+"])
def test_a_free_atom_has_its_reference_energy(arm: str, trained: Any) -> None:
    model = load(trained(arm))
    level, atoms = model.levels[-1], [Atoms("O"), molecule("CH3OH"), Atoms("H")]
    found = model.predict(atoms, level)
    assert found.energies[0] == references(level, {})[8]
    assert found.energies[2] == references(level, {})[1]
    assert found.forces is not None
    assert not found.forces[[0, -1]].any()
    assert np.abs(found.forces[1:-1]).max() > 0
    alone = model.predict(molecule("CH3OH"), level)
    assert found.energies[1] == pytest.approx(alone.energies[0], abs=1e-6)
    assert found.outside[0] == "a free atom of O: its reference energy, which no network predicted"
    assert found.outside[1] == ""
    assert model.predict(Atoms("N"), level, forces=False).energies[0] == references(level, {})[7]


# What else lies outside


@pytest.fixture(scope="module")
def model(trained: Any) -> Predictor:
    return load(trained("MF"))


def test_two_molecules_at_once(model: Predictor) -> None:
    one = molecule("CH3OH")
    other = one.copy()
    other.positions += [4.0, 0, 0]
    assert model.predict([one + other], CCSD).outside == (
        "2 molecules at once (CH4O and CH4O): trained on one at a time",
    )
    water = molecule("H2O")
    water.translate([0, 5, 0])
    both = model.predict([one + water], CCSD).outside[0]
    assert both.startswith("2 molecules at once (CH4O and H2O): trained on one at a time; CH6O2: not determined by")


def test_a_composition_that_was_not_trained_on(model: Predictor) -> None:
    found = model.predict([molecule(name) for name in ("CH3CHO", "C3H8", "CH2OCH2")], LOW).outside
    assert found == (
        "",  # among the 18
        "C3H8: a composition that was not trained on",
        "C2H4O: bonded unlike the molecules that were trained on",
    )


def test_what_is_bonded_is_told_for_many_at_once() -> None:
    names = ["CH3OH", "H2O", "CH3OCH3", "CH3CH2OH", "C6H6"]
    atoms = [molecule(name) for name in names]
    turned = atoms[0][[5, 3, 1, 0, 2, 4]]
    turned.rotate(50, (1, 2, 3))
    methane = molecule("CH4")
    methane.translate([5, 0, 0])
    pair = atoms[1] + methane
    every = [*atoms, turned, pair, Atoms("H"), atoms[0]]
    offsets = np.cumsum([0, *map(len, every)])
    slab = Slab(
        np.concatenate([one.numbers for one in every]), np.concatenate([one.positions for one in every]), offsets
    )
    found = bonds_of(slab)
    assert found.at_once(offsets).tolist() == [1, 1, 1, 1, 1, 1, 2, 1, 1]
    assert found.fingerprint[0] == found.fingerprint[5] == found.fingerprint[8]
    assert len(set(found.fingerprint[:5].tolist())) == 5
    parts = found.molecule[offsets[6] : offsets[7]]
    assert parts.tolist() == [0, 0, 0, 3, 3, 3, 3, 3]
    none = bonds_of(Slab(slab.numbers[:0], slab.positions[:0], np.zeros(1, np.int64)))
    assert len(none.fingerprint) == len(none.at_once(np.zeros(1, np.int64))) == 0


def test_a_committee_says_what_its_members_say(trained: Any) -> None:
    folders = [trained("MF"), trained("MF", CCSD, 30)]
    found = load(folders).predict([molecule("H2O"), molecule("CH3OH"), Atoms("O")], CCSD)
    assert found.outside == load(folders[0]).predict([molecule("H2O"), molecule("CH3OH"), Atoms("O")], CCSD).outside
    assert found.energies_std is not None
    assert found.energies_std[2] == 0


def test_the_calculator_tells_it_once(model: Predictor) -> None:
    calculator = model.calculator(CCSD)
    water, methanol = molecule("H2O"), molecule("CH3OH")
    water.calc = methanol.calc = calculator
    with pytest.warns(UserWarning, match="outside what this model was trained on: H2O: not determined"):
        water.get_potential_energy()
    assert calculator.results["outside"].startswith("H2O: not determined")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        water.rattle(0.01)
        water.get_forces()
        methanol.get_forces()
    assert calculator.results["outside"] == ""


def test_a_file_and_the_command(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, again = (tmp_path / name for name in ("in.extxyz", "out.extxyz", "again.extxyz"))
    ase.io.write(source, [molecule("H2O"), molecule("CH3OH"), molecule("H2O"), Atoms("O")], format="extxyz")
    folder = trained("MF")
    assert main(["predict", str(source), "--run", str(folder), "--level", CCSD, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Outside what it was trained on (mfbench_outside): 3 structures" in lines
    assert any(line.startswith("  2: H2O: not determined by ccsd/cc-pvdz") for line in lines)
    assert any(line.startswith("  1: a free atom of O") for line in lines)
    written = ase.io.read(out, ":")
    assert ["mfbench_outside" in one.info for one in written] == [True, False, True, True]
    found = predict_file(load(folder), out, again, LOW)
    assert found.structures == 4
    assert sum(found.outside.values()) == 1
    assert ["mfbench_outside" in one.info for one in ase.io.read(again, ":")] == [False, False, False, True]


def test_another_state_than_the_one_trained_on(model: Predictor) -> None:
    methanol, ion, triplet, odd, atom = (
        molecule("CH3OH"),
        molecule("CH3OH"),
        molecule("CH3OH"),
        molecule("C3H8"),
        Atoms("O"),
    )
    methanol.info["spin"] = 1  # some programs' word for the multiplicity
    ion.info.update(charge=1, spin_multiplicity=2)
    triplet.set_initial_magnetic_moments([2, 0, 0, 0, 0, 0])
    odd.info["total_charge"] = atom.info["charge"] = -1
    assert model.predict([methanol, ion, triplet, odd, atom], LOW).outside == (
        "",
        "CH4O: a state (charge 1) that was not trained on: trained on CH4O",
        "CH4O: a state (multiplicity 3) that was not trained on: trained on CH4O",
        "C3H8: a composition that was not trained on; C3H8: a state (charge -1) that was not trained on",
        "a free atom of O: its reference energy, which no network predicted, and that of the neutral atom, not of O, "
        "charge -1",
    )


def test_the_calculator_sees_that_the_state_changed(model: Predictor) -> None:
    methanol = molecule("CH3OH")
    methanol.info |= {"note": np.zeros(3), "charge": None}
    methanol.calc = calculator = model.calculator(LOW)
    energy = methanol.get_potential_energy()
    methanol.info["charge"] = 1
    with pytest.warns(UserWarning, match=r"a state \(charge 1\) that was not trained on"):
        assert methanol.get_potential_energy() == energy
    methanol.info["charge"] = "?"
    with pytest.raises(UserError, match="key 'charge': expected a whole number, got '\\?'"):
        methanol.get_potential_energy()
    del methanol.info["charge"]
    methanol.get_potential_energy()
    assert calculator.results["outside"] == ""


def test_a_model_of_ions_says_that_a_neutral_molecule_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    ions = [atoms for atoms in ase.io.read(INPUTS / "charges_mixed.extxyz", ":") if not atoms.info["charge"]]
    for atoms in ions:
        atoms.info["charge"] = 1
    ase.io.write(tmp_path / "ions.extxyz", ions, format="extxyz")
    shutil.copy(INPUTS / "charges_mixed.yaml", tmp_path / "ions.yaml")
    import_files([tmp_path / "ions.extxyz"], tmp_path / "ions.yaml")
    rules = {"datasets": ["ions"], "overlap": "nested", "test": 0.25, "validation": 5, "sizes": [10]}
    case = Case.model_validate(
        {"name": "ions", "title": "ions", "basis": "a test", "low": LOW, "high": CBS, "data": {"mini": rules}}
    )
    model = load(
        mfbench.run(mfbench.experiment(case, "MF", optimisation={"steps": 5}), tmp_path / "runs", progress=False)
    )
    water = molecule("H2O")
    told = "H2O: a state (no charge, lowest multiplicity) that was not trained on: trained on H2O, charge 1"
    assert told in model.predict(water, LOW).outside[0]
    water.info["charge"] = 1
    assert "a state" not in model.predict(water, LOW).outside[0]


# What a run records


def test_the_run_says_what_is_not_determined(trained: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    known = known_of(trained("MF"))
    assert known is not None
    assert known.levels[CCSD].formulas == ("CH4O",)
    assert known.levels[CCSD].molecules == ("CH3OH",)
    assert len(known.levels[LOW].formulas) == len(known.formulas) >= 16
    assert known.levels[LOW].undetermined == ()
    assert known.levels[LOW].free_atoms[1] == references(LOW, {})[1]
    assert known.molecules_at_once == 1
    command = ["run", "rmd17-cc", "--n-high", "25", "--arm", "SF-E", "--steps", "2", "--runs", str(tmp_path)]
    assert main(command) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Not determined")]
    assert told == [
        "Not determined: ccsd/cc-pvdz, by energies of CH4O alone; the atomic energies of other compositions come from "
        "free atoms"
    ]
    command[1] = "ani1ccx"
    assert main(command) == 0
    assert "Not determined" not in capsys.readouterr().out


def test_a_run_from_before_is_loaded_and_says_that_it_is_not_recorded(trained: Any, tmp_path: Path) -> None:
    folder = tmp_path / trained("MF").name
    shutil.copytree(trained("MF"), folder)
    path = folder / "provenance.json"
    said = json.loads(path.read_text())
    whole = said.pop("trained_on")
    path.write_text(json.dumps(said))
    reseal(folder)
    old, new = load(folder), load(trained("MF"))
    atoms = [molecule("H2O"), Atoms("O")]
    assert known_of(folder) is None
    found = old.predict(atoms, CCSD)
    assert found.outside == (NOT_RECORDED, "a free atom of O: its reference energy, which no network predicted")
    assert np.array_equal(found.energies, new.predict(atoms, CCSD).energies)
    for spoiled in ({"levels": {}}, {**whole, "formulas": 3}, {**whole, "levels": [1]}, "x"):
        path.write_text(json.dumps({**said, "trained_on": spoiled}))
        reseal(folder)
        with pytest.raises(UserError, match=r"provenance\.json: trained_on: expected what `mfbench run` wrote"):
            load(folder)


# Files of one's own


def test_a_high_level_known_for_one_of_two_molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    import_files([INPUTS / "narrow_high.extxyz"], INPUTS / "narrow_high.yaml")
    settings = mfbench.experiment(INPUTS / "narrow_high_case.yaml", "MF", optimisation={"steps": 40})
    model = load(mfbench.run(settings, tmp_path / "runs", progress=False))
    found = model.predict([molecule("H2O")], CBS)
    assert found.energies[0] == pytest.approx(-2076.6, abs=10)
    assert found.outside[0].startswith(f"H2O: not determined by {CBS}, whose energies are known for H2O2 alone")


def test_levels_of_ones_own_with_and_without_free_atoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing tells the zero, that is said; free atoms in the file tell it."""
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    content = json.loads((INPUTS / "narrow_high.yaml").read_text())
    content["labels"][0]["level"], content["labels"][1]["level"] = "dft@10", "cc@20"
    plain = ase.io.read(INPUTS / "narrow_high.extxyz", ":")
    atoms = [
        Atoms(
            symbol, info={f"{key}_energy": references(level, {})[number] for key, level in (("dft", LOW), ("cc", CBS))}
        )
        for symbol, number in (("H", 1), ("O", 8))
    ]
    folders = {}
    for name, frames in (("bare", plain), ("with_atoms", [*plain, *atoms])):
        ase.io.write(tmp_path / f"{name}.extxyz", frames, format="extxyz")
        (tmp_path / f"{name}.yaml").write_text(json.dumps(content))
        import_files([tmp_path / f"{name}.extxyz"], tmp_path / f"{name}.yaml")
        rules = {"datasets": [name], "overlap": "nested", "test": 0.25, "sizes": [30]}
        case = Case.model_validate(
            {"name": name, "title": name, "basis": "a test", "low": "dft@10", "high": "cc@20", "data": {"mini": rules}}
        )
        settings = mfbench.experiment(case, "SF-E", optimisation={"steps": 10}, threads=1)
        folders[name] = mfbench.run(settings, tmp_path / "runs", progress=False)
    bare, known = load(folders["bare"]), load(folders["with_atoms"])
    found = bare.predict([molecule("H2O")], "cc@20")
    assert found.outside[0].endswith("atomic energies come from nothing: its energy has no zero")
    with pytest.raises(UserError, match="a free atom of O at cc@20: expected its reference energy, none is known"):
        bare.predict([Atoms("O")], "cc@20")
    found = known.predict([molecule("H2O"), Atoms("O")], "cc@20")
    assert found.energies[0] == pytest.approx(-2076.6, abs=10)
    assert found.energies[1] == references(CBS, {})[8]
    assert found.outside[0].endswith("atomic energies come from free atoms")
    assert isinstance(datasets.load("with_atoms").free_atoms["cc@20"], dict)
