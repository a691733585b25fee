"""Labels saved, slopes and crossings of learning curves: known answers on tables that follow power laws."""

import numpy as np
import pandas as pd
import pytest
from conftest import script
from tables import results_table

from mfbench.errors import UserError
from mfbench.results.paired import PairedErrors
from mfbench.results.scaling import CROSSINGS, FEWER, SLOPES, crossings, fewer, slopes
from mfbench.results.statistics import LogErrors, crossing, slope
from mfbench.show.claims import times_text
from mfbench.show.tables import fewer_lines

SIZES = (25, 50, 100, 200, 400)


def of(table: pd.DataFrame, case: str = "ani1x-tz") -> PairedErrors:
    return PairedErrors.of(table, case)


def scattered(table: pd.DataFrame, spread: float = 0.1) -> pd.DataFrame:
    """The same with every error a factor off, drawn for each row."""
    rng = np.random.default_rng(0)
    return table.assign(value=table["value"] * np.exp(spread * rng.normal(size=len(table))))


def row(table: pd.DataFrame, **where: object) -> pd.Series:
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_labels_saved_are_those_of_the_power_law() -> None:
    """SF-E needs (1.2 / 0.35)**2 times as many labels as MF: 11.8, which only the smallest size can tell."""
    found = fewer(of(results_table(["ani1x-tz"], sizes=SIZES, seeds=range(3))))
    assert list(found.columns) == list(FEWER)
    told = row(found, arm="MF", quantity="energy", n_high=25)
    assert told["times"] == pytest.approx((1.2 / 0.35) ** 2)
    assert told[["least", "most"]].tolist() == pytest.approx([told["times"]] * 2)
    assert np.isnan(told[["low", "high"]].astype(float)).all()  # three seeds
    beyond = row(found, arm="MF", quantity="energy", n_high=50)
    assert np.isinf(beyond["times"])
    assert times_text(beyond) == "≥ 8.00"
    assert set(found["arm"]) == {"MF", "SF-EF"}  # no SF-low: its number of labels is no choice


def test_what_is_below_the_first_size_is_a_bound() -> None:
    found = fewer(of(results_table(["ani1x-tz"], sizes=SIZES)), other="MF")
    told = row(found, arm="SF-E", quantity="energy", n_high=200)
    assert told["times"] == 0
    assert times_text(told) == "< 0.125"
    assert row(found, arm="SF-E", quantity="energy", n_high=400)["times"] == pytest.approx((0.35 / 1.2) ** 2)


def test_five_seeds_have_an_interval() -> None:
    found = fewer(of(scattered(results_table(["ani1x-tz"], sizes=SIZES, seeds=range(5)))))
    told = row(found, arm="MF", quantity="energy", n_high=25)
    assert told["low"] < told["times"] < told["high"] < 2 * told["low"]
    assert told["low"] < (1.2 / 0.35) ** 2 < told["high"]
    assert times_text(told).count("[") == 1
    sure = row(found, arm="MF", quantity="energy", n_high=100)
    assert (sure["low"], sure["high"]) == (4, np.inf)
    assert times_text(sure) == "≥ 4.00"


def test_seeds_that_are_missing_at_one_size_leave_that_size_out() -> None:
    table = results_table(["ani1x-tz"], sizes=SIZES, seeds=range(5))
    running = table[(table["arm"] != "SF-E") | (table["n_high"] < 400) | (table["seed"] == 0)]
    told = row(fewer(of(running)), arm="MF", quantity="energy", n_high=25)
    assert told["seeds"] == 5
    assert told["most_seen"] == 8


def of_runs(**seeds: list[int]) -> PairedErrors:
    """Of the runs of some seeds alone, by arm and size: ``SFE_50=[0, 1]``."""
    table = results_table(["ani1x-tz"], sizes=SIZES, seeds=range(6))
    own = table["arm"].str.replace("-", "") + "_" + table["n_high"].astype(str)
    kept = [seed in seeds.get(name, []) for name, seed in zip(own, table["seed"])]
    return of(table[kept])


def test_arms_without_a_common_seed_are_not_compared() -> None:
    errors = of_runs(SFE_50=[0], SFE_100=[0], MF_50=[1], MF_100=[1])
    assert crossings(errors).empty
    assert fewer(errors).empty
    assert len(slopes(errors)) == 2 * 4  # of each arm its own


def test_sizes_without_a_common_seed_have_no_slope() -> None:
    assert slopes(of_runs(MF_50=[0], MF_200=[1])).empty
    told = row(slopes(of_runs(MF_25=[0, 1, 2], MF_50=[1, 2, 3], MF_100=[2, 3, 4, 5])), quantity="energy")
    assert (told["slope"], told["sizes"], told["seeds"]) == (pytest.approx(-0.5), 2, 2)  # 25 and 50, seeds 1 and 2


def test_sizes_count_that_have_a_seed_in_common() -> None:
    told = row(fewer(of_runs(MF_50=[0, 1], SFE_50=[0], SFE_200=[1])), quantity="energy")
    assert (told["least_seen"], told["most_seen"], told["seeds"]) == (1, 1, 1)  # the first of what is as good
    told = row(fewer(of_runs(MF_50=[0, 1], SFE_25=[0], SFE_50=[1], SFE_200=[1])), quantity="energy")
    assert (told["least_seen"], told["most_seen"], told["seeds"]) == (1, 4, 1)  # two sizes over one


def test_arms_cross_over_the_sizes_that_both_have_with_the_same_seeds() -> None:
    told = row(
        crossings(of_runs(SFE_25=[0, 1], MF_25=[1, 2], SFE_50=[1], MF_50=[0, 1], SFE_100=[0], MF_100=[0])),
        quantity="energy",
    )
    assert (told["smallest"], told["largest"], told["seeds"]) == (25, 50, 1)


def test_costs_are_compared_where_they_are_known() -> None:
    table = results_table(["ani1x-tz"], sizes=SIZES)
    assert fewer(of(table), axis="cost").empty
    cost = 10.0 * table["n_high"] + np.where(table["arm"] == "MF", 100, 0)
    told = row(fewer(of(table.assign(label_seconds=cost)), axis="cost"), arm="MF", quantity="energy", n_high=25)
    assert told["times"] == pytest.approx(25 * (1.2 / 0.35) ** 2 * 10 / 350)
    with pytest.raises(UserError, match="axis of learning curves"):
        fewer(of(table), axis="time")  # type: ignore[arg-type]


def test_slopes_are_the_exponents() -> None:
    found = slopes(of(scattered(results_table(["ani1x-tz"], sizes=SIZES, seeds=range(5)), 0.05)))
    assert list(found.columns) == list(SLOPES)
    for quantity, power in (("energy", -0.5), ("force", -0.3)):
        told = row(found, arm="MF", quantity=quantity)
        assert told["low"] < power < told["high"] < told["low"] + 0.2
        assert (told["sizes"], told["seeds"]) == (5, 5)
    assert slopes(of(results_table(["ani1x-tz"], sizes=[50]))).empty


def test_curves_that_cross_and_curves_that_do_not() -> None:
    table = results_table(["ani1x-tz"], arms=("SF-E", "MF"), sizes=SIZES, seeds=range(5))
    assert np.isinf(row(crossings(of(table)), quantity="energy")["n_high"])
    # MF's error no longer falls: SF-E reaches it where n is (1.2 / 0.35)**2 * 25.
    flat = table["value"].where(table["arm"] != "MF", table["value"] * np.sqrt(table["n_high"] / 25))
    told = row(crossings(of(scattered(table.assign(value=flat), 0.03))), quantity="energy")
    assert list(told.index) == list(CROSSINGS)
    assert (told["arm"], told["other"]) == ("MF", "SF-E")
    assert told["low"] < 25 * (1.2 / 0.35) ** 2 < told["high"]
    assert (told["smallest"], told["largest"]) == (25, 400)


def test_lines_leave_out_where_nothing_can_be_told() -> None:
    lines = fewer_lines(fewer(of(results_table(["ani1x-tz"], sizes=(50, 150)))))
    assert [line[:2] for line in lines] == [["50", "MF"], ["50", "SF-EF"]]
    assert lines[0][2:] == ["≥ 3.00", "≥ 3.00", "≥ 3.00", "1"]


# The statistics below


def logs(*curve: float, seeds: int = 5, spread: float = 0.1) -> list[LogErrors]:
    rng = np.random.default_rng(1)
    return [LogErrors(np.log(one) + spread * rng.normal(size=(seeds, 1))) for one in curve]


def test_a_crossing_is_on_the_line_between_two_sizes() -> None:
    found = crossing([10, 100], logs(10, 0.1, spread=0))
    assert found.value == pytest.approx(np.sqrt(1000))
    assert np.allclose(found.seeds, found.value)
    assert (found.low, found.high) == pytest.approx((found.value, found.value), rel=1e-6)


def test_a_crossing_that_is_not_measured_is_none() -> None:
    above, below = crossing([10, 100], logs(5, 3)), crossing([10, 100], logs(0.3, 0.2))
    assert (above.value, above.low, above.high) == (np.inf, pytest.approx(100), np.inf)
    assert (below.value, below.low, below.high) == (0, 0, pytest.approx(10))
    alike = crossing([10, 100], logs(1.02, 0.98, spread=0.3))
    assert (alike.low, alike.high) == (0, np.inf)  # nothing is known
    one = crossing([10], logs(5))
    assert (one.value, one.low) == (np.inf, pytest.approx(10))


def test_few_seeds_have_no_interval() -> None:
    for found in (crossing([10, 100], logs(10, 0.1, seeds=4)), slope([10, 100], logs(10, 0.1, seeds=4))):
        assert np.isnan([found.low, found.high]).all()
        assert len(found.seeds) == 4


def test_intervals_of_labels_saved_and_slopes_hold_the_truth_as_often_as_they_say() -> None:
    """A small copy of benchmarks/coverage.py; its limits are some three standard errors wide."""
    coverage = script("coverage")
    found = coverage.labels_covered(np.random.default_rng(0), 300, **coverage.SHAPES[0])
    assert 0.90 <= found["slope"] <= 0.99
    assert 0.90 <= found["fewer labels"] <= 0.99
    assert found["best of equals called different"] <= 0.08
