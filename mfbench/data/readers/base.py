"""What every reader needs: keys that must exist, and labels converted to internal units, once."""

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench import units
from mfbench.data.manifest import Content, Manifest
from mfbench.data.structures import Frames
from mfbench.errors import DataCorrupt

Values = Callable[[str], NDArray]

Reader = Callable[[Path, Content, Manifest], Iterator[Frames]]

_SLAB_ATOMS = 1 << 18  # atoms a reader holds at a time


def slabs(n_frames: int, n_atoms: int) -> Iterator[slice]:
    """Ranges of the frames of one molecule that are read at a time, so that memory does not grow with them."""
    step = max(1, _SLAB_ATOMS // max(1, n_atoms))
    yield from (slice(begin, min(begin + step, n_frames)) for begin in range(0, n_frames, step))


def require(path: Path, container: Container[str], *keys: str) -> None:
    """Raise DataCorrupt for a key that the file does not hold."""
    for key in keys:
        if key not in container:
            raise missing(path, key)


def missing(path: Path, key: str) -> DataCorrupt:
    """The error for a key that the file does not hold."""
    return DataCorrupt(f"{path}: expected the key {key!r}, which the manifest or the format names")


def stored(path: Path, parent: h5py.Group, key: str) -> h5py.Group | h5py.Dataset:
    """What lies in this HDF5 file itself: a link could lead to any file of the machine."""
    try:
        link = parent.id.links.get_info(key.encode()).type
    except (KeyError, RuntimeError):
        raise missing(path, key) from None
    if link != h5py.h5l.TYPE_HARD:
        raise DataCorrupt(f"{path}: {key!r}: expected it in this file, got a link to another place")
    return parent[key]


def stored_array(path: Path, parent: h5py.Group, key: str) -> h5py.Dataset:
    """A data set that is stored in this HDF5 file, with at least one dimension."""
    found = stored(path, parent, key)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or not found.shape:
        raise DataCorrupt(f"{path}, {parent.name}: key {key!r}: expected an array stored in this file, got {found}")
    return found


def numeric(path: Path, key: str, array: NDArray) -> NDArray:
    """The array, where it holds real numbers; raises DataCorrupt for text, objects or complex numbers."""
    if array.dtype.kind not in "fiu":
        raise DataCorrupt(f"{path}: key {key!r}: expected real numbers, got {array.dtype=}")
    return array


def positions_of(manifest: Manifest, raw: NDArray) -> NDArray[np.floating]:
    """Positions in Angstrom, as precise as the file has them."""
    factor = units.internal(manifest.length_unit)
    if factor != 1 or raw.dtype.kind != "f" or raw.dtype.itemsize < 4:
        return raw.astype(np.float64) * factor
    return raw.astype(np.float64 if raw.dtype.itemsize > 4 else np.float32, copy=False)


def labels_of(
    manifest: Manifest, content: Content, values: Values, n_frames: int, n_atoms: int, where: str
) -> tuple[NDArray[np.float64], Sequence[NDArray[np.float64] | None]]:
    """Labels of one molecule's frames in eV and eV/Angstrom; NaN where a frame has none.

    Args:
        content: says which levels the file holds, where it does not hold all.
        values: reads one key of the file, in the file's units.
        where: the file (and group), for errors.

    Returns:
        Energies (C, L), and forces (C, N, 3) a level or None where it declares none; levels from low to high.
    """
    energies = np.full((n_frames, len(manifest.labels)), np.nan)
    forces: list[NDArray[np.float64] | None] = [None] * len(manifest.labels)
    for labels in manifest.labels:
        if content.levels and labels.level not in content.levels:
            continue
        column = manifest.levels.index(labels.level)
        if labels.energy is not None:
            energies[:, column] = _total(values, labels.energy.key, (n_frames,), where) * units.internal(
                labels.energy.unit
            )
        if labels.forces is not None:
            total = _total(values, labels.forces.key, (n_frames, n_atoms, 3), where)
            forces[column] = total * units.internal(labels.forces.unit)
    return energies, forces


def _total(values: Values, keys: tuple[str, ...], shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    """The sum over keys, in float64."""
    arrays = [_shaped(values(key), shape, key, where).astype(np.float64) for key in keys]
    return sum(arrays[1:], arrays[0])


def _shaped(array: NDArray, shape: tuple[int, ...], key: str, where: str) -> NDArray:
    # sGDML files hold energies as (n, 1).
    squeezed = array[:, 0] if array.ndim == 2 and len(shape) == 1 and array.shape[1] == 1 else array
    if squeezed.shape != shape:
        raise DataCorrupt(f"{where}: key {key!r}: expected shape {shape}, got {array.shape}")
    return squeezed
