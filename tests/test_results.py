"""The results table, run folders and the gap closed."""

import math
import os
from pathlib import Path

import pandas as pd
import pytest
from sealing import as_run

from mfbench.errors import UserError
from mfbench.files import read_json, replacing, write_json
from mfbench.results.folder import METRICS_FILE, RunFolder, is_finished, read_metrics
from mfbench.results.rows import gap_closed
from mfbench.results.runs import load_runs
from mfbench.results.schema import COLUMNS, conform, shown


def row(arm: str, value: float, **other: object) -> dict[str, object]:
    """A row of the table: energy MAE on the test part, at the high level, of 100 high-level structures."""
    defaults: dict[str, object] = {
        "run": f"run-{arm}",
        "case": "rmd17-cc",
        "data": "mini",
        "arm": arm,
        "backbone": "hipnn-ts",
        "preset": "demo",
        "n_low": 900 if arm == "MF" else 0,
        "n_high": 100,
        "split_seed": 0,
        "seed": 0,
        "level": "ccsd/cc-pvdz",
        "role": "high",
        "head": "ccsd/cc-pvdz",
        "part": "test",
        "quantity": "energy",
        "metric": "mae",
        "value": value,
        "unit": "",
        "n": 0 if math.isnan(value) else 50,
        "steps": 10,
        "steps_shared": 0,
        "seconds": 1.5,
        "structures_per_second": 100.0,
        "device": "cpu",
        "label_seconds": 2.5,
        "remark": "no forces to train on" if math.isnan(value) else "",
    }
    return defaults | other


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return conform(pd.DataFrame(list(rows)))


def test_schema_round_trip(runs: Path) -> None:
    written = as_run(table(row("SF-E", 0.1), row("SF-EF", math.nan)), "a")
    RunFolder(runs / "a").finish(written)
    read = load_runs(runs)
    pd.testing.assert_frame_equal(read, written)
    assert list(read.columns) == list(COLUMNS)
    assert read["n"].tolist() == [50, 0]
    assert read["remark"].tolist() == ["", "no forces to train on"]


def test_conform_orders_columns_and_sets_dtypes() -> None:
    shuffled = pd.DataFrame([row("MF", 1)])[sorted(COLUMNS)]
    shuffled["seed"] = shuffled["seed"].astype("int32")
    conformed = conform(shuffled)
    assert list(conformed.columns) == list(COLUMNS)
    assert conformed["value"].dtype == "float64"
    assert conformed["seed"].dtype == "int64"


def test_conform_names_missing_and_extra_columns() -> None:
    frame = pd.DataFrame([row("MF", 0.1)]).drop(columns="n").assign(colour="red")
    with pytest.raises(UserError, match=r"missing=\['n'\], extra=\['colour'\]"):
        conform(frame)


def test_a_foreign_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "other.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(file)
    with pytest.raises(UserError, match=r"other\.parquet is not a results table"):
        read_metrics(file)
    file.write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"other\.parquet is not a results table"):
        read_metrics(file)


def test_replacing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename is atomic within one file system only
    assert path.read_text() == "old"

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["settings.json"]


def test_json_round_trip_and_errors(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"seed": 3, "arm": "MF"})
    assert read_json(tmp_path / "a.json") == {"arm": "MF", "seed": 3}
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(UserError, match="expected a JSON object, got list"):
        read_json(tmp_path / "b.json")
    with pytest.raises(UserError, match=r"cannot read .*c\.json"):
        read_json(tmp_path / "c.json")


def test_unfinished_runs_are_left_out(runs: Path) -> None:
    assert load_runs(runs).empty
    assert list(load_runs(runs).columns) == list(COLUMNS)
    RunFolder(runs / "finished").finish(table(row("MF", 0.2, run="finished")))
    unfinished = runs / "unfinished"
    unfinished.mkdir()
    (unfinished / "settings.json").write_text("{}")
    (unfinished / f".{METRICS_FILE}.1.part").write_bytes(b"half a file")
    assert is_finished(runs / "finished")
    assert not is_finished(unfinished)
    assert load_runs(runs)["value"].tolist() == [0.2]


def test_several_folders_in_order_of_run(tmp_path: Path) -> None:
    RunFolder(tmp_path / "b" / "y").finish(table(row("MF", 2.0, run="y")))
    RunFolder(tmp_path / "a" / "z").finish(table(row("MF", 1.0, run="z")))
    assert load_runs([tmp_path / "a", tmp_path / "b"])["value"].tolist() == [1.0, 2.0]
    assert load_runs([tmp_path / "a", tmp_path / "absent"])["value"].tolist() == [1.0]


def test_shown_units() -> None:
    rows = table(row("MF", 1.0), row("MF", 1.0, quantity="energy_per_atom"), row("MF", 1.0, quantity="force"))
    kcal = shown(rows)
    assert kcal["unit"].tolist() == ["kcal/mol", "meV/atom", "kcal/mol/Angstrom"]
    assert kcal["value"].tolist() == pytest.approx([23.0605478, 1000.0, 23.0605478])
    mev = shown(rows, "meV")
    assert mev["unit"].tolist() == ["meV", "meV/atom", "meV/Angstrom"]
    assert mev["value"].tolist() == pytest.approx([1000.0] * 3)


def test_gap_closed_by_hand() -> None:
    """From 0.8 to 0.1 are three halvings; 0.2 has two of them behind it: 2/3."""
    gap = gap_closed(table(row("SF-E", 0.8), row("MF", 0.2), row("SF-EF", 0.1)))
    assert len(gap) == 1
    assert gap["gap_closed"].item() == pytest.approx(2 / 3)
    assert gap["ratio"].item() == pytest.approx(0.25)
    assert (gap["SF-E"].item(), gap["MF"].item(), gap["SF-EF"].item()) == (0.8, 0.2, 0.1)


@pytest.mark.parametrize(("mf", "expected"), [(0.8, 0.0), (0.1, 1.0), (0.05, 4 / 3), (1.6, -1 / 3)])
def test_gap_closed_at_and_beyond_its_ends(mf: float, expected: float) -> None:
    gap = gap_closed(table(row("SF-E", 0.8), row("MF", mf), row("SF-EF", 0.1)))
    assert gap["gap_closed"].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("reference", [[], [row("SF-EF", math.nan)]], ids=["absent", "n = 0"])
def test_gap_closed_without_sf_ef(reference: list[dict[str, object]]) -> None:
    gap = gap_closed(table(row("SF-E", 0.8), row("MF", 0.2), *reference))
    assert gap["ratio"].item() == pytest.approx(0.25)
    assert math.isnan(gap["SF-EF"].item())
    assert math.isnan(gap["gap_closed"].item())


@pytest.mark.parametrize("sf_ef", [0.9, 0.8])
def test_no_gap_where_sf_ef_is_no_better_than_sf_e(sf_ef: float) -> None:
    gap = gap_closed(table(row("SF-E", 0.8), row("MF", 0.2), row("SF-EF", sf_ef)))
    assert math.isnan(gap["gap_closed"].item())
    assert gap["ratio"].item() == pytest.approx(0.25)


def test_gap_closed_pairs_seeds_sizes_and_quantities() -> None:
    rows = [
        row("SF-E", 0.8),
        row("MF", 0.4),
        row("SF-EF", 0.2),  # 1/2
        row("SF-E", 0.9, seed=1),
        row("MF", 0.1, seed=1),
        row("SF-EF", 0.1, seed=1),  # 1
        row("SF-E", 1.6, quantity="force"),
        row("MF", 0.8, quantity="force"),
        row("SF-EF", 0.1, quantity="force"),  # 1/4
        row("SF-E", 0.5, n_high=50),  # MF has no run of this size: no pair
    ]
    gap = gap_closed(table(*rows)).sort_values(["quantity", "seed"])
    assert gap["gap_closed"].tolist() == pytest.approx([0.5, 1.0, 0.25])
    assert gap["seed"].tolist() == [0, 1, 0]


def test_gap_closed_is_judged_at_the_high_level_by_its_own_head() -> None:
    low = {"level": "pbe/def2-svp", "role": "low", "head": "pbe/def2-svp"}
    rows = [row("SF-E", 0.8), row("MF", 0.2), row("SF-EF", 0.1), row("MF", 0.01, **low)]
    rows.append(row("MF", 0.01, head="pbe/def2-svp"))
    rows.append(row("MF", 0.01, n_low=10))  # of several low-level sizes the largest counts
    assert gap_closed(table(*rows))["MF"].tolist() == [0.2]


def test_gap_closed_of_another_arm() -> None:
    gap = gap_closed(table(row("SF-E", 0.8), row("delta", 0.4), row("SF-EF", 0.1)), arm="delta")
    assert gap["gap_closed"].item() == pytest.approx(1 / 3)
