"""What people and other packages add to mfbench: arms, backbones, cases, datasets and metrics, found by name.

Two ways lead here. In Python an object is passed (``experiment(MY_CASE, MyArm())``, ``mfbench.register(MY_METRIC)``),
and its name is known from then on in this process. An installed package offers it as an entry point of the group
``mfbench.arms``, ``mfbench.backbones``, ``mfbench.cases``, ``mfbench.datasets`` or ``mfbench.metrics``, and its name
is known everywhere: to the command line, to calculators, to dashboards. ``mfbench.testing`` checks what is added.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Protocol

from mfbench.errors import UserError, unknown

Kind = Literal["arms", "backbones", "cases", "datasets", "metrics"]

_ONE: dict[Kind, str] = {
    "arms": "an arm",
    "backbones": "a backbone",
    "cases": "a case",
    "datasets": "a dataset",
    "metrics": "a metric",
}

_own: dict[Kind, dict[str, Any]] = {kind: {} for kind in _ONE}


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Registry[T: Named]:
    """The things of one kind by name: those that ship with mfbench, those added in this process, those of packages."""

    kind: Kind
    type: "type[T]"
    expected: str  # of what is added, for messages
    shipped: Callable[[], tuple[str, ...]]  # names that mfbench itself uses
    made: Callable[[Any], Any] = lambda found: found  # a thing out of what stands for it: a class, a path
    also: str = ", or one of your own (see the README)"  # what else may be given for a name, for messages

    def names(self) -> tuple[str, ...]:
        """All that there are, each once; those that ship first."""
        return tuple(dict.fromkeys([*self.shipped(), *names(self.kind)]))

    def add(self, thing: T) -> None:
        """Make an object known by its name in this process; one of that name that was added before gives way.

        Raises:
            UserError: mfbench itself uses the name.
        """
        if thing.name in self.shipped():
            one = _ONE[self.kind]
            raise UserError(f"{one} of one's own: expected a name that mfbench does not use, got {thing.name!r}")
        _own[self.kind][thing.name] = thing

    def own(self, name: str) -> T | None:
        """What was added or is offered by the name; raises UserError where it is no such thing."""
        found = self.made(_found(self.kind, name))
        if found is not None and (not isinstance(found, self.type) or found.name != name):
            raise wrong(self.kind, name, self.expected, found)
        return found

    def get(self, name: str) -> T:
        """The same; raises UserError where there is none."""
        found = self.own(name)
        if found is None:
            raise unknown(self.kind.removesuffix("s"), name, self.names(), self.also)
        return found


def names(kind: Kind) -> tuple[str, ...]:
    """Names of all that was added or is offered, each once."""
    return tuple(dict.fromkeys([*_own[kind], *(point.name for point in _offered(kind))]))


def own() -> dict[Kind, dict[str, Any]]:
    """All that was added in this process, by kind and name."""
    return {kind: dict(things) for kind, things in _own.items()}


def adopt(things: dict[Kind, dict[str, Any]]) -> None:
    """Make known here what was added in another process (``own`` there)."""
    for kind, named in things.items():
        _own[kind].update(named)


def _found(kind: Kind, name: str) -> Any | None:
    """What is known by the name: added in this process, or else offered by an installed package; None if neither.

    Raises:
        UserError: two packages offer the name, or what is offered cannot be imported.
    """
    if name in _own[kind]:
        return _own[kind][name]
    points = [point for point in _offered(kind) if point.name == name]
    if len({point.value for point in points}) > 1:
        raise UserError(f"{_ONE[kind]} called {name!r} is offered by {' and '.join(map(_whose, points))}: remove one")
    return _loaded(kind, points[0]) if points else None


def origin(kind: Kind, name: str) -> str | None:
    """Where what is known by the name comes from, for the record; None where mfbench knows it by itself, or not."""
    if name in _own[kind]:
        thing = _own[kind][name]
        return f"{type(thing).__module__}.{type(thing).__qualname__}, an object of this process"
    return next((_whose(point) for point in _offered(kind) if point.name == name), None)


def wrong(kind: Kind, name: str, expected: str, got: object) -> UserError:
    """The error for something of another type than its kind has."""
    return UserError(f"{_ONE[kind]} called {name!r}: expected {expected}, got {got!r:.80}")


def _offered(kind: Kind) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"mfbench.{kind}"))


def _loaded(kind: Kind, point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # whatever a foreign module raises when it is imported
        raise UserError(
            f"{_ONE[kind]} called {point.name!r} cannot be imported from {point.value} of {_whose(point)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _whose(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
