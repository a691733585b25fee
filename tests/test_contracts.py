"""The contracts of ``mfbench.testing`` over every backbone and every arm, and that they can fail."""

from dataclasses import replace
from typing import Any

import numpy as np
import problems
import pytest
import torch
from torch import Tensor

from mfbench import testing
from mfbench.data.structures import PER_STRUCTURE
from mfbench.errors import LabelsMissing
from mfbench.learning import arms
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.problem import Arm, Lesson, Levels, Problem, Stage
from mfbench.learning.sources import Source, Term
from mfbench.models.backbones.hipnn_ts import HipnnTs
from mfbench.models.backbones.kinds import BACKBONES, BackboneKind, Network
from mfbench.models.block import Block
from mfbench.models.contract import Backbone, Potential
from mfbench.models.settings import HipnnTsSettings

ELEMENTS = (1, 6, 7, 8)
SMALL: dict[str, dict[str, Any]] = {
    "hipnn-ts": {"n_features": 12, "n_sensitivities": 7, "l_max": 2},
    "schnet": {"n_features": 12, "n_interactions": 2, "n_radial": 8},
    "painn": {"n_features": 12, "n_interactions": 2, "n_radial": 8},
    "so3net": {"n_features": 12, "n_interactions": 2, "n_radial": 8},
}


def network(kind: BackboneKind = BACKBONES[0]) -> Network:
    return Network(kind, ELEMENTS, kind.settings.model_validate(SMALL[kind.name]))


def built(kind: BackboneKind = BACKBONES[0]) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network(kind).build()


@pytest.fixture(params=BACKBONES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> BackboneKind:
    return request.param


def problem(options: dict[str, Any] | None = None, **settings: Any) -> Problem:
    structures = problems.two_levels(**settings)
    options = options or {}
    chosen = problems.selection(structures)
    levels = Levels.of(structures.levels, problems.LOW, problems.HIGH, **options)
    return Problem(structures, levels, chosen, Optimisation(steps=4))


def test_backbone_contract(kind: BackboneKind) -> None:
    testing.check_backbone(built(kind), ELEMENTS)


@pytest.mark.parametrize("l_max", [0, 1])
def test_backbone_contract_of_lower_tensors(l_max: int) -> None:
    settings = HipnnTsSettings(n_features=12, n_sensitivities=7, l_max=l_max)
    testing.check_backbone(HipnnTs(ELEMENTS, settings), ELEMENTS)


@pytest.mark.parametrize("arm", arms.ARMS, ids=lambda arm: arm.name)
def test_arm_contract(arm: Arm, kind: BackboneKind) -> None:
    share = {"high_forces": arm.high_forces > 0}
    testing.check_arm(arm, problem(share), network(kind))


def test_pooled_arm_contract() -> None:
    testing.check_arm(arms.MF(), replace(problem(), pooled=True), network())


@pytest.mark.parametrize("arm", [arms.SFE(), arms.MF(), arms.SFLow()], ids=lambda arm: arm.name)
def test_unlabelled_structures_change_no_loss(arm: Arm) -> None:
    """Structures without the labels a source names, put into it, leave its loss as it was."""
    full = problem()
    bare = replace(
        full.structures,
        energy_mask=np.concatenate([full.structures.energy_mask, np.zeros_like(full.structures.energy_mask)]),
        force_mask=np.concatenate([full.structures.force_mask, np.zeros_like(full.structures.force_mask)]),
        **{
            name: np.concatenate([getattr(full.structures, name)] * 2)
            for name in ("numbers", "positions", "energies", *PER_STRUCTURE)
        },
        forces=np.concatenate([full.structures.forces] * 2, axis=1),
        offsets=np.concatenate([full.structures.offsets, full.structures.offsets[1:] + full.structures.offsets[-1]]),
    )
    _, (stage,) = testing._built(arm, full, network(), arm.options())
    loss = testing.stage_loss(stage, stage.lesson.train, full.structures)
    unlabelled = np.arange(len(full.structures), len(bare))
    more = tuple(Source(np.concatenate([source.indices, unlabelled]), source.terms) for source in stage.lesson.train)
    torch.testing.assert_close(testing.stage_loss(stage, more, bare), loss, rtol=1e-12, atol=0)
    assert loss > 0


def test_missing_labels_are_named() -> None:
    with pytest.raises(LabelsMissing, match=r"no forces at ccsd\(t\)\*/cbs"):
        arms.SFEF().plan(problem({"high_forces": True}, high_forces=False))
    testing.check_arm(arms.SFE(), problem(high_forces=False), network())


@pytest.mark.parametrize("arm", [arm for arm in arms.ARMS if not arm.high_forces], ids=lambda arm: arm.name)
def test_no_high_level_force_not_even_to_validate(arm: Arm) -> None:
    lessons = arm.plan(problem(), arm.options())
    terms = [t for lesson in lessons for source in (*lesson.train, *lesson.validation) for t in source.terms]
    assert ({term.level for term in terms} >= {problems.HIGH}) == (arm.name != "SF-low")
    assert not [term for term in terms if term.level == problems.HIGH and term.forces]


class Leaking(Arm):
    """Trains on validation structures."""

    name, uses_low, uses_high = "leaking", False, True

    def plan(self, problem: Problem, options: Any) -> tuple[Lesson, ...]:
        (lesson,) = arms.SFE().plan(problem)
        terms = (Term(problem.levels.high, forces=True),)
        return (replace(lesson, train=(Source(problem.selection.high.validation, terms),)),)

    def potential(self, network: Network, levels: Levels, options: Any) -> Potential:
        return arms.SFE().potential(network, levels)

    def stages(self, potential: Potential, lessons: Any, problem: Problem, options: Any) -> list[Stage]:
        return arms.SFE().stages(potential, lessons, problem)


def test_training_outside_the_selection_is_caught() -> None:
    with pytest.raises(AssertionError, match="not selected"):
        testing.check_arm(Leaking(), problem(), network())


class Broken(Backbone):
    """A backbone with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.inner = built()
        self.feature_sizes, self.head_bias = self.inner.feature_sizes, self.inner.head_bias
        self.fault = fault

    def forward(self, block: Block) -> list[Tensor]:
        features = self.inner(block)
        shift = {
            "absolute": block.positions[..., :1],  # sees where the molecule is
            "handed": block.positions.cross(block.positions.roll(1, 1), dim=-1)[..., :1],
            "padded": torch.full_like(features[-1][..., :1], block.numbers.shape[1]),  # sees the padding
            "mixed": features[-1].mean(0, keepdim=True)[..., :1],  # sees the rest of the batch
            "detached": 0 * features[-1][..., :1],
        }[self.fault]
        if self.fault == "detached":  # forces that are not the slope of the energy
            features = [*features[:-1], features[-1].detach()]
        return [*features[:-1], features[-1] + shift]


@pytest.mark.parametrize("fault", ["absolute", "handed", "padded", "mixed", "detached"])
def test_a_faulty_backbone_is_caught(fault: str) -> None:
    with pytest.raises(AssertionError):
        testing.check_backbone(Broken(fault), ELEMENTS)
