"""Statistics over paired seeds: known answers, coverage of intervals, and what is said of few seeds."""

import numpy as np
import pytest
from conftest import script
from scipy import stats

from mfbench.results.statistics import Estimate, LogErrors, compare, estimate, gap_closed, holm, resolvable, variance


def lognormal(seed: int, seeds: int = 6, groups: int = 12) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(0, 0.3, (seeds, groups)))


def test_an_error_is_the_geometric_mean_of_the_seeds() -> None:
    errors, counts = lognormal(0), np.arange(1, 13)
    of_seeds = errors @ counts / counts.sum()
    found = estimate(LogErrors.of(errors, counts))
    assert np.allclose(found.seeds, of_seeds)
    assert found.value == pytest.approx(np.exp(np.log(of_seeds).mean()))
    rooted = estimate(LogErrors.of(errors, counts, root=True))
    assert np.allclose(rooted.seeds, np.sqrt(of_seeds))


def test_over_seeds_alone_the_interval_is_students() -> None:
    errors = lognormal(1)[:, 0]
    found, logs = estimate(LogErrors.of(errors)), np.log(errors)
    half = stats.t.ppf(0.975, 5) * logs.std(ddof=1) / np.sqrt(6)
    assert found.low == pytest.approx(np.exp(logs.mean() - half))
    assert found.high == pytest.approx(np.exp(logs.mean() + half))
    assert found.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)


def test_variance_of_rows_and_columns() -> None:
    """Tables drawn again and again scatter by as much as the variance of one says, on average."""
    rng, means, said = np.random.default_rng(2), [], []
    for _ in range(2000):
        table = 0.5 * rng.normal(size=(5, 1)) + 0.8 * rng.normal(size=(1, 15)) + 0.6 * rng.normal(size=(5, 15))
        means.append(table.mean())
        said.append(variance(table)[0])
    assert np.mean(said) == pytest.approx(np.var(means), rel=0.1)


def test_covariance_is_bilinear() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 6, 9))
    twice = variance(one, other)[0] + variance(other, one)[0]
    both = variance(one + other, one + other)[0]
    alone = variance(one, one)[0] + variance(other, other)[0]
    assert both == pytest.approx(alone + twice)


@pytest.mark.parametrize("root", [False, True])
def test_a_group_with_no_structures_changes_nothing(root: bool) -> None:
    errors, counts = lognormal(4), np.r_[np.arange(1, 12), 0]
    changed = errors.copy()
    changed[:, -1] = 100.0
    one, other = (estimate(LogErrors.of(each, counts, root)) for each in (errors, changed))
    assert one.value == pytest.approx(other.value)
    assert one.low == pytest.approx(other.low)


def test_few_seeds_are_points_without_an_interval() -> None:
    found = estimate(LogErrors.of(lognormal(5, seeds=4)))
    assert np.isfinite(found.value)
    assert len(found.seeds) == 4
    assert np.isnan([found.low, found.high, found.p, resolvable(found)]).all()


def test_pairing_takes_away_what_arms_share() -> None:
    shared, own = lognormal(6), lognormal(7) ** 0.1
    one, other = LogErrors.of(shared * own), LogErrors.of(2 * shared)
    alone, ratio = estimate(one), estimate(other - one)
    assert np.log(ratio.high / ratio.low) < 0.5 * np.log(alone.high / alone.low)
    assert ratio.low < 2 < ratio.high
    by_seeds = estimate(other - LogErrors.of(one.of_seeds * 0 + 1.0))  # one that knows no groups
    assert len(by_seeds.seeds) == 6
    with pytest.raises(ValueError, match="seeds are paired"):
        _ = one - LogErrors.of(lognormal(6, seeds=5))


# The gap closed


def three(seed: int, sf_e: float, arm: float, seeds: int = 5) -> tuple[LogErrors, LogErrors, LogErrors]:
    every = [lognormal(seed + k, seeds) ** 0.3 for k in range(3)]
    return tuple(LogErrors.of(size * one) for size, one in zip((arm, sf_e, 1.0), every))  # type: ignore[return-value]


def test_gap_closed() -> None:
    found = gap_closed(*three(10, 3.0, 1.5))
    truth = 1 - np.log(1.5) / np.log(3.0)
    assert found.low < truth < found.high
    assert found.value == pytest.approx(truth, abs=0.1)
    assert np.isfinite(found.seeds).all()


def test_the_gap_is_undefined_where_nothing_tells_its_ends_apart() -> None:
    """As in the shipped results: of five seeds one has a gap, and it is not the number of all."""
    sf_e, sf_ef = np.array([15.2, 14.0, 14.5, 22.0, 15.0]), np.array([19.8, 15.0, 16.0, 20.0, 19.0])
    found = gap_closed(*(LogErrors.of(one) for one in (sf_e * 1.1, sf_e, sf_ef)))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert np.isfinite(found.seeds).sum() == 1


def test_few_seeds_have_a_gap_where_all_of_them_have() -> None:
    arm, sf_e, sf_ef = np.array([1.5, 1.4, 1.6]), np.array([3.0, 2.8, 3.1]), np.ones(3)
    found = gap_closed(*(LogErrors.of(one) for one in (arm, sf_e, sf_ef)))
    assert found.value == pytest.approx(1 - np.log(arm).mean() / np.log(sf_e).mean())
    assert np.isnan(found.low)
    sf_e[1] = 0.9
    assert np.isnan(gap_closed(*(LogErrors.of(one) for one in (arm, sf_e, sf_ef))).value)


# Several comparisons


def test_holm() -> None:
    assert holm([0.001, 0.04, 0.02, np.nan]) == [True, True, True, False]
    assert holm([0.001, 0.04, 0.03]) == [True, False, False]
    assert holm([0.02, 0.03, 0.04]) == [False, False, False]
    assert holm([]) == []


def test_arms_that_differ_are_told_from_those_that_do_not() -> None:
    common = lognormal(20)
    arms = {
        name: LogErrors.of(size * common * lognormal(21 + k) ** 0.2)
        for k, (name, size) in enumerate({"MF": 1.0, "SF-E": 3.0, "another": 1.01}.items())
    }
    found = {one.arm: one for one in compare(arms, "MF")}
    assert set(found) == {"SF-E", "another"}
    assert found["SF-E"].differs
    assert not found["another"].differs
    assert 1.01 < found["another"].resolvable < 2
    assert isinstance(found["SF-E"].ratio, Estimate)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """A small copy of benchmarks/coverage.py; its limits are some three standard errors wide."""
    coverage = script("coverage")
    found = coverage.covered(np.random.default_rng(0), 300, False, **coverage.SHAPES[0])
    for name in ("error", "ratio", "gap closed"):
        assert 0.90 <= found[name] <= 0.99, name
    assert found["equal arms called different"] <= 0.08
