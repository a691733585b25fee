"""Backbones by name: how to build each from its settings."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from mfbench.backbones.base import Backbone
from mfbench.backbones.hipnn_ts import HipnnTs, HipnnTsSettings
from mfbench.errors import unknown
from mfbench.manifest import Record


@dataclass(frozen=True)
class BackboneKind:
    """A backbone that can be asked for by name."""

    name: str
    settings: type[Record]
    build: Callable[[tuple[int, ...], Any], Backbone]  # (elements, settings) -> network


def _painn(elements: tuple[int, ...], settings: Any) -> Backbone:
    from mfbench.backbones.schnetpack import painn  # imports SchNetPack: only where it is asked for

    return painn(settings)


class PaiNNSettings(Record):
    """Shape of SchNetPack's PaiNN. The defaults are small enough for a laptop's CPU."""

    n_features: int = 32
    n_interactions: int = 3
    n_radial: int = 20
    cutoff: float = 5.0  # Angstrom


BACKBONES = (
    BackboneKind("hipnn-ts", HipnnTsSettings, HipnnTs),
    BackboneKind("painn", PaiNNSettings, _painn),
)


def backbone_names() -> tuple[str, ...]:
    """Names of the backbones that exist, those of installed packages included."""
    return (*(b.name for b in BACKBONES), *(p.name for p in entry_points(group="mfbench.backbones")))


def backbone(name: str) -> BackboneKind:
    """The backbone called ``name``: built in, or an entry point of the group ``mfbench.backbones``."""
    for kind in BACKBONES:
        if kind.name == name:
            return kind
    for point in entry_points(group="mfbench.backbones", name=name):
        return point.load()
    raise unknown("backbone", name, backbone_names())
