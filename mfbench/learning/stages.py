"""A stage: what is trained, on what, and how: by gradient steps, or in closed form."""

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import nn

from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.learning.device import DeviceStructures
from mfbench.learning.predict import predict
from mfbench.learning.problem import Arm, Lesson, Problem
from mfbench.learning.sources import MAX_PAIRS, Source, Term
from mfbench.models.atomic import fit_atomic_energies
from mfbench.models.backbones.kinds import Network
from mfbench.models.contract import Potential
from mfbench.models.linear import LinearPotential
from mfbench.models.potentials import HeadsPotential

Action = Callable[[DeviceStructures], None]  # done with the structures on the device


@dataclass(frozen=True)
class Stage(ABC):
    """One step of an arm's training."""

    potential: Potential  # the arm's, a part of it, or another sum of its parts
    lesson: Lesson


@final
@dataclass(frozen=True)
class Training(Stage):
    """Gradient steps on what the lesson names.

    The selection error is the sum of energy (kcal/mol) and force (kcal/mol/Angstrom) errors of the
    validation sources' terms; without validation sources the last weights are kept.
    """

    frozen: tuple[str, ...] = ()  # beginnings of the names of parameters that are not trained
    start: Action | None = None  # done before: copy weights, fit atomic energies

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        named = self.potential.named_parameters()
        return {name: parameter for name, parameter in named if not name.startswith(self.frozen)}


@final
@dataclass(frozen=True)
class ClosedForm(Stage):
    """A fit in closed form: no gradient, no step, nothing to select."""

    solve: Action


def assembled(arm: Arm, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
    """An arm's untrained potential and its stages; raises LabelsMissing.

    Args:
        options: an instance of the arm's ``options``; its defaults otherwise.
    """
    options = options or arm.options()
    lessons = arm.plan(problem, options)
    potential = arm.potential(network, problem.levels, options)
    return potential, arm.stages(potential, lessons, problem, options)


# What stages are made of


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
