"""Readers of HDF5 files of people's own: plain arrays over all structures, or a group a molecule.

The plain file holds

    numbers (A,) and positions (A, 3) of all atoms, one structure after the other; n_atoms (S,) of each structure;
    an array (S,) for each energy key and (A, 3) for each forces key, NaN where there is no label;
    arrays (S,) for the keys of molecule, set, charge and spin, where there are any

The other kind, of which ANI-1x, TorchANI and SPICE have each a variety, holds groups (in groups, if need be) with one
molecule's elements (N,), positions (C, N, 3), and labels (C,) or (C, N, 3).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Manifest
from mfbench.data.molecules import CHARGE_KEYS, SPIN_KEYS, named, state_of
from mfbench.data.readers.base import (
    agree,
    agree_all,
    check_box,
    labels_of,
    missing,
    numeric,
    open_hdf5,
    positions_of,
    slabs,
    stored,
    stored_array,
)
from mfbench.data.readers.records import MOST_FRAMES, Record, frames_of_records
from mfbench.data.structures import Frames
from mfbench.errors import DataCorrupt

_NUMBERS = ("atomic_numbers", "numbers", "species")  # of groups: what published files call their elements

_POSITIONS = ("coordinates", "conformations", "positions", "geometries")

_UNIT_ATTRIBUTES = ("units", "unit")


def read(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the structures of an HDF5 file of either kind."""
    with open_hdf5(path) as file:
        if all(isinstance(stored(path, file, key), h5py.Group) for key in file):
            yield from read_groups(path, file, content, manifest)
        else:
            yield from _read_plain(path, file, content, manifest)


def read_ani1x(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of a file of the ANI-1x release's schema (10.1038/s41597-020-0473-z)."""
    with open_hdf5(path) as file:
        yield from read_groups(path, file, content, manifest)


def _unit_of(path: Path, group: h5py.Group, key: str) -> object | None:
    attributes = stored_array(path, group, key).attrs
    return next((attributes[name] for name in _UNIT_ATTRIBUTES if name in attributes), None)


def _agree(path: Path, group: h5py.Group, positions: str, content: Content, manifest: Manifest) -> None:
    agree_all(path, manifest, content, lambda key: _unit_of(path, group, key))
    if (length := _unit_of(path, group, positions)) is not None:
        agree(path, f"key {positions!r}", length, manifest.length_unit)


# A group a molecule


def read_groups(path: Path, group: h5py.Group, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of each group; a group's attribute ``molecule``, or its name, is the molecule."""
    for name in group:
        inner = stored(path, group, name)
        if not isinstance(inner, h5py.Group):
            raise DataCorrupt(f"{path}: {name!r}: expected a group, got a {type(inner).__name__}")
        if all(isinstance(stored(path, inner, key), h5py.Group) for key in inner):
            yield from read_groups(path, inner, content, manifest)
        else:
            yield from _read_group(path, inner, content, manifest)


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


def _elements(path: Path, key: str, data: h5py.Dataset) -> NDArray:
    """Atomic numbers, also of symbols."""
    raw = data[()]
    if raw.dtype.kind not in "OSU":
        return numeric(path, key, raw)
    symbols = [one.decode("ascii", "replace") if isinstance(one, bytes) else str(one) for one in raw.ravel()]
    if strange := sorted(set(symbols) - atomic_numbers.keys()):
        raise DataCorrupt(f"{path}: key {key!r}: expected symbols of elements, got {strange[:3]}")
    return np.array([atomic_numbers[symbol] for symbol in symbols])


def _read_group(path: Path, group: h5py.Group, content: Content, manifest: Manifest) -> Iterator[Frames]:
    where = f"{path}, {str(group.name).lstrip('/')}"
    opened: dict[str, h5py.Dataset] = {}

    def dataset(key: str) -> h5py.Dataset:
        if key not in opened:
            opened[key] = stored_array(path, group, key)
        return opened[key]

    numbers_key = _key(path, group, manifest.numbers_key, _NUMBERS, "numbers_key")
    positions_key = _key(path, group, manifest.positions_key, _POSITIONS, "positions_key")
    numbers = _elements(path, numbers_key, dataset(numbers_key))
    if numbers.ndim == 2 and len(numbers) and (numbers == numbers[0]).all():  # one row a frame
        numbers = numbers[0]
    n_frames = dataset(positions_key).shape[0]
    _agree(path, group, positions_key, content, manifest)
    of_state = [key for key in (*CHARGE_KEYS, *SPIN_KEYS, *_own_keys(manifest)) if key in group]
    stated = {key: np.unique(stored(path, group, key)[()]) for key in of_state}  # one value, or the states mix
    state = state_of(stated, numbers, (manifest.charge_key, manifest.spin_key), where)
    cells = stored(path, group, "cell") if "cell" in group else None
    molecule = str(group.attrs.get("molecule", str(group.name).rpartition("/")[2]))
    for rows in slabs(n_frames, len(numbers)):
        held: dict[str, NDArray] = {}  # the Hartree-Fock energy is a term of several levels

        def values(key: str, rows: slice = rows, held: dict[str, NDArray] = held) -> NDArray:
            if key not in held:
                if (shape := dataset(key).shape)[0] != n_frames:
                    raise DataCorrupt(f"{where}: key {key!r}: expected {n_frames} rows, got shape {shape}")
                held[key] = numeric(path, key, dataset(key)[rows])
            return held[key]

        count = rows.stop - rows.start
        energies, forces = labels_of(manifest, content, values, count, len(numbers), where)
        raw = values(positions_key)
        if isinstance(cells, h5py.Dataset):
            for k, one in enumerate(raw):
                box = values("cell")[k] if cells.shape[0] == n_frames and cells.ndim == 3 else cells[()]
                check_box(f"{where}, row {rows.start + k}", manifest, one, box)
        yield Frames(
            molecule=named(molecule, state),
            numbers=numbers,
            positions=positions_of(manifest, raw),
            energies=energies,
            forces=forces,
            file=path.name,
            rows=np.arange(rows.start, rows.stop),
            temperature=values("temperature").astype(np.float32) if "temperature" in group else None,
        )


def _own_keys(manifest: Manifest) -> list[str]:
    return [key for key in (manifest.charge_key, manifest.spin_key) if key]


# Plain arrays


def _read_plain(path: Path, file: h5py.File, content: Content, manifest: Manifest) -> Iterator[Frames]:
    labels = manifest.labels_in(content)
    tags = [key for key in (manifest.molecule_key, manifest.set_key) if key]
    tags += [key for one in labels for key in one.where]
    tags += [key for key in dict.fromkeys((*CHARGE_KEYS, *SPIN_KEYS, *_own_keys(manifest))) if key in file]
    boxes = [key for key in ("cell", "pbc") if key in file]
    per_structure = [key for one in labels if one.energy for key in one.energy.key]
    per_atom = [key for one in labels if one.forces for key in one.forces.key]
    wanted = dict.fromkeys(("numbers", "positions", "n_atoms", *tags, *boxes, *per_structure, *per_atom))
    data = {key: stored_array(path, file, key) for key in wanted}
    _agree(path, file, "positions", content, manifest)
    offsets = _offsets(path, data["n_atoms"])
    count = len(offsets) - 1
    for keys, length in ((("numbers", "positions", *per_atom), offsets[-1]), ((*tags, *boxes, *per_structure), count)):
        for key in keys:
            if len(data[key]) != length:
                raise DataCorrupt(f"{path}: key {key!r}: expected {length} rows, got shape {data[key].shape}")

    def records() -> Iterator[Record]:
        for first in range(0, count, MOST_FRAMES):
            last = min(first + MOST_FRAMES, count)
            atoms = slice(offsets[first], offsets[last])
            held: dict[str, Any] = {}
            held |= {key: numeric(path, key, data[key][atoms]) for key in ("numbers", "positions", *per_atom)}
            held |= {key: numeric(path, key, data[key][first:last]) for key in per_structure}
            held |= {key: _tags(path, key, data[key], first, last) for key in tags}
            held |= {key: data[key][first:last] for key in boxes}
            for s, (begin, end) in enumerate(pairwise(offsets[first : last + 1] - offsets[first])):
                values: dict[str, Any] = {key: held[key][s] for key in per_structure}
                values |= {key: held[key][begin:end] for key in per_atom}
                if boxes:
                    box = held["cell"][s] if "cell" in boxes else np.eye(3)
                    periodic = held["pbc"][s] if "pbc" in boxes else True
                    at = f"{path}: structure {first + s}"
                    check_box(at, manifest, held["positions"][begin:end], box, periodic)
                words = {key: held[key][s] for key in tags}
                yield Record(held["numbers"][begin:end], held["positions"][begin:end], values, words)

    yield from frames_of_records(path, content, manifest, records())


def _offsets(path: Path, data: h5py.Dataset) -> NDArray[np.int64]:
    n_atoms = numeric(path, "n_atoms", data[()]).astype(np.int64)
    if n_atoms.ndim != 1 or n_atoms.min(initial=1) < 1 or not np.array_equal(n_atoms, data[()]):
        raise DataCorrupt(f"{path}: key 'n_atoms': expected positive whole numbers, got {data[:3]} ...")
    return np.concatenate([[0], np.cumsum(n_atoms)])


def _tags(path: Path, key: str, data: h5py.Dataset, first: int, last: int) -> list[str]:
    """Names as they are written; whole numbers are names, too."""
    if data.dtype.kind in "iu":
        return [str(one) for one in data[first:last].ravel().tolist()]
    if data.dtype.kind == "f":
        return [f"{one:g}" for one in data[first:last].ravel().tolist()]
    if h5py.check_string_dtype(data.dtype) is None:
        raise DataCorrupt(f"{path}: key {key!r}: expected names, text or whole numbers, got {data.dtype}")
    return list(data.asstr()[first:last])
