"""How a stage is optimised: settings alone, which can be read without loading torch."""

from typing import Annotated, Literal

from pydantic import Field

from mfbench.records import Record

DIFFERENCE = " - "  # in the name of a difference of two levels


class LabelWeights(Record):
    """Weights of one level's energies and forces."""

    energy: float = 1.0
    force: float = 1.0


class LossWeights(Record):
    """Weights of the terms: the same for every level, times those of ``levels`` where a level is named there."""

    energy: float = 1.0
    force: float = 1.0
    hierarchicality: float = 0.0
    levels: dict[str, LabelWeights] = Field(default_factory=dict)

    def of(self, level: str) -> LabelWeights:
        """Weights of one level (of a difference: of the level that it leads to)."""
        own = self.levels.get(level.split(DIFFERENCE)[0], LabelWeights())
        return LabelWeights(energy=self.energy * own.energy, force=self.force * own.force)


class Optimisation(Record):
    """How a stage is optimised; every arm gets the same, but for its own learning rate."""

    steps: Annotated[int, Field(ge=0, le=10**9)] = 3000
    batch_size: Annotated[int, Field(gt=0, le=10**7)] = 16  # structures per source
    # plateau: the batch is doubled up to this, then the rate is halved
    max_batch_size: Annotated[int, Field(le=10**7)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup: Annotated[int, Field(ge=0, le=10**9)] = 50  # steps of linear warm-up
    patience: Annotated[int, Field(gt=0, le=10**9)] = 20  # plateau: validations without improvement to wait for
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995  # 0: no averaging of weights
    clip_norm: Annotated[float, Field(gt=0)] = 100.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # decoupled (AdamW)
    balance: Literal["none", "uncertainty"] = "none"  # learned scales of the loss terms: see loss.total_loss
    validations: Annotated[int, Field(gt=0, le=10**9)] = 50  # how often the validation error is looked at
    select_by: Literal["mae", "rmse"] = "mae"
    loss: LossWeights = LossWeights()
