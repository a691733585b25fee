"""Datasets: ``load(name) -> Structures``, from verified files, in internal units, checked by physics."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mfbench import resources
from mfbench.datasets import ani1x, npz
from mfbench.datasets.checks import check_physics
from mfbench.errors import DataCorrupt, UserError
from mfbench.manifest import Manifest, manifest, verified
from mfbench.structures import Frames, Structures, assemble, geometry_ids, join

Reader = Callable[[Path, Manifest], Iterator[Frames]]

READERS: dict[str, Reader] = {"ani1x": ani1x.read, "rmd17": npz.read_rmd17, "sgdml": npz.read_sgdml}

# What h5py and numpy raise for files that are cut short, damaged, of another kind or hold pickled objects.
_UNREADABLE = (
    OSError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def load(name: str | Manifest, folder: Path | None = None) -> Structures:
    """A dataset's structures, with geometry ids.

    Args:
        name: a shipped manifest's name, or a manifest.
        folder: where its files are (searched below it too). By default the package's own data for shipped
            datasets, else the folder that the environment variable MFBENCH_DATA names.

    Raises:
        UserError: no such dataset, or no such file.
        DataCorrupt: a file is not what the manifest declares.
    """
    declared = manifest(name) if isinstance(name, str) else name
    where = resources.mini_data() if declared.shipped else (folder or _data_folder(declared))
    structures = read(declared, [verified(file, where) for file in declared.files])
    _check_counts(declared, structures)
    check_physics(structures)
    return structures


def load_joined(names: tuple[str, ...], folder: Path | None = None) -> Structures:
    """Several datasets as one; geometries that recur between them share an id."""
    parts = [load(name, folder) for name in names]
    return parts[0] if len(parts) == 1 else join(parts)


def read(declared: Manifest, paths: list[Path]) -> Structures:
    """Read files that follow the manifest's format; what is not such a file raises DataCorrupt."""
    reader = READERS[declared.format]
    try:
        structures = assemble(declared.levels, (frames for path in paths for frames in reader(path, declared)))
    except UserError:
        raise
    except _UNREADABLE as error:
        names = ", ".join(path.name for path in paths)
        raise DataCorrupt(f"{names}: not a readable {declared.format} file: {error}") from error
    return replace(structures, geometry=geometry_ids(structures))


def _data_folder(declared: Manifest) -> Path:
    if not (folder := os.environ.get("MFBENCH_DATA")):
        raise UserError(
            f"the files of dataset {declared.name!r} do not ship with mfbench: name the folder that holds "
            f"{', '.join(file.name for file in declared.files)} with --data-folder or MFBENCH_DATA"
        )
    return Path(folder)


def _check_counts(declared: Manifest, structures: Structures) -> None:
    if len(structures) != declared.n_structures:
        raise DataCorrupt(f"{declared.name}: expected {declared.n_structures:,} structures, got {len(structures):,}")
    for labels in declared.labels:
        column = structures.level_index(labels.level)
        for kind, mask, expected in (
            ("energies", structures.energy_mask, labels.n_energy),
            ("forces", structures.force_mask, labels.n_forces),
        ):
            got = int(np.count_nonzero(mask[:, column]))
            if got != expected:
                raise DataCorrupt(f"{declared.name}: expected {expected:,} {kind} at {labels.level}, got {got:,}")
