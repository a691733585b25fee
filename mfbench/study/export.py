"""Other codes in the same comparison: their training data as extended XYZ, their predictions as run folders."""

import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from mfbench.data.splits import Indices
from mfbench.data.structures import BoolArray, Structures
from mfbench.elements import SYMBOLS
from mfbench.errors import UserError, unknown
from mfbench.files import replacing, write_json
from mfbench.learning.problem import Lesson
from mfbench.models.atomic import N_ROWS, base_of, fit_atomic_energies
from mfbench.models.determined import determined
from mfbench.study.experiment import Experiment
from mfbench.study.prepare import Prepared, lessons_of, prepare
from mfbench.units import EV_PER_KCAL

Part = Literal["train", "valid", "test"]

PARTS: tuple[Part, ...] = ("train", "valid", "test")


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


def visible(structures: Structures, lessons: Sequence[Lesson], part: Literal["train", "valid"]) -> Visible:
    """The labels that the lessons of an arm train on (``valid``: are selected by), each once.

    A structure that some stage trains on is never in ``valid``, even where another stage (a committee's fold)
    is selected by it.

    Args:
        structures: with the labels that may be trained on, ``Prepared.training``.
    """
    sources = [source for one in lessons for source in (one.train if part == "train" else one.validation)]
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
        found = found.only(~np.isin(found.indices, visible(structures, lessons, "train").indices))
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

    for name, value in (*vars(prepared.split).items(), *prepared.selection.named().items()):
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
    settings: Experiment,
    part: Part,
    path: str | Path,
    format_name: str = "plain",
    data_folder: str | Path | None = None,
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
    path = Path(path)
    if path.suffix not in (".extxyz", ".xyz"):
        raise UserError(f"--out: expected a file name ending in .extxyz or .xyz, got {path.name}")
    style, prepared = FORMATS[format_name], prepare(settings, data_folder)
    structures = prepared.training
    lessons = lessons_of(settings, prepared)
    shown = {"train": visible(structures, lessons, "train"), "valid": visible(structures, lessons, "valid")}
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
        whole = open(stack.enter_context(replacing(path)), "w", encoding="utf-8")  # noqa: SIM115
        stack.enter_context(whole)
        opened: dict[str, TextIO] = {}
        for name, file in files.items():
            opened[name] = open(stack.enter_context(replacing(file)), "w", encoding="utf-8")  # noqa: SIM115
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
        atomic = _atomic(structures, shown["train"])
        about["mace_heads"] = {
            names[name]: {
                f"{part}_file": file.name,
                "E0s": str(atomic[name].energies if name in atomic else {}),
            }
            for name, file in files.items()
        }
    described = path.with_name(f"{path.name}.json")
    write_json(described, about)
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


@dataclass(frozen=True)
class _Atomic:
    """A level's atomic energies."""

    energies: dict[int, float]  # eV, by atomic number
    determined: bool  # whether the energies trained on tell each of them
    come_from: str  # in words, what tells the others


def _atomic(structures: Structures, train: Visible) -> dict[str, _Atomic]:
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
        found[name] = _Atomic({z: float(below[z]) for z in valued}, not one.undetermined, come_from)
    return found


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
    atomic = _atomic(structures, train)
    for name in seen:
        column = structures.level_index(name)
        levels[name] = {
            "role": "high" if name == prepared.high else "low" if name == prepared.low else "further",
            "name": names[name],
            "energy_key": keys[name].get("energy"),
            "forces_key": keys[name].get("forces"),
            "energies": int(chosen.energy[:, column].sum()),
            "forces": int(chosen.forces[:, column].sum()),
            "atomic_energies": {},
        }
        if name in atomic:
            one = atomic[name]
            levels[name]["atomic_energies"] = {SYMBOLS[z]: energy for z, energy in one.energies.items()}
            levels[name] |= {"determined": one.determined, "undetermined_come_from": one.come_from}
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
        *(("--noise", f"{name.replace(' ', '-')}={x / EV_PER_KCAL:.12g}") for name, x in settings.labels.noise.items()),
    ):
        words += [option, str(value)] if value is not None else []
    for option, given in (
        ("--exceed-max-train", settings.exceed_max_train),
        ("--no-low-energies", not settings.labels.low_energies),
        ("--no-low-forces", not settings.labels.low_forces),
    ):
        words += [option] if given else []
    return shlex.join([*words, "--part", part, "--format", format_name, "--out", path.name])
