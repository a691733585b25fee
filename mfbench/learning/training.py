"""The one training loop. It never asks which arm it is running: a stage says what to train on."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mfbench.errors import UserError
from mfbench.files import replacing
from mfbench.learning.device import DeviceStructures
from mfbench.learning.loss import LevelSums, level_sums
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import ClosedForm, Stage, Training
from mfbench.learning.sources import MAX_PAIRS, draw
from mfbench.learning.step import Learner, train_step


class Error(NamedTuple):
    """A validation error, in kcal/mol or kcal/mol/Angstrom."""

    level: str  # or pair of levels ("high - low")
    label: str  # energy or force
    mae: float
    rmse: float


@dataclass(frozen=True)
class Validation:
    """One look at the validation errors: a row of history.csv."""

    step: int
    seconds: float
    loss: float
    learning_rate: float
    errors: tuple[Error, ...]
    selected: float  # what the best weights are chosen by

    def row(self) -> dict[str, float]:
        """Flat, as files have it: the errors as ``LEVEL LABEL mae`` and ``... rmse``."""
        errors = {
            f"{e.level} {e.label} {name}": value
            for e in self.errors
            for name, value in (("mae", e.mae), ("rmse", e.rmse))
        }
        first = {"step": float(self.step), "seconds": self.seconds, "loss": self.loss}
        return {**first, "learning_rate": self.learning_rate, **errors, "selected": self.selected}

    @classmethod
    def of_row(cls, row: Mapping[str, float]) -> "Validation":
        """What ``row`` wrote."""
        errors = []
        for key in (key for key in row if key.endswith(" mae")):
            level, label, _ = key.rsplit(" ", 2)
            errors.append(Error(level, label, row[key], row[f"{level} {label} rmse"]))
        same = {name: row[name] for name in ("seconds", "loss", "learning_rate", "selected")}
        return cls(step=int(row["step"]), errors=tuple(errors), **same)


@dataclass
class FitState:
    """Where a training stands; with the learner's tensors, all that it needs to go on."""

    batch_size: int
    step: int = 0
    seconds: float = 0.0
    drawn: int = 0  # structures, over all steps
    best_step: int = 0
    best_error: float = math.inf
    plateau_factor: float = 1.0
    plateau_wait: int = 0
    history: list[Validation] = field(default_factory=list)


Progress = Callable[[FitState, Stage], None]


def silent(state: FitState, stage: Stage) -> None:
    """Report nothing."""


def learning_rate(optimisation: Optimisation, state: FitState) -> float:
    """Learning rate of the step that comes next."""
    o = optimisation
    rate = o.learning_rate * min(1.0, (state.step + 1) / max(1, o.warmup))
    if o.schedule == "plateau":
        return rate * state.plateau_factor
    return rate * 0.5 * (1 + math.cos(math.pi * state.step / o.steps))


def fit(
    stage: Stage,
    data: DeviceStructures,
    seed: int,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 5.0,
    progress: Progress = silent,
) -> FitState:
    """Train the stage's potential in place, and leave the best weights in it.

    Args:
        seed: decides which structures each step draws.
        checkpoint: file to continue from, and to write every ``checkpoint_seconds`` and at the end; removed by
            the caller.
        progress: called after each validation.

    Returns:
        The history (one entry a validation; errors in kcal/mol and kcal/mol/Angstrom), the best step and
        the seconds spent.

    Raises:
        UserError: the loss is no longer finite.
    """
    if isinstance(stage, ClosedForm):
        stage.solve(data)
        return _looked_at(stage, data)
    assert isinstance(stage, Training)
    o = stage.lesson.optimisation
    if stage.start is not None:
        stage.start(data)
    if not o.steps:  # a budget too small to reach it
        return _looked_at(stage, data)
    learner, state = Learner(stage, data.device), FitState(o.batch_size)
    if checkpoint is not None and checkpoint.is_file():
        state = _load(checkpoint, learner)
    every = max(1, o.steps // o.validations)
    started, written = time.monotonic() - state.seconds, time.monotonic()
    while state.step < o.steps:
        rate = learning_rate(o, state)
        drawn = [draw(s, state.batch_size, seed, k, state.step) for k, s in enumerate(stage.lesson.train)]
        loss, norm = train_step(learner, data.blocks(drawn), rate, state.step)
        state.step += 1
        state.drawn += sum(len(source.indices) for source in drawn)
        if state.step % every and state.step != o.steps:
            continue
        _require_finite(norm, state, o)
        with learner.averaged():
            errors = _errors(stage, data)
        state.seconds = time.monotonic() - started
        _record(state, stage, errors, float(loss), rate)
        if state.best_step == state.step:
            learner.keep_best()
        progress(state, stage)
        if checkpoint is not None and time.monotonic() - written > checkpoint_seconds:
            _save(checkpoint, state, learner)
            written = time.monotonic()
    if checkpoint is not None and state.step > 0:
        _save(checkpoint, state, learner)
    if not math.isfinite(state.best_error):
        raise UserError("no validation error was ever finite; check the labels, or lower the learning rate")
    state.seconds = time.monotonic() - started
    learner.take_best()
    return state


def _looked_at(stage: Stage, data: DeviceStructures) -> FitState:
    """A training of no step: the validation errors as they are."""
    state = FitState(stage.lesson.optimisation.batch_size)
    _record(state, stage, _errors(stage, data), 0.0, 0.0)
    return state


def _require_finite(norm: Tensor, state: FitState, optimisation: Optimisation) -> None:
    if not math.isfinite(float(norm)):
        raise UserError(
            f"training diverged before step {state.step}: gradient norm {float(norm)}; "
            f"try a learning rate below {optimisation.learning_rate:g}"
        )


def _errors(stage: Stage, data: DeviceStructures) -> dict[str, LevelSums]:
    """Validation errors of the weights as they are."""
    sources = stage.lesson.validation
    blocks = data.blocks(sources, max_pairs=MAX_PAIRS) if sources else ()
    return level_sums(stage.potential, blocks, training=False)


def _record(state: FitState, stage: Stage, errors: dict[str, LevelSums], loss: float, rate: float) -> None:
    """Add a validation to the history and update what selection and plateau depend on."""
    o = stage.lesson.optimisation
    found = tuple(
        Error(level, label, float(part.mae()), float(part.rmse()))
        for level, sums in errors.items()
        for label, part in (("energy", sums.energy), ("force", sums.force))
        if part is not None and int(part.n)
    )
    selected = 0.0
    for one in found:
        selected += one.mae if o.select_by == "mae" else one.rmse
    state.history.append(Validation(state.step, state.seconds, loss, rate, found, selected))
    if selected < state.best_error or not stage.lesson.validation:
        state.best_error, state.best_step, state.plateau_wait = selected, state.step, 0
    else:
        state.plateau_wait += 1
        if state.plateau_wait > o.patience:
            state.plateau_wait, most = 0, o.max_batch_size
            if most and state.batch_size < most:
                state.batch_size = min(2 * state.batch_size, most)
            else:
                state.plateau_factor /= 2


def _save(path: Path, state: FitState, learner: Learner) -> None:
    said: dict[str, Any] = {**asdict(state), "history": [one.row() for one in state.history]}
    with replacing(path) as temporary:
        # Not save_file, which makes a file that only its owner can read: shared stages are read by others.
        temporary.write_bytes(safetensors.torch.save(learner.state(), {"state": json.dumps(said)}))


def _load(path: Path, learner: Learner) -> FitState:
    device = str(learner.parameters[0].device)
    try:
        with safe_open(path, "pt", device=device) as file:
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = json.loads(file.metadata()["state"])
        state = FitState(**{**said, "history": [Validation.of_row(row) for row in said["history"]]})
        learner.load_state(saved, state.step)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"cannot go on from {path}: {error}; delete that file to train from the start") from error
    return state
