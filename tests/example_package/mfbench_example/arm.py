"""An arm: MF, and then the high-level head alone."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from mfbench.learning.arms import MF
from mfbench.learning.problem import Arm, Problem
from mfbench.learning.sources import Source
from mfbench.learning.training import Stage
from mfbench.models.backbones.kinds import Network
from mfbench.models.contract import Potential
from mfbench.records import Record


class RefinedOptions(Record):
    """How the budget of steps is divided."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the last stage


class Refined(Arm):
    """MF on part of the budget; the rest trains its heads on high-level energies, the network being frozen."""

    name, uses_low, uses_high = "refined", True, True
    takes_high_forces = False
    options = RefinedOptions

    def build(self, problem: Problem, network: Network, options: RefinedOptions) -> tuple[Potential, list[Stage]]:
        whole = problem.optimisation
        last = round(options.share * whole.steps)
        first = whole.model_copy(update={"steps": whole.steps - last})
        potential, stages = MF().build(replace(problem, optimisation=first), network)
        high = problem.at_high
        heads = Stage(
            potential,
            train=(Source(high.train, (high.term,)),),
            validation=(Source(high.validation, (high.term,)),),
            optimisation=whole.model_copy(update={"steps": last}),
            name="heads",
            frozen=("backbone.",),
        )
        return potential, [*stages, heads]
