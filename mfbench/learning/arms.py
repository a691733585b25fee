"""Arms: what is trained on which labels. An arm is a potential plus a list of stages, and nothing more.

Every arm gets the same budget of gradient steps: those of its stages add up to ``Optimisation.steps``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from pydantic import Field

from mfbench import extensions
from mfbench.data.splits import Indices
from mfbench.data.structures import Structures
from mfbench.errors import LabelsMissing, UserError, unknown
from mfbench.learning.device import DeviceStructures
from mfbench.learning.predict import energies_of
from mfbench.learning.problem import Arm, Labelled, Problem
from mfbench.learning.sources import Source, Term
from mfbench.learning.training import Optimisation, Stage
from mfbench.models.atomic import AtomicEnergies, fit_atomic_energies
from mfbench.models.backbones.kinds import Network
from mfbench.models.contract import Backbone, Potential
from mfbench.models.linear import LinearPotential, LinearSettings
from mfbench.models.potentials import EmbeddingPotential, HeadsPotential, Offset, Share, Sum
from mfbench.records import Record

# What arms are made of


def _labelled(structures: Structures, source: Source, whole: bool = False, needs_all: bool = True) -> Source:
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


def _atomic_energies(structures: Structures, sources: Sequence[Source]) -> AtomicEnergies:
    """Atomic energies of every level that the sources name the energies of, fitted on those; zero elsewhere."""
    table = np.zeros((119, len(structures.levels)))
    for column, level in enumerate(structures.levels):
        named = [s.indices for s in sources if Term(level) in [Term(t.level, t.energy) for t in s.terms]]
        if named:
            indices = np.concatenate(named)
            indices = indices[structures.energy_mask[indices, column]]
            table[:, column] = fit_atomic_energies(structures, indices, structures.energies[indices, column])
    return AtomicEnergies(table)


def _named(structures: Structures, sources: Sequence[Source]) -> tuple[str, ...]:
    """The levels that the sources name, from low to high."""
    named = {term.level for source in sources for term in source.terms}
    return tuple(name for name in structures.levels if name in named)


def _heads(structures: Structures, network: Network, train: tuple[Source, ...]) -> HeadsPotential:
    """One network with a head for each level that is trained on."""
    atomic = _atomic_energies(structures, train)
    return HeadsPotential(network.build(), atomic, structures.levels, _named(structures, train))


def _sources(structures: Structures, parts: Sequence[Labelled]) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """What to train and to validate on, a source a level."""
    train = tuple(_labelled(structures, Source(part.train, (part.term,))) for part in parts)
    # Few structures validate: of a small fraction with forces, none of them need have any.
    validation = (Source(part.validation, (part.term,)) for part in parts)
    return train, tuple(_labelled(structures, source, needs_all=False) for source in validation)


def _single_fidelity(problem: Problem, network: Network, part: Labelled) -> tuple[Potential, list[Stage]]:
    """One network that learns, and is selected by, the labels of one level."""
    train, validation = _sources(problem.structures, [part])
    potential = _heads(problem.structures, network, train)
    return potential, [Stage(potential, train, validation, problem.optimisation)]


@final
class SFE(Arm):
    """Single fidelity, high-level energies only. Never sees a high-level force."""

    name, uses_low, uses_high = "SF-E", False, True
    takes_high_forces = False

    def build(self, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
        return _single_fidelity(problem, network, problem.at_high)


@final
class SFEF(Arm):
    """Single fidelity, high-level energies and forces: what MF is to come close to."""

    name, uses_low, uses_high = "SF-EF", False, True
    high_forces = 1.0

    def build(self, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
        return _single_fidelity(problem, network, problem.at_high)


@final
class Oracle(Arm):
    """SF-EF on as many high-level structures as the low level has: what a multi-fidelity arm can hope for at most."""

    name, uses_low, uses_high = "oracle", False, False
    high_forces = 1.0
    takes_high_forces = False

    def build(self, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
        chosen = problem.selection
        return _single_fidelity(
            problem, network, Labelled(problem.at_high.term, chosen.oracle, chosen.validation_oracle)
        )


@final
class SFLow(Arm):
    """Single fidelity, low-level energies and forces: the low level itself, learned."""

    name, uses_low, uses_high = "SF-low", True, False
    takes_high_forces = False

    def build(self, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
        potential, (stage,) = _single_fidelity(problem, network, problem.at_low)
        return potential, [replace(stage, name="low level", shared=True)]


@final
class MF(Arm):
    """Multi-fidelity: low-level energies and forces and high-level energies, one head a level.

    Level-balanced: at each step a batch is drawn per level and joined, and a structure drawn for a level
    contributes that level's labels only. With ``pooled``, as in the authors' script, there is one pool of
    structures that have all these labels, and selection looks at all heads' energies.
    """

    name, uses_low, uses_high = "MF", True, True

    def build(self, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
        train, validation = _all_levels(problem)
        potential = _heads(problem.structures, network, train)
        return potential, [Stage(potential, train, validation, problem.optimisation)]


def _all_levels(problem: Problem) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """What a network of all levels trains on, and its validation at the high level."""
    structures, high = problem.structures, problem.at_high
    parts = (*problem.below_high, high)
    if not problem.pooled:
        train, validation = _sources(structures, parts)
        return train, validation[-1:]
    terms = tuple(part.term for part in parts)
    energies = tuple(Term(term.level) for term in terms)
    return (
        (_labelled(structures, Source(high.train, terms), whole=True),),
        (_labelled(structures, Source(high.validation, energies), whole=True),),
    )


@final
class Embedding(Arm):
    """One network and one head for all levels, the level being a learned input (Ko and Ong, arXiv:2409.00957).

    Trained on the labels, and in the batches, of ``MF``.
    """

    name, uses_low, uses_high = "embedding", True, True

    def build(self, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
        train, validation = _all_levels(problem)
        heads = _named(problem.structures, train)
        atomic = _atomic_energies(problem.structures, train)
        potential = EmbeddingPotential(network.build(len(heads)), atomic, problem.structures.levels, heads)
        return potential, [Stage(potential, train, validation, problem.optimisation)]


class LowStage(Record):
    """The low-level stage of an arm that begins with one; it is shared by all such arms and sizes."""

    low_share: Annotated[float, Field(gt=0, lt=1)] = 0.7  # of the budget of steps
    low_learning_rate: Annotated[float, Field(gt=0)] | None = None  # None: the rate of the arm's other stages


def _low_stage(problem: Problem, network: Network, share: float, rate: float | None) -> tuple[Potential, Stage]:
    """A potential of the low level and the stage that trains it with a share of the budget."""
    o = problem.optimisation
    changes = {"steps": round(share * o.steps), "learning_rate": rate or o.learning_rate}
    potential, (stage,) = SFLow().build(replace(problem, optimisation=o.model_copy(update=changes)), network)
    return potential, stage


def _rest(problem: Problem, share: float, stages: int = 1) -> Optimisation:
    """What is left of the budget after the low-level stage, for each of the stages that follow."""
    o = problem.optimisation
    return o.model_copy(update={"steps": (o.steps - round(share * o.steps)) // stages})


def _refit(
    potential: Potential, structures: Structures, level: str, indices: Indices
) -> Callable[[DeviceStructures], None]:
    """Fits the atomic energies of a level to what the potential leaves of the structures' labels.

    Least squares of atomic contributions, the "dressed atoms" of Hansen et al. (10.1021/ct400195d).
    """
    column = structures.level_index(level)
    indices = indices[structures.energy_mask[indices, column]]

    def start(data: DeviceStructures) -> None:
        if not len(indices):  # forces alone are learned from at this level: its energies have no zero
            return
        left = structures.energies[indices, column] - energies_of(potential, data, indices, level)
        potential.shift(level, fit_atomic_energies(structures, indices, left))

    return start


@final
class ZeroShot(Arm):
    """SF-low judged as it is at the high level, but for atomic energies fitted to the high-level energies.

    No network is trained on a high-level label. The low-level stage is SF-low's own.
    """

    name, uses_low, uses_high = "zero-shot", True, True
    takes_high_forces = False

    def build(self, problem: Problem, network: Network, options: Any = None) -> tuple[Potential, list[Stage]]:
        structures, high = problem.structures, problem.at_high
        (train,), validation = _sources(structures, [high])
        low, stage = SFLow().build(problem, network)
        offset = Offset(AtomicEnergies(np.zeros((119, len(structures.levels)))), structures.levels, (problem.high,))
        shares = {problem.low: (Share(0, problem.low),), problem.high: (Share(0, problem.low), Share(1, problem.high))}
        potential = Sum(structures.levels, [low, offset], shares)
        fitting = Stage(
            potential,
            (train,),
            validation,
            problem.optimisation.model_copy(update={"steps": 0}),
            frozen=("",),
            start=_refit(potential, structures, problem.high, train.indices),
        )
        return potential, [*stage, fitting]


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

    def build(self, problem: Problem, network: Network, options: DeltaOptions) -> tuple[Potential, list[Stage]]:
        structures = problem.structures
        low, first = _low_stage(problem, network, options.low_share, options.low_learning_rate)
        above = [*problem.below_high[1:], problem.at_high]
        optimisation = _rest(problem, options.low_share, len(above))
        optimisation = optimisation.model_copy(update={"weight_decay": options.weight_decay})
        correction = network.changed(options.network)
        parts, stages = [low], [first]
        shares: dict[str, tuple[Share, ...]] = {problem.low: (Share(0, problem.low),)}
        for place, part in enumerate(above, 1):
            name, before = part.term.level, above[place - 2].term.level if place > 1 else problem.low
            train, validation = _sources(structures, [part])
            atomic = AtomicEnergies(np.zeros((119, len(structures.levels))))
            parts.append(HeadsPotential(correction.build(), atomic, structures.levels, (name,)))
            shares[name] = (*shares[before], Share(place, name))
            so_far = Sum(structures.levels, parts, shares)
            frozen = tuple(f"parts.{k}." for k in range(place))
            start = _refit(so_far, structures, name, train[0].indices)
            stages.append(Stage(so_far, train, validation, optimisation, f"correction to {name}", frozen, start))
        return Sum(structures.levels, parts, shares), stages


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

    def build(self, problem: Problem, network: Network, options: TransferOptions) -> tuple[Potential, list[Stage]]:
        structures = problem.structures
        before, first = _low_stage(problem, network, options.low_share, options.low_learning_rate)
        above = [*problem.below_high[1:], problem.at_high]
        optimisation = _rest(problem, options.low_share, len(above))
        parts, stages = [before], [first]
        shares = {problem.low: (Share(0, problem.low),)}
        for place, part in enumerate(above, 1):
            name = part.term.level
            train, validation = _sources(structures, [part])
            atomic = AtomicEnergies(np.zeros((119, len(structures.levels))))
            after = HeadsPotential(network.build(), atomic, structures.levels, (name,))
            stages.append(
                Stage(
                    after,
                    train,
                    validation,
                    optimisation,
                    f"going on at {name}",
                    _frozen(after, options.freeze),
                    _going_on(before, after, options.head, _refit(after, structures, name, train[0].indices)),
                )
            )
            parts.append(after)
            shares[name] = (Share(place, name),)
            before = after
        return Sum(structures.levels, parts, shares), stages


def _frozen(potential: HeadsPotential, freeze: str | int) -> tuple[str, ...]:
    if freeze == "nothing":
        return ()
    if freeze == "backbone":
        return ("backbone.",)
    assert isinstance(potential.backbone, Backbone)
    blocks = potential.backbone.parameter_blocks
    if not isinstance(freeze, int) or freeze > len(blocks):
        raise UserError(f"freeze: expected at most the {len(blocks)} blocks that this network has, got {freeze}")
    return tuple(f"backbone.{name}" for block in blocks[:freeze] for name in block)


def _going_on(
    before: Potential, after: HeadsPotential, head: str, then: Callable[[DeviceStructures], None]
) -> Callable[[DeviceStructures], None]:
    """Gives ``after`` the weights of ``before``, the head's where it is kept; then does what is to follow."""
    assert isinstance(before, HeadsPotential)

    def start(data: DeviceStructures) -> None:
        after.backbone.load_state_dict(before.backbone.state_dict())
        if head == "kept":
            after.linear.load_state_dict(before.linear.state_dict())
        then(data)

    return start


class MFPlusOptions(Record):
    """The low-level stage's rate, and how the difference between levels is learned."""

    low_learning_rate: Annotated[float, Field(gt=0)] | None = None  # None: the arm's own
    difference: LinearSettings = LinearSettings()
    targets: Literal["labels", "model"] = "labels"  # differences of labels where both are there; or all to the model


@final
class MFPlus(Arm):
    """A low-level potential plus small, regular potentials of the differences between levels, in closed form.

    The whole budget of steps trains the low level. From each level to the next a
    ``LinearPotential`` (see ``difference``) is fitted to energies: differences of labels where a structure has
    both, and what is left to the potential so far where it has not. It needs no validation, so all ``n_high``
    structures are learned from.
    """

    name, uses_low, uses_high = "MF+", True, True
    takes_high_forces = False
    trains_on_validation = True
    options = MFPlusOptions

    def build(self, problem: Problem, network: Network, options: MFPlusOptions) -> tuple[Potential, list[Stage]]:
        structures, chosen = problem.structures, problem.selection
        low, first = _low_stage(problem, network, 1.0, options.low_learning_rate)
        parts: list[Potential] = [low]
        stages = [first]
        shares: dict[str, tuple[Share, ...]] = {problem.low: (Share(0, problem.low),)}
        before, seen = problem.low, np.concatenate([chosen.train_low, chosen.validation_low])
        # A level whose forces alone may be learned from teaches nothing here.
        above = [part for part in (*problem.below_high[1:], problem.at_high) if part.term.energy]
        for place, part in enumerate(above, 1):
            name = part.term.level
            indices = np.concatenate([part.train, part.validation])
            both = np.isin(indices, seen) & structures.energy_mask[indices, structures.level_index(before)]
            both &= options.targets == "labels" and problem.low_energies
            sources = tuple(
                _labelled(structures, Source(indices[these], (term,)))
                for these, term in ((both, Term(name, minus=before)), (~both, Term(name)))
                if these.any()
            )
            atomic = AtomicEnergies(np.zeros((119, len(structures.levels))))
            difference = LinearPotential(network.elements, options.difference, atomic, structures.levels, name)
            so_far = Sum(structures.levels, parts, shares)
            parts.append(difference)
            shares = {**shares, name: (*shares[before], Share(place, name))}
            stages.append(
                Stage(
                    Sum(structures.levels, parts, shares),
                    sources,
                    (),
                    problem.optimisation.model_copy(update={"steps": 0}),
                    start=_fit_difference(difference, so_far, structures, sources, before),
                    closed_form=True,
                )
            )
            before, seen = name, indices
        return Sum(structures.levels, parts, shares), stages


def _fit_difference(
    difference: LinearPotential, so_far: Potential, structures: Structures, sources: tuple[Source, ...], before: str
) -> Callable[[DeviceStructures], None]:
    """Fits a difference potential to each source's energies minus its other level's, or minus what is predicted."""

    def start(data: DeviceStructures) -> None:
        left = np.zeros(len(structures))
        for source in sources:
            (term,) = source.terms
            left[source.indices] = structures.energies[source.indices, structures.level_index(term.level)]
            if term.minus is not None:
                left[source.indices] -= structures.energies[source.indices, structures.level_index(term.minus)]
            else:
                left[source.indices] -= energies_of(so_far, data, source.indices, before)
        blocks = list(data.blocks(sources, max_pairs=1 << 16))
        difference.fit(blocks, [torch.as_tensor(left, device=data.device)[block.index] for block in blocks])

    return start


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


def arm_names() -> tuple[str, ...]:
    """Names of the arms that exist, one's own and those of installed packages included."""
    return tuple(dict.fromkeys([*(a.name for a in ARMS), *extensions.names("arms")]))


def arm(given: str | Arm) -> Arm:
    """The arm called so: one of ``ARMS``, or one that was added (see ``extensions``); an object is added.

    Raises:
        UserError: no arm is called so.
    """
    if isinstance(given, Arm):
        if type(given) not in map(type, ARMS):
            extensions.add("arms", given.name, given, tuple(one.name for one in ARMS))
        return given
    for known in ARMS:
        if known.name == given:
            return known
    found = extensions.find("arms", given)
    if found is None:
        raise unknown("arm", given, arm_names(), ", or one of your own (see the README)")
    if isinstance(found, type) and issubclass(found, Arm) and not found.__abstractmethods__:
        found = found()
    if not isinstance(found, Arm) or found.name != given:
        raise extensions.wrong("arms", given, "an Arm of that name", found)
    return found
