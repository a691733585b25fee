"""The terminal's table and the page hold the right numbers, stand alone, and escape what they are given."""

import re
import time
from html.parser import HTMLParser
from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables import NO_FORCES, error, results_table

from mfbench.errors import UserError
from mfbench.results.reference import reference_table
from mfbench.results.rows import HORIZONTAL, NOTHING, cases
from mfbench.results.schema import EXTERNAL
from mfbench.show.html import spread_html
from mfbench.show.page import write_html
from mfbench.show.styles import ARMS
from mfbench.show.tables import error_table, gap_table, sections, spread_table
from mfbench.show.text import run_text, text_table
from mfbench.show.words import SPREAD, gap_text

KCAL_PER_EV = 23.0605
GAP_ENERGY = 1 - log(0.35 / 0.28) / log(1.2 / 0.28)
GAP_FORCE = 1 - log(0.75 / 0.60) / log(3.0 / 0.60)


class Page(HTMLParser):
    """What a browser would load from elsewhere, the visible words, and the styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.tags: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        self.tags.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "style":
            self.styles.append(data)
        elif self.inside != "script":
            self.words.append(data)

    @property
    def visible(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def written(table: pd.DataFrame, folder: Path, **options) -> str:
    path = folder / "report.html"
    write_html(table, path, options.pop("provenance", {"device": "2 CPU cores"}), **options)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return written(
        results_table(),
        tmp_path_factory.mktemp("page"),
        provenance={"device": "2 CPU cores", "commit": "5a77d44"},
        cases={"ani1ccx": ("DFT forces, CC energies", "The abstract names ANI-1ccx.")},
    )


def row_of(text: str, *start: str) -> list[str]:
    found = [line.split() for line in text.replace("n = 0", "n=0").splitlines()]
    found = [line for line in found if line[: len(start)] == list(start)]
    assert found, f"no line starts with {start}"
    return found[0]


def test_error_table_holds_means_in_the_units_shown():
    errors = error_table(results_table(seeds=(0, 1, 2)), "rmd17-cc").set_index(["n_high", "arm"])
    assert list(errors.index) == [
        (0, "SF-low"), *[(n, arm) for n in (50, 150) for arm in ("SF-E", "MF", "SF-EF")]
    ]  # fmt: skip
    mf = errors.loc[(50, "MF")]
    assert mf["energy mae"] == pytest.approx(error("MF", "energy", "mae", 50, 1) * KCAL_PER_EV, rel=1e-4)
    assert mf["energy rmse"] == pytest.approx(error("MF", "energy", "rmse", 50, 1) * KCAL_PER_EV, rel=1e-4)
    assert mf["energy_per_atom mae"] == pytest.approx(error("MF", "energy_per_atom", "mae", 50, 1) * 1000, rel=1e-4)
    assert mf["force rmse"] == pytest.approx(error("MF", "force", "rmse", 50, 1) * KCAL_PER_EV, rel=1e-4)
    assert (mf["n energies"], mf["n forces"], mf["seeds"], mf["n_low"]) == ("240", "5,040", "0–2", 1000)


def test_spread_is_the_geometric_mean_with_range_or_interval_over_seeds():
    spread = spread_table(results_table(seeds=(0, 1, 2)), "rmd17-cc").set_index(["n_high", "arm", "quantity"])
    assert set(spread.index.droplevel("quantity")) == {(n, arm) for n in (50, 150) for arm in ("SF-E", "MF", "SF-EF")}
    for quantity in ("energy", "force"):
        values = [error("MF", quantity, "mae", 50, seed) * KCAL_PER_EV for seed in (0, 1, 2)]
        row = spread.loc[(50, "MF", quantity)]
        assert row["value"] == pytest.approx(np.exp(np.log(values).mean()), rel=1e-4)
        assert (row["least"], row["most"]) == pytest.approx((min(values), max(values)), rel=1e-4)
        assert np.isnan(row["low"])
    text = text_table(results_table(seeds=(0, 1, 2)))
    row = spread.loc[(50, "MF", "energy")]
    assert f"{row['value']:.2f} ({row['least']:.2f}–{row['most']:.2f})" in text
    many = spread_table(results_table(seeds=range(5)), "rmd17-cc").set_index(["n_high", "arm", "quantity"])
    row = many.loc[(50, "MF", "energy")]
    assert row["low"] < row["value"] < row["high"]
    assert f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" in text_table(results_table(seeds=range(5)))
    assert spread_table(results_table(), "rmd17-cc").empty
    assert SPREAD[:20] not in text_table(results_table())
    assert spread_html(spread_table(results_table(), "rmd17-cc")) == ""
    no_forces = spread_table(results_table(cases=["ani1ccx"], seeds=(0, 1)), "ani1ccx").set_index("arm")
    assert "SF-EF" not in no_forces.index  # n = 0: the table of errors says why


def test_gap_table_pairs_seeds_and_converts_units():
    gaps = gap_table(results_table(seeds=(0, 1, 2)), "ani1x-tz").set_index(["n_high", "quantity"])
    energy, force = gaps.loc[(50, "energy")], gaps.loc[(150, "force")]
    assert energy["gap_closed"] == pytest.approx(GAP_ENERGY)
    assert energy["ratio"] == pytest.approx(0.35 / 1.2)
    assert energy["SF-E"] == pytest.approx(error("SF-E", "energy", "mae", 50, 1) * KCAL_PER_EV, rel=1e-4)
    assert force["gap_closed"] == pytest.approx(GAP_FORCE)
    assert force["pairs"] == 3
    without = results_table(cases=["ani1x-tz"], seeds=(0, 1, 2))
    best = (without["arm"] == "SF-EF") & (without["seed"] == 2)
    table = without.assign(value=without["value"].mask(best, 10 * without["value"]))
    row = gap_table(table, "ani1x-tz").iloc[0]
    assert gap_text(row) == "no gap (2 of 3 seeds have one)"  # and no number of the others
    no_reference = gap_table(results_table(), "ani1ccx").iloc[0]
    assert gap_text(no_reference) == "no SF-EF"


def test_text_table_has_the_numbers_and_what_is_missing():
    text = text_table(results_table(cases=["ani1ccx"]))
    assert "ani1ccx: ωB97X/6-31G* → CCSD(T)*/CBS" in text
    assert "seed 0" in text
    mf = row_of(text, "50", "MF")
    assert float(mf[2]) == pytest.approx(error("MF", "energy", "mae", 50) * KCAL_PER_EV, abs=6e-4)
    assert float(mf[6]) == pytest.approx(error("MF", "force", "mae", 50) * KCAL_PER_EV, abs=6e-3)
    assert mf[-2:] == ["240", "5,040"]
    assert row_of(text, "50", "SF-EF") == ["50", "SF-EF", *["n=0"] * 6, "0", "0"]
    assert f"SF-EF (n = 0): {NO_FORCES}" in text
    assert "Part unseen: molecules never trained on" in text
    assert row_of(text, "test", "50", "energy")[-3:] == ["no", "SF-EF", "0"]


def test_text_table_gives_the_gap_closed():
    text = text_table(results_table(cases=["rmd17-cc"]))
    assert float(row_of(text, "test", "50", "energy")[-2]) == pytest.approx(GAP_ENERGY, abs=0.006)
    assert float(row_of(text, "test", "150", "force")[-2]) == pytest.approx(GAP_FORCE, abs=0.006)
    assert "Part unseen" not in text


def test_text_table_fits_a_terminal_and_is_aligned():
    text = text_table(results_table(seeds=(0, 1, 2)), "meV")
    tables = [line for line in text.splitlines() if line.startswith("    ")]
    assert max(map(len, tables)) <= 110
    body = [line for line in tables if re.match(r"\s+\d+  (SF-E|MF)\s", line)]
    assert len({len(line) for line in body[:4]}) == 1
    assert "meV/Å" in text
    assert "kcal" not in text


@pytest.mark.parametrize("write", [text_table, lambda t: write_html(t, Path("never.html"), {})])
def test_no_results_is_answered_with_what_to_do(write):
    with pytest.raises(UserError, match="mfbench demo"):
        write(results_table(cases=[]))
    assert not Path("never.html").exists()


def test_page_loads_nothing_from_elsewhere(page):
    parsed = Page(page)
    assert parsed.tags.count("script") == 2
    assert parsed.links == ["data:,"]
    assert parsed.styles
    assert not re.search(r"@import|url\(|https?:", "".join(parsed.styles))
    assert "cdn." not in page


def test_page_says_what_it_shows_and_where_it_comes_from(page):
    seen = Page(page).visible
    for words in (
        "The claim under test",
        "inferred from the paper's abstract",
        "no table of it is reproduced",
        "one seed",
        "DFT forces, CC energies",
        "The abstract names ANI-1ccx.",
        "Relative energy: reference and prediction each minus",
        "5a77d44",
        "2 CPU cores",
        "kcal/mol/Å",
        f"SF-EF (n = 0): {NO_FORCES}",
    ):
        assert words in seen, words
    assert "one seed" not in Page(report_text := seen.replace("one seed", "")).visible
    assert report_text != seen


def test_page_shows_errors_ratios_and_gaps(page):
    seen = Page(page).visible
    mae, force = (error("MF", q, "mae", 50) * KCAL_PER_EV for q in ("energy", "force"))
    assert f" {mae:.3f} " in seen
    assert f" {force:.2f} " in seen
    assert f"{0.35 / 1.2:.2f} × SF-E’s energy MAE gap closed {GAP_ENERGY:.2f}" in seen
    assert f"{0.25:.2f} × SF-E’s force MAE gap closed: no SF-EF" in seen


def test_page_has_two_plots_a_case_and_part(page):
    # ani1x-tz and ani1ccx: test and unseen; rmd17-cc: test.
    assert len(re.findall(r'data-root-id="', page)) == 10
    for color in ("#D55E00", "#0072B2", "#009E73"):
        assert color in page


def test_page_of_several_seeds_does_not_call_them_one(tmp_path):
    seen = Page(written(results_table(cases=["rmd17-cc"], seeds=(0, 1, 2)), tmp_path)).visible
    assert "one seed" not in seen
    assert "geometric means over up to 3 seeds" in seen


def test_two_backbones_stand_in_sections_of_their_own(tmp_path):
    both = pd.concat([results_table(cases=["rmd17-cc"]), results_table(cases=["rmd17-cc"], backbone="painn")])
    seen = Page(written(both, tmp_path)).visible
    assert "rmd17-cc (mini, painn, demo)" in seen
    assert "network painn" in seen
    assert "preset demo" in text_table(both)


def test_another_code_stands_beside_the_arms(tmp_path):
    other = results_table(cases=["ani1x-tz"], arms=["SF-E"], backbone=EXTERNAL)
    other = other.assign(arm="Other", preset=EXTERNAL, steps=0, seconds=0.0, value=other["value"] / 2)
    both = pd.concat([results_table(cases=["ani1x-tz"]), other])
    assert sections(both) == [("ani1x-tz", ("mini", "hipnn-ts", "demo"))]
    assert sections(other) == [("ani1x-tz", ("mini", EXTERNAL, EXTERNAL))]
    gaps = gap_table(both, "ani1x-tz").set_index("arm")
    assert set(gaps.index) == {"MF", "Other"}
    assert gaps.loc["Other", "ratio"].to_numpy() == pytest.approx(0.5)
    seen = Page(written(both, tmp_path)).visible
    assert "Other" in seen
    assert "2,000 steps; 20 s a training" in seen
    assert "Other" in text_table(both)
    assert "Other" in text_table(other)
    assert "Predicted by another code." in run_text(other[other["n_high"] == 50])


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert(1)</script><b>"
    table = results_table(cases=["ani1ccx"]).assign(case=evil, backbone=evil, device=evil)
    table["remark"] = table["remark"].where(table["remark"] == "", evil)
    table["arm"] = table["arm"].replace("MF", evil)
    text = written(table, tmp_path, provenance={evil: evil}, cases={evil: (evil, evil)})
    assert Page(text).tags.count("script") == 2
    assert "b" not in Page(text).tags
    assert "alert(1)</script><b>" not in text


def test_page_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("the one before")
    with pytest.raises(UserError, match="unknown unit system"):
        write_html(results_table(), path, {}, system="eV")
    assert path.read_text() == "the one before"
    write_html(results_table(cases=["rmd17-cc"]), path, {}, system="meV")
    assert "meV/Å" in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_page_of_one_experiment_can_be_written_fast(tmp_path):
    start = time.perf_counter()
    seen = Page(written(results_table(cases=["ani1x-tz"], arms=["SF-E"], sizes=(50,)), tmp_path)).visible
    assert time.perf_counter() - start < 5
    assert "no MF and SF-E of one size and seed here" in seen
    assert "No arm beside SF-E and SF-EF yet." in seen


def test_what_ships_is_what_it_says():
    """Every arm at three sizes with five paired seeds; the demo's three cases."""
    arms = reference_table("arms")
    counted = arms[arms["n"] > 0].groupby(["arm", "n_high"])["seed"].nunique()
    assert (counted == 5).all()
    horizontal = {(arm, n) for arm, n in counted.index if arm in HORIZONTAL}
    assert set(counted.index) - horizontal == {(arm, n) for arm in ARMS if arm not in HORIZONTAL for n in (25, 50, 100)}
    assert {arm for arm, _ in horizontal} == {*HORIZONTAL} - {NOTHING}  # no run: worked out of predictions
    assert set(cases(reference_table())) == {"ani1x-tz", "ani1ccx", "rmd17-cc"}
    with pytest.raises(UserError, match="unknown reference result 'arm'"):
        reference_table("arm")
