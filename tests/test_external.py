"""Predictions of other codes: those of the exported structures are judged, each once, in the unit they are said in."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from test_export import frames, settings

from mfbench import units
from mfbench.cli.main import main
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.files import read_json
from mfbench.results.folder import METRICS_FILE, read_metrics
from mfbench.results.predictions import Predictions, read_arrays
from mfbench.results.rows import curve_rows
from mfbench.results.runs import load_runs
from mfbench.show.tables import error_table, gap_table, sections
from mfbench.study import experiment
from mfbench.study.experiment import Experiment
from mfbench.study.export import export
from mfbench.study.external import NOT_PREDICTED, evaluate
from mfbench.study.formats.extxyz import frame as one_frame
from mfbench.study.prepare import prepare
from mfbench.study.run import run
from mfbench.study.visible import slugs

Fill = Callable[[int], tuple[float, np.ndarray]]


def predicted(chosen: Experiment, path: Path, fill: Fill) -> list[Atoms]:
    """The exported test part with predictions in a calculator, as ASE's programs leave them."""
    export(chosen, "test", path)
    found = frames(path)
    for frame in found:
        energy, forces = fill(frame.info["mfbench_structure"])
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return found


def reference(s: Structures, level: str) -> Fill:
    """The labels themselves; numbers, too, where there are none."""
    column = s.level_index(level)
    return lambda k: (float(s.energies[k, column]), s.forces[column, s.offsets[k] : s.offsets[k + 1]].astype(float))


def judge(chosen: Experiment, path: Path, runs: Path, name: str = "Other", **more: Any) -> pd.DataFrame:
    high = chosen.levels[-1]
    keys = {"energy_keys": {high: "energy"}, "forces_keys": {high: "forces"}, **more}
    return read_metrics(evaluate(chosen, name, path, runs, **keys) / METRICS_FILE)


@pytest.mark.parametrize(("case", "unit"), [("rmd17-cc", "eV"), ("ani1ccx", "Ha"), ("ani1x-tz", "kcal/mol")])
def test_perfect_predictions_have_no_error(case: str, unit: str, tmp_path: Path, runs: Path) -> None:
    chosen = settings(case, "MF")
    prepared = prepare(chosen)
    one = 1 / units.internal(unit)
    labels = reference(prepared.structures, prepared.high)
    ase.io.write(
        path := tmp_path / "p.extxyz",
        predicted(chosen, tmp_path / "test.extxyz", lambda k: tuple(one * value for value in labels(k))),  # type: ignore[arg-type, return-value]
    )
    table = judge(chosen, path, runs, unit=unit)
    high = table[table["role"] == "high"]
    assert (high["n"] > 0).all()
    assert (high["value"] < 2e-7).all()  # ase.io.write keeps 8 decimals
    low = table[table["role"] == "low"]
    assert (low["n"] == 0).all()
    assert set(low["remark"]) == {NOT_PREDICTED}
    assert set(table["backbone"]) == set(table["preset"]) == {"external"}
    assert set(table["arm"]) == {"Other (labels of MF)"}
    assert (table[["steps", "steps_shared", "seconds"]] == 0).all(axis=None)


@pytest.mark.parametrize("arm", ["MF", "SF-EF"])
def test_a_run_judged_as_another_code_has_its_own_numbers(arm: str, tmp_path: Path, runs: Path) -> None:
    chosen = settings("rmd17-cc", arm, optimisation={"steps": 4, "validations": 1})
    folder = run(chosen, runs)
    own, made = read_metrics(folder / METRICS_FILE), read_arrays(folder / "predictions.h5", Predictions)
    export(chosen, "test", path := tmp_path / "test.extxyz")
    texts = []
    for row, frame in enumerate(frames(path)):
        atoms = slice(made.offsets[row], made.offsets[row + 1])
        keep = {key: value for key, value in frame.info.items() if key.startswith("mfbench_")}
        info, arrays = dict(keep), {}
        for column, kind in enumerate(("low", "high")):
            info[f"{kind}_energy"] = float(made.energy_predicted[row, column])
            arrays[f"{kind}_forces"] = made.force_predicted[atoms, column]
        texts.append(one_frame(frame.numbers, frame.positions, info, arrays))
    path.write_text("".join(texts))
    levels = dict(zip(("low", "high"), chosen.levels))
    if arm == "SF-EF":
        del levels["low"]  # it has no head there
    keys = {f"{kind}_keys": {name: f"{key}_{kind}" for key, name in levels.items()} for kind in ("energy", "forces")}
    table = judge(chosen, path, runs, "Copy", energy_keys=keys["energy_keys"], forces_keys=keys["forces_keys"])
    same = ["level", "role", "part", "quantity", "metric", "value", "n", "n_low", "n_high", "seed", "split_seed"]
    ours, theirs = (one[one["level"].isin(levels.values())][same].reset_index(drop=True) for one in (own, table))
    pd.testing.assert_frame_equal(theirs, ours, check_exact=True)


def test_energies_alone_are_enough(tmp_path: Path, runs: Path) -> None:
    chosen = settings()
    prepared = prepare(chosen)
    found = predicted(chosen, tmp_path / "test.extxyz", reference(prepared.structures, prepared.high))
    for frame in found:
        frame.info["mine"] = frame.calc.results["energy"]
        frame.calc = None
    ase.io.write(tmp_path / "p.extxyz", found)
    high = prepared.high
    table = judge(chosen, tmp_path / "p.extxyz", runs, energy_keys={high: "mine"})
    rows = table[table["role"] == "high"].set_index("quantity")
    assert (rows.loc["force", "n"] == 0).all()
    assert set(rows.loc["force", "remark"]) == {NOT_PREDICTED}
    assert (rows.drop("force")["n"] > 0).all()


def _mixed_split(found: list[Atoms]) -> list[Atoms]:
    found[3].info["mfbench_split"] = "split-000000000000"
    return found


def _moved(found: list[Atoms]) -> list[Atoms]:
    found[2].positions[0, 1] += 1e-4
    return found


def _transmuted(found: list[Atoms]) -> list[Atoms]:
    found[2].numbers[0] = 9
    return found


def _unnamed(found: list[Atoms]) -> list[Atoms]:
    del found[1].info["mfbench_structure"]
    return found


def _foreign(found: list[Atoms]) -> list[Atoms]:
    found.append(found[0].copy())
    found[-1].calc = found[0].calc
    found[-1].info["mfbench_structure"] = 10**6
    return found


def _without(key: str, value: Any = None) -> Callable[[list[Atoms]], list[Atoms]]:
    def change(found: list[Atoms]) -> list[Atoms]:
        if value is None:
            del found[4].calc.results[key]
        else:
            found[4].calc.results[key] = value
        return found

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[1:], r"1 test structures without a prediction: \d+ \(.*, row \d+ of "),
        (lambda found: [], "test structures without a prediction"),
        (_foreign, r"1 frames that are not in the test part: 1000000 \(not in the data\)"),
        (lambda found: [*found, found[0]], "1 structures predicted more than once"),
        (_moved, "1 structures with positions more than 1e-06 Angstrom"),
        (_transmuted, "1 structures with other elements"),
        (_without("energy"), "1 structures without finite energies 'energy'"),
        (_without("energy", float("nan")), "1 structures without finite energies"),
        (_without("forces"), "1 structures without finite forces 'forces'"),
        (_mixed_split, "predictions for another split or selection: expected split-.*, got split-000000000000"),
        (_unnamed, "in every frame or in none, 1 of .* lack it"),
    ],
)
def test_refused(change: Callable[[list[Atoms]], list[Atoms]], message: str, tmp_path: Path, runs: Path) -> None:
    chosen = settings()
    prepared = prepare(chosen)
    found = predicted(chosen, tmp_path / "test.extxyz", reference(prepared.structures, prepared.high))
    (path := tmp_path / "p.extxyz").touch()
    if changed := change(found):
        ase.io.write(path, changed)
    with pytest.raises(UserError, match=message):
        judge(chosen, path, runs)
    assert not list(runs.iterdir())


def test_predictions_for_other_sizes_or_names_are_refused(tmp_path: Path, runs: Path) -> None:
    chosen = settings()
    prepared = prepare(chosen)
    labels = reference(prepared.structures, prepared.high)
    ase.io.write(path := tmp_path / "p.extxyz", predicted(chosen, tmp_path / "test.extxyz", labels))
    with pytest.raises(UserError, match="another split or selection"):
        judge(experiment.experiment("rmd17-cc", "MF", n_high=60), path, runs)
    for name in ("MF", "SF-E"):
        with pytest.raises(UserError, match="expected a name that no arm has"):
            judge(chosen, path, runs, name)
    with pytest.raises(UserError, match="expected letters"):
        judge(chosen, path, runs, "../out")
    with pytest.raises(UserError, match="unknown unit of energy 'erg'"):
        judge(chosen, path, runs, unit="erg")
    with pytest.raises(UserError, match="no frame has the key 'nothing'"):
        judge(chosen, path, runs, energy_keys={prepared.high: "nothing"})
    with pytest.raises(UserError, match="unknown level of this experiment"):
        judge(chosen, path, runs, energy_keys={"mp2/cc-pvtz": "energy"})
    with pytest.raises(UserError, match="no such file"):
        judge(chosen, tmp_path / "absent.extxyz", runs)
    (broken := tmp_path / "broken.extxyz").write_text("three\natoms\n")
    with pytest.raises(UserError, match="expected frames of extended XYZ"):
        judge(chosen, broken, runs)
    assert not list(runs.iterdir())


# Which frame is which structure


def written(found: list[Atoms], path: Path) -> Path:
    ase.io.write(path, found, format="extxyz")
    return path


def bare(found: list[Atoms]) -> list[Atoms]:
    """As codes write them that make new frames (metatrain)."""
    frames = [Atoms(frame.numbers, frame.positions) for frame in found]
    for frame, old in zip(frames, found):
        frame.info["energy"], frame.arrays["forces"] = old.calc.results["energy"], old.calc.results["forces"]
    return frames


def numbered(found: list[Atoms], kind: Callable[[int], Any]) -> list[Atoms]:
    """As hippynn keeps them: sorted by size, without words, the number in another type."""
    frames = bare(found)
    for frame, old in zip(frames, found):
        frame.info["mfbench_structure"] = kind(old.info["mfbench_structure"])
    return sorted(frames, key=len)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[::-1],
        bare,
        lambda found: numbered(found, int),
        lambda found: numbered(found, float),
        lambda found: numbered(found, np.float32),
        lambda found: numbered(found, lambda k: np.array([k])),
    ],
)
def test_frames_are_known_by_number_or_by_their_atoms(
    change: Callable[[list[Atoms]], list[Atoms]], tmp_path: Path, runs: Path
) -> None:
    chosen = settings("ani1x-tz", "MF")
    prepared = prepare(chosen)
    rng = np.random.default_rng(0)
    labels = reference(prepared.structures, prepared.high)
    noisy = {k: rng.normal() for k in range(len(prepared.structures))}
    found = predicted(chosen, tmp_path / "test.extxyz", lambda k: (labels(k)[0] + noisy[k], labels(k)[1]))
    expected = judge(chosen, written(found, tmp_path / "p.extxyz"), runs)
    table = judge(chosen, written(change(found), tmp_path / "q.extxyz"), runs)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: bare(found)[1:], "got 585 frames, which carry no mfbench_structure"),
        (lambda found: [*bare(found)[1:], bare(found)[0]], "have to be in the exported order"),
        (lambda found: [bare(found)[0], *found[1:]], "in every frame or in none, 1 of 586 lack it"),
    ],
)
def test_frames_without_numbers_have_to_be_the_exported_ones(
    change: Callable[[list[Atoms]], list[Atoms]], message: str, tmp_path: Path, runs: Path
) -> None:
    chosen = settings()
    prepared = prepare(chosen)
    found = predicted(chosen, tmp_path / "test.extxyz", reference(prepared.structures, prepared.high))
    with pytest.raises(UserError, match=message):
        judge(chosen, written(change(found), tmp_path / "p.extxyz"), runs)
    assert not list(runs.iterdir())


# Which key is which level's


@pytest.mark.parametrize("name", ["energy/{}", "mtt::energy_{}", "energy_{}"])
def test_levels_are_known_by_the_names_of_the_export(name: str, tmp_path: Path, runs: Path) -> None:
    chosen = settings("ani1ccx", "MF")
    prepared = prepare(chosen)
    export(chosen, "test", tmp_path / "test.extxyz")
    found, s, names = frames(tmp_path / "test.extxyz"), prepared.structures, slugs(prepared.levels)
    for frame in found:
        k = frame.info["mfbench_structure"]
        frame.info = {"energy": 1.0} if name == "energy/{}" else {}  # not that of a level by its name
        for level in prepared.levels:
            energy, forces = reference(s, level)(k)
            key = name.format(names[level])
            frame.info[key] = energy if s.energy_mask[k, s.level_index(level)] else 0.0
            frame.arrays[f"forces_{names[level]}" if name == "energy_{}" else f"forces[{key}]"] = forces
    table = read_metrics(
        evaluate(tmp_path / "test.extxyz.json", "Other", written(found, tmp_path / "p.extxyz"), runs) / METRICS_FILE
    )
    assert set(table["level"]) == set(prepared.levels)
    judged = table[(table["part"] == "test") & (table["n"] > 0)]
    assert set(judged["role"]) == {"low", "high"}
    assert set(judged["quantity"]) >= {"energy", "force"}
    assert (judged["value"] < 2e-7).all()


def test_a_file_a_level(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MACE's heads are predicted, by the command line."""
    chosen = settings("ani1x-tz", "MF")
    prepared = prepare(chosen)
    monkeypatch.chdir(tmp_path)
    names, options = slugs(prepared.levels), []
    for level in prepared.levels:
        found = predicted(chosen, Path("test.extxyz"), reference(prepared.structures, level))
        for frame in found:
            frame.info["MACE_energy"], frame.arrays["MACE_forces"] = frame.calc.results.values()
            frame.calc = None
        written(found, Path(f"{names[level]}.extxyz"))
        options += ["--predictions", f"{names[level] if level == prepared.low else level}={names[level]}.extxyz"]
    judged = ["evaluate", "--export", "test.extxyz.json", "--name", "MACE", "--runs", "runs"]
    assert main([*judged, *options]) == 0
    table = load_runs(Path("runs"))
    assert (table["n"] > 0).all()
    assert (table["value"] < 2e-7).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--export", "test.extxyz.json", "--n-high", "50"], "expected no choice beside it.*got n_high"),
        (["--export", "test.extxyz.json", "--seed", "0"], "expected no choice beside it.*got seed"),
        (["--export", "train.extxyz.json"], "cannot read train.extxyz.json"),
        ([], "expected --export FILE.json, or CASE and --arm"),
        (["--export", "test.extxyz.json", "--predictions", "b.extxyz"], "of several expected LEVEL=FILE"),
        (["--export", "test.extxyz.json", "--seconds", "-1"], "--seconds: expected a number from 0 on"),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    export(settings(), "test", "test.extxyz")
    assert main(["evaluate", *options, "--name", "A", "--predictions", "a.extxyz"]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_level_is_named_once_and_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(settings(), "test", tmp_path / "test.extxyz")
    start = ["evaluate", "--export", str(tmp_path / "test.extxyz.json"), "--name", "A"]
    assert main([*start, "--predictions", "mp2=a", "--predictions", "pbe_def2_svp=b"]) == 2
    assert "unknown level of this experiment 'mp2'" in capsys.readouterr().err
    assert main([*start, "--predictions", "pbe_def2_svp=a", "--predictions", "pbe/def2-svp=b"]) == 2
    assert "expected one file for pbe/def2-svp" in capsys.readouterr().err


# Units

EV, HA, KCAL = 1.0, units.HARTREE, units.EV_PER_KCAL


@pytest.mark.parametrize(
    ("energy", "per_atom", "force", "given", "message"),
    [
        (EV, True, EV, {}, r"fit as eV per atom: give --per-atom, or name the key of total energies with --energy-key"),
        (HA, True, HA, {}, r"fit as Ha per atom: give --unit Ha and --per-atom"),
        (HA, False, HA, {}, r"fit as Ha: give --unit Ha$"),
        (KCAL, False, KCAL, {"unit": "Ha"}, r"fit as kcal/mol: give --unit kcal/mol$"),
        (EV, False, EV, {"per_atom": True}, r"fit as eV: give no --per-atom"),
        (EV, False, KCAL, {}, r"forces of .* expected eV/Angstrom, .* they fit as kcal/mol/Angstrom"),
        (HA, False, HA / units.BOHR, {"unit": "Ha"}, r"expected Ha/Angstrom, .* they fit as Ha/Bohr"),
        (EV, False, -EV, {}, r"they fit with the other sign, as gradients are"),
    ],
)
def test_other_units_are_recognised(
    energy: float, per_atom: bool, force: float, given: dict[str, Any], message: str, tmp_path: Path, runs: Path
) -> None:
    chosen = settings("ani1x-tz", "MF")
    prepared = prepare(chosen)
    s, rng = prepared.structures, np.random.default_rng(0)
    labels = reference(s, prepared.high)

    def fill(k: int) -> tuple[float, np.ndarray]:
        e, f = labels(k)
        atoms = int(s.n_atoms[k]) if per_atom else 1
        return (e + rng.normal()) / energy / atoms, (f + 0.2 * f.std() * rng.normal(size=f.shape)) / force

    path = written(predicted(chosen, tmp_path / "test.extxyz", fill), tmp_path / "p.extxyz")
    with pytest.raises(UserError, match=message):
        judge(chosen, path, runs, **given)
    assert not list(runs.iterdir())


def test_energies_per_atom_are_judged_as_such(tmp_path: Path, runs: Path) -> None:
    chosen = settings("ani1x-tz", "MF")
    prepared = prepare(chosen)
    s, labels = prepared.structures, reference(prepared.structures, prepared.high)
    found = predicted(chosen, tmp_path / "test.extxyz", lambda k: (labels(k)[0] / int(s.n_atoms[k]), labels(k)[1]))
    table = judge(chosen, written(found, tmp_path / "p.extxyz"), runs, per_atom=True)
    assert (table[table["role"] == "high"]["value"] < 1e-6).all()


@pytest.mark.parametrize("fill", [lambda k: 0.0, lambda k: -100.0 + k])
def test_a_bad_model_is_judged_all_the_same(fill: Callable[[int], float], tmp_path: Path, runs: Path) -> None:
    chosen = settings()
    labels = reference(prepare(chosen).structures, chosen.levels[-1])
    found = predicted(chosen, tmp_path / "test.extxyz", lambda k: (fill(k), np.zeros_like(labels(k)[1])))
    table = judge(chosen, written(found, tmp_path / "p.extxyz"), runs)
    assert (table[table["role"] == "high"].set_index("quantity").loc["energy", "value"] > 1000).all()


# What a code had, and took


def test_cost_and_labels_are_recorded_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cost = ["--seconds", "292.5", "--steps", "1000", "--parameters", "54321", "--device", "cpu"]
    for arm in ("MF", "MF+"):
        chosen = settings("rmd17-cc", arm)
        prepared = prepare(chosen)
        written(predicted(chosen, Path("test.extxyz"), reference(prepared.structures, prepared.high)), Path("p.extxyz"))
        judged = ["evaluate", "--export", "test.extxyz.json", "--predictions", "p.extxyz", "--name", "Other"]
        assert main([*judged, *cost]) == 0
        assert "Predicted by another code, trained in 1,000 steps, 292.5 s on cpu." in capsys.readouterr().out
    table = load_runs(Path("runs"))
    assert table.groupby("arm")["run"].nunique().to_dict() == {"Other (labels of MF)": 1, "Other (labels of MF+)": 1}
    assert set(table["seconds"]) == {292.5}
    assert set(table["steps"]) == {1000}
    assert set(table["device"]) == {"cpu"}
    said = read_json(next(Path("runs").iterdir()) / "provenance.json")
    assert said["predictions"]["file"] == "p.extxyz"
    assert said["matched_by"] == "mfbench_structure"
    assert said["cost"] == {"seconds": 292.5, "steps": 1000, "parameters": 54321, "device": "cpu"}
    assert main(["report"]) == 0
    assert "Other (labels of MF+)" in capsys.readouterr().out


def other_code(train: Path, test: Path, out: Path) -> None:
    """Another code, in numpy: atomic energies by least squares, from the exported files and nothing else."""
    about = json.loads(train.with_name(f"{train.name}.json").read_text())
    key = about["levels"][about["high"]]["energy_key"]

    def composition(found: list[Atoms]) -> np.ndarray:
        return np.array([[np.count_nonzero(frame.numbers == z) for z in (1, 6, 7, 8)] for frame in found], float)

    learned = [frame for frame in ase.io.read(train, ":") if key in frame.info]
    weights = np.linalg.lstsq(composition(learned), np.array([frame.info[key] for frame in learned]), rcond=1e-10)[0]
    asked = ase.io.read(test, ":")
    for frame, energy in zip(asked, composition(asked) @ weights):
        frame.info["linear_energy"] = float(energy)
    ase.io.write(out, asked, format="extxyz")


LINEAR = "Linear (labels of MF)"


def test_another_code_from_the_command_line_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    choice = ["ani1x-tz", "--arm", "MF", "--n-high", "50", "--seed", "0"]
    for part in ("train", "test"):
        assert main(["export", *choice, "--part", part, "--out", f"{part}.extxyz"]) == 0
        assert f"Written: {part}.extxyz\nWritten: {part}.extxyz.json" in capsys.readouterr().out
        again = read_json(Path(f"{part}.extxyz.json"))["command"].split()
        content = Path(f"{part}.extxyz").read_bytes()
        assert main(again[1:]) == 0
        assert Path(f"{part}.extxyz").read_bytes() == content
    other_code(Path("train.extxyz"), Path("test.extxyz"), Path("predictions.extxyz"))
    judged = ["evaluate", *choice, "--predictions", "predictions.extxyz", "--energy-key", "linear_energy"]
    capsys.readouterr()
    assert main([*judged, "--name", "MF"]) == 2
    assert "no arm has" in capsys.readouterr().err
    assert main([*judged, "--name", "Linear"]) == 0
    out = capsys.readouterr().out
    assert "ani1x-tz (mini), Linear (labels of MF), external: n_high = 50" in out
    assert "Predicted by another code." in out
    assert NOT_PREDICTED in out
    assert main([*judged, "--name", "Linear"]) == 0  # replaced, not doubled
    run = ["run", "ani1x-tz", "--n-high", "50", "--steps", "2", "--device", "cpu"]
    for arm in ("SF-E", "SF-EF"):
        assert main([*run, "--arm", arm]) == 0
    table = load_runs(Path("runs"))
    assert table["run"].nunique() == 3
    (section,) = sections(table)
    assert section[1][1] == "hipnn-ts"
    errors = error_table(table, "ani1x-tz")
    assert set(errors["arm"]) == {"SF-E", "SF-EF", LINEAR}
    # Atomic energies alone, and a network of two steps on top of the same ones: errors of one size.
    linear, network = (errors.set_index("arm").loc[arm, "energy mae"] for arm in (LINEAR, "SF-E"))
    assert 0 < linear < 10 * network
    rows = curve_rows(table, "ani1x-tz", "energy")
    assert set(rows["arm"]) == {"SF-E", "SF-EF", LINEAR}
    assert set(gap_table(table, "ani1x-tz")["arm"]) == {LINEAR}
    assert main(["report"]) == 0
    assert LINEAR in capsys.readouterr().out


def test_low_level_forces_alone_are_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "rmd17-cc", "--arm", "MF", "--predictions", "x", "--name", "A", "--low-forces-key", "f"]
    assert main([*arguments, "--runs", str(tmp_path)]) == 2
    assert "--low-energy-key" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["one", "two"])
def test_predictions_as_metatrains_evaluation_writes_them(name: str, tmp_path: Path, runs: Path) -> None:
    """Nothing of the input is kept but elements, positions and order; targets have metatrain's names."""
    chosen = settings()
    export(chosen, "test", tmp_path / "test.xyz", "metatrain")
    about = json.loads((tmp_path / "test.xyz.json").read_text())
    low = about["levels"][about["low"]]["name"]
    script = str(Path(__file__).parent / "inputs" / "metatrain_like.py")
    subprocess.run([sys.executable, script, "test.xyz", low], cwd=tmp_path, check=True)
    exported = tmp_path / "test.xyz.json"  # it says how this code calls its targets
    table = read_metrics(evaluate(exported, "Mine", tmp_path / f"{name}.xyz", runs) / METRICS_FILE)
    rows = table[(table["quantity"] == "force") & (table["metric"] == "mae") & (table["part"] == "test")]
    counted = rows.set_index("role")["n"]
    assert counted["high"] > 0
    assert (counted["low"] > 0) == (name == "two")
    made = ase.io.read(tmp_path / "one.xyz", ":")  # ASE cannot read the names of the other
    assert counted["high"] <= 3 * sum(map(len, made))


def test_energies_of_another_level_are_refused(tmp_path: Path, runs: Path) -> None:
    chosen = settings()
    prepared = prepare(chosen)
    ase.io.write(
        path := tmp_path / "p.extxyz",
        predicted(chosen, tmp_path / "t.extxyz", reference(prepared.structures, prepared.low)),
    )
    message = rf"energies of {re.escape(prepared.high)}: .* off it and 0 off {re.escape(prepared.low)} \(medians\)"
    with pytest.raises(UserError, match=message):
        judge(chosen, path, runs)
