"""Runs an experiment: trains its stages, judges the potential, and writes the run folder."""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from filelock import FileLock

from mfbench import bars
from mfbench.data.structures import Structures
from mfbench.errors import LabelsMissing
from mfbench.files import replacing, write_json
from mfbench.learning.device import DeviceStructures
from mfbench.learning.problem import Lesson, Stage, Training
from mfbench.learning.threads import device_name, device_of, use_threads
from mfbench.learning.training import FitState, Progress, fit
from mfbench.results import metrics
from mfbench.results.folder import (
    FORMAT_VERSION,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    STAGES,
    is_finished,
    read_metrics,
    write_metrics,
)
from mfbench.results.predictions import save_arrays
from mfbench.results.schema import EXPERIMENT, METRICS, PARTS, QUANTITIES
from mfbench.study import provenance
from mfbench.study.build import build
from mfbench.study.evaluation import NO_ENERGIES, evaluate, measure, predict, roles
from mfbench.study.experiment import Experiment
from mfbench.study.prepare import Prepared, fetch, n_high_of, prepare, structures_used
from mfbench.study.progress import shown


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
    prepared = prepare(settings, data_folder)
    use_threads(settings.threads)
    where = torch.device(device_of(device))
    potential, stages = build(settings, prepared)
    potential = potential.to(where, torch.float64 if settings.dtype == "float64" else None)
    data = DeviceStructures(prepared.training, where, next(potential.parameters()).dtype)
    seconds = 0.0
    for stage in stages:
        o = stage.lesson.optimisation
        if not isinstance(stage, Training):
            continue
        few = (o.model_copy(update={"steps": n, "validations": 1}) for n in (1, 4))
        trials = [replace(stage, lesson=replace(stage.lesson, optimisation=one)) for one in few]
        first, later = (fit(one, data, settings.seed).seconds for one in trials)
        validation = max(0.0, first - (later - first) / 3)
        seconds += o.steps * max(0.0, later - first) / 3 + o.validations * validation
    chosen, split = prepared.selection, prepared.split
    return Forecast(
        n_low=len(chosen.low.train),
        n_high=len(chosen.high.train),
        n_judged=len(split.test) + len(split.unseen),
        steps=sum(stage.lesson.optimisation.steps for stage in stages),
        seconds=seconds,
    )


def run(
    settings: Experiment,
    runs: str | Path,
    device: str = "auto",
    data_folder: str | Path | None = None,
    progress: bool | Progress = True,
    checkpoint_seconds: float = 5.0,
) -> Path:
    """Run an experiment, or continue it, and write its run folder; a finished one is left as it is.

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
    if bars.visible() and not is_finished(runs / settings.name):
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
    folder = runs / settings.name
    if is_finished(folder):
        finished = read_metrics(folder / METRICS_FILE)
        if not finished["n"].any():
            raise LabelsMissing(str(finished["remark"].iloc[0]))
        measure(folder)  # by metrics that came later
        return folder
    prepared = prepare(settings, data_folder)
    threads = use_threads(settings.threads)
    where = torch.device(device)
    dtype = torch.float64 if settings.dtype == "float64" else torch.float32
    potential, stages = build(settings, prepared)
    potential = potential.to(where)
    if dtype == torch.float64:
        potential = potential.double()
    data = DeviceStructures(prepared.training, where, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", settings.model_dump(mode="json"))
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    states: list[FitState] = []
    for number, stage in enumerate(stages):
        checkpoint = folder / f"checkpoint-{number}.safetensors"
        lock: AbstractContextManager[Any] = nullcontext()
        if stage.lesson.shared:
            name = stage_name(stage, prepared.training, settings, where.type, threads)
            checkpoint = runs / STAGES / f"{name}.safetensors"
            checkpoint.parent.mkdir(exist_ok=True)
            lock = FileLock(f"{checkpoint}.lock", mode=0o666)  # a second process waits and then has it
        with lock:
            states.append(fit(stage, data, settings.seed, checkpoint, checkpoint_seconds, progress))
    predictions = predict(potential, data, prepared, settings.seed)
    with replacing(folder / PREDICTIONS_FILE) as temporary:
        save_arrays(temporary, predictions)
    _write_split(folder / "split.npz", prepared)
    history = pd.concat([pd.DataFrame([one.row() for one in s.history]).assign(stage=k) for k, s in enumerate(states)])
    with replacing(folder / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
    with replacing(folder / "weights.safetensors") as temporary:
        heads = {
            "heads": json.dumps(potential.heads),
            "levels": json.dumps(potential.levels),
            "elements": json.dumps(prepared.elements),
        }
        # Not save_file, which makes a file that only its owner can read.
        temporary.write_bytes(safetensors.torch.save(potential.state_dict(), heads))
    steps, seconds = sum(s.step for s in states), sum(s.seconds for s in states)
    write_json(
        folder / PROVENANCE_FILE,
        {
            **provenance.describe(where, threads),
            "began": began,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "deciding": settings.deciding(),
            "added": settings.added(),
            "best_step": [s.best_step for s in states],
            "n_parameters": sum(p.numel() for p in potential.parameters()),
        },
    )
    lessons = [stage.lesson for stage in stages]
    table = _with_zero(evaluate(predictions), lessons).assign(
        **_identity(settings, structures_used(prepared.low, lessons), n_high_of(settings, prepared.high, lessons)),
        steps=steps,
        steps_shared=sum(s.step for s, lesson in zip(states, lessons) if lesson.shared),
        seconds=seconds,
        structures_per_second=sum(s.drawn for s in states) / max(seconds, 1e-9),
        device=device_name(where),
    )
    write_metrics(folder, table)
    for number in range(len(stages)):
        (folder / f"checkpoint-{number}.safetensors").unlink(missing_ok=True)
    measure(folder)
    return folder


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


def _identity(settings: Experiment, n_low: int, n_high: int) -> dict[str, Any]:
    own = {
        "run": settings.name,
        "arm": settings.variant,
        "preset": settings.recipe,
        "n_low": n_low,
        "n_high": n_high,
    }
    return {**{key: getattr(settings, key) for key in EXPERIMENT if key not in own}, **own}


def record_absent(settings: Experiment, runs: str | Path, reason: str, data_folder: str | Path | None = None) -> Path:
    """The run folder of an experiment that the data do not allow: every row has n = 0 and says why."""
    folder = Path(runs) / settings.name
    if not is_finished(folder):
        prepared = prepare(settings, data_folder)
        parts = [part for part in PARTS if len(getattr(prepared.split, part))]
        rows = [
            {"level": level, "role": role, "head": level, "part": part, "quantity": quantity, "metric": metric}
            for part in parts
            for level, role in zip(prepared.levels, roles(len(prepared.levels)))
            for quantity in QUANTITIES
            for metric in METRICS
        ]
        table = pd.DataFrame(rows).assign(
            **_identity(settings, 0, settings.n_high),
            value=math.nan,
            unit="",
            n=0,
            remark=reason,
            steps=0,
            steps_shared=0,
            seconds=0.0,
            structures_per_second=0.0,
            device="",
        )
        write_json(folder / "settings.json", settings.model_dump(mode="json"))
        write_metrics(folder, table)
    return folder


def _write_split(path: Path, prepared: Prepared) -> None:
    """Indices of the parts and of what was selected, and the file and row that each index stands for."""
    selected = {
        f"{name} {level}" if level else name: indices
        for name, held in prepared.selection.named().items()
        for level, indices in (held.items() if isinstance(held, dict) else [("", held)])
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            structure_file=prepared.structures.file,
            structure_row=prepared.structures.row,
            files=np.asarray(prepared.structures.files),
            **vars(prepared.split),
            **selected,
        )
