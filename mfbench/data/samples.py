"""Some structures of data that are on this machine, to look at: memory is bounded, nothing is fetched or converted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from mfbench.data import cache, catalogue, datasets, store
from mfbench.data.cases import Case
from mfbench.data.datasets import DataMissing, DataRequest
from mfbench.data.manifest import Manifest
from mfbench.data.structures import Structures

MOST = 4_000  # structures of a dataset that are looked at

CHECKED = 20_000  # structures, up to which all checks of a dataset take some seconds


@dataclass(frozen=True)
class Sample:
    """Structures that are looked at, and how many there are."""

    structures: Structures
    total: int

    @property
    def whole(self) -> bool:
        """Whether these are all that there are."""
        return len(self.structures) == self.total


def at_hand(declared: Manifest) -> bool:
    """Whether a dataset can be looked at as it is: it ships, was converted, or is small enough to be read raw."""
    if declared.shipped or datasets.find_converted(declared):
        return True
    paths = [cache.find(declared.name, file.name) for file in declared.files]
    return datasets.is_small([path for path in paths if path]) and None not in paths


@lru_cache(maxsize=8)
def sample(request: DataRequest, most: int = MOST) -> Sample:
    """At most ``most`` structures of each dataset, spread over it; kept for those who ask again in this process.

    Raises:
        DataMissing: a dataset is not here, or would have to be converted first.
        DataCorrupt: a file is not what the manifest declares.
    """
    pieces, total = [], 0
    for declared, levels, subset in request.pieces():
        if not at_hand(declared):
            raise DataMissing(f"dataset {declared.name!r} is not here: get it with `mfbench data pull {declared.name}`")
        if not declared.shipped and (path := datasets.find_converted(declared)):
            with store.Reader(path, levels, subset, most) as reader:
                pieces.append(reader.read())
                total += reader.total
        else:
            whole = datasets.load(declared, None, levels, subset)
            pieces.append(whole[store.windows(len(whole), most)])
            total += len(whole)
    return Sample(datasets.joined(pieces), total)


def request_of(case: Case, data: str) -> DataRequest:
    """All levels of a case's data."""
    rules = case.choice(data)
    return DataRequest(rules.datasets, None, tuple(rules.subsets.items()))


_one_at_a_time = Lock()


def check(name: str, told: Callable[[int, int | None], None]) -> catalogue.Checked:
    """All checks of a dataset at hand, made once a process: they take seconds, and the processor.

    Args:
        told: how many structures are done, of how many.
    """

    @contextmanager
    def counts(_name: str) -> Iterator[datasets.Progress]:
        yield lambda _doing, done, total: told(done, total)

    with _one_at_a_time:
        if name not in _checked:
            _checked[name] = catalogue.check(name, watch=catalogue.Watch(catalogue.SILENT.transfers, counts))
        return _checked[name]


_checked: dict[str, catalogue.Checked] = {}
