"""Presets: the network and recipe that an experiment starts from. Every default that differs from a class's
own is written here, once."""

from dataclasses import dataclass, field
from typing import Any

from mfbench.errors import unknown


@dataclass(frozen=True)
class Preset:
    """Settings of a preset, by backbone and by arm; what is not named keeps its class's default."""

    name: str
    network: dict[str, dict[str, Any]] = field(default_factory=dict)  # backbone -> settings
    optimisation: dict[str, Any] = field(default_factory=dict)
    learning_rates: dict[str, dict[str, float]] = field(default_factory=dict)  # backbone -> arm -> rate
    arm_options: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # backbone -> arm -> options
    epochs: int | None = None  # budget in passes over the high-level (SF-low: low-level) set, instead of steps
    pooled: bool = False
    threads: int | None = None  # None: all cores of this process's allocation


# Of many structures with energies and forces, whatever their level: low-level stages and the oracle. Chosen by the
# validation errors of methanol, malonaldehyde and aspirin (benchmarks/mf_plus_search.py).
_MANY = 1.6e-2

_LOW = {"low_learning_rate": _MANY}

# Each arm's own best learning rate, by validation error: benchmarks/learning_rate_search.py. It was searched
# for the network of the study alone; other backbones take the one default rate for all arms.
_DEMO = Preset(
    name="demo",
    # So small a network gains little from a second thread, and loses much where threads share a core.
    threads=1,
    learning_rates={
        "hipnn-ts": {
            "SF-E": 1e-3,
            "MF": 4e-3,
            "SF-EF": 8e-3,
            "SF-low": 3.2e-2,
            "zero-shot": 3.2e-2,
            "embedding": 1.6e-2,
            "transfer": 5e-4,
            "delta": 2e-3,
            "oracle": _MANY,
        }
    },
    arm_options={"hipnn-ts": dict.fromkeys(("delta", "transfer", "MF+"), _LOW)},
)

# For results rather than for trying out: the network of the study with half its width, an order of magnitude more
# structures drawn, all cores. One rate for all arms: nothing was searched for these.
_STANDARD = Preset(
    name="standard",
    network={
        "hipnn-ts": {"n_features": 64, "n_interactions": 2, "n_sensitivities": 20, "soft_max": 5.5, "cutoff": 6.5},
        "schnet": {"n_features": 128, "n_interactions": 4, "n_radial": 30},
        "painn": {"n_features": 64, "n_interactions": 3},
        "so3net": {"n_features": 64, "n_interactions": 3, "l_max": 2},
    },
    optimisation={
        "steps": 20_000,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "warmup": 500,
        "ema_decay": 0.999,
        "validations": 100,
    },
)

# The authors' public script (hippynn pull request 168), with these departures: no early stopping, since every
# arm runs its full budget, which is counted in steps of the first batch size; the batch is raised up to 2048,
# a bound of our own; heads start at zero; gradients are clipped at a large norm.
_PAPER = Preset(
    name="paper",
    network={
        "hipnn-ts": {
            "l_max": 2,
            "n_interactions": 2,
            "n_atom_layers": 4,
            "n_features": 120,
            "n_sensitivities": 20,
            "soft_min": 0.75,
            "soft_max": 5.5,
            "cutoff": 6.5,
        }
    },
    optimisation={
        "batch_size": 256,
        "max_batch_size": 2048,
        "learning_rate": 1e-3,
        "schedule": "plateau",
        "warmup": 0,
        "patience": 20,
        "ema_decay": 0.0,
        "select_by": "rmse",
        "validations": 2000,
        "loss": {"energy": 1.0, "force": 1.0, "hierarchicality": 1.0},
    },
    epochs=2000,
    pooled=True,
)

PRESETS = {preset.name: preset for preset in (_DEMO, _STANDARD, _PAPER)}


def preset(name: str) -> Preset:
    """The preset called ``name``."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
