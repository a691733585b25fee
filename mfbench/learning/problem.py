"""What an arm is, and what it is given: levels, structures, the selection, and which labels may be learned from.

Nothing here loads torch: what an arm learns from can be told, exported and counted without a network.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, final

import numpy as np

from mfbench.data.splits import Indices, Selection
from mfbench.data.structures import Structures
from mfbench.errors import LabelsMissing
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.sources import Source, Term
from mfbench.models.determined import Determined, determined
from mfbench.records import Record

if TYPE_CHECKING:
    from torch import nn

    from mfbench.learning.device import DeviceStructures
    from mfbench.models.backbones.kinds import Network
    from mfbench.models.contract import Potential


@dataclass(frozen=True)
class Levels:
    """The levels of an experiment, and which of their labels may be learned from. It takes no data to tell."""

    columns: tuple[str, ...]  # all levels of the data, in the order of their label arrays and of energies (B, L)
    terms: tuple[Term, ...]  # those of the experiment from low to high, each with the labels that may be learned from

    @classmethod
    def of(
        cls,
        columns: tuple[str, ...],
        low: str,
        high: str,
        further: Sequence[str] = (),
        low_energies: bool = True,
        low_forces: bool = True,
        high_forces: bool = False,
    ) -> "Levels":
        """Two levels of the data, with ``further`` ones between: energies, and of all but the high one forces.

        Args:
            low_energies, low_forces: whether these may be learned from below the high level.
            high_forces: whether those may.
        """
        below = (low, *(name for name in columns if name in further))
        return cls(columns, (*(Term(name, low_energies, low_forces) for name in below), Term(high, forces=high_forces)))

    @property
    def low(self) -> str:
        """Name of the lowest."""
        return self.terms[0].level

    @property
    def high(self) -> str:
        """Name of the highest."""
        return self.terms[-1].level


class Offer(NamedTuple):
    """What a level offers: structures to train and to validate on, with the labels that count there."""

    term: Term
    train: Indices
    validation: Indices


@dataclass(frozen=True)
class Problem:
    """What an arm may use: structures, levels, what is selected to train and validate on, and the budget."""

    structures: Structures
    levels: Levels
    selection: Selection
    optimisation: Optimisation
    pooled: bool = False  # one pool of fully labelled structures, as in the authors' script

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What each level offers, from low to high."""
        chosen = self.selection.levels
        return tuple(Offer(term, *chosen[term.level]) for term in self.levels.terms)


@dataclass(frozen=True)
class Lesson:
    """What one stage learns from: numpy alone."""

    train: tuple[Source, ...]
    validation: tuple[Source, ...]
    optimisation: Optimisation  # of a closed form, with no steps
    name: str = ""  # for people, where an arm has several
    shared: bool = False  # not this experiment's alone: others may start from what it leaves
    closed_form: bool = False


@dataclass(frozen=True)
class Stage(ABC):
    """One step of an arm's training."""

    potential: "Potential"  # the arm's, a part of it, or another sum of its parts
    lesson: Lesson


@final
@dataclass(frozen=True)
class Training(Stage):
    """Gradient steps on what the lesson names.

    The selection error is the sum of energy (kcal/mol) and force (kcal/mol/Angstrom) errors of the
    validation sources' terms; without validation sources the last weights are kept.
    """

    frozen: tuple[str, ...] = ()  # beginnings of the names of parameters that are not trained
    start: "Callable[[DeviceStructures], None] | None" = None  # done before: copy weights, fit atomic energies

    def trained(self) -> "dict[str, nn.Parameter]":
        """The parameters that are trained, by name."""
        named = self.potential.named_parameters()
        return {name: parameter for name, parameter in named if not name.startswith(self.frozen)}


@final
@dataclass(frozen=True)
class ClosedForm(Stage):
    """A fit in closed form: no gradient, no step, nothing to select."""

    solve: "Callable[[DeviceStructures], None]"


class Arm(ABC):
    """What is trained on which labels: a potential, and the stages that train it. Nothing more."""

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
    def plan(self, problem: Problem, options: Any) -> tuple[Lesson, ...]:
        """What each stage learns from, in order.

        Args:
            options: an instance of the class's ``options``.

        Raises:
            LabelsMissing: the problem holds no labels of a kind that this arm trains on.
        """

    @abstractmethod
    def potential(self, network: "Network", levels: Levels, options: Any) -> "Potential":
        """The untrained potential, its atomic energies zero. It has one shape, whatever the data."""

    @abstractmethod
    def stages(self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: Any) -> list[Stage]:
        """What trains the potential that ``potential`` made, a stage for each lesson of ``plan``.

        Atomic energies that depend on labels alone are fitted here.
        """

    def learns(self, levels: Levels, options: Any) -> tuple[Term, ...]:
        """The labels that it learns from, by level from low to high."""
        return tuple(t for t in levels.terms if (self.uses_high if t.level == levels.high else self.uses_low))

    def fits_networks(self, level: str, levels: Levels) -> bool:
        """Whether the labels of a level that it learns from train a network, and not atomic energies alone."""
        return True


def assembled(arm: Arm, problem: Problem, network: "Network", options: Any = None) -> "tuple[Potential, list[Stage]]":
    """An arm's untrained potential and its stages; raises LabelsMissing.

    Args:
        options: an instance of the arm's ``options``; its defaults otherwise.
    """
    options = options or arm.options()
    lessons = arm.plan(problem, options)
    potential = arm.potential(network, problem.levels, options)
    return potential, arm.stages(potential, lessons, problem, options)


# What is learned from


def energies_of(structures: Structures, sources: Sequence[Source]) -> dict[str, Indices]:
    """By level, the structures whose energies the sources name and have, in their order."""
    named: dict[str, list[Indices]] = {}
    for source in sources:
        for level in dict.fromkeys(term.level for term in source.terms if term.energy):
            named.setdefault(level, []).append(source.indices)
    joined = {level: np.concatenate(indices) for level, indices in named.items()}
    return {
        level: indices[structures.energy_mask[indices, structures.level_index(level)]]
        for level, indices in joined.items()
    }


def trained_on(lessons: Sequence[Lesson]) -> Indices:
    """The structures that lessons train on, with any label, each once in ascending order."""
    return np.unique(np.concatenate([source.indices for one in lessons for source in one.train]))


def determined_by(structures: Structures, lessons: Sequence[Lesson]) -> dict[str, Determined]:
    """What the energies that lessons train on determine, by level."""
    return determined(structures, energies_of(structures, [source for one in lessons for source in one.train]))


# What plans are made of


def with_labels_of(structures: Structures, source: Source, whole: bool = False, needs_all: bool = True) -> Source:
    """The source's structures that have a label of its terms (``whole``: every one).

    Raises:
        LabelsMissing: no structure is left; or, with ``needs_all``, there is no label of one of the kinds named.
    """
    keep = np.full(len(source.indices), whole)
    for term in source.terms:
        columns = [structures.level_index(name) for name in (term.level, term.minus) if name is not None]
        for wanted, mask, kind in (
            (term.energy, structures.energy_mask, "energies"),
            (term.forces, structures.force_mask, "forces"),
        ):
            if wanted:
                there = mask[source.indices][:, columns].all(1)
                if needs_all and not there.any():
                    raise LabelsMissing(
                        f"no {kind} at {' and '.join(structures.levels[k] for k in columns)} to train on: "
                        "expected some among the structures selected, found none"
                    )
                keep = keep & there if whole else keep | there
    if not keep.any():
        raise LabelsMissing("expected structures that have the labels of a source, found none")
    return Source(source.indices[keep], source.terms)


def sources_of(structures: Structures, offers: Sequence[Offer]) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """What to train and to validate on, a source a level; raises LabelsMissing."""
    train = tuple(with_labels_of(structures, Source(one.train, (one.term,))) for one in offers)
    # Few structures validate: of a small fraction with forces, none of them need have any.
    validation = (Source(one.validation, (one.term,)) for one in offers)
    return train, tuple(with_labels_of(structures, source, needs_all=False) for source in validation)
