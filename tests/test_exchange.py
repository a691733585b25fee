"""Other codes: what is exported is what an arm may see, and what is judged is what was exported."""

import ast
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mfbench import units
from mfbench.cli.main import main
from mfbench.data.structures import Structures
from mfbench.errors import LabelsMissing, UserError
from mfbench.files import read_json
from mfbench.free_atoms import catalogue
from mfbench.learning.arms import ARMS
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import Lesson
from mfbench.learning.sources import Source, Term
from mfbench.results.folder import METRICS_FILE, load_runs, read_metrics
from mfbench.results.predictions import Predictions, read_arrays
from mfbench.results.rows import curve_rows
from mfbench.show.tables import error_table, gap_table, sections
from mfbench.study import experiment
from mfbench.study import export as exchange
from mfbench.study.build import build
from mfbench.study.experiment import Experiment
from mfbench.study.export import FORMATS, PARTS, _frame, export, slugs, split_hash, visible
from mfbench.study.external import NOT_PREDICTED, evaluate
from mfbench.study.prepare import Prepared, lessons_of, prepare
from mfbench.study.run import run

# (structure, level) -> value: every label in a set of frames.
Found = tuple[dict[tuple[int, str], float], dict[tuple[int, str], np.ndarray]]


def settings(case: str = "rmd17-cc", arm: str = "MF", **more: Any) -> Experiment:
    return experiment.experiment(case, arm, n_high=50, threads=1, **more)


def frames(path: Path) -> list[Atoms]:
    return list(ase.io.iread(path, index=":", format="extxyz"))


def labels_in(path: Path) -> Found:
    """All labels of an export in the plain format."""
    about = read_json(path.with_name(f"{path.name}.json"))
    energies, forces = {}, {}
    for frame in frames(path):
        known = {"mfbench_structure", "mfbench_geometry", "mfbench_molecule", "mfbench_part", "mfbench_split"}
        keys = [(level, one["energy_key"], one["forces_key"]) for level, one in about["levels"].items()]
        assert set(frame.info) - known <= {key for _, key, _ in keys}
        assert set(frame.arrays) - {"numbers", "positions"} <= {key for *_, key in keys}
        assert frame.calc is None
        for level, energy, force in keys:
            if energy in frame.info:
                energies[frame.info["mfbench_structure"], level] = frame.info[energy]
            if force in frame.arrays:
                forces[frame.info["mfbench_structure"], level] = frame.arrays[force]
    return energies, forces


def allowed(prepared: Prepared, arm: str, part: str) -> tuple[set[tuple[int, str]], set[tuple[int, str]]]:
    """What an arm may see, from the selection and the masks alone: (structure, level) of energies, of forces."""
    chosen, s = prepared.selection, prepared.structures
    low, high = prepared.low, prepared.high
    train = part == "train"
    at_low = chosen.low.train if train else chosen.low.validation
    at_high = chosen.high.train if train else chosen.high.validation
    energies = {(int(k), high) for k in at_high}
    forces = {(int(k), high) for k in at_high} if arm == "SF-EF" else set()
    if arm == "MF" and not train:
        return energies, forces  # it is selected by the high level
    if arm in ("MF", "MF+"):
        energies |= {(int(k), low) for k in at_low}
        forces |= {(int(k), low) for k in at_low}
    if arm == "MF+":  # a committee: each member's part is trained on by the others
        pool = np.concatenate([chosen.high.train, chosen.high.validation])
        both = np.intersect1d(pool, np.concatenate([chosen.low.train, chosen.low.validation]))
        if train:
            energies |= {(int(k), high) for k in pool} | {(int(k), low) for k in both}
        else:
            gone = {*pool.tolist(), *chosen.low.train.tolist()}
            energies = {one for one in energies if one[0] not in gone}
            forces = {one for one in forces if one[0] not in gone}
    column = s.level_index
    return (
        {(k, name) for k, name in energies if s.energy_mask[k, column(name)]},
        {(k, name) for k, name in forces if s.force_mask[k, column(name)]},
    )


CHOSEN = [
    ("rmd17-cc", "SF-E"),
    ("rmd17-cc", "MF"),
    ("rmd17-cc", "SF-EF"),
    ("rmd17-cc", "MF+"),
    ("ani1x-tz", "MF"),
    ("ani1x-tz", "SF-EF"),
    ("ani1ccx", "SF-E"),
    ("ani1ccx", "MF+"),
]


@pytest.mark.parametrize(("case", "arm"), CHOSEN)
def test_the_exported_labels_are_those_the_arm_may_see(case: str, arm: str, tmp_path: Path) -> None:
    chosen = settings(case, arm)
    prepared = prepare(chosen)
    s, test = prepared.structures, {*prepared.split.test.tolist(), *prepared.split.unseen.tolist()}
    written = {}
    for part in ("train", "valid"):
        path = tmp_path / f"{part}.extxyz"
        assert export(chosen, part, path) == [path, tmp_path / f"{part}.extxyz.json"]
        energies, forces = labels_in(path)
        assert (set(energies), set(forces)) == allowed(prepared, arm, part)
        for (k, level), value in energies.items():
            assert value == s.energies[k, s.level_index(level)]  # to the last bit
        for (k, level), vectors in forces.items():
            atoms = slice(s.offsets[k], s.offsets[k + 1])
            assert np.array_equal(vectors, s.forces[s.level_index(level), atoms])
        found = frames(path)
        for frame in found:
            k = frame.info["mfbench_structure"]
            assert k not in test
            assert frame.info["mfbench_part"] == part
            assert frame.info["mfbench_geometry"] == s.geometry[k]
            assert str(frame.info["mfbench_molecule"]) == s.molecules[s.molecule[k]]
            assert np.array_equal(frame.positions, s.positions[s.offsets[k] : s.offsets[k + 1]])
            assert np.array_equal(frame.numbers, s.numbers[s.offsets[k] : s.offsets[k + 1]])
        about = read_json(tmp_path / f"{part}.extxyz.json")
        assert about["frames"] == len(found)
        for level, one in about["levels"].items():
            assert one["energies"] == sum(name == level for _, name in energies)
            assert one["forces"] == sum(name == level for _, name in forces)
        written[part] = {frame.info["mfbench_structure"] for frame in found}
        assert len(written[part]) == len(found)
    assert not written["train"] & written["valid"]


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_spoiled_labels_never_appear(arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the stages do not name can be anything: the files stay the same, byte by byte."""
    chosen = settings("ani1x-tz", arm)
    prepared = prepare(chosen)
    s = prepared.training
    lessons = lessons_of(chosen, prepared)
    energy, force = np.ones_like(s.energy_mask), np.ones_like(s.force_mask)
    for source in (source for lesson in lessons for source in (*lesson.train, *lesson.validation)):
        for term in source.terms:
            for name in (term.level, *([term.minus] if term.minus else [])):
                if term.energy:
                    energy[source.indices, s.level_index(name)] = False
            if term.forces:
                force[source.indices, s.level_index(term.level)] = False
    assert energy[np.concatenate([prepared.split.test, prepared.split.unseen])].all()
    forces = s.forces.copy()
    forces[np.repeat(force, s.n_atoms, axis=0).T] = 4321.25
    spoiled = replace(prepared, training=replace(s, energies=np.where(energy, 98765.5, s.energies), forces=forces))
    files = [tmp_path / f"{part}.extxyz" for part in PARTS]
    for file in files:
        if file.stem == "valid" and not len(visible(s, lessons, "valid").indices):
            file.write_text("")
            continue
        export(chosen, file.stem, file)  # type: ignore[arg-type]
    before = [file.read_bytes() for file in files]
    monkeypatch.setattr(exchange, "prepare", lambda *_: spoiled)
    for file, content in zip(files, before):
        if content:
            export(chosen, file.stem, file)  # type: ignore[arg-type]
        assert file.read_bytes() == content
        assert b"98765.5" not in content
        assert b"4321.25" not in content


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_test_part_has_no_label(format_name: str, tmp_path: Path) -> None:
    chosen = settings("ani1ccx", "MF")
    prepared = prepare(chosen)
    path = tmp_path / "test.extxyz"
    assert len(export(chosen, "test", path, format_name)) == 2
    found = frames(path)
    wanted = np.concatenate([prepared.split.test, prepared.split.unseen]).tolist()
    assert [frame.info["mfbench_structure"] for frame in found] == wanted
    unseen = set(prepared.split.unseen.tolist())
    for frame in found:
        assert frame.calc is None
        assert set(frame.arrays) == {"numbers", "positions"}
        assert {key for key in frame.info if not key.startswith("mfbench_")} <= {"head"}
        assert (frame.info["mfbench_part"] == "unseen") == (frame.info["mfbench_structure"] in unseen)
        assert frame.info["mfbench_split"] == split_hash(prepared)


def test_masks_and_noise_are_those_of_the_experiment(tmp_path: Path) -> None:
    chosen = settings("rmd17-cc", "MF", labels={"low_energies": False, "noise": {"high energy": 0.1}})
    prepared = prepare(chosen)
    s, train = prepared.training, prepared.selection.high.train
    export(chosen, "train", path := tmp_path / "train.extxyz")
    energies, forces = labels_in(path)
    assert {level for _, level in energies} == {prepared.high}
    assert {level for _, level in forces} == {prepared.low}
    column = s.level_index(prepared.high)
    assert [energies[k, prepared.high] for k in train.tolist()] == s.energies[train, column].tolist()
    noise = s.energies[train, column] - prepared.structures.energies[train, column]
    assert 0.05 < noise.std() < 0.2
    about = read_json(tmp_path / "train.extxyz.json")
    assert about["levels"][prepared.low]["energy_key"] is None
    assert about["labels"]["noise"] == {"high energy": 0.1}
    assert "--noise high-energy=2.30" in about["command"]


def test_differences_give_the_energies_of_both_levels() -> None:
    prepared = prepare(settings("ani1ccx", "MF"))
    s, low, high = prepared.training, prepared.low, prepared.high
    chosen = prepared.selection.high.train[:5]
    mask = s.energy_mask.copy()
    mask[chosen[0], s.level_index(low)] = False
    s = replace(s, energy_mask=mask)
    assert s.energy_mask[chosen[1:], s.level_index(low)].all()
    source = Source(chosen, (Term(high, minus=low),))
    found = visible(s, [Lesson((source,), (source,), Optimisation())], "train")
    assert set(found.indices.tolist()) == set(chosen[1:].tolist())
    assert found.energy.sum(0)[[s.level_index(low), s.level_index(high)]].tolist() == [4, 4]
    assert not found.forces.any()


def test_atomic_energies_are_those_the_arm_starts_from(tmp_path: Path) -> None:
    chosen = settings("ani1x-tz", "MF")
    prepared = prepare(chosen)
    potential, _ = build(chosen, prepared)
    export(chosen, "valid", tmp_path / "valid.extxyz", "mace")  # of the training labels, whatever the part
    about = read_json(tmp_path / "valid.extxyz.json")
    table = potential.atomic.table.numpy()  # type: ignore[union-attr, operator]
    for level, one in about["levels"].items():
        column = prepared.structures.level_index(level)
        got = [one["atomic_energies"][symbol] for symbol in ("H", "C", "N", "O")]
        assert got == pytest.approx(table[[1, 6, 7, 8], column], rel=1e-9)


@pytest.mark.parametrize("arm", ["SF-E", "MF", "MF+"])
def test_atomic_energies_that_labels_do_not_determine_are_marked(arm: str, tmp_path: Path) -> None:
    """Methanol alone: no -700 eV of hydrogen is handed to another code unmarked."""
    low, high = "pbe/def2-svp", "ccsd/cc-pvdz"
    export(settings("rmd17-cc", arm), "train", tmp_path / "train.extxyz", "mace")
    levels = read_json(tmp_path / "train.extxyz.json")["levels"]
    assert levels.keys() == ({high} if arm == "SF-E" else {low, high})
    for level, one in levels.items():
        assert one["determined"] is False
        below = level == high and arm != "SF-E"
        assert one["undetermined_come_from"] == (
            f"those of {low} and the difference of free atoms" if below else "free atoms"
        )
        free = catalogue(level)
        assert free is not None
        for symbol, z in (("H", 1), ("C", 6), ("O", 8)):
            assert one["atomic_energies"][symbol] == pytest.approx(free.energies[z], abs=10)
    export(settings("ani1x-tz", "MF"), "train", tmp_path / "train.extxyz")
    for one in read_json(tmp_path / "train.extxyz.json")["levels"].values():
        assert (one["determined"], one["undetermined_come_from"]) == (True, "")


def test_split_hashes_tell_choices_apart() -> None:
    first = split_hash(prepare(settings()))
    assert first == split_hash(prepare(settings(arm="SF-E")))
    others = [settings(seed=1), settings(split_seed=1), settings(n_low=100), settings(case="ani1x-tz")]
    others.append(experiment.experiment("rmd17-cc", "MF", n_high=60))
    assert len({first, *(split_hash(prepare(one)) for one in others)}) == 6


def test_slugs_are_safe_and_distinct() -> None:
    levels = ("wb97x/6-31g*", "ccsd(t)/cbs", "ccsd(t)*/cbs", "pbe+vdw-ts", "a/b@10", "a-b@10")
    names = slugs(levels)
    assert names["ccsd(t)*/cbs"] == "ccsd_t_star_cbs"
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names.values())
    assert len(set(names.values())) == len(levels)


# Formats


def test_mace_has_a_frame_and_a_file_a_level(tmp_path: Path) -> None:
    chosen = settings("ani1x-tz", "MF")
    prepared = prepare(chosen)
    names = slugs(prepared.levels)
    path = tmp_path / "train.extxyz"
    low, high = (tmp_path / f"train.{names[name]}.extxyz" for name in (prepared.low, prepared.high))
    assert set(export(chosen, "train", path, "mace")) == {path, low, high, tmp_path / "train.extxyz.json"}
    about = read_json(tmp_path / "train.extxyz.json")
    assert [len(frames(file)) for file in (low, high)] == [
        len(prepared.selection.low.train),
        len(prepared.selection.high.train),
    ]
    assert len(frames(path)) == len(frames(low)) + len(frames(high))
    for frame in frames(path):
        at_low = frame.info["head"] == names[prepared.low]
        assert at_low or frame.info["head"] == names[prepared.high]
        assert "REF_energy" in frame.info
        assert ("REF_forces" in frame.arrays) == at_low
        assert frame.info["config_energy_weight"] == 1
        assert frame.info["config_forces_weight"] == float(at_low)
    assert {frame.info["head"] for frame in frames(high)} == {names[prepared.high]}
    head = about["mace_heads"][names[prepared.high]]
    assert head["train_file"] == high.name
    isolated = ast.literal_eval(head["E0s"])  # as MACE reads it
    assert set(isolated) == {1, 6, 7, 8}
    assert all(isinstance(energy, float) for energy in isolated.values())


@pytest.mark.parametrize("format_name", ["hippynn", "metatrain"])
def test_formats_without_masks_have_every_key_in_every_frame(format_name: str, tmp_path: Path) -> None:
    chosen = settings("rmd17-cc", "MF")
    prepared = prepare(chosen)
    path = tmp_path / "train.extxyz"
    export(chosen, "train", path, format_name)
    about = read_json(tmp_path / "train.extxyz.json")
    low, high = (about["levels"][name] for name in (prepared.low, prepared.high))
    assert high["forces_key"] is None
    counts = np.zeros(3, int)
    for frame in frames(path):
        has = [frame.info[low["energy_key"]], frame.info[high["energy_key"]], frame.arrays[low["forces_key"]].sum()]
        counts += np.isfinite(has)
    assert counts.tolist() == [low["energies"], high["energies"], low["forces"]]
    assert counts.min() > 0
    if format_name == "metatrain":
        targets = about["metatrain_targets"]
        assert targets["energy"]["key"] == high["energy_key"]
        assert targets["energy"]["forces"] is False
        assert targets[f"mtt::energy_{low['name']}"]["forces"] == {"key": low["forces_key"]}


def test_hippynn_reads_its_export(tmp_path: Path) -> None:
    database = pytest.importorskip("hippynn.interfaces.ase_interface").AseDatabase
    chosen = settings("rmd17-cc", "MF")
    export(chosen, "train", tmp_path / "train.extxyz", "hippynn")
    about = read_json(tmp_path / "train.extxyz.json")
    wanted = [one[key] for one in about["levels"].values() for key in ("energy_key", "forces_key") if one[key]]
    read = database(f"{tmp_path}/", "train.extxyz", ["numbers", "positions"], wanted, seed=0, quiet=True)
    for one in about["levels"].values():
        assert np.isfinite(read.arr_dict[one["energy_key"]]).sum() == one["energies"]


# Predictions of other codes

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
    assert set(table["arm"]) == {"Other"}
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
        texts.append(_frame(frame.numbers, frame.positions, info, arrays))
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
        (lambda found: [found[1], found[0], *found[2:]], "2 structures not in the exported order"),
        (_moved, "1 structures with positions more than 1e-06 Angstrom"),
        (_transmuted, "1 structures with other elements"),
        (_without("energy"), "1 structures without finite energies 'energy'"),
        (_without("energy", float("nan")), "1 structures without finite energies"),
        (_without("forces"), "1 structures without finite forces 'forces'"),
        (_mixed_split, "predictions for another split or selection: expected split-.*, got split-000000000000"),
        (_unnamed, "1 of .* lack them"),
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
    with pytest.raises(UserError, match="unknown unit of energy 'Ry'"):
        judge(chosen, path, runs, unit="Ry")
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


def test_exports_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown format 'mase'.*did you mean 'mace'"):
        export(settings(), "train", tmp_path / "a.extxyz", "mase")
    with pytest.raises(UserError, match="unknown part 'validation'"):
        export(settings(), "validation", tmp_path / "a.extxyz")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"ending in \.extxyz"):
        export(settings(), "train", tmp_path / "a.json")
    with pytest.raises(LabelsMissing):
        export(settings("ani1ccx", "SF-EF"), "train", tmp_path / "a.extxyz")
    assert not list(tmp_path.iterdir())


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


def test_the_recorded_command_holds_the_choice_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = ["--no-low-energies", "--high-forces", "0.5", "--noise", "low-force=1.5", "--overlap", "partly"]
    assert main(["export", "rmd17-cc", "--arm", "MF", *labels, "--part", "train", "--out", "train.extxyz"]) == 0
    content = Path("train.extxyz").read_bytes()
    assert main(["export", "rmd17-cc", "--arm", "MF", "--part", "train", "--out", "train.extxyz"]) == 0
    assert Path("train.extxyz").read_bytes() != content
    assert main(["export", "rmd17-cc", "--arm", "MF", *labels, "--part", "train", "--out", "train.extxyz"]) == 0
    again = shlex.split(read_json(Path("train.extxyz.json"))["command"])
    assert main(again[1:]) == 0
    assert Path("train.extxyz").read_bytes() == content


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
    assert "ani1x-tz (mini), Linear, external: n_high = 50" in out
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
    assert set(errors["arm"]) == {"SF-E", "SF-EF", "Linear"}
    # Atomic energies alone, and a network of two steps on top of the same ones: errors of one size.
    linear, network = (errors.set_index("arm").loc[arm, "energy mae"] for arm in ("Linear", "SF-E"))
    assert 0 < linear < 10 * network
    rows = curve_rows(table, "ani1x-tz", "energy")
    assert set(rows["arm"]) == {"SF-E", "SF-EF", "Linear"}
    assert set(gap_table(table, "ani1x-tz")["arm"]) == {"Linear"}
    assert main(["report"]) == 0
    assert "Linear" in capsys.readouterr().out


def test_low_level_forces_alone_are_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "rmd17-cc", "--arm", "MF", "--predictions", "x", "--name", "A", "--low-forces-key", "f"]
    assert main([*arguments, "--runs", str(tmp_path)]) == 2
    assert "--low-energy-key" in capsys.readouterr().err
