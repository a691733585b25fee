"""The ASE calculator of a trained model: slopes, caching, relaxation, and what it refuses."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.units import fs

import mfbench
from mfbench.errors import UserError
from mfbench.study.calculator import MFBenchCalculator, Predictor
from mfbench.study.experiment import experiment
from mfbench.study.prepare import prepare
from mfbench.study.run import run

LOW, HIGH = "pbe/def2-svp", "ccsd/cc-pvdz"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two short trainings of MF."""
    runs = tmp_path_factory.mktemp("runs")
    return [
        run(experiment("rmd17-cc", "MF", seed=seed, optimisation={"steps": 200}, threads=1), runs) for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def model(folders: list[Path]) -> Predictor:
    return mfbench.load(folders[0], dtype="float64")


@pytest.fixture(scope="module")
def committee(folders: list[Path]) -> Predictor:
    return mfbench.load(folders, dtype="float64")


@pytest.fixture
def atoms() -> Atoms:
    """A geometry of the training set."""
    prepared = prepare(experiment("rmd17-cc", "MF"))
    one = prepared.structures[prepared.selection.high.train[:1]]
    return Atoms(one.numbers, one.positions)


@pytest.mark.parametrize("level", [LOW, HIGH])
@pytest.mark.parametrize("which", ["model", "committee"])
def test_forces_are_minus_the_slope_of_the_energy(
    which: str, level: str, atoms: Atoms, request: pytest.FixtureRequest
) -> None:
    atoms.calc = request.getfixturevalue(which).calculator(level)
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.1
    np.testing.assert_allclose(forces.sum(0), 0, atol=1e-9)
    start, step = atoms.positions.copy(), 1e-4
    for direction in np.random.default_rng(0).normal(size=(3, *start.shape)):

        def energy(steps: int, direction: np.ndarray = direction) -> float:
            atoms.positions = start + steps * step * direction
            return atoms.get_potential_energy()

        slope = (8 * (energy(1) - energy(-1)) - (energy(2) - energy(-2))) / (12 * step)
        assert -np.sum(forces * direction) == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_relaxation_goes_downhill_to_small_forces(model: Predictor, atoms: Atoms) -> None:
    atoms.calc = model.calculator(HIGH)
    before = atoms.get_potential_energy()
    assert BFGS(atoms, logfile=None).run(fmax=0.02, steps=100)
    assert atoms.get_potential_energy() < before - 0.01
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.02
    bond = atoms.get_distance(*(int(np.flatnonzero(atoms.numbers == z)[0]) for z in (6, 8)))
    assert 1.2 < bond < 1.7  # of methanol still


def test_dynamics_keep_the_energy(model: Predictor, atoms: Atoms) -> None:
    atoms.calc = model.calculator(HIGH)
    before = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.2 * fs).run(50)
    assert atoms.get_kinetic_energy() > 1e-3
    assert atoms.get_total_energy() == pytest.approx(before, abs=5e-3)


def test_levels_differ_and_are_the_models_own(model: Predictor, atoms: Atoms) -> None:
    found = {}
    for level in (LOW, HIGH):
        atoms.calc = model.calculator(level)
        found[level] = atoms.get_potential_energy()
        expected = model.predict(atoms, level)
        assert found[level] == expected.energies[0]
        assert atoms.get_potential_energy(force_consistent=True) == found[level]
        np.testing.assert_array_equal(atoms.get_forces(), expected.forces)
    assert found[LOW] != found[HIGH]
    calculator = atoms.calc
    calculator.set(level=LOW)
    assert atoms.get_potential_energy() == found[LOW]


def test_nothing_is_computed_twice(model: Predictor, atoms: Atoms, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    predict = type(model).predict
    monkeypatch.setattr(type(model), "predict", lambda *words: (calls.append(words[3]), predict(*words))[1])
    atoms.calc = model.calculator(HIGH)
    atoms.get_forces()
    energy = atoms.get_potential_energy()
    atoms.get_forces()
    atoms.set_cell([10, 10, 10])
    atoms.get_forces()
    assert calls == [True]
    atoms.positions[0] += 0.1
    assert atoms.get_potential_energy() != energy
    assert calls == [True, False]  # energies alone are cheaper
    atoms.get_forces()
    atoms.get_potential_energy()
    assert calls == [True, False, True]


def test_a_committee_gives_its_spread(committee: Predictor, folders: list[Path], atoms: Atoms) -> None:
    atoms.calc = committee.calculator(HIGH)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    every = [mfbench.load(folder, dtype="float64").predict(atoms, HIGH) for folder in folders]
    a, b = (float(one.energies[0]) for one in every)
    assert energy == pytest.approx((a + b) / 2, abs=1e-9)
    assert atoms.calc.results["energy_std"] == pytest.approx(abs(a - b) / 2**0.5, rel=1e-4)
    f, g = (one.forces for one in every)
    np.testing.assert_allclose(forces, (f + g) / 2, atol=1e-9)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], np.abs(f - g) / 2**0.5, atol=1e-9)
    assert atoms.calc.get_property("forces_std", atoms).shape == (6, 3)
    assert "energy_std" not in MFBenchCalculator.implemented_properties


def test_it_says_what_it_is(model: Predictor, committee: Predictor, folders: list[Path], tmp_path: Path) -> None:
    text = f"energies of {HIGH}, energies and forces of {LOW}"
    calculator = model.calculator(HIGH)
    assert calculator.parameters == {"run": folders[0].name, "arm": "MF", "level": HIGH, "trained_on": text}
    assert repr(calculator) == f"<MFBenchCalculator {folders[0].name}: MF at {HIGH}; trained on {text}>"
    assert committee.calculator(LOW).parameters["run"] == f"{folders[0].name}, {folders[1].name}"
    assert calculator.todict()["level"] == HIGH


def test_it_is_written_like_any_other(committee: Predictor, atoms: Atoms, tmp_path: Path) -> None:
    atoms.calc = committee.calculator(HIGH)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    for name in ("x.traj", "x.extxyz", "x.json"):
        ase.io.write(tmp_path / name, atoms)
        again = ase.io.read(tmp_path / name)
        assert again.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(again.get_forces(), forces, atol=1e-6)


def test_what_it_refuses(model: Predictor, atoms: Atoms) -> None:
    with pytest.raises(UserError, match=f"level: expected one of {LOW}, {HIGH}, as the model has several"):
        model.calculator()
    with pytest.raises(UserError, match="unknown level of this model 'pbe'"):
        MFBenchCalculator(model, "pbe")
    assert model.resolve(HIGH.upper()) == HIGH
    calculator = model.calculator(HIGH)
    with pytest.raises(UserError, match="expected no other parameter than level, got trained_on"):
        calculator.set(trained_on="all there is")
    with pytest.raises(UserError, match="unknown level"):
        calculator.set(level="pbe")
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("stress", atoms)
    for bad, message in (
        (Atoms("Fe", calculator=calculator), "expected elements that this model was trained on, H, C, O; got Fe"),
        (Atoms("H", cell=[5, 5, 5], pbc=True, calculator=calculator), "expected an isolated molecule, got a periodic"),
        (Atoms(calculator=calculator), "expected atoms, got none"),
    ):
        with pytest.raises(UserError, match=message):
            bad.get_potential_energy()
    atoms.calc = calculator
    assert atoms.get_potential_energy() < 0  # an error before spoils nothing
