"""The progress bar of a training, in a terminal and in a notebook."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from mfbench import bars as plain
from mfbench.learning.problem import Stage

if TYPE_CHECKING:
    from mfbench.learning.training import FitState, Progress, Stage
    from mfbench.study.experiment import Experiment


@contextmanager
def bar(place: str, settings: "Experiment") -> "Iterator[Progress]":
    """A progress bar over the steps of one experiment, with its current validation errors."""
    label = " ".join(part for part in (place, settings.case, settings.arm, f"n_high={settings.n_high}") if part)
    bars: list[tqdm] = []
    stages: list[Stage] = []

    def show(state: "FitState", stage: "Stage") -> None:
        if not stages or stages[-1] is not stage:  # no bar for what fails before it trains; a new one for each stage
            stages.append(stage)
            for shown in bars:
                shown.close()
            which = f", {stage.lesson.name}" if stage.lesson.name else ""
            bars[:] = [plain.bar(desc=f"{label}{which}", total=stage.lesson.optimisation.steps, unit="step")]
        errors = {f"{one.label[0].upper()}({one.level})": f"{one.mae:.3g}" for one in state.history[-1].errors}
        bars[0].set_postfix(errors, refresh=bars[0].n == 0)
        bars[0].update(state.step - bars[0].n)

    try:
        yield show
    finally:
        for shown in bars:
            shown.close()
