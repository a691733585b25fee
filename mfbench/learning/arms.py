"""Arms: what is trained on which labels. An arm is a potential plus a list of stages, and nothing more.

Every arm gets the same budget of gradient steps: those of its stages add up to ``Optimisation.steps``. What an arm
learns from (``plan``) is told without loading torch; the rest imports it when it is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import numpy as np
from pydantic import Field

from mfbench.extensions import Registry
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import (
    Arm,
    ClosedForm,
    Lesson,
    Levels,
    Offer,
    Problem,
    Stage,
    Training,
    sources_of,
    with_labels_of,
)
from mfbench.learning.sources import Source, Term
from mfbench.models.backbones.kinds import Network
from mfbench.models.settings import LinearSettings
from mfbench.records import Record

if TYPE_CHECKING:
    from mfbench.models.contract import Potential


# Plans


def _single_fidelity(problem: Problem, offer: Offer, **said: Any) -> tuple[Lesson, ...]:
    """One network that learns, and is selected by, the labels of one level."""
    return (Lesson(*sources_of(problem.structures, [offer]), problem.optimisation, **said),)


def _all_levels(problem: Problem) -> tuple[Lesson, ...]:
    """What a network of all levels trains on, and its validation at the high level."""
    structures, offers, high = problem.structures, problem.offers, problem.offers[-1]
    if not problem.pooled:
        train, validation = sources_of(structures, offers)
        return (Lesson(train, validation[-1:], problem.optimisation),)
    terms = problem.levels.terms
    energies = tuple(Term(term.level) for term in terms)
    train = (with_labels_of(structures, Source(high.train, terms), whole=True),)
    validation = (with_labels_of(structures, Source(high.validation, energies), whole=True),)
    return (Lesson(train, validation, problem.optimisation),)


def _low_lesson(problem: Problem, share: float, rate: float | None) -> Lesson:
    """The low level with a share of the budget: SF-low's own, shared by all arms that begin so."""
    o = problem.optimisation
    changes = {"steps": round(share * o.steps), "learning_rate": rate or o.learning_rate}
    (lesson,) = SFLow().plan(replace(problem, optimisation=o.model_copy(update=changes)))
    return lesson


def _above(problem: Problem, share: float, **changes: Any) -> list[Lesson]:
    """A lesson for each level above the low one, on equal parts of what the low level leaves of the budget."""
    o, above = problem.optimisation, problem.offers[1:]
    rest = o.model_copy(update={"steps": (o.steps - round(share * o.steps)) // len(above), **changes})
    return [Lesson(*sources_of(problem.structures, [offer]), rest) for offer in above]


def _no_steps(problem: Problem) -> Optimisation:
    return problem.optimisation.model_copy(update={"steps": 0})


# Arms of one network


class _OneNetwork(Arm):
    """One network with a head for each level that it learns from, trained in one stage."""

    def potential(self, network: Network, levels: Levels, options: Any = None) -> "Potential":
        from mfbench.models.potentials import HeadsPotential

        heads = tuple(term.level for term in self.learns(levels, options))
        return HeadsPotential(network.build(), levels.columns, heads)

    def stages(
        self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: Any = None
    ) -> list[Stage]:
        from mfbench.learning.stages import shift_to_labels

        (lesson,) = lessons
        shift_to_labels(potential, problem.structures, lesson.train)
        return [Training(potential, lesson)]


@final
class SFE(_OneNetwork):
    """Single fidelity, high-level energies only. Never sees a high-level force."""

    name, uses_low, uses_high = "SF-E", False, True
    takes_high_forces = False

    def plan(self, problem: Problem, options: Any = None) -> tuple[Lesson, ...]:
        return _single_fidelity(problem, problem.offers[-1])


@final
class SFEF(_OneNetwork):
    """Single fidelity, high-level energies and forces: what MF is to come close to."""

    name, uses_low, uses_high = "SF-EF", False, True
    high_forces = 1.0

    def plan(self, problem: Problem, options: Any = None) -> tuple[Lesson, ...]:
        return _single_fidelity(problem, problem.offers[-1])


@final
class Oracle(_OneNetwork):
    """SF-EF on as many high-level structures as the low level has: what a multi-fidelity arm can hope for at most."""

    name, uses_low, uses_high = "oracle", False, False
    high_forces = 1.0
    takes_high_forces = False

    def learns(self, levels: Levels, options: Any = None) -> tuple[Term, ...]:
        return levels.terms[-1:]

    def plan(self, problem: Problem, options: Any = None) -> tuple[Lesson, ...]:
        return _single_fidelity(problem, Offer(problem.levels.terms[-1], *problem.selection.oracle))


@final
class SFLow(_OneNetwork):
    """Single fidelity, low-level energies and forces: the low level itself, learned."""

    name, uses_low, uses_high = "SF-low", True, False
    takes_high_forces = False

    def learns(self, levels: Levels, options: Any = None) -> tuple[Term, ...]:
        return levels.terms[:1]

    def plan(self, problem: Problem, options: Any = None) -> tuple[Lesson, ...]:
        return _single_fidelity(problem, problem.offers[0], name="low level", shared=True)


@final
class MF(_OneNetwork):
    """Multi-fidelity: low-level energies and forces and high-level energies, one head a level.

    Level-balanced: at each step a batch is drawn per level and joined, and a structure drawn for a level
    contributes that level's labels only. With ``pooled``, as in the authors' script, there is one pool of
    structures that have all these labels, and selection looks at all heads' energies.
    """

    name, uses_low, uses_high = "MF", True, True

    def plan(self, problem: Problem, options: Any = None) -> tuple[Lesson, ...]:
        return _all_levels(problem)


@final
class Embedding(Arm):
    """One network and one head for all levels, the level being a learned input (Ko and Ong, arXiv:2409.00957).

    Trained on the labels, and in the batches, of ``MF``.
    """

    name, uses_low, uses_high = "embedding", True, True

    def plan(self, problem: Problem, options: Any = None) -> tuple[Lesson, ...]:
        return _all_levels(problem)

    def potential(self, network: Network, levels: Levels, options: Any = None) -> "Potential":
        from mfbench.models.potentials import EmbeddingPotential

        heads = tuple(term.level for term in levels.terms)
        return EmbeddingPotential(network.build(len(heads)), levels.columns, heads)

    def stages(
        self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: Any = None
    ) -> list[Stage]:
        return MF().stages(potential, lessons, problem)


# Arms that begin with a low-level potential, which is then a part of a sum


def _low_potential(network: Network, levels: Levels) -> "Potential":
    return SFLow().potential(network, levels)


def _chain(
    network: Network, levels: Levels, above: Sequence[str], difference: "Callable[[str], Potential]"
) -> "Potential":
    """A low-level potential, and what leads from each level to the next; a level is the sum of all up to its own."""
    from mfbench.models.potentials import Share, Sum

    parts = [_low_potential(network, levels), *map(difference, above)]
    chain = [Share(place, name) for place, name in enumerate((levels.low, *above))]
    return Sum(levels.columns, parts, {share.head: tuple(chain[: share.part + 1]) for share in chain})


def _begun(potential: "Potential", lessons: Sequence[Lesson], problem: Problem) -> tuple[Any, Stage]:
    """The potential as the sum that it is, and the stage that trains its first part at the low level."""
    from mfbench.models.potentials import Sum

    assert isinstance(potential, Sum)
    (first,) = SFLow().stages(potential.part(0), lessons[:1], problem)
    return potential, first


@final
class ZeroShot(Arm):
    """SF-low judged as it is at the high level, but for atomic energies fitted to the high-level energies.

    No network is trained on a high-level label. The low-level stage is SF-low's own.
    """

    name, uses_low, uses_high = "zero-shot", True, True
    takes_high_forces = False

    def learns(self, levels: Levels, options: Any = None) -> tuple[Term, ...]:
        return (levels.terms[0], levels.terms[-1])

    def fits_networks(self, level: str, levels: Levels) -> bool:
        return level != levels.high

    def plan(self, problem: Problem, options: Any = None) -> tuple[Lesson, ...]:
        train, validation = sources_of(problem.structures, [problem.offers[-1]])
        fitting = Lesson(train, validation, _no_steps(problem), closed_form=True)
        return (*SFLow().plan(problem), fitting)

    def potential(self, network: Network, levels: Levels, options: Any = None) -> "Potential":
        from mfbench.models.potentials import Offset, Share, Sum

        low, high = levels.low, levels.high
        parts = [_low_potential(network, levels), Offset(levels.columns, (high,))]
        return Sum(levels.columns, parts, {low: (Share(0, low),), high: (Share(0, low), Share(1, high))})

    def stages(
        self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: Any = None
    ) -> list[Stage]:
        from mfbench.learning.stages import refit, start_of

        whole, first = _begun(potential, lessons, problem)
        (train,) = lessons[1].train
        structures, high = problem.structures, problem.levels.high
        base = start_of(high, whole.part(0), structures, lessons)
        return [first, ClosedForm(whole, lessons[1], refit(whole, structures, high, train, base))]


class LowStage(Record):
    """The low-level stage of an arm that begins with one; it is shared by all such arms and sizes."""

    low_share: Annotated[float, Field(gt=0, lt=1)] = 0.7  # of the budget of steps
    low_learning_rate: Annotated[float, Field(gt=0)] | None = None  # None: the rate of the arm's other stages


class DeltaOptions(LowStage):
    """How the corrections are learned."""

    network: dict[str, Any] = Field(default_factory=dict)  # settings of their networks that differ from the low level's
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


@final
class Delta(Arm):
    """A low-level potential, then a correction from each level to the next, trained on what is left; their sum.

    Delta-learning (Ramakrishnan, Dral, Rupp and von Lilienfeld, 10.1021/acs.jctc.5b00099), with a potential of the
    low level in place of its calculation.
    """

    name, uses_low, uses_high = "delta", True, True
    options = DeltaOptions

    def plan(self, problem: Problem, options: DeltaOptions) -> tuple[Lesson, ...]:
        above = _above(problem, options.low_share, weight_decay=options.weight_decay)
        named = [replace(one, name=f"correction to {one.train[0].terms[0].level}") for one in above]
        return (_low_lesson(problem, options.low_share, options.low_learning_rate), *named)

    def potential(self, network: Network, levels: Levels, options: DeltaOptions) -> "Potential":
        from mfbench.models.potentials import HeadsPotential

        correction, above = network.changed(options.network), [term.level for term in levels.terms[1:]]
        return _chain(
            network, levels, above, lambda level: HeadsPotential(correction.build(), levels.columns, (level,))
        )

    def stages(
        self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: DeltaOptions
    ) -> list[Stage]:
        from mfbench.learning.stages import refit, start_of

        whole, first = _begun(potential, lessons, problem)
        stages: list[Stage] = [first]
        for place, lesson in enumerate(lessons[1:], 1):
            so_far, level = whole.upto(place + 1), lesson.train[0].terms[0].level
            base = start_of(level, whole.upto(place), problem.structures, lessons)
            start = refit(so_far, problem.structures, level, lesson.train[0], base)
            stages.append(Training(so_far, lesson, tuple(f"parts.{k}." for k in range(place)), start))
        return stages


class TransferOptions(LowStage):
    """What is kept when training goes on at the next level."""

    freeze: Literal["nothing", "backbone"] | Annotated[int, Field(ge=1)] = "nothing"  # a number: the first blocks
    head: Literal["kept", "new"] = "kept"


@final
class Transfer(Arm):
    """A network trained at the low level goes on at the next (Smith et al., 10.1038/s41467-019-10827-4, ANI-1ccx).

    The low-level network is kept as it was, so that both levels can be predicted.
    """

    name, uses_low, uses_high = "transfer", True, True
    options = TransferOptions

    def plan(self, problem: Problem, options: TransferOptions) -> tuple[Lesson, ...]:
        above = _above(problem, options.low_share)
        named = [replace(one, name=f"going on at {one.train[0].terms[0].level}") for one in above]
        return (_low_lesson(problem, options.low_share, options.low_learning_rate), *named)

    def potential(self, network: Network, levels: Levels, options: TransferOptions) -> "Potential":
        from mfbench.models.potentials import HeadsPotential, Share, Sum

        names = [term.level for term in levels.terms]
        parts = [_low_potential(network, levels)]
        parts += [HeadsPotential(network.build(), levels.columns, (name,)) for name in names[1:]]
        return Sum(levels.columns, parts, {name: (Share(place, name),) for place, name in enumerate(names)})

    def stages(
        self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: TransferOptions
    ) -> list[Stage]:
        from mfbench.learning.stages import frozen_blocks, go_on, refit, start_of

        whole, first = _begun(potential, lessons, problem)
        stages: list[Stage] = [first]
        for place, lesson in enumerate(lessons[1:], 1):
            before, after, level = whole.part(place - 1), whole.part(place), lesson.train[0].terms[0].level
            base = start_of(level, before, problem.structures, lessons, difference=False)
            then = refit(after, problem.structures, level, lesson.train[0], base)
            start = go_on(before, after, options.head, then)
            stages.append(Training(after, lesson, frozen_blocks(after, options.freeze), start))
        return stages


class MFPlusOptions(Record):
    """The low-level stage's rate, and how the difference between levels is learned."""

    low_learning_rate: Annotated[float, Field(gt=0)] | None = None  # None: the arm's own
    difference: LinearSettings = LinearSettings()
    targets: Literal["labels", "model"] = "labels"  # differences of labels where both are there; or all to the model


@final
class MFPlus(Arm):
    """A low-level potential plus small, regular potentials of the differences between levels, in closed form.

    The whole budget of steps trains the low level. From each level to the next a ``LinearPotential`` (see
    ``models.linear``) is fitted to energies: differences of labels where a structure has both, and what is left to
    the potential so far where it has not. It needs no validation, so all ``n_high`` structures are learned from.
    """

    name, uses_low, uses_high = "MF+", True, True
    takes_high_forces = False
    trains_on_validation = True
    options = MFPlusOptions

    def learns(self, levels: Levels, options: Any = None) -> tuple[Term, ...]:
        # A level whose forces alone may be learned from teaches nothing above the low one.
        return (levels.terms[0], *(term for term in levels.terms[1:] if term.energy))

    def plan(self, problem: Problem, options: MFPlusOptions) -> tuple[Lesson, ...]:
        structures, chosen = problem.structures, problem.selection
        lessons = [_low_lesson(problem, 1.0, options.low_learning_rate)]
        below, seen = problem.levels.low, np.concatenate(chosen.levels[problem.levels.low])
        for term in self.learns(problem.levels)[1:]:
            name = term.level
            indices = np.concatenate(chosen.levels[name])
            both = np.isin(indices, seen) & structures.energy_mask[indices, structures.level_index(below)]
            both &= options.targets == "labels" and problem.levels.terms[0].energy
            sources = tuple(
                with_labels_of(structures, Source(indices[these], (one,)))
                for these, one in ((both, Term(name, minus=below)), (~both, Term(name)))
                if these.any()
            )
            lessons.append(Lesson(sources, (), _no_steps(problem), closed_form=True))
            below, seen = name, indices
        return tuple(lessons)

    def potential(self, network: Network, levels: Levels, options: MFPlusOptions) -> "Potential":
        from mfbench.models.linear import LinearPotential

        above = [term.level for term in self.learns(levels)[1:]]
        return _chain(
            network,
            levels,
            above,
            lambda level: LinearPotential(network.elements, options.difference, levels.columns, level),
        )

    def stages(
        self, potential: "Potential", lessons: Sequence[Lesson], problem: Problem, options: MFPlusOptions
    ) -> list[Stage]:
        from mfbench.learning.stages import fit_difference, start_of

        whole, first = _begun(potential, lessons, problem)
        stages: list[Stage] = [first]
        names = [term.level for term in self.learns(problem.levels)]
        for place, lesson in enumerate(lessons[1:], 1):
            so_far, structures = whole.upto(place), problem.structures
            base = start_of(names[place], so_far, structures, lessons)
            solve = fit_difference(whole.part(place), so_far, structures, lesson.train, names[place - 1], base)
            stages.append(ClosedForm(whole.upto(place + 1), lesson, solve))
        return stages


ARMS: tuple[Arm, ...] = (
    SFE(),
    MF(),
    SFEF(),
    SFLow(),
    ZeroShot(),
    Transfer(),
    Delta(),
    Embedding(),
    MFPlus(),
    Oracle(),
)


def _instance(found: Any) -> Any:
    """An arm, where its class stands for it."""
    is_class = isinstance(found, type) and issubclass(found, Arm) and not found.__abstractmethods__
    return found() if is_class else found


REGISTRY: Registry[Arm] = Registry(
    "arms",
    Arm,  # type: ignore[type-abstract]
    "an Arm of that name",
    lambda: tuple(one.name for one in ARMS),
    _instance,
)


def arm_names() -> tuple[str, ...]:
    """Names of the arms that exist, one's own and those of installed packages included."""
    return REGISTRY.names()


def arm(given: str | Arm) -> Arm:
    """The arm called so: one of ``ARMS``, or one that was added (see ``extensions``); an object is added.

    Raises:
        UserError: no arm is called so.
    """
    if isinstance(given, Arm):
        if type(given) not in map(type, ARMS):
            REGISTRY.add(given)
        return given
    return next((known for known in ARMS if known.name == given), None) or REGISTRY.get(given)
