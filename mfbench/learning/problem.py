"""What an arm is, and what it is given: structures, levels, the selection, and which labels may be learned from."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from mfbench.data.splits import Indices, Selection
from mfbench.data.structures import Structures
from mfbench.learning.sources import Term
from mfbench.learning.training import Optimisation, Stage
from mfbench.models.backbones.kinds import Network
from mfbench.models.contract import Potential
from mfbench.records import Record


class Labelled(NamedTuple):
    """Structures of one level, to train and to validate on, with the labels that count there."""

    term: Term
    train: Indices
    validation: Indices


@dataclass(frozen=True)
class Problem:
    """What an arm may use: structures, levels, what is selected to train and validate on, and which labels of it."""

    structures: Structures
    low: str
    high: str
    selection: Selection
    optimisation: Optimisation
    pooled: bool = False  # one pool of fully labelled structures, as in the authors' script
    low_energies: bool = True
    low_forces: bool = True
    high_forces: float = 0.0  # fraction of the high-level structures; the others' are masked

    @property
    def at_low(self) -> Labelled:
        """The low level."""
        chosen = self.selection
        term = Term(self.low, energy=self.low_energies, forces=self.low_forces)
        return Labelled(term, chosen.train_low, chosen.validation_low)

    @property
    def at_high(self) -> Labelled:
        """The high level."""
        chosen = self.selection
        return Labelled(Term(self.high, forces=self.high_forces > 0), chosen.train_high, chosen.validation_high)

    @property
    def below_high(self) -> tuple[Labelled, ...]:
        """All levels but the high one, from low to high."""
        chosen = self.selection
        further = [
            Labelled(
                Term(name, energy=self.low_energies, forces=self.low_forces), train, chosen.validation_further[name]
            )
            for name, train in chosen.further.items()
        ]
        order = self.structures.levels.index
        return (self.at_low, *sorted(further, key=lambda one: order(one.term.level)))


class Arm(ABC):
    """What is trained on which labels."""

    name: ClassVar[str]
    uses_low: ClassVar[bool]
    uses_high: ClassVar[bool]
    high_forces: ClassVar[float] = 0.0  # fraction of the high-level structures whose forces it learns from by default
    takes_high_forces: ClassVar[bool] = True  # whether that fraction may be set
    trains_on_validation: ClassVar[bool] = False  # its high-level validation structures are trained on, too
    options: ClassVar[type[Record]] = Record
    version: ClassVar[str] = (
        ""  # of an arm of one's own: changed with what it does, so that old runs are not taken for new
    )

    @abstractmethod
    def build(self, problem: Problem, network: Network, options: Any) -> tuple[Potential, list[Stage]]:
        """The untrained potential and the stages that train it, in order.

        Args:
            options: an instance of the class's ``options``.

        Raises:
            LabelsMissing: the problem holds no labels of a kind that this arm trains on.
        """
