"""Reader of the ANI-1x release's HDF5 schema: one group a formula (10.1038/s41597-020-0473-z)."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mfbench import units
from mfbench.datasets.base import labels_of, numeric, require
from mfbench.manifest import Manifest
from mfbench.structures import Frames


def read(path: Path, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of each group; a group's attribute ``molecule`` (or its name) is the molecule."""
    with h5py.File(path, "r") as file:
        for name, group in file.items():
            require(path, group, "atomic_numbers", "coordinates")

            def values(key: str, group: h5py.Group = group) -> NDArray[np.float64]:
                require(path, group, key)
                return numeric(path, key, group[key][()]).astype(np.float64)

            numbers = numeric(path, "atomic_numbers", group["atomic_numbers"][()])
            positions = values("coordinates") * units.internal(manifest.length_unit)
            energies, forces = labels_of(manifest, values, len(positions), len(numbers), f"{path}, {name}")
            yield Frames(
                molecule=str(group.attrs.get("molecule", name)),
                numbers=numbers,
                positions=positions,
                energies=energies,
                forces=forces,
                file=path.name,
                rows=np.arange(len(positions)),
                temperature=values("temperature") if "temperature" in group else None,
            )
