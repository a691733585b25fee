"""Trained models in use: the run's own predictions again, with no data, in another process, alone or as a committee."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sealing import reseal

import mfbench
from mfbench import resources
from mfbench.cli.main import main
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.learning import arms
from mfbench.results.predictions import Predictions, read_arrays
from mfbench.study.experiment import experiment
from mfbench.study.load import load
from mfbench.study.predict_file import predict_file
from mfbench.study.prepare import prepare
from mfbench.study.run import record_absent, run
from mfbench.study.trained import Committee, Model

LOW, HIGH = "pbe/def2-svp", "ccsd/cc-pvdz"
Trained = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run folder of an arm, trained for a few steps when it is first asked for."""
    runs = tmp_path_factory.mktemp("runs")

    @cache
    def folder(arm: str = "MF", steps: int = 6, case: str = "rmd17-cc", **settings: Any) -> Path:
        return run(experiment(case, arm, optimisation={"steps": steps, "validations": 3}, threads=1, **settings), runs)

    return folder


def molecules(structures: Structures, indices: np.ndarray) -> list[Atoms]:
    return [
        Atoms(
            structures.numbers[slice(*structures.offsets[[s, s + 1]])], structures.positions[structures.atoms_of([s])]
        )
        for s in indices
    ]


@pytest.fixture(scope="module")
def tested(trained: Trained) -> Structures:
    """The test structures of the runs."""
    prepared = prepare(experiment("rmd17-cc", "MF"))
    return prepared.structures[prepared.split.test]


@pytest.fixture(scope="module")
def some(tested: Structures) -> list[Atoms]:
    """A few molecules."""
    return molecules(tested, np.linspace(0, len(tested) - 1, 7).astype(np.int64))


def recorded(folder: Path) -> Predictions:
    return read_arrays(folder / "predictions.h5", Predictions)


def column(folder: Path, level: str) -> int:
    return recorded(folder).levels.index(level)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, mfbench; assert 'torch' not in sys.modules; mfbench.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert mfbench.load is load
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        mfbench.lode  # noqa: B018


# (heads, what it was trained on), of MF+ with steps enough for its members
EXPECTED = {
    "SF-E": ((HIGH,), f"energies of {HIGH}"),
    "SF-EF": ((HIGH,), f"energies and forces of {HIGH}"),
    "oracle": ((HIGH,), f"energies and forces of {HIGH}"),
    "SF-low": ((LOW,), f"energies and forces of {LOW}"),
    "zero-shot": ((LOW, HIGH), f"energies of {HIGH} (atomic energies alone), energies and forces of {LOW}"),
    **dict.fromkeys(
        ("MF", "delta", "transfer", "MF+", "embedding"),
        ((LOW, HIGH), f"energies of {HIGH}, energies and forces of {LOW}"),
    ),
}


@pytest.mark.parametrize("arm", arms.arm_names())
def test_it_predicts_what_the_run_predicted(arm: str, trained: Trained, tested: Structures) -> None:
    folder = trained(arm, 20)
    model = mfbench.load(folder)
    heads, text = EXPECTED[arm]
    assert isinstance(model, Model)
    assert (model.levels, model.trained_on, model.arm, model.runs) == (heads, text, arm, (folder.name,))
    assert model.settings.arm == arm
    assert set(model.elements) >= set(tested.numbers.tolist())
    assert text in repr(model)
    reference = recorded(folder)
    for level in model.levels:
        k = reference.levels.index(level)
        found = model.predict(tested, level)
        assert found.level == level
        np.testing.assert_allclose(found.energies, reference.energy_predicted[:, k], rtol=0, atol=2e-5)
        np.testing.assert_allclose(found.forces, reference.force_predicted[:, k], rtol=0, atol=2e-5)
        assert np.abs(found.forces).max() > 1e-3
        assert found.energies_std is None
        assert found.forces_std is None


@pytest.mark.parametrize(
    "settings",
    [{"case": "ani1ccx"}, {"case": "ani1x-tz"}, {"backbone_name": "painn"}, {"preset_name": "paper", "epochs": 1}],
)
def test_other_cases_backbones_and_presets(settings: dict[str, Any], trained: Trained) -> None:
    if "preset_name" in settings:  # the recipe, with a network that a test can afford
        settings = {"preset_name": "paper"}
        chosen = experiment("ani1ccx", "MF", threads=1, network={"n_features": 8, "n_interactions": 1}, **settings)
        folder = run(chosen.model_copy(update={"epochs": 1}), trained().parent)
    else:
        folder = trained("MF", **settings)
    chosen = load(folder).settings
    prepared = prepare(chosen)
    reference = recorded(folder)
    part = prepared.structures[reference.structure[:40]]
    for k, level in enumerate(reference.levels):
        found = load(folder).predict(part, level)
        np.testing.assert_allclose(found.energies, reference.energy_predicted[:40, k], rtol=0, atol=5e-5)
        np.testing.assert_allclose(
            found.forces, reference.force_predicted[: reference.offsets[40], k], rtol=0, atol=5e-5
        )


def test_it_needs_neither_data_nor_case(trained: Trained, some: list[Atoms], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load(trained()).predict(some, HIGH)
    for name in ("cases", "manifests", "mini_data"):
        monkeypatch.setattr(resources, name, lambda: Path("/nowhere"))
    assert np.array_equal(load(trained()).predict(some, HIGH).energies, expected.energies)


def test_another_process_finds_the_same_numbers(trained: Trained, tested: Structures, tmp_path: Path) -> None:
    folder = trained()
    ase.io.write(tmp_path / "in.extxyz", molecules(tested, np.arange(5)), format="extxyz")
    code = (
        "import json, sys, ase.io, mfbench; model = mfbench.load(sys.argv[1]); "
        f"found = model.predict(ase.io.read('in.extxyz', ':'), {HIGH!r}); "
        "print(json.dumps([found.energies.tolist(), found.forces.tolist()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    energies, forces = json.loads(done.stdout)
    reference, k = recorded(folder), column(folder, HIGH)
    np.testing.assert_allclose(energies, reference.energy_predicted[:5, k], rtol=0, atol=2e-5)
    np.testing.assert_allclose(forces, reference.force_predicted[: reference.offsets[5], k], rtol=0, atol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
@pytest.mark.parametrize("arm", ["MF", "delta", "embedding"])
def test_a_gpu_finds_the_same_numbers(arm: str, trained: Trained, some: list[Atoms]) -> None:
    expected = load(trained(arm), dtype="float64").predict(some, HIGH)
    found = load(trained(arm), "cuda", "float64").predict(some, HIGH)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-8)


def test_together_as_one_by_one(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Molecules of all sizes and in any order, however they are arranged in blocks."""
    folder = trained("MF", case="ani1ccx")
    model, high = load(folder, dtype="float64"), "ccsd(t)*/cbs"
    structures = prepare(model.settings).structures
    rows = np.random.default_rng(0).permutation(len(structures))[:60]
    assert len(np.unique(structures.n_atoms[rows])) > 3
    mixed = molecules(structures, rows)
    together = model.predict(iter(mixed), high)
    assert np.array_equal(np.diff(together.offsets), structures.n_atoms[rows])
    for s, atoms in enumerate(mixed):
        alone = model.predict(atoms, high)
        np.testing.assert_allclose(together.energies[s], alone.energies[0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(together.forces[together.atoms_of(s)], alone.forces, rtol=0, atol=1e-9)
    monkeypatch.setattr("mfbench.learning.predict.MAX_PAIRS", 1)  # each in a block of its own
    for cut in (model.predict(mixed, high), model.predict(structures[rows], high)):
        np.testing.assert_allclose(cut.energies, together.energies, rtol=0, atol=1e-9)
        np.testing.assert_allclose(cut.forces, together.forces, rtol=0, atol=1e-9)
    energies = model.predict(mixed, high, forces=False)
    assert energies.forces is None
    np.testing.assert_allclose(energies.energies, together.energies, rtol=0, atol=1e-9)
    none = model.predict([], high)
    assert (none.energies.shape, none.forces.shape, none.offsets.tolist()) == ((0,), (0, 3), [0])


def test_far_from_the_origin_nothing_is_lost(trained: Trained, some: list[Atoms]) -> None:
    """At 10^5 Angstrom, float32 positions are 0.008 Angstrom apart."""
    model = load(trained())
    far = [atoms.copy() for atoms in some]
    for atoms in far:
        atoms.translate([1e5, -1e5, 3e4])
    here, there = model.predict(some, HIGH), model.predict(far, HIGH)
    np.testing.assert_allclose(there.forces, here.forces, rtol=0, atol=1e-5)
    np.testing.assert_allclose(there.energies, here.energies, rtol=0, atol=1e-5)


def test_what_is_given_stays_as_it_is(trained: Trained, some: list[Atoms], tested: Structures) -> None:
    before, positions = [atoms.copy() for atoms in some], tested.positions.copy()
    load(trained()).predict(some, HIGH)
    load(trained()).predict(tested, HIGH)
    assert all(a == b for a, b in zip(some, before))
    assert np.array_equal(tested.positions, positions)


def test_precision(trained: Trained, some: list[Atoms]) -> None:
    """In float64 a network of float32 weights differs by rounding; atomic energies are float64 in both."""
    single, double = load(trained()), load(trained(), dtype="float64")
    a, b = single.predict(some, HIGH), double.predict(some, HIGH)
    assert 0 < np.abs(a.energies - b.energies).max() < 2e-5
    np.testing.assert_allclose(a.forces, b.forces, rtol=0, atol=2e-5)
    folder = trained(dtype="float64")
    of_double, rounded = load(folder), load(folder, dtype="float32")
    assert next(of_double.potential.parameters()).dtype == torch.float64
    assert next(rounded.potential.parameters()).dtype == torch.float32
    assert rounded.potential.atomic.table.dtype == torch.float64
    reference, k = recorded(folder), column(folder, HIGH)
    part = prepare(of_double.settings).structures[reference.structure]
    np.testing.assert_allclose(of_double.predict(part, HIGH).energies, reference.energy_predicted[:, k], atol=1e-8)
    np.testing.assert_allclose(rounded.predict(part, HIGH).energies, reference.energy_predicted[:, k], atol=2e-5)


@pytest.mark.parametrize("arm", ["SF-E", "MF", "delta", "embedding"])
def test_loading_leaves_the_random_numbers_alone(arm: str, trained: Trained) -> None:
    folder = trained(arm)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load(folder)
    assert torch.equal(torch.rand(4), expected)


def test_a_fraction_of_forces_is_told(trained: Trained) -> None:
    chosen = experiment("rmd17-cc", "MF", labels={"high_forces": 0.5}, threads=1, optimisation={"steps": 6})
    model = load(run(chosen, trained().parent))
    assert model.trained_on == (
        f"energies and forces of {HIGH} (forces of 50% of its structures), energies and forces of {LOW}"
    )
    chosen = experiment(
        "rmd17-cc",
        "MF",
        labels={"low_energies": False, "noise": {"low force": 0.01}},
        threads=1,
        optimisation={"steps": 6},
    )
    model = load(run(chosen, trained().parent))
    assert model.trained_on == f"energies of {HIGH}, forces of {LOW}, with noise added to the labels"


# Committees


def test_a_committee_is_mean_and_sample_standard_deviation(trained: Trained, some: list[Atoms]) -> None:
    folders = [trained(), trained(seed=1), trained("delta")]
    committee = load(folders)
    assert isinstance(committee, Committee)
    assert (committee.levels, committee.arm) == ((LOW, HIGH), "MF, delta")
    assert committee.runs == tuple(folder.name for folder in folders)
    assert [settings.seed for settings in committee.settings] == [0, 1, 0]
    found = committee.predict(some, HIGH)
    every = [load(folder).predict(some, HIGH) for folder in folders]
    for name in ("energies", "forces"):
        members = np.stack([getattr(one, name) for one in every])
        mean = members.sum(0) / 3
        np.testing.assert_allclose(getattr(found, name), mean, rtol=1e-12)
        spread = np.sqrt(((members - mean) ** 2).sum(0) / 2)
        np.testing.assert_allclose(getattr(found, f"{name}_std"), spread, rtol=1e-6, atol=1e-12)
        assert spread.max() > 0
    without = committee.predict(some, HIGH, forces=False)
    assert without.forces is None
    assert without.forces_std is None
    np.testing.assert_allclose(without.energies_std, found.energies_std, rtol=1e-4)


def test_a_committee_has_the_levels_in_common(trained: Trained, some: list[Atoms]) -> None:
    committee = load([trained(), trained("SF-E")])
    assert committee.levels == (HIGH,)
    assert committee.predict(some).level == HIGH
    with pytest.raises(UserError, match=r"with a level and elements in common, got .*SF-E.*SF-low"):
        load([trained("SF-E"), trained("SF-low")])
    for few in ([], [trained()], [trained(), str(trained())]):
        with pytest.raises(UserError, match="a committee: expected two or more different run folders"):
            load(few)


# What cannot be used


def test_the_level_must_be_named(trained: Trained, some: list[Atoms]) -> None:
    assert load(trained("SF-E")).predict(some).level == HIGH
    model = load(trained())
    with pytest.raises(UserError, match=f"level: expected one of {LOW}, {HIGH}, as the model has several; got none"):
        model.predict(some)
    with pytest.raises(UserError, match=r"unknown level of this model 'ccsd': expected one of ccsd/cc-pvdz, pbe"):
        model.predict(some, "ccsd")


def test_structures_that_it_cannot_predict(trained: Trained, some: list[Atoms]) -> None:
    model = load(trained("SF-E"))
    known = "H, C, O"
    with pytest.raises(UserError, match=f"structure 1: expected elements .* trained on, {known}; got Fe, Cu"):
        model.predict([some[0], Atoms("CuFe", [[0, 0, 0], [0, 0, 2]])])
    with pytest.raises(UserError, match="structure 0: expected an isolated molecule, got a periodic structure"):
        model.predict([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[9, 9, 9], pbc=[False, True, False])])
    model.predict([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[9, 9, 9])])
    with pytest.raises(UserError, match="structure 1: expected atoms, got none"):
        model.predict([some[0], Atoms()])
    with pytest.raises(UserError, match=r"structure 0: expected finite positions, got \[nan, 0.0, 0.0\]"):
        model.predict(Atoms("H2", [[np.nan, 0, 0], [0, 0, 1]]))
    with pytest.raises(UserError, match=r"structure 0: expected ase.Atoms, got str"):
        model.predict(["C2H6"])


def test_energies_that_are_not_finite(trained: Trained, some: list[Atoms]) -> None:
    model = load(trained("SF-E"))
    with pytest.raises(UserError, match=r"structure 1: expected a finite energy and forces, .* are atoms in one place"):
        model.predict([some[0], Atoms("H2", np.zeros((2, 3)))])
    with torch.no_grad():
        next(model.potential.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="structure 0: expected a finite energy and forces, got none at ccsd/cc-pvdz"):
        model.predict(some)


def copied(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / folder.name)


def retold(folder: Path, **changes: str | None) -> None:
    """Change what the file of weights says of itself; a key each, as before there were seals."""
    path = folder / "weights.safetensors"
    with safe_open(path, "pt") as file:
        said = file.metadata()
    if "mfbench" in said:
        said = {key: json.dumps(value) for key, value in json.loads(said["mfbench"]).items()}
    said |= changes
    save_file(load_file(path), path, {key: value for key, value in said.items() if value is not None})
    reseal(folder)


def test_folders_that_are_no_finished_run(trained: Trained, tmp_path: Path) -> None:
    folder = trained()
    with pytest.raises(UserError, match=r"expected a run folder, .* there is no such folder"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match="there is no such folder"):
        load(folder / "settings.json")
    with pytest.raises(UserError, match=r"expected a run folder with .* found none; name one of those in it: \S+-s0-"):
        load(folder.parent)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"expected a run folder with metrics.parquet, found none$"):
        load(empty)
    begun = copied(folder, tmp_path)
    (begun / "seal.json").unlink()
    with pytest.raises(UserError, match=r"expected a finished run, got one without seal.json; the command"):
        load(begun)
    absent = record_absent(experiment("ani1ccx", "SF-EF", threads=1), tmp_path, "no forces there")
    with pytest.raises(UserError, match=r"expected weights.safetensors in it, .* not be trained \(no forces there\)"):
        load(absent)


@pytest.mark.parametrize("file", ["settings.json", "weights.safetensors", "metrics.parquet", "seal.json"])
@pytest.mark.parametrize("how", ["empty", "cut", "other", "folder"])
def test_damaged_files(file: str, how: str, trained: Trained, tmp_path: Path) -> None:
    folder = copied(trained(), tmp_path)
    path = folder / file
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"\x80\x04K\x01."}[how])
    with pytest.raises(UserError, match=folder.name):
        load(folder)


def test_files_that_do_not_fit(trained: Trained, tmp_path: Path) -> None:
    folder = copied(trained(), tmp_path)
    settings = json.loads((folder / "settings.json").read_text())

    def write(**changes: Any) -> None:
        (folder / "settings.json").write_text(json.dumps({**settings, **changes}))

    for changes in ({"network": {**settings["network"], "n_features": 7}}, {"arm": "SF-E"}, {"arm": "delta"}):
        write(**changes)
        with pytest.raises(UserError, match=r"settings.json: expected sha256 .*, got .* changed or damaged"):
            load(folder)
        reseal(folder)
        with pytest.raises(UserError, match=rf"expected the settings of the run {folder.name}, got those of rmd17-cc-"):
            load(folder)
    write(arm="MFF")
    reseal(folder)
    with pytest.raises(UserError, match=r"settings.json: .*unknown arm 'MFF'"):
        load(folder)
    write(later=1)
    reseal(folder)
    with pytest.raises(UserError, match=r"settings.json: later: .*another version"):
        load(folder)
    write()
    retold(folder)
    load(folder)
    retold(folder, elements=None)
    with pytest.raises(UserError, match=r"to name its levels, heads and elements; found \['heads', 'levels'\]"):
        load(folder)
    retold(folder, elements="[1, 6]")
    with pytest.raises(UserError, match="are not those of the network"):
        load(folder)
    shutil.copy(trained("SF-E") / "weights.safetensors", folder)
    reseal(folder)
    with pytest.raises(UserError, match=r"are not those of the network that settings.json describes"):
        load(folder)


def test_bad_devices_and_types(trained: Trained) -> None:
    for name in ("gpu", "meta", "cuda:99"):
        with pytest.raises(UserError, match="device"):
            load(trained(), name)
    with pytest.raises(UserError, match="dtype: expected float32 or float64, got 'half'"):
        load(trained(), dtype="half")


# Files, and the command


@pytest.fixture
def labelled(some: list[Atoms], tmp_path: Path) -> Path:
    """A file of molecules with reference labels and more."""
    rng = np.random.default_rng(0)
    frames = []
    for k, atoms in enumerate(some):
        atoms = atoms.copy()
        atoms.info |= {"name": f"number {k}", "weight": 0.5 * k, "flag": bool(k % 2), "vector": np.arange(3.0) + k}
        atoms.arrays["kind"] = np.arange(len(atoms))
        atoms.arrays["moment"] = rng.normal(size=(len(atoms), 3)).round(6)
        atoms.calc = SinglePointCalculator(atoms, energy=-100.5 - k, forces=rng.normal(size=(len(atoms), 3)).round(6))
        frames.append(atoms)
    ase.io.write(tmp_path / "in.extxyz", frames, format="extxyz")
    return tmp_path / "in.extxyz"


def test_a_file_keeps_all_that_it_holds(
    labelled: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mfbench.study.predict_file._AT_A_TIME", 3)
    model, out, told = load([trained(), trained(seed=1)]), tmp_path / "new" / "out.extxyz", []
    before = labelled.read_bytes()
    assert predict_file(model, labelled, out, HIGH, lambda done, total: told.append((done, total))) == (7, {}, 0)
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert labelled.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["out.extxyz"]
    given, written = ase.io.read(labelled, ":"), ase.io.read(out, ":")
    found = model.predict(given, HIGH)
    assert len(written) == len(given)
    for s, (old, new) in enumerate(zip(given, written)):
        rows = found.atoms_of(s)
        assert new.info["mfbench_level"] == HIGH
        assert new.info["mfbench_energy"] == pytest.approx(found.energies[s], abs=1e-5)
        assert new.info["mfbench_energy_std"] == pytest.approx(found.energies_std[s], abs=1e-5)
        np.testing.assert_allclose(new.arrays["mfbench_forces"], found.forces[rows], atol=1e-5)
        np.testing.assert_allclose(new.arrays["mfbench_forces_std"], found.forces_std[rows], atol=1e-5)
        assert np.array_equal(old.numbers, new.numbers)
        assert np.array_equal(old.positions, new.positions)
        assert old.calc.results.keys() == new.calc.results.keys()
        for mine, theirs in ((old.info, new.info), (old.arrays, new.arrays), (old.calc.results, new.calc.results)):
            assert theirs.keys() - mine.keys() <= {
                *("mfbench_level", "mfbench_energy", "mfbench_energy_std", "mfbench_forces", "mfbench_forces_std")
            }
            for key, value in mine.items():
                np.testing.assert_array_equal(theirs[key], value)
    # Predicted again by one model: nothing is left of the committee's predictions.
    predict_file(load(trained("SF-low")), out, tmp_path / "again.extxyz")
    again = ase.io.read(tmp_path / "again.extxyz", ":")
    assert all(atoms.info["mfbench_level"] == LOW for atoms in again)
    assert not any("mfbench_energy_std" in a.info or "mfbench_forces_std" in a.arrays for a in again)
    assert again[2].info["name"] == "number 2"


BAD = {
    "": "expected structures, found none",
    "2\n\nH 0 0 0\n": "structure 0: expected 2 atoms, the file ends before",
    "1\n\nH 0 0 0\n2\n\nH 0 0 0\nH 0 0 0.7": "expected a newline at its end",
    "1\n\nH 0 0 0\n\n1\n\nH 0 0 0\n": "after structure 0, got an empty line",
    "two\n\nH 0 0 0\n": "expected a number of atoms, got 'two'",
    "1\n\nH 0 0\n": "not extended xyz that ASE can read|expected an element",
    "1\n\nQq 0 0 0\n": "not extended xyz that ASE can read|expected an element",
    "1\n\nH 0 0 0\n2\n\nFe 0 0 0\nH 0 0 2\n": r"structure 1: expected elements .* got Fe: leave this structure out",
    '1\nLattice="9 0 0 0 9 0 0 0 9" pbc="T T T" Properties=species:S:1:pos:R:3\nH 0 0 0\n': "periodic .*--vacuum-boxes",
    "\xff": "expected a number of atoms",
}


@pytest.mark.parametrize("content", BAD)
def test_files_that_cannot_be_predicted(content: str, trained: Trained, tmp_path: Path) -> None:
    source, out = tmp_path / "in.xyz", tmp_path / "out.xyz"
    source.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=BAD[content]):
        predict_file(load(trained("SF-E")), source, out)
    assert [path.name for path in tmp_path.iterdir()] == ["in.xyz"]


def test_boxes_with_vacuum_are_predicted_and_crystals_refused(
    some: list[Atoms], trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, model = tmp_path / "in.extxyz", tmp_path / "out.extxyz", load(trained())
    command = ["predict", str(source), "--run", str(trained()), "--level", HIGH, "--out", str(out)]
    boxed = [atoms.copy() for atoms in some]
    for atoms in boxed:
        atoms.center(vacuum=6.0)
        atoms.pbc = [True, True, False]
    ase.io.write(source, boxed)
    assert main(command) == 2
    assert "structure 0: expected an isolated molecule, got a periodic structure; " in capsys.readouterr().err
    assert main([*command, "--vacuum-boxes"]) == 0
    written = ase.io.read(out, ":")
    expected = model.predict(some, HIGH)
    np.testing.assert_allclose([atoms.info["mfbench_energy"] for atoms in written], expected.energies, atol=1e-3)
    assert written[0].pbc.tolist() == [True, True, False]
    assert written[0].cell.array == pytest.approx(boxed[0].cell.array)
    boxed[2].cell = boxed[2].cell.array - 9 * np.eye(3)
    ase.io.write(source, boxed)
    with pytest.raises(UserError, match=r"structure 2: vacuum_boxes: expected at least 4 Angstrom between a molecule"):
        predict_file(model, source, out, HIGH, vacuum_boxes=True)
    boxed[2].cell = None  # periods of nothing
    ase.io.write(source, boxed)
    assert predict_file(model, source, out, HIGH, vacuum_boxes=True).structures == len(boxed)


def test_command(labelled: Path, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, threads = tmp_path / "out.extxyz", ["--threads", "1", "--device", "cpu"]
    runs = [str(trained()), str(trained(seed=1))]
    base = ["predict", str(labelled), "--level", HIGH, "--out", str(out), *threads]
    assert main([*base, "--run", *runs]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"7 structures at {HIGH}, by MF trained on energies of {HIGH}, energies and forces of {LOW}"
    assert second == f"Written: {out}, with mfbench_energy in eV and mfbench_forces in eV/Angstrom"
    committee = ase.io.read(out, ":")
    assert all(atoms.info["mfbench_energy_std"] > 0 for atoms in committee)
    assert (
        main(
            ["predict", str(labelled), "--run", runs[0], "--run", runs[1], "--level", HIGH, "--out", str(out), *threads]
        )
        == 0
    )
    assert ase.io.read(out, 0).info["mfbench_energy_std"] == committee[0].info["mfbench_energy_std"]
    assert main([*base, "--run", runs[0], "--dtype", "float64"]) == 0
    one = ase.io.read(out, ":")
    expected = load(trained(), dtype="float64").predict(ase.io.read(labelled, ":"), HIGH)
    np.testing.assert_allclose([atoms.info["mfbench_energy"] for atoms in one], expected.energies, atol=1e-6)
    assert "mfbench_energy_std" not in one[0].info
    capsys.readouterr()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--level": None}, f"level: expected one of {LOW}, {HIGH}"),
        ({"--level": "hf"}, "unknown level of this model 'hf'"),
        ({"--out": "in.extxyz"}, "expected another file than the one that is read"),
        ({"--run": "nowhere"}, "there is no such folder"),
        ({"--run": None}, "required: --run"),
        ({"--device": "abacus"}, "unknown device 'abacus'"),
        ({"--dtype": "half"}, "dtype: expected float32 or float64"),
        ({"--threads": "0"}, "--threads: expected 1 or more, got 0"),
        ({"": "nothing.extxyz"}, "nothing.extxyz: expected a file of structures"),
        ({"": None}, "required: FILE"),
    ],
)
def test_bad_commands(
    changes: dict[str, str | None],
    message: str,
    labelled: Path,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"--run": str(trained()), "--level": HIGH, "--out": "out.extxyz", "--device": "cpu", "--threads": "1"}
    options = {"": "in.extxyz", **options, **changes}
    words = [word for key, value in options.items() if value is not None for word in (key, value) if word]
    assert main(["predict", *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert len(captured.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.extxyz"]
