"""Other codes as arms: their predictions of the exported test part, judged and written as a run folder."""

import hashlib
import json
import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mfbench import units
from mfbench.data.splits import Indices
from mfbench.data.structures import Structures
from mfbench.errors import UserError, unknown
from mfbench.files import sha256
from mfbench.learning import arms
from mfbench.learning.problem import Lesson
from mfbench.results.folder import PREDICTIONS_FILE, PROVENANCE_FILE, SETTINGS_FILE, RunFolder
from mfbench.results.predictions import Predictions, arrays_bytes
from mfbench.results.schema import EXTERNAL
from mfbench.study import evaluation, provenance
from mfbench.study.evaluation import as_predictions
from mfbench.study.experiment import Experiment
from mfbench.study.export import split_hash
from mfbench.study.prepare import Prepared, lessons_of, prepare
from mfbench.study.rows import NOT_TRAINED, identity

POSITION_TOLERANCE = 1e-6  # Angstrom; programs that write 8 decimals round by 5e-9

NOT_PREDICTED = "not predicted by this code"


def evaluate(
    settings: Experiment,
    name: str,
    path: str | Path,
    runs: str | Path,
    *,
    energy_keys: Mapping[str, str],
    forces_keys: Mapping[str, str],
    unit: str = "eV",
    data_folder: str | Path | None = None,
) -> Path:
    """Judge another code's predictions by the measures of every arm, and write them as a finished run folder.

    Args:
        settings: of the export that the code learned from.
        name: what the code is called in tables and plots; no arm's name. A run of that name and choice is replaced.
        path: extended XYZ, the exported test part with predictions in it, in the exported order.
        runs: folder of run folders.
        energy_keys, forces_keys: by level, the keys of the predictions; a calculator's results are looked at, too.
            A level without an energy key is not predicted; forces may be missing in every frame.
        unit: of total energies, and per Angstrom of forces: eV, Ha, kcal/mol, ...

    Returns:
        The run folder.

    Raises:
        UserError: the frames are not those of the exported test part, or lack a prediction.
    """
    if name in arms.arm_names():
        raise UserError(f"--name: expected a name that no arm has, got {name!r}; the arms are mfbench's own")
    if not re.fullmatch(r"\w[\w.+() -]*", name):
        raise UserError(f"--name: expected letters, digits, spaces and any of . + ( ) - _, got {name!r}")
    if unit not in units.ENERGY_UNITS:
        raise unknown("unit of energy", unit, units.ENERGY_UNITS)
    path, runs = Path(path), Path(runs)
    prepared = prepare(settings, data_folder)
    for level in energy_keys:
        if level not in prepared.levels:
            raise unknown("level of this experiment", level, prepared.levels)
    frames = _read(path)
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    _check_frames(frames, prepared, indices)
    predictions = _predictions(frames, prepared, indices, energy_keys, forces_keys, units.internal(unit), settings.seed)
    missing = {level for level in prepared.levels if level not in energy_keys}
    lessons = lessons_of(settings, prepared)
    table = evaluation.evaluate(predictions)
    absent = (table["n"] == 0) & _not_predicted(table, missing, predictions, prepared)
    table.loc[absent, "remark"] = NOT_PREDICTED
    table.loc[table["n"] > 0, "remark"] = settings.known.remark  # such rows stand beside all recipes and name none
    folder = _named(settings, name, prepared, lessons, runs)
    own = {"arm": name, "backbone": EXTERNAL, "preset": EXTERNAL}
    table = table.assign(**identity(settings, prepared, lessons, run=folder.name, **own), **NOT_TRAINED)
    recipe = {"network", "optimisation", "arm_options", "epochs", "dtype", "threads", "pooled"}
    chosen = settings.model_dump(mode="json", exclude=recipe)
    described = provenance.describe(torch.device("cpu"), 1)
    with folder.locked():
        folder.sweep()
        folder.reopen()
        folder.write_settings({**chosen, **own, "labels_of": settings.arm})
        folder.write_provenance(
            {
                **{key: described[key] for key in ("versions", "commit")},  # the machine that trained is not known
                "predictions": {"file": path.name, "sha256": sha256(path)},
                "energy_keys": dict(energy_keys),
                "forces_keys": dict(forces_keys),
                "unit": unit,
                "split": split_hash(prepared),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
        )
        folder.write(PREDICTIONS_FILE, arrays_bytes(predictions))
        folder.finish(table, [SETTINGS_FILE, PROVENANCE_FILE, PREDICTIONS_FILE])
    evaluation.measure(folder.path)
    return folder.path


def _named(settings: Experiment, name: str, prepared: Prepared, lessons: Sequence[Lesson], runs: Path) -> RunFolder:
    """The run folder of another code's predictions: one for each code and choice of what it learned from."""
    content = json.dumps([name, settings.deciding(), split_hash(prepared)], sort_keys=True).encode()
    slug, n_high = re.sub(r"[^\w.+-]+", "_", name), identity(settings, prepared, lessons)["n_high"]
    start = f"{settings.case}-{settings.data}-{slug}-{EXTERNAL}-n{n_high}-s{settings.seed}"
    return RunFolder(runs / f"{start}-{hashlib.sha256(content).hexdigest()[:10]}")


def _not_predicted(table: Any, missing: set[str], predictions: Predictions, prepared: Prepared) -> Any:
    """Which rows of a results table stand for what the code did not predict, whatever labels there are."""
    gone = table["level"].isin(missing)
    for column, level in enumerate(prepared.levels):
        if np.isnan(predictions.force_predicted[:, column]).all():
            gone |= (table["level"] == level) & (table["quantity"] == "force")
    return gone


def _read(path: Path) -> list[Atoms]:
    if not path.is_file():
        raise UserError(f"--predictions: no such file: {path}")
    try:
        return list(ase.io.iread(path, index=":", format="extxyz"))
    except (OSError, ValueError, KeyError, IndexError, AssertionError, StopIteration) as error:
        raise UserError(f"{path}: expected frames of extended XYZ: {error}") from error


def _some(structures: Structures, indices: Sequence[int]) -> str:
    """The first few of some structures, for messages."""
    named = [
        f"{s} ({structures.where(s)})" if 0 <= s < len(structures) else f"{s} (not in the data)" for s in indices[:3]
    ]
    return "; ".join(named) + (f"; and {len(indices) - 3:,} more" if len(indices) > 3 else "")


def _check_frames(frames: Sequence[Atoms], prepared: Prepared, indices: Indices) -> None:
    """That the frames are the exported test part, in its order and untouched; raises UserError."""
    structures, again = prepared.structures, "export the test part again, and keep its frames as they are"
    bare = [
        k
        for k, frame in enumerate(frames)
        if not isinstance(frame.info.get("mfbench_structure"), int | np.integer) or "mfbench_split" not in frame.info
    ]
    if bare:
        raise UserError(
            f"expected the exported mfbench_structure and mfbench_split in every frame, {len(bare):,} of "
            f"{len(frames):,} lack them (frames {', '.join(map(str, bare[:3]))}, counted from 0); {again}"
        )
    expected = split_hash(prepared)
    if other := sorted({str(frame.info["mfbench_split"]) for frame in frames} - {expected}):
        raise UserError(
            f"predictions for another split or selection: expected {expected}, got {', '.join(other[:3])}; "
            "give the data, sizes and seeds of the export"
        )
    got = [int(frame.info["mfbench_structure"]) for frame in frames]
    wanted = indices.tolist()
    times = Counter(got)
    if missing := [s for s in wanted if s not in times]:
        raise UserError(f"{len(missing):,} test structures without a prediction: {_some(structures, missing)}")
    if extra := sorted(times.keys() - set(wanted)):
        raise UserError(f"{len(extra):,} frames that are not in the test part: {_some(structures, extra)}")
    if twice := [s for s, count in times.items() if count > 1]:
        raise UserError(f"{len(twice):,} structures predicted more than once: {_some(structures, twice)}")
    if moved := [s for s, there in zip(wanted, got) if s != there]:
        raise UserError(f"{len(moved):,} structures not in the exported order: {_some(structures, moved)}")
    elements, positions = [], []
    for s, frame in zip(wanted, frames):
        atoms = slice(int(structures.offsets[s]), int(structures.offsets[s + 1]))
        if not np.array_equal(frame.numbers, structures.numbers[atoms]):
            elements.append(s)
        elif not (np.abs(frame.positions - structures.positions[atoms]) <= POSITION_TOLERANCE).all():
            positions.append(s)
    if elements:
        raise UserError(
            f"{len(elements):,} structures with other elements than exported: {_some(structures, elements)}"
        )
    if positions:
        raise UserError(
            f"{len(positions):,} structures with positions more than {POSITION_TOLERANCE:g} Angstrom from the exported "
            f"ones: {_some(structures, positions)}"
        )


def _found(frame: Atoms, key: str, kept: Mapping[str, Any]) -> Any:
    """A prediction of a frame: among its own, else among its calculator's; None where there is none."""
    return kept[key] if key in kept else frame.calc.results.get(key) if frame.calc is not None else None


def _predicted(
    frames: Sequence[Atoms], structures: Structures, indices: Indices, key: str, forces: bool
) -> list[NDArray[np.float64]] | None:
    """Predictions of every frame; None: forces that no frame has. Raises UserError where some lack them."""
    found, bad, none = [], [], 0
    for s, frame in zip(indices.tolist(), frames):
        value = _found(frame, key, frame.arrays if forces else frame.info)
        none += value is None
        try:
            array = np.asarray(math.nan if value is None else value, np.float64)
        except (TypeError, ValueError):
            array = np.asarray(math.nan)
        right = array.shape == ((len(frame), 3) if forces else ())
        if not right or not np.isfinite(array).all():
            bad.append(s)
        found.append(array)
    kind = "forces" if forces else "energies"
    if forces and none == len(frames):
        return None
    if bad:
        option = "--forces-key" if forces else "--energy-key"
        there = ", ".join(sorted({*frames[0].info, *frames[0].arrays} - {"numbers", "positions"}))
        hint = (
            f"; no frame has the key {key!r}: name it with {option}; the first has {there}"
            if none == len(frames)
            else ""
        )
        raise UserError(f"{len(bad):,} structures without finite {kind} {key!r}: {_some(structures, bad)}{hint}")
    return found


def _predictions(
    frames: Sequence[Atoms],
    prepared: Prepared,
    indices: Indices,
    energy_keys: Mapping[str, str],
    forces_keys: Mapping[str, str],
    factor: float,
    seed: int,
) -> Predictions:
    """The record that ``experiment.predict`` makes of a network; NaN and masked where nothing is predicted."""
    structures, levels = prepared.structures, prepared.levels
    part = structures[indices]
    columns = [structures.level_index(name) for name in levels]
    energies = np.full((len(part), len(levels)), math.nan)
    forces = np.full((len(part.positions), len(levels), 3), math.nan, np.float32)
    energy_mask, force_mask = part.energy_mask[:, columns].copy(), part.force_mask[:, columns].copy()
    for column, level in enumerate(levels):
        if level not in energy_keys:
            energy_mask[:, column] = force_mask[:, column] = False
            continue
        found = _predicted(frames, structures, indices, energy_keys[level], forces=False)
        energies[:, column] = np.asarray(found) * factor
        key = forces_keys.get(level)
        vectors = None if key is None else _predicted(frames, structures, indices, key, forces=True)
        if vectors is None:
            force_mask[:, column] = False
        else:
            forces[:, column] = np.concatenate(vectors) * factor
    judged = as_predictions(prepared, levels, energies, forces, seed)
    return replace(judged, energy_mask=energy_mask, force_mask=force_mask)
