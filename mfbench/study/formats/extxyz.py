"""Frames of extended XYZ in full precision."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mfbench.data.molecules import stated_in
from mfbench.elements import SYMBOLS
from mfbench.files import replacing
from mfbench.study.formats.base import KINDS, Data, Format, Level, Part


def level_files(data: Data, chosen: Format, part: Part, path: Path) -> dict[str, Path]:
    """By slug, the files that hold one level alone; none of a level that has no label in that part."""
    if not chosen.heads or part == "test":
        return {}
    there = [level for level in data.levels if data.structures(part, level)]
    return {level.slug: path.with_name(f"{path.stem}.{level.slug}{path.suffix}") for level in there}


def write(data: Data, chosen: Format, part: Part, path: Path) -> list[Path]:
    """Write a part, and where the format has heads a file a level beside it; returns the files, ``path`` first."""
    files = level_files(data, chosen, part, path)
    with ExitStack() as stack:

        def opened(file: Path) -> TextIO:
            return stack.enter_context(open(stack.enter_context(replacing(file)), "w", encoding="utf-8"))

        whole, by_level = opened(path), {slug: opened(file) for slug, file in files.items()}
        for slug, text in frames(data, chosen, part):
            whole.write(text)
            if slug in by_level:
                by_level[slug].write(text)
    return [path, *files.values()]


def frames(data: Data, chosen: Format, part: Part) -> Iterator[tuple[str, str]]:
    """(slug, frame) in the order of the structures; the slug is empty where a frame holds all levels."""
    structures, seen = data.prepared.training, data.parts[part]
    unseen = set(data.prepared.split.unseen.tolist()) if part == "test" else set()
    for row, s in enumerate(seen.indices.tolist()):
        atoms = slice(int(structures.offsets[s]), int(structures.offsets[s + 1]))
        numbers, positions = structures.numbers[atoms], structures.positions[atoms]
        molecule = structures.molecules[structures.molecule[s]]
        state = {key: chosen.number(value) for key, value in stated_in(molecule).keyed().items()}
        same = {
            "mfbench_structure": chosen.number(s),
            "mfbench_geometry": chosen.number(int(structures.geometry[s])),
            "mfbench_molecule": molecule,
            "mfbench_part": "unseen" if s in unseen else part,
            "mfbench_split": data.split,
            **state,
        }
        if part == "test":
            yield "", frame(numbers, positions, {**same, **({"head": data.high} if chosen.heads else {})}, {})
            continue
        labels = {level.slug: _labels(data, chosen, part, row, s, level) for level in data.levels}
        if chosen.heads:
            for slug, (info, arrays) in labels.items():
                if info or arrays:
                    has = {"energy": bool(info), "forces": bool(arrays)}
                    weights = {f"config_{kind}_weight": float(one) for kind, one in has.items()}
                    yield slug, frame(numbers, positions, {**same, "head": slug, **weights, **info}, arrays)
        else:
            infos = {key: value for info, _ in labels.values() for key, value in info.items()}
            vectors = {key: value for _, arrays in labels.values() for key, value in arrays.items()}
            yield "", frame(numbers, positions, {**same, **infos}, vectors)


def _labels(
    data: Data, chosen: Format, part: Part, row: int, s: int, level: Level
) -> tuple[dict[str, float], dict[str, NDArray]]:
    """A structure's energy and forces at a level, by their keys."""
    structures, seen = data.prepared.training, data.parts[part]
    atoms = slice(int(structures.offsets[s]), int(structures.offsets[s + 1]))
    info: dict[str, float] = {}
    arrays: dict[str, NDArray] = {}
    for kind in KINDS:
        there = bool(getattr(seen, kind)[row, level.column])
        if kind not in level.keys or not (there or chosen.nan):
            continue
        if kind == "energy":
            info[level.keys[kind]] = float(structures.energies[s, level.column]) if there else math.nan
        else:
            none = np.full((atoms.stop - atoms.start, 3), math.nan)
            arrays[level.keys[kind]] = structures.forces[level.column, atoms] if there else none
    return info, arrays


def frame(numbers: NDArray, positions: NDArray, info: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> str:
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
