"""What a run predicted for its test structures, beside the reference; on disk as ``predictions.h5``
(``save_arrays`` and ``read_arrays``)."""

import io
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench.errors import DataCorrupt
from mfbench.files import read_bytes, write_bytes


def arrays_bytes(record: Any) -> bytes:
    """A dataclass of arrays (and tuples of names) as one HDF5 file, a data set (attribute) a field that is not None.

    It is made in memory: HDF5 on a disk that is full ends the process, where a write of bytes raises.
    """
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        for one in fields(record):
            value = getattr(record, one.name)
            if isinstance(value, tuple):
                file.attrs[one.name] = list(value)
            elif value is not None:
                file.create_dataset(one.name, data=value, compression="gzip" if value.size > 999 else None)
        file.flush()
        return file.id.get_file_image()


def arrays_from[R](content: bytes, kind: type[R], path: Path) -> R:
    """Read what ``arrays_bytes`` made and ``path`` held.

    Raises:
        DataCorrupt: it is no HDF5, or a field of ``kind`` is missing that has no default.
    """
    values: dict[str, Any] = {}
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for one in fields(kind):  # type: ignore[arg-type]
                if one.name in file:
                    values[one.name] = file[one.name][()]
                elif one.name in file.attrs:
                    values[one.name] = tuple(map(str, file.attrs[one.name]))
                elif one.default is MISSING:
                    raise DataCorrupt(f"{path}: expected the fields of {kind.__name__}, found no {one.name!r}")
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise DataCorrupt(f"{path}: expected {kind.__name__} as HDF5, got a damaged file: {error}") from error
    return kind(**values)


def save_arrays(path: Path, record: Any) -> None:
    """Write ``arrays_bytes`` by temp file and rename."""
    write_bytes(path, arrays_bytes(record))


def read_arrays[R](path: Path, kind: type[R]) -> R:
    """Read what ``save_arrays`` wrote; raises DataCorrupt where it is damaged, or a field of ``kind`` is missing."""
    return arrays_from(read_bytes(path), kind, path)


MAX_POSITIONS = 2000


@dataclass(frozen=True)
class Predictions:
    """T test structures with A atoms in all, at the two levels of a case (low, high).

    A missing reference label is a False in its mask. ``heads`` names the level whose head predicted each
    column: it differs from ``levels`` where the arm has no head for that level.
    """

    levels: tuple[str, ...]  # (2,)
    heads: tuple[str, ...]  # (2,)
    molecules: tuple[str, ...]
    structure: NDArray[np.int64]  # (T,) index in the case's data
    geometry: NDArray[np.int64]  # (T,)
    molecule: NDArray[np.int32]  # (T,)
    temperature: NDArray[np.float32]  # (T,) K, 0 where unknown
    unseen: NDArray[np.bool_]  # (T,) part: molecules never trained on
    offsets: NDArray[np.int64]  # (T + 1,)
    numbers: NDArray[np.uint8]  # (A,)
    energy_reference: NDArray[np.float64]  # (T, 2) eV
    energy_predicted: NDArray[np.float64]  # (T, 2) eV
    force_reference: NDArray[np.float32]  # (A, 2, 3) eV/Angstrom
    force_predicted: NDArray[np.float32]  # (A, 2, 3) eV/Angstrom
    energy_mask: NDArray[np.bool_]  # (T, 2)
    force_mask: NDArray[np.bool_]  # (T, 2)
    shown: NDArray[np.int64]  # (P,) rows of the structures whose positions are kept
    positions: NDArray[np.float64]  # atoms of those, one structure after the other, (., 3) Angstrom
    # (T,) Angstrom to the nearest structure trained on (``data.nearness``), NaN where none has the composition; None of
    # runs from before this was recorded.
    distance: NDArray[np.float32] | None = None

    def row(self, structure: int) -> int | None:
        """The row of a structure of the case's data; None where it is no test structure."""
        found = np.flatnonzero(self.structure == structure)
        return int(found[0]) if len(found) else None

    def atoms(self, row: int) -> slice:
        """The atoms of a row's structure."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))

    def positions_of(self, row: int) -> NDArray[np.float64] | None:
        """The positions of a row's structure, (N, 3) Angstrom; None where they are not kept."""
        place = int(np.searchsorted(self.shown, row))
        if place == len(self.shown) or self.shown[place] != row:
            return None
        start = int(np.diff(self.offsets)[self.shown[:place]].sum())
        atoms = self.atoms(row)
        return self.positions[start : start + atoms.stop - atoms.start]


def sample_rows(count: int, seed: int) -> NDArray[np.int64]:
    """At most ``MAX_POSITIONS`` of ``count`` rows, drawn by the seed, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:MAX_POSITIONS])
