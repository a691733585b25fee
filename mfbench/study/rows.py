"""What the rows of a run say of its experiment, whoever trained it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfbench.costs import core_seconds
from mfbench.data.structures import Structures
from mfbench.elements import formula
from mfbench.learning.problem import Lesson
from mfbench.models.determined import composition_counts
from mfbench.results.schema import EXPERIMENT
from mfbench.study.experiment import Experiment
from mfbench.study.prepare import Prepared, structures_used

_NONE = np.zeros(0, np.int64)

NOT_TRAINED: dict[str, Any] = {
    "steps": 0,
    "steps_shared": 0,
    "seconds": 0.0,
    "structures_per_second": 0.0,
    "device": "",
}


def identity(settings: Experiment, prepared: Prepared, lessons: Sequence[Lesson], **own: Any) -> dict[str, Any]:
    """The columns that tell experiments apart, and the run's name.

    ``n_high`` is what was asked for or, of an arm that takes what there is, what it used, validation included.

    Args:
        lessons: what is learned from; none where nothing could be.
        own: columns that are not the experiment's own.
    """
    said = {
        "run": settings.name,
        "arm": settings.variant,
        "preset": settings.recipe,
        "n_low": structures_used(prepared.low, lessons),
        "n_high": settings.n_high or structures_used(prepared.high, lessons, validated=True),
        **own,
    }
    said["label_seconds"] = label_seconds(prepared.training, lessons) if lessons else np.nan
    return {**{key: getattr(settings, key) for key in EXPERIMENT if key not in said}, **said}


def label_seconds(structures: Structures, lessons: Sequence[Lesson]) -> float:
    """What the labels cost that lessons train and validate on, in core-seconds; NaN where a level's cost is not known.

    A structure's forces at a level come with its energy, which then costs nothing more (see ``mfbench.costs``).
    """
    used: dict[tuple[str, bool], list[NDArray[np.int64]]] = {}
    for source in (source for one in lessons for source in (*one.train, *one.validation)):
        for term in source.terms:
            if term.energy or term.forces:
                used.setdefault((term.level, term.forces), []).append(source.indices)
            if term.minus is not None:
                used.setdefault((term.minus, False), []).append(source.indices)
    total = 0.0
    for name in dict.fromkeys(level for level, _ in used):
        with_forces, energies = (np.concatenate([*used.get((name, one), []), _NONE]) for one in (True, False))
        for forces, indices in ((True, with_forces), (False, np.setdiff1d(energies, with_forces))):
            elements, counts = composition_counts(structures, np.unique(indices))
            for row, times in zip(*np.unique(counts, axis=0, return_counts=True)):
                total += float(times) * core_seconds(name, formula(np.repeat(elements, row)), forces)
    return total
