"""Figures for papers: the numbers are those of the results, the files say what they are of, and are alike each time."""

import io
import re
from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from tables import error, results_table
from test_groups import predictions

import mfbench
from mfbench.cli.main import main
from mfbench.errors import UserError
from mfbench.results.folder import RunFolder
from mfbench.results.predictions import Predictions
from mfbench.results.summary import summary
from mfbench.show import figures, paper, plots
from mfbench.show.styles import ARMS, MATPLOTLIB_MARKERS
from mfbench.study.evaluation import evaluate

KCAL_PER_EV = 23.0605
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return results_table(seeds=(0, 1, 2))


def element(panel: hv.Overlay, kind: type) -> pd.DataFrame:
    return pd.concat([one.dframe() for one in panel if type(one) is kind])


def drawn(figure: figures.Figure, width: float = 3.37) -> Any:
    with paper.mpl.rc_context(paper._settings(8)):
        return paper._drawn(figure, width, 8)


def test_a_learning_curve_shows_means_over_seeds_and_their_range(table: pd.DataFrame) -> None:
    figure = figures.learning_curve(table, "ani1x-tz")
    energy, force = figure.panels
    for panel, quantity in ((energy, "energy"), (force, "force")):
        marks = element(panel, hv.Scatter).set_index(["color", "x"])
        for arm, size in (("MF", 50), ("SF-E", 150), ("SF-EF", 150)):
            at = (ARMS[arm].color, pytest.approx(size))
            found = marks[[key == at for key in marks.index]].iloc[0]
            assert found["y"] == pytest.approx(error(arm, quantity, "mae", size, 1) * KCAL_PER_EV, rel=1e-4)
            assert found["marker"] == MATPLOTLIB_MARKERS[ARMS[arm].marker]
    held = figure.numbers.table.set_index(["arm", "n_high", "quantity"]).loc[("MF", 50, "energy")]
    assert held["unit"] == "kcal/mol"
    assert (held["seeds"], held["n"]) == (3, 240)
    ends = [error("MF", "energy", "mae", 50, seed) * KCAL_PER_EV for seed in (0, 2)]
    assert [held["least"], held["most"]] == pytest.approx(ends, rel=1e-4)
    assert np.isnan(held["low"])  # three seeds: a range, no interval


def test_intervals_are_those_of_the_summary() -> None:
    table = mfbench.reference_table("arms")
    figure = figures.learning_curve(table, "ani1x-tz", metric="rmse", system="meV", arms=["MF", "SF-E"])
    expected = summary(table, "ani1x-tz", "test", "rmse").set_index(["arm", "n_high", "quantity"])
    assert set(figure.numbers.table["arm"]) == {"MF", "SF-E"}
    for _, row in figure.numbers.table.iterrows():
        of = expected.loc[(row["arm"], row["n_high"], row["quantity"])]
        assert [row["value"], row["low"], row["high"]] == pytest.approx(
            [1000 * of[k] for k in ("value", "low", "high")]
        )
    lines = element(figure.panels[0], hv.Segments)
    row = figure.numbers.table.iloc[0]
    assert ((lines["y"] - row["low"]).abs() < 1e-9).any()


def test_sf_low_is_dashed_and_what_is_missing_is_said(table: pd.DataFrame) -> None:
    figure = figures.learning_curve(table, "ani1ccx")
    keys = {key.text: key for key in figure.legend}
    assert list(keys) == ["SF-low", "SF-E", "MF", "SF-EF (n = 0)"]
    assert (keys["SF-low"].dash, keys["SF-low"].marker) == ("dashed", False)
    dashed = [one for one in figure.panels[1] if type(one) is hv.Segments and "#767676" in set(one["color"])]
    assert len(dashed) == 1
    alone = figures.learning_curve(table, "ani1ccx", quantities=["energy", "force"], arms=["SF-low"])
    assert paper.as_bytes(alone, "png")  # SF-low has no total energy: a panel without a number
    with pytest.raises(UserError, match=re.escape("expected errors to show, found none (n = 0)")):
        figures.learning_curve(table, "ani1ccx", quantities=["force"], arms=["SF-EF"])


def test_axes_are_logarithmic_with_plain_numbers(table: pd.DataFrame) -> None:
    page = drawn(figures.learning_curve(table, "rmd17-cc"))
    for axis in page.axes:
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        assert [label.get_text() for label in axis.get_xticklabels()] == ["50", "150"]
        assert all(re.fullmatch(r"[\d.,]+", label.get_text()) for label in axis.get_yticklabels())
        assert len(axis.get_yticklabels()) >= 3
    assert page.axes[0].get_ylabel() == "Energy MAE (kcal/mol)"
    assert page.axes[1].get_ylabel() == "Force component MAE (kcal/mol/Å)"
    (legend,) = page.legends
    assert [text.get_text() for text in legend.get_texts()] == ["SF-low", "SF-E", "MF", "SF-EF"]
    sizes = {text.get_fontsize() for text in page.findobj(paper.mpl.text.Text) if text.get_text()}
    assert sizes == {8.0}


@pytest.mark.parametrize(("width", "columns"), [("3.37in", 1), ("17.8cm", 2)])
def test_a_figure_has_the_width_that_was_asked_for(table: pd.DataFrame, width: str, columns: int) -> None:
    figure = figures.errors(table, "ani1x-tz")
    image = matplotlib.image.imread(io.BytesIO(paper.as_bytes(figure, "png", width)))
    assert image.shape[1] == pytest.approx(paper.inches(width) * paper.DPI, abs=1)
    page = drawn(figure, paper.inches(width))
    assert page.axes[0].get_subplotspec().get_gridspec().ncols == columns


def test_widths_are_lengths() -> None:
    lengths = [paper.inches(text) for text in ("3.37in", "8.6cm", "86 mm", "243pt")]
    assert lengths == pytest.approx([3.37, 3.386, 3.386, 3.375], abs=1e-3)
    for bad in ("3.37", "0in", "wide", "-3in", "99in", "nanin"):
        with pytest.raises(UserError, match=r"expected 0\.5in to 40in"):
            paper.inches(bad)


def test_files_say_what_they_are_of_and_are_alike_each_time(table: pd.DataFrame, tmp_path: Path) -> None:
    figure = figures.learning_curve(table, "rmd17-cc", origin={"commit": "abc123"})
    run, caption = "rmd17-cc-MF-50-0-hipnn-ts", "Case rmd17-cc"
    before = hv.Store.current_backend
    for format in paper.FORMATS:
        path = figures.save(figure, tmp_path / f"figure.{format}")
        content = path.read_bytes()
        assert content == paper.as_bytes(figure, format)
        text = content.decode("utf-8" if format == "svg" else "latin-1")
        for said in (run, "abc123", f"mfbench {mfbench.__version__}"):
            assert said in text
        assert "Date" not in text or (format == "svg" and "dc:date" not in text)
    assert caption in (tmp_path / "figure.svg").read_text("utf-8")
    assert b"/Type /Font" in (tmp_path / "figure.pdf").read_bytes()  # letters are letters
    assert hv.Store.current_backend == before  # what pages are drawn by
    with pytest.raises(UserError, match="unknown format of figures 'gif'"):
        figures.save(figure, tmp_path / "figure.gif")


def test_names_from_disk_are_no_formulas(table: pd.DataFrame) -> None:
    strange = table[table["case"] == "rmd17-cc"].replace({"arm": {"MF": "MF ($x_1$)"}})
    page = drawn(figures.learning_curve(strange, "rmd17-cc"))
    assert "MF ($x_1$)" in [text.get_text() for text in page.legends[0].get_texts()]
    assert paper.as_bytes(figures.learning_curve(strange, "rmd17-cc"), "svg")


def test_errors_of_one_size(table: pd.DataFrame) -> None:
    figure = figures.errors(table, "ani1x-tz", 150)
    assert set(figure.numbers.table["n_high"]) == {0, 150}
    labels = [label.get_text() for label in drawn(figure).axes[0].get_yticklabels()]
    assert labels == ["SF-EF", "MF", "SF-E", "SF-low (n = 0)"]
    marks = element(figure.panels[1], hv.Scatter)
    assert sorted(marks["y"]) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="unknown number of high-level structures '51'"):
        figures.errors(table, "ani1x-tz", 51)


def test_the_gap_and_where_there_is_none() -> None:
    table = mfbench.reference_table("arms")
    figure = figures.gap(table, "ani1x-tz", arms=["MF"])
    energy, force = (element(panel, hv.Scatter) for panel in figure.panels)
    assert (len(energy), len(force)) == (2, 3)  # energies with n_high = 25: one of five seeds has no gap
    assert "no gap" in [text.get_text() for text in drawn(figure).axes[0].texts]
    with pytest.raises(UserError, match="is there no SF-EF"):
        figures.gap(results_table(arms=["SF-E", "MF"]), "rmd17-cc")


def test_label_cost_is_the_axis(table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="label cost"):
        figures.label_cost(table, "rmd17-cc")
    figure = figures.label_cost(table.assign(label_seconds=60.0 * table["n_high"] + table["n_low"]), "rmd17-cc")
    assert "label_seconds (core-minutes)" in figure.numbers.table
    assert drawn(figure).axes[0].get_xlabel() == "Label cost (core-minutes)"


def stored_run() -> tuple[pd.DataFrame, Predictions]:
    found = predictions(180)
    rest = {"steps": 1, "steps_shared": 0, "seconds": 1.0, "structures_per_second": 1.0, "device": "cpu"}
    setup = {"case": "ani1ccx", "data": "mini", "backbone": "hipnn-ts", "preset": "demo", "n_low": 9, "n_high": 50}
    table = evaluate(found).assign(run="one", arm="MF", seed=0, split_seed=0, label_seconds=1.0, **setup, **rest)
    return table, found


def test_parity_shows_every_value_and_the_error_of_the_table() -> None:
    table, found = stored_run()
    figure = figures.parity(table, "one", {"one": found}.get, quantities=["energy", "force"])
    rows = table[(table["role"] == "high") & (table["part"] == "test")].set_index(["quantity", "metric"])
    for quantity, panel in zip(("energy", "force"), figure.panels):
        points = element(panel, hv.Scatter)
        row = rows.loc[(quantity, "mae")]
        assert len(points) == row["n"]
        assert np.abs(points["x"] - points["y"]).mean() == pytest.approx(row["value"] * KCAL_PER_EV, rel=1e-4)
    said = [text.get_text() for axis in drawn(figure).axes for text in axis.texts]
    assert f"n = {rows.loc[('energy', 'mae'), 'n']}" in said[0]
    with pytest.raises(UserError, match="expected a finished run that kept its predictions"):
        figures.parity(table, "one", lambda run: None)


def test_pages_and_paper_draw_the_same(table: pd.DataFrame) -> None:
    page = plots.learning_curve(table, "rmd17-cc", "energy")
    paper_ = figures.learning_curve(table, "rmd17-cc", quantities=["energy"])
    shown = {(row["color"], round(row["y"], 9)) for _, row in element(paper_.panels[0], hv.Scatter).iterrows()}
    on_page = element(page, hv.Scatter)
    assert shown <= {(row["color"], round(row["value"], 9)) for _, row in on_page.iterrows()}


# On the command line


@pytest.fixture
def folder(table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for run, rows in table.groupby("run"):
        RunFolder(tmp_path / "runs" / str(run)).finish(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_figures_are_listed_and_made_for_every_case(folder: Path, capsys: Capture) -> None:
    assert main(["figure"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(figures.FIGURES)
    assert main(["figure", "learning-curve", "--format", "svg", "--arms", "MF", "SF-E"]) == 0
    names = {f"learning-curve-{case}-test.svg" for case in ("ani1x-tz", "ani1ccx", "rmd17-cc")}
    assert {path.name for path in folder.glob("*.svg")} == names
    assert main(["figure", "gap", "--out", "gap.csv", "--case", "rmd17-cc"]) == 0
    assert pd.read_csv(folder / "gap.csv")["gap_closed"].notna().all()
    capsys.readouterr()
    assert main(["figure", "gap", "--width", "86mm"]) == 0  # ani1ccx has none, and says so
    captured = capsys.readouterr()
    assert "left out: ani1ccx" in captured.err
    assert (folder / "gap-rmd17-cc-test.pdf").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["figure", "nonsense"], "unknown name 'nonsense': expected one of"),
        (["figure", "gap", "--format", "gif"], "unknown format of figures 'gif'"),
        (["figure", "gap", "--width", "3"], "expected 0.5in to 40in"),
        (["figure", "gap", "--size", "50"], "--size: gap has no such choice"),
        (["figure", "gap", "--case", "rmd18"], "unknown case in these results 'rmd18'"),
        (["figure", "errors", "--out", "one.png"], "one file for 3"),
        (["figure", "parity", "--case", "rmd17-cc"], "expected one run, got"),
        (["figure", "gap", "--runs", "nowhere"], "no finished runs in nowhere"),
        (["table", "errors", "--metric", "mae"], "--metric: errors has no such choice"),
        (["table", "errors", "--format", "html"], "unknown format of tables 'html'"),
        (["table", "checks"], "expected some, found none"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder: Path, arguments: list[str], said: str, capsys: Capture) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert not list(folder.glob("*.p*"))
