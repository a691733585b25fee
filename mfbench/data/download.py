"""Downloads: a file gets its own name in the cache only once it is complete and verified.

What has arrived so far is in ``.NAME.part``, where it came from in ``.NAME.part.json``, and whoever writes them holds
the lock ``.NAME.lock``. All three are harmless when they are left behind: the next pull goes on from them. Nothing
that a server says is trusted, only the declared hash (or, where nobody published one, the archive's members).
"""

import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from mfbench.bars import Transfer
from mfbench.data import archives
from mfbench.data.cache import VARIABLE, writing
from mfbench.data.manifest import DataFile
from mfbench.data.transport import (
    HTML,
    Failed,
    Options,
    direct,
    is_header,
    network,
    open_url,
    range_start,
    require_data,
    shown,
    total_of,
    validator_of,
)
from mfbench.errors import DataCorrupt, UserError
from mfbench.version import __version__

_SLACK = 1 << 26  # bytes of a disk that a download leaves free

OPTIONS = Options()

Progress = Callable[[Transfer], None]


def silent(transfer: Transfer) -> None:
    """Report nothing."""


def fetch(
    file: DataFile, folder: Path, *, offline: bool = False, progress: Progress = silent, options: Options = OPTIONS
) -> Path:
    """Download a file to a folder, unless it is there: verified, from the first of its addresses that serves it.

    An interrupted download goes on where it stopped. A second one of the same file waits for the first.

    Args:
        offline: never touch the network.
        progress: told after every chunk, and whenever the state changes.

    Returns:
        Its path, ``folder / file.name``.

    Raises:
        UserError: it is not there and cannot be had: offline, no address answers, no space, no permission.
        DataCorrupt: every address serves something else than what is declared.
    """
    target = folder / file.name
    if target.is_file():
        return target
    if offline:
        raise UserError(f"{file.name} is not in {folder}, and offline: pull it with a network, or put it at {target}")
    if not file.urls:
        raise UserError(f"{file.name} is not in {folder}, and has no address to download from: put it at {target}")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(file, folder, progress):
        if not target.is_file():
            with _opened(file, folder, progress, options) as arrived:
                _Pull(file, arrived, progress, options).run(target)
    return target


@dataclass(frozen=True)
class _Origin:
    """Where bytes came from: host and path, the validator of that version of the file, and its size."""

    source: str
    validator: str | None
    total: int | None

    @staticmethod
    def read(path: Path) -> "_Origin | None":
        """What a note says, if it makes sense."""
        try:
            made = _Origin(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        sound = isinstance(made.source, str) and isinstance(made.total, int | None)
        return made if sound and (made.validator is None or is_header(made.validator)) else None


@dataclass
class Arrived:
    """What has arrived of a file, hashed as it grows. Unbuffered: it is on disk when a process is killed."""

    path: Path
    out: FileIO
    origin: _Origin | None = None
    size: int = 0
    spliced: bool = False  # made by several answers, which might be of different files
    digest: Any = field(default_factory=hashlib.sha256)

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def begin(self, origin: _Origin | None) -> None:
        """Drop what is there; ``origin`` is where the bytes that follow come from."""
        with writing(self.path):
            self.out.truncate(0)
        self.size, self.digest = 0, hashlib.sha256()
        self.goes_on(origin)

    def goes_on(self, origin: _Origin | None) -> None:
        """Note where the bytes that follow come from."""
        self.origin, self.spliced = origin, self.size > 0
        with writing(self.note):
            if origin is None:
                self.note.unlink(missing_ok=True)
            else:
                self.note.write_text(json.dumps(asdict(origin)), "utf-8")

    def append(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        with writing(self.path):
            while view:
                view = view[self.out.write(view) :]
        self.digest.update(chunk)
        self.size += len(chunk)

    def read(self, size: int) -> bytes:
        with writing(self.path):
            return self.out.read(size)

    def is_html(self) -> bool:
        self.out.seek(0)
        head = self.read(200)
        return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html"))

    def take_name(self, target: Path) -> None:
        """Give the verified file its name."""
        with writing(target):
            os.fsync(self.out.fileno())
            self.out.close()
            os.replace(self.path, target)
            self.note.unlink(missing_ok=True)


@contextmanager
def _opened(file: DataFile, folder: Path, progress: Progress, options: Options) -> Iterator[Arrived]:
    """What has arrived of a file: at first what an earlier pull left."""
    path = folder / f".{file.name}.part"
    with writing(path):
        out = FileIO(path, "a+")
        out.seek(0)
    arrived = Arrived(path, out)
    try:
        arrived.origin = _Origin.read(arrived.note)
        while chunk := arrived.read(options.chunk):
            arrived.digest.update(chunk)
            arrived.size += len(chunk)
            progress(Transfer(file.name, arrived.size, file.bytes, "", "verifying"))
        arrived.spliced = arrived.size > 0
        yield arrived
    finally:
        out.close()
        with suppress(OSError):  # litter is harmless, and this must not hide an error
            if path.exists() and path.stat().st_size == 0:
                arrived.note.unlink(missing_ok=True)
                path.unlink()


@contextmanager
def _alone(file: DataFile, folder: Path, progress: Progress) -> Iterator[None]:
    """Keep other processes and threads from pulling the same file; the system frees the lock of a killed process."""
    lock = FileLock(folder / f".{file.name}.lock")
    held = False
    while not held:
        with writing(folder):
            try:
                lock.acquire(timeout=0.5, poll_interval=0.05)
                held = True
            except Timeout:
                done = 0
                with suppress(OSError):
                    done = (folder / f".{file.name}.part").stat().st_size
                progress(Transfer(file.name, done, file.bytes, "", "waiting for another pull"))
    try:
        yield
        # Whoever waits for the removed lock finds the finished file, so it does not matter who locks what from now.
        with suppress(OSError):
            os.unlink(lock.lock_file)
    finally:
        lock.release()


@dataclass(frozen=True)
class _Pull:
    """One download, by whoever holds the lock."""

    file: DataFile
    arrived: Arrived
    progress: Progress
    options: Options

    @property
    def total(self) -> int | None:
        return self.file.bytes or (self.arrived.origin.total if self.arrived.origin else None)

    def tell(self, state: str, url: str = "") -> None:
        host = shown(url).partition("/")[0]
        self.progress(Transfer(self.file.name, self.arrived.size, self.total, host, state))

    def run(self, target: Path) -> None:
        if self.arrived.size > (self.file.bytes or self.options.max_bytes):
            self.arrived.begin(None)
        if self.file.bytes is not None:
            self.require_space(self.file.bytes)
        failures: list[tuple[str, Failed]] = []
        for url in dict.fromkeys(map(direct, self.file.urls)):
            try:
                self.get(url)
            except Failed as failure:
                failures.append((url, failure))
            else:
                self.arrived.take_name(target)
                return
        self.give_up(failures, target)

    def give_up(self, failures: list[tuple[str, Failed]], target: Path) -> NoReturn:
        kind = DataCorrupt if all(failure.wrong for _, failure in failures) else UserError
        reasons = "; ".join(f"{shown(url)}: {failure.reason}" for url, failure in failures)
        kept = f" (it goes on after the {self.arrived.size:,} bytes that are here)" if self.arrived.size else ""
        raise kind(
            f"{self.file.name} could not be downloaded: {reasons}. Try again later{kept}, or download it by hand, "
            f"put it at {target} and verify it with `mfbench data check`"
        )

    def require_space(self, total: int) -> None:
        need = total - self.arrived.size + _SLACK
        with writing(self.arrived.path):
            free = shutil.disk_usage(self.arrived.path.parent).free
        if free < need:
            raise UserError(
                f"{self.file.name} needs {need:,} bytes in {self.arrived.path.parent}, where {free:,} are free: remove "
                f"data with `mfbench data rm`, or name a folder on another disk with {VARIABLE}"
            )

    def get(self, url: str) -> None:
        """Complete and verify the file from one address; raises Failed where that cannot be done."""
        arrived, options = self.arrived, self.options
        tries, furthest, anew = 0, arrived.size, False
        while True:
            try:
                if not arrived.size or arrived.size != self.total:
                    self.request(url)
                self.verify(url)
                return
            except Failed as failure:
                if failure.wrong and failure.again and not anew:  # once more, in one piece
                    tries, anew = 0, True
                    continue
                if arrived.size >= furthest + options.chunk:  # a connection that drops now and then is no dead end
                    tries, furthest = 0, arrived.size
                tries += 1
                if failure.wrong or not failure.again or tries >= options.tries or failure.after > options.longest_wait:
                    raise
                self.tell(f"retrying: {failure.reason}", url)
                time.sleep(max(failure.after, min(options.longest_wait, options.backoff * 2 ** (tries - 1))))

    def verify(self, url: str) -> None:
        """Raise Failed, and drop what has arrived, where it is not the declared file."""
        file, arrived = self.file, self.arrived
        self.tell("verifying", url)
        cut = self.total is None  # then nobody could tell that it ended early
        if file.bytes is not None and arrived.size != file.bytes:
            self.drop(f"expected {file.bytes:,} bytes, got {arrived.size:,}")
        if file.sha256 is None:
            try:
                archives.check(arrived.path, file)
            except DataCorrupt as error:
                self.drop(str(error), cut)
        elif (got := arrived.digest.hexdigest()) != file.sha256:
            self.drop(f"expected sha256 {file.sha256}, got {got}", cut)

    def drop(self, reason: str, again: bool = False) -> NoReturn:
        """Drop what has arrived as wrong. If it was spliced, it may be right in one piece."""
        again = again or self.arrived.spliced
        html = self.arrived.is_html()
        self.arrived.begin(None)
        raise Failed(HTML if html else reason, again, wrong=not html)

    def request(self, url: str) -> None:
        """Ask one address for what is missing, once, and append it."""
        self.tell("connecting", url)
        if url.startswith("file:"):
            self.copy(url)
            return
        file, arrived, source = self.file, self.arrived, shown(url)
        headers = {"User-Agent": f"mfbench/{__version__}", "Accept": "*/*"}
        before = arrived.origin if arrived.origin and arrived.origin.source == source else None
        # Bytes of two addresses, or of two versions at one, are joined only where the hash of the whole will tell.
        asked = arrived.size if file.sha256 or (before and before.validator) else 0
        if asked:
            headers["Range"] = f"bytes={asked}-"
            if before and before.validator:
                headers["If-Range"] = before.validator
        with network(self.options):
            response = open_url(url, headers, self.options)
        with response:
            where = "" if response.url == url else f" (redirected to {shown(response.url)})"
            if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and asked:
                if (total_of(response) or self.total) in (None, asked):
                    return  # all is here already: the hash decides
                arrived.begin(None)
                raise Failed(f"HTTP 416, a refusal to go on from byte {asked:,}: begun anew", again=True)
            require_data(response, file, where)
            start, origin = self.offered(response, source, asked)
            if start and before and _differ(before, origin):
                arrived.begin(None)
                raise Failed("the file changed between two requests: begun anew", again=True)
            if start:
                arrived.goes_on(origin)
            else:
                arrived.begin(origin)
            if file.bytes is None and origin.total is not None:
                self.require_space(origin.total)
            self.pour(response.read1, url)
        if self.total is not None and arrived.size < self.total:
            if start == 0 and arrived.is_html():
                arrived.begin(None)
                raise Failed(f"{HTML}{where}")
            raise Failed(f"the connection ended after {arrived.size:,} of {self.total:,} bytes", again=True)

    def offered(self, response: http.client.HTTPResponse, source: str, asked: int) -> tuple[int, _Origin]:
        """Where in the file an answer starts, and what it says of the file; raises Failed where that is not ours."""
        declared, start, total = self.file.bytes, 0, response.length
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            first, total = range_start(response), total_of(response)
            if first != asked:
                self.arrived.begin(None)
                raise Failed(f"it was asked for bytes from {asked:,} on, and gave others", again=True)
            start = asked
        if declared is not None and total is not None and total != declared:
            raise Failed(f"expected {declared:,} bytes, it offers {total:,}: another file", wrong=True)
        if total is not None and total > self.options.max_bytes and declared is None:
            raise Failed(f"it offers {total:,} bytes, more than the {self.options.max_bytes:,} allowed", wrong=True)
        return start, _Origin(source, validator_of(response), total)

    def copy(self, url: str) -> None:
        """Copy a local file, from its beginning."""
        with network(self.options):
            parts = urlsplit(url)
        path = Path(urllib.request.url2pathname(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_file():
            raise Failed("no such file")
        self.arrived.begin(None)
        with network(self.options):
            stream = FileIO(path)
        with stream:
            self.pour(stream.read, url)

    def pour(self, read: Callable[[int], bytes], url: str) -> None:
        """Append what ``read`` gives until it ends, but never more than there should be."""
        arrived, options = self.arrived, self.options
        limit = self.total if self.total is not None else options.max_bytes
        since, had = time.monotonic(), arrived.size
        while True:
            with network(options):
                chunk = read(min(options.chunk, limit - arrived.size + 1))
            if not chunk:
                return
            if arrived.size + len(chunk) > limit:
                self.drop(f"expected {limit:,} bytes, got more")
            arrived.append(chunk)
            self.tell("downloading", url)
            passed = time.monotonic() - since
            if passed >= options.window:
                if arrived.size - had < options.slowest * passed:
                    raise Failed(f"it sent only {(arrived.size - had) / passed:.0f} bytes a second", again=True)
                since, had = time.monotonic(), arrived.size


def _differ(before: _Origin, now: _Origin) -> bool:
    """Whether two answers of one address are about different versions of a file."""
    return any(
        None not in (one, other) and one != other
        for one, other in ((before.validator, now.validator), (before.total, now.total))
    )
