"""Units by physics, in files of people's own: what is wrong is refused with what would fit; what is odd is accepted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest
import yaml
from mutations import DECLARED_OWN, Frame, sound, write

from mfbench.cli.main import main
from mfbench.data import cache, candidates, datasets
from mfbench.data.catalogue import Checked
from mfbench.data.findings import ACCEPTABLE, Finding, accepting, require
from mfbench.data.importing import import_files
from mfbench.data.manifest import Manifest, identity, manifest
from mfbench.data.physics_energies import own_energies
from mfbench.data.structures import Frames, assemble
from mfbench.data.survey import element_counts
from mfbench.errors import DataCorrupt, UserError
from mfbench.free_atoms import energies_at
from mfbench.records import read_yaml
from mfbench.show.datasets import findings_text
from mfbench.study.experiment import Experiment, experiment

INPUTS = Path(__file__).parent / "inputs"

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return mutations.good()[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "own_level_in_hartree",
            r"slope, wb97x/6-31g\* to .*: expected a slope near 1 .*got slope 0\.03.*fit: Ha ",
        ),
        ("own_level_per_atom", r"slope, .*got slope 0\.3.*would fit: eV/atom for ccsd\(t\)-f12/mine@95"),
        ("bohr_energies_alone", "bond lengths: .*too far for any bond; would fit: length_unit: Bohr"),
        ("dissociation", r"energies, .*hardly the unit; broken bonds.*accept: \[energies\] and reason: WHY"),
    ],
)
def test_inputs(name: str, words: str) -> None:
    with pytest.raises(DataCorrupt, match=words):
        import_files([INPUTS / f"{name}.extxyz"], INPUTS / f"{name}.yaml")


# other members of the same classes


def spoil(frames: list[Frame], folder: Path, change: Callable[[Any], None], fmt: str = "hdf5") -> Checked:
    spoiled = sound(fmt, frames)
    change(spoiled)
    (folder / "spoiled.yaml").write_text(json.dumps(spoiled.manifest))
    return import_files([write(spoiled, folder)], folder / "spoiled.yaml")


def own(s: Any, *levels: int) -> None:
    for k in levels:
        s.label(k)["level"] = DECLARED_OWN[k]


def times(s: Any, key: str, factor: float) -> None:
    for _, scalars, arrays in s.frames:
        held = scalars if key in scalars else arrays
        held[key] = held[key] * factor


KCAL, KJ, HA = 23.0605, 96.4853, 1 / 27.2114  # in an eV

UNITS = {"Ha": HA, "kcal/mol": KCAL, "kJ/mol": KJ}


@pytest.mark.parametrize(("unit", "factor"), [*UNITS.items(), ("meV", 1e3), ("mHa", 1e3 * HA)])
@pytest.mark.parametrize("level", [0, 1])
def test_an_own_level_in_another_unit(
    unit: str, factor: float, level: int, frames: list[Frame], tmp_path: Path
) -> None:
    """The low or the high one of two, the other a level whose free atoms are known."""

    def change(s: Any) -> None:
        own(s, level)
        times(s, ("dft_energy", "cc_energy")[level], factor)
        if level == 0:
            del s.label(0)["forces"]

    with pytest.raises(DataCorrupt, match=rf"slope, .*would fit: {unit} for {DECLARED_OWN[level]}"):
        spoil(frames, tmp_path, change)


@pytest.mark.parametrize(("unit", "factor"), UNITS.items())
def test_all_in_another_unit(unit: str, factor: float, frames: list[Frame], tmp_path: Path) -> None:
    """Two levels of one's own with forces: every slope is 1, but the atoms are those of no kind of level."""

    def change(s: Any) -> None:
        own(s, 0, 1)
        for key in ("dft_energy", "cc_energy", "dft_forces"):
            times(s, key, factor)

    with pytest.raises(DataCorrupt, match=rf"energies, .*expected about .*all-electron.*would fit: .*{unit}"):
        spoil(frames, tmp_path, change)


def test_two_levels_in_different_wrong_units(frames: list[Frame], tmp_path: Path) -> None:
    def change(s: Any) -> None:
        own(s, 1)
        times(s, "dft_energy", HA)
        times(s, "cc_energy", KCAL)

    with pytest.raises(DataCorrupt, match=r"energies, wb97x/6-31g\*: .*would fit: Ha "):
        spoil(frames, tmp_path, change)


@pytest.mark.parametrize(
    ("factor", "fits"),
    [
        (0.529177, "forces in eV/Bohr"),
        (HA, "forces in Ha/Angstrom"),
        (HA * 0.529177, "Ha/Bohr"),
        (KCAL, "forces in kcal/mol/Angstrom|would fit: .*kcal/mol/Angstrom"),
        (-1.0, "gradients"),
        (-0.529177, "minus forces in eV/Bohr"),
    ],
)
@pytest.mark.parametrize("level", [(), (0,)])
def test_forces(factor: float, fits: str, level: tuple[int, ...], frames: list[Frame], tmp_path: Path) -> None:
    def change(s: Any) -> None:
        own(s, *level)
        times(s, "dft_forces", factor)

    with pytest.raises(DataCorrupt, match=f"forces, .*({fits})"):
        spoil(frames, tmp_path, change)


def test_one_size_of_molecules_cannot_tell_and_both_are_named(frames: list[Frame], tmp_path: Path) -> None:
    """Slope 1/n over three atoms alone is energies per atom; of a single level, absolute energies say so, too."""

    def change(s: Any) -> None:
        s.frames = s.frames[: mutations.FRAMES]
        times(s, "dft_energy", 1 / 3)

    with pytest.raises(DataCorrupt, match=r"energies, wb97x/6-31g\*: .*would fit: eV/atom"):
        spoil(frames, tmp_path, change)


def test_relative_energies_of_an_own_level_follow_a_lower_one(frames: list[Frame], tmp_path: Path) -> None:
    """No atoms fit them, and the level below says that the unit is right."""

    def change(s: Any) -> None:
        own(s, 1)
        for atoms, scalars, _ in s.frames:
            scalars["cc_energy"] += 300.0 * len(atoms)

    spoil(frames, tmp_path, change)
    assert datasets.load("spoiled").levels == ("wb97x/6-31g*", "mine@95")


# candidates


@pytest.mark.parametrize(
    ("ratio", "declared", "fits"),
    [
        (27.2, "Ha", ["eV"]),
        (1 / 27.2, "eV", ["Ha"]),
        (23.06, "eV", ["kcal/mol"]),
        (4.1, "kcal/mol", ["kJ/mol"]),
        (1.6, "kcal/mol", ["mHa"]),
        (1.05, "eV", []),
        (7.0, "eV", []),
        (float("nan"), "eV", []),
    ],
)
def test_what_fits_a_ratio(ratio: float, declared: str, fits: list[str]) -> None:
    assert candidates.fitting(ratio, declared, candidates.ENERGIES)[:1] == fits
    assert candidates.fitting(-ratio, declared, candidates.ENERGIES)[:1] == fits


def test_energies_per_atom_and_of_another_sign() -> None:
    assert candidates.energy_units("eV", None, 1.0) == ["eV/atom"]
    assert candidates.energy_units("eV", None, 1 / 27.2) == ["Ha/atom"]
    assert candidates.energy_units("eV", -1.0, None) == ["minus eV"]


# what is accepted


def accepted(folder: Path) -> Path:
    content = json.loads((INPUTS / "dissociation.yaml").read_text())
    path = folder / "dissociation.yaml"
    path.write_text(json.dumps(content | {"accept": ["energies"], "reason": "a bond pulled apart on purpose"}))
    return path


def test_a_failed_check_is_accepted_and_told(tmp_path: Path, own_cache: Path, capsys: Capture) -> None:
    command = ["data", "import", str(INPUTS / "dissociation.extxyz"), "--manifest", str(accepted(tmp_path))]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "accepted     energies, wb97x/6-31g*: 0.0004678 to 2.907" in said
    assert "accepted: a bond pulled apart on purpose" in said
    assert main(["data", "check", "dissociation"]) == 0
    assert "accepted: a bond pulled apart on purpose" in capsys.readouterr().out
    assert main(["data", "info", "dissociation"]) == 0
    assert "accepted    energies: a bond pulled apart on purpose" in capsys.readouterr().out
    kept = read_yaml(own_cache / "dissociation" / "dissociation.yaml", Manifest)
    assert (kept.accept, kept.reason) == (("energies",), "a bond pulled apart on purpose")
    assert len(datasets.load("dissociation")) == 32


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"accept": ["broken bonds"], "reason": "x"},
            "expected names of checks, got 'broken bonds': .*overlap",
        ),
        ({"accept": ["energies, pbe/def2-svp"], "reason": "x"}, "expected names of checks, got"),
        ({"accept": ["energies"]}, "accept and reason: expected both"),
        ({"reason": "because"}, "accept and reason: expected both"),
        ({"accept": ["energies"], "reason": "a\nb"}, "in one line"),
    ],
)
def test_what_cannot_be_accepted(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "dissociation.yaml"
    path.write_text(json.dumps(json.loads((INPUTS / "dissociation.yaml").read_text()) | given))
    with pytest.raises(UserError, match=words):
        import_files([INPUTS / "dissociation.extxyz"], path)


def few(frames: list[Frame], count: int, molecules: int) -> list[Frame]:
    """So many frames of each of some molecules."""
    names = list(dict.fromkeys(scalars["molecule"] for _, scalars, _ in frames))[:molecules]
    kept = []
    for name in names:
        kept += [one for one in frames if one[1]["molecule"] == name][:count]
    return kept


def test_one_energy_among_few_frames_of_several_molecules(frames: list[Frame], tmp_path: Path) -> None:
    """Molecules with few frames share one line: ANI-1x is made of such."""

    def change(s: Any) -> None:
        s.frames[2][1]["cc_energy"] += 3.0

    with pytest.raises(DataCorrupt, match="outliers"):
        spoil(few(frames, 12, 4), tmp_path, change)


def test_energies_of_other_rows_among_few_frames(frames: list[Frame], tmp_path: Path) -> None:
    chosen = few(frames, 18, 1)

    def change(s: Any) -> None:
        energies = [one[1]["cc_energy"] for one in s.frames]
        for one, energy in zip(s.frames, [*energies[1:], energies[0]]):
            one[1]["cc_energy"] = energy

    with pytest.raises(DataCorrupt, match="energies together"):
        spoil(chosen, tmp_path, change)


def test_per_atom_energies_that_another_kind_of_level_could_have() -> None:
    """Isobutane: energies of all electrons, divided by its 14 atoms, are what a valence-only method gives in all."""
    numbers = np.array([6] * 4 + [1] * 10)
    free = energies_at("wb97x/6-31g*", {})
    rng = np.random.default_rng(0)
    total = sum(free[int(z)] for z in numbers) - 14 * 4.3
    positions = rng.normal(size=(30, 14, 3)) * 2
    energies = (total + rng.normal(0, 0.2, (30, 1))) / 14  # eV an atom, taken for eV
    piece = Frames("C4H10", numbers, positions, energies, [None], "x", np.arange(30))
    data = assemble(("mine@95",), [piece])
    declared = candidates.Declared({"mine@95": "eV"}, {}, "Angstrom")
    (found,) = own_energies(data, element_counts(data), declared, set())
    assert found.failed
    assert "or per atom by" in found.found


def test_the_level_may_be_named() -> None:
    one, other = Finding("energies, a", False, "x", "y"), Finding("energies, b", False, "x", "y")
    assert [f.failed for f in accepting([one, other], ["energies, a"], "why")] == [False, True]
    assert [f.failed for f in accepting([one, other], ["energies"], "why")] == [False, False]
    with pytest.raises(DataCorrupt, match=r"accept: \[energies\] and reason: WHY"):
        require([one])
    assert "the manifest can say: accept: [energies]" in findings_text([one])
    assert not Finding("x, structures", False, "1", "2").remedy  # counts are no matter of taste
    assert one.name in ACCEPTABLE


def test_the_identity_of_data_without_acceptance_stays() -> None:
    """Hashes in finished runs, and converted files, are those of before."""
    declared = manifest("mini-ani1x")
    assert identity(declared) == "e24478640bb382f360ef29d5546a705a53d957584e5442ba4923cdd4a19542c2"
    assert identity(declared.model_copy(update={"accept": ("gap",), "reason": "x"})) != identity(declared)


def test_tables_of_accepted_data_say_so(frames: list[Frame], tmp_path: Path) -> None:
    def change(s: Any) -> None:
        s.frames[5][0].positions[0] += 1.4
        accept = ["net torque of a molecule", "energies of distorted bonds", "overlapping atoms"]
        s.manifest |= {"accept": accept, "reason": "a test"}

    checked = spoil(frames, tmp_path, change)
    assert ("accept: overlapping atoms", "no check of that name failed") in [
        (f.check, f.found) for f in checked.findings
    ]
    rules = {"datasets": ["spoiled"], "overlap": "nested", "test": 0.25, "validation": 10, "sizes": [20]}
    content = {"name": "odd", "title": "x", "basis": "x", "low": mutations.LOW, "high": mutations.HIGH}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(content | {"data": {"mini": rules}}))
    settings = experiment(tmp_path / "odd.yaml", "MF", n_high=20)
    # Of overlapping atoms there are none: what need not have been accepted is not told of.
    said = "data accepted with failed checks: net torque of a molecule; energies of distorted bonds"
    assert settings.recipe == f"demo ({said})"
    assert Experiment.model_validate_json(settings.model_dump_json()).recipe == settings.recipe  # no data needed
    plain = experiment("ani1ccx", "MF", n_high=20)
    assert plain.recipe == "demo"


def test_moved_structures_are_looked_at_in_converted_files(frames: list[Frame], tmp_path: Path) -> None:
    """Every load and conversion looks at lengths: with no check of all."""
    spoiled = sound("hdf5", frames)
    spoiled.manifest["length_unit"] = "Bohr"
    path = write(spoiled, tmp_path)
    content = spoiled.manifest | {"name": "spoiled", "files": [{"name": path.name, "sha256": "0" * 64}]}
    with pytest.raises(DataCorrupt, match=r"bond lengths: .*nearer than any bond; would fit: length_unit: Angstrom"):
        datasets.convert(Manifest.model_validate(content), [path], tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
