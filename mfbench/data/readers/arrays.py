"""Frames of one molecule side by side, as groups of HDF5 files and npz files have them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mfbench.data.readers.base import Column, check_boxes, labels_of, numeric, positions_of, slabs
from mfbench.data.readers.words import Words, labelled, said
from mfbench.data.structures import Frames


@dataclass(frozen=True)
class Arrays:
    """C frames of N atoms, read in pieces."""

    where: str  # file and group, for errors
    name: str | None  # of the molecule, where no key names it; None: its formula
    numbers: NDArray  # (N,)
    positions: str  # their key
    count: int  # C
    keys: frozenset[str]  # that there are
    piece: Callable[[str, slice], NDArray]  # rows of an array; of each key one after the other
    columns: Mapping[str, Column]  # what is said of all frames, or of each
    boxes: Mapping[str, Column]
    temperature: str | None = None  # its key


def frames_of_arrays(arrays: Arrays, words: Words) -> Iterator[Frames]:
    """Frames in pieces, so that memory does not grow with them; those of several kinds are taken apart."""
    words.see(arrays.keys, arrays.columns, len(arrays.numbers))
    for rows in slabs(arrays.count, len(arrays.numbers)):
        yield from _piece(arrays, words, rows)


def _piece(arrays: Arrays, words: Words, rows: slice) -> Iterator[Frames]:
    where, numbers, manifest = arrays.where, arrays.numbers, words.manifest
    held: dict[str, NDArray] = {}  # the Hartree-Fock energy is a term of several levels

    def values(key: str, chosen: list[int] | slice = slice(None)) -> NDArray:
        if key not in held:
            held[key] = numeric(where, key, arrays.piece(key, rows))
        return held[key][chosen]

    told = {key: said(where, key, column, rows, arrays.count) for key, column in arrays.columns.items()}
    check_boxes(where, manifest, values(arrays.positions), arrays.boxes, rows, arrays.count)
    for of_these, chosen in _kinds({key: one for key, one in told.items() if not words.parts(key)}):
        kind = words.kind(of_these, numbers, where, arrays.name)
        numbered = np.arange(rows.start, rows.stop)[chosen]
        of_kind = partial(values, chosen=chosen)
        energies, forces = labels_of(
            manifest, words.content, of_kind, len(numbered), len(numbers), where, dict(kind.told)
        )
        yield Frames(
            molecule=kind.molecule,
            numbers=numbers,
            positions=positions_of(manifest, of_kind(arrays.positions)),
            energies=energies,
            forces=forces,
            file=words.path.name,
            rows=numbered,
            temperature=of_kind(arrays.temperature).astype(np.float32) if arrays.temperature is not None else None,
            sets={kind.set: np.ones(len(numbered), bool)} if kind.set else {},
        )
    if len(numbers) > 1:
        words.see_parting(told, lambda key: labelled(held[key]) if key in held else ())


def _kinds(told: Mapping[str, list[str]]) -> Iterator[tuple[dict[str, str], list[int] | slice]]:
    """What is said of some frames, and which they are."""
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, words in enumerate(zip(*told.values())):
        rows.setdefault(words, []).append(row)
    if len(rows) < 2:
        yield dict(zip(told, next(iter(rows), ()))), slice(None)
        return
    for words, chosen in rows.items():
        yield dict(zip(told, words)), chosen
