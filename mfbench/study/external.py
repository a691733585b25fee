"""Other codes as arms: their predictions of the exported test part, judged and written as a run folder."""

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mfbench import units
from mfbench.errors import UserError, unknown
from mfbench.files import sha256
from mfbench.learning import arms
from mfbench.learning.problem import Lesson
from mfbench.results.folder import PREDICTIONS_FILE, PROVENANCE_FILE, SETTINGS_FILE, RunFolder
from mfbench.results.predictions import Predictions, arrays_bytes
from mfbench.results.schema import EXTERNAL
from mfbench.study import evaluation, predicted, provenance
from mfbench.study.evaluation import as_predictions
from mfbench.study.experiment import Experiment
from mfbench.study.export import exported
from mfbench.study.prepare import Prepared, lessons_of, prepare
from mfbench.study.rows import NOT_TRAINED, identity
from mfbench.study.scale import check_energies, check_forces, check_level
from mfbench.study.visible import slugs, split_hash

NOT_PREDICTED = "not predicted by this code"


@dataclass(frozen=True)
class Cost:
    """What a code's training took, as its user says."""

    seconds: float | None = None
    steps: int | None = None
    parameters: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "steps", "parameters"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"--{name}: expected a number from 0 on, got {value}")

    @property
    def columns(self) -> dict[str, Any]:
        """Those of the results table."""
        said = {name: getattr(self, name) for name in ("seconds", "steps", "device")}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class Unit:
    """How energies are written: in a unit, which forces have per Angstrom, and of a molecule or an atom."""

    name: str
    per_atom: bool

    def __post_init__(self) -> None:
        if self.name not in units.ENERGY_UNITS:
            raise unknown("unit of energy", self.name, units.ENERGY_UNITS)


@dataclass(frozen=True)
class _Source:
    """Where the predictions of one level are: frames in the exported order, and the keys in them."""

    frames: Sequence[Atoms]
    energy: str
    forces: str | None


def evaluate(
    settings: Experiment | str | Path,
    name: str,
    path: str | Path | Mapping[str, str | Path],
    runs: str | Path,
    *,
    energy_keys: Mapping[str, str] | None = None,
    forces_keys: Mapping[str, str] | None = None,
    unit: str = "eV",
    per_atom: bool = False,
    level: str | None = None,
    cost: Cost | None = None,
    data_folder: str | Path | None = None,
) -> Path:
    """Judge another code's predictions by the measures of every arm, and write them as a finished run folder.

    Args:
        settings: of the export that the code learned from, or the JSON file beside an exported part.
        name: what the code is called in tables and plots, which add the arm whose labels it had; no arm's name. A run
            of that name and choice is replaced.
        path: extended XYZ, the exported test part with predictions in it; or, by level, a file for each.
        runs: folder of run folders.
        energy_keys, forces_keys: by level, the keys of the predictions; a calculator's results are looked at, too.
            A level without an energy key is not predicted; forces may be missing in every frame. By default all
            levels that the exports' own names are found of (``energy_NAME``, ``energy/NAME``, ``mtt::energy_NAME``),
            and ``energy`` or ``MACE_energy``.
        unit: of energies, and per Angstrom of forces: eV, Ha, kcal/mol, ...
        per_atom: whether energies are a molecule's divided by its number of atoms.
        level: what ``energy`` and ``forces`` of one file are (the high level).
        cost: of the code's training.

    Returns:
        The run folder.

    Raises:
        UserError: the frames are not those of the exported test part, or lack a prediction; or predictions fit the
            labels in another unit than that given.
    """
    if name in arms.arm_names():
        raise UserError(f"--name: expected a name that no arm has, got {name!r}; the arms are mfbench's own")
    if not re.fullmatch(r"\w[\w.+() -]*", name):
        raise UserError(f"--name: expected letters, digits, spaces and any of . + ( ) - _, got {name!r}")
    if not isinstance(settings, Experiment):
        settings = exported(settings)
    given, runs = Unit(unit, per_atom), Path(runs)
    prepared = prepare(settings, data_folder)
    files = {one: Path(file) for one, file in path.items()} if isinstance(path, Mapping) else Path(path)
    for one in (*(energy_keys or {}), *(files if isinstance(files, dict) else ()), *([level] if level else [])):
        if one not in prepared.levels:
            raise unknown("level of this experiment", one, prepared.levels)
    keys = None if energy_keys is None else (energy_keys, forces_keys or {})
    sources, matched_by = _sources(files, prepared, keys, level or prepared.high)
    lessons = lessons_of(settings, prepared)
    predictions = _predictions(sources, prepared, lessons, given, settings.seed)
    table = evaluation.evaluate(predictions)
    absent = (table["n"] == 0) & _not_predicted(table, set(prepared.levels) - sources.keys(), predictions, prepared)
    table.loc[absent, "remark"] = NOT_PREDICTED
    table.loc[table["n"] > 0, "remark"] = settings.known.remark  # such rows stand beside all recipes and name none
    folder, cost = _named(settings, name, prepared, lessons, runs), cost or Cost()
    own = {"arm": f"{name} (labels of {settings.variant})", "backbone": EXTERNAL, "preset": EXTERNAL}
    columns = {**NOT_TRAINED, **cost.columns}
    table = table.assign(**identity(settings, prepared, lessons, run=folder.name, **own), **columns)
    about = {
        "predictions": {one: _named_file(file) for one, file in files.items()}
        if isinstance(files, dict)
        else _named_file(files),
        "matched_by": matched_by,
        "energy_keys": {one: source.energy for one, source in sources.items()},
        "forces_keys": {one: source.forces for one, source in sources.items() if source.forces},
        "unit": unit,
        "per_atom": per_atom,
        "cost": vars(cost),
        "split": split_hash(prepared),
    }
    _write(folder, settings, {**own, "labels_of": settings.arm}, about, predictions, table)
    return folder.path


def _named_file(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256(path)}


def _write(
    folder: RunFolder,
    settings: Experiment,
    own: Mapping[str, Any],
    about: Mapping[str, Any],
    predictions: Predictions,
    table: Any,
) -> None:
    """Write the run folder, and judge it by metrics of one's own."""
    recipe = {"network", "optimisation", "arm_options", "epochs", "dtype", "threads", "pooled"}
    described = provenance.describe(torch.device("cpu"), 1)
    with folder.locked():
        folder.sweep()
        folder.reopen()
        folder.write_settings({**settings.model_dump(mode="json", exclude=recipe), **own})
        folder.write_provenance(
            {
                **{key: described[key] for key in ("versions", "commit")},  # the machine that trained is not known
                **about,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
        )
        folder.write(PREDICTIONS_FILE, arrays_bytes(predictions))
        folder.finish(table, [SETTINGS_FILE, PROVENANCE_FILE, PREDICTIONS_FILE])
    evaluation.measure(folder.path)


def _sources(
    files: Path | Mapping[str, Path],
    prepared: Prepared,
    keys: tuple[Mapping[str, str], Mapping[str, str]] | None,
    main: str,
) -> tuple[dict[str, _Source], str]:
    """By level, where its predictions are; and by what frames were known.

    Args:
        files: one, or one a level.
        keys: by level, of energies and of forces; None: by the exports' names.
        main: whose ``energy`` is, in one file.
    """
    names = slugs(prepared.levels)
    by_level = dict.fromkeys(prepared.levels, files) if isinstance(files, Path) else files
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    read = {file: predicted.in_order(predicted.read(file), prepared, indices, file) for file in {*by_level.values()}}
    found: dict[str, _Source] = {}
    for level, file in by_level.items():
        frames, _ = read[file]
        if keys is not None:
            pair = (keys[0][level], keys[1].get(level)) if level in keys[0] else None
        else:
            alone = level == main or not isinstance(files, Path)
            pair = predicted.found_keys(frames, names[level], alone)
            if pair is None and alone:
                raise predicted.no_energies(frames, level, names[level], file)
        if pair is not None:
            found[level] = _Source(frames, *pair)
    how = {matched_by for _, matched_by in read.values()}
    return found, " and ".join(sorted(how))


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


def _predictions(
    sources: Mapping[str, _Source], prepared: Prepared, lessons: Sequence[Lesson], unit: Unit, seed: int
) -> Predictions:
    """The record that ``evaluation.predict`` makes of a network; NaN and masked where nothing is predicted."""
    structures, levels = prepared.structures, prepared.levels
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    part = structures[indices]
    columns = [structures.level_index(name) for name in levels]
    energies = np.full((len(part), len(levels)), math.nan)
    forces = np.full((len(part.positions), len(levels), 3), math.nan, np.float32)
    energy_mask, force_mask = part.energy_mask[:, columns].copy(), part.force_mask[:, columns].copy()
    factor = units.internal(unit.name)
    for column, level in enumerate(levels):
        if level not in sources:
            energy_mask[:, column] = force_mask[:, column] = False
            continue
        source = sources[level]
        found = predicted.values(source.frames, structures, indices, source.energy, forces=False)
        given = np.asarray(found)
        there = energy_mask[:, column]
        labels = part.energies[there, columns[column]]
        others = sorted({*source.frames[0].info} - {source.energy})
        check_energies(level, given[there], labels, part.n_atoms[there], unit.name, unit.per_atom, others)
        energies[:, column] = given * factor * (part.n_atoms if unit.per_atom else 1)
        every = {name: (part.energies[:, k], part.energy_mask[:, k]) for name, k in zip(levels, columns)}
        check_level(level, energies[:, column], every)
        key = source.forces
        vectors = None if key is None else predicted.values(source.frames, structures, indices, key, forces=True)
        if vectors is None:
            force_mask[:, column] = False
            continue
        flat = np.concatenate(vectors)
        atoms = np.repeat(force_mask[:, column], part.n_atoms)
        check_forces(level, flat[atoms], part.forces[columns[column], atoms].astype(float), unit.name)
        forces[:, column] = flat * factor
    judged = as_predictions(prepared, lessons, levels, energies, forces, seed)
    return replace(judged, energy_mask=energy_mask, force_mask=force_mask)
