"""Numbers over seeds of one case: what shipped results say, pairing by seed, and intervals over test structures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_groups import predictions

import mfbench
from mfbench.errors import UserError
from mfbench.results.predictions import Predictions
from mfbench.results.runs import predictions_of
from mfbench.results.schema import shown
from mfbench.results.summary import COLUMNS, summary
from mfbench.show.text import text_table
from mfbench.study.evaluation import evaluate

SETUP = {"case": "ani1ccx", "data": "mini", "backbone": "hipnn-ts", "preset": "demo", "n_low": 0, "split_seed": 0}
REST = {"steps": 1, "steps_shared": 0, "seconds": 1.0, "structures_per_second": 1.0, "device": "cpu"}
REST |= {"label_seconds": float("nan")}


def made(errors: dict[str, float], seeds: int = 6) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """A results table of arms whose errors are so many times those of known predictions, and these."""
    stored, tables = {}, []
    for k, (arm, size) in enumerate(errors.items()):
        for seed in range(seeds):
            p = predictions(180, seed=10 * seed)
            own = predictions(180, seed=10 * seed + k + 1)
            run, error = (
                f"{arm}-{seed}",
                (p.energy_predicted - p.energy_reference + own.energy_predicted - own.energy_reference),
            )
            one = Predictions(**{**vars(p), "energy_predicted": p.energy_reference + size * error})
            stored[run] = one
            tables.append(evaluate(one).assign(run=run, arm=arm, seed=seed, n_high=50, **SETUP, **REST))
    return pd.concat(tables, ignore_index=True), stored


def test_what_seeds_lack_is_said_and_no_median_of_the_others() -> None:
    """Of five seeds one has a gap: the number of that one is not the number of all."""
    table = shown(mfbench.reference_table("arms"))
    found = summary(table, "ani1x-tz", "unseen").set_index(["n_high", "arm", "quantity"])
    row = found.loc[(25, "MF", "energy")]
    assert row["pairs"] == 5
    assert row["seeds_with_gap"] < 5
    assert np.isnan([row["gap_closed"], row["gap_low"], row["gap_high"]]).all()
    forces = summary(table, "ani1x-tz").set_index(["n_high", "arm", "quantity"]).loc[(100, "MF", "force")]
    assert forces["seeds_with_gap"] == forces["pairs"] == 5
    assert 0 < forces["gap_low"] < forces["gap_closed"] < forces["gap_high"] < 1.5


def test_columns_and_numbers_over_seeds_alone() -> None:
    table, _ = made({"SF-E": 3.0, "MF": 1.2, "SF-EF": 1.0})
    found = summary(table, "ani1ccx")
    assert list(found.columns) == list(COLUMNS)
    row = found.set_index(["arm", "quantity"]).loc[("MF", "energy")]
    chosen = table[(table["arm"] == "MF") & (table["role"] == "high") & (table["metric"] == "mae")]
    values = chosen.loc[chosen["quantity"] == "energy", "value"]
    assert row["value"] == pytest.approx(np.exp(np.log(values).mean()))
    assert np.allclose((row["least"], row["most"]), (values.min(), values.max()))
    assert (row["seeds"], row["groups"], row["pairs"]) == (6, 1, 6)


def test_intervals_over_test_structures_and_which_arms_differ() -> None:
    table, stored = made({"SF-E": 3.0, "MF": 1.2, "delta": 1.2, "SF-EF": 1.0})
    alone = summary(table, "ani1ccx").set_index(["arm", "quantity"])
    found = summary(table, "ani1ccx", stored=stored.get).set_index(["arm", "quantity"])
    for key in [("MF", "energy"), ("SF-E", "energy_relative")]:
        assert found.loc[key, "groups"] > 15
        assert found.loc[key, "value"] == pytest.approx(alone.loc[key, "value"])
        assert found.loc[key, "high"] > alone.loc[key, "high"]
    assert found.loc[("SF-E", "energy"), "differs"]
    assert not found.loc[("delta", "energy"), "differs"]
    assert found.loc[("SF-E", "energy"), "ratio"] == pytest.approx(1)
    assert found.loc[("delta", "energy"), "resolvable"] > 1
    assert 2 < found.loc[("SF-E", "energy"), "against_low"] < 3 / 1.2 < found.loc[("SF-E", "energy"), "against_high"]


def test_few_seeds_say_no_interval_and_no_difference() -> None:
    table, stored = made({"SF-E": 3.0, "MF": 1.2, "SF-EF": 1.0}, seeds=3)
    found = summary(table, "ani1ccx", stored=stored.get)
    assert found[["low", "high", "ratio_low", "gap_low", "resolvable"]].isna().all(axis=None)
    assert found["differs"].isna().all()
    assert found["gap_closed"].notna().sum() == 3 * 3


def test_arms_are_paired_by_the_seeds_that_they_share() -> None:
    table, _ = made({"SF-E": 3.0, "MF": 1.2, "SF-EF": 1.0})
    table = table[(table["arm"] != "MF") | (table["seed"] < 5)]
    found = summary(table, "ani1ccx").set_index(["arm", "quantity"])
    assert found.loc[("MF", "energy"), "pairs"] == 5
    assert found.loc[("SF-E", "energy"), "seeds"] == 6
    one = table[(table["arm"] == "SF-E") | ((table["arm"] == "MF") & (table["seed"] == 2))]
    found = summary(one, "ani1ccx").set_index(["arm", "quantity"])
    assert found.loc[("MF", "energy"), "ratio"] == pytest.approx(1.2 / 3.0, rel=0.2)
    assert found["gap_closed"].isna().all()
    assert (found["pairs"] == 0).all()


def test_an_arm_of_other_seeds_leaves_the_comparison_of_the_others() -> None:
    table, _ = made({"SF-E": 3.0, "MF": 1.2, "delta": 1.2, "SF-EF": 1.0})
    seeds = {"delta": [0, 1], "SF-EF": [2, 3]}
    table = table[[seed in seeds.get(arm, range(6)) for arm, seed in zip(table["arm"], table["seed"])]]
    found = summary(table, "ani1ccx").set_index(["arm", "quantity"])
    assert found.loc[("SF-E", "energy"), "against_low"] < 3 / 1.2 < found.loc[("SF-E", "energy"), "against_high"]
    assert found.loc[("SF-E", "energy"), "differs"]
    assert found.loc[[("delta", "energy"), ("SF-EF", "energy")], "against"].isna().all()


def test_other_metrics_have_no_statistics() -> None:
    table, _ = made({"MF": 1.0}, seeds=1)
    with pytest.raises(UserError, match="expected one of the metrics mae, rmse"):
        summary(table, "ani1ccx", metric="mine")


def test_a_report_with_predictions_at_hand_says_intervals_over_test_structures() -> None:
    table, stored = made({"SF-E": 3.0, "MF": 1.2, "SF-EF": 1.0})
    alone, found = text_table(table), text_table(table, stored=stored.get)
    row = summary(table, "ani1ccx", stored=stored.get).set_index(["arm", "quantity"]).loc[("MF", "energy")]
    interval = f"{row['gap_closed']:.2f} [{row['gap_low']:.2f}, {row['gap_high']:.2f}]"
    assert interval in found
    assert interval not in alone


def test_predictions_are_found_by_the_name_of_the_run(tmp_path: Path) -> None:
    settings = mfbench.experiment("rmd17-cc", "SF-E", n_high=25, optimisation={"steps": 2})
    run = mfbench.run(settings, tmp_path, progress=False)
    stored = predictions_of([run])
    found = stored(run.name)
    assert found is not None
    assert found.energy_predicted.shape == (len(found.structure), 2)
    assert stored("another") is None
    damaged = run / "predictions.h5"
    damaged.chmod(0o600)
    damaged.write_bytes(b"x" + damaged.read_bytes())
    with pytest.raises(UserError, match="changed or damaged after it was written"):
        predictions_of([run])(run.name)
