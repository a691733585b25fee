"""What every reader needs: keys that must exist, units that agree, and labels in internal units, once."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

# Of a key's unit: where it is stated and what it is. Given a key and its kind: an energy, a force or a length.
type Stated = Callable[[str, str], tuple[str, object] | None]

type Column = NDArray | h5py.Dataset  # one value for all structures of a file or group, or a row for each

_SLAB_ATOMS = 1 << 18  # atoms a reader holds at a time

MOST_AT_ONCE = 1 << 28  # bytes of an array that are read at once: a piece, or what is small in any real file


def at_once(where: str, key: str, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of an array, or of a piece of one; raises DataCorrupt where they are more than any real file has there."""
    size = math.prod(shape) * dtype.itemsize
    if size > MOST_AT_ONCE:
        raise DataCorrupt(
            f"{where}: key {key!r}: expected at most {MOST_AT_ONCE:,} bytes to be read at once, got {size:,} of "
            f"{shape=}"
        )
    return size


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

    def of_kind(key: str, _: str) -> tuple[str, object] | None:
        return None if (text := stated(key)) is None else (f"key {key!r}", text)

    agree_units(path, manifest, content, of_kind)


def agree_units(path: Path, manifest: Manifest, content: Content, stated: Stated, positions: str | None = None) -> None:
    """Compare the units of all labels, and of positions, with those that a file states; see ``agree``.

    Args:
        stated: where a key's unit is stated, for people, and what it is. Its kind is an energy, a force or a length.
        positions: their key; None: nothing is stated of them.
    """
    wanted = [("length", positions, manifest.length_unit)] if positions is not None else []
    for labels in manifest.labels_in(content):
        for kind, part in (("energy", labels.energy), ("force", labels.forces)):
            wanted += [(kind, key, part.unit) for key in part.key] if part is not None else []
    for kind, key, unit in wanted:
        if (found := stated(key, kind)) is not None:
            agree(path, *found, unit)


# Boxes

VACUUM = 4.0  # Angstrom between a molecule and its periodic images, in what counts as a box with vacuum

# Keys of arrays, in lower case, in any reader: cells, as three lengths or three vectors, and in which directions.
CELLS = ("cell", "lattice", "box", "unit_cell", "cell_vectors", "lattice_vectors", "box_vectors")
PERIODIC = ("pbc",)

_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    **dict.fromkeys(CELLS, ((3, 3), (3,), (9,))),
    **dict.fromkeys(PERIODIC, ((3,), (1,), ())),
}


def is_box(key: str) -> bool:
    """Whether an array of this name tells a cell, or in which directions it is periodic."""
    return key.lower() in _SHAPES


def check_boxes(
    where: str,
    manifest: Manifest,
    positions: Iterable[NDArray],
    boxes: Mapping[str, Column],
    rows: slice,
    count: int,
) -> None:
    """``check_box`` for some structures of a file.

    Args:
        where: the file (and group), for errors.
        positions: of these structures.
        boxes: the arrays that ``is_box``, each for all structures or with a row for each.
        rows: which of the ``count`` structures they are.
    """
    arrays = {key: rows_of(where, key, boxes[key], rows, count, _SHAPES[key.lower()]) for key in boxes}
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise DataCorrupt(f"{where}: key {key!r}: expected real numbers, got {array.dtype=}")
    cells = [array for key, array in arrays.items() if key.lower() in CELLS]
    periodic = [array for key, array in arrays.items() if key.lower() in PERIODIC]
    for k, frame in enumerate(positions) if arrays else ():
        directions = np.any([array[k] for array in periodic], axis=0) if periodic else True
        for cell in [array[k] for array in cells] or [None]:
            check_box(f"{where}: structure {rows.start + k}", manifest, frame, cell, directions)


def check_box(
    where: str, manifest: Manifest, positions: NDArray, cell: ArrayLike | None, periodic: ArrayLike = True
) -> None:
    """Raise DataCorrupt for a periodic structure, unless its box is said to hold one molecule with vacuum about it.

    Args:
        positions: (N, 3), in the unit of the cell.
        cell: three lengths or three vectors; zeros are no cell; None: it is not stated.
        periodic: in which directions.
    """
    if not np.any(periodic):
        return
    box = np.eye(3) if cell is None else np.asarray(cell, np.float64)
    box = np.diag(box.ravel()) if box.size == 3 else box.reshape(3, 3)
    if not np.isfinite(box).all():
        raise DataCorrupt(
            f"{where}: expected a cell of finite numbers, or of zeros where there is none, got {box.tolist()}"
        )
    if not box.any():
        return
    if not manifest.vacuum_boxes:
        raise DataCorrupt(
            f"{where}: expected isolated molecules, got a periodic structure; if each box holds one molecule with "
            "vacuum about it, say `vacuum_boxes: true` in the manifest"
        )
    if cell is None:
        raise DataCorrupt(f"{where}: vacuum_boxes: expected the cell of a periodic structure, got none")
    steps = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) != (0, 0, 0)])
    moves = (steps * np.broadcast_to(periodic, 3)) @ box
    moves = moves[np.any(moves != 0, axis=1)]
    x = np.asarray(positions, np.float64)
    distances = (float(np.linalg.norm(x[:, None] - (x[None] + move), axis=-1).min()) for move in moves)
    least = min(distances, default=np.inf) * units.internal(manifest.length_unit)
    if least < VACUUM:
        raise DataCorrupt(
            f"{where}: vacuum_boxes: expected at least {VACUUM:g} Angstrom between a molecule and its images, got "
            f"{least:.2g}: a crystal or liquid, or a molecule that is cut by its box (put it together first)"
        )


# Keys and arrays


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


def found(path: Path, parent: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """What lies in this HDF5 file itself, groups on the way included: a link could lead to any file of the machine.

    Returns:
        None where there is nothing of that key.
    """
    here: h5py.Group | h5py.Dataset = parent
    for part in key.split("/"):
        try:
            link = here.id.links.get_info(part.encode()).type
        except (KeyError, RuntimeError, AttributeError):
            return None
        if link != h5py.h5l.TYPE_HARD:
            raise DataCorrupt(f"{path}: {key!r}: expected it in this file, got a link to another place")
        here = here[part]
    return here


def stored_array(path: Path, parent: h5py.Group, key: str, scalar: bool = False) -> h5py.Dataset:
    """A data set that is stored in this HDF5 file, with at least one dimension unless it may be a scalar."""
    data = found(path, parent, key)
    if data is None:
        raise missing(path, key)
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or not (data.shape or scalar):
        raise DataCorrupt(f"{path}, {parent.name}: key {key!r}: expected an array stored in this file, got {data}")
    return data


def rows_of(
    where: str,
    key: str,
    column: Column,
    rows: slice,
    count: int,
    shapes: tuple[tuple[int, ...], ...],
    hint: str = "",
) -> NDArray:
    """What is said of some of ``count`` structures, (C, ...).

    Args:
        shapes: of what is said of one; an array of such a shape is for all.
        hint: what to do where it is something else.

    Raises:
        DataCorrupt: the array has neither such a shape nor a row for each.
    """
    shape = column.shape or ()  # HDF5 has arrays of nothing at all
    one = shape in shapes or (shape[:1] == (1,) and shape[1:] in shapes)
    if not one and (shape[:1] != (count,) or shape[1:] not in shapes):
        wanted = " or ".join(map(str, shapes))
        raise DataCorrupt(
            f"{where}: key {key!r}: expected a value of shape {wanted} for all, or {count} rows of them, got {shape}"
            + (f"; if it is something else, {hint}" if hint else "")
        )
    if one:
        at_once(where, key, shape, column.dtype)
        whole = np.asarray(column[()])
        whole = whole if shape in shapes else whole[0]
        return np.broadcast_to(whole, (rows.stop - rows.start, *whole.shape))
    at_once(where, key, (rows.stop - rows.start, *shape[1:]), column.dtype)
    return np.asarray(column[rows])


def numeric(where: Path | str, key: str, array: NDArray) -> NDArray:
    """The array, where it holds real numbers; raises DataCorrupt for text, objects or complex numbers."""
    if array.dtype.kind not in "fiu":
        raise DataCorrupt(f"{where}: key {key!r}: expected real numbers, got {array.dtype=}")
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
