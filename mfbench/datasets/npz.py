"""Readers of the one-molecule npz schemas: rMD17 (10.1088/2632-2153/abba6f) and sGDML (MD17, MD17-CC)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfbench import units
from mfbench.datasets.base import labels_of, numeric, require
from mfbench.manifest import Manifest
from mfbench.structures import Frames, formula


def read_rmd17(path: Path, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of one rMD17 file; ``old_indices`` is each frame's place in MD17."""
    yield from _read(path, manifest, numbers="nuclear_charges", positions="coords")


def read_sgdml(path: Path, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of one sGDML dataset file."""
    yield from _read(path, manifest, numbers="z", positions="R")


def _read(path: Path, manifest: Manifest, numbers: str, positions: str) -> Iterator[Frames]:
    with np.load(path, allow_pickle=False) as archive:
        require(path, archive, numbers, positions)

        def values(key: str, archive: Mapping[str, NDArray] = archive) -> NDArray[np.float64]:
            require(path, archive, key)
            return numeric(path, key, archive[key]).astype(np.float64)

        z = numeric(path, numbers, archive[numbers])
        xyz = values(positions) * units.internal(manifest.length_unit)
        energies, forces = labels_of(manifest, values, len(xyz), len(z), str(path))
        yield Frames(
            molecule=formula(z),
            numbers=z,
            positions=xyz,
            energies=energies,
            forces=forces,
            file=path.name,
            rows=np.arange(len(xyz)),
        )
