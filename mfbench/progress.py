"""Progress of whatever takes time, for people: in a terminal and in a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

if TYPE_CHECKING:  # so that a download's bar does not load torch
    from mfbench.download import Transfer
    from mfbench.experiment import Experiment
    from mfbench.training import FitState, Progress, Stage


def _bar(**options: Any) -> tqdm:
    return tqdm(leave=False, mininterval=0.2, dynamic_ncols=True, **options)


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
            which = f", {stage.name}" if stage.name else ""
            bars[:] = [_bar(desc=f"{label}{which}", total=stage.optimisation.steps, unit="step")]
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


@contextmanager
def transfers() -> "Iterator[Callable[[Transfer], None]]":
    """A progress bar over the bytes of one download: done, speed, time left, and what it is waiting for."""
    bars: list[tqdm] = []
    states: list[str] = []

    def show(transfer: "Transfer") -> None:
        if not bars:
            # What an earlier pull left counts as done, not as speed.
            start = {"total": transfer.total, "initial": transfer.done}
            bars.append(_bar(desc=transfer.name, unit="B", unit_scale=True, **start))
        shown, state = bars[0], f"{transfer.state}, {transfer.source}" if transfer.source else transfer.state
        shown.total = transfer.total
        shown.set_postfix_str(state, refresh=False)
        if transfer.done < shown.n:  # begun anew
            shown.reset(transfer.total)
        shown.update(transfer.done - shown.n)
        if states != [state]:  # nothing may come for a while: a wait is told at once
            states[:] = [state]
            shown.refresh()

    try:
        yield show
    finally:
        for shown in bars:
            shown.close()


@contextmanager
def counts(label: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar over structures, one for each thing that is done with them."""
    bars: dict[str, tqdm] = {}

    def show(doing: str, done: int, total: int | None) -> None:
        if doing not in bars:
            close()
            bars[doing] = _bar(desc=f"{label}: {doing}", total=total, unit="structure", unit_scale=True)
        bars[doing].update(done - bars[doing].n)

    def close() -> None:
        for shown in bars.values():
            shown.close()

    try:
        yield show
    finally:
        close()
