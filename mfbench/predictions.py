"""What a run predicted for its test structures, beside the reference; on disk as ``predictions.h5``."""

from dataclasses import dataclass, fields
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench.errors import DataCorrupt
from mfbench.results import replacing

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

    def save(self, path: Path) -> None:
        """Write by temp file and rename."""
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            for field in fields(self):
                value = getattr(self, field.name)
                if isinstance(value, tuple):
                    file.attrs[field.name] = list(value)
                else:
                    file.create_dataset(field.name, data=value, compression="gzip" if value.size > 999 else None)

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read what ``save`` wrote; raises DataCorrupt where a field is missing."""
        with h5py.File(path, "r") as file:
            missing = [f.name for f in fields(cls) if f.name not in file and f.name not in file.attrs]
            if missing:
                raise DataCorrupt(f"{path}: expected the fields of Predictions, {missing=}")
            return cls(
                **{
                    f.name: file[f.name][()] if f.name in file else tuple(map(str, file.attrs[f.name]))
                    for f in fields(cls)
                }
            )


def sample_rows(count: int, seed: int) -> NDArray[np.int64]:
    """At most ``MAX_POSITIONS`` of ``count`` rows, drawn by the seed, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:MAX_POSITIONS])
