"""AIMNet: an HDF5 file a level beside the frames, and a chain of trainings, from low to high level."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from mfbench.files import replacing
from mfbench.study.formats import extxyz
from mfbench.study.formats.base import KINDS, Data, Format, Kind, Level, Part, script
from mfbench.study.formats.deepmd import Group, groups

COMMENT = """\
#!/bin/sh
# Train:    sh train_aimnet.sh                        (in this folder; what is given there is given to every training)
# Predict:  python predict.py                         (energies and forces of every level)
# Judge:    mfbench evaluate --export test.extxyz.json --name AIMNet --predictions predicted.extxyz
# Each training goes on from the weights of the one before: AIMNet has no heads, and no missing labels.
set -e
"""

LOSSES = {"energy": "aimnet.train.loss.energy_loss_fn", "forces": "aimnet.train.loss.peratom_loss_fn"}


def _labels(group: Group) -> dict[Kind, NDArray[np.float64]]:
    """A group's labels by AIMNet's names."""
    both: dict[Kind, NDArray[np.float64] | None] = {"energy": group.energies, "forces": group.forces}
    return {name: values for name, values in both.items() if values is not None}


def _sets(data: Data, part: Part, level: Level) -> dict[str, list[Group]]:
    """The groups of a part that share their labels, by the ending of their file's name: none where all are there.

    The whole set is last: of a chain of trainings it has the last word.
    """
    found: dict[str, list[Group]] = {}
    for group in groups(data, part, level):
        labels = set(_labels(group))
        found.setdefault("" if labels == set(level.keys) else f".{labels.pop()}", []).append(group)
    return dict(sorted(found.items(), reverse=True))


def _file(path: Path, level: Level, ending: str) -> Path:
    return path.with_name(f"{path.stem}.{level.slug}{ending}.h5")


def write(data: Data, chosen: Format, part: Part, path: Path) -> list[Path]:
    """Write a part as frames; and beside it files for each level, one for each set of labels that structures have."""
    files = extxyz.write(data, chosen, part, path)
    for level in data.levels if part != "test" else ():
        for ending, found in _sets(data, part, level).items():
            file = _file(path, level, ending)
            with replacing(file) as temporary, h5py.File(temporary, "w") as made:
                for size in sorted({len(group.numbers) for group in found}):
                    _add(made.create_group(f"{size:03d}"), [group for group in found if len(group.numbers) == size])
            files.append(file)
    return files


def _add(made: h5py.Group, members: list[Group]) -> None:
    """The structures of one size: numbers, coordinates, charge, multiplicity and labels."""
    counts = [len(one.positions) for one in members]
    made["numbers"] = np.concatenate([np.tile(one.numbers, (n, 1)) for one, n in zip(members, counts)])
    made["coord"] = np.concatenate([one.positions for one in members])
    states = np.repeat([one.state.whole(one.numbers) for one in members], counts, axis=0).astype(np.float64)
    made["charge"], made["mult"] = states.T
    for name in _labels(members[0]):
        made[name] = np.concatenate([_labels(one)[name] for one in members])


@dataclass(frozen=True)
class Stage:
    """One training, on the structures of a level that have the same labels."""

    name: str  # of its configuration and its weights; a level's last stage has the level's name
    level: Level
    train: Path
    valid: Path  # where there is none, what is trained on: AIMNet's own split leaves nothing of small groups
    labels: tuple[Kind, ...]


def stages(data: Data, files: Mapping[Part, list[Path]]) -> list[Stage]:
    """The chain of trainings."""
    made = []
    for level in data.levels:
        sets = _sets(data, "train", level)
        for ending, found in sets.items():
            train = _file(files["train"][0], level, ending)
            valid = _file(files["valid"][0], level, ending) if "valid" in files else train
            made.append(
                Stage(
                    name=level.slug if ending == [*sets][-1] else f"{level.slug}{ending}",
                    level=level,
                    train=train,
                    valid=valid if valid in files.get("valid", ()) else train,
                    labels=tuple(kind for kind in KINDS if kind in _labels(found[0])),
                )
            )
    return made


def _configuration(stage: Stage) -> dict[str, Any]:
    """What differs from AIMNet's own configuration, over which it is merged."""
    there = stage.labels[0]

    def none() -> dict[str, Any]:
        return {"fn": LOSSES[there], "weight": 0.0, "kwargs": {"key_true": there, "key_pred": there}}

    return {
        "run_name": stage.name,
        "data": {
            "train": stage.train.name,
            "val": stage.valid.name,
            "sae": {"energy": {"file": f"{stage.level.slug}.sae.yaml"}},
            "y": list(stage.labels),
            "samplers": {
                "train": {"kwargs": {"batch_size": 32, "batches_per_epoch": -1}},  # an epoch sees all structures once
                "val": {"kwargs": {"batch_size": 256}},
            },
        },
        # AIMNet's loss has terms of energies, forces and charges, and merging takes none away: those without a label
        # are turned into one of weight 0 of a label that there is.
        "loss": {"kwargs": {"components": {term: none() for term in (*KINDS, "charges") if term not in stage.labels}}},
        "trainer": {"epochs": 500},
        "wandb": None,
    }


def recipe(data: Data, files: Mapping[Part, list[Path]]) -> dict[str, str]:
    """A configuration for each training, the levels' atomic energies, and programs that train and predict."""
    chain, texts, lines = stages(data, files), dict[str, str](), []
    for stage, before in zip(chain, [None, *chain]):
        texts[f"{stage.name}.yaml"] = yaml.safe_dump(_configuration(stage), sort_keys=False)
        texts[f"{stage.level.slug}.sae.yaml"] = yaml.safe_dump(dict(stage.level.atomic.energies))
        load = f" --load {before.name}.pt" if before else ""
        lines.append(f'aimnet train --config {stage.name}.yaml{load} --save {stage.name}.pt "$@"\n')
    return {**texts, "train_aimnet.sh": COMMENT + "".join(lines), "predict.py": script("predict.py")}


AIMNET = Format(
    name="aimnet",
    notes=(
        "Beside the frames stands a file for each level, PART.LEVEL.h5, as aimnet.data.SizeGroupedDataset reads it: a "
        "group for each number of atoms, with numbers, coord, charge, mult (the lowest multiplicity where none is "
        "stated), energy and forces. Structures that have only one of the level's labels are in PART.LEVEL.energy.h5 "
        "or PART.LEVEL.forces.h5.",
        "AIMNet has no heads and no missing labels: `sh train_aimnet.sh` trains on one level (LEVEL.yaml, merged over "
        "AIMNet's own configuration) and goes on from its weights for the next. Validation selects nothing, it "
        "lowers the learning rate: a level without validation structures is validated on those trained on.",
        "Energies are learned less the atomic energies of their level (LEVEL.sae.yaml), which `predict.py` adds again.",
        "AIMNet's own network looks at charge alone; mult is for one of two charge channels (`num_charge_channels: 2`, "
        "and `data.x` with mult).",
    ),
    write=write,
    recipe=recipe,
)
