"""Other codes in the same comparison: their training data as extended XYZ, their predictions as run folders."""

import hashlib
import json
import math
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

import ase.io
import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mfbench import arms, evaluation, provenance, results, units
from mfbench.errors import UserError, unknown
from mfbench.experiment import Experiment, Prepared, as_predictions, build, prepare, structures_used
from mfbench.plots import EXTERNAL
from mfbench.potential import fit_atomic_energies
from mfbench.predictions import Predictions
from mfbench.splits import Indices
from mfbench.structures import SYMBOLS, BoolArray, Structures, save_arrays
from mfbench.training import Stage

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
POSITION_TOLERANCE = 1e-6  # Angstrom; programs that write 8 decimals round by 5e-9
NOT_PREDICTED = "not predicted by this code"
_KCAL = units.internal("kcal/mol")


@dataclass(frozen=True)
class Style:
    """How a code wants labels named, and what it is given where a label is missing."""

    split_levels: bool = False  # a frame per structure and level, and a file a level beside the joint one
    nan: bool = False  # every frame has every key, NaN where there is no label; else the key is left out
    notes: tuple[str, ...] = ()


FORMATS: dict[str, Style] = {
    "plain": Style(notes=("A frame has the keys of the labels it contributes and no others.",)),
    "mace": Style(
        split_levels=True,
        notes=(
            "MACE gives every frame of a file to the head that names the file, whatever `head` says in the frame: "
            "train from the files of `mace_heads`, which is what `heads:` in MACE's configuration takes.",
            "A missing label has no key and config_energy_weight or config_forces_weight 0.",
        ),
    ),
    "hippynn": Style(
        nan=True,
        notes=(
            "hippynn's AseDatabase wants every key in every frame and has no masks: a missing label is NaN, which a "
            "loss of one's own has to leave out.",
            "AseDatabase sorts frames by size: put predictions back in the order of `mfbench_structure` of this file.",
        ),
    ),
    "metatrain": Style(
        nan=True,
        notes=(
            "metatrain wants every key in every frame: a missing label is NaN. Its documentation promises that for "
            "stress only: see that your version leaves NaN energies and forces out of the loss, too.",
            "`metatrain_targets` is what `targets:` of a training set takes.",
        ),
    ),
}


@dataclass(frozen=True)
class Visible:
    """M structures and which of their labels at L levels an arm may see."""

    indices: Indices  # (M,) ascending
    energy: BoolArray  # (M, L)
    forces: BoolArray  # (M, L)

    def only(self, keep: BoolArray) -> "Visible":
        """Those of the structures, (M,) True where kept."""
        return Visible(self.indices[keep], self.energy[keep], self.forces[keep])


def visible(structures: Structures, stages: Sequence[Stage], part: Literal["train", "valid"]) -> Visible:
    """The labels that the stages of an arm train on (``valid``: are selected by), each once.

    A structure that some stage trains on is never in ``valid``, even where another stage (a committee's fold)
    is selected by it.

    Args:
        structures: with the labels that may be trained on, ``Prepared.training``.
    """
    sources = [source for stage in stages for source in (stage.train if part == "train" else stage.validation)]
    indices = np.unique(np.concatenate([np.zeros(0, np.int64), *(source.indices for source in sources)]))
    shape = (len(indices), len(structures.levels))
    energy, forces = np.zeros(shape, bool), np.zeros(shape, bool)
    for source in sources:
        rows = np.searchsorted(indices, source.indices)
        for term in source.terms:
            columns = [structures.level_index(name) for name in (term.level, term.minus) if name is not None]
            if term.energy:  # a difference counts, and needs, the energies of both levels
                there = structures.energy_mask[source.indices][:, columns].all(1)
                for column in columns:
                    energy[rows, column] |= there
            if term.forces:
                forces[rows, columns[0]] |= structures.force_mask[source.indices, columns[0]]
    found = Visible(indices, energy, forces)
    found = found.only(energy.any(1) | forces.any(1))
    if part == "valid":
        found = found.only(~np.isin(found.indices, visible(structures, stages, "train").indices))
    return found


def split_hash(prepared: Prepared) -> str:
    """A short name for what is trained, validated and judged on: equal for the same split and selection alone."""
    digest = hashlib.sha256(json.dumps([prepared.levels, len(prepared.structures)]).encode())

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key in sorted(value):
                add(f"{name}/{key}", value[key])
            return
        digest.update(f"{name} {len(value)} ".encode() + np.ascontiguousarray(value, np.int64).tobytes())

    for name, value in (*vars(prepared.split).items(), *prepared.selection._asdict().items()):
        add(name, value)
    return f"split-{digest.hexdigest()[:12]}"  # digits and an e alone would be read as a number


def slugs(levels: Sequence[str]) -> dict[str, str]:
    """By level, a name that is safe in keys and file names: ``ccsd(t)*/cbs`` -> ``ccsd_t_star_cbs``."""
    names: dict[str, str] = {}
    for level in levels:
        plain = re.sub(r"[^a-z0-9]+", "_", level.lower().replace("*", "_star_").replace("+", "_plus_")).strip("_")
        if plain in names.values():
            plain = f"{plain}_{len(names)}"
        names[level] = plain
    return names


# Writing


def export(
    settings: Experiment, part: Part, path: Path, format_name: str = "plain", data_folder: Path | None = None
) -> list[Path]:
    """Write the structures of a part with exactly the labels that an arm may see there.

    Args:
        settings: arm, sizes, seeds and labels are looked at; network and recipe are not.
        part: ``test`` holds the test and unseen parts, without any label.
        path: an extended XYZ file; ``PATH.json`` beside it says what the keys mean. Both appear whole, by rename.
        format_name: a key of ``FORMATS``.

    Returns:
        The files written, the JSON file last.

    Raises:
        UserError: an unknown name; or the part has no structure (LabelsMissing: no label that the arm needs).
    """
    if format_name not in FORMATS:
        raise unknown("format", format_name, FORMATS)
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    if path.suffix not in (".extxyz", ".xyz"):
        raise UserError(f"--out: expected a file name ending in .extxyz or .xyz, got {path.name}")
    style, prepared = FORMATS[format_name], prepare(settings, data_folder)
    structures = prepared.training
    _, stages = build(settings, prepared)
    shown = {"train": visible(structures, stages, "train"), "valid": visible(structures, stages, "valid")}
    names = slugs(prepared.levels)
    seen = [
        name
        for name in prepared.levels
        if any((v.energy | v.forces)[:, structures.level_index(name)].any() for v in shown.values())
    ]
    if part == "test":
        indices = np.concatenate([prepared.split.test, prepared.split.unseen])
        none = np.zeros((len(indices), len(structures.levels)), bool)
        chosen = Visible(indices, none, none)
    else:
        chosen = shown[part]
    if not len(chosen.indices):
        raise UserError(f"nothing to export: arm {settings.arm} has no structure in the part {part}")
    by_level = style.split_levels and part != "test"
    files = {name: path.with_name(f"{path.stem}.{names[name]}{path.suffix}") for name in seen} if by_level else {}
    frames = 0
    with ExitStack() as stack:
        whole = open(stack.enter_context(results.replacing(path)), "w", encoding="utf-8")  # noqa: SIM115
        stack.enter_context(whole)
        opened: dict[str, TextIO] = {}
        for name, file in files.items():
            opened[name] = open(stack.enter_context(results.replacing(file)), "w", encoding="utf-8")  # noqa: SIM115
            stack.enter_context(opened[name])
        keys = _keys(structures, shown, seen, names, style)
        for level, text in _frames(prepared, chosen, part, seen, names, keys, style):
            frames += 1
            whole.write(text)
            if level in opened:
                opened[level].write(text)
    about = _about(settings, prepared, part, path, format_name, chosen, shown["train"], seen, names, keys)
    about |= {"frames": frames, "structures": len(chosen.indices), "notes": style.notes}
    if by_level:
        about["mace_heads"] = {
            names[name]: {
                f"{part}_file": file.name,
                "E0s": str(_by_number(structures, shown["train"], name)),
            }
            for name, file in files.items()
        }
    described = path.with_name(f"{path.name}.json")
    results.write_json(described, about)
    return [path, *files.values(), described]


def _keys(
    structures: Structures, shown: Mapping[str, Visible], seen: Sequence[str], names: Mapping[str, str], style: Style
) -> dict[str, dict[str, str]]:
    """By level, the keys of its energies and forces; no key for what no structure has in either part."""
    keys = {}
    for name in seen:
        column = structures.level_index(name)
        ending = "" if style.split_levels else f"_{names[name]}"
        begin = "REF_" if style.split_levels else ""
        keys[name] = {
            kind: f"{begin}{kind}{ending}"
            for kind in ("energy", "forces")
            if any(getattr(v, kind)[:, column].any() for v in shown.values())
        }
    return keys


def _frames(
    prepared: Prepared,
    chosen: Visible,
    part: Part,
    seen: Sequence[str],
    names: Mapping[str, str],
    keys: Mapping[str, Mapping[str, str]],
    style: Style,
) -> Iterator[tuple[str, str]]:
    """(level, frame) in the order of the structures; the level is empty where a frame holds all of them."""
    structures, split = prepared.training, split_hash(prepared)
    unseen = set(prepared.split.unseen.tolist()) if part == "test" else set()
    for row, s in enumerate(chosen.indices.tolist()):
        atoms = slice(int(structures.offsets[s]), int(structures.offsets[s + 1]))
        numbers, positions = structures.numbers[atoms], structures.positions[atoms]
        same = {
            "mfbench_structure": s,
            "mfbench_geometry": int(structures.geometry[s]),
            "mfbench_molecule": structures.molecules[structures.molecule[s]],
            "mfbench_part": "unseen" if s in unseen else part,
            "mfbench_split": split,
        }
        if part == "test":
            head = {"head": names[prepared.high]} if style.split_levels else {}
            yield "", _frame(numbers, positions, {**same, **head}, {})
            continue
        info: dict[str, Any] = dict(same)
        arrays: dict[str, NDArray] = {}
        for name in seen:
            column = structures.level_index(name)
            there = {"energy": bool(chosen.energy[row, column]), "forces": bool(chosen.forces[row, column])}
            if style.split_levels:
                if not any(there.values()):
                    continue
                info, arrays = {**same, "head": names[name]}, {}
                info |= {f"config_{kind}_weight": float(has) for kind, has in there.items()}
            if there["energy"]:
                info[keys[name]["energy"]] = float(structures.energies[s, column])
            elif style.nan and "energy" in keys[name]:
                info[keys[name]["energy"]] = math.nan
            if there["forces"]:
                arrays[keys[name]["forces"]] = structures.forces[column, atoms]
            elif style.nan and "forces" in keys[name]:
                arrays[keys[name]["forces"]] = np.full(positions.shape, math.nan)
            if style.split_levels:
                yield name, _frame(numbers, positions, info, arrays)
        if not style.split_levels:
            yield "", _frame(numbers, positions, info, arrays)


def _frame(
    numbers: NDArray, positions: NDArray, info: Mapping[str, str | int | float], arrays: Mapping[str, NDArray]
) -> str:
    """One frame of extended XYZ in full precision: ase.io.write keeps 8 decimals only."""
    properties = ":".join(["species:S:1:pos:R:3", *(f"{name}:R:3" for name in arrays)])
    words = []
    for key, value in info.items():
        if isinstance(value, str):
            value = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        words.append(f"{key}={value}")
    lines = [str(len(numbers)), f'Properties={properties} {" ".join(words)} pbc="F F F"']
    table = np.concatenate([np.asarray(one, np.float64) for one in (positions, *arrays.values())], axis=1)
    for z, line in zip(numbers.tolist(), table.tolist()):
        lines.append(f"{SYMBOLS[z]} {' '.join(map(repr, line))}")
    return "\n".join(lines) + "\n"


def _by_number(structures: Structures, train: Visible, level: str) -> dict[int, float]:
    """Atomic energies in eV by atomic number, fitted as the arms do it, on the energies trained on."""
    column = structures.level_index(level)
    indices = train.indices[train.energy[:, column]]
    if not len(indices):
        return {}
    table = fit_atomic_energies(structures, indices, structures.energies[indices, column])
    return {int(z): float(table[z]) for z in np.unique(structures.numbers[structures.atoms_of(indices)])}


def _about(
    settings: Experiment,
    prepared: Prepared,
    part: Part,
    path: Path,
    format_name: str,
    chosen: Visible,
    train: Visible,
    seen: Sequence[str],
    names: Mapping[str, str],
    keys: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """What the JSON file says beside the frames."""
    structures = prepared.training
    levels: dict[str, Any] = {}
    for name in seen:
        column = structures.level_index(name)
        levels[name] = {
            "role": "high" if name == prepared.high else "low" if name == prepared.low else "further",
            "name": names[name],
            "energy_key": keys[name].get("energy"),
            "forces_key": keys[name].get("forces"),
            "energies": int(chosen.energy[:, column].sum()),
            "forces": int(chosen.forces[:, column].sum()),
            "atomic_energies": {SYMBOLS[z]: e for z, e in _by_number(structures, train, name).items()},
        }
    about: dict[str, Any] = {
        **settings.model_dump(mode="json", include={"case", "data", "arm", "n_high", "n_low", "split_seed", "seed"}),
        **settings.model_dump(mode="json", include={"labels", "overlap", "further", "exceed_max_train"}),
        "format": format_name,
        "part": part,
        "split": split_hash(prepared),
        "low": prepared.low,
        "high": prepared.high,
        "levels": levels,
        "units": {"energy": "eV", "forces": "eV/Angstrom", "positions": "Angstrom", "atomic_energies": "eV"},
    }
    about["command"] = _command(settings, part, path, format_name)
    if format_name == "metatrain":
        about["metatrain_targets"] = {
            "energy" if name == prepared.high else f"mtt::energy_{names[name]}": {
                "quantity": "energy",
                "key": keys[name]["energy"],
                "unit": "eV",
                "forces": {"key": keys[name]["forces"]} if "forces" in keys[name] else False,
            }
            for name in seen
            if "energy" in keys[name]
        }
    return about


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
        *(("--noise", f"{name.replace(' ', '-')}={x / _KCAL:.12g}") for name, x in settings.labels.noise.items()),
    ):
        words += [option, str(value)] if value is not None else []
    for option, given in (
        ("--exceed-max-train", settings.exceed_max_train),
        ("--no-low-energies", not settings.labels.low_energies),
        ("--no-low-forces", not settings.labels.low_forces),
    ):
        words += [option] if given else []
    return shlex.join([*words, "--part", part, "--format", format_name, "--out", path.name])


# Reading


def evaluate(
    settings: Experiment,
    name: str,
    path: Path,
    runs: Path,
    *,
    energy_keys: Mapping[str, str],
    forces_keys: Mapping[str, str],
    unit: str = "eV",
    data_folder: Path | None = None,
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
    prepared = prepare(settings, data_folder)
    for level in energy_keys:
        if level not in prepared.levels:
            raise unknown("level of this experiment", level, prepared.levels)
    frames = _read(path)
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    _check_frames(frames, prepared, indices)
    predictions = _predictions(frames, prepared, indices, energy_keys, forces_keys, units.internal(unit), settings.seed)
    missing = {level for level in prepared.levels if level not in energy_keys}
    _, stages = build(settings, prepared)
    table = evaluation.evaluate(predictions)
    absent = (table["n"] == 0) & _not_predicted(table, missing, predictions, prepared)
    table.loc[absent, "remark"] = NOT_PREDICTED
    split = split_hash(prepared)
    digest = hashlib.sha256(json.dumps([name, settings.deciding(), split], sort_keys=True).encode()).hexdigest()[:10]
    slug = re.sub(r"[^\w.+-]+", "_", name)
    n_low = structures_used(prepared.low, stages)
    n_high = settings.n_high or structures_used(prepared.high, stages, validated=True)
    folder = runs / f"{settings.case}-{settings.data}-{slug}-{EXTERNAL}-n{n_high}-s{settings.seed}-{digest}"
    for old in (folder, folder / results.EXTRA):  # until all of the new is there, there is nothing
        (old / results.METRICS_FILE).unlink(missing_ok=True)
    own = {"arm": name, "backbone": EXTERNAL, "preset": EXTERNAL}
    recipe = {"network", "optimisation", "arm_options", "epochs", "dtype", "threads", "pooled"}
    chosen = settings.model_dump(mode="json", exclude=recipe)
    results.write_json(folder / "settings.json", {**chosen, **own, "labels_of": settings.arm})
    described = provenance.describe(torch.device("cpu"), 1)
    results.write_json(
        folder / results.PROVENANCE_FILE,
        {
            **{key: described[key] for key in ("versions", "commit")},  # the machine that trained is not known
            "predictions": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
            "energy_keys": dict(energy_keys),
            "forces_keys": dict(forces_keys),
            "unit": unit,
            "split": split,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    )
    with results.replacing(folder / evaluation.PREDICTIONS_FILE) as temporary:
        save_arrays(temporary, predictions)
    table = table.assign(
        run=folder.name,
        case=settings.case,
        data=settings.data,
        **own,
        n_low=n_low,
        n_high=n_high,
        split_seed=settings.split_seed,
        seed=settings.seed,
        steps=0,
        steps_shared=0,
        seconds=0.0,
        structures_per_second=0.0,
        device="",
    )
    results.write_metrics(folder, table)
    evaluation.measure(folder)
    return folder


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
