"""Named, seeded splits by geometry, made before levels are chosen, and nested training subsets.

The *parts* (test, unseen, validation, pools) depend on the split seed alone; no geometry is in two of them,
whatever levels it is labelled at. The high-level training subsets are prefixes of one order per subset seed,
the same in every arm. ``n_high`` counts training and validation structures together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data.cases import CaseData
from mfbench.data.structures import BoolArray, Structures
from mfbench.errors import DataCorrupt, LabelsMissing, UserError

Indices = NDArray[np.int64]

# Streams of random numbers, so that one more use of a seed leaves the others as they were.
_UNSEEN, _TEST, _VALIDATION, _HIGH_POOL, _HIGH_ORDER, _LOW_ORDER, _JUDGED, _SHARED, _ORACLE = range(9)

# Parts of geometries.
_FREE, _IN_UNSEEN, _IN_TEST, _IN_VALIDATION, _IN_HIGH, _UNUSED = range(6)


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
    oracle_pool: Indices  # with a high-level energy, whatever the overlap: what an oracle learns from


class Chosen(NamedTuple):
    """Structures of one level."""

    train: Indices
    validation: Indices


@dataclass(frozen=True)
class Selection:
    """What one experiment trains and validates on: indices of structures."""

    levels: Mapping[str, Chosen]  # the low level first, the high one last, further ones between as they were named
    oracle: Chosen  # as many high-level structures as low-level ones, where there are so many

    @property
    def low(self) -> Chosen:
        """Those of the low level."""
        return next(iter(self.levels.values()))

    @property
    def high(self) -> Chosen:
        """Those of the high level."""
        return [*self.levels.values()][-1]

    def named(self) -> dict[str, Indices | dict[str, Indices]]:
        """All of it by the names in split.npz; those of further levels by level."""
        between = {name: self.levels[name] for name in [*self.levels][1:-1]}
        return {
            "train_low": self.low.train,
            "train_high": self.high.train,
            "validation_low": self.low.validation,
            "validation_high": self.high.validation,
            "oracle": self.oracle.train,
            "validation_oracle": self.oracle.validation,
            "further": {name: one.train for name, one in between.items()},
            "validation_further": {name: one.validation for name, one in between.items()},
        }


@dataclass(frozen=True)
class _Division:
    """Which part each geometry is in so far; ``part`` is filled in place, and what is in a part stays there."""

    structures: Structures
    seed: int
    part: NDArray[np.int8]  # (G,) of each geometry id

    def ids_in(self, mask: BoolArray) -> Indices:
        """Geometries with a structure in the mask, in ascending order (without sorting millions of them)."""
        there = np.zeros(len(self.part), bool)
        there[self.structures.geometry[mask]] = True
        return np.flatnonzero(there)

    def free(self, mask: BoolArray) -> Indices:
        """Those of them that are in no part yet."""
        ids = self.ids_in(mask)
        return ids[self.part[ids] == _FREE]

    def fill(self, where: int, mask: BoolArray, count: int, stream: int) -> None:
        """Draw geometries of the mask until the part has ``count`` of them."""
        have = np.count_nonzero(self.part[self.ids_in(mask)] == where)
        self.part[_rng(self.seed, stream).permutation(self.free(mask))[: max(0, count - have)]] = where

    def holds(self, where: int) -> BoolArray:
        """(S,) which structures are in a part."""
        return self.part[self.structures.geometry] == where


def make_split(structures: Structures, low: str, high: str, rules: CaseData, seed: int) -> Split:
    """Split structures into parts.

    Args:
        low, high: names of the two levels of theory.
        rules: the case's declaration of its split.
        seed: split seed.

    Raises:
        UserError: the rules leave a part empty.
    """
    low_column, high_column = structures.level_index(low), structures.level_index(high)
    has_low = structures.energy_mask[:, low_column] & structures.force_mask[:, low_column]
    has_high = structures.energy_mask[:, high_column]
    division = _Division(structures, seed, np.full(structures.geometry.max() + 1, _FREE, np.int8))
    _place_declared(division, rules)
    usable = _place_sets(division, rules)
    seen = ~(division.holds(_IN_UNSEEN) | division.holds(_UNUSED))
    for mask in (has_high & seen, has_low & seen):
        wanted = rules.test * len(division.ids_in(mask)) if rules.test < 1 else rules.test
        division.fill(_IN_TEST, mask, round(wanted), _TEST)
    for mask in (has_high, has_low):
        division.fill(_IN_VALIDATION, mask, rules.validation, _VALIDATION)
    high_mask, low_mask = _training_masks(division, rules, has_high)
    split = Split(
        test=_judged_on(division, _IN_TEST, has_high, rules.max_test),
        unseen=_judged_on(division, _IN_UNSEEN, has_high, rules.max_test),
        validation=_rng(seed, _VALIDATION).permutation(np.flatnonzero(usable & division.holds(_IN_VALIDATION))),
        high_pool=np.flatnonzero(has_high & high_mask & usable),
        low_pool=np.flatnonzero(has_low & low_mask & usable),
        oracle_pool=np.flatnonzero(has_high & (high_mask | low_mask) & usable),
    )
    _require_sound(structures, split)
    return split


def _place_declared(division: _Division, rules: CaseData) -> None:
    """Place what the rules name or draw by molecule, by label and by file: unseen molecules first, then the test."""
    structures, part = division.structures, division.part
    geometry = structures.geometry
    if rules.unseen_above is not None:
        part[geometry[structures.n_atoms > rules.unseen_above]] = _IN_UNSEEN
    if rules.unseen_molecules:
        if rules.unseen_molecules >= len(structures.molecules):
            raise UserError(
                f"unseen_molecules: expected fewer than the {len(structures.molecules)} molecules of the data, "
                f"got {rules.unseen_molecules}"
            )
        order = _rng(division.seed, _UNSEEN).permutation(len(structures.molecules))
        part[geometry[np.isin(structures.molecule, order[: rules.unseen_molecules])]] = _IN_UNSEEN
    if rules.reserve is not None:
        masks = structures.force_mask if rules.reserve.label == "forces" else structures.energy_mask
        part[division.free(masks[:, structures.level_index(rules.reserve.level)])] = _IN_TEST
    if rules.test_files:
        missing = set(rules.test_files) - set(structures.files)
        if missing:
            raise UserError(f"test_files: no such file in the data: {sorted(missing)}")
        files = [structures.files.index(name) for name in rules.test_files]
        part[division.free(np.isin(structures.file, files))] = _IN_TEST


def _place_sets(division: _Division, rules: CaseData) -> BoolArray:
    """Place the named sets; (S,) which structures may be trained and validated on."""
    structures, part = division.structures, division.part
    judged = _in_any(structures, rules.test_sets)
    usable = np.ones(len(structures), bool)
    if rules.train_sets:
        usable = _in_any(structures, rules.train_sets)
        refuse_leaks(structures, {"train_sets": np.flatnonzero(usable), "test_sets": np.flatnonzero(judged)})
        unused = division.free(~usable & ~judged)
        part[np.setdiff1d(unused, division.ids_in(usable), assume_unique=True)] = _UNUSED
    part[division.free(judged)] = _IN_TEST
    return usable


def _training_masks(division: _Division, rules: CaseData, has_high: BoolArray) -> tuple[BoolArray, BoolArray]:
    """(S,) whose geometry may be trained on at the high level, and at the low one, by the overlap of the two."""
    if rules.overlap == "nested":
        free = division.holds(_FREE)
        return free, free
    count = rules.high_pool or len(division.free(has_high))
    division.fill(_IN_HIGH, has_high, count, _HIGH_POOL)
    high_mask, low_mask = division.holds(_IN_HIGH), division.holds(_FREE)
    if rules.overlap == "partly":
        ids = _rng(division.seed, _SHARED).permutation(np.flatnonzero(division.part == _IN_HIGH))
        low_mask |= np.isin(division.structures.geometry, ids[: len(ids) // 2])
    return high_mask, low_mask


def _judged_on(division: _Division, where: int, has_high: BoolArray, most: int | None) -> Indices:
    """At most so many structures of a part, those with a high-level label first."""
    indices = np.flatnonzero(division.holds(where))
    if most is None or len(indices) <= most:
        return indices
    order = _rng(division.seed, _JUDGED).permutation(indices)
    return np.sort(order[np.argsort(~has_high[order], kind="stable")][:most])


def _require_sound(structures: Structures, split: Split) -> None:
    """Raise UserError where a part is empty, DataCorrupt where a geometry is in two."""
    if not len(split.test) or not len(split.high_pool) or not len(split.low_pool):
        raise UserError(
            f"the split leaves a part empty: {len(split.test)=}, {len(split.high_pool)=}, "
            f"{len(split.low_pool)=}; check the case's test, validation and high_pool"
        )
    training = np.concatenate([split.high_pool, split.low_pool, split.oracle_pool])
    refuse_leaks(
        structures,
        {"test": split.test, "unseen": split.unseen, "validation": split.validation, "training": training},
    )


def _in_any(structures: Structures, sets: tuple[str, ...]) -> BoolArray:
    """(S,) which structures belong to one of the named sets."""
    inside = np.zeros(len(structures), bool)
    for name in sets:
        inside |= structures.in_set(name)
    return inside


def refuse_leaks(structures: Structures, parts: Mapping[str, Indices]) -> None:
    """Raise DataCorrupt, with the list, where a geometry is in two parts, whatever its levels and files.

    Args:
        parts: by name, indices of structures.
    """
    geometry = structures.geometry
    owner = np.full(geometry.max() + 1, -1, np.int8)
    leaks: list[tuple[str, str, int]] = []
    for k, (name, indices) in enumerate(parts.items()):
        before = owner[geometry[indices]]
        leaks += [
            (list(parts)[before[i]], name, int(indices[i])) for i in np.flatnonzero((before >= 0) & (before != k))
        ]
        owner[geometry[indices]] = k
    if not leaks:
        return
    lines = []
    for first, second, s in leaks[:10]:
        twins = parts[first][geometry[parts[first]] == geometry[s]]
        lines.append(f"{structures.where(int(twins[0]))} ({first}) = {structures.where(s)} ({second})")
    more = f"; and {len(leaks) - 10} more" if len(leaks) > 10 else ""
    raise DataCorrupt(
        f"{len(leaks)} structures of one part are geometries of another (equal up to rotation, translation and order "
        f"of equal atoms): {'; '.join(lines)}{more}. Put each geometry in one part, or leave out train_sets: then a "
        "geometry of a test set is in the test part only"
    )


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
    exceed: bool = False,
    further: Mapping[str, int | None] | None = None,
) -> Selection:
    """Training and validation structures at given sizes.

    Args:
        n_high: high-level structures in all, validation included; 0 for none.
        n_low: low-level training structures; None for all there are (up to ``max_low``).
        seed: subset seed.
        max_low: most that may be trained on (rMD17's authors allow 1,000).
        exceed: train on more than ``max_low`` all the same, where ``n_low`` asks for it.
        further: levels between the two, and how many of the low-level structures have labels there; None for all.

    Raises:
        LabelsMissing: more asked for than there is.
        UserError: more asked for than may be trained on.
    """
    validation_high = _labelled(structures, split.validation, high, forces=False)
    validation_low = _labelled(structures, split.validation, low, forces=True)

    def held_out(n: int) -> int:
        return min(validation_size(n), len(validation_high)) if n else 0

    n_validation, pool = held_out(n_high), len(split.high_pool)
    most = max(n for n in range(pool, pool + 51) if n - held_out(n) <= pool)
    if n_high and not 10 <= n_high <= most:
        test = len(_labelled(structures, split.test, high, forces=False))
        raise LabelsMissing(
            f"n_high: expected 10 to {most} structures with an energy at {high} (validation included), got {n_high}; "
            f"{test} more are in the test part, {len(validation_high)} are kept for validation: `test` and "
            "`validation` in the case say how many"
        )
    if max_low is not None and not exceed and (n_low or 0) > max_low and len(split.low_pool) > max_low:
        raise too_many("n_low: expected", max_low, "low-level training structures", n_low or 0)
    most_low = min(len(split.low_pool), max_low if max_low and not exceed else len(split.low_pool))
    if n_low is not None and not 10 <= n_low <= most_low:
        raise LabelsMissing(f"n_low: expected 10 to {most_low} structures at {low}, got {n_low}")
    train_low = _rng(seed, _LOW_ORDER).permutation(split.low_pool)[: n_low or min(most_low, max_low or most_low)]
    chosen = {low: Chosen(train_low, validation_low)}
    for level, count in (further or {}).items():
        labelled = _labelled(structures, train_low, level, forces=True)
        if not 1 <= (count or len(labelled)) <= len(labelled):
            raise LabelsMissing(
                f"{level}: expected 1 to {len(labelled)} of the {len(train_low)} low-level structures, got {count or 0}"
            )
        chosen[level] = Chosen(labelled[:count], _labelled(structures, split.validation, level, forces=True))
    train_high = _rng(seed, _HIGH_ORDER).permutation(split.high_pool)[: n_high - n_validation]
    chosen[high] = Chosen(train_high, validation_high[:n_validation])
    oracle = _rng(seed, _ORACLE).permutation(split.oracle_pool)[: len(train_low)]
    return Selection(chosen, Chosen(oracle, validation_high))


def too_many(expected: str, most: int, what: str, got: int) -> UserError:
    """The error for more training structures than the data's authors allow."""
    return UserError(
        f"{expected} at most {most:,} {what}, got {got:,}: these data hold trajectories, and their authors say never "
        "to train on more. To do so all the same, and have the results say it: --exceed-max-train"
    )


def _labelled(structures: Structures, indices: Indices, level: str, forces: bool) -> Indices:
    column = structures.level_index(level)
    mask = structures.energy_mask[:, column]
    if forces:
        mask = mask & structures.force_mask[:, column]
    return indices[mask[indices]]
