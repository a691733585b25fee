"""A dataset in a format of its own: a YAML manifest, a file, and the function that reads such files."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfbench.data.manifest import Content, Dataset, Manifest
from mfbench.data.readers.base import labels_of, positions_of
from mfbench.data.structures import Frames


def read(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of each molecule. Units, and which key is which label, are the manifest's."""
    for name, molecule in json.loads(path.read_text()).items():
        numbers = np.asarray(molecule["numbers"], np.uint8)

        def values(key: str, molecule: dict[str, list[float]] = molecule) -> NDArray[np.float64]:
            return np.asarray(molecule[key], np.float64)

        positions = values("positions")
        energies, forces = labels_of(manifest, content, values, len(positions), len(numbers), f"{path}, {name}")
        yield Frames(
            molecule=name,
            numbers=numbers,
            positions=positions_of(manifest, positions),
            energies=energies,
            forces=forces,
            file=path.name,
            rows=np.arange(len(positions)),
        )


HYDRIDES = Dataset.beside(Path(__file__).parent / "hydrides-data.yaml", read)
