"""What the network does to a download: requests, redirects, refusals, and every failure as one kind of exception."""

import http.client
import re
import socket
import ssl
import string
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, urljoin, urlsplit

from mfbench.data.manifest import DataFile

_REDIRECTS = (301, 302, 303, 307, 308)

_TRANSIENT = (202, 408, 425, 429, 500, 502, 503, 504)

HTML = "an HTML page where data was expected: a log-in, error or consent page"

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


def direct(url: str) -> str:
    """The address that serves scripts: of a figshare file the one of figshare's API, otherwise the same."""
    match = _FIGSHARE.fullmatch(url)
    return f"https://api.figshare.com/v2/file/download/{match[1] or match[2]}" if match else url


def redirected(url: str, location: str | None) -> str:
    """Where a redirect leads to: never from https to less, and nowhere but the web."""
    if not location:
        raise Failed("a redirect to nowhere")
    to = quote(urljoin(url, location), safe=string.punctuation).partition("#")[0]
    parts = urlsplit(to)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failed(f"a redirect to {parts.scheme or 'no'}: refused, expected http or https")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        raise Failed(f"a redirect from https to http ({shown(to)}): refused")
    return to


def shown(url: str) -> str:
    """Host and path: a query may be a secret signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is not valid"
    return re.sub(r"[^\x21-\x7e]", "?", f"{parts.netloc.rpartition('@')[2]}{parts.path}")[:200]


class Failed(Exception):
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


def is_header(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable() and len(text) < 1000


def open_url(url: str, headers: dict[str, str], options: Options) -> http.client.HTTPResponse:
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
            raise Failed(f"a redirect loop at {shown(url)}")
        seen.add(url)
    raise Failed(f"more than {options.redirects} redirects")


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
def network(options: Options) -> Iterator[None]:
    """Turn what a network does into Failed. No message of an exception is passed on that could hold an address."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        match reason:
            case ssl.SSLCertVerificationError():
                raise Failed(f"its certificate is not accepted: {reason.verify_message}") from error
            case ValueError() | http.client.InvalidURL():
                raise Failed("not a valid address") from error
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
        raise Failed(why, again=True) from error


def require_data(response: http.client.HTTPResponse, file: DataFile, where: str) -> None:
    """Raise Failed where an answer is not a file, whatever its status says."""
    status, headers = response.status, response.headers
    if status == HTTPStatus.ACCEPTED and (action := headers["x-amzn-waf-action"]):
        raise Failed(f"HTTP 202 with a {_plain(action)} for browsers{where}: it does not serve scripts")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "unknown status"
        after = _retry_after(headers["Retry-After"])
        asks = f"; it asks to wait {after:.0f} s" if after else ""
        raise Failed(f"HTTP {status} {phrase}{where}{asks}", status in _TRANSIENT, after=after)
    if headers.get_content_type() == "text/html" and not file.name.lower().endswith((".html", ".htm")):
        raise Failed(f"{HTML}{where}")
    if response.length == 0:
        raise Failed(f"an empty answer (0 bytes){where}", again=True)


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


def range_start(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d{1,18})-", response.headers["Content-Range"] or "")
    return int(match[1]) if match else None


def total_of(response: http.client.HTTPResponse) -> int | None:
    """The file's size, by an answer about a range of it."""
    match = re.fullmatch(r"bytes [\d*-]+/(\d{1,18})", response.headers["Content-Range"] or "")
    return int(match[1]) if match else None


def validator_of(response: http.client.HTTPResponse) -> str | None:
    """What tells this version of a file from others, byte by byte: a strong ETag, or a date."""
    tag = response.headers["ETag"]
    found = tag if tag and not tag.startswith("W/") else response.headers["Last-Modified"]
    return found if is_header(found) else None
