"""Arms: what is trained on which labels. An arm is a potential plus a list of stages, and nothing more."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar, final

import numpy as np

from mfbench.backbones.base import Backbone
from mfbench.batch import Source, Term
from mfbench.errors import LabelsMissing, unknown
from mfbench.potential import AtomicEnergies, HeadsPotential, Potential, fit_atomic_energies
from mfbench.splits import Indices, Selection
from mfbench.structures import Structures
from mfbench.training import Optimisation, Stage


@dataclass(frozen=True)
class Problem:
    """What an arm may use: structures, the two levels and what is selected to train and validate on."""

    structures: Structures
    low: str
    high: str
    selection: Selection
    optimisation: Optimisation
    pooled: bool = False  # one pool of fully labelled structures, as in the authors' script


BuildBackbone = Callable[[], Backbone]


class Arm(ABC):
    """What is trained on which labels."""

    name: ClassVar[str]
    uses_low: ClassVar[bool]
    uses_high: ClassVar[bool]

    @abstractmethod
    def build(self, problem: Problem, backbone: BuildBackbone) -> tuple[Potential, list[Stage]]:
        """The untrained potential and the stages that train it, in order.

        Raises:
            LabelsMissing: the problem holds no labels of a kind that this arm trains on.
        """


def _one_network(
    problem: Problem, backbone: BuildBackbone, train: tuple[Source, ...], validation: tuple[Source, ...]
) -> tuple[Potential, list[Stage]]:
    """One network with a head for each level that is trained on; one stage."""
    structures = problem.structures
    train = tuple(_labelled(structures, source) for source in train)
    validation = tuple(_labelled(structures, source) for source in validation)
    terms = {term.level for source in train for term in source.terms}
    heads = tuple(name for name in structures.levels if name in terms)
    table = np.zeros((119, len(structures.levels)))
    for name in heads:
        indices = np.concatenate([s.indices for s in train if name in {t.level for t in s.terms}])
        table[:, structures.level_index(name)] = fit_atomic_energies(structures, indices, name)
    potential = HeadsPotential(backbone(), AtomicEnergies(table), structures.levels, heads)
    return potential, [Stage(train, validation, problem.optimisation)]


def _labelled(structures: Structures, source: Source) -> Source:
    """The source's structures that have every label of its terms; raises LabelsMissing if there is none."""
    keep = np.ones(len(source.indices), bool)
    for term in source.terms:
        column = structures.level_index(term.level)
        for wanted, mask, kind in (
            (term.energy, structures.energy_mask, "energies"),
            (term.forces, structures.force_mask, "forces"),
        ):
            if wanted:
                keep &= mask[source.indices, column]
                if not keep.any():
                    raise LabelsMissing(
                        f"no {kind} at {term.level} to train on: "
                        "expected some among the structures selected, found none"
                    )
    return Source(source.indices[keep], source.terms)


def _single_fidelity(
    problem: Problem, backbone: BuildBackbone, term: Term, train: Indices, validation: Indices
) -> tuple[Potential, list[Stage]]:
    """One network that learns, and is selected by, the labels of one level."""
    return _one_network(problem, backbone, (Source(train, (term,)),), (Source(validation, (term,)),))


@final
class SFE(Arm):
    """Single fidelity, high-level energies only. Never sees a high-level force."""

    name, uses_low, uses_high = "SF-E", False, True

    def build(self, problem: Problem, backbone: BuildBackbone) -> tuple[Potential, list[Stage]]:
        chosen = problem.selection
        return _single_fidelity(problem, backbone, Term(problem.high), chosen.train_high, chosen.validation_high)


@final
class SFEF(Arm):
    """Single fidelity, high-level energies and forces: what MF is to come close to."""

    name, uses_low, uses_high = "SF-EF", False, True

    def build(self, problem: Problem, backbone: BuildBackbone) -> tuple[Potential, list[Stage]]:
        chosen, term = problem.selection, Term(problem.high, forces=True)
        return _single_fidelity(problem, backbone, term, chosen.train_high, chosen.validation_high)


@final
class SFLow(Arm):
    """Single fidelity, low-level energies and forces: the low level itself, learned."""

    name, uses_low, uses_high = "SF-low", True, False

    def build(self, problem: Problem, backbone: BuildBackbone) -> tuple[Potential, list[Stage]]:
        chosen, term = problem.selection, Term(problem.low, forces=True)
        return _single_fidelity(problem, backbone, term, chosen.train_low, chosen.validation_low)


@final
class MF(Arm):
    """Multi-fidelity: low-level energies and forces and high-level energies, one head a level.

    Level-balanced: at each step a batch is drawn per level and joined, and a structure drawn for a level
    contributes that level's labels only. With ``pooled``, as in the authors' script, there is one pool of
    structures that have all these labels, and selection looks at both heads' energies.
    """

    name, uses_low, uses_high = "MF", True, True

    def build(self, problem: Problem, backbone: BuildBackbone) -> tuple[Potential, list[Stage]]:
        low, high = Term(problem.low, forces=True), Term(problem.high)
        chosen = problem.selection
        if problem.pooled:
            train: tuple[Source, ...] = (Source(chosen.train_high, (low, high)),)
            validation = (Source(chosen.validation_high, (Term(problem.low), high)),)
        else:
            train = (Source(chosen.train_low, (low,)), Source(chosen.train_high, (high,)))
            validation = (Source(chosen.validation_high, (high,)),)
        return _one_network(problem, backbone, train, validation)


ARMS: tuple[Arm, ...] = (SFE(), MF(), SFEF(), SFLow())


def arm_names() -> tuple[str, ...]:
    """Names of the arms that exist, those of installed packages included."""
    return (*(a.name for a in ARMS), *(point.name for point in entry_points(group="mfbench.arms")))


def arm(name: str) -> Arm:
    """The arm called ``name``: one of ``ARMS``, or an entry point of the group ``mfbench.arms``."""
    for known in ARMS:
        if known.name == name:
            return known
    for point in entry_points(group="mfbench.arms", name=name):
        return point.load()()
    raise unknown("arm", name, arm_names())
