"""Single energies against smooth fits of the others: closed forms against fits made anew, and what is found."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mfbench.data import datasets, smooth
from mfbench.data.checks import check
from mfbench.data.findings import Finding
from mfbench.data.manifest import manifest
from mfbench.data.physics_levels import by_another, pairs_of, wanted
from mfbench.data.physics_singles import by_themselves, of_level
from mfbench.data.structures import Structures
from mfbench.data.survey import survey
from mfbench.units import EV_PER_KCAL

DFT, CC = 1, 4  # levels: energies and forces; energies, and few forces


@pytest.fixture(scope="module")
def ani() -> Structures:
    return datasets.load("mini-ani1x")


def of(ani: Structures, molecule: str, count: int = 24) -> Structures:
    return ani[np.flatnonzero(ani.molecule == ani.molecules.index(molecule))[:count]]


def shifted(s: Structures, row: int, k: int, kcal: float) -> Structures:
    energies = s.energies.copy()
    energies[row, k] += kcal * EV_PER_KCAL * s.n_atoms[row]
    return replace(s, energies=energies)


# the fit


@pytest.mark.parametrize("k", [None, DFT])
def test_leaving_one_out_is_fitting_the_others(k: int | None, ani: Structures) -> None:
    """The value that is left out makes no difference to what it is held against; of several, neither."""
    water = of(ani, "H2O", 12)
    rows, values = np.arange(12), water.energies[:, DFT] - np.median(water.energies[:, DFT])

    def fitted(values: np.ndarray) -> smooth._Block:
        return smooth._fitted(water, rows, values, k, 1000, 3.0, 1e-6)

    one, changed = fitted(values), values.copy()
    changed[5] += 0.02  # small: the median, which is taken off, stays
    other = fitted(changed)
    assert one.rest[5] + 0.02 == pytest.approx(other.rest[5], abs=1e-7)
    assert np.delete(one.without(5).rest, []) == pytest.approx(other.without(5).rest, abs=1e-7)
    assert np.abs(one.rest - other.rest).max() > 1e-3  # while it is in, its neighbours' fits bend


def test_forces_are_the_slope_of_the_fit(ani: Structures) -> None:
    """Derivatives of the kernel along atoms, and of both structures, by finite differences."""
    rng, n, step = np.random.default_rng(0), 3, 1e-5
    x = rng.normal(size=(2, n, 3)) + np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0]])
    i, j = np.triu_indices(n, 1)

    def inverse(x: np.ndarray) -> np.ndarray:
        return 1 / np.linalg.norm(x[:, i] - x[:, j], axis=2)

    def moved(s: int, c: int, by: float) -> np.ndarray:
        y = x.copy()
        y[s].flat[c] += by
        return inverse(y)

    slope = np.stack([[(moved(s, c, step)[s] - moved(s, c, -step)[s]) / (2 * step) for c in range(9)] for s in (0, 1)])
    gradients = smooth._Gradients(np.arange(2), slope.transpose(2, 0, 1), np.zeros(18))
    scale = 0.3

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.square(a - b).sum() / (2 * scale)))

    f = inverse(x)
    mixed, second = smooth._derivatives(f, gradients, np.array([[kernel(a, b) for b in f] for a in f]), scale)
    for c in range(9):
        up, down = moved(1, c, step)[1], moved(1, c, -step)[1]
        assert mixed[0, 9 + c] == pytest.approx((kernel(f[0], up) - kernel(f[0], down)) / (2 * step), abs=1e-8)
        for d in range(9):
            left = [moved(0, d, by)[0] for by in (step, -step)]
            change = kernel(left[0], up) - kernel(left[0], down) - kernel(left[1], up) + kernel(left[1], down)
            assert second[d, 9 + c] == pytest.approx(change / (4 * step**2), abs=1e-4)


def test_order_of_equal_atoms_and_turns_change_nothing(ani: Structures) -> None:
    """Where there are no forces."""
    methane, rng = of(ani, "CH4"), np.random.default_rng(0)
    x, z = methane.positions.reshape(24, 5, 3).copy(), methane.numbers.reshape(24, 5).copy()
    for s in range(24):
        order, turn = rng.permutation(5), np.linalg.qr(rng.normal(size=(3, 3)))[0]
        x[s], z[s] = x[s][order] @ turn, z[s][order]
    other = replace(methane, positions=x.reshape(-1, 3), numbers=z.ravel())
    one, two = smooth.alone(methane, DFT), smooth.alone(other, DFT)
    assert one.rest == pytest.approx(two.rest, abs=1e-3)
    assert one.limit == pytest.approx(two.limit, rel=0.05)


# what is found


@pytest.mark.parametrize("molecule", ["H2O", "CH3OH", "CH3CHO"])
@pytest.mark.parametrize("sizes", [(1.5,), (400.0,), (1.5, -50.0)])
def test_those_that_are_off_are_found_and_no_others(molecule: str, sizes: tuple[float, ...], ani: Structures) -> None:
    """In blocks of a few and of all; one that is far off does not hide another, nor drag its neighbours."""
    good, rows = of(ani, molecule, 48), (7, 30)[: len(sizes)]
    bad = good
    for row, kcal in zip(rows, sizes):
        bad = shifted(bad, row, DFT, kcal)
    assert not smooth.with_forces(good, DFT, 48).off.any()
    assert np.flatnonzero(smooth.with_forces(bad, DFT, 48).off).tolist() == list(rows)
    added = bad.energies[:, DFT] - bad.energies[:, 0]
    hot = good.energies[:, 0] - np.median(good.energies[:, 0])
    if molecule == "H2O":
        assert np.flatnonzero(smooth.beside(bad, added, hot).off).tolist() == list(rows)


def test_a_level_that_is_alone(ani: Structures) -> None:
    """Water has three distances: its energies alone tell."""
    bare = replace(ani, force_mask=np.zeros_like(ani.force_mask))[np.flatnonzero(ani.molecule == 13)]
    one = replace(bare, levels=(ani.levels[DFT],), energies=bare.energies[:, [DFT]])
    one = replace(one, energy_mask=one.energy_mask[:, [DFT]], force_mask=one.force_mask[:, [DFT]])
    one = replace(one, forces=one.forces[[DFT]])
    content = manifest("mini-ani1x").model_dump() | {"n_structures": None, "n_molecules": None, "probes": []}
    content["labels"] = [content["labels"][DFT] | {"forces": None, "n_energy": None, "n_forces": None}]
    declared = type(manifest("mini-ani1x")).model_validate(content)

    def found(s: Structures) -> Finding:
        (finding,) = (one for one in check(declared, s) if one.name == "outliers")
        return finding

    assert found(one).ok
    wrong = found(shifted(one, 7, 0, 3))
    assert wrong.ok is False
    assert wrong.where == (one.where(7),)


def test_too_few_structures_decide_nothing(ani: Structures) -> None:
    few = of(ani, "H2O", 8)
    findings = [one for one in check(manifest("mini-ani1x"), few) if one.name == "outliers"]
    assert findings
    assert all(one.ok is None for one in findings)


@pytest.mark.slow
def test_what_can_be_known_of_a_single_energy(ani: Structures) -> None:
    """The share of structures whose shift would be found, by its size and by what there is to judge by.

    Each is judged without itself: its shift adds to what it is off now, and leaves the limit as it is.
    """
    pairs = pairs_of(ani)
    single = {k: of_level(ani, k) for k in range(len(ani.levels))}
    both = {pair.high: wanted(ani, pair) for pair in pairs}
    looked_at = [one.chosen for one in (*both.values(), *(one for two in single.values() for one in two))]
    bare = replace(ani, force_mask=np.zeros_like(ani.force_mask))
    every = {k: of_level(bare, k) for k in range(len(ani.levels))}
    seen = survey(ani, ani, lambda done: None, [*looked_at, *(one.chosen for two in every.values() for one in two)])
    found = {
        **{f"{ani.levels[k]}, with forces": by_themselves(ani, seen, k, single[k])[0] for k in range(4)},
        **{pair.name(ani): by_another(ani, seen, pair, both[pair.high]) for pair in pairs},
        **{f"{ani.levels[k]}, alone": by_themselves(ani, seen, k, every[k])[1] for k in every},
    }
    shares = Counter[tuple[str, float]]()
    for name, off in found.items():
        assert len(off.rows) == 864
        assert not off.judged.off.any()
        for kcal in (1.0, 2.0, 4.0, 10.0):
            sure = kcal * EV_PER_KCAL - off.judged.rest > off.judged.limit  # whichever way it goes
            shares[name, kcal] = float(np.mean(sure))
        print(
            f"{name:36s} "
            + ", ".join(f"{shares[name, kcal]:.1%} of {kcal:g} kcal/mol an atom" for kcal in (1.0, 2.0, 4.0, 10.0))
        )
    for name in found:
        low, most = (0.05, 0.8) if "alone" in name else (0.65, 0.97)
        assert shares[name, 1.0] > low
        assert shares[name, 10.0] > most
