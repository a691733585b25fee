"""Structures: masks from NaN, indexing, joining, files, and the ids of geometries."""

from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.data import covalent_radii
from numpy.typing import NDArray
from problems import same_structures

from mfbench.data.geometries import geometry_ids, sorted_distances
from mfbench.data.structures import Frames, Structures, assemble, join
from mfbench.elements import COVALENT_RADII, SYMBOLS, formula
from mfbench.errors import DataCorrupt
from mfbench.results.predictions import read_arrays, save_arrays

LOW, MIDDLE, HIGH = "pbe/def2-svp", "wb97x/6-31g*", "ccsd/cc-pvdz"
NUMBERS = np.array([8, 1, 1, 6, 1])


def frames(count: int = 4, levels: int = 2, numbers: NDArray = NUMBERS, seed: int = 0, **changes: object) -> Frames:
    """Random frames, fully labelled, with the given fields changed."""
    rng = np.random.default_rng(seed)
    atoms = len(numbers)
    made = Frames(
        molecule=formula(numbers),
        numbers=numbers,
        positions=rng.normal(scale=2.0, size=(count, atoms, 3)),
        energies=rng.normal(size=(count, levels)),
        forces=rng.normal(size=(levels, count, atoms, 3)),
        file="a.npz",
        rows=np.arange(count) + 100,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random proper rotation."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


# assemble


def test_masks_come_from_nan_and_zeros_stand_below_them() -> None:
    part = frames()
    energies, forces = part.energies.copy(), part.forces.copy()
    energies[1, 0] = np.nan
    forces[1, 2, 3, 2] = np.nan  # one component of one atom unlabels the structure's forces
    forces[0, 3] = np.nan
    s = assemble([LOW, HIGH], [replace(part, energies=energies, forces=forces)])
    assert s.energy_mask.tolist() == [[True, True], [False, True], [True, True], [True, True]]
    assert s.force_mask.tolist() == [[True, True], [True, True], [True, False], [False, True]]
    assert s.energies[1, 0] == 0
    assert np.isfinite(s.energies).all()
    assert np.isfinite(s.forces).all()
    assert not s.forces[1, 2 * 5 : 3 * 5].any()
    assert not s.forces[0, 3 * 5 : 4 * 5].any()
    np.testing.assert_array_equal(s.energies[s.energy_mask], energies[np.isfinite(energies)])
    np.testing.assert_array_equal(s.forces[:, 0:5], part.forces[:, 0].astype(np.float32))


def test_assemble_puts_molecules_of_several_sizes_one_after_the_other() -> None:
    water = np.array([8, 1, 1])
    parts = [
        frames(2),
        frames(3, numbers=water, seed=1, file="b.npz", temperature=np.array([300.0, 600.0, 1000.0])),
        frames(1, seed=2),
    ]
    s = assemble([LOW, HIGH], parts)
    assert len(s) == 6
    assert s.offsets.tolist() == [0, 5, 10, 13, 16, 19, 24]
    assert s.n_atoms.tolist() == [5, 5, 3, 3, 3, 5]
    assert s.molecules == ("CH3O", "H2O")
    assert s.molecule.tolist() == [0, 0, 1, 1, 1, 0]
    assert s.files == ("a.npz", "b.npz")
    assert s.file.tolist() == [0, 0, 1, 1, 1, 0]
    assert s.row.tolist() == [100, 101, 100, 101, 102, 100]
    assert s.temperature.tolist() == [0, 0, 300, 600, 1000, 0]
    assert s.numbers.tolist() == [*NUMBERS, *NUMBERS, *water, *water, *water, *NUMBERS]
    np.testing.assert_array_equal(s.positions[13:16], parts[1].positions[1])
    np.testing.assert_array_equal(s.forces[1, 13:16], parts[1].forces[1, 1].astype(np.float32))
    assert (s.numbers.dtype, s.energies.dtype, s.forces.dtype) == (np.uint8, np.float64, np.float32)


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("positions", (4, 4, 3)),
        ("positions", (4, 5, 2)),
        ("energies", (4, 3)),
        ("energies", (3, 2)),
        ("energies", (4,)),
        ("forces", (2, 4, 4, 3)),
        ("forces", (2, 5, 4, 3)),
        ("rows", (3,)),
        ("temperature", (3,)),
    ],
)
def test_wrong_shapes(field: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataCorrupt, match=rf"a\.npz, CH3O: {field}: array\.shape=") as caught:
        assemble([LOW, HIGH], [frames(**{field: np.zeros(shape)})])
    assert str(shape[-3:] if field == "forces" else shape) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("positions", (2, 1, 0), np.nan, "positions that are not finite"),
        ("positions", (2, 1, 0), np.inf, "positions that are not finite"),
        ("energies", (2, 0), np.inf, "infinite energies"),
        ("energies", (2, 1), -np.inf, "infinite energies"),
        ("forces", (1, 2, 4, 2), np.inf, "infinite forces"),
    ],
)
def test_values_that_are_not_finite(field: str, index: tuple[int, ...], value: float, message: str) -> None:
    part = frames()
    array = getattr(part, field).copy()
    array[index] = value
    with pytest.raises(DataCorrupt, match=rf"1 frames with {message}, rows \[102\]"):
        assemble([LOW, HIGH], [replace(part, **{field: array})])


@pytest.mark.parametrize("number", [0, 2, 79, 262, 6.5])
def test_unknown_elements(number: float) -> None:
    numbers = np.array([8, 1, 1, number, 1])
    with pytest.raises(DataCorrupt, match=r"unknown atomic numbers \["):
        assemble([LOW, HIGH], [replace(frames(), numbers=numbers)])


@pytest.mark.parametrize("parts", [[], [frames(0)]], ids=["no group", "no frame"])
def test_nothing_to_assemble(parts: list[Frames]) -> None:
    with pytest.raises(DataCorrupt, match="expected structures, found none"):
        assemble([LOW, HIGH], parts)


# indexing


def mixed() -> Structures:
    """Structures of two sizes with some labels missing."""
    energies = frames().energies.copy()
    energies[::2, 1] = np.nan
    return assemble([LOW, HIGH], [frames(energies=energies), frames(3, numbers=np.array([8, 1, 1]), seed=1)])


def test_indexing_keeps_order_and_repeats() -> None:
    s = mixed()
    chosen = s[np.array([5, 0, 5, 2])]
    assert len(chosen) == 4
    assert chosen.n_atoms.tolist() == [3, 5, 3, 5]
    assert chosen.row.tolist() == [101, 100, 101, 102]
    for new, old in enumerate([5, 0, 5, 2]):
        here, there = slice(*chosen.offsets[new : new + 2]), slice(*s.offsets[old : old + 2])
        np.testing.assert_array_equal(chosen.positions[here], s.positions[there])
        np.testing.assert_array_equal(chosen.forces[:, here], s.forces[:, there])
        np.testing.assert_array_equal(chosen.numbers[here], s.numbers[there])
        np.testing.assert_array_equal(chosen.energies[new], s.energies[old])
        np.testing.assert_array_equal(chosen.energy_mask[new], s.energy_mask[old])
    same_structures(s[np.arange(len(s))], s)


def test_atoms_of() -> None:
    s = mixed()
    assert s.atoms_of(np.array([4, 1])).tolist() == [20, 21, 22, 5, 6, 7, 8, 9]
    assert s.atoms_of(np.array([], dtype=int)).tolist() == []
    assert len(s[np.array([], dtype=int)]) == 0


def test_level_index() -> None:
    s = mixed()
    assert (s.level_index(LOW), s.level_index(HIGH)) == (0, 1)
    with pytest.raises(DataCorrupt, match=r"no labels at level 'wb97x/6-31g\*': the data hold pbe/def2-svp, ccsd"):
        s.level_index(MIDDLE)


# files


@dataclass(frozen=True)
class Arrays:
    """A record of arrays and names."""

    levels: tuple[str, ...]
    energies: np.ndarray
    energy_mask: np.ndarray
    forces: np.ndarray


def arrays() -> Arrays:
    s = mixed()
    return Arrays(s.levels, s.energies, s.energy_mask, s.forces)


def test_save_and_read_again(tmp_path: Path) -> None:
    record = arrays()
    save_arrays(tmp_path / "s.h5", record)
    again = read_arrays(tmp_path / "s.h5", Arrays)
    assert again.levels == record.levels
    for name in ("energies", "energy_mask", "forces"):
        one, other = getattr(again, name), getattr(record, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["energy_mask", "levels"])
def test_read_names_a_missing_field(tmp_path: Path, name: str) -> None:
    save_arrays(tmp_path / "s.h5", arrays())
    with h5py.File(tmp_path / "s.h5", "a") as file:
        if name in file:
            del file[name]
        else:
            del file.attrs[name]
    with pytest.raises(DataCorrupt, match=rf"s\.h5: expected the fields of Arrays, found no '{name}'"):
        read_arrays(tmp_path / "s.h5", Arrays)


# join


def test_join_orders_levels_and_renumbers() -> None:
    water = np.array([8, 1, 1])
    high = assemble([HIGH], [frames(2, 1, numbers=water, file="high.npz"), frames(2, 1, seed=3, file="high2.npz")])
    low = assemble([LOW, MIDDLE], [frames(3, 2, seed=4, file="low.npz")])
    whole = join([high, low])
    assert whole.levels == (LOW, MIDDLE, HIGH)
    assert whole.molecules == ("H2O", "CH3O")
    assert whole.molecule.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert whole.files == ("high.npz", "high2.npz", "low.npz")
    assert whole.file.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert whole.offsets.tolist() == [0, 3, 6, 11, 16, 21, 26, 31]
    yes, no = [True], [False]
    assert whole.energy_mask.tolist() == [no * 2 + yes] * 4 + [yes * 2 + no] * 3
    assert whole.force_mask.tolist() == whole.energy_mask.tolist()
    np.testing.assert_array_equal(whole.energies[:4, 2], high.energies[:, 0])
    np.testing.assert_array_equal(whole.energies[4:, :2], low.energies)
    assert not whole.energies[:4, :2].any()
    assert not whole.energies[4:, 2].any()
    np.testing.assert_array_equal(whole.forces[2, :16], high.forces[0])
    np.testing.assert_array_equal(whole.forces[:2, 16:], low.forces)
    assert not whole.forces[2, 16:].any()
    assert whole.geometry.tolist() == list(range(7))


def test_join_finds_geometries_that_recur() -> None:
    rng = np.random.default_rng(5)
    low = frames(6, 1)
    order = np.array([0, 4, 2, 3, 1])  # hydrogens change places
    turned = np.stack([x @ rotation(rng) + rng.normal(size=3) for x in low.positions[[4, 1]]])[:, order]
    high = frames(2, 1, positions=turned, file="high.npz")
    whole = join([assemble([LOW], [low]), assemble([HIGH], [high])])
    assert geometry_ids(whole)[6:].tolist() == [4, 1]
    assert len(set(geometry_ids(whole).tolist())) == 6


# geometry ids


def as_structures(positions: NDArray, numbers: NDArray = NUMBERS) -> Structures:
    """Unlabelled frames (C, N, 3) of one molecule."""
    count = len(positions)
    empty = np.full((count, 1), np.nan), np.full((1, count, len(numbers), 3), np.nan)
    part = frames(count, 1, numbers, positions=positions, energies=empty[0], forces=empty[1])
    return assemble([LOW], [part])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_moved_and_reordered_frame_is_the_same_geometry(seed: int, mirrored: bool) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.array([6, 1, 8, 1, 1, 6, 1])
    x = rng.normal(scale=2.0, size=(12, 7, 3))
    moved = []
    for frame in x:
        order = np.arange(7)
        for z in (1, 6):
            places = np.flatnonzero(numbers == z)
            order[places] = rng.permutation(places)
        turn = rotation(rng) * (-1 if mirrored else 1)
        moved.append(frame[order] @ turn + rng.normal(scale=5, size=3) + rng.uniform(-1e-6, 1e-6, size=(7, 3)))
    shuffle = rng.permutation(12)
    ids = geometry_ids(as_structures(np.concatenate([x, np.stack(moved)[shuffle]]), numbers))
    assert ids[12:].tolist() == ids[:12][shuffle].tolist()
    assert len(set(ids[:12].tolist())) == 12


def test_equal_in_any_order_of_the_elements() -> None:
    x = frames().positions
    order = np.array([3, 4, 0, 1, 2])
    s = assemble([LOW], [frames(4, 1), frames(4, 1, NUMBERS[order], positions=x[:, order], file="b.npz")])
    ids = geometry_ids(s)
    assert ids[4:].tolist() == ids[:4].tolist()
    assert len(set(ids.tolist())) == 4


def test_real_frames_are_distinct() -> None:
    """Random walks by 1e-3 Angstrom, a hundred times the tolerance, are other geometries."""
    rng = np.random.default_rng(1)
    x = frames(1).positions + np.cumsum(rng.normal(scale=1e-3, size=(200, 5, 3)), axis=0)
    assert len(set(geometry_ids(as_structures(x)).tolist())) == 200


@pytest.mark.parametrize(("shift", "expected"), [(0.8e-5, 1), (1.3e-5, 2)])
def test_tolerance_is_on_each_distance(shift: float, expected: int) -> None:
    """Two atoms, so that the one distance changes by exactly the shift."""
    x = np.zeros((2, 2, 3))
    x[:, 1, 0] = 1.1, 1.1 + shift
    assert len(set(geometry_ids(as_structures(x, np.array([6, 8]))).tolist())) == expected


def test_equal_sums_of_distances_are_not_enough() -> None:
    """O-H stretched by what the other is shortened: neighbours in the order of sums, but not equal."""
    x = np.array([[[0, 0, 0], [0.96, 0, 0], [-0.96, 0, 0]], [[0, 0, 0], [1.06, 0, 0], [-0.86, 0, 0]]])
    assert np.linalg.norm(x[0, 1] - x[0, 2]) == pytest.approx(np.linalg.norm(x[1, 1] - x[1, 2]))
    assert len(set(geometry_ids(as_structures(x, np.array([8, 1, 1]))).tolist())) == 2


def test_ids_are_transitive() -> None:
    """A chain of frames, each within the tolerance of the next only, is one geometry, in any order."""
    x = np.zeros((6, 2, 3))
    x[:, 1, 0] = 1.1 + 0.9e-5 * np.arange(6)
    x[5, 1, 0] = 2.0
    order = np.array([4, 0, 5, 2, 1, 3])
    ids = geometry_ids(as_structures(x[order], np.array([6, 8])))
    assert len(set(ids[order != 5].tolist())) == 1
    assert len(set(ids.tolist())) == 2


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_ids_are_transitive_over_frames_in_between(order: tuple[int, ...]) -> None:
    """Two frames that differ by 1.7 tolerances and a third within the tolerance of both are one geometry."""
    x = np.zeros((3, 3, 3))
    for frame, (cn, co) in zip(x, ((0, 0), (1.7, -0.95), (0.9, 0))):
        a, b, c = 1.2 + 1e-5 * cn, 1.5 + 1e-5 * co, 2.0  # C-N, C-O, N-O
        along = (a**2 + b**2 - c**2) / (2 * a)
        frame[1:, :2] = (a, 0), (along, np.sqrt(b**2 - along**2))
    ids = geometry_ids(as_structures(x[list(order)], np.array([6, 7, 8])))
    assert len(set(ids.tolist())) == 1
    assert len(set(geometry_ids(as_structures(x[:2], np.array([6, 7, 8]))).tolist())) == 2


def test_another_element_in_a_place_is_another_geometry() -> None:
    x = frames(1).positions
    swapped = x[:, [3, 1, 2, 0, 4]]  # O and C change places
    mixed_up = x[:, [1, 0, 2, 3, 4]]  # O and an H
    assert len(set(geometry_ids(as_structures(np.concatenate([x, swapped, mixed_up]))).tolist())) == 3


def test_other_compositions_are_never_equal() -> None:
    x = frames(1, numbers=np.array([8, 1, 1])).positions
    s = assemble(
        [LOW],
        [frames(1, 1, np.array([8, 1, 1]), positions=x), frames(1, 1, np.array([16, 1, 1]), positions=x)],
    )
    assert len(set(geometry_ids(s).tolist())) == 2


def test_sorted_distances_by_hand() -> None:
    """Water, 3-4-5 triangle: pairs in the order H-H, H-O, sorted within each."""
    x = np.array([[[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]])
    key, distances = sorted_distances(np.array([8, 1, 1]), x)
    assert key == bytes([1, 1, 8])
    np.testing.assert_allclose(distances, [[5, 3, 4]])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([8, 1, 1], "H2O"),
        ([6, 6, 8, 1, 1, 1, 1, 1, 1], "C2H6O"),
        ([1, 6, 7], "CHN"),
        ([7, 1, 1, 1], "H3N"),
        ([17, 1], "ClH"),  # no carbon: alphabetical
        ([1, 35, 6, 17, 9], "CHBrClF"),
        ([6, 8, 8], "CO2"),
    ],
)
def test_hill_formula(numbers: list[int], expected: str) -> None:
    assert formula(np.array(numbers)) == expected


def test_formula_of_an_unknown_element() -> None:
    with pytest.raises(DataCorrupt, match=r"unknown atomic numbers \[99\]"):
        formula(np.array([6, 99]))


def test_covalent_radii_are_those_of_ase() -> None:
    """An independent copy of the same table; what is no element of ours is not judged by a radius of its own."""
    for number in SYMBOLS.keys() - {0}:
        assert COVALENT_RADII[number] == covalent_radii[number]
    assert COVALENT_RADII[2] == 1.0
