"""A library: what a folder of runs, or results that ship, hold, read once a process and shared by all who look.

Whoever shows results reads a library: the results table of finished runs, what is known of every run, finished or not,
and a run's history, predictions and settings when they are asked for. A run is named, never a path: a name that is not
among the library's is refused.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pandas as pd

from mfbench.errors import UserError
from mfbench.files import parse_json, read_bytes
from mfbench.results.folder import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    SETTINGS_FILE,
    RunFolder,
    empty_history,
    no_scans,
    read_metrics,
)
from mfbench.results.predictions import Predictions, arrays_from
from mfbench.results.reference import PREDICTIONS, REFERENCES, histories, reference
from mfbench.results.runs import Reading, Told, look, runs_of, silent
from mfbench.results.schema import EXPERIMENT

# Columns of ``Library.entries``.
ENTRIES: Final[dict[str, str]] = {
    "run": "str",
    "state": "str",  # "finished", "unfinished" or "broken"
    "running": "bool",  # unfinished, and some process is at work on it
    "problem": "str",  # why it is broken, or what is wrong with an unfinished one
    **dict.fromkeys(("case", "data", "arm", "backbone", "preset"), "str"),
    **dict.fromkeys(("n_low", "n_high", "split_seed", "seed"), "Int64"),
    "step": "Int64",  # steps trained, over all stages
    "steps": "Int64",  # and how many there are to be
    "seconds": "float64",  # of training
    "finished": "str",  # when, as in 2026-01-31T12:00:00+0000
    "device": "str",
    "commit": "str",  # of the code that made it
    "bytes": "Int64",  # of all its files
}

CONDITIONS = ("finished", "unfinished", "broken")

KEPT_BYTES = 1 << 28  # of predictions that are kept in memory, in all libraries together


class Library(ABC):
    """What one place holds. Threads may share it."""

    label: str  # for people

    @staticmethod
    def of_folder(path: str | Path, told: Told = silent) -> "Library":
        """The library of a folder of run folders: one a process, for whoever asks.

        It is looked at when it is opened, but for some seconds after the last look: who needs the newest refreshes it.

        Args:
            told: called with how many runs are read and how many there are, while it is read for the first time.

        Raises:
            UserError: the folder cannot be read.
        """
        return _opened(Path(path).expanduser().resolve(), told)

    @staticmethod
    def shipped(name: str) -> "Library":
        """The library of results that ship; raises UserError where there are none of that name (``REFERENCES``)."""
        return _shipped(name)

    @property
    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The results table of all finished runs that can be read; not to be changed."""

    @property
    @abstractmethod
    def entries(self) -> pd.DataFrame:
        """A row for each run, in whatever state, with the columns of ``ENTRIES``; not to be changed."""

    @property
    @abstractmethod
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the table must know: what was left out and why, and what is not sealed."""

    @property
    @abstractmethod
    def version(self) -> int:
        """A number that changes when finished runs do: numbers worked out of them can be kept by it."""

    @property
    @abstractmethod
    def entries_version(self) -> int:
        """A number that changes when any run does, trainings that go on included."""

    def refresh(self, age: float = 0.0) -> bool:
        """Look whether anything was changed, and read that again; whether it was.

        Args:
            age: look only where nobody did for this many seconds.

        Raises:
            UserError: the folder cannot be read any more.
        """
        return False

    @abstractmethod
    def history(self, run: str) -> pd.DataFrame:
        """What ``RunFolder.history`` tells of a run, also of one that is being trained."""

    @abstractmethod
    def predictions(self, run: str) -> Predictions | None:
        """What a finished run predicted for its test structures; None where it is not kept."""

    @abstractmethod
    def scans(self, run: str) -> pd.DataFrame:
        """What ``RunFolder.scans`` tells of a finished run; no rows where it was not checked."""

    @abstractmethod
    def settings(self, run: str) -> dict[str, Any]:
        """A run's experiment, as it was saved; empty where that is not kept."""

    @abstractmethod
    def provenance(self, run: str) -> dict[str, Any]:
        """Where a run came from; empty where nothing tells."""

    def remove(self, run: str) -> None:
        """Delete a run for good; raises UserError where it ships, or some process is at work on it."""
        raise UserError(f"{self.label}: expected a run of one's own to delete, got {run!r:.120}, which ships")


# Predictions that are kept


@final
class _Kept:
    """The predictions that were asked for last, as many as ``KEPT_BYTES`` hold."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Predictions] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Predictions]) -> Predictions:
        """What is kept by a key, or is made now."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = make()  # two at once may make the same: nobody waits for another's large file
        with self._lock:
            self._held[key] = made
            while len(self._held) > 1 and sum(map(_size, self._held.values())) > KEPT_BYTES:
                self._held.popitem(last=False)
        return made


def _size(predictions: Predictions) -> int:
    values = (getattr(predictions, one.name) for one in fields(predictions))
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


_kept = _Kept()


# Folders of runs


@final
class _Folder(Library):
    """The library of a folder of runs."""

    def __init__(self, path: Path) -> None:
        self.path, self.label = path, str(path)
        self._lock = threading.Lock()  # of whoever looks
        self._looked = -np.inf
        self._found: _Found | None = None

    def refresh(self, age: float = 0.0, told: Told = silent) -> bool:
        with self._lock:
            before = self._found
            if before is not None and time.monotonic() - self._looked < age:
                return False
            reading = look(self.path, before and before.reading, told)
            self._looked = time.monotonic()
            if before is None or reading is not before.reading:
                self._found = _Found(reading, before)
        return self._found is not before

    @property
    def _now(self) -> "_Found":
        assert self._found is not None  # ``of_folder`` has looked
        return self._found

    @property
    def table(self) -> pd.DataFrame:
        return self._now.reading.table

    @property
    def entries(self) -> pd.DataFrame:
        return self._now.entries

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(runs_of([self._now.reading]).remarks())

    @property
    def version(self) -> int:
        return self._now.version

    @property
    def entries_version(self) -> int:
        return self._now.entries_version

    def _folder(self, run: str) -> RunFolder:
        if run not in self._now.names:
            raise UserError(f"{self.label}: expected one of its {len(self._now.names):,} runs, got {run!r:.120}")
        return self._now.reading.folder(self._now.names[run])

    def history(self, run: str) -> pd.DataFrame:
        return self._folder(run).history()

    def predictions(self, run: str) -> Predictions | None:
        folder = self._folder(run)
        record = self._now.reading.records[folder.path.name]
        if record.condition != "finished" or PREDICTIONS_FILE not in folder.listed():
            return None
        stat = folder.file(PREDICTIONS_FILE).stat() if folder.file(PREDICTIONS_FILE).is_file() else None
        key = (folder.path, stat and (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
        return _kept.get(key, folder.predictions)

    def scans(self, run: str) -> pd.DataFrame:
        return self._folder(run).scans()

    def settings(self, run: str) -> dict[str, Any]:
        return self._folder(run).settings()

    def provenance(self, run: str) -> dict[str, Any]:
        return self._folder(run).provenance()

    def remove(self, run: str) -> None:
        self._folder(run).remove()
        self.refresh()


@final
class _Found:
    """What a folder of runs held at one time; it never changes."""

    def __init__(self, reading: Reading, before: "_Found | None") -> None:
        self.reading = reading
        same = before is not None and reading.table is before.reading.table
        self.version: int = 0 if before is None else before.version + (not same)
        self.entries_version: int = 0 if before is None else before.entries_version + 1
        self.entries = _entries(reading)
        self.names = dict(zip(self.entries["run"].tolist(), reading.records))  # names of the folders


def _entries(reading: Reading) -> pd.DataFrame:
    """``Library.entries``: of finished runs out of their rows, of others out of their settings."""
    records = pd.Series(list(reading.records.values()), index=list(reading.records), dtype="object")
    facts = pd.DataFrame([{**one.facts, "state": one.condition, "problem": one.problem} for one in records])
    facts = facts.set_axis(records.index).assign(run=records.index)
    counts = np.array([one.rows for one in records], dtype=np.int64)
    first = reading.table.iloc[(np.cumsum(counts) - counts)[counts > 0]]
    own = first[["run", *EXPERIMENT, "steps", "seconds", "device"]].assign(step=first["steps"])
    own = own.set_axis(records.index[counts > 0])
    return _as_entries(own.combine_first(facts).loc[records.index] if len(own) else facts)


def _as_entries(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with exactly the columns of ``ENTRIES``; what is not known is empty."""
    empty = {"str": "", "bool": False}
    whole = frame.reindex(columns=list(ENTRIES))
    unknown = {name: empty[kind] for name, kind in ENTRIES.items() if kind in empty}
    return whole.astype("object").fillna(unknown).astype(ENTRIES).reset_index(drop=True)


_MOST_FOLDERS = 8  # that are kept in memory

_OPENED = 2.0  # s for which one that was looked at is not looked at again when somebody else opens it

_folders: OrderedDict[Path, _Folder] = OrderedDict()
_folders_lock = threading.Lock()


def _opened(path: Path, told: Told) -> Library:
    with _folders_lock:
        library = _folders.setdefault(path, _Folder(path))
        _folders.move_to_end(path)
        while len(_folders) > _MOST_FOLDERS:
            _folders.popitem(last=False)
    library.refresh(_OPENED, told)
    return library


# Results that ship


@lru_cache(maxsize=8)
def _shipped(name: str) -> Library:
    return _Shipped(name)


@final
class _Shipped(Library):
    """The library of results that ship, packed (see ``reference.pack``)."""

    def __init__(self, name: str) -> None:
        self._path = reference(name)
        self.label = f"Shipped: {REFERENCES[name]}"
        self._table = read_metrics(self._path / METRICS_FILE)
        self._provenance = self._json(PROVENANCE_FILE)
        self._settings = self._json(SETTINGS_FILE)
        self._histories = histories(self._path)
        first = self._table.drop_duplicates("run")
        origin = {key: str(self._provenance.get(key, "")) for key in ("finished", "commit")}
        self._entries = _as_entries(first.assign(state="finished", step=first["steps"], **origin))
        self._runs = frozenset(self._entries["run"])

    def _json(self, name: str) -> dict[str, Any]:
        path = self._path / name
        return parse_json(read_bytes(path), path) if path.is_file() else {}

    @property
    def table(self) -> pd.DataFrame:
        return self._table

    @property
    def entries(self) -> pd.DataFrame:
        return self._entries

    @property
    def remarks(self) -> tuple[str, ...]:
        return ()

    @property
    def version(self) -> int:
        return 0

    @property
    def entries_version(self) -> int:
        return 0

    def _known(self, run: str) -> str:
        if run not in self._runs:
            raise UserError(f"{self.label}: expected one of its {len(self._runs):,} runs, got {run!r:.120}")
        return run

    def history(self, run: str) -> pd.DataFrame:
        return self._histories.get(self._known(run), empty_history())

    def predictions(self, run: str) -> Predictions | None:
        path = self._path / PREDICTIONS / f"{self._known(run)}.h5"
        if not path.is_file():
            return None
        return _kept.get(path, lambda: arrays_from(read_bytes(path), Predictions, path))

    def scans(self, run: str) -> pd.DataFrame:
        self._known(run)
        return no_scans()

    def settings(self, run: str) -> dict[str, Any]:
        found: Any = self._settings.get(self._known(run), {})
        return dict(found)

    def provenance(self, run: str) -> dict[str, Any]:
        self._known(run)
        return self._provenance
