"""Atomic energies: what labels determine is fitted as ever; what they do not comes from free atoms or levels below."""

import itertools
from dataclasses import replace

import numpy as np
import problems
import pytest

from mfbench.data.structures import Frames, Structures, assemble
from mfbench.free_atoms import energies_at
from mfbench.models.atomic import N_ROWS, base_of, fit_atomic_energies
from mfbench.models.determined import Determined, Known, determined

LOW, HIGH = problems.LOW, problems.HIGH
OWN_LOW, OWN_HIGH = "mine@10", "better@20"
WATER, METHANOL, FORMALDEHYDE, AMMONIA = (8, 1, 1), (6, 8, 1, 1, 1, 1), (6, 8, 1, 1), (7, 1, 1, 1)
NUMBERS = {"H2O": WATER, "CH4O": METHANOL, "CH2O": FORMALDEHYDE, "H3N": AMMONIA}


def structures(
    levels: tuple[str, str] = (LOW, HIGH), high: tuple[str, ...] = ("CH4O",), names: tuple[str, ...] = tuple(NUMBERS)
) -> Structures:
    """A few frames of each molecule with energies at the low level; at the high one of some molecules."""
    rng = np.random.default_rng(0)
    pieces = []
    for name in names:
        numbers = np.array(NUMBERS[name], np.uint8)
        energies = rng.normal(-10.0 * len(numbers), 1, (4, 2))
        if name not in high:
            energies[:, 1] = np.nan
        positions = np.arange(len(numbers))[None, :, None] * np.ones(3) + rng.normal(0, 0.05, (4, len(numbers), 3))
        pieces.append(Frames(name, numbers, positions, energies, [None, None], "file", np.arange(4)))
    return assemble(levels, pieces)


def plain(data: Structures, indices: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Least squares over the elements that occur, written out."""
    elements = np.unique(data.numbers[data.atoms_of(indices)])
    counts = np.array([[np.count_nonzero(data[[s]].numbers == z) for z in elements] for s in indices], float)
    table = np.zeros(N_ROWS)
    table[elements] = np.linalg.lstsq(counts, energies, rcond=1e-10)[0]
    return table


def labelled(data: Structures) -> dict[str, np.ndarray]:
    return {name: np.flatnonzero(data.energy_mask[:, k]) for k, name in enumerate(data.levels)}


def test_what_labels_determine_is_least_squares_bit_for_bit() -> None:
    data = structures()
    indices, base = np.arange(len(data)), np.full(N_ROWS, -123.456)
    found = fit_atomic_energies(data, indices, data.energies[:, 0], base)
    assert np.array_equal(found, plain(data, indices, data.energies[:, 0]))
    # Elements that no training structure has are the base's, and change nothing of the others.
    some = np.flatnonzero(np.isin(data.molecule, [0, 1, 2]))  # no N
    part = fit_atomic_energies(data, some, data.energies[some, 0], base)
    expected = plain(data, some, data.energies[some, 0])
    expected[7] = base[7]
    assert np.array_equal(part, expected)


def test_without_a_base_it_is_the_solution_of_least_norm() -> None:
    data = structures()
    indices = labelled(data)[HIGH]
    assert np.array_equal(
        fit_atomic_energies(data, indices, data.energies[indices, 1]), plain(data, indices, data.energies[indices, 1])
    )


def test_an_undetermined_direction_takes_the_value_of_the_base() -> None:
    data = structures()
    indices, base = labelled(data)[HIGH], np.zeros(N_ROWS)
    base[[1, 6, 7, 8]] = -13.5, -1028.0, -1484.0, -2041.0
    energies = data.energies[indices, 1] - 3000
    found = fit_atomic_energies(data, indices, energies, base)
    assert found[list(METHANOL)].sum() == pytest.approx(energies.mean(), abs=1e-9)  # of methanol: its labels
    assert found[7] == base[7]
    counts = np.array([4.0, 1.0, 1.0])  # of H, C, O in methanol
    for direction in ([1, -4, 0], [0, 1, -1]):  # changes of composition that methanol says nothing of
        assert np.dot(direction, counts) == 0
        change = np.dot(direction, found[[1, 6, 8]]) - np.dot(direction, base[[1, 6, 8]])
        assert change == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("levels", "free", "expected"),
    [
        ((LOW, HIGH), {}, "below and free atoms"),
        ((OWN_LOW, HIGH), {}, "free atoms"),
        ((LOW, OWN_HIGH), {}, "below"),
        ((OWN_LOW, OWN_HIGH), {}, "below"),
        ((OWN_LOW, OWN_HIGH), {OWN_HIGH: {1: -1.0, 6: -2.0, 7: -3.0, 8: -4.0}}, "free atoms"),
        (
            (OWN_LOW, OWN_HIGH),
            {name: {1: -1.0, 6: -2.0, 7: -3.0, 8: -4.0} for name in (OWN_LOW, OWN_HIGH)},
            "below and free atoms",
        ),
        ((OWN_LOW, OWN_HIGH), {OWN_HIGH: {1: -1.0, 6: -2.0}}, "below"),  # not of all that is needed
    ],
)
def test_where_a_level_begins(levels: tuple[str, str], free: dict[str, dict[int, float]], expected: str) -> None:
    data = structures(levels)
    object.__setattr__(data, "free_atoms", free)
    found = determined(data, labelled(data))
    low, high = levels
    assert set(found[low].origins.values()) == {"labels"}
    assert {found[high].origins[z] for z in (1, 6, 8)} == {expected}
    below = np.arange(N_ROWS, dtype=float)
    base, difference = (base_of(found, high, below, difference=d) for d in (False, True))
    own, under = energies_at(high, free), energies_at(low, free)
    for z in (1, 6, 8):
        value = {
            "below and free atoms": below[z] + own.get(z, np.nan) - under.get(z, np.nan),
            "free atoms": own.get(z, np.nan),
            "below": below[z],
        }[expected]
        assert base[z] == pytest.approx(value, abs=1e-12)
        assert difference[z] == pytest.approx(value - below[z], abs=1e-9)


def test_a_level_alone_begins_with_its_free_atoms_or_nothing() -> None:
    for levels, expected in (((LOW, HIGH), "free atoms"), ((OWN_LOW, OWN_HIGH), "nothing")):
        data = structures(levels)
        alone = determined(data, {levels[1]: labelled(data)[levels[1]]})[levels[1]]
        assert set(alone.origins.values()) == {expected}
        assert alone.come_from(METHANOL) == f"H, C and O: {'those of ' * (expected != 'nothing')}{expected}"
        assert alone.has_zero(METHANOL) == (expected == "free atoms")
        base = base_of({levels[1]: alone}, levels[1], np.ones(N_ROWS))
        assert base.any() == (expected == "free atoms")


def test_a_chain_of_levels_goes_down_to_what_determines() -> None:
    """An element that the level below knows of its own base alone is passed on; one that nothing knows is not."""
    data = structures((OWN_LOW, OWN_HIGH), names=("CH4O", "H2O", "H3N"))
    names = [data.molecules[m] for m in data.molecule]
    low = np.flatnonzero(np.isin(names, ["CH4O", "H2O"]))  # N is in no training structure
    found = determined(data, {OWN_LOW: low, OWN_HIGH: labelled(data)[OWN_HIGH]})
    assert found[OWN_LOW].origins == {1: "nothing", 6: "nothing", 7: "nothing", 8: "nothing"}  # rank 2 of 3
    assert found[OWN_HIGH].origins == {1: "below", 6: "below", 7: "nothing", 8: "below"}
    assert found[OWN_HIGH].come_from([7, 1, 6]) == f"H and C: those of {OWN_LOW}; N: nothing"
    assert found[OWN_HIGH].come_from([1]) == f"H: those of {OWN_LOW}"
    assert found[OWN_HIGH].has_zero(METHANOL)
    assert not found[OWN_HIGH].has_zero([1, 7])


def test_which_compositions_a_level_determines() -> None:
    one = Determined(("CH4O", "H2O"), (), {}, dict.fromkeys((1, 6, 8), "nothing"))
    for numbers, expected in (
        (METHANOL, True),
        (WATER, True),
        (METHANOL + METHANOL, True),
        (METHANOL + WATER, True),
        ((6, 1, 1), True),  # methanol less water
        (FORMALDEHYDE, False),
        ((1,), False),
        (AMMONIA, False),
        ((6, 6, 8, 1, 1, 1, 1, 1, 1), True),  # ethanol: twice methanol less water
        ((6, 6, 8, 1, 1, 1, 1), False),  # ethanal
    ):
        assert one.determines(numbers) is expected, numbers
    assert one.undetermined == (1, 6, 8)
    assert not Determined((), (), {}, {}).determines(WATER)
    whole = Determined(("CH4O", "H2O", "CH2O"), (), {}, dict.fromkeys((1, 6, 8), "labels"))
    assert whole.undetermined == ()
    assert whole.determines((6, 6, 1, 1, 1, 1, 1, 1, 8))


def test_the_record_says_the_same_when_it_is_read() -> None:
    data = structures()
    known = Known(determined(data, labelled(data)), ("CH4O",), frozenset({"0a"}), 2, 0.75)
    said = known.as_json()
    assert Known.of_json(said) == known
    del said["bonds_share"]  # as earlier versions wrote it
    assert Known.of_json(said) == replace(known, bonds_share=1.0)
    assert said["levels"][HIGH]["free_atoms"]["H"] == known.levels[HIGH].free_atoms[1]


def test_all_orders_of_labels_give_the_same_levels() -> None:
    data = structures()
    whole = labelled(data)
    for order in itertools.permutations(whole):
        assert list(determined(data, {name: whole[name] for name in order})) == [LOW, HIGH]
