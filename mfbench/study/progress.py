"""The progress bars of trainings, in a terminal and in a notebook."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

from tqdm.auto import tqdm

from mfbench import bars as plain
from mfbench.learning.training import silent

if TYPE_CHECKING:
    from mfbench.learning.training import FitState, Progress, Stage
    from mfbench.study.experiment import Experiment


@contextmanager
def shown(settings: "Experiment", progress: "bool | Progress") -> "Iterator[Progress]":
    """Who is told of an experiment's validations: True is a bar, where anybody would see it, False nobody."""
    if progress is True and plain.visible():
        with bar("", settings) as show:
            yield show
    else:
        yield silent if isinstance(progress, bool) else progress


@contextmanager
def bar(place: str, settings: "Experiment") -> "Iterator[Progress]":
    """A progress bar over the steps of one experiment, with its current validation errors.

    That of a run which goes on starts where it was, and its speed is that of the steps made since.
    """
    label = " ".join(part for part in (place, settings.case, settings.arm, f"n_high={settings.n_high}") if part)
    bars: list[tqdm] = []
    stages: list[Stage] = []

    def show(state: "FitState", stage: "Stage") -> None:
        if not stages or stages[-1] is not stage:  # no bar for what fails before it trains; a new one for each stage
            stages.append(stage)
            for shown in bars:
                shown.close()
            which = f", {stage.lesson.name}" if stage.lesson.name else ""
            step, seconds = _start(state)
            options = {"total": stage.lesson.optimisation.steps, "initial": step, "unit": "step"}
            bars[:] = [plain.bar(desc=f"{label}{which}", **options)]
            _began(bars[0], seconds)
        bars[0].set_postfix(_errors(state), refresh=bars[0].n == bars[0].initial)
        bars[0].update(state.step - bars[0].n)

    try:
        yield show
    finally:
        for shown in bars:
            shown.close()


@final
class Overall:
    """One bar over several experiments; ``watch`` moves it within one that is trained in this process."""

    def __init__(self, shown: tqdm) -> None:
        """``shown``: counts experiments."""
        self._shown, self._done = shown, shown.n

    @contextmanager
    def watch(self, settings: "Experiment") -> "Iterator[Progress]":
        """While one experiment is trained: what it is, how far, and its current validation errors."""
        label = f"{settings.case} {settings.arm} n_high={settings.n_high}"
        earlier = 0  # steps of stages before
        now: list[tuple[Stage, int]] = []

        def show(state: "FitState", stage: "Stage") -> None:
            nonlocal earlier
            fresh = not now or now[-1][0] is not stage
            if fresh and now:
                earlier += now[-1][1]
            now[:] = [(stage, state.step)]
            if fresh and (before := _start(state)[0]):  # made by an earlier call: neither work nor speed of this one
                share = self._share(earlier + before, settings) - (self._shown.n - self._done)
                for name in ("n", "initial", "last_print_n"):
                    setattr(self._shown, name, getattr(self._shown, name) + share)
            self._shown.set_postfix_str(
                ", ".join([label, *(f"{key}={value}" for key, value in _errors(state).items())]), refresh=False
            )
            self._move(self._done + self._share(earlier + state.step, settings))

        self._shown.set_postfix_str(label)
        yield show

    def finished(self) -> None:
        """One more is finished, or has failed."""
        self._done += 1
        self._move(self._done)

    def _move(self, to: float) -> None:
        self._shown.update(max(0.0, to - self._shown.n))

    def _share(self, steps: int, settings: "Experiment") -> float:
        # Its stages share out the budget; one in epochs is only known when it trains.
        return min(1.0, steps / settings.optimisation.steps)


@contextmanager
def overall(total: int, finished: int) -> Iterator[Overall]:
    """A bar over ``total`` experiments, of which some were ``finished`` before and do not count as speed."""
    shape = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
    shown = plain.bar(desc="experiments", total=total, initial=finished, bar_format=shape)
    try:
        yield Overall(shown)
    finally:
        shown.close()


def _start(state: "FitState") -> tuple[int, float]:
    """At a stage's first report: the steps that an earlier call had made, and the seconds made since.

    A checkpoint is written after a validation, so a stage that goes on does so from the last but one of its history.
    """
    if len(state.history) < 2:
        return 0, state.seconds
    before = state.history[-2]
    return before.step, state.seconds - before.seconds


def _began(shown: tqdm, seconds: float) -> None:
    """Let a bar have begun some seconds ago: the first report comes when the first steps are done."""
    shown.start_t -= seconds
    shown.last_print_t -= seconds


def _errors(state: "FitState") -> dict[str, str]:
    """Current validation errors in kcal/mol and kcal/mol/Angstrom: ``E(level)``, ``F(level)``."""
    return {f"{one.label[0].upper()}({one.level})": f"{one.mae:.3g}" for one in state.history[-1].errors}
