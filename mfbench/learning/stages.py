"""What stages do beside gradient steps: fit atomic energies, hand weights on, solve for a difference."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.learning.device import DeviceStructures
from mfbench.learning.predict import predict
from mfbench.learning.sources import MAX_PAIRS, Source, Term
from mfbench.models.atomic import fit_atomic_energies
from mfbench.models.contract import Potential
from mfbench.models.linear import LinearPotential
from mfbench.models.potentials import HeadsPotential

Action = Callable[[DeviceStructures], None]  # done with the structures on the device


def shift_to_labels(potential: Potential, structures: Structures, sources: Sequence[Source]) -> None:
    """Fit the atomic energies of every level that the sources name the energies of, on those labels."""
    for level in potential.heads:
        named = [s.indices for s in sources if Term(level) in [Term(t.level, t.energy) for t in s.terms]]
        if named:
            indices, column = np.concatenate(named), structures.level_index(level)
            indices = indices[structures.energy_mask[indices, column]]
            potential.shift(level, fit_atomic_energies(structures, indices, structures.energies[indices, column]))


def refit(potential: Potential, structures: Structures, level: str, source: Source) -> Action:
    """Fits the atomic energies of a level to what the potential leaves of the source's labels.

    Least squares of atomic contributions, the "dressed atoms" of Hansen et al. (10.1021/ct400195d).
    """
    column = structures.level_index(level)
    indices = source.indices[structures.energy_mask[source.indices, column]]

    def start(data: DeviceStructures) -> None:
        if not len(indices):  # forces alone are learned from at this level: its energies have no zero
            return
        found = predict(potential, data.atoms, indices, (level,), forces=False).energies[:, 0]
        left = structures.energies[indices, column] - found
        potential.shift(level, fit_atomic_energies(structures, indices, left))

    return start


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
    difference: Potential, so_far: Potential, structures: Structures, sources: Sequence[Source], below: str
) -> Action:
    """Fits a linear potential to each source's energies minus its other level's, or minus what is predicted.

    Args:
        so_far: what predicts the level ``below``.
    """
    assert isinstance(difference, LinearPotential)

    def solve(data: DeviceStructures) -> None:
        left = np.zeros(len(structures))
        for source in sources:
            (term,) = source.terms
            left[source.indices] = structures.energies[source.indices, structures.level_index(term.level)]
            if term.minus is not None:
                left[source.indices] -= structures.energies[source.indices, structures.level_index(term.minus)]
            else:
                left[source.indices] -= predict(so_far, data.atoms, source.indices, (below,), False).energies[:, 0]
        blocks = list(data.blocks(sources, max_pairs=MAX_PAIRS // 4))  # its features are many a pair
        targets = [torch.as_tensor(left[one.rows], device=data.device) for one in blocks]
        difference.fit([one.block for one in blocks], targets)

    return solve
