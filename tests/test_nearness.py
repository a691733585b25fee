"""Distance to the nearest other structure: 0 for a geometry turned or reordered, and otherwise as by pairs."""

import numpy as np
from problems import two_levels

from mfbench.data.nearness import distance_to_nearest
from mfbench.data.structures import Structures


def turned(structures: Structures) -> Structures:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    positions = structures.positions @ rotation + 3.0
    numbers = structures.numbers.copy()
    for begin, end in zip(structures.offsets[:-1], structures.offsets[1:]):
        positions[begin:end], numbers[begin:end] = positions[begin:end][::-1], numbers[begin:end][::-1]
    return Structures(**{**vars(structures), "positions": positions, "numbers": numbers})


def test_distance_to_nearest() -> None:
    whole = two_levels(40)
    every = np.arange(len(whole))
    assert np.allclose(distance_to_nearest(whole, every, every), 0)
    some, others = every[::3], every[1::3]
    found = distance_to_nearest(whole, some, others)
    assert np.allclose(found, distance_to_nearest(turned(whole), some, others), atol=1e-5)
    for s, distance in zip(some, found):
        alike = [o for o in others if sorted(numbers(whole, o)) == sorted(numbers(whole, s))]
        expected = min((apart(whole, s, o) for o in alike), default=np.nan)
        assert np.isclose(distance, expected, atol=1e-5, equal_nan=True)


def test_none_of_the_composition() -> None:
    whole = two_levels(40)
    first = whole.molecule[0]
    others = np.flatnonzero(whole.molecule != first)
    assert np.isnan(distance_to_nearest(whole, np.flatnonzero(whole.molecule == first), others)).all()


def numbers(structures: Structures, s: int) -> list[int]:
    return structures.numbers[slice(*structures.offsets[s : s + 2])].tolist()


def apart(structures: Structures, one: int, other: int) -> float:
    """One pair, the plain way."""
    sides = []
    for s in (one, other):
        x, z = structures.positions[slice(*structures.offsets[s : s + 2])], numbers(structures, s)
        pairs = [(i, j) for i in range(len(z)) for j in range(i)]
        found = sorted((sorted((z[i], z[j])), float(np.linalg.norm(x[i] - x[j]))) for i, j in pairs)
        sides.append(np.array([distance for _, distance in found]))
    return float(np.sqrt(np.mean((sides[0] - sides[1]) ** 2)))
