"""What was checked already: so that many sealed runs are not hashed anew each time that they are read.

The index is a cache: a file among the run folders, or in the user's cache where those cannot be written. It can be
deleted at any time, and is made again. A file counts as checked while its size, times and inode are those of then.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from mfbench.errors import UserError
from mfbench.files import as_json, digest, parse_json, read_bytes, write_bytes

INDEX_FILE = ".checked.json"

_FORMAT = 1

_FEWEST = 20  # files; for fewer, a cache is not worth a file

_SETTLED = 2 * 10**9  # ns since a file was last changed; times are coarser than two changes may be apart


@dataclass
class Index:
    """The sha256 that files had when they were checked, by path below the folder of runs."""

    folder: Path
    known: dict[str, list[int | str]] = field(default_factory=dict)  # path -> size, mtime, ctime, inode, sha256
    changed: bool = False

    def holds(self, path: Path, sha256: str) -> bool:
        """Whether the file was found to have this sha256, and was not touched since."""
        return self.known.get(self._key(path)) == [*_state(path)[0], sha256]

    def remember(self, path: Path, state: tuple[list[int], bool], sha256: str) -> None:
        """A file that was in this state (see ``state``) before it was read, and was found to have this sha256."""
        if state[1] and state == _state(path):
            self.known[self._key(path)] = [*state[0], sha256]
            self.changed = True

    def state(self, path: Path) -> tuple[list[int], bool]:
        """A file's size, times and inode, and whether that is enough to see the next change by."""
        return _state(path)

    def _key(self, path: Path) -> str:
        return os.path.relpath(path, self.folder)


def _state(path: Path) -> tuple[list[int], bool]:
    try:
        stat = path.stat()
    except OSError:
        return [], False
    last = max(stat.st_mtime_ns, stat.st_ctime_ns)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino], time.time_ns() - last > _SETTLED


@contextmanager
def index(folder: Path) -> Iterator[Index]:
    """The index of a folder of runs, written again at the end where something new was learned."""
    files = _files(folder)
    found = Index(folder, {key: value for file in reversed(files) for key, value in _read(file).items()})
    yield found
    if not found.changed or len(found.known) < _FEWEST:
        return
    known = {key: value for key, value in found.known.items() if (folder / key).is_file()}
    said = {"format": _FORMAT, "files": known}
    content = as_json({**said, "sha256": digest(json.dumps(said, sort_keys=True).encode())})
    for file in files:
        with suppress(OSError, UserError):
            write_bytes(file, content)
            return


def _files(folder: Path) -> list[Path]:
    """Where the index of a folder may be."""
    name = f"{digest(os.fsencode(folder.absolute()))[:24]}.json"
    return [folder / INDEX_FILE, platformdirs.user_cache_path("mfbench") / "checked" / name]


def _read(file: Path) -> dict[str, list[int | str]]:
    """What an index holds; nothing where it is missing or damaged."""
    try:
        said = parse_json(read_bytes(file), file)
        own = said.pop("sha256", None)
        whole = own == digest(json.dumps(said, sort_keys=True).encode()) and said.get("format") == _FORMAT
        return dict(said["files"]) if whole else {}
    except (UserError, KeyError, TypeError, ValueError):
        return {}
