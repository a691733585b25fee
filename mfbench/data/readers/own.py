"""Readers of people's own files that ASE reads: extended xyz, ASE's databases and trajectories.

The manifest names the keys of energies and forces, and may name those of the molecule, of a named set, and more.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
from ase import Atoms

from mfbench.data.manifest import Content, Manifest
from mfbench.data.molecules import CHARGE_KEYS, SPIN_KEYS, stated_by
from mfbench.data.readers import xyz
from mfbench.data.readers.base import agree, agree_all, check_box
from mfbench.data.readers.records import Record, frames_of_records
from mfbench.data.structures import Frames
from mfbench.errors import DataCorrupt


def read_extxyz(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield the frames of an extended xyz file: keys of the comment line and columns of the atoms."""

    def records() -> Iterator[Record]:
        for frame in xyz.frames(path, manifest.comment, manifest.columns):
            where = f"{path}: structure {frame.row}"
            _agree_words(path, frame.words, content, manifest)
            notes = ("deuterium or tritium, read as hydrogen",) if frame.isotopes else ()
            yield _record(
                where, frame.atoms, {**frame.atoms.info, **frame.atoms.arrays}, frame.words, manifest
            )._replace(notes=notes, bare=frame.bare)

    yield from frames_of_records(path, content, manifest, records())


def _agree_words(path: Path, words: Mapping[str, str], content: Content, manifest: Manifest) -> None:
    """Compare units that a comment line states: of a key, or of energies, forces and lengths in general."""

    def stated(key: str) -> str | None:
        return next((words[one] for one in (f"{key}_unit", f"{key}_units") if one in words), None)

    agree_all(path, manifest, content, stated)
    for labels in manifest.labels_in(content):
        for kind, part in (("energy", labels.energy), ("forces", labels.forces), ("force", labels.forces)):
            if part is not None and (text := stated(kind)) is not None:
                agree(path, f"{kind}_unit", text, part.unit)
    for kind in ("length", "position", "positions", "pos"):
        if (text := stated(kind)) is not None:
            agree(path, f"{kind}_unit", text, manifest.length_unit)


def read_ase(path: Path, content: Content, manifest: Manifest) -> Iterator[Frames]:
    """Yield what an ASE database or trajectory holds: keys of a row's data, key-value pairs, info, or calculator."""

    def trajectory() -> Iterator[Record]:
        for row, atoms in enumerate(ase.io.iread(path, index=":", format="traj")):
            values = {**atoms.info, **atoms.arrays}
            where = f"{path}: structure {row}"
            yield _record(where, atoms, values, _words(where, atoms.info, manifest), manifest)

    def database() -> Iterator[Record]:
        if not path.is_file():  # SQLite would make one
            raise FileNotFoundError(path)
        with ase.db.connect(path, type="db", use_lock_file=False) as found:
            _agree_metadata(path, found.metadata, content, manifest)
            for number, row in enumerate(found.select(sort="id")):
                values = {**row.key_value_pairs, **row.data}
                where = f"{path}: structure {number}"
                yield _record(where, row.toatoms(), values, _words(where, values, manifest), manifest)

    records = trajectory if path.suffix == ".traj" else database
    yield from frames_of_records(path, content, manifest, records())


def _words(where: str, values: Mapping[str, Any], manifest: Manifest) -> dict[str, str]:
    """What is one value a structure, also where it is stored as an array of one (SchNetPack's databases do)."""
    words = {}
    of_state = {(manifest.charge_key or "").lower(), (manifest.spin_key or "").lower(), *CHARGE_KEYS, *SPIN_KEYS}
    for key, value in values.items():
        array = np.asarray(value)
        if value is not None and array.size == 1:
            words[key] = str(array.reshape(-1)[0])
        elif value is not None and key.lower() in of_state:
            raise DataCorrupt(f"{where}: key {key!r}: expected one whole number, got {value!r:.40}")
    return words


def _agree_metadata(path: Path, metadata: Mapping[str, Any], content: Content, manifest: Manifest) -> None:
    """SchNetPack's databases state their units."""
    stated = metadata.get("_property_unit_dict")
    if isinstance(stated, dict):
        agree_all(path, manifest, content, lambda key: stated.get(key))
    if (length := metadata.get("_distance_unit")) is not None:
        agree(path, "_distance_unit", length, manifest.length_unit)


def _record(
    where: str, atoms: Atoms, values: Mapping[str, Any], words: Mapping[str, str], manifest: Manifest
) -> Record:
    """ASE hands energies and forces of well-known names to a calculator; they are keys like any other here."""
    if atoms.pbc.any():
        check_box(where, manifest, atoms.positions, atoms.cell.array, atoms.pbc)
    results = atoms.calc.results if atoms.calc is not None else {}
    found = {**results, **values}
    for key in [key for key, value in found.items() if value is None]:  # what a database has for no value
        del found[key]
    return Record(atoms.numbers, atoms.positions, found, stated_by(atoms, words))
