"""Backbones by name: how to build each from its settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mfbench.errors import UserError
from mfbench.extensions import Registry
from mfbench.models.settings import HipnnTsSettings, PaiNNSettings, SchNetSettings, SO3netSettings
from mfbench.records import Record

if TYPE_CHECKING:
    from mfbench.models.contract import Backbone


@dataclass(frozen=True)
class BackboneKind:
    """A backbone that can be asked for by name."""

    name: str
    settings: type[Record]
    build: "Callable[[tuple[int, ...], Any], Backbone]"  # (elements, settings) -> network
    # (elements, settings, that many levels as an input) -> network; None: the level cannot be one
    build_with_levels: "Callable[[tuple[int, ...], Any, int], Backbone] | None" = None
    version: str = ""  # of a backbone of one's own: changed with what it computes, as of an arm


@dataclass(frozen=True)
class Network:
    """A backbone still to be built: an arm may build several, and change their settings."""

    kind: BackboneKind
    elements: tuple[int, ...]
    settings: Record

    def build(self, n_levels: int = 0) -> "Backbone":
        """The network with fresh weights; with ``n_levels``, one that takes the level as an input (``Block.level``).

        Raises:
            UserError: a level is to be an input, and this backbone has no such input.
        """
        if not n_levels:
            return self.kind.build(self.elements, self.settings)
        if self.kind.build_with_levels is None:
            raise UserError(
                f"backbone {self.kind.name}: expected one that takes the level as an input, got one without"
            )
        return self.kind.build_with_levels(self.elements, self.settings, n_levels)

    def changed(self, settings: Mapping[str, Any]) -> "Network":
        """The same kind of network with other settings; raises UserError where one of them is unknown."""
        try:
            own = self.kind.settings.model_validate({**self.settings.model_dump(), **settings})
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"network of {self.kind.name}: {first['loc']}: {first['msg']}") from error
        return replace(self, settings=own)


# torch and SchNetPack take seconds to import: only where a network is built.


def _hipnn_ts(elements: tuple[int, ...], settings: Any, n_levels: int = 0) -> "Backbone":
    from mfbench.models.backbones.hipnn_ts import HipnnTs

    return HipnnTs(elements, settings, n_levels)


def _schnet(elements: tuple[int, ...], settings: Any, n_levels: int = 0) -> "Backbone":
    from mfbench.models.backbones.schnetpack import schnet

    return schnet(settings, n_levels)


def _painn(elements: tuple[int, ...], settings: Any, n_levels: int = 0) -> "Backbone":
    from mfbench.models.backbones.schnetpack import painn

    return painn(settings, n_levels)


def _so3net(elements: tuple[int, ...], settings: Any, n_levels: int = 0) -> "Backbone":
    from mfbench.models.backbones.schnetpack import so3net

    return so3net(settings, n_levels)


BACKBONES = (
    BackboneKind("hipnn-ts", HipnnTsSettings, _hipnn_ts, _hipnn_ts),
    BackboneKind("schnet", SchNetSettings, _schnet, _schnet),
    BackboneKind("painn", PaiNNSettings, _painn, _painn),
    BackboneKind("so3net", SO3netSettings, _so3net, _so3net),
)


REGISTRY = Registry(
    "backbones", BackboneKind, "a BackboneKind of that name", lambda: tuple(one.name for one in BACKBONES)
)


def backbone(given: str | BackboneKind) -> BackboneKind:
    """The backbone called so: built in, or one that was added (see ``extensions``); an object is added.

    Raises:
        UserError: no backbone is called so.
    """
    if isinstance(given, BackboneKind):
        if given not in BACKBONES:
            REGISTRY.add(given)
        return given
    return next((kind for kind in BACKBONES if kind.name == given), None) or REGISTRY.get(given)
