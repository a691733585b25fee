"""Costs of labels: what was measured, how others follow from it, and what a run's labels cost in all."""

import csv
from pathlib import Path

import numpy as np
import pytest

import mfbench
from mfbench import resources
from mfbench.costs import core_seconds, label_cost
from mfbench.errors import UserError

DFT, CCSD, CBS = "wb97x/6-31g*", "ccsd/cc-pvdz", "ccsd(t)*/cbs"


def test_label_cost_is_the_mean_over_the_molecules_of_the_table() -> None:
    with open(resources.mini_data() / "label_cost.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "wb97x/def2-tzvpp"]
    assert len(rows) >= 10
    for column, forces in (("energy_core_s", False), ("energy_and_forces_core_s", True)):
        expected = sum(float(row[column]) for row in rows) / len(rows)
        assert label_cost("wb97x/def2-tzvpp", forces) == pytest.approx(expected, rel=1e-12)


def test_label_cost_where_it_was_not_measured() -> None:
    assert label_cost("pbe+vdw-ts", forces=False) is None
    assert label_cost("gfn2-xtb", forces=False) is None
    cheap, dear = label_cost("gfn2-xtb", forces=True), label_cost("wb97x/6-31g*", forces=True)
    assert cheap is not None
    assert dear is not None
    assert 0 < cheap < dear


def test_costs_of_unknown_levels() -> None:
    with pytest.raises(UserError, match="unknown level of theory"):
        label_cost("b3lyp", forces=False)
    assert np.isnan(core_seconds("pbe+vdw-ts", "H2O", False))
    assert np.isnan(core_seconds("mine@45", "H2O", True))


def test_a_molecule_that_was_measured_costs_what_was_measured() -> None:
    assert core_seconds(DFT, "CH4", False) == 0.668
    assert core_seconds(DFT, "CH4", True) == 1.106
    assert core_seconds(CBS, "CH4", True) == pytest.approx(1.221 * 31)  # central differences: 6 for each of 5 atoms
    assert core_seconds("gfn2-xtb", "CH4", False) == 0.005


def test_others_grow_by_the_power_of_the_method() -> None:
    small, large = 18, 34  # electrons of ethane and butane, of which neither is in doubt
    assert core_seconds(CCSD, "C4H10", False) / core_seconds(CCSD, "C5H12", False) == pytest.approx((34 / 42) ** 6)
    assert core_seconds(DFT, "C4H10", False) / core_seconds(DFT, "C5H12", False) == pytest.approx((34 / 42) ** 4)
    grown = core_seconds(CCSD, "C4H10", False) / core_seconds(CCSD, "C2H6", False)
    assert 0.3 < grown / (large / small) ** 6 < 3  # measured ones scatter about the power


def measured(molecule: str, level: str, column: str) -> float:
    with open(resources.mini_data() / "label_cost.csv", newline="") as file:
        return next(
            float(row[column]) for row in csv.DictReader(file) if (row["molecule"], row["level"]) == (molecule, level)
        )


@pytest.mark.parametrize("arm", ["SF-E", "MF", "SF-EF", "SF-low", "MF+", "delta"])
def test_what_the_labels_of_a_run_cost(arm: str, tmp_path: Path) -> None:
    """Of methanol alone: so many energies, and so many energies with forces."""
    sizes = {} if arm == "SF-low" else {"n_high": 25}
    settings = mfbench.experiment("rmd17-cc", arm, optimisation={"steps": 2}, **sizes)
    table = mfbench.load_runs(mfbench.run(settings, tmp_path, progress=False).parent)
    low = measured("CH3OH", "pbe/def2-svp", "energy_and_forces_core_s")
    high = measured("CH3OH", "ccsd/cc-pvdz", "energy_and_forces_core_s" if arm == "SF-EF" else "energy_core_s")
    n_low, n_high = int(table["n_low"].iloc[0]), int(table["n_high"].iloc[0])
    found = table["label_seconds"].iloc[0]
    least = n_low * low + n_high * high
    if arm in ("SF-E", "SF-EF"):
        assert found == pytest.approx(n_high * high)
    else:
        assert least <= found <= 1.2 * least + 100 * low  # what is validated on at the low level counts, too
    assert table["label_seconds"].nunique() == 1
