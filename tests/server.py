"""A web server on the loopback interface, well behaved unless told otherwise.

    with serve({"x.h5": content}) as server:
        server.faults["x.h5"] = [status(503), truncate(1000)]  # one a request; after them all is well
        fetch(...server.url("x.h5")...)
        assert server.requests[1].headers["Range"] == ...

It knows ranges, ETags and lengths. ``server.files`` may be changed at any time. As a proxy it serves by path alone.
"""

import hashlib
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

PATIENCE = 30.0  # seconds after which a silent connection ends in any case


@dataclass(frozen=True)
class Answer:
    """How one request is answered. By default: properly."""

    status: int | None = None  # instead of 200, 206 or 416
    headers: Mapping[str, str] = field(default_factory=dict)  # instead of or beside the usual ones; "" leaves one out
    body: bytes | None = None  # instead of the file or its range
    ranges: bool = True
    if_range: bool = True
    shift: int = 0  # a range starts this many bytes beside the one asked for
    framing: Literal["length", "chunked", "close"] = "length"
    stop: int | None = None  # bytes of the body after which something happens
    then: Literal["close", "reset", "silence", "trickle"] = "close"
    replace: bytes | None = None  # the file is another one from now on


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """A status, with headers: ``status(429, Retry_After="1")``."""
    return Answer(code, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def redirect(to: str, code: int = 302) -> Answer:
    return status(code, Location=to)


def challenge() -> Answer:
    """What figshare answers to scripts."""
    return status(202, x_amzn_waf_action="challenge")


def page(text: bytes = b"<!DOCTYPE html><title>Log in</title>", kind: str = "text/html; charset=utf-8") -> Answer:
    return status(200, text, Content_Type=kind)


def truncate(stop: int, framing: Literal["length", "chunked", "close"] = "length") -> Answer:
    return Answer(stop=stop, framing=framing)


def stall(stop: int) -> Answer:
    return Answer(stop=stop, then="silence")


def trickle(stop: int) -> Answer:
    """After some bytes, one every 20 ms."""
    return Answer(stop=stop, then="trickle")


def reset(stop: int) -> Answer:
    return Answer(stop=stop, then="reset")


def other(body: bytes, framing: Literal["length", "chunked", "close"] = "length") -> Answer:
    """Other bytes, as the whole file."""
    return Answer(200, body=body, framing=framing)


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    path: str
    headers: HTTPMessage


@dataclass
class Server:
    """What is served, what goes wrong, and what was asked for."""

    port: int
    scheme: str
    files: dict[str, bytes | Path]
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, name: str = "") -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of every request."""
        return [request.headers["Range"] for request in self.requests]


@contextmanager
def serve(files: Mapping[str, bytes | Path], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve files by name until the block ends; with a TLS context over https."""
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        if tls is not None:
            listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
        listener.state = Server(listener.server_address[1], "https" if tls else "http", dict(files))
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield listener.state
        finally:
            listener.state.closing.set()
            listener.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    state: Server

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what is tested, not worth a message."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        state, name = self.server.state, urlsplit(self.path).path.lstrip("/")
        with state.lock:
            state.requests.append(Request(self.path, self.headers))
            script = state.faults.get(name)
            answer = script.pop(0) if script else Answer()
            if answer.replace is not None:
                state.files[name] = answer.replace
            content = state.files.get(name)
        if isinstance(content, Path):
            content = content.read_bytes()
        if content is None and answer.status is None:
            answer = status(404)
        self.close_connection = True
        self._answer(answer, content or b"")

    def _answer(self, answer: Answer, content: bytes) -> None:
        code, body, headers = self._proper(answer, content)
        headers["Connection"] = "close"
        if answer.framing == "length":
            headers["Content-Length"] = str(len(body))
        elif answer.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        headers.update(answer.headers)
        self.send_response(answer.status or code)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        self._send(body if answer.stop is None else body[: answer.stop], answer)
        if answer.stop is None or answer.stop >= len(body):
            if answer.framing == "chunked":
                self.wfile.write(b"0\r\n\r\n")
            return
        if answer.then == "reset":  # with a linger time of zero, closing sends RST instead of FIN
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif answer.then == "silence":
            self._wait(PATIENCE)
        elif answer.then == "trickle":
            for k in range(answer.stop, len(body)):
                self._send(body[k : k + 1], answer)
                if self._wait(0.02):
                    return

    def _proper(self, answer: Answer, content: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of a proper answer, except for what is to go wrong."""
        if answer.body is not None:
            return 200, answer.body, {}
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        current = answer.headers.get("ETag", tag)
        changed = answer.if_range and self.headers["If-Range"] not in (None, current)
        if not asked or not answer.ranges or changed:
            return 200, content, headers
        start = max(0, int(asked[1]) + answer.shift)
        if start >= len(content):
            return 416, b"", {"Content-Range": f"bytes */{len(content)}"}
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return 206, content[start:], headers

    def _send(self, data: bytes, answer: Answer) -> None:
        if data:
            chunked = answer.framing == "chunked"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)

    def _wait(self, seconds: float) -> bool:
        """Wait; true as soon as the client has gone or the server closes."""
        for _ in range(max(1, round(seconds / 0.02))):
            if self.server.state.closing.wait(0.01):
                return True
            with suppress(OSError, ValueError):
                if select.select([self.connection], [], [], 0.01)[0]:
                    return True
        return False
