"""Converted files: what is written is what is read, in whole and in part, in pieces and on the device."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import same_structures

from mfbench import resources
from mfbench.data import datasets, geometries, store
from mfbench.data.geometries import geometry_ids
from mfbench.data.manifest import Manifest, manifest
from mfbench.data.store import Reader
from mfbench.data.structures import Frames, Structures, assemble
from mfbench.data.subset import Subset, pick
from mfbench.errors import DataCorrupt, UserError
from mfbench.learning.device import DeviceStructures

LOW, TZ, CC = "wb97x/6-31g*", "wb97x/def2-tzvpp", "ccsd(t)*/cbs"
METHANOL = ("mini-rmd17-methanol", "mini-md17cc-methanol")


def write(name: str, out: Path) -> Path:
    declared = manifest(name)
    return datasets.convert(declared, datasets.raw_files(declared), out)


@pytest.fixture(scope="module")
def ani(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("mini-ani1x", tmp_path_factory.mktemp("store") / "ani.h5")


@pytest.fixture(scope="module")
def whole() -> Structures:
    return datasets.load("mini-ani1x")


@pytest.mark.parametrize("name", ["mini-ani1x", *METHANOL])
@pytest.mark.parametrize("pieces", [1 << 20, 50])
def test_the_converted_file_holds_what_the_reader_gives(
    name: str, pieces: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when read in pieces of a few structures, and of one where a structure is larger than a piece."""
    path = write(name, tmp_path / "x.h5")
    monkeypatch.setattr(store, "_SLAB_ATOMS", pieces)
    expected = datasets.load(name)
    same_structures(store.read(path), expected)
    with Reader(path) as reader:
        parts = list(reader.batches())
    assert (len(parts) == 1) == (pieces > 10_000)
    np.testing.assert_array_equal(np.concatenate([p.positions for p in parts]), expected.positions)
    np.testing.assert_array_equal(np.concatenate([p.forces for p in parts], 1), expected.forces)
    np.testing.assert_array_equal(np.concatenate([p.energies for p in parts]), expected.energies)
    np.testing.assert_array_equal(np.concatenate([p.row for p in parts]), expected.row)
    assert all(len(p.numbers) == p.offsets[-1] for p in parts)


def test_small_buffers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ani: Path) -> None:
    monkeypatch.setattr(store, "_BUFFER", 100)
    same_structures(store.read(write("mini-ani1x", tmp_path / "x.h5")), store.read(ani))


def test_attributes_say_what_it_is(ani: Path) -> None:
    with h5py.File(ani) as file:
        assert file.attrs["dataset"] == "mini-ani1x"
        assert '"positions": "Angstrom"' in file.attrs["units"]
        assert '"license": "BSD-3-Clause"' in file.attrs["provenance"]
        assert manifest("mini-ani1x").files[0].sha256 in file.attrs["provenance"]
        assert [group.attrs["level"] for group in file["labels"].values()] == list(manifest("mini-ani1x").levels)
        assert file["positions"].dtype == np.float32  # as in the release, not blown up
        assert file["labels/1/forces"].dtype == np.float32
        assert file["labels/1/energy"].dtype == np.float64


def is_one_of(structures: Structures, *molecules: str) -> NDArray[np.bool_]:
    return np.isin(structures.molecule, [structures.molecules.index(name) for name in molecules])


SUBSETS: dict[str, tuple[dict[str, Any], Any]] = {
    "molecules": ({"molecules": ["H2O", "CH3OH"]}, lambda s: is_one_of(s, "H2O", "CH3OH")),
    "formula": ({"formulas": ["CH4O"]}, lambda s: is_one_of(s, "CH3OH")),
    "formula in another order": ({"formulas": ["H4OC"]}, lambda s: is_one_of(s, "CH3OH")),
    "isomers": ({"formulas": ["C2H4O", "CH2O"]}, lambda s: is_one_of(s, "CH3CHO", "H2CO")),
    "small": ({"max_atoms": 4}, lambda s: s.n_atoms <= 4),
    "large": ({"min_atoms": 5}, lambda s: s.n_atoms >= 5),
    "labelled": ({"labelled": [{"level": CC, "label": "forces"}]}, lambda s: s.force_mask[:, 4]),
    "several": (
        {"labelled": [{"level": CC, "label": "forces"}], "max_atoms": 3},
        lambda s: s.force_mask[:, 4] & (s.n_atoms < 4),
    ),
}


@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.parametrize("pieces", [1 << 20, 300])
def test_subsets(name: str, pieces: int, ani: Path, whole: Structures, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file and from memory, they are what indexing gives."""
    monkeypatch.setattr(store, "_SLAB_ATOMS", pieces)
    conditions, mask = SUBSETS[name]
    subset = Subset.model_validate(conditions)
    expected = whole[np.flatnonzero(mask(whole))]
    assert 0 < len(expected) < len(whole)
    same_structures(store.read(ani, subset=subset), expected)
    same_structures(pick(whole, "mini-ani1x", None, subset), expected)


@pytest.mark.parametrize("levels", [(LOW, CC), (CC, LOW), (TZ,)])
def test_chosen_levels(levels: tuple[str, ...], ani: Path, whole: Structures) -> None:
    got = store.read(ani, levels)
    assert set(got.levels) == set(levels)
    columns = [whole.levels.index(name) for name in got.levels]
    assert columns == sorted(columns)
    np.testing.assert_array_equal(got.energies, whole.energies[:, columns])
    np.testing.assert_array_equal(got.forces, whole.forces[columns])
    np.testing.assert_array_equal(got.force_mask, whole.force_mask[:, columns])
    same_structures(got, pick(whole, "mini-ani1x", levels, None))


@pytest.mark.parametrize(
    ("conditions", "levels", "message"),
    [
        ({"molecules": ["H20"]}, None, "unknown molecule of dataset mini-ani1x 'H20': .*did you mean 'H2O'"),
        ({"formulas": ["C99"]}, None, "mini-ani1x holds no structure of formula 'C99'"),
        ({"formulas": ["water"]}, None, "expected a formula such as C2H6O, got 'water'"),
        ({"formulas": ["XeF2"]}, None, r"formula 'XeF2': unknown elements \['Xe'\]"),
        ({"sets": ["train_01"]}, None, "unknown set of dataset mini-ani1x 'train_01'"),
        ({"min_atoms": 100}, None, r"no structure of dataset mini-ani1x fulfils all of \{'min_atoms': 100\}"),
        ({}, ("ccsd/cc-pvtz",), "unknown level of dataset mini-ani1x 'ccsd/cc-pvtz'"),
    ],
)
def test_subsets_that_are_not_there(
    conditions: dict[str, Any], levels: tuple[str, ...] | None, message: str, ani: Path, whole: Structures
) -> None:
    subset = Subset.model_validate(conditions)
    with pytest.raises(UserError, match=message):
        store.read(ani, levels, subset)
    with pytest.raises(UserError, match=message):
        pick(whole, "mini-ani1x", levels, subset)


def test_on_the_cpu_nothing_is_copied(whole: Structures) -> None:
    data = DeviceStructures(whole, torch.device("cpu"))
    assert np.shares_memory(data._forces[1].numpy(), whole.forces)
    assert np.shares_memory(data.atoms._positions.numpy(), whole.positions)


# geometry ids in a file


def test_index_is_that_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that recur, turned and reordered, far apart in the file and in small pieces."""
    rng = np.random.default_rng(0)
    base = rng.normal(scale=2, size=(60, 5, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    parts = [frames(base, "a"), frames(rng.normal(scale=2, size=(40, 5, 3)), "b"), frames(base[::3] @ turn + 1, "c")]
    monkeypatch.setattr(store, "_SLAB_ATOMS", 35)
    store.write(tmp_path / "x.h5", own_manifest(), parts)
    structures = store.read(tmp_path / "x.h5")
    assert structures.geometry.tolist() == geometry_ids(structures).tolist()
    assert structures.geometry[100:].tolist() == list(range(0, 60, 3))


def frames(positions: NDArray, file: str, **changes: Any) -> Frames:
    count, atoms = positions.shape[:2]
    made = Frames(
        molecule="CH4",
        numbers=np.array([6, 1, 1, 1, 1])[:atoms],
        positions=positions,
        energies=np.zeros((count, 1)),
        forces=[np.zeros((count, atoms, 3))],
        file=file,
        rows=np.arange(count),
    )
    return replace(made, **changes)


def own_manifest() -> Manifest:
    return Manifest.model_validate(
        {
            "name": "own",
            "title": "t",
            "format": "hdf5",
            "license": "any",
            "citation": {"text": "x"},
            "files": [{"name": "own.h5", "sha256": "0" * 64}],
            "labels": [
                {
                    "level": "hf/cc-pvdz",
                    "energy": {"key": "e", "unit": "eV"},
                    "forces": {"key": "f", "unit": "eV/Angstrom"},
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "own: expected structures, found none"),
        ([frames(np.zeros((0, 5, 3)), "a")], "own: expected structures, found none"),
        ([frames(np.zeros((2, 0, 3)), "a")], "expected atoms, found none"),
        ([frames(np.zeros((2, 5, 3), np.float32), "a"), frames(np.zeros((2, 5, 3)), "b")], "positions.dtype="),
        ([frames(np.full((2, 5, 3), np.nan), "a")], "positions that are not finite"),
    ],
)
def test_frames_that_are_not_sound(parts: list[Frames], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match=message):
        store.write(tmp_path / "x.h5", own_manifest(), parts)


def test_more_sets_than_bits(tmp_path: Path) -> None:
    sets = {f"set{k}": np.ones(1, bool) for k in range(33)}
    with pytest.raises(DataCorrupt, match="at most 32 named sets"):
        store.write(tmp_path / "x.h5", own_manifest(), [frames(np.zeros((1, 5, 3)), "a", sets=sets)])


# files that are not current, or not converted files


def test_is_current(ani: Path, tmp_path: Path) -> None:
    declared = manifest("mini-ani1x")
    assert store.is_current(ani, declared)
    assert not store.is_current(tmp_path / "absent.h5", declared)
    content = declared.model_dump()
    content["labels"][0]["energy"]["unit"] = "eV"
    assert not store.is_current(ani, Manifest.model_validate(content))
    content = declared.model_dump() | {"title": "Another title", "n_structures": None}
    assert store.is_current(ani, Manifest.model_validate(content))


@pytest.mark.parametrize("raw", [b"", b"<html>", b"\x89HDF\r\n\x1a\n" + b"\0" * 500], ids=["empty", "html", "cut"])
def test_not_a_converted_file(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(raw)
    with pytest.raises(DataCorrupt, match=r"x\.h5: not a readable HDF5 file"):
        store.read(tmp_path / "x.h5")
    assert not store.is_current(tmp_path / "x.h5", manifest("mini-ani1x"))


def test_another_hdf5_file() -> None:
    with pytest.raises(DataCorrupt, match="expected a file of format 'mfbench structures', version 2"):
        store.read(resources.mini_data() / "mini-ani1x.h5")


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [1, 400, 864])
def test_a_conversion_that_is_stopped_leaves_nothing(after: int, tmp_path: Path) -> None:
    def stop(doing: str, done: int, total: int | None) -> None:
        if done >= after:
            raise Stopped

    declared = manifest("mini-ani1x")
    with pytest.raises(Stopped):
        datasets.convert(declared, datasets.raw_files(declared), tmp_path / "x.h5", stop)
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")]
    datasets.convert(declared, datasets.raw_files(declared), tmp_path / "x.h5")
    assert store.is_current(tmp_path / "x.h5", declared)


def test_wrong_counts_leave_nothing(tmp_path: Path) -> None:
    declared = manifest("mini-ani1x").model_copy(update={"n_structures": 865})
    with pytest.raises(DataCorrupt, match="expected 865 structures, got 864"):
        datasets.convert(declared, datasets.raw_files(manifest("mini-ani1x")), tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


# the exact comparison of geometries


@pytest.mark.parametrize("seed", range(3))
def test_atom_order_is_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.choice([1, 6, 8], 12)
    x = rng.normal(scale=3, size=(12, 3))
    order = rng.permutation(12)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found = geometries.atom_order(numbers, x, numbers[order], x[order] @ turn + 3)
    assert found is not None
    np.testing.assert_array_equal(order[found], np.arange(12))
    other = x + np.where(np.arange(12) == 3, 1e-3, 0)[:, None]
    assert geometries.atom_order(numbers, other, numbers[order], x[order] @ turn + 3) is None


def test_symmetric_molecules_are_found_equal() -> None:
    """A regular hexagon has twelve orders that fit, and sums of distances that do not tell its atoms apart."""
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(6)], 1) * 1.4
    x = np.concatenate([ring, ring * 1.77])
    numbers = np.array([6] * 6 + [1] * 6)
    order = np.array([4, 2, 0, 5, 3, 1, 9, 11, 7, 6, 10, 8])
    assert geometries.atom_order(numbers, x, numbers[order], x[order]) is not None


def homometric() -> Iterator[NDArray]:
    """Two sets of points on a line with the same distances between their points, that are not congruent (Bloom)."""
    for points in ([0, 1, 4, 10, 12, 17], [0, 1, 8, 11, 13, 17]):
        yield np.stack([np.asarray(points, float), np.zeros(6), np.zeros(6)], 1)


def test_equal_distances_are_not_yet_one_geometry() -> None:
    a, b = homometric()
    numbers = np.full(6, 6)
    (_, da), (_, db) = (geometries.sorted_distances(numbers, x[None]) for x in (a, b))
    np.testing.assert_allclose(da, db)
    assert geometries.atom_order(numbers, a, numbers, b) is None
    part = frames(np.stack([a, b, a[::-1]]), "a", numbers=numbers, molecule="C6")
    structures = assemble([LOW], [part])
    assert geometry_ids(structures).tolist() == [0, 1, 0]


def test_many_copies_of_one_frame() -> None:
    """A frozen trajectory: 20,000 copies would make 200 million pairs."""
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 5, 3)), 20_000, axis=0)
    structures = assemble([LOW], [frames(x, "a")])
    assert not geometry_ids(structures).any()


def test_frames_with_named_sets(tmp_path: Path) -> None:
    sets = {"train": np.array([True, False, True]), "test": np.array([False, True, True])}
    store.write(
        tmp_path / "x.h5", own_manifest(), [frames(np.random.default_rng(0).normal(size=(3, 5, 3)), "a", sets=sets)]
    )
    structures = store.read(tmp_path / "x.h5")
    assert structures.sets == ("train", "test")
    assert structures.member.tolist() == [1, 2, 3]
    assert structures.in_set("test").tolist() == [False, True, True]
    chosen = store.read(tmp_path / "x.h5", subset=Subset(sets=("train",)))
    assert chosen.row.tolist() == [0, 2]
