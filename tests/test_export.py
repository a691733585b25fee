"""What is exported for other codes is what an arm may see, and what they are trained from is ready to be taken."""

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
import yaml
from ase import Atoms

from mfbench import units
from mfbench.cli.main import main
from mfbench.data.importing import import_files
from mfbench.data.molecules import named, state_of
from mfbench.errors import LabelsMissing, UserError
from mfbench.files import read_json
from mfbench.free_atoms import free_atoms_of
from mfbench.learning.arms import ARMS
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import Lesson
from mfbench.learning.sources import Source, Term
from mfbench.study import experiment
from mfbench.study import export as exchange
from mfbench.study.build import build
from mfbench.study.experiment import Experiment
from mfbench.study.export import export, exported
from mfbench.study.formats import FORMATS
from mfbench.study.formats.base import PARTS
from mfbench.study.prepare import Prepared, lessons_of, prepare
from mfbench.study.visible import slugs, split_hash, visible

INPUTS = Path(__file__).parent / "inputs"

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
            f"H, C and O: those of {low} and the difference of free atoms"
            if below
            else "H, C and O: those of free atoms"
        )
        free = free_atoms_of(level)
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
        assert targets[f"energy/{high['name']}"]["key"] == high["energy_key"]
        assert targets[f"energy/{high['name']}"]["forces"] is False
        assert targets[f"energy/{low['name']}"]["forces"] == {"key": low["forces_key"]}


def test_hippynn_reads_its_export(tmp_path: Path) -> None:
    database = pytest.importorskip("hippynn.interfaces.ase_interface").AseDatabase
    chosen = settings("rmd17-cc", "MF")
    export(chosen, "train", tmp_path / "train.extxyz", "hippynn")
    about = read_json(tmp_path / "train.extxyz.json")
    wanted = [one[key] for one in about["levels"].values() for key in ("energy_key", "forces_key") if one[key]]
    wanted.append("mfbench_structure")
    read = database(f"{tmp_path}/", "train.extxyz", ["numbers", "positions"], wanted, seed=0, quiet=True)
    for one in about["levels"].values():
        assert np.isfinite(read.arr_dict[one["energy_key"]]).sum() == one["energies"]
    numbers = [frame.info["mfbench_structure"] for frame in frames(tmp_path / "train.extxyz")]
    assert sorted(read.arr_dict["mfbench_structure"].tolist()) == numbers


# All parts at once

HALF = {"labels": {"high_forces": 0.5}}
TRIPS = [(case, arm) for case in ("rmd17-cc", "ani1ccx") for arm in ("MF", "MF+", "SF-E")]


@pytest.mark.parametrize("format_name", FORMATS)
def test_all_parts_are_those_written_one_by_one(format_name: str, tmp_path: Path) -> None:
    chosen, suffix = settings("ani1ccx", "MF"), FORMATS[format_name].suffixes[0]
    written = export(chosen, "all", tmp_path / "all", format_name)
    assert {path.relative_to(tmp_path / "all") for path in written if path.suffix != ".npy"} >= {
        Path(f"{part}{suffix}{ending}") for part in PARTS for ending in ("", ".json")
    }
    for part in PARTS:
        for file in export(chosen, part, tmp_path / f"{part}{suffix}", format_name):
            if file.is_file():
                assert file.read_bytes() == (tmp_path / "all" / file.relative_to(tmp_path)).read_bytes()
    assert not [path for path in written if not path.stat().st_size and path.name != "nopbc"]


def test_parts_that_an_earlier_export_had_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(settings(), "all", tmp_path, "metatrain")
    assert (tmp_path / "valid.extxyz").exists()
    real = exchange.visible

    def nothing_to_validate(structures: Any, lessons: Any, part: Any) -> Any:
        found = real(structures, lessons, part)
        return found if part == "train" else found.only(np.zeros(len(found.indices), bool))

    monkeypatch.setattr(exchange, "visible", nothing_to_validate)
    written = export(settings(), "all", tmp_path, "metatrain")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    assert yaml.safe_load((tmp_path / "options.yaml").read_text())["validation_set"] == 0.1


@pytest.mark.parametrize("format_name", list(FORMATS))
def test_labels_of_an_earlier_export_are_gone(format_name: str, tmp_path: Path) -> None:
    """What another arm may see must not be left for this one."""
    for arm in ("SF-EF", "MF", "SF-E"):
        written = export(settings(arm=arm), "all", tmp_path / "same", format_name)
        export(settings(arm=arm), "all", tmp_path / arm, format_name)
        found = {str(one.relative_to(tmp_path / "same")) for one in (tmp_path / "same").rglob("*") if one.is_file()}
        assert found == {str(one.relative_to(tmp_path / arm)) for one in (tmp_path / arm).rglob("*") if one.is_file()}
        assert found == {str(Path(one).relative_to(tmp_path / "same")) for one in written}


@pytest.mark.parametrize(("case", "arm"), TRIPS)
def test_mace_is_configured_from_low_to_high(case: str, arm: str, tmp_path: Path) -> None:
    chosen = settings(case, arm)
    prepared = prepare(chosen)
    export(chosen, "all", tmp_path, "mace")
    text = (tmp_path / "mace.yaml").read_text()
    heads = yaml.safe_load(text)["heads"]
    names = slugs(prepared.levels)
    expected = [names[prepared.high]] if arm == "SF-E" else [names[prepared.low], names[prepared.high]]
    assert list(heads) == expected
    assert re.findall(r"^  (\w+):$", text, re.MULTILINE) == expected  # as the file has them, which MACE goes by
    for slug, head in heads.items():
        assert set(ast.literal_eval(head["E0s"])) == {1, 6, 8} | ({7} if case == "ani1ccx" else set())
        parts = {"train": head["train_file"], **({"valid": head["valid_file"]} if "valid_file" in head else {})}
        for part, file in parts.items():
            found = frames(tmp_path / file)
            assert found
            assert {frame.info["head"] for frame in found} == {slug}
            assert {frame.info["mfbench_part"] for frame in found} == {part}
        assert ("valid_fraction" in head) == ("valid_file" not in head)


@pytest.mark.parametrize(("case", "arm"), TRIPS)
def test_metatrain_is_told_of_targets_that_have_labels(case: str, arm: str, tmp_path: Path) -> None:
    export(settings(case, arm), "all", tmp_path, "metatrain")
    options = yaml.safe_load((tmp_path / "options.yaml").read_text())
    trained = options["training_set"]["targets"]
    assert set(options["architecture"]["training"]["atomic_baseline"]) == set(trained)
    assert set(options["validation_set"]["targets"]) <= set(trained)
    for part in ("training_set", "validation_set"):
        found = frames(tmp_path / options[part]["systems"]["read_from"])
        for name, target in options[part]["targets"].items():
            assert name.startswith("energy/")
            assert any(np.isfinite(frame.info[target["key"]]) for frame in found)
            if target["forces"]:
                assert any(np.isfinite(frame.arrays[target["forces"]["key"]]).all() for frame in found)
    if arm != "SF-E":
        assert len(trained) == 2


def test_programs_beside_the_data_are_those_of_the_package(tmp_path: Path) -> None:
    names = {"hippynn": "train_hippynn.py", "metatrain": "predict.py", "deepmd": "predict.py", "aimnet": "predict.py"}
    for format_name, name in names.items():
        export(settings(), "all", tmp_path / format_name, format_name)
        compile((tmp_path / format_name / name).read_text(), name, "exec")


@pytest.mark.parametrize(("case", "arm", "more"), [(*one, {}) for one in TRIPS] + [("ani1x-tz", "MF", HALF)])
def test_deepmd_systems_hold_the_labels_that_the_arm_may_see(
    case: str, arm: str, more: dict[str, Any], tmp_path: Path
) -> None:
    chosen = settings(case, arm, **more)
    prepared = prepare(chosen)
    s, lessons = prepared.training, lessons_of(chosen, prepared)
    export(chosen, "all", tmp_path, "deepmd")
    content = read_json(tmp_path / "input.json")
    trained = content["training"]["data_dict"]
    assert set(trained) == set(content["loss_dict"]) == set(content["model"]["model_dict"])
    assert content["training"]["model_prob"] == dict.fromkeys(trained, 1 / len(trained))
    elements = content["model"]["shared_dict"]["elements"]
    by_slug = {slug: s.level_index(level) for level, slug in slugs(prepared.levels).items()}
    for part in ("train", "valid"):
        seen = visible(s, lessons, part)  # type: ignore[arg-type]
        for slug, sets in trained.items():
            column, got = by_slug[slug], {"energy": [], "force": []}
            for system in sets.get({"train": "training_data", "valid": "validation_data"}[part], {"systems": []})[
                "systems"
            ]:
                types = np.loadtxt(tmp_path / system / "type.raw", dtype=int)
                assert (tmp_path / system / "type_map.raw").read_text().split() == elements
                assert (tmp_path / system / "nopbc").exists()
                coord = np.load(tmp_path / system / "set.000" / "coord.npy")
                assert coord.shape[1] == 3 * len(types)
                for kind in got:
                    if (file := tmp_path / system / "set.000" / f"{kind}.npy").exists():
                        values = np.load(file)
                        assert len(values) == len(coord)
                        got[kind] += values.ravel().tolist()
            energies, forces = seen.indices[seen.energy[:, column]], seen.indices[seen.forces[:, column]]
            assert sorted(got["energy"]) == sorted(s.energies[energies, column].tolist())
            assert sorted(got["force"]) == sorted(s.forces[column, s.atoms_of(forces)].astype(float).ravel().tolist())


@pytest.mark.parametrize(("case", "arm", "more"), [(*one, {}) for one in TRIPS] + [("ani1x-tz", "MF", HALF)])
def test_aimnet_has_a_file_for_each_set_of_labels(case: str, arm: str, more: dict[str, Any], tmp_path: Path) -> None:
    chosen = settings(case, arm, **more)
    prepared = prepare(chosen)
    s = prepared.training
    seen = visible(s, lessons_of(chosen, prepared), "train")
    export(chosen, "all", tmp_path, "aimnet")
    for level, slug in slugs(prepared.levels).items():
        column = s.level_index(level)
        got: dict[str, list[float]] = {"energy": [], "forces": []}
        for file in tmp_path.glob(f"train.{slug}.*h5"):
            with h5py.File(file) as found:
                assert len({tuple(group) for group in found.values()}) == 1  # AIMNet wants the same keys in all groups
                for size, group in found.items():
                    n = len(group["coord"])
                    assert group["numbers"].shape == (n, int(size))
                    assert group["coord"].shape == (n, int(size), 3)
                    assert group["charge"][:].tolist() == [0.0] * n
                    assert group["mult"][:].tolist() == [1.0] * n
                    for kind in got.keys() & group.keys():
                        assert group[kind].shape == ((n,) if kind == "energy" else (n, int(size), 3))
                        got[kind] += group[kind][:].ravel().tolist()
        energies, forces = seen.indices[seen.energy[:, column]], seen.indices[seen.forces[:, column]]
        assert sorted(got["energy"]) == sorted(s.energies[energies, column].tolist())
        assert sorted(got["forces"]) == sorted(s.forces[column, s.atoms_of(forces)].astype(float).ravel().tolist())


@pytest.mark.parametrize(("case", "arm", "more"), [(*one, {}) for one in TRIPS] + [("ani1x-tz", "MF", HALF)])
def test_aimnet_is_trained_on_every_file_from_low_to_high(
    case: str, arm: str, more: dict[str, Any], tmp_path: Path
) -> None:
    export(settings(case, arm, **more), "all", tmp_path, "aimnet")
    commands = [shlex.split(line) for line in (tmp_path / "train_aimnet.sh").read_text().splitlines()]
    commands = [words for words in commands if words[:2] == ["aimnet", "train"]]
    options = [dict(zip(words[2:-1:2], words[3:-1:2])) for words in commands]
    assert [one.get("--load") for one in options] == [None, *(one["--save"] for one in options[:-1])]
    trained, levels = [], read_json(tmp_path / "train.extxyz.json")["levels"].values()
    for one in options:
        chosen = yaml.safe_load((tmp_path / one["--config"]).read_text())
        data, terms = chosen["data"], chosen["loss"]["kwargs"]["components"]
        assert one["--save"] == f"{chosen['run_name']}.pt"
        assert set(terms) == {"energy", "forces", "charges"} - set(data["y"])
        assert all(term["weight"] == 0 and term["kwargs"]["key_true"] in data["y"] for term in terms.values())
        atomic = yaml.safe_load((tmp_path / data["sae"]["energy"]["file"]).read_text())
        for file in (data["train"], data["val"]):
            with h5py.File(tmp_path / file) as found:
                for group in found.values():
                    assert set(group) == {"numbers", "coord", "charge", "mult", *data["y"]}
                    assert set(group["numbers"][:].ravel().tolist()) <= set(atomic)
        trained.append(data["train"])
    assert sorted(trained) == sorted(path.name for path in tmp_path.glob("train.*.h5"))
    names = {level["role"]: level["name"] for level in levels}
    stems = [one["--save"].removesuffix(".pt") for one in options]
    in_order = [names[role] for role in ("low", "high") if role in names]
    assert list(dict.fromkeys(stem.split(".")[0] for stem in stems)) == in_order
    for name in in_order:
        assert [stem for stem in stems if stem.split(".")[0] == name][-1] == name
    if more:
        assert trained[-2:] == [f"train.{names['high']}.energy.h5", f"train.{names['high']}.h5"]


def test_charge_and_multiplicity_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFBENCH_DATA", str(tmp_path / "cache"))
    text = (INPUTS / "charges_mixed.extxyz").read_text().replace("spin=1", "spin_multiplicity=3", 12)
    (tmp_path / "charges_mixed.extxyz").write_text(text)
    import_files([tmp_path / "charges_mixed.extxyz"], INPUTS / "charges_mixed.yaml")
    case = (INPUTS / "narrow_high_case.yaml").read_text().replace("narrow_high", "charges_mixed")
    (tmp_path / "charges_mixed_case.yaml").write_text(f"{case}    validation: 5\n")
    chosen = experiment.experiment(tmp_path / "charges_mixed_case.yaml", "MF", n_high=10, threads=1)
    states = {"H2O": (0, 1), "H2O, charge -1": (-1, 2), "H2O, multiplicity 3": (0, 3)}
    seen = set()
    for format_name in FORMATS:
        export(chosen, "all", tmp_path / format_name, format_name)
        for part in PARTS:
            for frame in frames(tmp_path / format_name / f"{part}.extxyz"):
                name, state = str(frame.info["mfbench_molecule"]), state_of(frame.info, frame.numbers)
                assert named("H2O", state) == name
                assert state.whole(frame.numbers) == states[name]
                seen.add(name)
    assert seen == set(states)
    at = {
        tuple(frame.positions.ravel()): str(frame.info["mfbench_molecule"])
        for part in ("train", "valid")
        for frame in frames(tmp_path / "aimnet" / f"{part}.extxyz")
    }
    found = set()
    for file in (tmp_path / "aimnet").glob("*.h5"):
        with h5py.File(file) as made:
            group = made["003"]
            for coord, charge, mult in zip(group["coord"][:], group["charge"][:], group["mult"][:]):
                assert (charge, mult) == states[at[tuple(coord.ravel())]]
                found.add(charge)
    assert found == {0, -1}


def test_the_command_line_names_all_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = capsys.readouterr().out
    assert [name for name in FORMATS if name not in said] == []


def test_the_json_says_whose_constants_the_energies_are_in(tmp_path: Path) -> None:
    export(settings(), "test", tmp_path / "test.extxyz")
    constants = read_json(tmp_path / "test.extxyz.json")["constants"]
    assert constants["CODATA"] == 2018
    assert constants["Hartree in eV"] == units.HARTREE


CHOICES: list[dict[str, Any]] = [
    {},
    {"arm": "SF-E"},
    {"arm": "MF+", "seed": 3, "split_seed": 1},
    {"arm": "MF", "labels": {"low_energies": False, "noise": {"high energy": units.EV_PER_KCAL}}, "overlap": "partly"},
    {"case": "ladder", "further": {"wb97x/6-31g*": 20}},
    {"case": "ani1x-tz", "arm": "transfer", "arm_options": {"freeze": "backbone"}},
]


@pytest.mark.parametrize("choice", CHOICES)
def test_an_export_is_known_by_its_json_and_made_again_by_its_command(
    choice: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings(**choice)
    export(chosen, "train", "train.extxyz")
    again = exported("train.extxyz.json")
    assert again.variant == chosen.variant
    assert split_hash(prepare(again)) == split_hash(prepare(chosen))
    assert again.deciding() == {**chosen.deciding(), "settings": again.deciding()["settings"]}
    content = [Path(name).read_bytes() for name in ("train.extxyz", "train.extxyz.json")]
    assert main(shlex.split(read_json(Path("train.extxyz.json"))["command"])[1:]) == 0
    assert [Path(name).read_bytes() for name in ("train.extxyz", "train.extxyz.json")] == content


def test_other_json_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"case": "rmd17-cc"}')
    with pytest.raises(UserError, match="expected the JSON file beside an export"):
        exported(tmp_path / "x.json")


def test_exports_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown format 'mase'.*did you mean 'mace'"):
        export(settings(), "train", tmp_path / "a.extxyz", "mase")
    with pytest.raises(UserError, match="unknown part 'validation'"):
        export(settings(), "validation", tmp_path / "a.extxyz")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"ending in \.extxyz"):
        export(settings(), "train", tmp_path / "a.json")
    with pytest.raises(LabelsMissing):
        export(settings("ani1ccx", "SF-EF"), "train", tmp_path / "a.extxyz")
    with pytest.raises(UserError, match="expected a folder for all parts"):
        export(settings(), "all", tmp_path / "a.extxyz")
    assert not list(tmp_path.iterdir())


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
