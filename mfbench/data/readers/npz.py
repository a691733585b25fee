"""Readers of the one-molecule npz schemas: rMD17 (10.1088/2632-2153/abba6f) and sGDML (MD17, MD17-CC).

The arrays are read side by side in pieces, so that memory does not grow with their length, and never unpickled.
"""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Manifest
from mfbench.data.readers.arrays import Arrays, frames_of_arrays
from mfbench.data.readers.base import agree_units, at_once, is_box, missing, numeric, slabs
from mfbench.data.readers.words import Words, texts
from mfbench.data.structures import Frames
from mfbench.errors import DataCorrupt

_MOST_BYTES = 1 << 34  # of one array: more than any real one, less than what would fill a disk


def read_rmd17(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of one rMD17 file; ``old_indices`` is each frame's place in MD17."""
    yield from _read(path, content, manifest, numbers="nuclear_charges", positions="coords")


def read_sgdml(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of one sGDML dataset file, once they are what its own fingerprint says."""
    _check_fingerprint(path)
    yield from _read(path, content, manifest, numbers="z", positions="R")


def _read(path: Path, content: Content, manifest: Manifest, numbers: str, positions: str) -> Iterator[Frames]:
    words = Words.of(path, content, manifest)
    with NpzArrays(path) as arrays:
        _agree(path, arrays, content, manifest, positions)
        count = arrays.shape(positions)[0] if arrays.shape(positions) else 0

        def piece(key: str, rows: slice) -> NDArray:
            shape = arrays.shape(key)
            if not shape or shape[0] != count:
                raise DataCorrupt(f"{path}: key {key!r}: expected {count} rows, got shape {shape}")
            return arrays.next(key, rows.stop - rows.start)

        frames = Arrays(
            where=str(path),
            name=None,
            numbers=numeric(path, numbers, arrays.whole(numbers)),
            positions=positions,
            count=count,
            keys=frozenset(arrays.names),
            piece=piece,
            columns={key: arrays.whole(key) for key in arrays.names if words.wants(key)},
            boxes={key: arrays.whole(key) for key in arrays.names if is_box(key) and not words.wants(key)},
        )
        yield from words.told(frames_of_arrays(frames, words))


def _agree(path: Path, arrays: "NpzArrays", content: Content, manifest: Manifest, positions: str) -> None:
    """sGDML's files state the units of energies and lengths; those of forces follow."""
    names = arrays.names & {"e_unit", "r_unit"}
    unit = {key: texts(str(path), key, arrays.whole(key))[0] for key in names}

    def stated(_: str, kind: str) -> tuple[str, object] | None:
        keys = {"energy": ("e_unit",), "force": ("e_unit", "r_unit"), "length": ("r_unit",)}[kind]
        return (", ".join(keys), "/".join(unit[key] for key in keys)) if unit.keys() >= set(keys) else None

    agree_units(path, manifest, content, stated, positions)


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
        if key not in self._keys:
            raise missing(self._path, key)
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
        need = at_once(str(self._path), key, shape, dtype)
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
