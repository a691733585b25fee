"""Loss and metrics against numbers worked out by hand."""

import math

import numpy as np
import torch

from mfbench.learning.loss import LevelSums, total_loss
from mfbench.learning.optimisation import LossWeights
from mfbench.learning.sums import ErrorSums
from mfbench.units import KCAL_PER_EV


def sums(errors: list[float], mask: list[bool] | None = None) -> ErrorSums:
    error = torch.tensor(errors, dtype=torch.float64)
    return ErrorSums.of(error, torch.tensor(mask) if mask else torch.ones_like(error, dtype=torch.bool))


def test_kcal() -> None:
    assert math.isclose(KCAL_PER_EV, 23.060547830619, rel_tol=1e-12)


def test_sums_ignore_what_is_not_labelled_even_nan() -> None:
    got = sums([3.0, math.nan, -4.0, 1e30], [True, False, True, False])
    assert (int(got.n), float(got.absolute), float(got.square)) == (2, 7.0, 25.0)
    assert float(got.mae()) == 3.5
    assert float(got.rmse()) == math.sqrt(12.5)


def test_sums_add_to_those_of_the_whole() -> None:
    errors = np.random.default_rng(0).normal(size=31).tolist()
    whole, parts = sums(errors), sums(errors[:4]) + sums(errors[4:5]) + sums(errors[5:])
    assert int(parts.n) == 31
    assert math.isclose(float(parts.rmse()), float(whole.rmse()), rel_tol=1e-14)
    assert math.isclose(float(parts.mae()), float(np.abs(errors).mean()), rel_tol=1e-14)


def test_no_labels_are_nan_not_zero() -> None:
    assert math.isnan(float(sums([1.0], [False]).mae()))
    assert math.isnan(float(sums([1.0], [False]).rmse()))


def test_total_loss_is_rmse_plus_mae_of_each_term() -> None:
    level = LevelSums(energy=sums([3.0, -4.0]), force=sums([1.0, 1.0, -1.0]), auxiliary=sums([0.5]))
    expected = 2.0 * (math.sqrt(12.5) + 3.5) + 3.0 * (1 + 1) + 0.25 * 0.5
    got = total_loss({"a": level}, LossWeights(energy=2.0, force=3.0, hierarchicality=0.25))
    assert math.isclose(float(got), expected, rel_tol=1e-9)
    twice = total_loss({"a": level, "b": level}, LossWeights(energy=2.0, force=3.0, hierarchicality=0.25))
    assert math.isclose(float(twice), 2 * expected, rel_tol=1e-9)


def test_a_term_without_labels_is_zero() -> None:
    level = LevelSums(energy=sums([3.0], [False]), force=sums([2.0]))
    assert math.isclose(float(total_loss({"a": level}, LossWeights())), 4.0, rel_tol=1e-5)
