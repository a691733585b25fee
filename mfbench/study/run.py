"""Runs an experiment: trains its stages, judges the potential, and writes the run folder."""

import hashlib
import io
import json
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from mfbench import bars
from mfbench.data.structures import Structures
from mfbench.errors import LabelsMissing
from mfbench.files import require_space, sweep
from mfbench.learning.device import DeviceStructures
from mfbench.learning.problem import Lesson, Stage, Training
from mfbench.learning.threads import device_name, device_of, use_threads
from mfbench.learning.training import FitState, Progress, fit
from mfbench.models.contract import Potential
from mfbench.results import metrics
from mfbench.results.folder import (
    FORMAT_VERSION,
    HISTORY_FILE,
    PREDICTIONS_FILE,
    SETTINGS_FILE,
    SPLIT_FILE,
    STAGES,
    TRAINED,
    WEIGHTS_FILE,
    WEIGHTS_KEY,
    RunFolder,
)
from mfbench.results.judged import roles
from mfbench.results.locks import locked
from mfbench.results.predictions import arrays_bytes
from mfbench.results.schema import METRICS, PARTS, QUANTITIES
from mfbench.study import provenance
from mfbench.study.build import build
from mfbench.study.evaluation import NO_ENERGIES, evaluate, measure, predict
from mfbench.study.experiment import Experiment
from mfbench.study.outside import known_by
from mfbench.study.prepare import Prepared, fetch, prepare, require_one_state, structures_used
from mfbench.study.progress import shown
from mfbench.study.rows import NOT_TRAINED, identity


@dataclass(frozen=True)
class Forecast:
    """What a run is going to take."""

    n_low: int  # structures trained on at the low level
    n_high: int  # and at the high level
    n_judged: int  # structures of the test and unseen parts
    steps: int  # over all stages
    seconds: float  # on this machine


def forecast(settings: Experiment, device: str = "auto", data_folder: str | Path | None = None) -> Forecast:
    """What a run is going to take: sizes, and the time of its steps, timed on models of its own."""
    task, seconds = _task(settings, device_of(device), data_folder), 0.0
    for stage in task.stages:
        o = stage.lesson.optimisation
        if not isinstance(stage, Training):
            continue
        few = (o.model_copy(update={"steps": n, "validations": 1}) for n in (1, 4))
        trials = [replace(stage, lesson=replace(stage.lesson, optimisation=one)) for one in few]
        first, later = (fit(one, task.data, settings.seed).seconds for one in trials)
        validation = max(0.0, first - (later - first) / 3)
        seconds += o.steps * max(0.0, later - first) / 3 + o.validations * validation
    prepared, lessons = task.prepared, [stage.lesson for stage in task.stages]
    return Forecast(
        n_low=structures_used(prepared.low, lessons),
        n_high=structures_used(prepared.high, lessons),
        n_judged=len(prepared.split.test) + len(prepared.split.unseen),
        steps=sum(lesson.optimisation.steps for lesson in lessons),
        seconds=seconds,
    )


@dataclass(frozen=True)
class _Task:
    """What an experiment trains, on what and where."""

    prepared: Prepared
    potential: Potential  # on its device
    stages: list[Stage]
    data: DeviceStructures
    device: torch.device
    threads: int

    def size(self) -> int:
        """About how many bytes the run folder and its checkpoints take while they are written."""
        split, structures = self.prepared.split, self.prepared.structures
        judged = np.concatenate([split.test, split.unseen])
        labels = len(self.prepared.levels) * (int(structures.n_atoms[judged].sum()) * 24 + len(judged) * 16)
        weights = sum(one.numel() * one.element_size() for one in self.potential.parameters())
        # A checkpoint holds five numbers for each weight; a file stands beside the one that it replaces.
        return 2 * (labels + 6 * weights * len(self.stages)) + (1 << 20)


def run(
    settings: Experiment,
    runs: str | Path,
    device: str = "auto",
    data_folder: str | Path | None = None,
    progress: bool | Progress = True,
    checkpoint_seconds: float = 5.0,
) -> Path:
    """Run an experiment, or continue it, and write its run folder; a finished one is left as it is.

    One process makes a run; others that are to make the same one wait, and find it finished.

    Args:
        runs: folder of run folders.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:k``.
        data_folder: where the data files are, for data that do not ship.
        progress: whether to show bars, which appear in terminals and notebooks alone; or what is told of each
            validation.

    Returns:
        The run folder.

    Raises:
        UserError: the experiment cannot be run as asked (LabelsMissing: the labels do not exist).
    """
    runs, where = Path(runs), device_of(device)
    if progress is True:
        read_ahead(settings, runs, data_folder)
    with shown(settings, progress) as told:
        return _run(settings, runs, where, data_folder, told, checkpoint_seconds)


def read_ahead(settings: Experiment, runs: Path, data_folder: str | Path | None) -> None:
    """Load what a run is about to need under a bar, where anybody sees it: large data take a while the first time."""
    if bars.visible() and not RunFolder(runs / settings.name).finished:
        with bars.counts(settings.case) as told:
            fetch(settings, data_folder, told)


def _run(
    settings: Experiment,
    runs: Path,
    device: str,
    data_folder: str | Path | None,
    progress: Progress,
    checkpoint_seconds: float,
) -> Path:
    """``run``, with a device that is there, and somebody who is told of each validation."""
    metrics.known()  # one that cannot be used is told of before hours of work
    folder = RunFolder(runs / settings.name)
    if not folder.finished:
        training = _task(settings, device, data_folder)
        require_space(folder.path, training.size(), f"the run {settings.name}")
        with folder.locked() as lock:
            folder.sweep()
            if not folder.finished:  # it may be by now: another process had the lock
                began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
                folder.write_settings(settings.model_dump(mode="json"))
                states = _train(settings, training, folder, checkpoint_seconds, progress)
                lock.check()
                _write(settings, training, folder, states, began)
                folder.sweep()
    elif folder.leftovers():
        with suppress(OSError), folder.locked():  # a folder that cannot be written to is read all the same
            folder.sweep()
    finished = folder.metrics()
    if not finished["n"].any():
        raise LabelsMissing(str(finished["remark"].iloc[0]))
    measure(folder.path)  # also by metrics that came later
    return folder.path


def _task(settings: Experiment, device: str, data_folder: str | Path | None) -> _Task:
    prepared = prepare(settings, data_folder)
    require_one_state(settings.case, prepared.structures)
    threads = use_threads(settings.threads)
    where = torch.device(device)
    dtype = torch.float64 if settings.dtype == "float64" else torch.float32
    potential, stages = build(settings, prepared)
    potential = potential.to(where)
    if dtype == torch.float64:
        potential = potential.double()
    return _Task(prepared, potential, stages, DeviceStructures(prepared.training, where, dtype), where, threads)


def _train(
    settings: Experiment, training: _Task, folder: RunFolder, checkpoint_seconds: float, progress: Progress
) -> list[FitState]:
    """Train the stages one after the other; each goes on from where its checkpoint stands."""
    states: list[FitState] = []
    for number, stage in enumerate(training.stages):
        checkpoint = folder.checkpoint(number)
        lock: AbstractContextManager[Any] = nullcontext()
        if stage.lesson.shared:
            name = stage_name(stage, training.prepared.training, settings, training.device.type, training.threads)
            checkpoint = folder.path.parent / STAGES / f"{name}.safetensors"
            # A second process waits and then has it.
            lock = locked(checkpoint.with_name(f".{name}.lock"), f"shared stage {stage.lesson.name or name}")
        with lock:
            if stage.lesson.shared:
                sweep(checkpoint.parent, checkpoint.name, own=True)
            states.append(fit(stage, training.data, settings.seed, checkpoint, checkpoint_seconds, progress))
    return states


def _write(settings: Experiment, training: _Task, folder: RunFolder, states: list[FitState], began: str) -> None:
    """Judge what was trained, and write all that a finished run holds."""
    prepared, potential, stages = training.prepared, training.potential, training.stages
    lessons = [stage.lesson for stage in stages]
    predictions = predict(potential, training.data, prepared, lessons, settings.seed)
    folder.write(PREDICTIONS_FILE, arrays_bytes(predictions))
    folder.write(SPLIT_FILE, _split_bytes(prepared))
    history = pd.concat([pd.DataFrame([one.row() for one in s.history]).assign(stage=k) for k, s in enumerate(states)])
    folder.write(HISTORY_FILE, history.to_csv(index=False).encode())
    folder.write(WEIGHTS_FILE, weights_bytes(potential, prepared.elements))
    steps, seconds = sum(s.step for s in states), sum(s.seconds for s in states)
    folder.write_provenance(
        {
            **provenance.describe(training.device, training.threads),
            "began": began,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "deciding": settings.deciding(),
            "added": settings.added(),
            "trained_on": known_by(prepared.training, lessons, potential.heads).as_json(),
            "best_step": [s.best_step for s in states],
            "n_parameters": sum(p.numel() for p in potential.parameters()),
        }
    )
    table = _with_zero(evaluate(predictions), lessons).assign(
        **identity(settings, prepared, lessons),
        steps=steps,
        steps_shared=sum(s.step for s, lesson in zip(states, lessons) if lesson.shared),
        seconds=seconds,
        structures_per_second=sum(s.drawn for s in states) / max(seconds, 1e-9),
        device=device_name(training.device),
    )
    folder.finish(table, TRAINED)


def weights_bytes(potential: Potential, elements: tuple[int, ...]) -> bytes:
    """The weights and what the file says of itself: the same bytes for the same run.

    Under one key, for safetensors writes several in an order that differs from process to process.
    """
    said = {"heads": list(potential.heads), "levels": list(potential.levels), "elements": list(elements)}
    return safetensors.torch.save(potential.state_dict(), {WEIGHTS_KEY: json.dumps(said)})


def _with_zero(table: pd.DataFrame, lessons: Sequence[Lesson]) -> pd.DataFrame:
    """The rows, total energies of levels whose energies no stage learns from being n = 0: they have no zero."""
    learned = {term.level for lesson in lessons for source in lesson.train for term in source.terms if term.energy}
    gone = table["quantity"].isin(["energy", "energy_per_atom"]) & (table["n"] > 0) & ~table["level"].isin(learned)
    return table.assign(
        value=table["value"].mask(gone), n=table["n"].mask(gone, 0), remark=table["remark"].mask(gone, NO_ENERGIES)
    )


def stage_name(stage: Stage, structures: Structures, settings: Experiment, device: str, threads: int) -> str:
    """A name that is the same for every experiment in which a shared stage gives the same weights: a hash of all that
    decides them, network, labels and initial weights included."""
    # Not all of a network's settings show in its weights: the cutoff does not.
    network = [settings.backbone, settings.network, settings.dtype]
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, settings.seed, device, threads, network]).encode())
    digest.update(stage.lesson.optimisation.model_dump_json().encode())
    for source in (*stage.lesson.train, *stage.lesson.validation):
        digest.update(json.dumps([[asdict(term) for term in source.terms], len(source.indices)]).encode())
        part = structures[source.indices]
        columns = [structures.level_index(term.level) for term in source.terms]
        for array in (
            part.numbers,
            part.positions,
            part.offsets,
            part.energies[:, columns],
            part.forces[columns],
            part.energy_mask[:, columns],
            part.force_mask[:, columns],
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
    for name, tensor in stage.potential.state_dict().items():
        digest.update(f"{name} {tensor.dtype}".encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:24]


def record_absent(settings: Experiment, runs: str | Path, reason: str, data_folder: str | Path | None = None) -> Path:
    """The run folder of an experiment that the data do not allow: every row has n = 0 and says why."""
    folder = RunFolder(Path(runs) / settings.name)
    if not folder.finished:
        prepared = prepare(settings, data_folder)
        with folder.locked():
            if not folder.finished:
                folder.write_settings(settings.model_dump(mode="json"))
                folder.finish(_absent(settings, prepared, reason), [SETTINGS_FILE])
    return folder.path


def _absent(settings: Experiment, prepared: Prepared, reason: str) -> pd.DataFrame:
    parts = [part for part in PARTS if len(getattr(prepared.split, part))]
    rows = [
        {"level": level, "role": role, "head": level, "part": part, "quantity": quantity, "metric": metric}
        for part in parts
        for level, role in zip(prepared.levels, roles(len(prepared.levels)))
        for quantity in QUANTITIES
        for metric in METRICS
    ]
    return pd.DataFrame(rows).assign(
        **identity(settings, prepared, ()), **NOT_TRAINED, value=math.nan, unit="", n=0, remark=reason
    )


def _split_bytes(prepared: Prepared) -> bytes:
    """Indices of the parts and of what was selected, and the file and row that each index stands for."""
    selected = {
        f"{name} {level}" if level else name: indices
        for name, held in prepared.selection.named().items()
        for level, indices in (held.items() if isinstance(held, dict) else [("", held)])
    }
    out = io.BytesIO()
    np.savez_compressed(
        out,
        allow_pickle=False,
        structure_file=prepared.structures.file,
        structure_row=prepared.structures.row,
        files=np.asarray(prepared.structures.files),
        **vars(prepared.split),
        **selected,
    )
    return out.getvalue()
