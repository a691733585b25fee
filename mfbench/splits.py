"""Named, seeded splits by geometry, made before levels are chosen, and nested training subsets.

The *parts* (test, unseen, validation, pools) depend on the split seed alone; no geometry is in two of them,
whatever levels it is labelled at. The high-level training subsets are prefixes of one order per subset seed,
the same in every arm. ``n_high`` counts training and validation structures together.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.cases import CaseData
from mfbench.errors import LabelsMissing, UserError
from mfbench.structures import Structures

Indices = NDArray[np.int64]

# Streams of random numbers, so that one more use of a seed leaves the others as they were.
_UNSEEN, _TEST, _VALIDATION, _HIGH_POOL, _HIGH_ORDER, _LOW_ORDER = range(6)


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream])


@dataclass(frozen=True)
class Split:
    """Indices of structures. A part holds every structure of its geometries, labelled or not."""

    test: Indices  # new geometries of molecules that are trained on
    unseen: Indices  # all geometries of molecules never trained on; may be empty
    validation: Indices  # in the order in which they are used
    high_pool: Indices  # with a high-level energy, to train on
    low_pool: Indices  # with low-level energy and forces, to train on


class Selection(NamedTuple):
    """What one experiment trains and validates on: indices of structures."""

    train_low: Indices
    train_high: Indices
    validation_low: Indices
    validation_high: Indices


def make_split(structures: Structures, low: str, high: str, rules: CaseData, seed: int) -> Split:
    """Split structures into parts.

    Args:
        low, high: names of the two levels of theory.
        rules: the case's declaration of its split.
        seed: split seed.

    Raises:
        UserError: the rules leave a part empty.
    """
    geometry = structures.geometry
    low_column, high_column = structures.level_index(low), structures.level_index(high)
    has_low = structures.energy_mask[:, low_column] & structures.force_mask[:, low_column]
    has_high = structures.energy_mask[:, high_column]
    part = np.full(geometry.max() + 1, "", dtype="U10")  # of each geometry id

    def free(mask: NDArray[np.bool_]) -> Indices:
        """Geometries with a structure in the mask that are in no part yet."""
        ids = np.unique(geometry[mask])
        return ids[part[ids] == ""]

    def fill(name: str, mask: NDArray[np.bool_], count: int, stream: int) -> None:
        """Draw geometries of the mask until the part has ``count`` of them."""
        have = np.count_nonzero(part[np.unique(geometry[mask])] == name)
        part[_rng(seed, stream).permutation(free(mask))[: max(0, count - have)]] = name

    if rules.unseen_molecules:
        if rules.unseen_molecules >= len(structures.molecules):
            raise UserError(
                f"unseen_molecules: expected fewer than the {len(structures.molecules)} molecules of the data, "
                f"got {rules.unseen_molecules}"
            )
        chosen = _rng(seed, _UNSEEN).permutation(len(structures.molecules))[: rules.unseen_molecules]
        part[geometry[np.isin(structures.molecule, chosen)]] = "unseen"
    if rules.reserve is not None:
        masks = structures.force_mask if rules.reserve.label == "forces" else structures.energy_mask
        part[free(masks[:, structures.level_index(rules.reserve.level)])] = "test"
    if rules.test_files:
        missing = set(rules.test_files) - set(structures.files)
        if missing:
            raise UserError(f"test_files: no such file in the data: {sorted(missing)}")
        part[free(np.isin(structures.file, [structures.files.index(f) for f in rules.test_files]))] = "test"
    seen = part[geometry] != "unseen"
    for mask in (has_high & seen, has_low & seen):
        fill("test", mask, round(rules.test * len(np.unique(geometry[mask]))), _TEST)
    for mask in (has_high, has_low):
        fill("validation", mask, rules.validation, _VALIDATION)
    if rules.overlap == "disjoint":
        fill("high", has_high, rules.high_pool or len(free(has_high)), _HIGH_POOL)
        high_mask, low_mask = part[geometry] == "high", part[geometry] == ""
    else:
        high_mask = low_mask = part[geometry] == ""
    validation = np.flatnonzero(part[geometry] == "validation")
    split = Split(
        test=np.flatnonzero(part[geometry] == "test"),
        unseen=np.flatnonzero(part[geometry] == "unseen"),
        validation=_rng(seed, _VALIDATION).permutation(validation),
        high_pool=np.flatnonzero(has_high & high_mask),
        low_pool=np.flatnonzero(has_low & low_mask),
    )
    if not len(split.test) or not len(split.high_pool) or not len(split.low_pool):
        raise UserError(
            f"the split leaves a part empty: {len(split.test)=}, {len(split.high_pool)=}, "
            f"{len(split.low_pool)=}; check the case's test, validation and high_pool"
        )
    return split


def validation_size(n_high: int) -> int:
    """Validation structures among ``n_high``: a fifth, at least 5 and at most 50."""
    return min(50, max(5, round(0.2 * n_high)))


def select(
    structures: Structures,
    split: Split,
    low: str,
    high: str,
    n_high: int,
    n_low: int | None,
    seed: int,
    max_low: int | None = None,
) -> Selection:
    """Training and validation structures at given sizes.

    Args:
        n_high: high-level structures in all, validation included; 0 for none.
        n_low: low-level training structures; None for all there are (up to ``max_low``).
        seed: subset seed.
        max_low: most that may be trained on (rMD17's authors allow 1,000).

    Raises:
        LabelsMissing: more asked for than there is.
    """
    validation_high = _labelled(structures, split.validation, high, forces=False)
    validation_low = _labelled(structures, split.validation, low, forces=True)

    def held_out(n: int) -> int:
        return min(validation_size(n), len(validation_high)) if n else 0

    n_validation, pool = held_out(n_high), len(split.high_pool)
    most = max(n for n in range(pool, pool + 51) if n - held_out(n) <= pool)
    if n_high and not 10 <= n_high <= most:
        raise LabelsMissing(
            f"n_high: expected 10 to {most} structures with an energy at {high} (validation included), got {n_high}"
        )
    most_low = min(len(split.low_pool), max_low or len(split.low_pool))
    if n_low is not None and not 10 <= n_low <= most_low:
        raise LabelsMissing(f"n_low: expected 10 to {most_low} structures at {low}, got {n_low}")
    return Selection(
        train_low=_rng(seed, _LOW_ORDER).permutation(split.low_pool)[: n_low or most_low],
        train_high=_rng(seed, _HIGH_ORDER).permutation(split.high_pool)[: n_high - n_validation],
        validation_low=validation_low,
        validation_high=validation_high[:n_validation],
    )


def _labelled(structures: Structures, indices: Indices, level: str, forces: bool) -> Indices:
    column = structures.level_index(level)
    mask = structures.energy_mask[:, column]
    if forces:
        mask = mask & structures.force_mask[:, column]
    return indices[mask[indices]]
