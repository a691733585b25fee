"""Predictions as another code wrote them: which frame is which structure, and which key is which level's."""

import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mfbench.data.splits import Indices
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.study.prepare import Prepared
from mfbench.study.visible import split_hash

POSITION_TOLERANCE = 1e-6  # Angstrom; programs that write 8 decimals round by 5e-9, float32 by 5e-7

_PROPERTIES, _COLONS = re.compile(r"Properties=\S+"), "__colons__"

BY_NUMBER, BY_ORDER = "mfbench_structure", "order, elements and positions"

# What codes call the energy of a level that has a file of its own, or of the one level that they know.
_ALONE = ("energy", "MACE_energy")


def read(path: Path) -> list[Atoms]:
    """The frames of a file of extended XYZ; raises UserError where it is none."""
    if not path.is_file():
        raise UserError(f"--predictions: no such file: {path}")
    try:
        text = path.read_text(encoding="utf-8")
        # metatrain writes forces[mtt::energy] among the Properties, which a colon parts.
        safe = _PROPERTIES.sub(lambda match: match[0].replace("::", _COLONS), text)
        frames = list(ase.io.iread(io.StringIO(safe), index=":", format="extxyz"))
    except (OSError, ValueError, KeyError, IndexError, AssertionError, StopIteration) as error:
        raise UserError(f"{path}: expected frames of extended XYZ: {error}") from error
    for frame in frames if safe != text else ():
        frame.arrays = {key.replace(_COLONS, "::"): value for key, value in frame.arrays.items()}
    return frames


def _some(structures: Structures, indices: Sequence[int]) -> str:
    """The first few of some structures, for messages."""
    named = [
        f"{s} ({structures.where(s)})" if 0 <= s < len(structures) else f"{s} (not in the data)" for s in indices[:3]
    ]
    return "; ".join(named) + (f"; and {len(indices) - 3:,} more" if len(indices) > 3 else "")


# Which frame is which structure


def _number(value: Any) -> int | None:
    """A structure's number as a code kept it: an integer, a float, or an array of one of them; else None."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        return None
    number = float(array.reshape(()))
    return int(number) if number.is_integer() else None


def in_order(frames: Sequence[Atoms], prepared: Prepared, indices: Indices, path: Path) -> tuple[list[Atoms], str]:
    """The frames in the order of the exported test part, and by what they were known.

    Frames that carry ``mfbench_structure`` may come in any order (hippynn sorts by size). Of those of codes that drop
    what they do not know (metatrain), count, order, elements and positions have to be those exported.

    Raises:
        UserError: the frames are not those of the exported test part, each once and untouched.
    """
    numbers = [_number(frame.info.get("mfbench_structure")) for frame in frames]
    bare = [k for k, number in enumerate(numbers) if number is None]
    matched_by = BY_ORDER if frames and len(bare) == len(frames) else BY_NUMBER
    if matched_by == BY_ORDER:
        _check_count(frames, indices, path)
        found = list(frames)
    else:
        if bare:
            raise UserError(
                f"{path}: expected mfbench_structure, as exported, in every frame or in none, {len(bare):,} of "
                f"{len(frames):,} lack it (frames {', '.join(map(str, bare[:3]))}, counted from 0); keep the exported "
                "frames as they are"
            )
        found = _by_number(frames, [number for number in numbers if number is not None], prepared, indices)
    _check_split(frames, prepared)
    _check_atoms(found, prepared.structures, indices, matched_by)
    return found, matched_by


def _check_count(frames: Sequence[Atoms], indices: Indices, path: Path) -> None:
    if len(frames) != len(indices):
        raise UserError(
            f"{path}: expected the {len(indices):,} structures of the exported test part in its order, got "
            f"{len(frames):,} frames, which carry no mfbench_structure by which they could be told"
        )


def _check_split(frames: Sequence[Atoms], prepared: Prepared) -> None:
    expected = split_hash(prepared)
    there = {str(frame.info["mfbench_split"]) for frame in frames if "mfbench_split" in frame.info}
    if other := sorted(there - {expected}):
        raise UserError(
            f"predictions for another split or selection: expected {expected}, got {', '.join(other[:3])}; "
            "give the data, sizes and seeds of the export, or its JSON file (--export)"
        )


def _by_number(frames: Sequence[Atoms], numbers: Sequence[int], prepared: Prepared, indices: Indices) -> list[Atoms]:
    """The frames by the numbers that they carry, in the exported order."""
    structures, wanted, times = prepared.structures, indices.tolist(), Counter(numbers)
    if missing := [s for s in wanted if s not in times]:
        raise UserError(f"{len(missing):,} test structures without a prediction: {_some(structures, missing)}")
    if extra := sorted(times.keys() - set(wanted)):
        raise UserError(f"{len(extra):,} frames that are not in the test part: {_some(structures, extra)}")
    if twice := [s for s, count in times.items() if count > 1]:
        raise UserError(f"{len(twice):,} structures predicted more than once: {_some(structures, twice)}")
    by_number = dict(zip(numbers, frames))
    return [by_number[s] for s in wanted]


def _check_atoms(frames: Sequence[Atoms], structures: Structures, indices: Indices, matched_by: str) -> None:
    """That elements and positions are those exported."""
    elements, positions = [], []
    for s, frame in zip(indices.tolist(), frames):
        atoms = slice(int(structures.offsets[s]), int(structures.offsets[s + 1]))
        if not np.array_equal(frame.numbers, structures.numbers[atoms]):
            elements.append(s)
        elif not (np.abs(frame.positions - structures.positions[atoms]) <= POSITION_TOLERANCE).all():
            positions.append(s)
    how = "" if matched_by == BY_NUMBER else "; frames without mfbench_structure have to be in the exported order"
    if elements:
        raise UserError(
            f"{len(elements):,} structures with other elements than exported: {_some(structures, elements)}{how}"
        )
    if positions:
        raise UserError(
            f"{len(positions):,} structures with positions more than {POSITION_TOLERANCE:g} Angstrom from the exported "
            f"ones: {_some(structures, positions)}{how}"
        )


# Which key is which level's


def found_keys(frames: Sequence[Atoms], slug: str, alone: bool) -> tuple[str, str] | None:
    """The keys of a level's energies and forces by the names that exports give them; None where there are none.

    Args:
        slug: the level's name in the export.
        alone: also what a code that predicts one level alone calls it.
    """
    named = (f"energy/{slug}", f"mtt::energy_{slug}", f"energy_{slug}", *(_ALONE if alone else ()))
    if not frames:
        return (_ALONE[0], "forces") if alone else None
    there = _keys(frames[0])
    for energy in named:
        if energy in there:
            # ASE drops the brackets of metatrain's forces[energy/name] when it reads them.
            forces = (f"forces[{energy}]", f"forces{energy}", energy.replace("energy", "forces", 1))
            return energy, next((key for key in forces if key in there), forces[-1])
    return None


def _keys(frame: Atoms) -> set[str]:
    """All that a frame says of itself, its calculator's results included."""
    results = set() if frame.calc is None else set(frame.calc.results)
    return {*frame.info, *frame.arrays, *results} - {"numbers", "positions"}


def no_energies(frames: Sequence[Atoms], level: str, slug: str, path: Path) -> UserError:
    """The error for predictions in which no key is known to be the energy of a level."""
    there = ", ".join(sorted(_keys(frames[0]))) if frames else "no frame"
    return UserError(
        f"{path}: expected the energies of {level} as {', '.join((*_ALONE, f'energy_{slug}'))} or energy/{slug}, got "
        f"{there}; name the key with --energy-key"
    )


# Values


def _found(frame: Atoms, key: str, kept: Mapping[str, Any]) -> Any:
    """A prediction of a frame: among its own, else among its calculator's; None where there is none."""
    return kept[key] if key in kept else frame.calc.results.get(key) if frame.calc is not None else None


def values(
    frames: Sequence[Atoms], structures: Structures, indices: Indices, key: str, forces: bool
) -> list[NDArray[np.float64]] | None:
    """Predictions of every frame, () or (atoms, 3) each; None: forces that no frame has.

    Raises:
        UserError: some frames lack them.
    """
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
        there = ", ".join(sorted(_keys(frames[0])))
        hint = (
            f"; no frame has the key {key!r}: name it with {option}; the first has {there}"
            if none == len(frames)
            else ""
        )
        raise UserError(f"{len(bad):,} structures without finite {kind} {key!r}: {_some(structures, bad)}{hint}")
    return found
