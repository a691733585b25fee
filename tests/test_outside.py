"""Outside of what was trained on: every arm keeps to the scale of energies there, and says so; free atoms too."""

import json
import shutil
import warnings
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
from mfbench.cli.main import main
from mfbench.cli.models import outside_lines
from mfbench.data import datasets
from mfbench.data.bonds import APART, bonds_of
from mfbench.data.cases import Case
from mfbench.data.geometries import Slab
from mfbench.data.importing import import_files
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.free_atoms import energies_at
from mfbench.learning import arms
from mfbench.physics.surface import bonds
from mfbench.study import outside
from mfbench.study.calculator import Predictor
from mfbench.study.load import known_of, load
from mfbench.study.outside import NOT_RECORDED
from mfbench.study.predict_file import predict_file

INPUTS = Path(__file__).parent / "inputs"
narrow_high = script("narrow_high")
LOW, CCSD, CBS = narrow_high.LOW, narrow_high.CCSD, narrow_high.CBS


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
    assert found.energies[0] == energies_at(level, {})[8]
    assert found.energies[2] == energies_at(level, {})[1]
    assert found.forces is not None
    assert not found.forces[[0, -1]].any()
    assert np.abs(found.forces[1:-1]).max() > 0
    alone = model.predict(molecule("CH3OH"), level)
    assert found.energies[1] == pytest.approx(alone.energies[0], abs=1e-6)
    assert found.outside[0] == "a free atom of O: its reference energy, which no network predicted"
    assert found.outside[1] == ""
    assert model.predict(Atoms("N"), level, forces=False).energies[0] == energies_at(level, {})[7]


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
    slab = slab_of(every)
    offsets, found = slab.offsets, bonds_of(slab)
    assert found.at_once(offsets).tolist() == [1, 1, 1, 1, 1, 1, 2, 1, 1]
    assert found.fingerprint[0] == found.fingerprint[5] == found.fingerprint[8]
    assert len(set(found.fingerprint[:5].tolist())) == 5
    parts = found.molecule[offsets[6] : offsets[7]]
    assert parts.tolist() == [0, 0, 0, 3, 3, 3, 3, 3]
    none = bonds_of(Slab(slab.numbers[:0], slab.positions[:0], np.zeros(1, np.int64)))
    assert len(none.fingerprint) == len(none.at_once(np.zeros(1, np.int64))) == 0


def slab_of(frames: list[Atoms]) -> Slab:
    offsets = np.cumsum([0, *map(len, frames)])
    numbers, positions = (np.concatenate([getattr(one, name) for one in frames]) for name in ("numbers", "positions"))
    return Slab(numbers, positions, offsets)


def test_heat_makes_no_other_molecule_and_a_broken_bond_does(truth: Structures) -> None:
    found = bonds_of(Slab(truth.numbers, truth.positions, truth.offsets)).fingerprint
    assert len(truth.molecules) == 18
    assert len(np.unique(np.stack([truth.molecule, found]), axis=1).T) == 18  # up to 1000 K, with O-H of 1.5 radii
    hydrogen = 3  # of the O-H bond, 0.97 Angstrom; its covalent radii add up to as much
    prints = []
    for length in (0.97, 1.3, 1.5, 1.6, 2.0):
        methanol = molecule("CH3OH")
        methanol.set_distance(1, hydrogen, length, fix=0)
        prints.append(int(bonds_of(slab_of([methanol])).fingerprint[0]))
        pairs = bonds(methanol.numbers, methanol.positions)
        assert ([1, hydrogen] in pairs.tolist()) == (length < APART * 0.97)
    assert prints[:3] == prints[:1] * 3
    assert prints[3] == prints[4] != prints[0]


def test_fingerprints_are_those_that_earlier_runs_recorded() -> None:
    found = bonds_of(slab_of([molecule("CH3OH"), molecule("C6H6")])).fingerprint.tolist()
    assert [f"{one:016x}" for one in found] == ["e05331911e92358d", "7ea151bff70ba0ae"]


def test_molecules_are_those_of_a_graph_whatever_the_order_of_atoms() -> None:
    rng = np.random.default_rng(0)
    for size, chains in ((400, 1), (60, 7), (31, 31)):
        # Carbon atoms 1.5 Angstrom apart along each chain, chains 5 apart.
        along, chain = np.divmod(np.arange(size), chains)
        order = rng.permutation(size)
        positions = np.stack([1.5 * along, 5.0 * chain, 0.0 * chain], axis=1)[order]
        slab = Slab(np.full(size, 6), positions, np.array([0, size]))
        found = bonds_of(slab).molecule
        assert found.tolist() == [chain[order].tolist().index(one) for one in chain[order]]


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


def test_two_states_of_one_composition_are_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One geometry in two states is two geometries, as their labels differ; a network sees one structure."""
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    neutral = [atoms for atoms in ase.io.read(INPUTS / "charges_mixed.extxyz", ":") if not atoms.info["charge"]]
    ions = [atoms.copy() for atoms in neutral]
    for atoms in ions:
        atoms.info |= {
            "charge": 1,
            "dft_energy": atoms.info["dft_energy"] + 4,
            "cc_energy": atoms.info["cc_energy"] + 5,
        }
    ase.io.write(tmp_path / "both.extxyz", [*neutral, *ions], format="extxyz")
    shutil.copy(INPUTS / "charges_mixed.yaml", tmp_path / "both.yaml")
    import_files([tmp_path / "both.extxyz"], tmp_path / "both.yaml")
    data = datasets.load("both")
    assert sorted(data.molecules) == ["H2O", "H2O, charge 1"]
    assert len(np.unique(data.geometry)) == len(data) == 2 * len(neutral)
    rules = {"datasets": ["both"], "overlap": "nested", "test": 0.25, "validation": 5, "sizes": [10]}
    about = {"name": "both", "title": "both", "basis": "a test", "low": LOW, "high": CBS}
    settings = mfbench.experiment(Case.model_validate({**about, "data": {"mini": rules}}), "MF")
    with pytest.raises(UserError, match=r"both: expected molecules of one composition .* got H2O and H2O, "):
        mfbench.run(settings, tmp_path / "runs", progress=False)
    rules |= {"subsets": {"both": {"molecules": ["H2O, charge 1"]}}}
    case = Case.model_validate({**about, "name": "one", "data": {"mini": rules}})
    settings = mfbench.experiment(case, "MF", optimisation={"steps": 5})
    assert mfbench.run(settings, tmp_path / "runs", progress=False).is_dir()


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


def test_reasons_that_are_too_many_to_tell_are_counted() -> None:
    lines = outside_lines({f"reason {k}": 2 for k in range(13)})
    assert lines[0] == "Outside what it was trained on (mfbench_outside): 26 structures"
    assert len(lines) == 12
    assert lines[-1] == "  6: 3 more reasons; in the file each structure has its own"


# What a run records


def test_the_run_says_what_is_not_determined(trained: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    known = known_of(trained("MF"))
    assert known is not None
    assert known.levels[CCSD].formulas == ("CH4O",)
    assert known.levels[CCSD].molecules == ("CH3OH",)
    assert len(known.levels[LOW].formulas) == len(known.formulas) >= 16
    assert known.levels[LOW].undetermined == ()
    assert known.levels[LOW].free_atoms[1] == energies_at(LOW, {})[1]
    assert known.molecules_at_once == 1
    command = ["run", "rmd17-cc", "--n-high", "25", "--arm", "SF-E", "--steps", "2", "--runs", str(tmp_path)]
    assert main(command) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Not determined")]
    assert told == [
        "Not determined: ccsd/cc-pvdz, by energies of CH4O alone; in other compositions, atomic energies of H, C and "
        "O: those of free atoms"
    ]
    command[1] = "ani1ccx"
    assert main(command) == 0
    assert "Not determined" not in capsys.readouterr().out


def test_a_run_records_the_most_common_kinds_of_molecules(
    tmp_path: Path, truth: Structures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**change: Any) -> Path:
        settings = mfbench.experiment("ani1ccx", "SF-low", optimisation={"steps": 2}, threads=1, **change)
        return mfbench.run(settings, tmp_path, device="cpu", progress=False)

    whole = known_of(run())
    assert whole is not None
    names = whole.levels[LOW].molecules
    assert (len(whole.bonds), whole.bonds_share) == (len(names), 1.0)
    monkeypatch.setattr(outside, "MOST_KINDS", len(names) - 1)
    cut = run(seed=1)
    known = known_of(cut)
    assert known is not None
    assert len(known.bonds) == len(names) - 1
    assert known.bonds < whole.bonds
    assert 0.9 < known.bonds_share < 1
    told = load(cut).predict(truth[[frames(truth, name, 1)[0] for name in names]], LOW).outside
    (text,) = (one for one in told if one)
    share = np.floor(1000 * known.bonds_share) / 10
    end = f"bonded unlike {share:g} % of the structures that were trained on (the others are not recorded)"
    assert text.endswith(end)


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
            symbol, info={f"{key}_energy": energies_at(level, {})[number] for key, level in (("dft", LOW), ("cc", CBS))}
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
    assert found.outside[0].endswith("; atomic energies of H and O: nothing, so its energy has no zero")
    with pytest.raises(UserError, match="a free atom of O at cc@20: expected its reference energy, none is known"):
        bare.predict([Atoms("O")], "cc@20")
    found = known.predict([molecule("H2O"), Atoms("O")], "cc@20")
    assert found.energies[0] == pytest.approx(-2076.6, abs=10)
    assert found.energies[1] == energies_at(CBS, {})[8]
    assert found.outside[0].endswith("; atomic energies of H and O: those of free atoms")
    assert isinstance(datasets.load("with_atoms").free_atoms["cc@20"], dict)
