"""AIMNet: an HDF5 file a level beside the frames, with a group for each number of atoms."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench.files import replacing
from mfbench.study.formats import extxyz
from mfbench.study.formats.base import Data, Format, Part
from mfbench.study.formats.deepmd import Group, groups


def _labels(group: Group) -> dict[str, NDArray[np.float64]]:
    """A group's labels by AIMNet's names."""
    both = {"energy": group.energies, "forces": group.forces}
    return {name: values for name, values in both.items() if values is not None}


def write(data: Data, chosen: Format, part: Part, path: Path) -> list[Path]:
    """Write a part as frames; and beside it files for each level, one for each set of labels that structures have."""
    files = extxyz.write(data, chosen, part, path)
    for level in data.levels if part != "test" else ():
        by_labels: dict[str, list[Group]] = {}
        for group in groups(data, part, level):
            labels = set(_labels(group))
            by_labels.setdefault("" if labels == set(level.keys) else f".{labels.pop()}", []).append(group)
        for ending, found in by_labels.items():
            file = path.with_name(f"{path.stem}.{level.slug}{ending}.h5")
            with replacing(file) as temporary, h5py.File(temporary, "w") as made:
                for size in sorted({len(group.numbers) for group in found}):
                    _add(made.create_group(f"{size:03d}"), [group for group in found if len(group.numbers) == size])
            files.append(file)
    return files


def _add(made: h5py.Group, members: list[Group]) -> None:
    """The structures of one size: numbers, coordinates, charge and labels."""
    counts = [len(one.positions) for one in members]
    made["numbers"] = np.concatenate([np.tile(one.numbers, (n, 1)) for one, n in zip(members, counts)])
    made["coord"] = np.concatenate([one.positions for one in members])
    made["charge"] = np.zeros(sum(counts))
    for name in _labels(members[0]):
        made[name] = np.concatenate([_labels(one)[name] for one in members])


AIMNET = Format(
    name="aimnet",
    notes=(
        "Beside the frames stands a file for each level, PART.LEVEL.h5, as aimnet.data.SizeGroupedDataset reads it: a "
        "group for each number of atoms, with numbers, coord, charge (0), energy and forces. Structures that have "
        "only one of the level's labels are in PART.LEVEL.energy.h5 or PART.LEVEL.forces.h5.",
        "AIMNet has no heads and no missing labels: train one level, and go on from its weights for the next; leave "
        "what a file lacks out of `y:` and of the loss. `atomic_energies` are its file of self-atomic energies (sae).",
    ),
    write=write,
)
