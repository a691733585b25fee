"""Errors by groups of test structures, and the groups that statistics sample: against sums done the plain way."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from problems import HIGH, LOW, two_levels

from mfbench.errors import UserError
from mfbench.results.groups import BLOCKS, NONE_ALIKE, By, errors_by, group_means, log_errors, sampled
from mfbench.results.predictions import Predictions, arrays_bytes, arrays_from, read_arrays, save_arrays
from mfbench.results.statistics import estimate


def predictions(count: int = 60, seed: int = 0) -> Predictions:
    """Two analytic levels with errors of known sizes; every third structure without high-level forces."""
    s, rng = two_levels(count // 3), np.random.default_rng(seed)
    assert len(s) == count
    energy, force = s.energies.copy(), s.forces.swapaxes(0, 1).astype(np.float32)
    force_mask = s.force_mask.copy()
    force_mask[::3, 1] = False
    return Predictions(
        levels=(LOW, HIGH),
        heads=(LOW, HIGH),
        molecules=s.molecules,
        structure=np.arange(count),
        geometry=s.geometry,
        molecule=s.molecule,
        temperature=np.repeat([300, 500], count // 2).astype(np.float32),
        unseen=np.zeros(count, bool),
        offsets=s.offsets,
        numbers=s.numbers,
        energy_reference=energy,
        energy_predicted=energy + rng.normal(0, 0.1, energy.shape),
        force_reference=force,
        force_predicted=(force + rng.normal(0, 0.2, force.shape)).astype(np.float32),
        energy_mask=s.energy_mask,
        force_mask=force_mask,
        shown=np.zeros(0, np.int64),
        positions=np.zeros((0, 3)),
        distance=np.where(s.molecule == 0, np.nan, np.linspace(0, 1, count)).astype(np.float32),
    )


def plain(p: Predictions, quantity: str, keep: Callable[[int, int], object]) -> dict[object, list[float]]:
    """Errors at the high level of each structure or atom, by what ``keep`` says of it."""
    found: dict[object, list[float]] = {}
    for s in range(len(p.structure)):
        if quantity == "energy":
            found.setdefault(keep(s, -1), []).append(p.energy_predicted[s, 1] - p.energy_reference[s, 1])
        elif p.force_mask[s, 1]:
            for a in range(p.offsets[s], p.offsets[s + 1]):
                error = p.force_predicted[a, 1].astype(float) - p.force_reference[a, 1].astype(float)
                found.setdefault(keep(s, a), []).extend(error.tolist())
    return found


@pytest.mark.parametrize("quantity", ["energy", "force"])
@pytest.mark.parametrize("by", ["molecule", "temperature", "element"])
def test_errors_by_group(by: By, quantity: str) -> None:
    p = predictions()
    name = {
        "molecule": lambda s, a: p.molecules[p.molecule[s]],
        "temperature": lambda s, a: f"{p.temperature[s]:g}",
        "element": lambda s, a: {1: "H", 8: "O"}[int(p.numbers[a])],
    }[by]
    table = errors_by(p, by, HIGH)
    table = table[table["quantity"] == quantity].set_index("group")
    if (by, quantity) == ("element", "energy"):
        assert table.empty
        return
    expected = plain(p, quantity, name)
    assert set(table.index) == set(expected)
    for group, errors in expected.items():
        assert table.loc[group, "n"] == len(errors)
        assert table.loc[group, "mae"] == pytest.approx(np.mean(np.abs(errors)))
        assert table.loc[group, "rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_errors_by_distance() -> None:
    p = predictions()
    assert p.distance is not None
    table = errors_by(p, "distance", HIGH)
    energies = table[table["quantity"] == "energy"]
    assert energies["n"].sum() == len(p.structure)
    assert energies.set_index("group").loc[NONE_ALIKE, "n"] == np.isnan(p.distance).sum()
    assert energies["group"].tolist()[-1] == NONE_ALIKE
    with pytest.raises(UserError, match="made by an earlier version"):
        errors_by(replace(p, distance=None), "distance", HIGH)


def test_what_cannot_be_told() -> None:
    p = predictions()
    with pytest.raises(UserError, match="level of these predictions"):
        errors_by(p, "molecule", "pbe/def2-svp")
    with pytest.raises(UserError, match="the data have none"):
        errors_by(replace(p, temperature=0 * p.temperature), "temperature", HIGH)
    with pytest.raises(UserError, match="grouping"):
        errors_by(p, "size", HIGH)  # type: ignore[arg-type]
    assert errors_by(p, "molecule", HIGH, "unseen").empty


def test_runs_from_before_distances_were_recorded_are_read(tmp_path) -> None:
    p = predictions()
    save_arrays(tmp_path / "p.h5", replace(p, distance=None))
    assert read_arrays(tmp_path / "p.h5", Predictions).distance is None
    again = arrays_from(arrays_bytes(p), Predictions, tmp_path / "p.h5")
    assert again.distance is not None
    assert np.array_equal(again.distance, p.distance, equal_nan=True)


def test_blocks_are_neighbours_of_one_molecule() -> None:
    p = predictions(240)
    rows = np.arange(240)
    group = sampled(p, rows)
    assert abs(group.max() + 1 - BLOCKS) <= len(p.molecules)
    for one in range(group.max() + 1):
        own = rows[group == one]
        assert len(np.unique(p.molecule[own])) == 1
        same = rows[p.molecule == p.molecule[own[0]]]
        assert np.array_equal(own, same[(same >= own[0]) & (same <= own[-1])])  # neighbours
    many = replace(p, molecule=(rows % 30).astype(np.int32))
    assert np.array_equal(sampled(many, rows), rows % 30)


@pytest.mark.parametrize("metric", ["mae", "rmse"])
@pytest.mark.parametrize("quantity", ["energy", "energy_relative", "force"])
def test_log_errors_are_those_of_the_runs(quantity: str, metric: str) -> None:
    runs = [predictions(seed=seed) for seed in range(5)]
    found = estimate(log_errors([group_means(run, HIGH, "test")[quantity] for run in runs], metric))
    for seed, run in enumerate(runs):
        table = errors_by(run, "molecule", HIGH)
        table = table[table["quantity"] == quantity]
        squares = np.average(table[metric] ** (2 if metric == "rmse" else 1), weights=table["n"])
        assert found.seeds[seed] == pytest.approx(np.sqrt(squares) if metric == "rmse" else squares)
    assert found.low < found.value < found.high


def test_runs_of_several_splits_have_no_interval_over_structures() -> None:
    one = predictions()
    first = group_means(one, HIGH, "test")["energy"]
    with pytest.raises(UserError, match="judged on the same structures"):
        log_errors([first, group_means(replace(one, structure=one.structure + 1), HIGH, "test")["energy"]], "mae")
    with pytest.raises(UserError, match="metric with intervals over structures"):
        log_errors([first], "mine")
    assert group_means(one, HIGH, "unseen") == {}
