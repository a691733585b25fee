"""Reader of the ANI-1x release's HDF5 schema: one group a formula (10.1038/s41597-020-0473-z)."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Manifest
from mfbench.data.readers.base import labels_of, numeric, positions_of, slabs, stored, stored_array
from mfbench.data.structures import Frames
from mfbench.errors import DataCorrupt


def read(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of each group; a group's attribute ``molecule`` (or its name) is the molecule."""
    with h5py.File(path, "r") as file:
        for name in file:
            group = stored(path, file, name)
            if not isinstance(group, h5py.Group):
                raise DataCorrupt(f"{path}: {name!r}: expected a group, got a {type(group).__name__}")
            yield from _read_group(path, name, group, content, manifest)


def _read_group(path: Path, name: str, group: h5py.Group, content: Content, manifest: Manifest) -> Iterator[Frames]:
    opened: dict[str, h5py.Dataset] = {}

    def dataset(key: str) -> h5py.Dataset:
        if key not in opened:
            opened[key] = stored_array(path, group, key)
        return opened[key]

    numbers = numeric(path, "atomic_numbers", dataset("atomic_numbers")[()])
    n_frames = dataset("coordinates").shape[0]
    for rows in slabs(n_frames, len(numbers)):
        held: dict[str, NDArray] = {}  # the Hartree-Fock energy is a term of several levels

        def values(key: str, rows: slice = rows, held: dict[str, NDArray] = held) -> NDArray:
            if key not in held:
                if (shape := dataset(key).shape)[0] != n_frames:
                    raise DataCorrupt(f"{path}, {name}: key {key!r}: expected {n_frames} rows, got shape {shape}")
                held[key] = numeric(path, key, dataset(key)[rows])
            return held[key]

        count = rows.stop - rows.start
        energies, forces = labels_of(manifest, content, values, count, len(numbers), f"{path}, {name}")
        yield Frames(
            molecule=str(group.attrs.get("molecule", name)),
            numbers=numbers,
            positions=positions_of(manifest, values("coordinates")),
            energies=energies,
            forces=forces,
            file=path.name,
            rows=np.arange(rows.start, rows.stop),
            temperature=values("temperature").astype(np.float32) if "temperature" in group else None,
        )
