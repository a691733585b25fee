"""Which arm is best and how surely, what predicting nothing gives, and numbers that are worked out once."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from tables import results_table
from test_groups import predictions
from test_summary import made

import mfbench
from mfbench.errors import UserError
from mfbench.results.baselines import zero
from mfbench.results.evidence import Evidence, evidence
from mfbench.results.memo import Memo
from mfbench.results.paired import PairedErrors
from mfbench.results.predictions import Predictions
from mfbench.results.ranking import DIFFERENCES, Best
from mfbench.results.summary import summary
from mfbench.show.claims import best_text, ratio_text
from mfbench.show.html import best_html, fewer_html
from mfbench.show.text import text_table


def between(rows: pd.DataFrame, arm: str, other: str, quantity: str = "energy") -> pd.Series:
    return rows[(rows["arm"] == arm) & (rows["other"] == other) & (rows["quantity"] == quantity)].iloc[0]


def test_every_two_arms_are_compared_both_ways_round() -> None:
    table, stored = made({"SF-E": 3.0, "MF": 1.2, "delta": 1.2, "SF-EF": 1.0})
    own = Evidence(table, "ani1ccx", stored=stored.get)
    rows = own.differences
    assert list(rows.columns) == list(DIFFERENCES)
    energies = rows[rows["quantity"] == "energy"]
    assert len(energies) == 4 * 3
    one, other = between(rows, "MF", "SF-E"), between(rows, "SF-E", "MF")
    assert one["low"] < 0.4 < one["high"]
    assert one[["ratio", "low", "high", "least"]].tolist() == pytest.approx(
        (1 / other[["ratio", "high", "low", "most"]]).tolist()
    )
    assert one["differs"]
    assert other["differs"]
    assert not between(rows, "MF", "delta")["differs"]
    against = own.summary.set_index(["arm", "quantity"]).loc[("SF-E", "energy")]
    assert other[["ratio", "low", "high"]].tolist() == pytest.approx(
        against[["against", "against_low", "against_high"]].tolist()
    )


def test_the_best_arm_is_named_with_those_that_cannot_be_told_from_it() -> None:
    table, stored = made({"SF-E": 3.0, "MF": 1.2, "delta": 1.21, "SF-EF": 0.6})
    own = Evidence(table, "ani1ccx", stored=stored.get)
    found = own.best(50, "energy")
    assert found is not None
    assert {found.arm, *found.alike} == {"MF", "delta"}  # SF-EF sees what the others do without
    assert found.seeds == 6
    assert best_text(found) == f"{found.arm} is best; {found.alike[0]} cannot be told from it (6 seeds)."
    assert own.best(51, "energy") is None


def test_few_seeds_call_no_arm_the_best() -> None:
    found = Evidence(results_table(["ani1x-tz"], seeds=range(2)), "ani1x-tz").best(50, "energy")
    assert found == Best("MF", (), ("SF-E",), 2)
    assert best_text(found) == "MF is lowest (2 seeds: too few to tell)."
    alone = Evidence(results_table(["ani1x-tz"], arms=["MF"]), "ani1x-tz").best(50, "energy")
    assert best_text(alone) == "MF is lowest (1 seed: too few to tell)."
    assert "No arm" in best_text(None)


def test_ratios_are_told_with_whether_they_are_more_than_the_spread_of_seeds() -> None:
    table, stored = made({"SF-E": 3.0, "MF": 1.2, "SF-EF": 1.19})
    own = Evidence(table, "ani1ccx", stored=stored.get)
    assert ratio_text(own, 50, "energy").endswith("times SF-E’s: beyond the seeds’ spread.")
    assert "within the seeds’ spread" in ratio_text(own, 50, "energy", other="SF-EF")
    assert ratio_text(own, 50, "energy", other="delta") == "MF and delta have no seed in common here."
    few = Evidence(results_table(["ani1x-tz"], seeds=range(3)), "ani1x-tz")
    assert "(0.292–0.292) times SF-E’s: in each of 3 seeds." in ratio_text(few, 50, "energy")
    assert "one seed" in ratio_text(Evidence(results_table(["ani1x-tz"]), "ani1x-tz"), 50, "energy")


def test_the_error_of_predicting_nothing_comes_from_stored_references() -> None:
    table, stored = made({"MF": 1.0}, seeds=2)
    p = predictions(180)
    forces = p.force_reference[p.force_mask[:, 1].repeat(np.diff(p.offsets)), 1].astype(float)
    for metric, value in (("mae", np.abs(forces).mean()), ("rmse", np.sqrt(np.square(forces).mean()))):
        found = Evidence(table, "ani1ccx", metric=metric, stored=stored.get).zero
        assert set(found) == {"energy_relative", "force"}
        assert found["force"] == pytest.approx(value)
    assert zero(PairedErrors.of(table, "ani1ccx")) == {}


def test_numbers_are_those_of_the_functions_and_are_worked_out_once() -> None:
    table = mfbench.reference_table("arms")
    own = evidence("all", "arms", table, "ani1x-tz", "unseen", "rmse")
    pd.testing.assert_frame_equal(own.summary, summary(table, "ani1x-tz", "unseen", "rmse"))
    assert evidence("all", "arms", table, "ani1x-tz", "unseen", "rmse") is own
    assert own.summary is own.summary
    assert own.fewer("MF") is own.fewer("MF")
    assert evidence("all", "arms", table, "ani1x-tz", "test", "rmse") is not own


def test_what_is_read_of_predictions_is_read_once_for_all_choices_of_rows() -> None:
    table, stored = made({"SF-E": 3.0, "MF": 1.2})
    asked = []

    def counted(run: str) -> Predictions | None:
        asked.append(run)
        return stored.get(run)

    few = evidence("few", "here", table[table["seed"] < 5], "ani1ccx", stored=counted)
    assert (few.summary["groups"] > 1).all()
    other = evidence("all", "here", table, "ani1ccx", metric="rmse", stored=counted)
    assert (other.summary["groups"] > 1).all()
    assert sorted(asked) == sorted(stored)


def test_several_setups_are_not_mixed() -> None:
    table = pd.concat([results_table(["ani1x-tz"]), results_table(["ani1x-tz"], backbone="painn")])
    with pytest.raises(UserError, match=r"expected one \(data, backbone, preset\), got"):
        summary(table, "ani1x-tz")


def test_the_numbers_of_a_case_of_300_runs_take_a_tenth_of_a_second() -> None:
    table = results_table(["ani1x-tz"], arms=("SF-E", "MF", "SF-EF"), sizes=(25, 50, 100, 200), seeds=range(25))
    assert table["run"].nunique() == 300
    taken = []
    for _ in range(3):
        start = time.process_time()
        summary(table, "ani1x-tz")
        taken.append(time.process_time() - start)
    assert min(taken) < 0.1


def test_any_runs_at_all_can_be_reported() -> None:
    """What a campaign at work looks like: runs finish in any order, and some never do."""
    table = results_table(["ani1x-tz"], seeds=range(3)).assign(label_seconds=10.0)
    table = table[table["part"] == "test"]
    runs, rng = table["run"].unique(), np.random.default_rng(0)
    for count in [1, 2, 3, 4, 5, 6, 8, 12] * 2:
        some = table[table["run"].isin(rng.choice(runs, count, replace=False))]
        assert text_table(some)
        own = Evidence(some, "ani1x-tz")
        frames = [own.summary, own.differences, own.slopes, own.crossings]
        frames += [own.fewer(other, axis) for other in ("SF-E", "MF") for axis in ("labels", "cost")]
        assert all((frame["seeds"] > 0).all() for frame in frames)
        for arm in {*some["arm"]} - {"SF-low"}:
            own.difference(50, "energy", arm, "SF-E")
        assert {*own.bests} <= {*zip(own.summary["n_high"], own.summary["quantity"])}
        assert own.zero == {}


def test_reports_say_them() -> None:
    table = mfbench.reference_table("arms")
    own = Evidence(table, "ani1x-tz")
    text = text_table(table)
    assert "Energy MAE, n_high = 50: MF+ is best; transfer and delta cannot be told from it (5 seeds)." in text
    assert "≥ 4.00 [1.51, ∞)" in text
    assert "MF+ is best; transfer and delta cannot be told from it" in best_html(own)
    assert "≥ 4.00 [1.51, ∞)" in fewer_html(own)


# What is kept


def test_a_memo_keeps_the_newest() -> None:
    memo, made_ = Memo[int, int](2), []
    for key in (1, 2, 1, 3, 1, 2):
        assert memo.get(key, lambda key=key: made_.append(key) or 10 * key) == 10 * key
    assert made_ == [1, 2, 3, 2]
    assert len(memo) == 2


def test_a_memo_makes_a_value_once_for_many_threads_and_keeps_no_failure() -> None:
    memo, made_ = Memo[str, int](4), []

    def slow() -> int:
        time.sleep(0.05)
        made_.append(1)
        return 7

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: memo.get("a", slow), range(8))) == {7}
    assert made_ == [1]
    with pytest.raises(ZeroDivisionError):
        memo.get("b", lambda: 1 // 0)
    assert memo.get("b", lambda: 5) == 5
