"""Results of long computations, kept while there is room."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock, RLock


@dataclass
class _Kept[V]:
    lock: RLock = field(default_factory=RLock)
    values: list[V] = field(default_factory=list)  # none yet, or one


class Memo[K: Hashable, V]:
    """The newest ``size`` values by key; of several threads that ask for one, the first makes it, the others wait."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[K, _Kept[V]] = {}
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made where it is not there; what making it raises is raised, and nothing kept."""
        with self._lock:
            kept = self._kept.pop(key, None) or _Kept()
            self._kept[key] = kept  # the last one used stands last
            while len(self._kept) > self.size:
                del self._kept[next(iter(self._kept))]
        with kept.lock:
            if not kept.values:
                kept.values.append(make())
            return kept.values[0]

    def __len__(self) -> int:
        return len(self._kept)
