"""Progress of a training, for people: in a terminal and in a notebook."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from mfbench.experiment import Experiment
from mfbench.training import FitState, Progress, Stage


@contextmanager
def bar(place: str, settings: Experiment) -> Iterator[Progress]:
    """A progress bar over the steps of one experiment, with its current validation errors."""
    label = " ".join(part for part in (place, settings.case, settings.arm, f"n_high={settings.n_high}") if part)
    bars: list[tqdm] = []

    def show(state: FitState, stage: Stage) -> None:
        if not bars:  # no bar for what fails before it trains
            bars.append(
                tqdm(
                    desc=label,
                    total=stage.optimisation.steps,
                    unit="step",
                    leave=False,
                    mininterval=0.2,
                    dynamic_ncols=True,
                )
            )
        errors = {
            f"{quantity[0].upper()}({level})": f"{value:.3g}"
            for key, value in state.history[-1].items()
            if key.endswith(" mae")
            for level, quantity, _ in [key.rsplit(" ", 2)]
        }
        bars[0].set_postfix(errors, refresh=bars[0].n == 0)
        bars[0].update(state.step - bars[0].n)

    try:
        yield show
    finally:
        for shown in bars:
            shown.close()
