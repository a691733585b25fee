"""Structures one by one, as files of people's own have them, put together into frames of one molecule.

A structure without a key has no such label. Which level a label is of may depend on another key (``where``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Manifest
from mfbench.data.molecules import named, state_of
from mfbench.data.readers.base import labels_of, numeric, positions_of
from mfbench.data.structures import Frames
from mfbench.elements import formula
from mfbench.errors import DataCorrupt

MOST_FRAMES = 4096  # that are put together, where neighbours are one molecule

# Keys by which people part the labels of several levels in one file; and one that parts structures as often.
_PARTING = ("head", "theory", "level", "method", "level_of_theory")
_CONFIG = "config_type"


class Record(NamedTuple):
    """One structure as a file has it."""

    numbers: NDArray[np.integer]  # (N,)
    positions: NDArray[np.floating]  # (N, 3)
    values: Mapping[str, Any]  # labels by key; a key may be missing
    words: Mapping[str, str]  # all other keys, as they are written
    notes: tuple[str, ...] = ()  # for people
    bare: bool = False  # of xyz: its comment line has words and no keys


@dataclass
class _Seen:
    """What was seen of a file so far."""

    keys: set[str] = field(default_factory=set)
    bare: bool = False
    molecules: bool = False  # a structure of more than one atom
    parting: dict[str, dict[str, set[str]]] = field(default_factory=dict)  # key -> label key -> values


def frames_of_records(path: Path, content: Content, manifest: Manifest, records: Iterable[Record]) -> Iterator[Frames]:
    """Neighbours of one molecule, set and level together.

    Raises:
        DataCorrupt: a key that no structure has; or one key's labels are of several levels, as another key tells.
    """
    labels = manifest.labels_in(content)
    of_labels = {key for one in labels for part in (one.energy, one.forces) if part for key in part.key}
    tags = {key for key in (manifest.molecule_key, manifest.set_key) if key} | {k for one in labels for k in one.where}
    parting = [key for key in (*_PARTING, _CONFIG) if key not in tags and key not in manifest.ignored_keys]
    seen, run, row = _Seen(), list[Record](), 0
    kind: tuple[Any, ...] = ()
    for record in records:
        seen.keys |= of_labels & record.values.keys() | tags & record.words.keys()
        seen.bare |= record.bare
        seen.molecules |= len(record.numbers) > 1
        if len(record.numbers) > 1:
            for key in parting:
                if key in record.words:
                    for label in of_labels & record.values.keys():
                        seen.parting.setdefault(key, {}).setdefault(label, set()).add(record.words[key])
        own = _kind(path, content, manifest, record, row + len(run))
        if run and (len(run) == MOST_FRAMES or own != kind):
            yield _together(path, content, manifest, run, row, kind)
            row, run = row + len(run), []
        kind = own
        run.append(record)
    if run:
        last = _together(path, content, manifest, run, row, kind)
        _require(path, seen, of_labels, tags)
        _not_parted(path, seen)
        yield replace(last, notes={**last.notes, **_ignored(seen, row + len(run))})


def _require(path: Path, seen: _Seen, of_labels: set[str], tags: set[str]) -> None:
    if not seen.molecules and of_labels & seen.keys:  # free atoms: a file of them needs energies alone
        return
    if missing := (of_labels | tags) - seen.keys:
        hint = (
            "; its comment lines are bare: name their words in order with `comment: [energy]`, and what follows the "
            "positions by number with `columns: {forces: 5}`"
            if seen.bare
            else ""
        )
        raise DataCorrupt(
            f"{path}: expected the keys {sorted(missing)} that the manifest names; no structure has them{hint}"
        )


def _not_parted(path: Path, seen: _Seen) -> None:
    """Refuse labels of several levels under one key, where a key tells them apart that the manifest ignores."""
    for key, by_label in seen.parting.items():
        for label, values in by_label.items():
            if len(values) > 1 and key != _CONFIG:
                named = ", ".join(sorted(values)[:4])
                raise DataCorrupt(
                    f"{path}: key {label!r}: expected labels of one level; the key {key!r} parts them ({named}): give "
                    f"each level its own with `where: {{{key}: {min(values)}}}`; if all are one level, say "
                    f"`ignored_keys: [{key}]`"
                )


def _ignored(seen: _Seen, count: int) -> dict[str, int]:
    """For people: the key that parts structures as often as labels, where the manifest does not name it."""
    values = set().union(*seen.parting.get(_CONFIG, {}).values())
    named = ", ".join(sorted(values)[:6])
    return {f"{_CONFIG} has {len(values)} values ({named}) and is not looked at": count} if len(values) > 1 else {}


def _kind(
    path: Path, content: Content, manifest: Manifest, record: Record, row: int
) -> tuple[bytes, str, str, tuple[tuple[str, str], ...]]:
    """What neighbours must share to be put together: atoms, name, set, and the keys that labels depend on."""
    words = record.words
    keys = {key for one in manifest.labels_in(content) for key in one.where}
    numbers = numeric(path, "numbers", record.numbers)
    stated = {key: value for key, value in words.items() if key not in manifest.ignored_keys}
    state = state_of(stated, numbers, (manifest.charge_key, manifest.spin_key), f"{path}: structure {row}")
    name = content.molecule or (words.get(manifest.molecule_key, "") if manifest.molecule_key else "")
    chosen = words.get(manifest.set_key, "") if manifest.set_key else ""
    told = tuple(sorted((key, words[key]) for key in keys & words.keys()))
    return numbers.tobytes(), named(name or formula(numbers), state), chosen, told


def _together(
    path: Path, content: Content, manifest: Manifest, run: list[Record], row: int, kind: tuple[Any, ...]
) -> Frames:
    numbers = numeric(path, "numbers", run[0].numbers)
    _, molecule, named_set, told = kind
    forces_keys = {key for one in manifest.labels_in(content) if one.forces for key in one.forces.key}

    def values(key: str) -> NDArray:
        shape = (len(numbers), 3) if key in forces_keys else ()
        missing = np.full(shape, np.nan)
        arrays = []
        for k, record in enumerate(run):
            array = numeric(path, key, np.asarray(record.values.get(key, missing)))
            if shape == () and array.shape == (1,):  # SchNetPack's databases hold energies so
                array = array[0]
            if array.shape != shape:
                raise DataCorrupt(f"{path}: structure {row + k}, key {key!r}: expected {shape=}, got {array.shape}")
            arrays.append(array)
        return np.stack(arrays)

    energies, forces = labels_of(manifest, content, values, len(run), len(numbers), str(path), dict(told))
    notes = Counter(note for record in run for note in record.notes)
    return Frames(
        molecule=molecule,
        numbers=numbers,
        positions=positions_of(manifest, np.stack([numeric(path, "positions", one.positions) for one in run])),
        energies=energies,
        forces=forces,
        file=path.name,
        rows=np.arange(row, row + len(run)),
        sets={named_set: np.ones(len(run), bool)} if named_set else {},
        notes=dict(notes),
    )
