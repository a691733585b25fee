"""What an arm may learn from, written for another code; and what was exported, read again."""

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mfbench import units
from mfbench.data.structures import Structures
from mfbench.elements import SYMBOLS
from mfbench.errors import UserError, unknown
from mfbench.files import read_json, write_bytes, write_json
from mfbench.models.atomic import N_ROWS, base_of, fit_atomic_energies
from mfbench.models.determined import determined
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.formats import FORMATS
from mfbench.study.formats.base import KINDS, PARTS, AtomicEnergies, Data, Format, Level, Part
from mfbench.study.prepare import Prepared, lessons_of, prepare
from mfbench.study.visible import Visible, slugs, split_hash, visible
from mfbench.units import EV_PER_KCAL

# Settings of an experiment that an export records, and from which it is known again.
_CHOICE = {"case", "case_file", "data", "arm", "n_high", "n_low", "split_seed", "seed"}
_LABELS = {"labels", "overlap", "further", "exceed_max_train", "arm_options"}


def export(
    settings: Experiment,
    part: Part | Literal["all"],
    path: str | Path,
    format_name: str = "plain",
    data_folder: str | Path | None = None,
) -> list[Path]:
    """Write the structures of a part with exactly the labels that an arm may see there.

    Args:
        settings: arm, sizes, seeds and labels are looked at; network and recipe are not.
        part: ``test`` holds the test and unseen parts, without any label; ``all`` is every part that has structures,
            and what the code is trained from: a configuration or program that it takes as it is.
        path: a file; ``PATH.json`` beside it says what the keys mean. Of all parts, a folder. Files appear whole, by
            rename.
        format_name: a key of ``FORMATS``.

    Returns:
        The files written; of one part, the JSON file last.

    Raises:
        UserError: an unknown name; or the part has no structure (LabelsMissing: no label that the arm needs).
    """
    if format_name not in FORMATS:
        raise unknown("format", format_name, FORMATS)
    if part not in (*PARTS, "all"):
        raise unknown("part", part, (*PARTS, "all"))
    path, chosen = Path(path), FORMATS[format_name]
    if part == "all":
        if path.suffix in chosen.suffixes or path.is_file():
            raise UserError(f"--out: expected a folder for all parts, got {path}; name one, or a --part")
    elif path.suffix not in chosen.suffixes:
        ends = " or ".join(chosen.suffixes)
        raise UserError(f"--out: expected a file name ending in {ends}, got {path.name}")
    data = _data(settings, prepare(settings, data_folder), chosen)
    if part != "all":
        if not data.structures(part):
            raise UserError(f"nothing to export: arm {settings.arm} has no structure in the part {part}")
        return _part(data, chosen, part, path)
    parts: dict[Part, list[Path]] = {
        one: _part(data, chosen, one, path / f"{one}{chosen.suffixes[0]}") for one in PARTS if data.structures(one)
    }
    recipe = chosen.recipe(data, {one: files[:-1] for one, files in parts.items()})
    _remove_left(path, chosen, parts, data)
    for name, text in recipe.items():
        write_bytes(path / name, text.encode())
    return [*(file for files in parts.values() for file in files), *(path / name for name in recipe)]


def exported(path: str | Path) -> Experiment:
    """The experiment that an export's JSON file, ``FILE.json``, says it was made for; network and recipe apart.

    Raises:
        UserError: the file is no such JSON, or what it names is not known here.
    """
    path = Path(path)
    about = read_json(path)
    if missing := sorted({"case", "data", "arm", "n_high", "split"} - about.keys()):
        raise UserError(f"{path}: expected the JSON file beside an export (test.extxyz.json), got none of {missing}")
    own = {key: about[key] for key in (_CHOICE | _LABELS) - {"case", "case_file", "arm"} if key in about}
    return experiment(about.get("case_file") or about["case"], about["arm"], **own)


def _data(settings: Experiment, prepared: Prepared, chosen: Format) -> Data:
    """All that there is to write."""
    structures, lessons = prepared.training, lessons_of(settings, prepared)
    shown: dict[Part, Visible] = {
        "train": visible(structures, lessons, "train"),
        "valid": visible(structures, lessons, "valid"),
    }
    names, atomic = slugs(prepared.levels), _atomic(structures, shown["train"])
    levels = []
    for name in prepared.levels:
        column = structures.level_index(name)
        kinds = [kind for kind in KINDS if any(getattr(one, kind)[:, column].any() for one in shown.values())]
        keys = {kind: chosen.key(kind, names[name]) for kind in kinds}
        if keys:
            levels.append(Level(name, names[name], column, keys, atomic.get(name, AtomicEnergies({}))))
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    none = np.zeros((len(indices), len(structures.levels)), bool)
    parts = {**shown, "test": Visible(indices, none, none)}
    return Data(settings, prepared, split_hash(prepared), parts, tuple(levels), names[prepared.high])


def _part(data: Data, chosen: Format, part: Part, path: Path) -> list[Path]:
    """Write one part and its JSON file, in place of what an earlier export had beside it for each level."""
    for slug in slugs(data.prepared.levels).values():
        for left in (path.with_name(f"{path.stem}.{slug}"), *path.parent.glob(f"{path.stem}.{slug}.*")):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
    files = chosen.write(data, chosen, part, path)
    described = path.with_name(f"{path.name}.json")
    write_json(described, {**_about(data, chosen, part, path), **chosen.about(data, part, files)})
    return [*files, described]


def _remove_left(folder: Path, chosen: Format, parts: Mapping[Part, list[Path]], data: Data) -> None:
    """Remove the files of parts, and the settings of levels, that an earlier export into this folder had."""
    for slug in slugs(data.prepared.levels).values():
        for file in folder.glob(f"{slug}.*yaml"):
            file.unlink()
    for part in (one for one in PARTS if one not in parts):
        path = folder / f"{part}{chosen.suffixes[0]}"
        for file in (path, path.with_name(f"{path.name}.json")):
            file.unlink(missing_ok=True)


def _atomic(structures: Structures, train: Visible) -> dict[str, AtomicEnergies]:
    """Atomic energies by level, fitted as the arms do it, on the energies trained on."""
    labelled = {name: train.indices[train.energy[:, k]] for k, name in enumerate(structures.levels)}
    labelled = {name: indices for name, indices in labelled.items() if len(indices)}
    what, below, found = determined(structures, labelled), np.zeros(N_ROWS), {}
    for name, one in what.items():
        indices, column = labelled[name], structures.level_index(name)
        start = base_of(what, name, below)
        below = fit_atomic_energies(structures, indices, structures.energies[indices, column], start)
        used = np.unique(structures.numbers[structures.atoms_of(indices)])
        valued = [z for z, origin in one.origins.items() if z in used or origin != "nothing"]
        come_from = one.come_from(one.undetermined) if one.undetermined else ""
        found[name] = AtomicEnergies({z: float(below[z]) for z in valued}, not one.undetermined, come_from)
    return found


def _about(data: Data, chosen: Format, part: Part, path: Path) -> dict[str, Any]:
    """What the JSON file says beside the frames."""
    settings, prepared = data.settings, data.prepared
    levels: dict[str, Any] = {}
    for level in data.levels:
        role = "high" if level.name == prepared.high else "low" if level.name == prepared.low else "further"
        levels[level.name] = {
            "role": role,
            "name": level.slug,
            "energy_key": level.keys.get("energy"),
            "forces_key": level.keys.get("forces"),
            "energies": data.count(level, "energy", part),
            "forces": data.count(level, "forces", part),
            "atomic_energies": {SYMBOLS[z]: e for z, e in level.atomic.energies.items()},
        }
        if level.atomic.energies:
            told = level.atomic
            levels[level.name] |= {"determined": told.determined, "undetermined_come_from": told.come_from}
    by_level = chosen.heads and part != "test"
    frames = sum(data.structures(part, level) for level in data.levels) if by_level else data.structures(part)
    return {
        **settings.model_dump(mode="json", include=_CHOICE),
        **settings.model_dump(mode="json", include=_LABELS),
        "format": chosen.name,
        "part": part,
        "split": data.split,
        "low": prepared.low,
        "high": prepared.high,
        "levels": levels,
        "units": {"energy": "eV", "forces": "eV/Angstrom", "positions": "Angstrom", "atomic_energies": "eV"},
        "constants": units.CONSTANTS,
        "frames": frames,
        "structures": data.structures(part),
        "notes": chosen.notes,
        "command": _command(settings, part, path, chosen.name),
    }


def _command(settings: Experiment, part: Part, path: Path, format_name: str) -> str:
    """The command line that writes the same file."""
    words = ["mfbench", "export", settings.case_file or settings.case, "--data", settings.data, "--arm", settings.arm]
    for option, value in (
        ("--n-high", settings.n_high or None),
        ("--n-low", settings.n_low),
        ("--seed", settings.seed),
        ("--split-seed", settings.split_seed),
        ("--overlap", settings.overlap),
        ("--high-forces", settings.labels.high_forces),
        *(("--further", name if n is None else f"{name}={n}") for name, n in settings.further.items()),
        *(("--noise", f"{name.replace(' ', '-')}={x / EV_PER_KCAL:.12g}") for name, x in settings.labels.noise.items()),
    ):
        words += [option, str(value)] if value is not None else []
    for option, given in (
        ("--exceed-max-train", settings.exceed_max_train),
        ("--no-low-energies", not settings.labels.low_energies),
        ("--no-low-forces", not settings.labels.low_forces),
    ):
        words += [option] if given else []
    for name, value in _own_options(settings).items():
        words += ["--arm-option", f"{name}={json.dumps(value)}"]
    return shlex.join([*words, "--part", part, "--format", format_name, "--out", path.name])


def _own_options(settings: Experiment) -> dict[str, Any]:
    """The arm's options that differ from those that it has where none are given, by their dotted names."""

    def flat(options: Mapping[str, Any], at: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in options.items():
            found |= flat(value, f"{at}{name}.") if isinstance(value, Mapping) else {f"{at}{name}": value}
        return found

    usual = experiment(settings.case_file or settings.case, settings.arm, data=settings.data).arm_options
    plain = flat(usual)
    return {name: value for name, value in flat(settings.arm_options).items() if plain.get(name) != value}
