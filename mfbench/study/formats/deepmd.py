"""DeePMD-kit: NumPy systems of each level beside the frames, and the input of a multi-task training."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfbench.data.molecules import State, stated_in
from mfbench.elements import SYMBOLS
from mfbench.files import write_bytes
from mfbench.study.formats import extxyz
from mfbench.study.formats.base import Data, Format, Level, Part, script

CUTOFF = 6.0  # Angstrom


@dataclass(frozen=True)
class Group:
    """Structures with the same atoms in the same order, state and labels at a level."""

    state: State
    numbers: NDArray[np.int64]  # (atoms,)
    positions: NDArray[np.float64]  # (S, atoms, 3) Angstrom
    energies: NDArray[np.float64] | None  # (S,) eV
    forces: NDArray[np.float64] | None  # (S, atoms, 3) eV/Angstrom


def groups(data: Data, part: Part, level: Level) -> Iterator[Group]:
    """The labelled structures of a part at a level; nothing is padded, and no label is missing within a group."""
    structures, seen, column = data.prepared.training, data.parts[part], level.column
    found: dict[tuple[bytes, State, bool, bool], list[int]] = {}
    for s, energy, forces in zip(seen.indices.tolist(), seen.energy[:, column], seen.forces[:, column]):
        if energy or forces:
            atoms = slice(int(structures.offsets[s]), int(structures.offsets[s + 1]))
            state = stated_in(structures.molecules[structures.molecule[s]])
            key = structures.numbers[atoms].tobytes(), state, bool(energy), bool(forces)
            found.setdefault(key, []).append(s)
    for (_, state, energy, forces), members in found.items():
        ranges = [slice(int(structures.offsets[s]), int(structures.offsets[s + 1])) for s in members]
        yield Group(
            state,
            structures.numbers[ranges[0]].astype(np.int64),
            np.stack([structures.positions[one] for one in ranges]).astype(np.float64),
            structures.energies[members, column] if energy else None,
            np.stack([structures.forces[column, one] for one in ranges]).astype(np.float64) if forces else None,
        )


def _elements(data: Data) -> list[str]:
    """DeePMD's ``type_map``: all elements of the data."""
    return [SYMBOLS[z] for z in data.prepared.elements]


def _folder(path: Path, level: Level) -> Path:
    return path.with_name(f"{path.stem}.{level.slug}")


def write(data: Data, chosen: Format, part: Part, path: Path) -> list[Path]:
    """Write a part as frames, and as systems in a folder for each level beside it."""
    files = extxyz.write(data, chosen, part, path)
    if part == "test":
        return files
    names = _elements(data)
    for level in data.levels:
        for number, group in enumerate(groups(data, part, level)):
            system = _folder(path, level) / f"{number:03d}"
            types = " ".join(str(names.index(SYMBOLS[z])) for z in group.numbers)
            texts = {"type.raw": types, "type_map.raw": "\n".join(names), "nopbc": ""}
            for name, text in texts.items():
                write_bytes(system / name, f"{text}\n".encode() if text else b"")
            arrays = {"coord": group.positions, "energy": group.energies, "force": group.forces}
            for name, values in arrays.items():
                if values is not None:
                    content = io.BytesIO()
                    np.save(content, values.reshape(len(values), -1), allow_pickle=False)
                    write_bytes(system / "set.000" / f"{name}.npy", content.getvalue())
            files += sorted(one for one in system.rglob("*") if one.is_file())
    return files


def recipe(data: Data, files: Mapping[Part, list[Path]]) -> dict[str, str]:
    """``input.json``: one descriptor, a fitting net a level, levels drawn with equal probability."""

    def batches(part: Part, level: Level) -> dict[str, Any]:
        folder, count = _folder(files[part][0], level), sum(1 for _ in groups(data, part, level))
        return {"systems": [f"{folder.name}/{number:03d}" for number in range(count)], "batch_size": "auto:32"}

    descriptor = {
        "type": "se_e2_a",
        "rcut": CUTOFF,
        "rcut_smth": 0.5,
        "sel": "auto",
        "neuron": [25, 50, 100],
        "axis_neuron": 16,
        "seed": data.settings.seed,
    }
    fitting = {"neuron": [120, 120, 120], "seed": data.settings.seed}
    loss = {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1}
    trained = [one for one in data.levels if data.structures("train", one)]
    model, losses, sets = {}, {}, {}
    for level in trained:
        forces = bool(data.count(level, "forces", "train"))
        # A level without forces is learned from energies alone: their weight need not grow.
        none = {"start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 0, "limit_pref_f": 0}
        model[level.slug] = {"type_map": "elements", "descriptor": "descriptor", "fitting_net": fitting}
        losses[level.slug] = {"type": "ener", **(loss if forces else none)}
        sets[level.slug] = {"training_data": batches("train", level)}
        if "valid" in files and data.structures("valid", level):
            sets[level.slug]["validation_data"] = batches("valid", level)
    content = {
        "model": {"shared_dict": {"elements": _elements(data), "descriptor": descriptor}, "model_dict": model},
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-6, "decay_steps": 500},
        "loss_dict": losses,
        "training": {
            "model_prob": {level.slug: 1 / len(trained) for level in trained},
            "data_dict": sets,
            "numb_steps": 20_000,
            "seed": data.settings.seed,
            "disp_freq": 1000,
            "save_freq": 10_000,
        },
    }
    return {
        "input.json": json.dumps(content, indent=1) + "\n",
        "predict.py": script("predict.py"),
    }


DEEPMD = Format(
    name="deepmd",
    notes=(
        "Beside the frames stands a folder for each level, PART.LEVEL, with DeePMD's NumPy systems: structures with "
        "the same atoms in the same order and the same labels. A label that is missing has no file.",
        "`dp --pt train input.json` trains a fitting net for each level on one descriptor, drawing levels with equal "
        "probability (model_prob); `python predict.py model.ckpt.pt` predicts.",
    ),
    write=write,
    recipe=recipe,
)
