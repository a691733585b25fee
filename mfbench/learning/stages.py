"""What stages do beside gradient steps: fit atomic energies, hand weights on, solve for a difference."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.learning.device import DeviceStructures
from mfbench.learning.predict import predict
from mfbench.learning.problem import Lesson, determined_by, energies_of
from mfbench.learning.sources import MAX_PAIRS, Source
from mfbench.models.atomic import N_ROWS, base_of, fit_atomic_energies
from mfbench.models.contract import Potential
from mfbench.models.determined import determined
from mfbench.models.linear import LinearPotential
from mfbench.models.potentials import HeadsPotential, atomic_energies

Action = Callable[[DeviceStructures], None]  # done with the structures on the device

Base = Callable[[], NDArray[np.float64]]  # gives atomic energies, (largest atomic number + 1,) eV


def shift_to_labels(potential: Potential, structures: Structures, sources: Sequence[Source]) -> None:
    """Fit the atomic energies of every level that the sources name the energies of, on those labels.

    From low to high: where a level's labels do not determine them, they begin with those of the level below.
    """
    labelled = {k: v for k, v in energies_of(structures, sources).items() if k in potential.heads}
    found, below = determined(structures, labelled), np.zeros(N_ROWS)
    for level in found:
        indices, column = labelled[level], structures.level_index(level)
        if len(indices):
            start = base_of(found, level, below)
            below = fit_atomic_energies(structures, indices, structures.energies[indices, column], start)
            potential.shift(level, below)


def refit(
    potential: Potential, structures: Structures, level: str, source: Source, start_with: Base | None = None
) -> Action:
    """Fits the atomic energies of a level to what the potential leaves of the source's labels.

    Least squares of atomic contributions, the "dressed atoms" of Hansen et al. (10.1021/ct400195d).

    Args:
        start_with: gives what they are where the labels do not determine them; zeros by default.
    """
    column = structures.level_index(level)
    indices = source.indices[structures.energy_mask[source.indices, column]]

    def start(data: DeviceStructures) -> None:
        if not len(indices):  # forces alone are learned from at this level: its energies have no zero
            return
        found = predict(potential, data.atoms, indices, (level,), forces=False).energies[:, 0]
        left = structures.energies[indices, column] - found
        base = None if start_with is None else start_with()
        potential.shift(level, fit_atomic_energies(structures, indices, left, base))

    return start


def start_of(
    level: str, before: Potential, structures: Structures, lessons: Sequence[Lesson], difference: bool = True
) -> Base:
    """Gives where a level's atomic energies, or their difference from the level below, begin.

    Args:
        before: what has the atomic energies of the level below.
        lessons: all of the arm's.
    """
    found = determined_by(structures, lessons)

    def base() -> NDArray[np.float64]:
        if level not in found:  # energies that are there but not learned from
            return np.zeros(N_ROWS)
        below = found[level].below
        return base_of(found, level, atomic_energies(before, below) if below else np.zeros(N_ROWS), difference)

    return base


def frozen_blocks(potential: Potential, freeze: str | int) -> tuple[str, ...]:
    """Beginnings of the names of the parameters of a network, or of its first blocks; raises UserError."""
    assert isinstance(potential, HeadsPotential)
    if freeze == "nothing":
        return ()
    if freeze == "backbone":
        return ("backbone.",)
    blocks = potential.backbone.parameter_blocks
    if not isinstance(freeze, int) or freeze > len(blocks):
        raise UserError(f"freeze: expected at most the {len(blocks)} blocks that this network has, got {freeze}")
    return tuple(f"backbone.{name}" for block in blocks[:freeze] for name in block)


def go_on(before: Potential, after: Potential, head: str, then: Action) -> Action:
    """Gives ``after`` the weights of ``before``, the head's where it is "kept"; then does what is to follow."""
    assert isinstance(before, HeadsPotential)
    assert isinstance(after, HeadsPotential)

    def start(data: DeviceStructures) -> None:
        after.backbone.load_state_dict(before.backbone.state_dict())
        if head == "kept":
            after.linear.load_state_dict(before.linear.state_dict())
        then(data)

    return start


def fit_difference(
    difference: Potential,
    so_far: Potential,
    structures: Structures,
    sources: Sequence[Source],
    below: str,
    start_with: Base | None = None,
) -> Action:
    """Fits a linear potential to each source's energies minus its other level's, or minus what is predicted.

    Args:
        so_far: what predicts the level ``below``.
        start_with: gives what its atomic energies are where the labels do not determine them; zeros by default.
    """
    assert isinstance(difference, LinearPotential)
    (level,) = difference.heads

    def solve(data: DeviceStructures) -> None:
        left = np.zeros(len(structures))
        for source in sources:
            (term,) = source.terms
            left[source.indices] = structures.energies[source.indices, structures.level_index(term.level)]
            if term.minus is not None:
                left[source.indices] -= structures.energies[source.indices, structures.level_index(term.minus)]
            else:
                left[source.indices] -= predict(so_far, data.atoms, source.indices, (below,), False).energies[:, 0]
        base = np.zeros(N_ROWS) if start_with is None else start_with()
        if base.any():
            left -= np.add.reduceat(base[structures.numbers], structures.offsets[:-1])
        blocks = list(data.blocks(sources, max_pairs=MAX_PAIRS // 4))  # its features are many a pair
        targets = [torch.as_tensor(left[one.rows], device=data.device) for one in blocks]
        difference.fit([one.block for one in blocks], targets)
        difference.shift(level, base)

    return solve
