"""Structures one by one, as files of people's own have them, put together into frames of one molecule.

A structure without a key has no such label. Which level a label is of may depend on another key (``where``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Manifest
from mfbench.data.readers.base import labels_of, numeric, positions_of
from mfbench.data.readers.words import Kind, Words, labelled
from mfbench.data.structures import Frames
from mfbench.errors import DataCorrupt

MOST_FRAMES = 4096  # that are put together, where neighbours are one molecule


class Record(NamedTuple):
    """One structure as a file has it."""

    numbers: NDArray[np.integer]  # (N,)
    positions: NDArray[np.floating]  # (N, 3)
    values: Mapping[str, Any]  # labels by key; a key may be missing
    words: Mapping[str, str]  # all other keys, as they are written
    notes: tuple[str, ...] = ()  # for people
    bare: bool = False  # of xyz: its comment line has words and no keys


def frames_of_records(path: Path, content: Content, manifest: Manifest, records: Iterable[Record]) -> Iterator[Frames]:
    """Neighbours of one molecule, set and level together.

    Raises:
        DataCorrupt: see ``Words.told``.
    """
    words = Words.of(path, content, manifest)
    yield from words.told(_neighbours(words, records))


def _neighbours(words: Words, records: Iterable[Record]) -> Iterator[Frames]:
    run, row = list[Record](), 0
    atoms, kind = b"", Kind("", "", ())
    for record in records:
        numbers = numeric(words.path, "numbers", record.numbers)
        words.see(record.values, record.words, len(numbers))
        words.bare |= record.bare
        if len(numbers) > 1:
            _see_parting(words, record)
        own = words.kind(record.words, numbers, f"{words.path}: structure {row + len(run)}")
        if run and (len(run) == MOST_FRAMES or own != kind or numbers.tobytes() != atoms):
            yield _together(words, run, row, kind)
            row, run = row + len(run), []
        atoms, kind = numbers.tobytes(), own
        run.append(record)
    if run:
        yield _together(words, run, row, kind)


def _see_parting(words: Words, record: Record) -> None:
    def has(label: str) -> NDArray[np.bool_]:
        return labelled(np.asarray([record.values[label]])) if label in record.values else np.zeros(1, bool)

    words.see_parting({key: [word] for key, word in record.words.items()}, has)


def _together(words: Words, run: list[Record], row: int, kind: Kind) -> Frames:
    path, content, manifest, numbers = words.path, words.content, words.manifest, run[0].numbers
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

    energies, forces = labels_of(manifest, content, values, len(run), len(numbers), str(path), dict(kind.told))
    notes = Counter(note for record in run for note in record.notes)
    return Frames(
        molecule=kind.molecule,
        numbers=numbers,
        positions=positions_of(manifest, np.stack([numeric(path, "positions", one.positions) for one in run])),
        energies=energies,
        forces=forces,
        file=path.name,
        rows=np.arange(row, row + len(run)),
        sets={kind.set: np.ones(len(run), bool)} if kind.set else {},
        notes=dict(notes),
    )
