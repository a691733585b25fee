"""The one training loop. It never asks which arm it is running: a stage says what to train on."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import safetensors.torch
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mfbench.errors import UserError
from mfbench.files import replacing
from mfbench.learning.device import DeviceStructures
from mfbench.learning.loss import LevelSums, LossWeights, level_sums, term_names, total_loss
from mfbench.learning.sources import Source, draw
from mfbench.models.contract import Potential
from mfbench.records import Record


class Optimisation(Record):
    """How a stage is optimised; every arm gets the same, but for its own learning rate."""

    steps: Annotated[int, Field(ge=0, le=10**9)] = 3000
    batch_size: Annotated[int, Field(gt=0, le=10**7)] = 16  # structures per source
    max_batch_size: Annotated[int, Field(le=10**7)] | None = (
        None  # plateau: the batch is doubled up to this, then the rate is halved
    )
    learning_rate: Annotated[float, Field(gt=0, le=1e3)] = 2e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup: Annotated[int, Field(ge=0, le=10**9)] = 50  # steps of linear warm-up
    patience: Annotated[int, Field(gt=0, le=10**9)] = 20  # plateau: validations without improvement to wait for
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995  # 0: no averaging of weights
    clip_norm: Annotated[float, Field(gt=0)] = 100.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # decoupled (AdamW)
    balance: Literal["none", "uncertainty"] = "none"  # learned scales of the loss terms: see loss.total_loss
    validations: Annotated[int, Field(gt=0, le=10**9)] = 50  # how often the validation error is looked at
    select_by: Literal["mae", "rmse"] = "mae"
    loss: LossWeights = LossWeights()


@dataclass(frozen=True)
class Stage:
    """One training: which potential, on what, and what the best weights are selected by.

    The selection error is the sum of energy (kcal/mol) and force (kcal/mol/Angstrom) errors of the
    validation sources' terms; without validation sources the last weights are kept.
    """

    potential: Potential  # the arm's, a part of it, or another sum of its parts
    train: tuple[Source, ...]
    validation: tuple[Source, ...]
    optimisation: Optimisation
    name: str = ""  # for people, where an arm has several
    frozen: tuple[str, ...] = ()  # beginnings of the names of parameters that are not trained
    start: Callable[[DeviceStructures], None] | None = None  # done before: copy weights, fit atomic energies
    closed_form: bool = False  # what is done before fits a potential, without a gradient step
    shared: bool = False  # not this experiment's alone: others may start from what it leaves

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        named = self.potential.named_parameters()
        return {name: parameter for name, parameter in named if not name.startswith(self.frozen)}


@dataclass
class FitState:
    """Where a training stands; with the weights and the optimiser's moments, all that it needs to go on."""

    batch_size: int
    step: int = 0
    seconds: float = 0.0
    drawn: int = 0  # structures, over all steps
    best_step: int = 0
    best_error: float = math.inf
    plateau_factor: float = 1.0
    plateau_wait: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


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
    """Train the stage's potential in place for its full budget of steps, and leave the best weights in it.

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
    o, potential = stage.optimisation, stage.potential
    if stage.start is not None:
        stage.start(data)
    if not o.steps:
        state = FitState(o.batch_size)
        _record(state, stage, _errors(potential, stage.validation, data), 0.0, 0.0)
        return state
    trained = stage.trained()
    for name, parameter in potential.named_parameters():
        parameter.requires_grad_(name in trained)
    parameters: list[Tensor] = [*trained.values()]
    names = term_names(stage.train) if o.balance == "uncertainty" else []
    scales = torch.zeros(len(names), device=data.device, requires_grad=True)
    groups = [{"params": parameters, "weight_decay": o.weight_decay}]
    if names:
        groups.append({"params": [scales], "weight_decay": 0.0})
        parameters = [*parameters, scales]
    optimiser = torch.optim.Adam(groups, o.learning_rate, fused=True, decoupled_weight_decay=True)
    average = [p.detach().clone() for p in parameters]
    best = [p.detach().clone() for p in parameters]
    state = FitState(batch_size=o.batch_size)
    if checkpoint is not None and checkpoint.is_file():
        state = _load(checkpoint, parameters, average, best, optimiser)
    every = max(1, o.steps // o.validations)
    started, written = time.monotonic() - state.seconds, time.monotonic()
    while state.step < o.steps:
        rate = learning_rate(o, state)
        for group in optimiser.param_groups:
            group["lr"] = rate
        drawn = [draw(s, state.batch_size, seed, k, state.step) for k, s in enumerate(stage.train)]
        sums = level_sums(potential, data.blocks(drawn), training=True, auxiliary=o.loss.hierarchicality > 0)
        optimiser.zero_grad()
        loss = total_loss(sums, o.loss, dict(zip(names, scales)))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, o.clip_norm)
        optimiser.step()
        state.step += 1
        state.drawn += sum(len(source.indices) for source in drawn)
        # A short memory at first, so that the average does not carry the initial weights along.
        decay = min(o.ema_decay, state.step / (state.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - decay)
        if state.step % every and state.step != o.steps:
            continue
        if not math.isfinite(float(norm)):
            raise UserError(
                f"training diverged before step {state.step}: gradient norm {float(norm)}; "
                f"try a learning rate below {o.learning_rate:g}"
            )
        errors = _validate(potential, stage.validation, data, parameters, average)
        state.seconds = time.monotonic() - started
        _record(state, stage, errors, float(loss.detach()), rate)
        if state.best_step == state.step:
            torch._foreach_copy_(best, average)
        progress(state, stage)
        if checkpoint is not None and time.monotonic() - written > checkpoint_seconds:
            _save(checkpoint, state, parameters, average, best, optimiser)
            written = time.monotonic()
    if checkpoint is not None and state.step > 0:
        _save(checkpoint, state, parameters, average, best, optimiser)
    if not math.isfinite(state.best_error):
        raise UserError("no validation error was ever finite; check the labels, or lower the learning rate")
    state.seconds = time.monotonic() - started
    with torch.no_grad():
        torch._foreach_copy_(parameters, best)
    return state


def _validate(
    potential: Potential,
    sources: tuple[Source, ...],
    data: DeviceStructures,
    parameters: list[Tensor],
    average: list[Tensor],
) -> dict[str, LevelSums]:
    """Validation errors of the averaged weights."""
    trained = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)
    sums = _errors(potential, sources, data)
    with torch.no_grad():
        torch._foreach_copy_(parameters, trained)
    return sums


def _errors(potential: Potential, sources: tuple[Source, ...], data: DeviceStructures) -> dict[str, LevelSums]:
    blocks = data.blocks(sources, max_pairs=1 << 18) if sources else ()
    return level_sums(potential, blocks, training=False)


def _record(state: FitState, stage: Stage, errors: dict[str, LevelSums], loss: float, rate: float) -> None:
    """Add a validation to the history and update what selection and plateau depend on."""
    row = {"step": float(state.step), "seconds": state.seconds, "loss": loss, "learning_rate": rate}
    selected = 0.0
    for level, sums in errors.items():
        for name, part in (("energy", sums.energy), ("force", sums.force)):
            if part is not None and int(part.n):
                row[f"{level} {name} mae"], row[f"{level} {name} rmse"] = (
                    float(part.mae()),
                    float(part.rmse()),
                )
                selected += row[f"{level} {name} {stage.optimisation.select_by}"]
    row["selected"] = selected
    state.history.append(row)
    if selected < state.best_error or not stage.validation:
        state.best_error, state.best_step, state.plateau_wait = selected, state.step, 0
    else:
        state.plateau_wait += 1
        if state.plateau_wait > stage.optimisation.patience:
            state.plateau_wait, most = 0, stage.optimisation.max_batch_size
            if most and state.batch_size < most:
                state.batch_size = min(2 * state.batch_size, most)
            else:
                state.plateau_factor /= 2


def _save(
    path: Path,
    state: FitState,
    parameters: list[Tensor],
    average: list[Tensor],
    best: list[Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    tensors: dict[str, Tensor] = {}
    for k, parameter in enumerate(parameters):
        moments = optimiser.state[parameter]
        tensors |= {
            f"parameter.{k}": parameter.detach(),
            f"average.{k}": average[k],
            f"best.{k}": best[k],
            f"exp_avg.{k}": moments["exp_avg"],
            f"exp_avg_sq.{k}": moments["exp_avg_sq"],
        }
    with replacing(path) as temporary:
        # Not save_file, which makes a file that only its owner can read: shared stages are read by others.
        temporary.write_bytes(safetensors.torch.save(tensors, {"state": json.dumps(asdict(state))}))


def _load(
    path: Path,
    parameters: list[Tensor],
    average: list[Tensor],
    best: list[Tensor],
    optimiser: torch.optim.Optimizer,
) -> FitState:
    device = str(parameters[0].device)
    try:
        with safe_open(path, "pt", device=device) as file:
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = FitState(**json.loads(file.metadata()["state"]))
        for k, parameter in enumerate(parameters):
            if saved[f"parameter.{k}"].shape != parameter.shape:
                raise KeyError(f"parameter.{k}")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"cannot go on from {path}: {error}; delete that file to train from the start") from error
    with torch.no_grad():
        for k, parameter in enumerate(parameters):
            parameter.copy_(saved[f"parameter.{k}"])
            average[k].copy_(saved[f"average.{k}"])
            best[k].copy_(saved[f"best.{k}"])
            optimiser.state[parameter] = {
                "step": torch.tensor(float(state.step), device=device),
                "exp_avg": saved[f"exp_avg.{k}"],
                "exp_avg_sq": saved[f"exp_avg_sq.{k}"],
            }
    return state
