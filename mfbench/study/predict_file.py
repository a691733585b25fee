"""Predictions for the structures of a file."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
from ase import Atoms

from mfbench.data.readers import xyz
from mfbench.errors import UserError
from mfbench.files import replacing
from mfbench.study.calculator import Prediction, Predictor

_AT_A_TIME = 512  # structures of a file


class Written(NamedTuple):
    """What was predicted."""

    structures: int
    outside: Mapping[str, int]  # why structures lie outside what was trained on, and how many; most first
    isotopes: int  # atoms that the file has as deuterium or tritium, read and written as hydrogen


def predict_file(
    model: Predictor,
    source: str | Path,
    out: str | Path,
    level: str | None = None,
    told: Callable[[int, int], Any] = lambda done, total: None,
) -> Written:
    """Predict the structures of an extended XYZ file, and write them with the predictions to another.

    To each structure are added ``mfbench_energy`` (eV), ``mfbench_forces`` (eV/Angstrom) and ``mfbench_level``; by a
    committee ``mfbench_energy_std`` and ``mfbench_forces_std``, too; and ``mfbench_outside`` to one that lies outside
    what was trained on. All else is kept, reference labels included, but keys without a value, and isotopes, which
    become hydrogen.

    Args:
        told: called with the numbers of structures done and in all.

    Raises:
        UserError: the file cannot be read or is cut short, ``out`` is the file itself; or see ``Predictor.predict``.
    """
    level = model.resolve(level)
    source, out = Path(source), Path(out)
    if not source.is_file():
        raise UserError(f"{source}: expected a file of structures (extended XYZ), found none")
    if out.exists() and out.samefile(source):
        raise UserError(f"{out}: expected another file than the one that is read; name a new one")
    total, done, isotopes, told_outside = _count(source), 0, 0, Counter[str]()
    with replacing(out) as temporary:
        frames = xyz.frames(source)
        while read := list(islice(frames, _AT_A_TIME)):
            some = [frame.atoms for frame in read]
            isotopes += sum(frame.isotopes for frame in read)
            try:
                found = model.predict(some, level)
            except UserError as error:
                which = f", counted from {done}" if done else ""
                raise UserError(f"{source}{which}: {error}") from error
            _add(some, found)
            told_outside.update(filter(None, found.outside))
            ase.io.write(temporary, some, format="extxyz", append=done > 0)
            done += len(some)
            told(done, total)
        if done != total:
            raise UserError(f"{source}: expected {total} structures, could read {done}")
    return Written(done, dict(told_outside.most_common()), isotopes)


def _add(frames: Sequence[Atoms], found: Prediction) -> None:
    """Add predictions to frames."""
    for s, atoms in enumerate(frames):
        rows = found.atoms_of(s)
        atoms.info["mfbench_level"], atoms.info["mfbench_energy"] = found.level, float(found.energies[s])
        if found.forces is not None:
            atoms.arrays["mfbench_forces"] = found.forces[rows]
        atoms.info.pop("mfbench_outside", None)
        if found.outside[s]:
            atoms.info["mfbench_outside"] = found.outside[s]
        # Of an earlier prediction that was a committee's, and that this one is not.
        atoms.info.pop("mfbench_energy_std", None)
        atoms.arrays.pop("mfbench_forces_std", None)
        if found.energies_std is not None and found.forces_std is not None:
            atoms.info["mfbench_energy_std"] = float(found.energies_std[s])
            atoms.arrays["mfbench_forces_std"] = found.forces_std[rows]


def _count(source: Path) -> int:
    """How many structures the file holds; raises UserError where there are none, or it is no such file."""
    count = xyz.count(source)
    if not count:
        raise UserError(f"{source}: expected structures, found none")
    return count
