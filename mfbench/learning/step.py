"""What a stage trains: parameters, their average, the best weights and the optimiser; and one step of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mfbench.learning.device import Labelled
from mfbench.learning.loss import level_sums, term_names, total_loss
from mfbench.learning.problem import Training


class Learner:
    """The parameters that a stage trains and all that goes along with them.

    Learned scales of the loss terms (``Optimisation.balance``), where there are some, are the last of the parameters.
    """

    def __init__(self, stage: Training, device: torch.device) -> None:
        """Fresh from the potential's weights; only what the stage trains asks for gradients from now on."""
        o, trained = stage.lesson.optimisation, stage.trained()
        for name, parameter in stage.potential.named_parameters():
            parameter.requires_grad_(name in trained)
        self.stage = stage
        self.parameters: list[Tensor] = [*trained.values()]
        self._terms = term_names(stage.lesson.train) if o.balance == "uncertainty" else []
        groups: list[dict[str, Any]] = [{"params": [*trained.values()], "weight_decay": o.weight_decay}]
        if self._terms:
            scales = torch.zeros(len(self._terms), device=device, requires_grad=True)
            groups.append({"params": [scales], "weight_decay": 0.0})
            self.parameters.append(scales)
        fused = device.type in ("cpu", "cuda")  # of the devices that there may be, those that have it
        self.optimiser = torch.optim.Adam(groups, o.learning_rate, fused=fused, decoupled_weight_decay=True)
        self.average = [p.detach().clone() for p in self.parameters]
        self.best = [p.detach().clone() for p in self.parameters]

    def log_scales(self) -> dict[str, Tensor]:
        """The learned scale of each loss term, by its name."""
        return dict(zip(self._terms, self.parameters[-1])) if self._terms else {}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The potential with the averaged weights, as long as the block lasts."""
        trained = [p.detach().clone() for p in self.parameters]
        self._set(self.average)
        try:
            yield
        finally:
            self._set(trained)

    def keep_best(self) -> None:
        """Note the averaged weights as the best so far."""
        torch._foreach_copy_(self.best, self.average)

    def take_best(self) -> None:
        """Give the potential the best weights."""
        self._set(self.best)

    def state(self) -> dict[str, Tensor]:
        """All tensors that it takes to go on, by name."""
        tensors: dict[str, Tensor] = {}
        for k, parameter in enumerate(self.parameters):
            moments = self.optimiser.state[parameter]
            tensors |= {
                f"parameter.{k}": parameter.detach(),
                f"average.{k}": self.average[k],
                f"best.{k}": self.best[k],
                f"exp_avg.{k}": moments["exp_avg"],
                f"exp_avg_sq.{k}": moments["exp_avg_sq"],
            }
        return tensors

    def load_state(self, tensors: dict[str, Tensor], step: int) -> None:
        """Go on from what ``state`` gave after so many steps; raises KeyError where it is of other shapes."""
        for k, parameter in enumerate(self.parameters):
            if tensors[f"parameter.{k}"].shape != parameter.shape:
                raise KeyError(f"parameter.{k}")
        with torch.no_grad():
            for k, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{k}"])
                self.average[k].copy_(tensors[f"average.{k}"])
                self.best[k].copy_(tensors[f"best.{k}"])
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(float(step), device=parameter.device),
                    "exp_avg": tensors[f"exp_avg.{k}"],
                    "exp_avg_sq": tensors[f"exp_avg_sq.{k}"],
                }

    def _set(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, values)


def train_step(learner: Learner, blocks: Iterable[Labelled], rate: float, step: int) -> tuple[Tensor, Tensor]:
    """One gradient step, the only one there is: what is compiled, captured or shared between devices goes here.

    Nothing in it asks the device for a number or waits for it.

    Args:
        rate: learning rate.
        step: how many steps were done before.

    Returns:
        The loss, and the norm of its gradient before it was clipped; both stay on the device.
    """
    o, potential = learner.stage.lesson.optimisation, learner.stage.potential
    for group in learner.optimiser.param_groups:
        group["lr"] = rate
    sums = level_sums(potential, blocks, training=True, auxiliary=o.loss.hierarchicality > 0)
    learner.optimiser.zero_grad()
    loss = total_loss(sums, o.loss, learner.log_scales())
    loss.backward()
    norm = nn.utils.clip_grad_norm_(learner.parameters, o.clip_norm)
    learner.optimiser.step()
    # A short memory at first, so that the average does not carry the initial weights along.
    decay = min(o.ema_decay, (step + 1) / (step + 11))
    with torch.no_grad():
        torch._foreach_lerp_(learner.average, learner.parameters, 1 - decay)
    return loss.detach(), norm
