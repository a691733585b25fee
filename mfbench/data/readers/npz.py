"""Readers of the one-molecule npz schemas: rMD17 (10.1088/2632-2153/abba6f) and sGDML (MD17, MD17-CC).

The arrays are read side by side in pieces, so that memory does not grow with their length, and never unpickled.
"""

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Manifest
from mfbench.data.readers.base import agree, check_box, labels_of, numeric, positions_of, require, slabs
from mfbench.data.structures import Frames
from mfbench.elements import formula
from mfbench.errors import DataCorrupt

_BOXES = ("cell", "lattice", "pbc")

_MOST_BYTES = 1 << 34  # of one array: more than any real one, less than what would fill a disk


def read_rmd17(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of one rMD17 file; ``old_indices`` is each frame's place in MD17."""
    yield from _read(path, content, manifest, numbers="nuclear_charges", positions="coords")


def read_sgdml(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of one sGDML dataset file, once they are what its own fingerprint says."""
    _check_fingerprint(path)
    yield from _read(path, content, manifest, numbers="z", positions="R")


def _read(path: Path, content: Content, manifest: Manifest, numbers: str, positions: str) -> Iterator[Frames]:
    with NpzArrays(path) as arrays:
        z = numeric(path, numbers, arrays.whole(numbers))
        n_frames = arrays.shape(positions)[0] if arrays.shape(positions) else 0
        _agree(path, arrays, content, manifest)
        boxes: dict[str, NDArray] = {key: arrays.whole(key) for key in _BOXES if key in arrays.names}

        def values(key: str) -> NDArray:
            shape = arrays.shape(key)
            if not shape or shape[0] != n_frames:
                raise DataCorrupt(f"{path}: key {key!r}: expected {n_frames} rows, got shape {shape}")
            return numeric(path, key, arrays.next(key, rows.stop - rows.start))

        for rows in slabs(n_frames, z.size):
            xyz = positions_of(manifest, values(positions))
            energies, forces = labels_of(manifest, content, values, len(xyz), len(z), str(path))
            if boxes:
                _check_boxes(path, manifest, xyz, boxes, rows)
            yield Frames(
                molecule=content.molecule or formula(z),
                numbers=z,
                positions=xyz,
                energies=energies,
                forces=forces,
                file=path.name,
                rows=np.arange(rows.start, rows.stop),
            )


def _agree(path: Path, arrays: "NpzArrays", content: Content, manifest: Manifest) -> None:
    """sGDML's files state the units of energies and lengths; those of forces follow."""
    stated = {key: str(arrays.whole(key).ravel()[0]) for key in ("e_unit", "r_unit") if key in arrays.names}
    for labels in manifest.labels_in(content):
        if "e_unit" in stated and labels.energy is not None:
            agree(path, "e_unit", stated["e_unit"], labels.energy.unit)
        if len(stated) == 2 and labels.forces is not None:
            agree(path, "e_unit, r_unit", f"{stated['e_unit']}/{stated['r_unit']}", labels.forces.unit)
    if "r_unit" in stated:
        agree(path, "r_unit", stated["r_unit"], manifest.length_unit)


def _check_boxes(path: Path, manifest: Manifest, positions: NDArray, boxes: Mapping[str, NDArray], rows: slice) -> None:
    cell = next((boxes[key] for key in ("cell", "lattice") if key in boxes), np.eye(3))
    periodic = boxes.get("pbc", np.ones(3, bool))
    for k, frame in enumerate(positions, rows.start):
        check_box(
            f"{path}: structure {k}",
            manifest,
            frame,
            cell[k] if cell.ndim == 3 else cell,
            periodic[k] if periodic.ndim == 2 else periodic,
        )


class NpzArrays:
    """The arrays of an npz file, each read from the start in pieces. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._archive = self._stack.enter_context(zipfile.ZipFile(path))
        self._keys = {name.removesuffix(".npy"): name for name in self._archive.namelist()}
        self._streams: dict[str, tuple[IO[bytes], tuple[int, ...], np.dtype]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> set[str]:
        """Names of the arrays."""
        return set(self._keys)

    def _open(self, key: str) -> tuple[IO[bytes], tuple[int, ...], np.dtype]:
        require(self._path, self._keys, key)
        stream = self._stack.enter_context(self._archive.open(self._keys[key]))
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        if dtype.hasobject:
            raise DataCorrupt(f"{self._path}: key {key!r}: expected numbers, got {dtype=}, which is never unpickled")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > _MOST_BYTES:
            raise DataCorrupt(f"{self._path}: key {key!r}: expected at most {_MOST_BYTES:,} bytes, got shape {shape}")
        if fortran and len(shape) > 1:  # its rows do not follow one another: it has to be turned as a whole
            whole = self._take(key, stream, shape[::-1], dtype).transpose()
            stream = BytesIO(np.ascontiguousarray(whole))
        return stream, shape, dtype

    def _stream(self, key: str) -> tuple[IO[bytes], tuple[int, ...], np.dtype]:
        if key not in self._streams:
            self._streams[key] = self._open(key)
        return self._streams[key]

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an array."""
        return self._stream(key)[1]

    def next(self, key: str, rows: int) -> NDArray:
        """The next rows of an array."""
        stream, shape, dtype = self._stream(key)
        return self._take(key, stream, (rows, *shape[1:]), dtype)

    def whole(self, key: str) -> NDArray:
        """A (small) array at once."""
        stream, shape, dtype = self._open(key)
        return self._take(key, stream, shape, dtype)

    def _take(self, key: str, stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        need = int(np.prod(shape)) * dtype.itemsize
        raw = stream.read(need)
        if len(raw) != need:
            raise DataCorrupt(f"{self._path}: key {key!r}: expected {need:,} bytes, got {len(raw):,}: cut short")
        return np.frombuffer(raw, dtype).reshape(shape)


def _check_fingerprint(path: Path) -> None:
    """sGDML files carry an md5 over the md5s of their arrays: right, or the file was changed after it was made."""
    with NpzArrays(path) as arrays:
        # Files of later versions of sGDML hash more than these keys.
        if not {"md5", "z", "R", "E", "F"} <= arrays.names or "code_version" in arrays.names:
            return
        declared = bytes(arrays.whole("md5").tobytes()).rstrip(b"\0").decode("ascii", "replace")
        total = hashlib.md5(usedforsecurity=False)
        for key in ("z", "R", "E", "F"):
            inner, shape = hashlib.md5(usedforsecurity=False), arrays.shape(key)
            for rows in slabs(shape[0] if shape else 0, 64):
                inner.update(np.ascontiguousarray(arrays.next(key, rows.stop - rows.start)))
            total.update(inner.digest())
        if total.hexdigest() != declared:
            raise DataCorrupt(f"{path}: expected the fingerprint {declared} that it carries, got {total.hexdigest()}")
