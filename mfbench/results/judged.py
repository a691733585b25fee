"""What predictions are judged on: at each level, in each part, each quantity, predicted beside reference."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbench.results.predictions import Predictions

Array = NDArray[np.float64]


def roles(count: int) -> tuple[str, ...]:
    """What each of an experiment's levels is to it, from low to high."""
    return ("low", *["further"] * (count - 2), "high")


@dataclass(frozen=True)
class Judged:
    """What is predicted of one quantity at one level in one part, and its reference: in eV, eV/atom or eV/Angstrom."""

    level: str
    role: str  # of the level
    head: str  # the level whose head predicted
    part: str
    quantity: str
    predicted: Array  # (n,), or (n, 3) of forces
    reference: Array
    labelled: NDArray[np.bool_]  # (n,) which of them have a reference that they can be compared with
    structure: NDArray[np.int64]  # (n,) rows of the predictions; of forces those of each atom
    remark: str  # why nothing is labelled

    @property
    def place(self) -> dict[str, str]:
        """Where its rows of the results table stand."""
        return {name: getattr(self, name) for name in ("level", "role", "head", "part", "quantity")}


def judged(predictions: Predictions) -> Iterator[Judged]:
    """All that can be judged."""
    p = predictions
    n_atoms = np.diff(p.offsets)
    structure = np.arange(len(n_atoms))
    owner = np.repeat(structure, n_atoms)
    for column, (level, role) in enumerate(zip(p.levels, roles(len(p.levels)))):
        head = p.heads[column]
        energies = p.energy_predicted[:, column], p.energy_reference[:, column]
        forces = tuple(one[:, column].astype(np.float64) for one in (p.force_predicted, p.force_reference))
        for part, chosen in (("test", ~p.unseen), ("unseen", p.unseen)):
            if not chosen.any():
                continue
            labelled = chosen & p.energy_mask[:, column]
            # Another level's total energy is not comparable: its atoms have other reference energies.
            comparable = labelled & (head == level)
            with_forces = (chosen & p.force_mask[:, column])[owner]
            relative = centred(energies[1], p.molecule, labelled)
            error = centred(energies[0] - energies[1], p.molecule, labelled)
            foreign = "" if head == level else f"no head at this level: judged by its {head} head"
            for quantity, (predicted, reference), mask, rows, remark in (
                ("energy", energies, comparable, structure, foreign),
                ("energy_per_atom", (energies[0] / n_atoms, energies[1] / n_atoms), comparable, structure, foreign),
                ("energy_relative", (relative + error, relative), labelled, structure, ""),
                ("force", forces, with_forces, owner, ""),
            ):
                remark = remark or f"no {quantity.split('_')[0]} labels at this level in this part"
                yield Judged(level, role, head, part, quantity, predicted, reference, mask, rows, remark)


def centred(values: Array, group: NDArray[np.integer], labelled: NDArray[np.bool_]) -> Array:
    """Values minus their mean over the labelled structures of each group, (S,): relative energies, or their errors."""
    kept = np.where(labelled, values, 0.0)
    total, count = np.bincount(group, kept), np.bincount(group, labelled)
    return values - (total / np.maximum(count, 1))[group]
