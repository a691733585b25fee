"""Readers of HDF5 files of people's own: plain arrays over all structures, or a group a molecule.

The plain file holds

    numbers (A,) and positions (A, 3) of all atoms, one structure after the other; n_atoms (S,) of each structure;
    an array (S,) for each energy key and (A, 3) for each forces key, NaN where there is no label

The other kind, of which ANI-1x, TorchANI and SPICE have each a variety, holds groups (in groups, if need be) with one
molecule's elements (N,), positions (C, N, 3), and labels (C,) or (C, N, 3).

Molecule, set, charge, spin, and keys that tell levels apart are one value or one a structure; in either kind they, and
units, may be attributes of a group or of one about it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mfbench import units
from mfbench.data.manifest import Content, Manifest
from mfbench.data.readers.arrays import Arrays, frames_of_arrays
from mfbench.data.readers.base import (
    Column,
    agree_units,
    at_once,
    check_boxes,
    found,
    is_box,
    missing,
    numeric,
    open_hdf5,
    stored_array,
)
from mfbench.data.readers.records import MOST_FRAMES, Record, frames_of_records
from mfbench.data.readers.words import Words, said
from mfbench.data.structures import Frames
from mfbench.errors import DataCorrupt

_NUMBERS = ("atomic_numbers", "numbers", "species")  # of groups: what published files call their elements

_POSITIONS = ("coordinates", "conformations", "positions", "geometries")

_UNIT_ATTRIBUTES = ("units", "unit")

# What attributes call the unit of a kind, as in ``energy_units``.
_KINDS = {
    "energy": ("energy", "energies"),
    "force": ("force", "forces"),
    "length": ("length", "position", "positions", "coordinates", "distance"),
}

_MOST_DEPTH = 16  # groups in groups


def read(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the structures of an HDF5 file of either kind."""
    with open_hdf5(path) as file:
        if all(isinstance(found(path, file, key), h5py.Group) for key in file):
            yield from _read_groups(path, file, content, manifest)
        else:
            yield from _read_plain(path, file, content, manifest)


def read_ani1x(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of a file of the ANI-1x release's schema (10.1038/s41597-020-0473-z)."""
    with open_hdf5(path) as file:
        yield from _read_groups(path, file, content, manifest)


def _about(group: h5py.Group) -> Iterator[h5py.Group]:
    """A group and those about it, from the inside."""
    yield group
    while group.name != "/":
        yield (group := group.parent)


def _columns(path: Path, group: h5py.Group, words: Words) -> tuple[dict[str, Column], dict[str, Column]]:
    """What is said of structures, and boxes: arrays of a group, else attributes of it and of those about it."""
    columns: dict[str, Column] = {}
    for holder in reversed([*_about(group)]):
        for key in holder.attrs:
            # Of many values an attribute tells something else: which methods there are, say.
            if is_box(key) or (words.wants(key) and np.size(holder.attrs[key]) == 1):
                columns[key] = np.asarray(holder.attrs[key])
    for key in dict.fromkeys((*group, *words.tags)):
        if (words.wants(key) or is_box(key)) and isinstance(found(path, group, key), h5py.Dataset):
            columns[key] = stored_array(path, group, key, scalar=True)
    boxes = {key: column for key, column in columns.items() if is_box(key) and not words.wants(key)}
    return {key: column for key, column in columns.items() if key not in boxes}, boxes


def _agree(path: Path, group: h5py.Group, positions: str, content: Content, manifest: Manifest) -> None:
    """Units are stated by attributes of an array, or of a group or file that it is in: by its key, or by its kind."""

    about = [_unit_texts(holder) for holder in _about(group)]

    def stated(key: str, kind: str) -> tuple[str, object] | None:
        data = found(path, group, key)
        own = _unit_texts(data) if isinstance(data, h5py.Dataset) else {}
        for name in _UNIT_ATTRIBUTES:
            if name in own:
                return f"key {key!r}", own[name]
        for texts in about if data is not None else ():
            for name in (f"{one}_{unit}" for one in (key, *_KINDS[kind]) for unit in _UNIT_ATTRIBUTES):
                if name in texts:
                    return f"attribute {name!r}", texts[name]
            for name in _UNIT_ATTRIBUTES:  # of one kind of what it holds, as the unit tells
                unit = units.spelled(texts.get(name, ""))
                if unit is not None and units.dimension(unit).removesuffix("/atom") == kind:
                    return f"attribute {name!r}", unit
        return None

    agree_units(path, manifest, content, stated, positions)


def _unit_texts(holder: h5py.Group | h5py.Dataset) -> dict[str, str]:
    """What attributes say of units, by their names."""
    texts = {}
    for name in holder.attrs:
        if name.endswith(_UNIT_ATTRIBUTES) and np.size(value := holder.attrs[name]) == 1:
            one = np.ravel(value)[0]
            texts[name] = one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
    return texts


def _whole(path: Path, group: h5py.Group, key: str) -> NDArray:
    """A (small) array at once."""
    data = stored_array(path, group, key)
    at_once(f"{path}, {group.name}", key, data.shape, data.dtype)
    return data[()]


def _piece(path: Path, data: h5py.Dataset, key: str, rows: slice) -> NDArray:
    at_once(str(path), key, (rows.stop - rows.start, *data.shape[1:]), data.dtype)
    return numeric(path, key, data[rows])


# A group a molecule


def _read_groups(path: Path, file: h5py.File, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of each group; see ``_read_group`` for its molecule."""
    words, groups = Words.of(path, content, manifest), list(_leaves(path, file, set()))
    names = Counter(_last(group) for group in groups)

    def frames() -> Iterator[Frames]:
        for group in groups:
            name = _last(group) if names[_last(group)] == 1 else str(group.name).lstrip("/")
            yield from _read_group(path, group, name, words)

    yield from words.told(frames())


def _last(group: h5py.Group) -> str:
    return str(group.name).rpartition("/")[2]


def _leaves(path: Path, group: h5py.Group, met: set[int], depth: int = 0) -> Iterator[h5py.Group]:
    """The groups that hold more than groups.

    Raises:
        DataCorrupt: a group that is met twice, as hard links lead to it, or groups without end.
    """
    address = h5py.h5o.get_info(group.id).addr
    if address in met or depth > _MOST_DEPTH:
        raise DataCorrupt(
            f"{path}, {group.name}: expected each group once, at most {_MOST_DEPTH} deep, got "
            + ("one that another name leads to, too" if address in met else "one that is deeper")
        )
    met.add(address)
    if depth and not all(isinstance(found(path, group, name), h5py.Group) for name in group):
        yield group
        return
    for name in group:
        inner = found(path, group, name)
        if not isinstance(inner, h5py.Group):
            raise DataCorrupt(f"{path}: {name!r}: expected a group, got a {type(inner).__name__}")
        yield from _leaves(path, inner, met, depth + 1)


def _key(path: Path, group: h5py.Group, given: str | None, known: Sequence[str], option: str) -> str:
    """The key that the manifest names, or the one of those that published files use."""
    found = [given] if given is not None else [key for key in known if key in group]
    if len(found) == 1:
        return found[0]
    if not found and given is None:
        raise DataCorrupt(
            f"{missing(path, known[0])}; group {group.name} holds {', '.join(group)}: name the right one with "
            f"`{option}`"
        )
    raise DataCorrupt(
        f"{path}, {group.name}: expected one of {', '.join(known)}, got {', '.join(found)}: say `{option}`"
    )


def _elements(path: Path, key: str, raw: NDArray) -> NDArray:
    """Atomic numbers, also of symbols."""
    if raw.dtype.kind not in "OSU":
        return numeric(path, key, raw)
    symbols = [one.decode("ascii", "replace") if isinstance(one, bytes) else str(one) for one in raw.ravel()]
    if strange := sorted(set(symbols) - atomic_numbers.keys()):
        raise DataCorrupt(f"{path}: key {key!r}: expected symbols of elements, got {strange[:3]}")
    return np.array([atomic_numbers[symbol] for symbol in symbols])


def _read_group(path: Path, group: h5py.Group, name: str, words: Words) -> Iterator[Frames]:
    """Yield the frames of a group; its attribute ``molecule`` goes before its name."""
    manifest, where = words.manifest, f"{path}, {str(group.name).lstrip('/')}"
    numbers_key = _key(path, group, manifest.numbers_key, _NUMBERS, "numbers_key")
    positions_key = _key(path, group, manifest.positions_key, _POSITIONS, "positions_key")
    numbers = _elements(path, numbers_key, _whole(path, group, numbers_key))
    if numbers.ndim == 2 and len(numbers) and (numbers == numbers[0]).all():  # one row a frame
        numbers = numbers[0]
    _agree(path, group, positions_key, words.content, manifest)
    count = stored_array(path, group, positions_key).shape[0]
    opened: dict[str, h5py.Dataset] = {}

    def piece(key: str, rows: slice) -> NDArray:
        data = opened[key] = opened.get(key) or stored_array(path, group, key)
        if data.shape[0] != count:
            raise DataCorrupt(f"{where}: key {key!r}: expected {count} rows, got shape {data.shape}")
        return _piece(path, data, key, rows)

    columns, boxes = _columns(path, group, words)
    arrays = Arrays(
        where=where,
        name=str(group.attrs.get("molecule", name)),
        numbers=numbers,
        positions=positions_key,
        count=count,
        # Where no label depends on another key, each is read, and missed where there is none.
        keys=frozenset(key for key in words.labels if not words.where or found(path, group, key) is not None),
        piece=piece,
        columns=columns,
        boxes=boxes,
        temperature="temperature" if "temperature" in group else None,
    )
    yield from frames_of_arrays(arrays, words)


# Plain arrays


def _read_plain(path: Path, file: h5py.File, content: Content, manifest: Manifest) -> Iterator[Frames]:
    labels = manifest.labels_in(content)
    words = Words.of(path, content, manifest)
    numbers, positions = manifest.numbers_key or "numbers", manifest.positions_key or "positions"
    per_structure = [key for one in labels if one.energy for key in one.energy.key]
    per_atom = [numbers, positions, *(key for one in labels if one.forces for key in one.forces.key)]
    data = {key: stored_array(path, file, key) for key in ("n_atoms", *per_atom, *per_structure)}
    columns, boxes = _columns(path, file, words)
    for key in sorted(words.tags - columns.keys()):
        raise missing(path, key)
    _agree(path, file, positions, content, manifest)
    offsets = _offsets(path, _whole(path, file, "n_atoms"))
    count = len(offsets) - 1
    for keys, length in ((per_atom, offsets[-1]), (per_structure, count)):
        for key in keys:
            if len(data[key]) != length:
                raise DataCorrupt(f"{path}: key {key!r}: expected {length} rows, got shape {data[key].shape}")

    def records() -> Iterator[Record]:
        for first in range(0, count, MOST_FRAMES):
            rows = slice(first, min(first + MOST_FRAMES, count))
            atoms = slice(*offsets[[rows.start, rows.stop]].tolist())
            held = {key: _piece(path, data[key], key, rows) for key in per_structure}
            of_atoms = {key: _piece(path, data[key], key, atoms) for key in per_atom}
            told = {key: said(str(path), key, column, rows, count) for key, column in columns.items()}
            parts = [slice(*pair) for pair in pairwise((offsets[rows.start : rows.stop + 1] - atoms.start).tolist())]
            check_boxes(str(path), manifest, (of_atoms[positions][one] for one in parts), boxes, rows, count)
            for s, one in enumerate(parts):
                values: dict[str, Any] = {key: array[s] for key, array in held.items()}
                values |= {key: array[one] for key, array in of_atoms.items()}
                yield Record(values[numbers], values[positions], values, {key: told[key][s] for key in told})

    yield from frames_of_records(path, content, manifest, records())


def _offsets(path: Path, n_atoms: NDArray) -> NDArray[np.int64]:
    whole = numeric(path, "n_atoms", n_atoms).astype(np.int64)
    if whole.ndim != 1 or whole.min(initial=1) < 1 or not np.array_equal(whole, n_atoms):
        raise DataCorrupt(f"{path}: key 'n_atoms': expected positive whole numbers, got {n_atoms[:3]} ...")
    return np.concatenate([[0], np.cumsum(whole)])
