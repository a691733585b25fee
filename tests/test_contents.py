"""What data hold, as tables, and how far levels are apart: against numbers that are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from problems import same_structures

from mfbench import costs
from mfbench.data import catalogue, contents, datasets, samples, store
from mfbench.data.cases import case
from mfbench.data.datasets import DataMissing, DataRequest
from mfbench.data.manifest import manifest
from mfbench.data.structures import Structures
from mfbench.data.subset import Subset
from mfbench.data.survey import element_counts

LOW, HIGH, CC = "wb97x/6-31g*", "wb97x/def2-tzvpp", "ccsd(t)*/cbs"
ANI = DataRequest(("mini-ani1x",))


@pytest.fixture(scope="module")
def ani() -> Structures:
    return datasets.load("mini-ani1x")


def turn(seed: int) -> NDArray[np.float64]:
    """A rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def turned(structures: Structures, rotation: NDArray[np.float64]) -> Structures:
    return replace(
        structures,
        positions=structures.positions @ rotation + 1.0,
        forces=(structures.forces @ rotation).astype(np.float32),
    )


# How far levels are apart


def test_what_composition_explains_is_no_gap(ani: Structures) -> None:
    j, k = ani.level_index(LOW), ani.level_index(HIGH)
    energies = ani.energies.copy()
    energies[:, k] = energies[:, j] + element_counts(ani) @ np.arange(element_counts(ani).shape[1])
    found = contents.energies_apart(replace(ani, energies=energies), LOW, HIGH)
    assert len(found) == len(ani)
    assert np.abs(found["gap"]).max() < 1e-9
    assert np.sqrt(np.square(found["low"]).mean()) > 0.1
    energies[7, k] += 1.0
    found = contents.energies_apart(replace(ani, energies=energies), LOW, HIGH)
    assert found["gap"].abs().idxmax() == 7
    assert found["gap"][7] * found["atoms"][7] == pytest.approx(1.0, abs=0.02)


def test_forces_of_a_geometry_in_two_orientations_are_compared_in_one(ani: Structures) -> None:
    """The high level's labels in another file, turned and moved: as in rMD17 and MD17-CC."""
    expected = contents.forces_apart(ani, LOW, HIGH)
    assert np.sqrt(np.square(expected["gap"]).mean()) > 0.1
    low = replace(ani, energy_mask=ani.energy_mask & [n == LOW for n in ani.levels])
    other = turned(replace(ani, energy_mask=ani.energy_mask & [n == HIGH for n in ani.levels]), turn(1))
    both = datasets.joined([low, other])
    found = contents.forces_apart(both, LOW, HIGH)
    assert found["structure"].nunique() == len(np.unique(ani.geometry))
    first = found.merge(expected, left_on="structure", right_on="structure", suffixes=("", " expected"))
    np.testing.assert_allclose(np.sort(first["gap"].unique()), np.sort(first["gap expected"].unique()), atol=1e-4)


def test_mirror_images_and_other_orders_do_not_fit(ani: Structures) -> None:
    rows = np.flatnonzero(ani.molecule == ani.molecules.index("CH3CHO"))[:20]
    some = ani[rows]
    mirrored = replace(some, positions=some.positions * [1, 1, -1])
    order = np.concatenate([some.offsets[s] + np.r_[1, 0, 2:7] for s in range(len(some))])  # two carbons
    swapped = replace(some, positions=some.positions[order])
    for other, fits in ((turned(some, turn(2)), True), (mirrored, False), (swapped, False)):
        both = datasets.join([some, other])
        turns, fit = contents.onto(both, np.arange(20), np.arange(20, 40))
        assert fit.all() if fits else not fit.any()
        np.testing.assert_allclose(np.linalg.det(turns), 1.0)


def test_the_gap_of_methanol_is_over_the_geometries_in_both_files() -> None:
    of = case("rmd17-cc")
    found = contents.look(samples.request_of(of, "mini"), of.low, of.high)
    assert found.sample.whole
    assert len(found.energies) == 1000
    assert found.forces["structure"].nunique() == 1000
    size = found.forces[["low", "high", "gap"]].pow(2).mean().pow(0.5)
    assert 2 < size["low"] < 3  # eV/Angstrom
    assert size["gap"] < 0.2 * size["low"]


# What there is


def test_labels_and_costs_are_those_of_the_structures(ani: Structures) -> None:
    table = contents.by_level(ani).set_index("level")
    assert list(table.index) == list(ani.levels)
    assert tuple(table.loc[CC, ["energies", "forces"]]) == (864, 112)
    methanol = ani[np.flatnonzero(ani.molecule == ani.molecules.index("CH3OH"))]
    table = contents.by_level(methanol).set_index("level")
    assert table.loc[LOW, "energy cost"] == pytest.approx(costs.core_seconds(LOW, "CH4O", forces=False))
    assert table.loc[LOW, "forces cost"] == pytest.approx(costs.core_seconds(LOW, "CH4O", forces=True))
    k = methanol.level_index(HIGH)
    assert table.loc[HIGH, "largest"] == pytest.approx(np.abs(methanol.forces[k]).max())
    (row,) = contents.by_molecule(methanol).to_dict("records")
    assert row == {"molecule": "CH3OH", "formula": "CH4O", "atoms": 6, "structures": 48}


def test_geometries_with_forces_at_both_levels_come_first(ani: Structures) -> None:
    ids = contents.geometries(ani, "CH4", (LOW, CC))
    rows = [contents.of_geometry(ani, int(one))[CC] for one in ids]
    have = ani.force_mask[rows, ani.level_index(CC)]
    assert have.any()
    assert not have.all()
    assert (np.diff(have.astype(int)) <= 0).all()
    assert len(set(ids.tolist())) == len(ids) == 48


# Some of many


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    declared = manifest("mini-ani1x")
    return datasets.convert(declared, datasets.raw_files(declared), tmp_path_factory.mktemp("x") / "ani.h5")


@pytest.mark.parametrize("subset", [None, Subset(max_atoms=5), Subset(molecules=("CH4", "N2O"))])
@pytest.mark.parametrize("slab", [1 << 20, 300])
def test_a_few_of_a_converted_file(
    converted: Path, ani: Structures, subset: Subset | None, slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SLAB_ATOMS", slab)
    chosen = datasets.pick(ani, "mini-ani1x", None, subset)
    for most in (60, 10_000):
        with store.Reader(converted, None, subset, most) as reader:
            assert reader.total == len(chosen)
            found = reader.read()
        same_structures(found, chosen[store.windows(len(chosen), most)])
        assert len(found) == min(most, len(chosen))


def test_windows_are_spread_and_never_overlap() -> None:
    for total, most in ((10, 20), (100, 99), (5_000_000, 4_000), (1_000, 7)):
        rows = store.windows(total, most)
        assert len(np.unique(rows)) == len(rows) <= most
        assert (rows[0], rows[-1]) == (0, total - 1) or most < 40
        assert len(rows) > most - 40


def test_what_is_not_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path))
    assert samples.at_hand(manifest("mini-ani1x"))
    assert not samples.at_hand(manifest("rmd17"))
    with pytest.raises(DataMissing, match="mfbench data pull rmd17"):
        samples.sample(DataRequest(("rmd17",)))
    assert not any(tmp_path.iterdir())


def test_a_sample_says_of_how_many_it_is() -> None:
    some = samples.sample(ANI, 100)
    assert (len(some.structures), some.total, some.whole) == (100, 864, False)
    assert samples.sample(ANI, 100) is some
    assert len(np.unique(some.structures.molecule)) == 18


def test_checks_are_made_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, told = [], []
    monkeypatch.setattr(samples, "_checked", {})

    def check(name: str, folder: Path | None = None, watch: catalogue.Watch = catalogue.SILENT) -> catalogue.Checked:
        calls.append(name)
        with watch.counts(name) as progress:
            progress("checking", 3, 7)
        return catalogue.Checked(name, ())

    monkeypatch.setattr(catalogue, "check", check)
    for _ in range(2):
        assert samples.check("mini-ani1x", lambda done, total: told.append((done, total))).name == "mini-ani1x"
    assert (calls, told) == (["mini-ani1x"], [(3, 7)])
