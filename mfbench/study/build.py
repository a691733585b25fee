"""An experiment's untrained potential and the stages that train it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mfbench.learning import arms
from mfbench.learning.problem import Levels, Stage, assembled
from mfbench.models.backbones.kinds import Network, backbone
from mfbench.models.contract import Potential
from mfbench.study.experiment import Experiment
from mfbench.study.prepare import Prepared, problem_of


def build(settings: Experiment, prepared: Prepared) -> tuple[Potential, list[Stage]]:
    """The experiment's untrained potential and its stages. No global seed is changed."""
    chosen = arms.arm(settings.arm)
    options = chosen.options.model_validate(settings.arm_options)
    with _seeded(settings.seed):
        return assembled(chosen, problem_of(settings, prepared), _network(settings, prepared.elements), options)


def untrained(settings: Experiment, levels: Levels, elements: tuple[int, ...]) -> Potential:
    """The experiment's potential alone, which takes no data to build.

    Args:
        levels: see ``prepare.levels_of``.
        elements: atomic numbers that occur in the data, in ascending order.
    """
    chosen = arms.arm(settings.arm)
    with _seeded(settings.seed):
        return chosen.potential(
            _network(settings, elements), levels, chosen.options.model_validate(settings.arm_options)
        )


def _network(settings: Experiment, elements: tuple[int, ...]) -> Network:
    kind = backbone(settings.backbone)
    return Network(kind, elements, kind.settings.model_validate(settings.network))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every GPU, too
        yield
