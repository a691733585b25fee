"""Which of the labels that are there may be trained on: the axis of the study's title."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mfbench.errors import UserError
from mfbench.manifest import Record
from mfbench.splits import Indices, Selection
from mfbench.structures import Structures

Kind = Literal["low energy", "low force", "high energy", "high force"]
# Streams of random numbers, one a kind, apart from those of splits.
_STREAM: dict[str, int] = {"low energy": 100, "low force": 101, "high energy": 102, "high force": 103}


class Labels(Record):
    """What is taken away from the labels that an arm trains and validates on, or done to them. Test labels stay."""

    low_energies: bool = True  # of every level below the high one
    low_forces: bool = True
    high_forces: Annotated[float, Field(ge=0, le=1)] | None = None  # fraction of structures; None: the arm's own
    noise: dict[Kind, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict
    )  # standard deviation, eV, eV/Angstrom


def with_labels(
    structures: Structures, selection: Selection, low: str, high: str, labels: Labels, seed: int
) -> Structures:
    """The structures with the labels that may be trained on masked and disturbed; what is judged on is untouched.

    Args:
        seed: of the noise, which is drawn for all structures, so that it depends on neither arm nor size.

    Raises:
        UserError: no low-level label would be left.
    """
    if not (labels.low_energies or labels.low_forces):
        raise UserError("labels: expected low-level energies, low-level forces or both, got neither")
    high_column = structures.level_index(high)
    fraction = 1.0 if labels.high_forces is None else labels.high_forces
    force_mask = structures.force_mask
    if fraction < 1:
        force_mask = force_mask.copy()
        for indices in (selection.train_high, selection.validation_high):
            # A prefix of one order: what has forces at a small fraction has them at a larger one.
            force_mask[indices[round(fraction * len(indices)) :], high_column] = False
    energies, forces = structures.energies, structures.forces
    used = {
        "low": np.union1d(selection.train_low, selection.validation_low),
        "high": np.concatenate([selection.train_high, selection.validation_oracle, selection.oracle]),
    }
    for kind, size in labels.noise.items():
        role, what = kind.split()
        column, rng = (
            structures.level_index(low if role == "low" else high),
            np.random.default_rng([seed, _STREAM[kind]]),
        )
        indices = np.unique(used[role])
        if what == "energy":
            noise = rng.normal(0, size, len(structures))
            energies = energies.copy()
            energies[indices, column] += noise[indices]
        else:
            forces = _with_noisy_forces(structures, forces, column, indices, size, rng)
    return replace(structures, force_mask=force_mask, energies=energies, forces=forces)


def _with_noisy_forces(
    structures: Structures, forces: np.ndarray, column: int, indices: Indices, size: float, rng: np.random.Generator
) -> np.ndarray:
    atoms = structures.atoms_of(indices)
    noise = rng.normal(0, size, (len(structures.positions), 3))
    changed = forces.copy()
    changed[column, atoms] += noise[atoms].astype(np.float32)
    return changed
