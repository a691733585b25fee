"""What the rows of a run say of its experiment, whoever trained it."""

from collections.abc import Sequence
from typing import Any

from mfbench.learning.problem import Lesson
from mfbench.results.schema import EXPERIMENT
from mfbench.study.experiment import Experiment
from mfbench.study.prepare import Prepared, structures_used

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
    return {**{key: getattr(settings, key) for key in EXPERIMENT if key not in said}, **said}
