"""Downloads: a file gets its own name in the cache only once it is complete and verified.

What has arrived so far is in ``.NAME.part``, where it came from in ``.NAME.part.json``, and whoever writes them holds
the lock ``.NAME.lock``. All three are harmless when they are left behind: the next pull goes on from them. Nothing
that a server says is trusted, only the declared hash (or, where nobody published one, the archive's members).
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import string
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError
from urllib.parse import quote, urljoin, urlsplit

from filelock import FileLock, Timeout

from mfbench.bars import Transfer
from mfbench.data import archives
from mfbench.data.cache import VARIABLE, writing
from mfbench.data.manifest import DataFile
from mfbench.errors import DataCorrupt, UserError
from mfbench.version import __version__

_SLACK = 1 << 26  # bytes of a disk that a download leaves free

_REDIRECTS = (301, 302, 303, 307, 308)

_TRANSIENT = (202, 408, 425, 429, 500, 502, 503, 504)

_HTML = "an HTML page where data was expected: a log-in, error or consent page"

# figshare answers scripts at its web addresses with an empty 202; its API serves the same file.
_FIGSHARE = re.compile(
    r"https?://(?:[\w-]+\.)*figshare\.com/(?:(?:ndownloader/)?files/(\d+)|articles/.*[?&]file=(\d+))/?(?:[?&#].*)?"
)


@dataclass(frozen=True)
class Options:
    """How patient a download is, and how much it takes; in seconds and bytes."""

    connect: float = 30.0
    stall: float = 60.0  # longest silence
    slowest: float = 1000.0  # bytes a second, as a mean over ``window``
    window: float = 60.0
    tries: int = 5  # at each address, without a chunk gained
    backoff: float = 1.0  # wait before the second try, doubled for each further one
    longest_wait: float = 60.0  # between two tries, also when a server asks for more
    redirects: int = 10
    chunk: int = 1 << 20
    max_bytes: int = 10**11  # of a file whose size is not declared


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
            with _opened(file, folder, progress, options) as part:
                _Pull(file, part, progress, options).run(target)
    return target


def direct(url: str) -> str:
    """The address that serves scripts: of a figshare file the one of figshare's API, otherwise the same."""
    match = _FIGSHARE.fullmatch(url)
    return f"https://api.figshare.com/v2/file/download/{match[1] or match[2]}" if match else url


def redirected(url: str, location: str | None) -> str:
    """Where a redirect leads to: never from https to less, and nowhere but the web."""
    if not location:
        raise _Failed("a redirect to nowhere")
    to = quote(urljoin(url, location), safe=string.punctuation).partition("#")[0]
    parts = urlsplit(to)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _Failed(f"a redirect to {parts.scheme or 'no'}: refused, expected http or https")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        raise _Failed(f"a redirect from https to http ({_shown(to)}): refused")
    return to


def _shown(url: str) -> str:
    """Host and path: a query may be a secret signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is not valid"
    return re.sub(r"[^\x21-\x7e]", "?", f"{parts.netloc.rpartition('@')[2]}{parts.path}")[:200]


class _Failed(Exception):
    """An address did not give the file, this time."""

    def __init__(self, reason: str, again: bool = False, wrong: bool = False, after: float = 0.0) -> None:
        """Say what happened.

        Args:
            again: it may be otherwise at the next try.
            wrong: it gave other content than declared; then ``again`` says that this may be due to splicing.
            after: seconds that the server asks to wait.
        """
        super().__init__(reason)
        self.reason, self.again, self.wrong, self.after = reason, again, wrong, after


@dataclass(frozen=True)
class _Origin:
    """Where a part came from: host and path, the validator of that version of the file, and its size."""

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
        return made if sound and (made.validator is None or _is_header(made.validator)) else None


def _is_header(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable() and len(text) < 1000


@dataclass
class _Part:
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
def _opened(file: DataFile, folder: Path, progress: Progress, options: Options) -> Iterator[_Part]:
    """The part of a file, with what an earlier pull left in it."""
    path = folder / f".{file.name}.part"
    with writing(path):
        out = FileIO(path, "a+")
        out.seek(0)
    part = _Part(path, out)
    try:
        part.origin = _Origin.read(part.note)
        while chunk := part.read(options.chunk):
            part.digest.update(chunk)
            part.size += len(chunk)
            progress(Transfer(file.name, part.size, file.bytes, "", "verifying"))
        part.spliced = part.size > 0
        yield part
    finally:
        out.close()
        with suppress(OSError):  # litter is harmless, and this must not hide an error
            if path.exists() and path.stat().st_size == 0:
                part.note.unlink(missing_ok=True)
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
    part: _Part
    progress: Progress
    options: Options

    @property
    def total(self) -> int | None:
        return self.file.bytes or (self.part.origin.total if self.part.origin else None)

    def tell(self, state: str, url: str = "") -> None:
        host = _shown(url).partition("/")[0]
        self.progress(Transfer(self.file.name, self.part.size, self.total, host, state))

    def run(self, target: Path) -> None:
        if self.part.size > (self.file.bytes or self.options.max_bytes):
            self.part.begin(None)
        if self.file.bytes is not None:
            self.require_space(self.file.bytes)
        failures: list[tuple[str, _Failed]] = []
        for url in dict.fromkeys(map(direct, self.file.urls)):
            try:
                self.get(url)
            except _Failed as failure:
                failures.append((url, failure))
            else:
                self.part.take_name(target)
                return
        self.give_up(failures, target)

    def give_up(self, failures: list[tuple[str, _Failed]], target: Path) -> NoReturn:
        kind = DataCorrupt if all(failure.wrong for _, failure in failures) else UserError
        reasons = "; ".join(f"{_shown(url)}: {failure.reason}" for url, failure in failures)
        kept = f" (it goes on after the {self.part.size:,} bytes that are here)" if self.part.size else ""
        raise kind(
            f"{self.file.name} could not be downloaded: {reasons}. Try again later{kept}, or download it by hand, "
            f"put it at {target} and verify it with `mfbench data check`"
        )

    def require_space(self, total: int) -> None:
        need = total - self.part.size + _SLACK
        with writing(self.part.path):
            free = shutil.disk_usage(self.part.path.parent).free
        if free < need:
            raise UserError(
                f"{self.file.name} needs {need:,} bytes in {self.part.path.parent}, where {free:,} are free: remove "
                f"data with `mfbench data rm`, or name a folder on another disk with {VARIABLE}"
            )

    def get(self, url: str) -> None:
        """Complete and verify the part from one address; raises _Failed where that cannot be done."""
        part, options = self.part, self.options
        tries, furthest, anew = 0, part.size, False
        while True:
            try:
                if not part.size or part.size != self.total:
                    self.request(url)
                self.verify(url)
                return
            except _Failed as failure:
                if failure.wrong and failure.again and not anew:  # once more, in one piece
                    tries, anew = 0, True
                    continue
                if part.size >= furthest + options.chunk:  # a connection that drops now and then is no dead end
                    tries, furthest = 0, part.size
                tries += 1
                if failure.wrong or not failure.again or tries >= options.tries or failure.after > options.longest_wait:
                    raise
                self.tell(f"retrying: {failure.reason}", url)
                time.sleep(max(failure.after, min(options.longest_wait, options.backoff * 2 ** (tries - 1))))

    def verify(self, url: str) -> None:
        """Raise _Failed, and drop the part, where it is not the declared file."""
        file, part = self.file, self.part
        self.tell("verifying", url)
        cut = self.total is None  # then nobody could tell that it ended early
        if file.bytes is not None and part.size != file.bytes:
            self.drop(f"expected {file.bytes:,} bytes, got {part.size:,}")
        if file.sha256 is None:
            try:
                archives.check(part.path, file)
            except DataCorrupt as error:
                self.drop(str(error), cut)
        elif (got := part.digest.hexdigest()) != file.sha256:
            self.drop(f"expected sha256 {file.sha256}, got {got}", cut)

    def drop(self, reason: str, again: bool = False) -> NoReturn:
        """Drop the part as wrong. If it was spliced, it may be right in one piece."""
        again = again or self.part.spliced
        html = self.part.is_html()
        self.part.begin(None)
        raise _Failed(_HTML if html else reason, again, wrong=not html)

    def request(self, url: str) -> None:
        """Ask one address for what is missing, once, and append it."""
        self.tell("connecting", url)
        if url.startswith("file:"):
            self.copy(url)
            return
        file, part, source = self.file, self.part, _shown(url)
        headers = {"User-Agent": f"mfbench/{__version__}", "Accept": "*/*"}
        before = part.origin if part.origin and part.origin.source == source else None
        # Bytes of two addresses, or of two versions at one, are joined only where the hash of the whole will tell.
        asked = part.size if file.sha256 or (before and before.validator) else 0
        if asked:
            headers["Range"] = f"bytes={asked}-"
            if before and before.validator:
                headers["If-Range"] = before.validator
        with _network(self.options):
            response = _open(url, headers, self.options)
        with response:
            where = "" if response.url == url else f" (redirected to {_shown(response.url)})"
            if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and asked:
                if (_total(response) or self.total) in (None, asked):
                    return  # all is here already: the hash decides
                part.begin(None)
                raise _Failed(f"HTTP 416, a refusal to go on from byte {asked:,}: begun anew", again=True)
            _require_data(response, file, where)
            start, origin = self.offered(response, source, asked)
            if start and before and _differ(before, origin):
                part.begin(None)
                raise _Failed("the file changed between two requests: begun anew", again=True)
            if start:
                part.goes_on(origin)
            else:
                part.begin(origin)
            if file.bytes is None and origin.total is not None:
                self.require_space(origin.total)
            self.pour(response.read1, url)
        if self.total is not None and part.size < self.total:
            if start == 0 and part.is_html():
                part.begin(None)
                raise _Failed(f"{_HTML}{where}")
            raise _Failed(f"the connection ended after {part.size:,} of {self.total:,} bytes", again=True)

    def offered(self, response: http.client.HTTPResponse, source: str, asked: int) -> tuple[int, _Origin]:
        """Where in the file an answer starts, and what it says of the file; raises _Failed where that is not ours."""
        declared, start, total = self.file.bytes, 0, response.length
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            first, total = _range_start(response), _total(response)
            if first != asked:
                self.part.begin(None)
                raise _Failed(f"it was asked for bytes from {asked:,} on, and gave others", again=True)
            start = asked
        if declared is not None and total is not None and total != declared:
            raise _Failed(f"expected {declared:,} bytes, it offers {total:,}: another file", wrong=True)
        if total is not None and total > self.options.max_bytes and declared is None:
            raise _Failed(f"it offers {total:,} bytes, more than the {self.options.max_bytes:,} allowed", wrong=True)
        return start, _Origin(source, _validator(response), total)

    def copy(self, url: str) -> None:
        """Copy a local file, from its beginning."""
        with _network(self.options):
            parts = urlsplit(url)
        path = Path(urllib.request.url2pathname(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_file():
            raise _Failed("no such file")
        self.part.begin(None)
        with _network(self.options):
            stream = FileIO(path)
        with stream:
            self.pour(stream.read, url)

    def pour(self, read: Callable[[int], bytes], url: str) -> None:
        """Append what ``read`` gives until it ends, but never more than there should be."""
        part, options = self.part, self.options
        limit = self.total if self.total is not None else options.max_bytes
        since, had = time.monotonic(), part.size
        while True:
            with _network(options):
                chunk = read(min(options.chunk, limit - part.size + 1))
            if not chunk:
                return
            if part.size + len(chunk) > limit:
                self.drop(f"expected {limit:,} bytes, got more")
            part.append(chunk)
            self.tell("downloading", url)
            passed = time.monotonic() - since
            if passed >= options.window:
                if part.size - had < options.slowest * passed:
                    raise _Failed(f"it sent only {(part.size - had) / passed:.0f} bytes a second", again=True)
                since, had = time.monotonic(), part.size


def _open(url: str, headers: dict[str, str], options: Options) -> http.client.HTTPResponse:
    """Request an address and follow its redirects."""
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Web(options.stall))
    seen = {url}
    for _ in range(options.redirects + 1):
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=options.connect)
        assert isinstance(response, http.client.HTTPResponse)
        if response.status not in _REDIRECTS:
            return response
        response.close()
        url = redirected(url, response.headers["Location"])
        if url in seen:
            raise _Failed(f"a redirect loop at {_shown(url)}")
        seen.add(url)
    raise _Failed(f"more than {options.redirects} redirects")


class _Http(http.client.HTTPConnection):
    """A connection that, once there, may be silent for ``stall`` seconds."""

    def __init__(self, *args: Any, stall: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._stall = stall

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._stall)


class _Https(_Http, http.client.HTTPSConnection):
    """The same, encrypted."""


class _Web(urllib.request.AbstractHTTPHandler):
    """Opens http and https addresses. Redirects and statuses are the caller's to judge."""

    def __init__(self, stall: float) -> None:
        super().__init__()
        self._stall = stall

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Http, stall=self._stall), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Https, stall=self._stall), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


@contextmanager
def _network(options: Options) -> Iterator[None]:
    """Turn what a network does into _Failed. No message of an exception is passed on that could hold an address."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        match reason:
            case ssl.SSLCertVerificationError():
                raise _Failed(f"its certificate is not accepted: {reason.verify_message}") from error
            case ValueError() | http.client.InvalidURL():
                raise _Failed("not a valid address") from error
            case TimeoutError():
                wrapped = reason is not error  # as everything is that happens before an answer
                why = f"no connection in {options.connect:g} s" if wrapped else f"silence for {options.stall:g} s"
            case ConnectionRefusedError():
                why = "the connection was refused"
            case socket.gaierror():
                why = "no network, or no such host"
            case ConnectionError() | http.client.IncompleteRead():
                why = "the connection was cut"
            case OSError() if str(reason).startswith("Tunnel connection failed"):
                why = "the proxy named in the environment refused"
            case OSError(strerror=str(text)):
                why = f"it cannot be read: {text}"
            case _:
                why = f"it cannot be read: {type(reason).__name__}"
        raise _Failed(why, again=True) from error


def _require_data(response: http.client.HTTPResponse, file: DataFile, where: str) -> None:
    """Raise _Failed where an answer is not a file, whatever its status says."""
    status, headers = response.status, response.headers
    if status == HTTPStatus.ACCEPTED and (action := headers["x-amzn-waf-action"]):
        raise _Failed(f"HTTP 202 with a {_plain(action)} for browsers{where}: it does not serve scripts")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "unknown status"
        after = _retry_after(headers["Retry-After"])
        asks = f"; it asks to wait {after:.0f} s" if after else ""
        raise _Failed(f"HTTP {status} {phrase}{where}{asks}", status in _TRANSIENT, after=after)
    if headers.get_content_type() == "text/html" and not file.name.lower().endswith((".html", ".htm")):
        raise _Failed(f"{_HTML}{where}")
    if response.length == 0:
        raise _Failed(f"an empty answer (0 bytes){where}", again=True)


def _differ(before: _Origin, now: _Origin) -> bool:
    """Whether two answers of one address are about different versions of a file."""
    return any(
        None not in (one, other) and one != other
        for one, other in ((before.validator, now.validator), (before.total, now.total))
    )


def _plain(text: str) -> str:
    return re.sub(r"[^\w-]", "?", text)[:40]


def _retry_after(text: str | None) -> float:
    """Seconds that a server asks to wait: given as such, or as a date."""
    if not text:
        return 0.0
    if text.isdecimal():
        return float(text[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0


def _range_start(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d{1,18})-", response.headers["Content-Range"] or "")
    return int(match[1]) if match else None


def _total(response: http.client.HTTPResponse) -> int | None:
    """The file's size, by an answer about a range of it."""
    match = re.fullmatch(r"bytes [\d*-]+/(\d{1,18})", response.headers["Content-Range"] or "")
    return int(match[1]) if match else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What tells this version of a file from others, byte by byte: a strong ETag, or a date."""
    tag = response.headers["ETag"]
    found = tag if tag and not tag.startswith("W/") else response.headers["Last-Modified"]
    return found if _is_header(found) else None
