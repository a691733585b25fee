"""An arm: MF, and then the high-level head alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mfbench.learning.arms import MF
from mfbench.learning.problem import Arm, Lesson, Levels, Problem, Stage, Training, sources_of
from mfbench.records import Record

if TYPE_CHECKING:
    from mfbench.models.backbones.kinds import Network
    from mfbench.models.contract import Potential


class RefinedOptions(Record):
    """How the budget of steps is divided."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the last stage


class Refined(Arm):
    """MF on part of the budget; the rest trains its heads on high-level energies, the network being frozen."""

    name, uses_low, uses_high = "refined", True, True
    takes_high_forces = False
    options = RefinedOptions

    def plan(self, problem: Problem, options: RefinedOptions) -> tuple[Lesson, ...]:
        whole = problem.optimisation
        last = whole.model_copy(update={"steps": round(options.share * whole.steps)})
        first = whole.model_copy(update={"steps": whole.steps - last.steps})
        heads = Lesson(*sources_of(problem.structures, problem.offers[-1:]), last, name="heads")
        return (*MF().plan(replace(problem, optimisation=first)), heads)

    def potential(self, network: "Network", levels: Levels, options: RefinedOptions) -> "Potential":
        return MF().potential(network, levels)

    def stages(
        self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: RefinedOptions
    ) -> list[Stage]:
        return [*MF().stages(potential, lessons[:1], problem), Training(potential, lessons[1], frozen=("backbone.",))]
