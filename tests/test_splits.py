"""Splits: no geometry in two parts, whatever its labels; nested subsets; honest sizes; errors."""

import hashlib
import re
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray

from mfbench.data.cases import Case, CaseData, Overlap, case
from mfbench.data.datasets import DataRequest
from mfbench.data.manifest import LabelKind
from mfbench.data.splits import Selection, Split, make_split, refuse_leaks, select, validation_size
from mfbench.data.structures import Frames, Structures, assemble, join
from mfbench.errors import DataCorrupt, LabelsMissing, UserError
from mfbench.study.experiment import experiment
from mfbench.study.prepare import prepare

CASES = ("ani1ccx", "ani1x-tz", "rmd17-cc")
SEEDS = (0, 1, 2, 17)
LOW, HIGH = "pbe/def2-svp", "ccsd/cc-pvdz"
_loaded: dict[tuple[str, ...], Structures] = {}


def problem(name: str) -> tuple[Structures, Case, CaseData]:
    """A shipped case on its mini data; files are read once."""
    found = case(name)
    rules = found.choice("mini")
    if rules.datasets not in _loaded:
        _loaded[rules.datasets] = DataRequest(rules.datasets).load()
    return _loaded[rules.datasets], found, rules


def split_of(name: str, seed: int) -> tuple[Structures, Case, CaseData, Split]:
    structures, found, rules = problem(name)
    return structures, found, rules, make_split(structures, found.low, found.high, rules, seed)


def geometries(structures: Structures, indices: NDArray[np.int64]) -> set[int]:
    return set(structures.geometry[indices].tolist())


def check_parts(structures: Structures, low: str, high: str, rules: CaseData, split: Split) -> None:
    """Assert what holds for every split."""
    low_column, high_column = structures.level_index(low), structures.level_index(high)
    has_high = structures.energy_mask[:, high_column]
    has_low = structures.energy_mask[:, low_column] & structures.force_mask[:, low_column]
    parts = {field.name: geometries(structures, getattr(split, field.name)) for field in fields(Split)}
    for a, b in combinations(parts, 2):
        if not {a, b} <= {"high_pool", "low_pool", "oracle_pool"}:
            assert not parts[a] & parts[b], (a, b)
    for name in ("test", "unseen", "validation"):
        indices = getattr(split, name)
        assert len(indices) == len(set(indices.tolist()))
        assert set(indices.tolist()) == set(np.flatnonzero(np.isin(structures.geometry, list(parts[name]))).tolist()), (
            f"{name} lacks structures of its geometries"
        )
    assert has_high[split.high_pool].all()
    assert has_low[split.low_pool].all()
    assert has_high[split.oracle_pool].all()
    assert set(split.high_pool.tolist()) <= set(split.oracle_pool.tolist())
    assert len(split.test)
    assert len(split.high_pool)
    assert len(split.low_pool)
    if rules.overlap == "disjoint":
        assert not parts["high_pool"] & parts["low_pool"]
        if rules.high_pool is not None:
            assert len(parts["high_pool"]) <= rules.high_pool
    else:
        both = split.high_pool[has_low[split.high_pool]]
        assert set(both.tolist()) <= set(split.low_pool.tolist())
    # Enough of each level's geometries are kept back, unseen molecules aside.
    seen = ~np.isin(np.arange(len(structures)), split.unseen)
    for mask in (has_high & seen, has_low & seen):
        theirs = geometries(structures, np.flatnonzero(mask))
        assert len(theirs & parts["test"]) >= round(rules.test * len(theirs))
        assert len(theirs & parts["validation"]) >= min(
            rules.validation, len(theirs - parts["test"] - parts["high_pool"])
        )


def check_selection(structures: Structures, low: str, high: str, split: Split, chosen: Selection, n_high: int) -> None:
    """Assert that nothing which is trained on, or selected by, is judged on; and that n_high is honest."""
    judged = geometries(structures, split.test) | geometries(structures, split.unseen)
    trained = geometries(structures, chosen.low.train) | geometries(structures, chosen.high.train)
    validated = geometries(structures, chosen.low.validation) | geometries(structures, chosen.high.validation)
    assert not judged & trained
    assert not judged & validated
    assert not trained & validated
    assert len(chosen.high.train) + len(chosen.high.validation) == n_high
    oracle = geometries(structures, chosen.oracle.train)
    assert not oracle & (judged | geometries(structures, chosen.oracle.validation))
    assert len(chosen.oracle.train) <= len(chosen.low.train)
    for indices in (part for one in (*chosen.levels.values(), chosen.oracle) for part in one):
        assert len(set(indices.tolist())) == len(indices)
    low_column, high_column = structures.level_index(low), structures.level_index(high)
    for indices in (chosen.high.train, chosen.high.validation):
        assert structures.energy_mask[indices, high_column].all()
    for indices in (chosen.low.train, chosen.low.validation):
        assert (structures.energy_mask & structures.force_mask)[indices, low_column].all()


# the shipped cases


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_no_geometry_is_in_two_parts(name: str, seed: int) -> None:
    structures, found, rules, split = split_of(name, seed)
    check_parts(structures, found.low, found.high, rules, split)
    for n_high in rules.sizes:
        chosen = select(structures, split, found.low, found.high, n_high, None, seed, rules.max_low)
        check_selection(structures, found.low, found.high, split, chosen, n_high)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 15 of 18 molecules x 48 are seen; a quarter to test; 50 to validation; the rest for both levels.
        (
            "ani1x-tz",
            {"test": 180, "unseen": 144, "validation": 50, "high_pool": 490, "low_pool": 490, "oracle_pool": 490},
        ),
        (
            "ani1ccx",
            {"test": 180, "unseen": 144, "validation": 50, "high_pool": 490, "low_pool": 490, "oracle_pool": 490},
        ),
    ],
)
def test_sizes_of_the_parts(name: str, expected: dict[str, int]) -> None:
    *_, split = split_of(name, 0)
    assert {key: len(value) for key, value in vars(split).items()} == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_sizes_of_the_parts_where_geometries_recur(seed: int) -> None:
    """Geometries: 1,200 in all, 1,000 with a high label; a quarter of either to test; 50 to validation.

    250 test geometries are drawn for the high level; most of the low level's 50 more have a high label too.
    """
    structures, _, _, split = split_of("rmd17-cc", seed)
    counts = {key: len(geometries(structures, value)) for key, value in vars(split).items()}
    # An oracle learns from the coupled-cluster twins of low-level geometries, too; how many there are is chance.
    assert 650 <= counts.pop("oracle_pool") <= 700
    assert counts == {"test": 300, "unseen": 0, "validation": 50, "high_pool": 200, "low_pool": 650}
    high = structures.energy_mask[:, structures.level_index(HIGH)]
    assert 250 + 25 < high[split.test].sum() < 300


def sorted_distances(structures: Structures, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """All distances of each methanol frame, sorted, whatever the elements: (C, 15)."""
    x = structures.positions.reshape(-1, 6, 3)[indices]
    first, second = np.triu_indices(6, 1)
    return np.sort(np.sqrt(np.square(x[:, first] - x[:, second]).sum(-1)), axis=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_geometry_leaks_by_distances_recomputed(seed: int) -> None:
    """The leak guard, with no geometry id: every trained or validated frame differs from every judged one."""
    structures, found, rules, split = split_of("rmd17-cc", seed)
    chosen = select(structures, split, found.low, found.high, 150, None, seed, rules.max_low)

    def nearest(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
        """Largest difference of a distance, for each of a to its nearest of b."""
        x, y = sorted_distances(structures, a), sorted_distances(structures, b)
        return np.array([np.abs(y - row).max(1).min() for row in x])

    for part in (chosen.low.train, chosen.high.train):
        assert nearest(part, split.test).min() > 1e-3
        assert nearest(part, split.validation).min() > 1e-3
    assert nearest(split.validation, split.test).min() > 1e-3
    assert nearest(chosen.high.train, chosen.low.train).min() > 1e-3
    # The guard has something to guard against: most test frames do recur, turned, within the test part.
    high = structures.energy_mask[:, structures.level_index(HIGH)]
    assert nearest(split.test[high[split.test]], split.test[~high[split.test]]).max() < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_coupled_cluster_forces_are_judges_only(seed: int) -> None:
    structures, found, _, split = split_of("ani1ccx", seed)
    labelled = np.flatnonzero(structures.force_mask[:, structures.level_index(found.high)])
    assert len(labelled) == 112
    assert set(labelled.tolist()) <= set(split.test.tolist()) | set(split.unseen.tolist())
    assert len(set(labelled.tolist()) & set(split.test.tolist())) >= 112 - 3 * 8


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["ani1ccx", "ani1x-tz"])
def test_unseen_molecules_are_in_no_other_part(name: str, seed: int) -> None:
    structures, _, rules, split = split_of(name, seed)
    unseen = set(structures.molecule[split.unseen].tolist())
    assert len(unseen) == rules.unseen_molecules == 3
    assert set(np.flatnonzero(np.isin(structures.molecule, list(unseen)))) == set(split.unseen)
    for part in (split.test, split.validation, split.high_pool, split.low_pool):
        assert not unseen & set(structures.molecule[part].tolist())


def test_unseen_molecules_are_the_same_in_both_cases_and_differ_between_seeds() -> None:
    chosen = []
    for seed in range(8):
        one, two = (split_of(name, seed) for name in ("ani1ccx", "ani1x-tz"))
        np.testing.assert_array_equal(one[3].unseen, two[3].unseen)
        chosen.append(tuple(sorted(set(one[0].molecule[one[3].unseen].tolist()))))
    assert len(set(chosen)) >= 6


@pytest.mark.parametrize("name", CASES)
def test_other_seeds_give_other_parts_and_the_same_seed_the_same(name: str) -> None:
    splits = [split_of(name, seed)[3] for seed in (0, 0, 1)]
    for field in fields(Split):
        first, again, other = (getattr(split, field.name) for split in splits)
        np.testing.assert_array_equal(first, again)
        if len(first):
            assert first.tolist() != other.tolist(), field.name
    shared = len(np.intersect1d(splits[0].test, splits[2].test))
    assert shared < 0.8 * len(splits[0].test)


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("name", CASES)
def test_subsets_are_nested_prefixes(name: str, seed: int) -> None:
    structures, found, rules, split = split_of(name, 0)
    chosen = {
        n: select(structures, split, found.low, found.high, n, None, seed, rules.max_low)
        for n in (10, 50, 51, 150, 250)
    }
    for small, large in combinations(chosen, 2):
        a, b = chosen[small], chosen[large]
        assert b.high.train[: len(a.high.train)].tolist() == a.high.train.tolist()
        assert b.high.validation[: len(a.high.validation)].tolist() == a.high.validation.tolist()
        assert b.low.train.tolist() == a.low.train.tolist()
        assert b.low.validation.tolist() == a.low.validation.tolist()
    assert len(chosen[50].high.train) == 40
    assert len(chosen[150].high.train) == 120
    kept = split.validation[structures.energy_mask[split.validation, structures.level_index(found.high)]]
    assert chosen[150].high.validation.tolist() == kept[:30].tolist()


@pytest.mark.parametrize("name", CASES)
def test_other_subset_seeds_give_other_subsets_of_the_same_parts(name: str) -> None:
    structures, found, rules, split = split_of(name, 0)
    one, two = (select(structures, split, found.low, found.high, 150, 100, s, rules.max_low) for s in (0, 1))
    assert len(set(one.high.train.tolist()) & set(two.high.train.tolist())) < 115
    assert one.low.train.tolist() != two.low.train.tolist()
    assert one.high.validation.tolist() == two.high.validation.tolist()
    assert one.low.validation.tolist() == two.low.validation.tolist()


def test_low_level_subsets_are_nested_too() -> None:
    structures, found, rules, split = split_of("rmd17-cc", 0)
    small, large = (
        select(structures, split, found.low, found.high, 50, n, 0, rules.max_low).low.train for n in (100, 400)
    )
    assert (len(small), len(large)) == (100, 400)
    assert large[:100].tolist() == small.tolist()


def test_experiments_share_parts_and_subsets() -> None:
    """Through ``experiment``: arms, sizes and seeds leave the parts alone; arms share the subset."""
    one = prepare(experiment("rmd17-cc", "MF", n_high=50, seed=0))
    for other in (
        experiment("rmd17-cc", "MF", n_high=150, seed=0),
        experiment("rmd17-cc", "MF", n_high=50, seed=5),
        experiment("rmd17-cc", "SF-E", n_high=50, seed=0),
        experiment("rmd17-cc", "SF-low", seed=0),
    ):
        two = prepare(other)
        for field in fields(Split):
            np.testing.assert_array_equal(getattr(one.split, field.name), getattr(two.split, field.name))
        if other.seed == 0:
            np.testing.assert_array_equal(one.selection.low.train, two.selection.low.train)
        if other.arm == "SF-E":
            np.testing.assert_array_equal(one.selection.high.train, two.selection.high.train)
            np.testing.assert_array_equal(one.selection.high.validation, two.selection.high.validation)
        if other.arm == "SF-low":
            assert len(two.selection.high.train) == len(two.selection.high.validation) == 0
    moved = prepare(experiment("rmd17-cc", "MF", n_high=50, seed=0, split_seed=1))
    assert moved.split.test.tolist() != one.split.test.tolist()


# sizes and errors


@pytest.mark.parametrize(
    ("n_high", "expected"),
    [(10, 5), (20, 5), (25, 5), (30, 6), (50, 10), (100, 20), (150, 30), (240, 48), (250, 50), (1000, 50)],
)
def test_validation_size(n_high: int, expected: int) -> None:
    assert validation_size(n_high) == expected


@pytest.mark.parametrize(("name", "most"), [("ani1ccx", 540), ("ani1x-tz", 540), ("rmd17-cc", 250)])
@pytest.mark.parametrize("beyond", [1, 10_000])
def test_n_high_too_large(name: str, most: int, beyond: int) -> None:
    structures, found, rules, split = split_of(name, 0)
    largest = select(structures, split, found.low, found.high, most, None, 0, rules.max_low)
    check_selection(structures, found.low, found.high, split, largest, most)
    message = f"n_high: expected 10 to {most} structures with an energy at {re.escape(found.high)}"
    with pytest.raises(LabelsMissing, match=rf"{message}.*got {most + beyond}"):
        select(structures, split, found.low, found.high, most + beyond, None, 0, rules.max_low)


@pytest.mark.parametrize("n_high", [1, 9, -5])
def test_n_high_too_small(n_high: int) -> None:
    structures, found, rules, split = split_of("rmd17-cc", 0)
    with pytest.raises(LabelsMissing, match=f"n_high: expected 10 to 250 .*got {n_high}"):
        select(structures, split, found.low, found.high, n_high, None, 0, rules.max_low)


@pytest.mark.parametrize("n_low", [651, 9, 0, -1])
def test_n_low_out_of_range(n_low: int) -> None:
    structures, found, rules, split = split_of("rmd17-cc", 0)
    with pytest.raises(LabelsMissing, match=f"n_low: expected 10 to 650 structures at pbe/def2-svp, got {n_low}"):
        select(structures, split, found.low, found.high, 50, n_low, 0, rules.max_low)


def test_at_most_so_many_low_level_structures() -> None:
    """rMD17's authors: never train on more than 1,000; here 100 of 650."""
    structures, found, _, split = split_of("rmd17-cc", 0)
    chosen = select(structures, split, found.low, found.high, 50, None, 0, max_low=100)
    assert len(chosen.low.train) == 100
    with pytest.raises(UserError, match=r"at most 100 low-level training structures, got 101.*--exceed-max-train"):
        select(structures, split, found.low, found.high, 50, 101, 0, max_low=100)
    chosen = select(structures, split, found.low, found.high, 50, 101, 0, max_low=100, exceed=True)
    assert len(chosen.low.train) == 101
    unasked = select(structures, split, found.low, found.high, 50, None, 0, max_low=100, exceed=True)
    assert len(unasked.low.train) == 100


def test_every_rmd17_variant_keeps_to_its_authors_limit() -> None:
    assert {rules.most_low for rules in case("rmd17-cc").data.values()} == {1000}


def test_published_ethanol(shared_real: Path) -> None:
    """rMD17's own test file is test; MD17-CC's frames that recur in it are never trained on."""
    found = case(ROOT / "benchmarks" / "ethanol-split01.yaml")
    rules, high = found.choice("ethanol"), found.high
    structures = DataRequest(rules.datasets, folder=shared_real).load()
    split = make_split(structures, found.low, high, rules, 0)
    check_parts(structures, found.low, high, rules, split)
    theirs = np.flatnonzero(structures.file == structures.files.index("rmd17_ethanol_test_01.npz"))
    assert len(theirs) == 1000
    assert set(theirs.tolist()) <= set(split.test.tolist())
    coupled_cluster = structures.energy_mask[:, structures.level_index(high)]
    recurring = coupled_cluster & np.isin(structures.geometry, structures.geometry[theirs])
    assert recurring.sum() == 7
    assert set(np.flatnonzero(recurring).tolist()) <= set(split.test.tolist())
    chosen = select(structures, split, found.low, high, 200, None, 0, rules.max_low)
    check_selection(structures, found.low, high, split, chosen, 200)
    assert len(chosen.low.train) <= 1000


def rules_of(**changes: object) -> CaseData:
    content = {"datasets": ("own",), "overlap": "nested", "test": 0.2, "validation": 10}
    return CaseData.model_validate({**content, **changes})


# synthetic data


def synthetic(seed: int, count: int = 240, high: float = 0.6, low: float = 0.8, forces: float = 0.9) -> Structures:
    """Four molecules with recurring geometries and every pattern of missing labels, in three files."""
    rng = np.random.default_rng(seed)
    parts = []
    for molecule, numbers in enumerate(([8, 1], [6, 8], [7, 1], [6, 9])):
        frames = count // 4
        energies = rng.normal(size=(frames, 2))
        energies[rng.random(frames) > low, 0] = np.nan
        energies[rng.random(frames) > high, 1] = np.nan
        labels = rng.normal(size=(frames, 2, 2, 3))
        labels[rng.random((frames, 2)) > forces] = np.nan  # by frame, level
        parts.append(
            Frames(
                molecule=f"M{molecule}",
                numbers=np.array(numbers),
                positions=rng.normal(size=(frames, 2, 3)),
                energies=energies,
                forces=labels.swapaxes(0, 1),
                file=f"{molecule % 3}.npz",
                rows=np.arange(frames),
            )
        )
    s = assemble([LOW, HIGH], parts)
    # A third of the frames share a geometry with another; ids are neither dense nor in order.
    ids = s.molecule * 10_000 + rng.integers(0, count // 4, len(s)) * 7
    return replace(s, geometry=ids.astype(np.int64))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "rules",
    [
        rules_of(),
        rules_of(overlap="disjoint"),
        rules_of(overlap="disjoint", high_pool=25),
        rules_of(unseen_molecules=1),
        rules_of(test_files=("1.npz",), unseen_molecules=1),
        rules_of(reserve=LabelKind(level=HIGH, label="forces"), validation=5),
        rules_of(overlap="disjoint", high_pool=25, test_files=("2.npz",), unseen_molecules=1, test=0.4),
    ],
    ids=lambda rules: ",".join(sorted(rules.model_fields_set - {"datasets", "overlap"})) + f" {rules.overlap}",
)
def test_synthetic(seed: int, rules: CaseData) -> None:
    # Where all structures with high-level forces are reserved, few may have them.
    s = synthetic(seed, forces=0.3 if rules.reserve else 0.9, low=0.9)
    if rules.overlap == "disjoint" and rules.high_pool is None:
        s = replace(s, energy_mask=s.energy_mask & np.array([True, False]) | (s.row < 25)[:, None])
    split = make_split(s, LOW, HIGH, rules, seed)
    check_parts(s, LOW, HIGH, rules, split)
    if rules.test_files:
        inside = np.flatnonzero(s.file == s.files.index(rules.test_files[0]))
        assert set(inside.tolist()) <= set(split.test.tolist()) | set(split.unseen.tolist())
    if rules.reserve:
        reserved = np.flatnonzero(s.force_mask[:, 1])
        assert set(reserved.tolist()) <= set(split.test.tolist()) | set(split.unseen.tolist())
    assert len(set(s.molecule[split.unseen].tolist())) == rules.unseen_molecules

    refused = []
    for n_high in range(10, len(s)):
        try:
            chosen = select(s, split, LOW, HIGH, n_high, None, seed)
        except LabelsMissing:
            refused.append(n_high)
        else:
            check_selection(s, LOW, HIGH, split, chosen, n_high)
    # What is refused is beyond the largest that can be had, and nothing in between.
    assert refused == list(range(refused[0], len(s)))
    with pytest.raises(LabelsMissing, match=f"expected 10 to {refused[0] - 1} "):
        select(s, split, LOW, HIGH, refused[0], None, seed)


@pytest.mark.parametrize(("pool", "validation", "most"), [(100, 50, 125), (40, 50, 50), (300, 50, 350), (300, 20, 320)])
def test_largest_n_high(pool: int, validation: int, most: int) -> None:
    """n = training + validation: a fifth of n, at most 50 and what the pool of validation holds."""
    s = synthetic(0, count=1200, high=1, low=1, forces=1)
    s = replace(s, geometry=np.arange(1200))
    indices = np.arange(1200)
    split = Split(
        test=indices[800:],
        unseen=indices[:0],
        validation=indices[400 : 400 + validation],
        high_pool=indices[:pool],
        low_pool=indices[:pool],
        oracle_pool=indices[:pool],
    )
    chosen = select(s, split, LOW, HIGH, most, None, 0)
    assert len(chosen.high.train) == pool
    assert len(chosen.high.train) + len(chosen.high.validation) == most
    with pytest.raises(LabelsMissing, match=f"expected 10 to {most} .*got {most + 1}"):
        select(s, split, LOW, HIGH, most + 1, None, 0)


def test_relabelled_geometries_stay_together() -> None:
    """One geometry in four copies with different labels at different levels: all copies in one part."""
    base = synthetic(3, count=80, high=1, low=1, forces=1)
    s = base[np.concatenate([np.arange(80)] * 4)]
    geometry = np.tile(np.arange(80), 4)
    copy = np.repeat(np.arange(4), 80)
    mask = np.stack([copy < 2, copy >= 2], 1)
    s = replace(s, geometry=geometry, energy_mask=mask, force_mask=mask)
    for overlap in ("nested", "disjoint"):
        rules = rules_of(overlap=overlap, high_pool=20 if overlap == "disjoint" else None)
        split = make_split(s, LOW, HIGH, rules, 0)
        check_parts(s, LOW, HIGH, rules, split)
        assert len(split.test) == 4 * 16
        assert len(split.validation) == 4 * 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test": 0.99},
            rf"no structure with an energy at {re.escape(HIGH)} to train on: .* the test part.* test: 0.99",
        ),
        (
            {"validation": 500},
            r"to train on: of (\d+) such geometries \d+ are in the test part, \d+ validate; .* validation: 500: lower",
        ),
        ({"test": 1e-9}, r"the split leaves the test part empty: .* test: 1e-09, .*: raise `test`"),
        ({"unseen_molecules": 4}, "unseen_molecules: expected fewer than the 4 molecules of the data, got 4"),
        ({"test_files": ("no.npz",)}, r"test_files: no such file in the data: \['no\.npz'\]"),
        ({"overlap": "disjoint", "high_pool": 5000}, None),
    ],
)
def test_rules_that_cannot_be_kept(changes: dict[str, object], message: str | None) -> None:
    """A high pool larger than there is leaves what there is: only the low level may then be empty."""
    s = synthetic(0)
    if message is None:
        split = make_split(s, LOW, HIGH, rules_of(**changes), 0)
        assert len(split.high_pool) < 5000
    else:
        with pytest.raises(UserError, match=message):
            make_split(s, LOW, HIGH, rules_of(**changes), 0)


def test_a_pool_of_the_high_level_that_leaves_the_low_one_nothing() -> None:
    s = synthetic(0)
    every = np.ones_like(s.energy_mask)
    with pytest.raises(
        UserError,
        match=rf"an energy and forces at {re.escape(LOW)} to train on: .* are kept for the high level; the case says .*"
        r"overlap: disjoint, high_pool: all that are left: lower",
    ):
        make_split(replace(s, energy_mask=every, force_mask=every), LOW, HIGH, rules_of(overlap="disjoint"), 0)


def test_a_level_without_forces_to_train_on() -> None:
    s = synthetic(0)
    bare = replace(s, force_mask=np.zeros_like(s.force_mask))
    with pytest.raises(UserError, match=rf"an energy and forces at {re.escape(LOW)} to train on, the data have none"):
        make_split(bare, LOW, HIGH, rules_of(), 0)


def test_a_level_that_the_data_do_not_hold() -> None:
    with pytest.raises(UserError, match=r"no labels at level 'wb97x/6-31g\*'"):
        make_split(synthetic(0), "wb97x/6-31g*", HIGH, rules_of(), 0)


# explicit sets, size, and the guard against leaks


def with_sets(structures: Structures, **members: NDArray[np.bool_]) -> Structures:
    bits = sum(mask.astype(np.uint32) << np.uint32(k) for k, mask in enumerate(members.values()))
    return replace(structures, sets=tuple(members), member=np.asarray(bits, np.uint32))


@pytest.mark.parametrize("seed", range(4))
def test_named_sets_are_the_test_part(seed: int) -> None:
    """Whole geometries go to the test part, also those with a structure outside of the set."""
    s = synthetic(seed, high=0.9, low=0.9)
    s = with_sets(s, official=np.random.default_rng(seed).random(len(s)) < 0.1)
    rules = rules_of(test_sets=("official",), test=0.05)
    split = make_split(s, LOW, HIGH, rules, seed)
    check_parts(s, LOW, HIGH, rules, split)
    assert geometries(s, np.flatnonzero(s.in_set("official"))) <= geometries(s, split.test)


def test_only_named_sets_are_trained_on() -> None:
    s = synthetic(1, high=1, low=1, forces=1)
    s = replace(s, geometry=np.arange(len(s)))
    order = np.random.default_rng(0).permutation(len(s))
    train, test = np.isin(order, np.arange(120)), np.isin(order, np.arange(120, 160))
    s = with_sets(s, train=train, test=test)
    split = make_split(s, LOW, HIGH, rules_of(train_sets=("train",), test_sets=("test",), test=0.01), 0)
    used = np.concatenate([split.high_pool, split.low_pool, split.validation])
    assert train[used].all()
    assert set(split.test.tolist()) == set(np.flatnonzero(test).tolist())


def test_a_split_that_leaks_is_refused_with_the_list() -> None:
    """Train and test set as declared share two geometries: both are named, with molecule, row and file."""
    s = synthetic(2, high=1, low=1, forces=1)
    ids = np.arange(len(s))
    ids[[100, 150]] = ids[[5, 7]]
    s = replace(s, geometry=ids)
    train, test = np.arange(len(s)) < 90, np.arange(len(s)) >= 90
    s = with_sets(s, train=train, test=test)
    with pytest.raises(DataCorrupt, match="2 structures of one part are geometries of another") as caught:
        make_split(s, LOW, HIGH, rules_of(train_sets=("train",), test_sets=("test",)), 0)
    for one, other in ((5, 100), (7, 150)):
        assert f"{s.where(one)} (train_sets) = {s.where(other)} (test_sets)" in str(caught.value)
    assert "M0, row 5 of 0.npz (train_sets)" in str(caught.value)


def test_the_list_of_leaks_has_an_end() -> None:
    s = synthetic(2)
    s = replace(s, geometry=np.zeros(len(s), np.int64))
    with pytest.raises(DataCorrupt, match=r"40 structures .*; and 30 more\. Put each geometry in one part"):
        refuse_leaks(s, {"a": np.arange(3), "b": np.arange(10, 50)})


def test_an_unknown_set() -> None:
    with pytest.raises(DataCorrupt, match="no set 'official': the data hold none"):
        make_split(synthetic(0), LOW, HIGH, rules_of(test_sets=("official",)), 0)


@pytest.mark.parametrize("seed", range(3))
def test_large_molecules_are_unseen(seed: int) -> None:
    """Trained on small ones only, judged on large ones: a split by size."""
    s = DataRequest(("mini-ani1x",)).load()
    low, high = "wb97x/6-31g*", "wb97x/def2-tzvpp"
    rules = rules_of(unseen_above=5, datasets=("mini-ani1x",))
    split = make_split(s, low, high, rules, seed)
    check_parts(s, low, high, rules, split)
    assert set(split.unseen.tolist()) == set(np.flatnonzero(s.n_atoms > 5).tolist())
    for part in (split.test, split.validation, split.high_pool, split.low_pool):
        assert (s.n_atoms[part] <= 5).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_number_of_test_geometries_and_a_limit_to_what_is_judged(seed: int) -> None:
    s = synthetic(seed, count=1200, high=0.3, low=0.9)
    s = replace(s, geometry=np.arange(len(s)))
    whole = make_split(s, LOW, HIGH, rules_of(test=150, unseen_molecules=1), seed)
    few = make_split(s, LOW, HIGH, rules_of(test=150, unseen_molecules=1, max_test=60), seed)
    column = s.level_index(HIGH)
    assert len(whole.test) >= 150
    assert np.count_nonzero(s.energy_mask[whole.test, column]) >= 150
    for part in ("test", "unseen"):
        all_of_it, judged = getattr(whole, part), getattr(few, part)
        assert len(judged) == 60
        assert set(judged.tolist()) < set(all_of_it.tolist())
        assert s.energy_mask[judged, column].all()  # those with a high-level label first
    for part in ("validation", "high_pool", "low_pool"):
        np.testing.assert_array_equal(getattr(whole, part), getattr(few, part))


def test_a_twin_outside_of_the_sets_takes_nothing_away() -> None:
    """A geometry of the training set stays there when another file, in no set, has it too; the twin is not used."""
    s = synthetic(3, high=1, low=1, forces=1)
    ids = np.arange(len(s))
    ids[200:] = ids[:40]
    s = replace(s, geometry=ids)
    rows = np.arange(len(s))
    s = with_sets(s, train=rows < 150, test=(rows >= 150) & (rows < 200))
    split = make_split(s, LOW, HIGH, rules_of(train_sets=("train",), test_sets=("test",), test=0.01), 0)
    used = np.concatenate([split.high_pool, split.low_pool, split.validation])
    assert set(used.tolist()) == set(range(150))


def test_more_sets_than_bits_when_joined() -> None:
    one = with_sets(synthetic(0), **{f"a{k}": np.ones(240, bool) for k in range(20)})
    two = with_sets(synthetic(0), **{f"b{k}": np.ones(240, bool) for k in range(20)})
    with pytest.raises(DataCorrupt, match="at most 32 named sets in all datasets"):
        join([one, two])


@pytest.mark.parametrize(
    ("name", "overlap", "digest"),
    [
        ("ani1ccx", "nested", "b1daed27d3c47ed7"),
        ("ani1x-tz", "nested", "e234a4401a28c274"),
        ("ladder", "nested", "b1daed27d3c47ed7"),
        ("rmd17-cc", "partly", "310bb17806e4befb"),
        ("rmd17-cc", "disjoint", "13f15faa0843631a"),
    ],
)
def test_splits_are_those_of_released_runs(name: str, overlap: Overlap, digest: str) -> None:
    """Bit for bit, order included: runs that are finished and those to come are judged on the same structures."""
    structures, declared, rules = problem(name)
    split = make_split(structures, declared.low, declared.high_of("mini"), rules.overlapping(overlap), seed=1)
    content = b"".join(getattr(split, field.name).tobytes() + b"|" for field in fields(split))
    assert hashlib.sha256(content).hexdigest()[:16] == digest
