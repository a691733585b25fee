"""The loss of a step: masked energy and force terms, each averaged over its labelled values only.

Per level, as in the authors' script: RMSE + MAE of the molecular energy (kcal/mol), RMSE + MAE of the force
components (kcal/mol/Angstrom) and the mean hierarchicality. Every term is formed from sums over all blocks
before it is divided or rooted, so that the loss does not depend on how a batch is arranged.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mfbench import units
from mfbench.batch import Block
from mfbench.manifest import Record
from mfbench.metrics import ErrorSums
from mfbench.potential import Potential, forces

KCAL = 1 / units.internal("kcal/mol")  # kcal/mol of one eV


class LossWeights(Record):
    """Weights of the terms, the same for every level."""

    energy: float = 1.0
    force: float = 1.0
    hierarchicality: float = 0.0


@dataclass(frozen=True)
class LevelSums:
    """Sums of one level's errors, in kcal/mol and kcal/mol/Angstrom; None where nothing is labelled."""

    energy: ErrorSums | None = None
    force: ErrorSums | None = None
    auxiliary: ErrorSums | None = None

    def __add__(self, other: "LevelSums") -> "LevelSums":
        return LevelSums(
            _add(self.energy, other.energy),
            _add(self.force, other.force),
            _add(self.auxiliary, other.auxiliary),
        )


def _add(a: ErrorSums | None, b: ErrorSums | None) -> ErrorSums | None:
    return a + b if a is not None and b is not None else a or b


def level_sums(
    potential: Potential, blocks: Iterable[Block], training: bool, auxiliary: bool = False
) -> dict[str, LevelSums]:
    """Errors of a potential over blocks, per level with labels that count.

    Args:
        training: whether gradients with respect to the parameters will be asked for.
        auxiliary: whether the potential's auxiliary loss is wanted.
    """
    total: dict[str, LevelSums] = {}
    for block in blocks:
        with torch.set_grad_enabled(training or bool(block.forces)):
            if block.forces:
                block = replace(block, positions=block.positions.detach().requires_grad_())
            out = potential(block, auxiliary)
            real = (block.numbers > 0).unsqueeze(-1)
            for column, name in enumerate(potential.levels):
                if name not in potential.heads:
                    continue
                mask = block.energy_mask[:, column]
                error = (out.energies[:, column] - block.energies[:, column]) * KCAL
                sums = LevelSums(ErrorSums.of(error, mask))
                if out.auxiliary is not None:
                    sums = replace(sums, auxiliary=ErrorSums.of(out.auxiliary[:, column], mask))
                if column in block.forces:
                    predicted = forces(out.energies, block.positions, column, create_graph=training)
                    force_error = (predicted - block.forces[column]) * KCAL
                    labelled = real & block.force_mask[:, column, None, None]
                    sums = replace(sums, force=ErrorSums.of(force_error, labelled))
                if not training:
                    sums = _detached(sums)
                total[name] = total.get(name, LevelSums()) + sums
    return total


def _detached(sums: LevelSums) -> LevelSums:
    def cut(s: ErrorSums | None) -> ErrorSums | None:
        return s and ErrorSums(s.n, s.absolute.detach(), s.square.detach())

    return LevelSums(cut(sums.energy), cut(sums.force), cut(sums.auxiliary))


def total_loss(sums: dict[str, LevelSums], weights: LossWeights) -> Tensor:
    """The scalar that is minimised. Terms without labels are zero, whatever was predicted for them."""
    loss = torch.zeros(())
    for level in sums.values():
        for weight, part in ((weights.energy, level.energy), (weights.force, level.force)):
            if part is not None:
                n = part.n.clamp_min(1)
                # The offset keeps the root's slope finite where all errors are zero.
                loss = loss + weight * (torch.sqrt(part.square / n + 1e-12) + part.absolute / n)
        if level.auxiliary is not None:
            mean = level.auxiliary.absolute / level.auxiliary.n.clamp_min(1)
            loss = loss + weights.hierarchicality * mean
    return loss
