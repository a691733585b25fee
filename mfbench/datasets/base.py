"""What every reader needs: keys that must exist, and labels converted to internal units, once."""

from collections.abc import Callable, Container
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfbench import units
from mfbench.errors import DataCorrupt
from mfbench.manifest import Manifest

Values = Callable[[str], NDArray[np.float64]]


def require(path: Path, container: Container[str], *keys: str) -> None:
    """Raise DataCorrupt for a key that the file does not hold."""
    for key in keys:
        if key not in container:
            raise DataCorrupt(f"{path}: expected the key {key!r}, which the manifest or the format names")


def numeric(path: Path, key: str, array: NDArray) -> NDArray:
    """The array, where it holds real numbers; raises DataCorrupt for text, objects or complex numbers."""
    if array.dtype.kind not in "fiu":
        raise DataCorrupt(f"{path}: key {key!r}: expected real numbers, got {array.dtype=}")
    return array


def labels_of(
    manifest: Manifest, values: Values, n_frames: int, n_atoms: int, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels of one molecule's frames in eV and eV/Angstrom; NaN where a level has none.

    Args:
        values: reads one key of the file, in the file's units.
        where: the file (and group), for errors.

    Returns:
        Energies (C, L) and forces (C, L, N, 3), the levels from low to high.
    """
    energies = np.full((n_frames, len(manifest.labels)), np.nan)
    forces = np.full((n_frames, len(manifest.labels), n_atoms, 3), np.nan)
    for labels in manifest.labels:
        column = manifest.levels.index(labels.level)
        if labels.energy is not None:
            total = sum(_shaped(values(key), (n_frames,), key, where) for key in labels.energy.key)
            energies[:, column] = total * units.internal(labels.energy.unit)
        if labels.forces is not None:
            shape = (n_frames, n_atoms, 3)
            total = sum(_shaped(values(key), shape, key, where) for key in labels.forces.key)
            forces[:, column] = total * units.internal(labels.forces.unit)
    return energies, forces


def _shaped(array: NDArray[np.float64], shape: tuple[int, ...], key: str, where: str) -> NDArray[np.float64]:
    # sGDML files hold energies as (n, 1).
    squeezed = array[:, 0] if array.ndim == 2 and len(shape) == 1 and array.shape[1] == 1 else array
    if squeezed.shape != shape:
        raise DataCorrupt(f"{where}: key {key!r}: expected shape {shape}, got {array.shape}")
    return squeezed
