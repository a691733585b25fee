"""Manifests and cases: the schema, YAML that is refused, and files that are not the declared ones."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfbench import resources, theory
from mfbench.data.cases import Case, case, case_names
from mfbench.data.manifest import DataFile, Manifest, manifest, verified
from mfbench.errors import DataCorrupt, UserError
from mfbench.files import sha256
from mfbench.records import read_yaml, write_yaml

MANIFESTS = sorted(path.stem for path in resources.manifests().glob("*.yaml"))
SHIPPED_CASES = ("ani1ccx", "ani1x-tz", "rmd17-cc")


def content() -> dict[str, Any]:
    """A valid manifest."""
    return {
        "name": "own",
        "title": "One's own",
        "format": "ani1x",
        "license": "CC0-1.0",
        "citation": {"text": "somebody"},
        "n_structures": 3,
        "files": [{"name": "own.h5", "bytes": 5, "sha256": "0" * 64}],
        "labels": [
            {
                "level": "wb97x/6-31g*",
                "energy": {"key": "e", "unit": "Ha"},
                "forces": {"key": "f", "unit": "Ha/Angstrom"},
                "n_energy": 3,
            }
        ],
    }


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A valid manifest with one value set."""
    made = content()
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def write(folder: Path, made: dict[str, Any], name: str = "own.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(made))
    return path


def test_a_valid_manifest(tmp_path: Path) -> None:
    found = read_yaml(write(tmp_path, content()), Manifest)
    assert found.files[0].name == "own.h5"
    assert found.labels[0].energy is not None
    assert found.labels[0].energy.key == ("e",)
    assert (found.length_unit, found.shipped, found.labels[0].n_forces) == ("Angstrom", False, None)


def test_levels_are_ordered_low_to_high() -> None:
    names = ["ccsd(t)*/cbs", "gfn2-xtb", "wb97x/6-31g*"]
    made = Manifest.model_validate({**content(), "labels": [{"level": name} for name in names]})
    assert made.levels == ("gfn2-xtb", "wb97x/6-31g*", "ccsd(t)*/cbs")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("nmae",), "x", "nmae: unknown key; did you mean 'name'?"),
        (("labels", 0, "dipole"), "x", "labels.0.dipole: unknown key: expected one of level, where, energy, forces,"),
        (
            ("labels", 0, "energy", "where"),
            {"head": "dft"},
            "labels.0.energy.where: unknown key: it belongs beside 'level', not inside 'energy'",
        ),
        (("citation", "length_unit"), "nm", "citation.length_unit: unknown key: it belongs beside"),
        (("free_atoms",), {"b3lyp@4": {"unit": "Ha"}}, ": free_atoms: ['b3lyp@4'] are not among the levels"),
        (
            ("format",),
            "pickle",
            "format: Input should be 'ani1x', 'rmd17', 'sgdml', 'extxyz', 'ase', 'hdf5' or 'own'; got 'pickle'",
        ),
        (("labels", 0, "level"), "b3lyp", "labels.0.level: unknown level of theory 'b3lyp'"),
        (("labels", 0, "energy", "unit"), "Ha/Angstrom", "expected a unit of energy, got 'Ha/Angstrom'"),
        (("labels", 0, "forces", "unit"), "Ha", "expected a unit of force, got 'Ha', a unit of energy"),
        (("labels", 0, "forces", "unit"), "Bohr", "expected a unit of force, got 'Bohr', a unit of length"),
        (("labels", 0, "energy", "unit"), "herz", "unknown unit 'herz'"),
        (("length_unit",), "eV", "expected a unit of length, got 'eV'"),
        (("files", 0, "name"), "../x.h5", "expected a plain file name, got '../x.h5'"),
        (("files", 0, "name"), "/etc/passwd", "expected a plain file name, got '/etc/passwd'"),
        (("files", 0, "name"), "a/b.h5", "expected a plain file name"),
        (("files", 0, "name"), "..\\x.h5", "expected a plain file name"),
        (("files", 0, "name"), "..", "expected a plain file name, got '..'"),
        (("files", 0, "name"), ".", "expected a plain file name"),
        (("files", 0, "name"), "", "expected a plain file name"),
        (("files", 0, "urls"), ["ftp://host/x"], "expected an https, http or file URL, got 'ftp://host/x'"),
        (("files", 0, "urls"), ["x.h5"], "expected an https, http or file URL, got 'x.h5'"),
        (("files", 0, "sha256"), "0" * 63, "files.0.sha256: String should match pattern"),
        (("files", 0, "sha256"), "G" * 64, "files.0.sha256: String should match pattern"),
        (("files", 0, "bytes"), 0, "files.0.bytes: Input should be greater than 0"),
        (("files",), [], "files: "),
        (("labels",), [], "labels: "),
        (("n_structures",), -1, "n_structures: Input should be greater than 0"),
        (("n_structures",), "many", "n_structures: Input should be a valid integer"),
    ],
)
def test_schema_errors(tmp_path: Path, path: tuple[str | int, ...], value: object, message: str) -> None:
    file = write(tmp_path, changed(path, value))
    with pytest.raises(UserError) as caught:
        read_yaml(file, Manifest)
    text = str(caught.value)
    assert message in text
    assert text.startswith(f"{file}: ")
    assert "\n" not in text


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    made = content()
    del made["license"]
    with pytest.raises(UserError, match=r"own\.yaml: license: expected it, got none"):
        read_yaml(write(tmp_path, made), Manifest)


@pytest.mark.parametrize("text", ["", "- a", "just words", "1"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match="top level: "):
        read_yaml(tmp_path / "own.yaml", Manifest)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(9))}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


def test_aliases_are_refused(tmp_path: Path) -> None:
    """Nine lists of nine would be 9^9 entries."""
    (tmp_path / "own.yaml").write_text(BOMB)
    with pytest.raises(UserError, match="aliases are not allowed"):
        read_yaml(tmp_path / "own.yaml", Manifest)


@pytest.mark.parametrize(
    "tag",
    ["python/object/apply:os.mkdir", "python/object/new:os.mkdir", "python/name:os.mkdir", "python/tuple"],
)
def test_python_tags_are_refused(tmp_path: Path, tag: str) -> None:
    made = tmp_path / "made-by-yaml"
    (tmp_path / "own.yaml").write_text(f"name: !!{tag} [{str(made)!r}]\n")
    with pytest.raises(UserError, match="could not determine a constructor"):
        read_yaml(tmp_path / "own.yaml", Manifest)
    assert not made.exists()


@pytest.mark.parametrize(
    "raw",
    [b"a: [1, 2", b"a: b: c", b"\xff\xfe\xfa\x00", b"a: \x00", b"[" * 5000],
    ids=["open list", "two colons", "not utf-8", "control character", "too deep"],
)
def test_broken_yaml(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "own.yaml").write_bytes(raw)
    with pytest.raises(UserError, match=r"cannot read .*own\.yaml") as caught:
        read_yaml(tmp_path / "own.yaml", Manifest)
    assert "\n" not in str(caught.value)


def test_no_such_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent\.yaml"):
        read_yaml(tmp_path / "absent.yaml", Manifest)


# files


def declared(path: Path, **changes: object) -> DataFile:
    right = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
    return DataFile.model_validate({**right, **changes})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "deep" / "x(t).npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"hello" * 1000)
    return path


def test_sha256(data: Path) -> None:
    assert sha256(data) == hashlib.sha256(b"hello" * 1000).hexdigest()


def test_a_file_is_found_below_the_folder(tmp_path: Path, data: Path) -> None:
    assert verified(declared(data), tmp_path) == data
    assert verified(declared(data), data.parent) == data


def test_no_such_file(tmp_path: Path, data: Path) -> None:
    wanted = declared(data, name="other.npz", urls=("https://host/other.npz",))
    with pytest.raises(UserError) as caught:
        verified(wanted, tmp_path)
    text = str(caught.value)
    assert not isinstance(caught.value, DataCorrupt)
    assert f"no file 'other.npz' in {tmp_path}" in text
    assert "--data-folder" in text
    assert "https://host/other.npz" in text


def test_no_such_folder(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"no file 'x\(t\)\.npz' in .*absent"):
        verified(declared(data), tmp_path / "absent")


def test_wrong_length(tmp_path: Path, data: Path) -> None:
    wanted = declared(data)
    data.write_bytes(b"hello" * 999)
    with pytest.raises(DataCorrupt, match="expected 5,000 bytes, got 4,995: cut short"):
        verified(wanted, tmp_path)


def test_wrong_hash(tmp_path: Path, data: Path) -> None:
    wanted = declared(data)
    data.write_bytes(b"hellO" + b"hello" * 999)
    got = hashlib.sha256(b"hellO" + b"hello" * 999).hexdigest()
    with pytest.raises(DataCorrupt, match=f"expected sha256 {wanted.sha256}, got {got}"):
        verified(wanted, tmp_path)


# what ships


def test_there_are_manifests_and_cases() -> None:
    assert {"mini-ani1x", "mini-rmd17-methanol", "mini-md17cc-methanol"} <= set(MANIFESTS)
    assert set(SHIPPED_CASES) <= set(case_names())


@pytest.mark.parametrize("name", MANIFESTS)
def test_shipped_manifests(name: str) -> None:
    found = manifest(name)
    assert found.name == name
    assert set(found.levels) <= theory.LEVELS.keys()
    assert len(set(found.levels)) == len(found.labels)
    for labels in found.labels:
        for part, n in ((labels.energy, labels.n_energy), (labels.forces, labels.n_forces)):
            assert n is None or n <= found.n_structures  # None: not published, counted when it is read
            assert part is not None or not n
    if found.shipped:
        for file in found.files:
            assert verified(file, resources.mini_data()).parent == resources.mini_data()


def test_no_data_ship_without_a_manifest() -> None:
    declared_names = {file.name for name in MANIFESTS for file in manifest(name).files}
    assert {path.name for path in resources.mini_data().glob("*.[hn][5p]*")} <= declared_names


def test_unknown_dataset() -> None:
    with pytest.raises(UserError, match=r"unknown dataset 'mini-ani1': .*did you mean 'mini-ani1x'"):
        manifest("mini-ani1")


@pytest.mark.parametrize("name", SHIPPED_CASES)
def test_shipped_cases(name: str) -> None:
    found = case(name)
    assert found.name == name
    assert "nferred" in found.basis
    assert "mini" in found.data
    for variant, rules in found.data.items():
        manifests = [manifest(dataset) for dataset in rules.datasets]
        labels = {one.level: one for each in manifests for one in each.labels}
        low, high = labels[found.low], labels[found.high_of(variant)]
        assert theory.level(low.level) < theory.level(high.level)
        assert low.energy
        assert low.forces
        assert high.energy
        assert list(rules.sizes) == sorted(rules.sizes)
        assert high.n_energy is None or max(rules.sizes) <= high.n_energy
        assert set(rules.test_files) <= {file.name for each in manifests for file in each.files}
        if rules.reserve is not None:
            assert labels[rules.reserve.level].n_forces
        if variant == "mini":
            assert all(each.shipped for each in manifests)


def test_levels_of_the_cases() -> None:
    """The study's three pairs (inferred: DESIGN.md)."""
    assert {name: (case(name).low, case(name).high_of("mini")) for name in SHIPPED_CASES} == {
        "ani1x-tz": ("wb97x/6-31g*", "wb97x/def2-tzvpp"),
        "ani1ccx": ("wb97x/6-31g*", "ccsd(t)*/cbs"),
        "rmd17-cc": ("pbe/def2-svp", "ccsd/cc-pvdz"),
    }
    assert case("rmd17-cc").high_of("ethanol") == "ccsd(t)/cc-pvtz"


def case_content() -> dict[str, Any]:
    """A valid case."""
    return {
        "name": "own",
        "title": "One's own",
        "basis": "a test",
        "low": "pbe/def2-svp",
        "high": "ccsd/cc-pvdz",
        "data": {"mini": {"datasets": ["mini-rmd17-methanol"], "overlap": "disjoint", "test": 0.25}},
    }


def test_a_case_of_ones_own(tmp_path: Path) -> None:
    found = case(write(tmp_path, case_content()))
    assert isinstance(found, Case)
    assert found.choice("mini").sizes == (50, 150)
    with pytest.raises(UserError, match="unknown data of case own 'full': expected one of mini"):
        found.choice("full")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("high",), "ccsd/cc-pvd", "unknown level of theory 'ccsd/cc-pvd'"),
        (("data", "mini", "overlap"), "some", "data.mini.overlap: Input should be 'nested', 'partly' or 'disjoint'"),
        (("data", "mini", "test"), 0, "data.mini.test: Input should be greater than 0"),
        (
            ("data", "mini", "validation"),
            4,
            "data.mini.validation: Input should be greater than or equal to 5",
        ),
        (("data", "mini", "sizes"), [], "data.mini.sizes: "),
        (("data", "mini", "tset"), 0.1, "data.mini.tset: unknown key; did you mean 'test'?"),
        (("data", "mini", "size"), [50], "data.mini.size: unknown key; did you mean 'sizes'?"),
        (("data", "mini", "subsets"), {"own": {"molecule": "x"}}, "subsets.own.molecule: unknown key; did you mean"),
        (("data",), {}, "data: "),
    ],
)
def test_case_schema_errors(tmp_path: Path, path: tuple[str, ...], value: object, message: str) -> None:
    made = case_content()
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UserError) as caught:
        case(write(tmp_path, made))
    assert message in str(caught.value)


def test_a_cases_file_may_have_another_name(tmp_path: Path) -> None:
    assert case(write(tmp_path, case_content(), "other.yaml")).name == "own"


def test_one_name_for_two_cases_is_refused(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    changed = {**case_content(), "title": "another"}
    one, other = write(first, case_content(), "a.yaml"), write(second, changed, "b.yaml")
    assert case(one) == case(one) == case(os.path.relpath(one))
    with pytest.raises(UserError) as caught:
        case(other)
    assert f"two cases are called own: those of {one} and {other} differ" in str(caught.value)
    assert case(one).title != "another"
    assert case(write(third, case_content(), "copy.yaml")).name == "own"  # the same case, wherever it is
    write(third, changed, "copy.yaml")  # it is being worked on
    assert case(third / "copy.yaml").title == "another"
    (third / "copy.yaml").unlink()  # and moved
    assert case(one).name == "own"


def test_one_name_for_cases_on_other_data_is_refused(tmp_path: Path) -> None:
    """Two copies of a case, each with a manifest beside it: only these differ."""
    made = case_content()
    made["data"]["mini"]["datasets"] = ["mine.yaml"]
    paths = []
    for folder, title in ((tmp_path / "a", "one"), (tmp_path / "b", "one"), (tmp_path / "c", "other")):
        folder.mkdir()
        declared = manifest("mini-rmd17-methanol").model_copy(update={"title": title})
        write_yaml(folder / "mine.yaml", declared)
        paths.append(write(folder, made))
    assert case(paths[0]).name == case(paths[1]).name
    with pytest.raises(UserError, match="two cases are called own"):
        case(paths[2])


def test_unknown_case() -> None:
    with pytest.raises(UserError, match=r"unknown case 'rmd17': expected one of ani1ccx, ani1x-tz, ladder, rmd17-cc"):
        case("rmd17")
