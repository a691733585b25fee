"""Tables to take away: in full for programs, and for papers with correct escapes, units, seeds and commit."""

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from tables import error, results_table

import mfbench
from mfbench.cli.main import main
from mfbench.errors import UserError
from mfbench.results.folder import RunFolder
from mfbench.show import sheets

KCAL_PER_EV = 23.0605


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return results_table(seeds=(0, 1, 2))


def read(sheet: sheets.Sheet) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(sheets.as_csv(sheet.numbers)))


def test_csv_has_the_numbers_in_full_with_units(table: pd.DataFrame) -> None:
    found = read(sheets.errors(table, "ani1x-tz")).set_index(["arm", "n_high"])
    value = error("MF", "energy", "mae", 50, 1) * KCAL_PER_EV
    assert found.loc[("MF", 50), "energy mae (kcal/mol)"] == pytest.approx(value, rel=1e-5)
    assert len(repr(float(found.loc[("MF", 50), "energy mae (kcal/mol)"]))) > 10
    assert found.loc[("MF", 50), "n forces"] == 5040  # no comma that reads as text
    assert set(found["case"]) == {"ani1x-tz"}
    assert "force mae (meV/Å)" in read(sheets.errors(table, "ani1x-tz", system="meV"))
    gaps = read(sheets.gap(table, "ani1x-tz", metric="rmse"))
    assert set(gaps["unit"]) == {"kcal/mol", "kcal/mol/Å"}
    spread = read(sheets.spread(table, "ani1x-tz"))
    assert {"value", "low", "high", "least", "most", "seeds"} <= set(spread)


def test_captions_say_what_of_what_over_which_seeds_and_by_which_commit(table: pd.DataFrame) -> None:
    for make in (sheets.errors, sheets.spread, sheets.gap):
        caption = make(table, "rmd17-cc", origin={"commit": "abc123"}).numbers.caption
        for said in (
            "Case rmd17-cc, at CCSD/cc-pVDZ, new geometries of known molecules",
            "Data mini, network hipnn-ts, preset demo",
            "seeds 0–2",
            "240 energies and 5,040 force components",
            "Commit abc123.",
        ):
            assert said in caption


def test_markdown_is_a_table(table: pd.DataFrame) -> None:
    lines = sheets.as_markdown(sheets.errors(table, "ani1ccx")).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") - line.count(r"\|") for line in rows}) == 1
    assert "Energy MAE (kcal/mol)" in rows[0]
    assert r"at CCSD(T)\*/CBS" in lines[-1]
    assert any("n = 0" in row for row in rows)


def test_latex_is_escaped(table: pd.DataFrame) -> None:
    strange = table.replace({"arm": {"MF": r"MF_2 & 50% #1 {x} \y ~^ $5"}})
    text = sheets.as_latex(sheets.errors(strange, "ani1x-tz"))
    assert r"MF\_2 \& 50\% \#1 \{x\} \textbackslash{}y \textasciitilde{}\textasciicircum{} \$5" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{"):
        assert text.count(rule) == 1
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
    assert r"$n_\mathrm{high}$" in rows[0]
    assert r"(kcal/mol/\AA{})" in rows[1]
    ascii_ = sheets.as_latex(sheets.gap(table, "ani1x-tz"))
    assert ascii_.isascii()


def test_tables_of_one_seed_and_of_nothing(table: pd.DataFrame) -> None:
    one = results_table(seeds=(0,))
    assert sheets.spread(one, "rmd17-cc").lines == ()
    assert sheets.as_latex(sheets.spread(one, "rmd17-cc"))
    with pytest.raises(UserError, match="molecules never trained on, found none"):
        sheets.errors(table, "rmd17-cc", part="unseen")
    with pytest.raises(UserError, match="mfbench check"):
        sheets.checks(table, "rmd17-cc")


def test_the_door_offers_them() -> None:
    found = mfbench.sheets.gap(mfbench.reference_table("arms"), "ani1x-tz")
    assert any("[" in cell for line in found.lines for cell in line)  # intervals


def test_on_the_command_line(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, rows in table.groupby("run"):
        RunFolder(tmp_path / "runs" / str(run)).finish(rows)
    monkeypatch.chdir(tmp_path)
    assert main(["table"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(sheets.TABLES)
    assert main(["table", "errors", "--format", "csv", "--unit", "meV"]) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(found["case"]) == {"ani1x-tz", "ani1ccx", "rmd17-cc"}
    assert "energy mae (meV)" in found
    assert main(["table", "gap", "--case", "rmd17-cc", "--format", "latex", "--out", "gap.tex"]) == 0
    assert r"\bottomrule" in (tmp_path / "gap.tex").read_text("utf-8")
