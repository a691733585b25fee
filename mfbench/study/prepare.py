"""An experiment's data, split and selected, and what its arm learns from; nothing here loads torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from mfbench.data import datasets
from mfbench.data.datasets import DataRequest
from mfbench.data.labels import with_labels
from mfbench.data.manifest import manifest
from mfbench.data.molecules import State, named, stated_in
from mfbench.data.splits import Selection, Split, make_split, select, too_many
from mfbench.data.structures import Structures
from mfbench.elements import formula
from mfbench.errors import UserError
from mfbench.learning import arms
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import Lesson, Levels, Problem
from mfbench.study.experiment import Experiment, data_hashes


@dataclass(frozen=True)
class Prepared:
    """An experiment's data, split and selected."""

    structures: Structures  # as they are judged on
    low: str
    high: str
    levels: tuple[str, ...]  # that are trained on or judged at, from low to high
    split: Split
    selection: Selection
    training: Structures  # the same, with the labels that may be trained on masked and disturbed

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur in the data, in ascending order."""
        return tuple(int(z) for z in np.unique(self.structures.numbers))


@dataclass(frozen=True)
class _Loading:
    """A request, and who is told how far it is: for the request alone is something loaded before found again."""

    request: DataRequest
    data: tuple[tuple[str, str], ...]  # hashes: a dataset may change and keep its name
    progress: datasets.Progress = field(compare=False)


@lru_cache(maxsize=2)
def _load(loading: _Loading) -> Structures:
    return loading.request.load(loading.progress)


def request(settings: Experiment, data_folder: str | Path | None = None) -> DataRequest:
    """What data an experiment needs."""
    folder = None if data_folder is None else Path(data_folder)
    rules = settings.rules
    levels = {*settings.levels, *([rules.reserve.level] if rules.reserve else [])}
    return DataRequest(rules.datasets, tuple(sorted(levels)), tuple(rules.subsets.items()), folder)


def fetch(
    settings: Experiment, data_folder: str | Path | None = None, progress: datasets.Progress = datasets.silent
) -> Structures:
    """An experiment's data, whole; large ones that were never used are converted first. The last two stay in memory."""
    wanted = request(settings, data_folder)
    now, meant = data_hashes([manifest(name) for name in wanted.datasets]), settings.known.data
    if now != meant:
        changed = sorted(name for name in now.keys() | meant.keys() if now.get(name) != meant.get(name))
        raise UserError(
            f"{settings.case}: expected the data that this experiment was made for, got others: {', '.join(changed)} "
            "changed since; make the experiment again"
        )
    return _load(_Loading(wanted, tuple(sorted(now.items())), progress))


def prepare(settings: Experiment, data_folder: str | Path | None = None) -> Prepared:
    """Load, split and select; raises UserError where the data do not hold what is asked for."""
    rules, levels = settings.rules, settings.levels
    low, high = levels[0], levels[-1]
    structures = fetch(settings, data_folder)
    split = make_split(structures, low, high, rules, settings.split_seed)
    selection = select(
        structures,
        split,
        low,
        high,
        settings.n_high,
        settings.n_low,
        settings.seed,
        rules.most_low,
        settings.exceed_max_train,
        settings.further,
    )
    if not settings.exceed_max_train:
        chosen = arms.arm(settings.arm)
        with_high = (selection.high if chosen.uses_high else selection.oracle).train
        trained = np.union1d(selection.low.train, with_high) if chosen.uses_low else with_high
        for name, (files, most) in rules.limits.items():
            theirs = [k for k, file in enumerate(structures.files) if file in files]
            if (got := np.count_nonzero(np.isin(structures.file[trained], theirs))) > most:
                raise too_many(f"{name}: expected", most, "training structures at both levels together", int(got))
    training = with_labels(structures, selection, high, settings.labels, settings.seed)
    return Prepared(structures, low, high, levels, split, selection, training)


def require_one_state(case: str, structures: Structures) -> None:
    """Raise UserError where molecules differ in charge or multiplicity alone: no network here is told of these."""
    states = [stated_in(name) for name in structures.molecules]
    if not any(one != State() for one in states):
        return
    told: dict[str, str] = {}
    for m, first in zip(*np.unique(structures.molecule, return_index=True)):
        composition = formula(structures.numbers[structures.offsets[first] : structures.offsets[first + 1]])
        own, other = named(composition, states[m]), told.setdefault(composition, named(composition, states[m]))
        if own != other:
            name = structures.molecules[m]
            raise UserError(
                f"{case}: expected molecules of one composition in one charge and multiplicity, as no network "
                f"here is told of these; got {other} and {own}: choose some with `subsets` in a case of your own, e.g. "
                f"molecules: [{name!r}]"
            )


def levels_of(settings: Experiment, columns: tuple[str, ...], low: str, high: str) -> Levels:
    """The experiment's levels with the labels that may be learned from.

    Args:
        columns: all levels of the data, in the order of their label arrays.
    """
    labels = settings.labels
    return Levels.of(
        columns, low, high, tuple(settings.further), labels.low_energies, labels.low_forces, settings.high_forces > 0
    )


def problem_of(settings: Experiment, prepared: Prepared) -> Problem:
    """What the experiment's arm may use."""
    structures = prepared.training
    levels = levels_of(settings, structures.levels, prepared.low, prepared.high)
    budget = _with_budget(settings, prepared)
    return Problem(structures, levels, prepared.selection, budget, settings.pooled)


def lessons_of(settings: Experiment, prepared: Prepared) -> tuple[Lesson, ...]:
    """What the experiment's arm learns from, stage by stage; raises LabelsMissing where there are no such labels."""
    chosen = arms.arm(settings.arm)
    return chosen.plan(problem_of(settings, prepared), chosen.options.model_validate(settings.arm_options))


def structures_used(level: str, lessons: Sequence[Lesson], validated: bool = False) -> int:
    """Structures that are trained on (or ``validated``, too) with labels of a level.

    Where a high-level energy is compared with a low-level one, it is the high level that is trained.
    """
    used = [
        source.indices
        for lesson in lessons
        for source in (*lesson.train, *(lesson.validation if validated else ()))
        if level in {term.level for term in source.terms}
    ]
    return len(np.unique(np.concatenate(used))) if used else 0


def _with_budget(settings: Experiment, prepared: Prepared) -> Optimisation:
    """The optimisation with a budget in epochs turned into steps."""
    o, chosen = settings.optimisation, prepared.selection
    if settings.epochs is None:
        return o
    passed = (chosen.low if settings.n_high == 0 else chosen.high).train
    per_epoch = math.ceil(len(passed) / min(o.batch_size, len(passed)))
    return o.model_copy(update={"steps": settings.epochs * per_epoch, "validations": settings.epochs})
