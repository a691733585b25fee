"""What a run predicted for its test structures, beside the reference; on disk as ``predictions.h5``
(``structures.save_arrays`` and ``read_arrays``)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def sample_rows(count: int, seed: int) -> NDArray[np.int64]:
    """At most ``MAX_POSITIONS`` of ``count`` rows, drawn by the seed, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:MAX_POSITIONS])
