"""What every reader needs: keys that must exist, units that agree, and labels in internal units, once."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def agree(path: Path, what: str, stated: object, unit: str) -> None:
    """Raise DataCorrupt where a file states another unit than the manifest does.

    Args:
        what: of which the unit is, for people.
        stated: as the file has it; text that is no known unit tells nothing.
    """
    text = stated.decode("utf-8", "replace") if isinstance(stated, bytes) else str(stated)
    found = units.spelled(text)
    kind, declared = (units.dimension(one) for one in (found or unit, unit))
    # A file that states the energy's unit alone says so of energies per atom, too.
    alike = kind == declared or (kind, declared) == ("energy", "energy/atom")
    if found is not None and not (alike and units.internal(found) == units.internal(unit)):
        raise DataCorrupt(
            f"{path}: {what}: the file states the unit {text!r}, the manifest {unit!r}: expected the same; if the file "
            "is right, change the manifest"
        )


def agree_all(path: Path, manifest: Manifest, content: Content, stated: Callable[[str], object | None]) -> None:
    """Compare the units of all labels with those that a file states by key; see ``agree``."""
    for labels in manifest.labels_in(content):
        for part in (labels.energy, labels.forces):
            for key in part.key if part is not None else ():
                if part is not None and (text := stated(key)) is not None:
                    agree(path, f"key {key!r}", text, part.unit)


VACUUM = 4.0  # Angstrom between a molecule and its periodic images, in what counts as a box with vacuum


def check_box(where: str, manifest: Manifest, positions: NDArray, cell: ArrayLike, periodic: ArrayLike = True) -> None:
    """Raise DataCorrupt for a periodic structure, unless its box is said to hold one molecule with vacuum about it.

    Args:
        positions: (N, 3), in the unit of the cell.
        cell: three lengths or three vectors; zeros are no cell.
        periodic: in which directions.
    """
    box = np.asarray(cell, np.float64)
    box = np.diag(box.ravel()) if box.size == 3 else box.reshape(-1, 3)[:3]
    if not np.any(periodic) or not box.any():
        return
    if not manifest.vacuum_boxes:
        raise DataCorrupt(
            f"{where}: expected isolated molecules, got a periodic structure; if each box holds one molecule with "
            "vacuum about it, say `vacuum_boxes: true` in the manifest"
        )
    steps = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) != (0, 0, 0)])
    moves = (steps * np.broadcast_to(periodic, 3)) @ box
    moves = moves[np.any(moves != 0, axis=1)]
    x = np.asarray(positions, np.float64)
    least = min(float(np.linalg.norm(x[:, None] - (x[None] + move), axis=-1).min()) for move in moves)
    if least * units.internal(manifest.length_unit) < VACUUM:
        raise DataCorrupt(
            f"{where}: vacuum_boxes: expected at least {VACUUM:g} Angstrom between a molecule and its images, got "
            f"{least * units.internal(manifest.length_unit):.2g}: a crystal or liquid, or a molecule that is cut by "
            "its box (put it together first)"
        )


def require(path: Path, container: Container[str], *keys: str) -> None:
    """Raise DataCorrupt for a key that the file does not hold."""
    for key in keys:
        if key not in container:
            raise missing(path, key)


def missing(path: Path, key: str) -> DataCorrupt:
    """The error for a key that the file does not hold."""
    return DataCorrupt(f"{path}: expected the key {key!r}, which the manifest or the format names")


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file to read; raises DataCorrupt, with the remedy, where another program has locked it."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "unable to lock" not in str(error):
            raise
        raise DataCorrupt(
            f"{path}: expected to read it, it is locked: close the program that writes it; on a file system without "
            "locks, set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
        ) from error


def stored(path: Path, parent: h5py.Group, key: str) -> h5py.Group | h5py.Dataset:
    """What lies in this HDF5 file itself, groups on the way included: a link could lead to any file of the machine."""
    found: h5py.Group | h5py.Dataset = parent
    for part in key.split("/"):
        try:
            link = found.id.links.get_info(part.encode()).type
        except (KeyError, RuntimeError, AttributeError):
            raise missing(path, key) from None
        if link != h5py.h5l.TYPE_HARD:
            raise DataCorrupt(f"{path}: {key!r}: expected it in this file, got a link to another place")
        found = found[part]
    return found


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
    manifest: Manifest,
    content: Content,
    values: Values,
    n_frames: int,
    n_atoms: int,
    where: str,
    words: Mapping[str, str] | None = None,
) -> tuple[NDArray[np.float64], Sequence[NDArray[np.float64] | None]]:
    """Labels of one molecule's frames in eV and eV/Angstrom; NaN where a frame has none.

    Args:
        content: says which levels the file holds, where it does not hold all.
        values: reads one key of the file, in the file's units.
        where: the file (and group), for errors.
        words: what the frames say of the keys that a label may depend on.

    Returns:
        Energies (C, L), and forces (C, N, 3) a level or None where it declares none; levels from low to high.
    """
    energies = np.full((n_frames, len(manifest.labels)), np.nan)
    forces: list[NDArray[np.float64] | None] = [None] * len(manifest.labels)
    for labels in manifest.labels_in(content):
        if labels.where and not labels.where.items() <= (words or {}).items():
            continue
        column = manifest.levels.index(labels.level)
        if labels.energy is not None:
            factor = units.internal(labels.energy.unit) * (n_atoms if labels.energy.unit.endswith("/atom") else 1)
            energies[:, column] = _total(values, labels.energy.key, (n_frames,), where) * factor
        if labels.forces is not None:
            factor = units.internal(labels.forces.unit) * (-1 if labels.forces.gradient else 1)
            forces[column] = _total(values, labels.forces.key, (n_frames, n_atoms, 3), where) * factor
    return energies, forces


def _total(values: Values, keys: tuple[str, ...], shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    """The sum over keys, in float64."""
    arrays = [_shaped(values(key), shape, key, where).astype(np.float64) for key in keys]
    return sum(arrays[1:], arrays[0])


def _shaped(array: NDArray, shape: tuple[int, ...], key: str, where: str) -> NDArray:
    # sGDML's and SchNetPack's files hold energies as (n, 1).
    squeezed = array[:, 0] if array.ndim == 2 and len(shape) == 1 and array.shape[1] == 1 else array
    if squeezed.shape != shape:
        raise DataCorrupt(f"{where}: key {key!r}: expected shape {shape}, got {array.shape}")
    return squeezed
