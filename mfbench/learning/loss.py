"""The loss of a step: masked energy and force terms, each averaged over its labelled values only.

Per level, as in the authors' script: RMSE + MAE of the molecular energy (kcal/mol), RMSE + MAE of the force
components (kcal/mol/Angstrom) and the mean hierarchicality. Every term is formed from sums over all blocks
before it is divided or rooted, so that the loss does not depend on how a batch is arranged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mfbench.learning.device import Labelled
from mfbench.learning.optimisation import DIFFERENCE, LossWeights
from mfbench.learning.sources import Source
from mfbench.learning.sums import ErrorSums
from mfbench.models.contract import Potential, forces
from mfbench.units import KCAL_PER_EV


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
    potential: Potential, blocks: Iterable[Labelled], training: bool, auxiliary: bool = False
) -> dict[str, LevelSums]:
    """Errors of a potential over blocks, per level with labels that count, or pair of levels ("high - low").

    Args:
        training: whether gradients with respect to the parameters will be asked for.
        auxiliary: whether the potential's auxiliary loss is wanted.
    """
    return reduced(block_sums(potential, one, training, auxiliary) for one in blocks)


def reduced(parts: Iterable[Mapping[str, LevelSums]]) -> dict[str, LevelSums]:
    """The sums over all blocks: the one place where they meet, and where those of other devices would be added."""
    total: dict[str, LevelSums] = {}
    for part in parts:
        for name, sums in part.items():
            total[name] = total.get(name, LevelSums()) + sums
    return total


def block_sums(potential: Potential, labelled: Labelled, training: bool, auxiliary: bool) -> dict[str, LevelSums]:
    """Errors of a potential over one block; see ``level_sums``."""
    _, block, targets = labelled
    found: dict[str, LevelSums] = {}
    with torch.set_grad_enabled(training or bool(targets.forces)):
        if targets.forces:
            block = replace(block, positions=block.positions.detach().requires_grad_())
        out = potential(block, auxiliary)
        real = (block.numbers > 0).unsqueeze(-1)
        for column, name in enumerate(potential.levels):
            if name not in potential.heads:
                continue
            mask = targets.energy_mask[:, column]
            error = (out.energies[:, column] - targets.energies[:, column]) * KCAL_PER_EV
            sums = LevelSums(ErrorSums.of(error, mask))
            if out.auxiliary is not None:
                sums = replace(sums, auxiliary=ErrorSums.of(out.auxiliary[:, column], mask))
            if column in targets.forces:
                predicted = forces(out.energies, block.positions, column, create_graph=training)
                force_error = (predicted - targets.forces[column]) * KCAL_PER_EV
                counts = real & targets.force_mask[:, column, None, None]
                sums = replace(sums, force=ErrorSums.of(force_error, counts))
            found[name] = sums
        for (one, other), mask in targets.difference_masks.items():
            predicted = out.energies[:, one] - out.energies[:, other]
            error = (predicted - (targets.energies[:, one] - targets.energies[:, other])) * KCAL_PER_EV
            name = DIFFERENCE.join((potential.levels[one], potential.levels[other]))
            found[name] = LevelSums(ErrorSums.of(error, mask))
    return found if training else {name: _detached(sums) for name, sums in found.items()}


def _detached(sums: LevelSums) -> LevelSums:
    def cut(s: ErrorSums | None) -> ErrorSums | None:
        return s and ErrorSums(s.n, s.absolute.detach(), s.square.detach())

    return LevelSums(cut(sums.energy), cut(sums.force), cut(sums.auxiliary))


def term_names(sources: Iterable[Source]) -> list[str]:
    """The terms that a loss over the sources has, each named by level and label, in alphabetical order."""
    names = set()
    for term in (term for source in sources for term in source.terms):
        level = term.level if term.minus is None else DIFFERENCE.join((term.level, term.minus))
        names |= {f"{level} {label}" for label, counts in (("energy", term.energy), ("force", term.forces)) if counts}
    return sorted(names)


def total_loss(
    sums: Mapping[str, LevelSums], weights: LossWeights, log_scales: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The scalar that is minimised. Terms without labels are zero, whatever was predicted for them.

    Args:
        sums: at least one level's.
        log_scales: by name (``term_names``), the logarithm s of a term's learned scale: the term L becomes
            L exp(-s) + s, the negative logarithm of a Laplace likelihood of that scale (Kendall, Gal and Cipolla,
            CVPR 2018, for several tasks). At its best s = log L, so that terms are balanced by their own size.
    """
    terms: list[Tensor] = []
    for name, level in sums.items():
        own = weights.of(name)
        for label, weight, part in (("energy", own.energy, level.energy), ("force", own.force, level.force)):
            if part is not None:
                n = part.n.clamp_min(1)
                # The offset keeps the root's slope finite where all errors are zero.
                term = torch.sqrt(part.square / n + 1e-12) + part.absolute / n
                if log_scales is not None and (key := f"{name} {label}") in log_scales:
                    term = term * torch.exp(-log_scales[key]) + log_scales[key]
                terms.append(weight * term)
        if level.auxiliary is not None:
            mean = level.auxiliary.absolute / level.auxiliary.n.clamp_min(1)
            terms.append(weights.hierarchicality * mean)
    return sum(terms[1:], terms[0])
