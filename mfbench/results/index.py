"""What was read of a folder of runs already: so that many finished runs are not read and hashed anew each time.

The index is a cache: a file among the run folders, or in the user's cache where those cannot be written. It can be
deleted at any time, and is made again. What it holds of a run counts while the size, times and inode of every file that
it was read from are those of then.
"""

import io
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import platformdirs
import pyarrow as pa
import pyarrow.parquet

from mfbench.errors import UserError
from mfbench.files import digest, read_bytes, write_bytes
from mfbench.results.folder import EXTRA, METRICS_FILE, PROVENANCE_FILE, SEAL_FILE, SETTINGS_FILE, RunFolder, as_parquet
from mfbench.results.schema import COLUMNS, conform, empty_table
from mfbench.version import __version__

INDEX_FILE = ".runs.index"

FEWEST = 20  # runs; for fewer, a cache is not worth a file

_FORMAT = [1, __version__, list(COLUMNS.items())]  # what was read by other rules is read again

_SETTLED = 2 * 10**9  # ns since a file was last changed; times are coarser than two changes may be apart

_KEY = b"mfbench"  # in the metadata of the table

_READ = (SEAL_FILE, METRICS_FILE, PROVENANCE_FILE, SETTINGS_FILE)  # what a run's rows and facts are read from

State = tuple[tuple[str, int, int, int, int], ...]  # of files: name, size, mtime, ctime, inode


@dataclass(frozen=True)
class Record:
    """What is known of one folder among the run folders."""

    condition: Literal["finished", "unfinished", "broken"]
    state: State = ()  # of its files when they were read; empty where that does not show the next change
    rows: int = 0  # of the results table
    sealed: bool = True
    problem: str = ""  # why it is broken, or what is wrong with an unfinished one
    facts: Mapping[str, Any] = field(default_factory=dict)  # columns of ``library.ENTRIES`` that are not in its rows


def state(folder: str) -> tuple[State, bool]:
    """The state of the files that a run is read from, and whether it is enough to see the next change by."""
    # Plain strings, as this is done for every run each time that somebody looks.
    found: list[tuple[str, int, int, int, int]] = []

    def add(name: str, at: str) -> bool:
        try:
            stat = os.stat(at)
        except FileNotFoundError:
            return False
        found.append((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
        return True

    try:
        there = {name: add(name, f"{folder}/{name}") for name in _READ}
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(f"{folder}/{EXTRA}")):
                add(f"{EXTRA}/{name}", f"{folder}/{EXTRA}/{name}")
        if not there[METRICS_FILE]:  # it may be trained just now
            run = RunFolder(Path(folder))
            for path in (*run.checkpoints(), run.lock):
                add(path.name, str(path))
    except OSError:
        return (), False
    last = max([max(one[2], one[3]) for one in found], default=0)
    return tuple(found), bool(found) and time.time_ns() - last > _SETTLED


def read_index(folder: Path) -> tuple[dict[str, Record], pd.DataFrame]:
    """What is remembered of a folder of runs, by the names of their folders, and their rows in that order."""
    files = [file for file in _files(folder) if file.is_file()]
    for file in sorted(files, key=lambda one: one.stat().st_mtime_ns, reverse=True):
        with suppress(UserError, OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException):
            return _parse(read_bytes(file))
    return {}, empty_table()


def write_index(folder: Path, records: Mapping[str, Record], table: pd.DataFrame) -> None:
    """Remember finished runs, whose rows the table holds in their order, where a file can be written."""
    said = {"format": _FORMAT, "runs": [[name, vars(one)] for name, one in records.items()]}
    content = as_parquet(table, {_KEY: json.dumps(said).encode()})
    for file in _files(folder):
        with suppress(OSError, UserError):
            write_bytes(file, digest(content).encode() + content)
            return


def _parse(content: bytes) -> tuple[dict[str, Record], pd.DataFrame]:
    """What ``write_index`` wrote; raises ValueError (or another of those that ``read_index`` expects) if it did not."""
    own, content = content[:64], content[64:]
    if own != digest(content).encode():
        raise ValueError("not as it was written")
    table = pyarrow.parquet.ParquetFile(io.BytesIO(content)).read()
    said = json.loads(table.schema.metadata[_KEY])
    if said["format"] != json.loads(json.dumps(_FORMAT)):
        raise ValueError("of another version")
    records = {
        name: Record(**{**one, "state": tuple(tuple(file) for file in one["state"])}) for name, one in said["runs"]
    }
    if sum(one.rows for one in records.values()) != table.num_rows:
        raise ValueError("rows of no run")
    return records, conform(table.to_pandas())


def _files(folder: Path) -> list[Path]:
    """Where the index of a folder may be."""
    name = f"{digest(os.fsencode(folder.absolute()))[:24]}.index"
    return [folder / INDEX_FILE, platformdirs.user_cache_path("mfbench") / "runs" / name]
