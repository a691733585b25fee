"""Which of the labels that are there may be trained on: the axis of the study's title."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mfbench.data.splits import Indices, Selection
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.records import Record

Kind = Literal["low energy", "low force", "high energy", "high force"]

# Streams of random numbers, one a kind, apart from those of splits.
_STREAM: dict[str, int] = {"low energy": 100, "low force": 101, "high energy": 102, "high force": 103}


class Labels(Record):
    """What is taken away from the labels that an arm trains and validates on, or done to them. Test labels stay."""

    low_energies: bool = True  # of every level below the high one
    low_forces: bool = True
    # Fraction of the high-level structures; None: the arm's own.
    high_forces: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    # Standard deviation, eV or eV/Angstrom; low: of every level below the high one.
    noise: dict[Kind, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """What differs from all labels as they are, for people."""
        said = [f"no low {kind}" for kind in ("energies", "forces") if not getattr(self, f"low_{kind}")]
        said += [f"{self.high_forces:.0%} of high forces"] if self.high_forces is not None else []
        units = {"energy": "eV", "force": "eV/Å"}
        return said + [f"noise of {x:.3g} {units[kind.split()[1]]} on {kind}" for kind, x in self.noise.items()]

    def that_matter(self, low: bool, high: bool) -> "Labels":
        """The same for whoever learns from labels below the high level (``low``) or at it (``high``), or not."""
        used = {"low": low, "high": high}
        kept: dict[str, Any] = {"noise": {kind: x for kind, x in self.noise.items() if used[kind.split()[0]] and x}}
        kept |= {} if low else {"low_energies": True, "low_forces": True}
        return self.model_copy(update=kept)


def with_labels(structures: Structures, selection: Selection, high: str, labels: Labels, seed: int) -> Structures:
    """The structures with the labels that may be trained on masked and disturbed; what is judged on is untouched.

    Args:
        seed: of the noise, which is drawn for all structures, so that it depends on neither arm nor size.

    Raises:
        UserError: no low-level label would be left.
    """
    if not (labels.low_energies or labels.low_forces):
        raise UserError("labels: expected low-level energies, low-level forces or both, got neither")
    if labels == Labels():  # all as they are: nothing is copied
        return structures
    high_column = structures.level_index(high)
    below = {name: structures.level_index(name) for name in selection.levels if name != high}
    energy_mask, force_mask = structures.energy_mask.copy(), structures.force_mask.copy()
    energy_mask[:, [*below.values()]] &= labels.low_energies
    force_mask[:, [*below.values()]] &= labels.low_forces
    fraction = 1.0 if labels.high_forces is None else labels.high_forces
    for indices in selection.high:
        # A prefix of one order: what has forces at a small fraction has them at a larger one.
        force_mask[indices[round(fraction * len(indices)) :], high_column] = False
    # Structures whose labels are disturbed, at each level that a kind of noise is of.
    at_high = np.concatenate([selection.high.train, selection.oracle.validation, selection.oracle.train])
    used: dict[str, list[tuple[int, Indices]]] = {
        "low": [(column, np.union1d(*selection.levels[name])) for name, column in below.items()],
        "high": [(high_column, at_high)],
    }
    energies, forces = structures.energies.copy(), structures.forces
    for kind, size in labels.noise.items():
        role, what = kind.split()
        for place, (column, chosen) in enumerate(used[role]):
            rng = np.random.default_rng([seed, _STREAM[kind], *([place] if place else [])])
            indices = np.unique(chosen)
            if what == "energy":
                energies[indices, column] += rng.normal(0, size, len(structures))[indices]
            else:
                forces = _with_noisy_forces(structures, forces, column, indices, size, rng)
    return replace(structures, energy_mask=energy_mask, force_mask=force_mask, energies=energies, forces=forces)


def _with_noisy_forces(
    structures: Structures, forces: np.ndarray, column: int, indices: Indices, size: float, rng: np.random.Generator
) -> np.ndarray:
    atoms = structures.atoms_of(indices)
    noise = rng.normal(0, size, (len(structures.positions), 3))
    changed = forces.copy()
    changed[column, atoms] += noise[atoms].astype(np.float32)
    return changed
