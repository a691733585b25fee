"""Reader of the ANI-1x release's HDF5 schema: one group a formula (10.1038/s41597-020-0473-z)."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench.datasets.base import labels_of, numeric, positions_of, require, slabs
from mfbench.errors import DataCorrupt
from mfbench.manifest import Content, Manifest
from mfbench.structures import Frames


def read(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of each group; a group's attribute ``molecule`` (or its name) is the molecule."""
    with h5py.File(path, "r") as file:
        for name in file:
            # A link could lead to any file of the machine, so that only what lies in this one is followed.
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise DataCorrupt(f"{path}: {name!r}: expected a group, got a link to another place")
            group = file[name]
            if not isinstance(group, h5py.Group):
                raise DataCorrupt(f"{path}: {name!r}: expected a group, got a {type(group).__name__}")
            yield from _read_group(path, name, group, content, manifest)


def _read_group(path: Path, name: str, group: h5py.Group, content: Content, manifest: Manifest) -> Iterator[Frames]:
    data: dict[str, h5py.Dataset] = {}

    def dataset(key: str) -> h5py.Dataset:
        if key not in data:
            require(path, group, key)
            found = group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None
            if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
                raise DataCorrupt(f"{path}, {name}: key {key!r}: expected a data set stored in this file")
            if not found.shape:
                raise DataCorrupt(f"{path}, {name}: key {key!r}: expected an array, got shape {found.shape}")
            data[key] = found
        return data[key]

    numbers = numeric(path, "atomic_numbers", dataset("atomic_numbers")[()])
    coordinates = dataset("coordinates")
    n_frames = coordinates.shape[0]
    for rows in slabs(n_frames, len(numbers)):

        def values(key: str, rows: slice = rows) -> NDArray:
            if len(dataset(key)) != n_frames:
                raise DataCorrupt(
                    f"{path}, {name}: key {key!r}: expected {n_frames} rows, got shape {dataset(key).shape}"
                )
            return numeric(path, key, dataset(key)[rows])

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
