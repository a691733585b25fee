"""Units, pinned by independent numbers and by physics."""

import json

import ase.units
import h5py
import numpy as np
import pytest

from mfbench import resources, units
from mfbench.errors import UserError


def test_hartree_in_kcal_per_mol() -> None:
    assert units.convert(1.0, "Ha", "kcal/mol") == pytest.approx(627.5094740631, rel=1e-11)
    assert units.convert(1.0, "Ha", "kJ/mol") == pytest.approx(2625.4996394799, rel=1e-11)
    assert units.convert(1.0, "eV", "kcal/mol") == pytest.approx(23.06054783, rel=1e-9)
    assert pytest.approx(23.06054783, rel=1e-9) == units.KCAL_PER_EV
    assert pytest.approx(0.0433641042, rel=1e-8) == units.EV_PER_KCAL
    assert units.convert(1.0, "eV", "meV") == pytest.approx(1000.0)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("Ha", ase.units.Hartree),
        ("kcal/mol", ase.units.kcal / ase.units.mol),
        ("kJ/mol", ase.units.kJ / ase.units.mol),
        ("Bohr", ase.units.Bohr),
        ("Ha/Bohr", ase.units.Hartree / ase.units.Bohr),
        ("kcal/mol/Angstrom", ase.units.kcal / ase.units.mol),
        ("Ha/Angstrom", ase.units.Hartree),
        ("meV/atom", 1e-3),
    ],
)
def test_agrees_with_ase(unit: str, expected: float) -> None:
    """ase.units uses CODATA 2014: equal to some 1e-8, far closer than any mistake of unit."""
    assert units.internal(unit) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("unit", "dimension"),
    [
        ("kcal/mol", "energy"),
        ("kcal/mol/Angstrom", "force"),
        ("meV/atom", "energy/atom"),
        ("kcal/mol/atom", "energy/atom"),
        ("Bohr", "length"),
    ],
)
def test_dimension(unit: str, dimension: str) -> None:
    assert units.dimension(unit) == dimension


@pytest.mark.parametrize("unit", ["Hartree", "kcal", "eV/fm", "", "/atom", "eV/mol", "kcal/mol/A"])
def test_unknown_unit(unit: str) -> None:
    with pytest.raises(UserError, match="unknown unit"):
        units.internal(unit)


@pytest.mark.parametrize(("unit", "to"), [("eV", "eV/Angstrom"), ("meV/atom", "meV"), ("Bohr", "Ha")])
def test_no_conversion_between_dimensions(unit: str, to: str) -> None:
    with pytest.raises(UserError, match=f"conversion from {unit} to"):
        units.convert(1.0, unit, to)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        # Experiment, without zero-point energy: 232.6 kcal/mol = 10.09 eV; a small basis loses up to 1 eV.
        ("wb97x_dz.energy", 9.0, 10.2),
        ("wb97x_tz.energy", 9.7, 10.3),
        ("ccsd(t)_cbs.energy", 9.9, 10.2),
    ],
)
def test_atomisation_energy_of_water(key: str, low: float, high: float) -> None:
    atoms = json.loads((resources.mini_data() / "isolated_atoms.json").read_text())
    with h5py.File(resources.mini_data() / "mini-ani1x.h5") as file:
        molecule = np.nanmin(file["H2O"][key][:])
    hartree = 2 * atoms["H"][key] + atoms["O"][key] - molecule
    assert low < units.convert(hartree, "Ha", "eV") < high


def test_forces_of_the_mini_data_are_of_the_size_of_forces() -> None:
    """Thermal force components are some 20 kcal/mol/Angstrom (rMD17 ethanol: 20.3), not 500 times that."""
    with np.load(resources.mini_data() / "mini_methanol_rmd17.npz") as file:
        published = np.abs(file["forces"]).mean()  # kcal/mol/Angstrom, as in rMD17
    assert 5 < published < 60
    assert 0.2 < units.convert(published, "kcal/mol/Angstrom", "eV/Angstrom") < 2.6
