"""What an arm may see: the labels that its lessons train on, and short names for levels and splits."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mfbench.data.splits import Indices
from mfbench.data.structures import BoolArray, Structures
from mfbench.learning.problem import Lesson
from mfbench.study.prepare import Prepared


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
