"""Downloads: whatever servers, networks, disks and people do, the cache holds verified files or resumable parts."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from pathlib import Path

import pytest
from server import Answer, Server, challenge, other, page, redirect, reset, serve, stall, status, trickle, truncate

from mfbench.bars import Transfer
from mfbench.data import download, transport
from mfbench.data.download import fetch
from mfbench.data.manifest import DataFile, Member
from mfbench.data.transport import Options, direct
from mfbench.errors import DataCorrupt, UserError
from mfbench.version import __version__

CONTENT = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)
# Impatient, and yet no false alarm on a busy machine: whatever is expected to work sends at once.
QUICK = Options(connect=5, stall=5, slowest=1, window=60, tries=3, backoff=0.001, longest_wait=0.05, chunk=8192)
HASTY = replace(QUICK, connect=20, stall=0.3, tries=2)  # where silence is what is tested


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def server() -> Iterator[Server]:
    """Serves the file at two addresses, ``x.h5`` and its mirror ``mirror/x.h5``."""
    with serve({"x.h5": CONTENT, "mirror/x.h5": CONTENT}) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def declare(*urls: str, content: bytes = CONTENT, size: bool = True, name: str = "x.h5") -> DataFile:
    """A file, by its content; its size is declared or not."""
    digest = hashlib.sha256(content).hexdigest()
    return DataFile(name=name, bytes=len(content) if size else None, sha256=digest, urls=urls)


def zipped(content: bytes) -> bytes:
    """A zip with one member, ``a.npz``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("a.npz", content)
    return buffer.getvalue()


def declare_zip(*urls: str, content: bytes) -> DataFile:
    """A zip of which neither size nor hash are published, as the sGDML ones: only its member's md5 is."""
    return DataFile(name="x.zip", urls=urls, members=(Member(path="a.npz", md5=hashlib.md5(content).hexdigest()),))


def assert_clean(folder: Path, file: DataFile, content: bytes | None = None) -> None:
    """Nothing is there but the verified file (``content``; None: not yet) and the hidden files of a pull."""
    allowed = {f".{file.name}.part", f".{file.name}.part.json", f".{file.name}.lock"}
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if content is None:
        assert names <= allowed
    else:
        assert names == {file.name}, "a finished pull leaves no litter"
        assert (folder / file.name).read_bytes() == content
    part = folder / f".{file.name}.part"
    if part.exists() and file.bytes is not None:
        assert part.stat().st_size <= file.bytes


def succeeds(file: DataFile, folder: Path, content: bytes = CONTENT, options: Options = QUICK) -> list[Transfer]:
    """Fetch a file, assert that it is right, and return what was reported."""
    told: list[Transfer] = []
    assert fetch(file, folder, progress=told.append, options=options) == folder / file.name
    assert_clean(folder, file, content)
    return told


def fails(file: DataFile, folder: Path, options: Options = QUICK, kind: type[UserError] = UserError) -> str:
    """Fetch a file, assert that it fails without a trace, and return the message."""
    with pytest.raises(UserError) as caught:
        fetch(file, folder, options=options)
    assert type(caught.value) is kind
    assert_clean(folder, file)
    text = str(caught.value)
    assert "\n" not in text
    assert file.name in text
    return text


# --- what is usual


def test_a_file_is_fetched_once(server: Server, folder: Path) -> None:
    file = declare(server.url("x.h5"))
    told = succeeds(file, folder / "deep")
    assert [one.state for one in told[:2]] == ["connecting", "downloading"]
    assert told[-1] == Transfer("x.h5", len(CONTENT), len(CONTENT), f"127.0.0.1:{server.port}", "verifying")
    done = [one.done for one in told]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert {one.total for one in told} == {len(CONTENT)}
    succeeds(file, folder / "deep")
    assert len(server.requests) == 1
    assert server.requests[0].headers["User-Agent"] == f"mfbench/{__version__}"
    assert server.ranges == [None]


def test_offline_asks_nobody(server: Server, folder: Path) -> None:
    file = declare(server.url("x.h5"))
    with pytest.raises(UserError, match=r"x\.h5 is not in .*cache, and offline: pull it .* or put it at .*/x\.h5"):
        fetch(file, folder, offline=True)
    assert not folder.exists()
    succeeds(file, folder)
    assert fetch(file, folder, offline=True) == folder / "x.h5"
    assert len(server.requests) == 1


def test_no_address(folder: Path) -> None:
    assert "has no address to download from: put it at" in fails(declare(), folder)


def test_a_size_that_is_not_declared(server: Server, folder: Path) -> None:
    told = succeeds(declare(server.url("x.h5"), size=False), folder)
    assert {one.total for one in told if one.state == "downloading"} == {len(CONTENT)}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [True, False])
def test_framings(server: Server, folder: Path, framing: str, size: bool) -> None:
    server.faults["x.h5"] = [Answer(framing=framing)]  # type: ignore[arg-type]
    succeeds(declare(server.url("x.h5"), size=size), folder)


def test_local_files(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "a source #1.h5"
    source.write_bytes(CONTENT)
    succeeds(declare(source.as_uri()), folder)
    (folder / "x.h5").unlink()
    source.write_bytes(OTHER)
    assert "expected sha256" in fails(declare(source.as_uri()), folder, kind=DataCorrupt)
    source.write_bytes(CONTENT + b"!")
    assert "expected 200,000 bytes, got more" in fails(declare(source.as_uri()), folder, kind=DataCorrupt)
    source.write_bytes(CONTENT[:-1])
    assert "expected 200,000 bytes, got 199,999" in fails(declare(source.as_uri()), folder, kind=DataCorrupt)
    source.unlink()
    for url in (source.as_uri(), "file://elsewhere/x.h5", tmp_path.as_uri()):
        assert "no such file" in fails(declare(url), folder)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "address",
    [
        "figshare.com/ndownloader/files/18112775",
        "figshare.com/files/18112775",
        "ndownloader.figshare.com/files/18112775",
        "springernature.figshare.com/ndownloader/files/18112775",
        "springernature.figshare.com/ndownloader/files/18112775?download=1",
        "figshare.com/articles/dataset/ANI-1x/10047041?file=18112775",
    ],
)
def test_figshare_addresses(scheme: str, address: str) -> None:
    assert direct(f"{scheme}://{address}") == "https://api.figshare.com/v2/file/download/18112775"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.figshare.com/v2/file/download/18112775",
        "https://figshare.com/articles/dataset/ANI-1x/10047041",
        "https://figshare.com.evil.org/ndownloader/files/1",
        "https://notfigshare.com/ndownloader/files/1",
        "https://evil.org/figshare.com/ndownloader/files/1",
        "https://zenodo.org/records/1/files/1",
        "file:///figshare.com/ndownloader/files/1",
    ],
)
def test_other_addresses_stay(url: str) -> None:
    assert direct(url) == url


def test_a_proxy_of_the_environment(
    server: Server, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", server.url())
    succeeds(declare("http://data.invalid/x.h5"), folder)
    assert server.requests[0].path == "http://data.invalid/x.h5"
    monkeypatch.setenv("https_proxy", server.url())
    urls = ("http://figshare.com/ndownloader/files/7", "https://ndownloader.figshare.com/files/7")
    text = fails(declare(*urls), tmp_path / "other")
    assert text.count("api.figshare.com/v2/file/download/7: the proxy named in the environment refused") == 1
    assert "ndownloader" not in text


# --- what servers do

HTML = b"\n <HTML><body>We will be back soon</body></html>"
FAULTS = {
    "challenge": (challenge(), "HTTP 202 with a challenge for browsers"),
    "accepted": (status(202), "HTTP 202 Accepted"),
    "empty": (status(200), "an empty answer (0 bytes)"),
    "forbidden": (status(403), "HTTP 403 Forbidden"),
    "missing": (status(404), "HTTP 404 Not Found"),
    "busy": (status(429, Retry_After="0"), "HTTP 429 Too Many Requests"),
    "broken": (status(500), "HTTP 500 Internal Server Error"),
    "unavailable": (status(503), "HTTP 503 Service Unavailable"),
    "strange": (status(299, b"x"), "HTTP 299 unknown status"),
    "no content": (status(204), "HTTP 204 No Content"),
    "range": (status(416), "HTTP 416"),
    "page": (page(), "an HTML page where data was expected"),
    "plain page": (page(HTML, "application/octet-stream"), "expected 200,000 bytes, it offers 48: another file"),
    "chunked page": (other(HTML, "chunked"), "an HTML page where data was expected"),
    "endless page": (other(HTML, "close"), "an HTML page where data was expected"),
    "long page": (other(HTML * 10_000, "chunked"), "an HTML page where data was expected"),
    "wrong bytes": (other(OTHER), f"expected sha256 {hashlib.sha256(CONTENT).hexdigest()}, got "),
    "shorter": (other(CONTENT[:-1]), "expected 200,000 bytes, it offers 199,999: another file"),
    "longer": (other(CONTENT + b"!"), "expected 200,000 bytes, it offers 200,001: another file"),
    "longer than it says": (other(CONTENT + OTHER, "chunked"), "expected 200,000 bytes, got more"),
    "longer, unsaid": (other(CONTENT + OTHER, "close"), "expected 200,000 bytes, got more"),
    "truncated": (truncate(70_000), "the connection ended after 70,000 of 200,000 bytes"),
    "truncated chunks": (truncate(70_000, "chunked"), "the connection was cut"),
    "truncated, unsaid": (truncate(70_000, "close"), "the connection ended after 70,000 of 200,000 bytes"),
    "reset": (reset(70_000), "the connection was cut"),
    "reset at once": (reset(0), "the connection was cut"),
    "silent": (stall(70_000), "silence for 0.3 s"),
    "silent at once": (stall(0), "silence for 0.3 s"),
    "redirected to nowhere": (status(302), "a redirect to nowhere"),
    "redirected to a file": (redirect("file:///etc/passwd"), "a redirect to file: refused"),
    "redirected to ftp": (redirect("ftp://127.0.0.1/x.h5"), "a redirect to ftp: refused"),
    "redirected to nonsense": (redirect("http://[x/"), "not a valid address"),
    "redirected to no port": (redirect("http://127.0.0.1:port/"), "not a valid address"),
    "redirected to itself": (redirect("x.h5"), "a redirect loop at 127.0.0.1"),
}
WRONG = {"wrong bytes", "shorter", "longer", "longer than it says", "longer, unsaid", "plain page"}
IMPATIENT = {"silent", "silent at once"}


def lasting(fault: Answer) -> list[Answer]:
    """A fault, again and again: one that gives some bytes gives no more of them."""
    return [fault] + 20 * [replace(fault, stop=0) if fault.stop else fault]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_stays_is_told(server: Server, folder: Path, name: str) -> None:
    """With what to do about it, once every try at the only address ended in it; then all goes well."""
    fault, message = FAULTS[name]
    server.faults["x.h5"] = lasting(fault)
    kept = fault.stop or 0
    file = declare(server.url("x.h5"))
    since = time.monotonic()
    text = fails(file, folder, HASTY if name in IMPATIENT else QUICK, DataCorrupt if name in WRONG else UserError)
    assert time.monotonic() - since < HASTY.connect
    assert text.startswith(f"x.h5 could not be downloaded: 127.0.0.1:{server.port}/x.h5: ")
    assert message in text
    assert f"download it by hand, put it at {folder / 'x.h5'}" in text
    part = folder / ".x.h5.part"
    assert (part.stat().st_size if part.exists() else 0) <= kept
    server.faults.clear()
    succeeds(file, folder)


@pytest.mark.parametrize("name", FAULTS)
def test_a_mirror_helps(server: Server, folder: Path, name: str) -> None:
    server.faults["x.h5"] = lasting(FAULTS[name][0])
    urls = (server.url("x.h5"), server.url("mirror/x.h5"))
    succeeds(declare(*urls), folder, options=HASTY if name in IMPATIENT else QUICK)
    assert server.requests[-1].path == "/mirror/x.h5"


PASSING = {
    name: fault for name, (fault, _) in FAULTS.items() if fault.status in (None, 429, 500, 503) or name == "empty"
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_retried(server: Server, folder: Path, name: str) -> None:
    fault = PASSING[name]
    server.faults["x.h5"] = [fault]
    told = succeeds(declare(server.url("x.h5")), folder, options=HASTY if name in IMPATIENT else QUICK)
    assert len(server.requests) >= 2
    assert [one.state for one in told if one.state.startswith("retrying: ")]
    if fault.stop and fault.then != "reset":  # a reset may lose what was on its way
        assert server.ranges[:2] == [None, f"bytes={fault.stop}-"]
        assert server.requests[1].headers["If-Range"]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("absolute", [True, False])
def test_redirects_are_followed_each_time(server: Server, folder: Path, code: int, absolute: bool) -> None:
    """Range and If-Range go along; a signature in the query is neither kept nor shown."""
    hop = partial(redirect, code=code)
    to = (server.url() if absolute else "/") + "store/x.h5?signature=secret"
    server.files["store/x.h5"] = CONTENT
    server.faults["x.h5"] = [hop("/again"), hop("/again")]
    server.faults["again"] = [hop(to), hop(to)]
    server.faults["store/x.h5"] = [truncate(50_000), status(403)]
    file = declare(server.url("x.h5"))
    text = fails(file, folder)
    assert f"x.h5: HTTP 403 Forbidden (redirected to 127.0.0.1:{server.port}/store/x.h5)" in text
    assert "secret" not in text
    assert (folder / ".x.h5.part").stat().st_size == 50_000
    assert "secret" not in (folder / ".x.h5.part.json").read_text()
    assert [request.path for request in server.requests].count("/store/x.h5?signature=secret") == 2
    assert server.ranges == [None] * 3 + ["bytes=50000-"] * 3
    assert len({request.headers["If-Range"] for request in server.requests[3:]}) == 1
    succeeds(file, folder)


@pytest.mark.parametrize(("hops", "message"), [(11, "more than 10 redirects"), (10, None)])
def test_many_redirects(server: Server, folder: Path, hops: int, message: str | None) -> None:
    for k in range(hops):
        server.faults[f"{k}"] = [redirect(f"/{k + 1}" if k < hops - 1 else "/x.h5")] * 3
    file = declare(server.url("0"))
    if message:
        assert message in fails(file, folder)
    else:
        succeeds(file, folder)


def test_a_loop_of_two(server: Server, folder: Path) -> None:
    server.faults["x.h5"] = [redirect("/y?secret")] * 3
    server.faults["y"] = [redirect("/x.h5")] * 3
    text = fails(declare(server.url("x.h5")), folder)
    assert "a redirect loop at" in text
    assert "secret" not in text
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("url", "location", "to"),
    [
        ("https://a.org/x", "https://b.org/y?z=1#part", "https://b.org/y?z=1"),
        ("http://a.org/x", "https://b.org/y", "https://b.org/y"),
        ("https://a.org/x/y", "z", "https://a.org/x/z"),
        ("https://a.org/x/y", "/z", "https://a.org/z"),
        ("https://a.org/x", "//b.org/z", "https://b.org/z"),
        ("https://a.org/x", "/a b\tc", "https://a.org/a%20bc"),
        ("https://a.org/x", "http://a.org/x", None),
        ("https://a.org/x", "HTTP://a.org/x?secret", None),
        ("https://a.org/x", "file:///etc/passwd", None),
        ("https://a.org/x", "ftp://a.org/x", None),
        ("https://a.org/x", "data:text/plain,x", None),
        ("https://a.org/x", "https://:1/x", None),
        ("https://a.org/x", "", None),
        ("https://a.org/x", None, None),
    ],
)
def test_where_redirects_lead(url: str, location: str | None, to: str | None) -> None:
    if to is not None:
        assert transport.redirected(url, location) == to
        return
    with pytest.raises(transport.Failed) as caught:
        transport.redirected(url, location)
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-out", made, "-keyout", key], check=True, capture_output=True)
    return made, key


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with serve({"x.h5": CONTENT}, context) as running:
        yield running


def test_https(
    secure: Server, server: Server, folder: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates are verified, silence is noticed, http may lead to https, and https never to http."""
    file = declare(secure.url("x.h5"))
    assert "its certificate is not accepted: self" in fails(file, folder)
    assert not secure.requests
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    secure.faults["x.h5"] = [redirect(server.url("x.h5?secret"))]
    text = fails(file, folder)
    assert f"a redirect from https to http (127.0.0.1:{server.port}/x.h5): refused" in text
    assert not server.requests
    secure.faults["x.h5"] = [stall(50_000), truncate(50_000)]
    server.faults["x.h5"] = [redirect(secure.url("x.h5"))] * 3
    succeeds(declare(server.url("x.h5")), folder, options=replace(QUICK, stall=1))
    assert secure.ranges[1:] == [None, "bytes=50000-", "bytes=100000-"]


def test_retry_after_is_honoured_up_to_a_bound(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    later = formatdate(time.time() + 50, usegmt=True)
    server.faults["x.h5"] = [
        status(429, Retry_After="7"),
        status(503, Retry_After=later),
        status(503, Retry_After="nonsense"),
        status(503, Retry_After="3600"),
    ]
    file = declare(server.url("x.h5"))
    text = fails(file, folder, replace(QUICK, tries=5, backoff=1, longest_wait=60))
    assert "HTTP 503 Service Unavailable; it asks to wait 3600 s" in text
    assert len(server.requests) == 4
    assert waits[0] == 7
    assert 20 < waits[1] <= 51
    assert waits[2] == 4
    server.faults["x.h5"] = [status(500)] * 10
    waits.clear()
    fails(file, folder, replace(QUICK, tries=6, backoff=1, longest_wait=5))
    assert waits == [1, 2, 4, 5, 5]


def test_a_trickle(server: Server, folder: Path) -> None:
    """Not silent, but too slow: given up at one address, and the next goes on."""
    server.faults["x.h5"] = lasting(trickle(50_000))
    file = declare(server.url("x.h5"), server.url("mirror/x.h5"))
    told = succeeds(file, folder, options=replace(QUICK, slowest=1000, window=0.1, tries=2))
    assert any("retrying: it sent only" in one.state for one in told)
    assert server.requests[-1].path == "/mirror/x.h5"
    assert int((server.ranges[-1] or "").removeprefix("bytes=").removesuffix("-")) >= 50_000


def test_connections_that_drop_again_and_again(server: Server, folder: Path) -> None:
    """Tries are counted without progress: every one that gains a chunk is a fresh start."""
    server.faults["x.h5"] = [truncate(10_000)] * 15
    succeeds(declare(server.url("x.h5")), folder)
    assert server.ranges == [None, *(f"bytes={k}-" for k in range(10_000, 160_000, 10_000))]
    (folder / "x.h5").unlink()
    server.requests.clear()
    server.faults["x.h5"] = [Answer(ranges=False, stop=100_000)] * 15
    fails(declare(server.url("x.h5")), folder)
    assert len(server.requests) == QUICK.tries  # the same bytes over again are no progress


@pytest.mark.parametrize(
    ("second", "ranges"),
    [
        (Answer(ranges=False), [None, "bytes=70000-"]),
        (Answer(shift=5), [None, "bytes=70000-", None]),
        (Answer(shift=-5), [None, "bytes=70000-", None]),
        (Answer(headers={"Content-Range": ""}), [None, "bytes=70000-", None]),
        (Answer(headers={"Content-Range": "bytes nonsense"}), [None, "bytes=70000-", None]),
        (Answer(headers={"Content-Range": "bytes 70000-199999/*"}), [None, "bytes=70000-"]),
        (status(416), [None, "bytes=70000-", None]),
        (status(416, Content_Range="bytes */50"), [None, "bytes=70000-", None]),
        (Answer(replace=CONTENT), [None, "bytes=70000-"]),
        (Answer(headers={"ETag": ""}), [None, "bytes=70000-"]),
    ],
)
@pytest.mark.parametrize("hashed", [True, False])
def test_answers_to_a_range(folder: Path, second: Answer, ranges: list[str | None], hashed: bool) -> None:
    """Ignored, shifted, unmarked, refused: a part is continued by what surely continues it, or begun anew."""
    content = zipped(CONTENT)[: len(CONTENT)] if hashed else zipped(CONTENT)
    if second.replace is not None:
        second = replace(second, replace=content)
    name = "x.h5" if hashed else "x.zip"
    with serve({name: content}) as server:
        if hashed:
            file = declare(server.url(name), content=content)
        else:
            file = declare_zip(server.url(name), content=CONTENT)
            second = replace(second, headers={k: v.replace("199999", "200111") for k, v in second.headers.items()})
        server.faults[name] = [truncate(70_000), second]
        succeeds(file, folder, content)
        assert server.ranges == ranges


def test_the_file_is_replaced_midway(folder: Path) -> None:
    """If-Range makes an honest server send the new file whole; one that glues is found out by its ETag."""
    old, new = zipped(OTHER), zipped(CONTENT)
    for second in (Answer(replace=new), Answer(replace=new, if_range=False)):
        with serve({"x.zip": old}) as server:
            server.faults["x.zip"] = [truncate(70_000), second]
            told = succeeds(declare_zip(server.url("x.zip"), content=CONTENT), folder, new)
            glued = "retrying: the file changed between two requests: begun anew"
            assert (glued in {one.state for one in told}) == (not second.if_range)
            assert server.ranges == [None, "bytes=70000-", *([] if second.if_range else [None])]
        (folder / "x.zip").unlink()


def test_a_part_of_other_content_is_thrown_away(server: Server, folder: Path) -> None:
    """The hash of the whole decides; once more from scratch before the address is called bad."""
    file = declare(server.url("x.h5"))
    folder.mkdir()
    (folder / ".x.h5.part").write_bytes(OTHER[:70_000])
    succeeds(file, folder, options=replace(QUICK, tries=1))
    assert server.ranges == ["bytes=70000-", None]
    server.requests.clear()
    (folder / "x.h5").unlink()
    (folder / ".x.h5.part").write_bytes(OTHER[:70_000])
    server.files["x.h5"] = OTHER
    assert "expected sha256" in fails(file, folder, kind=DataCorrupt)
    assert server.ranges == ["bytes=70000-", None][: len(server.ranges)]


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 1, 10 * len(CONTENT)])
def test_parts_that_are_full_or_more(server: Server, folder: Path, size: int) -> None:
    """A full one is verified without a request, a longer one is thrown away."""
    file = declare(server.url("x.h5"))
    folder.mkdir()
    (folder / ".x.h5.part").write_bytes((CONTENT * 10)[:size])
    succeeds(file, folder)
    assert server.ranges == ([] if size == len(CONTENT) else [None])


def test_a_full_part_of_undeclared_size(folder: Path) -> None:
    """Killed after the last byte: the note tells that nothing is missing, or the server does (416)."""
    content = zipped(CONTENT)
    for note in ("whole", "no size"):
        with serve({"x.zip": content}) as server:
            file = declare_zip(server.url("x.zip"), content=CONTENT)
            interrupt(file, folder, at=len(content))
            if note == "no size":
                path = folder / ".x.zip.part.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), "total": None}))
            succeeds(file, folder, content)
            assert server.ranges == ([None] if note == "whole" else [None, f"bytes={len(content)}-"])
        (folder / "x.zip").unlink()


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"source": 1, "validator": "x", "total": 2}', "\0" * 50, "bad"])
def test_notes_that_are_damaged(server: Server, folder: Path, note: str) -> None:
    folder.mkdir()
    if note == "bad":
        note = json.dumps({"source": f"127.0.0.1:{server.port}/x.h5", "validator": "a\r\nb: c", "total": None})
    (folder / ".x.h5.part").write_bytes(CONTENT[:70_000])
    (folder / ".x.h5.part.json").write_text(note)
    succeeds(declare(server.url("x.h5")), folder)
    assert server.ranges == ["bytes=70000-"]
    assert server.requests[0].headers["If-Range"] is None


def test_another_mirror_continues_what_has_a_hash(server: Server, folder: Path) -> None:
    server.faults["x.h5"] = [truncate(70_000), status(404)]
    succeeds(declare(server.url("x.h5"), server.url("mirror/x.h5")), folder)
    assert server.ranges == [None, "bytes=70000-", "bytes=70000-"]
    assert server.requests[2].headers["If-Range"] is None


def test_another_mirror_does_not_continue_what_has_none(folder: Path) -> None:
    content = zipped(CONTENT)
    with serve({"x.zip": content, "mirror/x.zip": content}) as server:
        server.faults["x.zip"] = [truncate(70_000), status(404)]
        succeeds(declare_zip(server.url("x.zip"), server.url("mirror/x.zip"), content=CONTENT), folder, content)
        assert server.ranges == [None, "bytes=70000-", None]


def test_a_bad_mirror_does_not_spoil_the_others(server: Server, folder: Path) -> None:
    """Half from a wrong one, the rest from the right one: begun anew there, although it is the last."""
    server.files["x.h5"] = OTHER
    server.faults["x.h5"] = [truncate(70_000), status(404)]
    succeeds(declare(server.url("x.h5"), server.url("mirror/x.h5")), folder, options=replace(QUICK, tries=1))
    assert server.ranges == [None, "bytes=70000-", None]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (zipped(OTHER), DataCorrupt, "a.npz: expected md5"),
        (zipped(CONTENT)[:-1], DataCorrupt, "not a readable archive"),
        (CONTENT, DataCorrupt, "not a readable archive"),
        (HTML, UserError, "an HTML page"),
    ],
)
def test_archives_without_a_hash(folder: Path, content: bytes, kind: type[UserError], message: str) -> None:
    """Their members decide."""
    with serve({"x.zip": content}) as server:
        assert message in fails(declare_zip(server.url("x.zip"), content=CONTENT), folder, kind=kind)
        assert len(server.requests) == 1


def test_an_archive_of_unsaid_length_may_have_been_cut(folder: Path) -> None:
    content = zipped(CONTENT)
    with serve({"x.zip": content}) as server:
        server.faults["x.zip"] = [truncate(70_000, "close")]
        succeeds(declare_zip(server.url("x.zip"), content=CONTENT), folder, content)


def test_undeclared_sizes_are_bounded(folder: Path) -> None:
    content = zipped(CONTENT)
    file = partial(declare_zip, content=CONTENT)
    with serve({"x.zip": content}) as server:
        limited = replace(QUICK, max_bytes=100_000)
        assert "more than the 100,000 allowed" in fails(file(server.url("x.zip")), folder, limited, DataCorrupt)
        server.faults["x.zip"] = [Answer(framing="close")]
        assert "expected 100,000 bytes, got more" in fails(file(server.url("x.zip")), folder, limited, DataCorrupt)
        assert len(server.requests) == 2


def test_never_more_on_disk_than_declared(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    append = download.Arrived.append

    def watched(part: download.Arrived, chunk: bytes) -> None:
        append(part, chunk)
        sizes.append(part.path.stat().st_size)

    monkeypatch.setattr(download.Arrived, "append", watched)
    server.faults["x.h5"] = [other(CONTENT + OTHER, "chunked")]
    fails(declare(server.url("x.h5")), folder, kind=DataCorrupt)
    assert max(sizes) <= len(CONTENT)


def test_a_server_that_holds_the_line_at_the_end(server: Server, folder: Path) -> None:
    """Every byte is there, only the end of the answer is not: nothing is asked for again."""
    server.faults["x.h5"] = [Answer(framing="chunked", body=CONTENT + b"!", stop=len(CONTENT), then="silence")]
    succeeds(declare(server.url("x.h5")), folder, options=HASTY)
    assert len(server.requests) == 1


# --- what networks do


def test_nobody_is_there(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    text = fails(declare(f"http://127.0.0.1:{port}/x.h5?secret"), folder)
    assert f"127.0.0.1:{port}/x.h5: the connection was refused" in text
    assert "secret" not in text


def test_no_such_host(folder: Path) -> None:
    assert "host.invalid/x.h5: no network, or no such host" in fails(declare("http://host.invalid/x.h5"), folder)


def test_every_address_has_its_reason(server: Server, folder: Path) -> None:
    server.faults["x.h5"] = [status(403)]
    urls = (server.url("x.h5"), server.url("none?a"), server.url("none?b"), "http://user:word@host.invalid/y")
    text = fails(declare(*urls), folder)
    assert "x.h5: HTTP 403 Forbidden; " in text
    assert text.count("/none: HTTP 404 Not Found; ") == 2
    assert "host.invalid/y: " in text
    assert "word" not in text


@pytest.mark.parametrize("url", ["http://[x/", "http://", "https:///x", "http://a b/", "http://127.0.0.1:99999/x"])
def test_addresses_that_are_not_valid(folder: Path, url: str) -> None:
    fails(declare(url), folder)


def test_noise_instead_of_http(folder: Path) -> None:
    for noise in (b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 \r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

            def answer(listening: socket.socket = listening, noise: bytes = noise) -> None:
                for _ in range(QUICK.tries):
                    connection = listening.accept()[0]
                    with connection:
                        connection.recv(10_000)
                        connection.sendall(noise)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            fails(declare(f"http://127.0.0.1:{port}/x.h5"), folder)
            thread.join(10)


# --- what disks do


def test_no_space(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(folder.parent)._replace(free=1000 + download._SLACK)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    need = len(CONTENT) + download._SLACK
    expected = (
        f"x.h5 needs {need:,} bytes in {folder}, where {free.free:,} are free: remove data with `mfbench data rm`"
    )
    assert expected in fails(declare(server.url("x.h5")), folder)
    assert not server.requests
    assert expected in fails(declare(server.url("x.h5"), size=False), folder)
    (folder / ".x.h5.part").write_bytes(CONTENT[:-1000])
    succeeds(declare(server.url("x.h5")), folder)
    assert server.ranges[1:] == ["bytes=199000-"]


def test_the_disk_is_full_midway(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(download.FileIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            if self.tell() + len(data) > 100_000:
                raise OSError(28, "No space left on device")
            return super().write(data[: max(1, len(data) // 2)])  # a write may be partial

    file = declare(server.url("x.h5"), server.url("mirror/x.h5"))
    with monkeypatch.context() as patch:
        patch.setattr(download, "FileIO", Full)
        assert "No space left on device: remove data with `mfbench data rm`, or name" in fails(file, folder)
    assert len(server.requests) == 1
    had = (folder / ".x.h5.part").stat().st_size
    assert had > 0
    succeeds(file, folder)
    assert server.ranges == [None, f"bytes={had}-"]


@pytest.mark.parametrize("existing", [True, False])
def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path, existing: bool) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"cannot write .*locked.*: Permission denied: .*MFBENCH_DATA"):
        fetch(declare(server.url("x.h5")), folder if existing else folder / "deep")
    assert not server.requests


@pytest.mark.parametrize("broken", ["mkdir", "lock", "part", "rename"])
def test_what_cannot_be_written(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    where: dict[str, tuple[object, str]] = {
        "mkdir": (Path, "mkdir"),
        "lock": (download.FileLock, "acquire"),
        "part": (download, "FileIO"),
        "rename": (os, "replace"),
    }
    file = declare(server.url("x.h5"))
    with monkeypatch.context() as patch:
        patch.setattr(*where[broken], refuse)
        with pytest.raises(UserError, match=r"cannot write .*cache.*: Permission denied: .*MFBENCH_DATA"):
            fetch(file, folder, options=QUICK)
    assert_clean(folder, file)
    assert len(server.requests) == (broken == "rename")
    succeeds(file, folder)
    assert len(server.requests) == 1


def test_a_file_where_the_folder_should_be(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(UserError, match="cannot write"):
            fetch(declare(server.url("x.h5")), folder)


# --- what people do


def interrupt(file: DataFile, folder: Path, at: int) -> None:
    """Press Ctrl-C once so many bytes are there."""

    def watch(transfer: Transfer) -> None:
        if transfer.done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(file, folder, progress=watch, options=QUICK)
    assert_clean(folder, file)


@pytest.mark.parametrize("at", [0, 1, 100_000, len(CONTENT)])
def test_control_c_at_any_moment(server: Server, folder: Path, at: int) -> None:
    file = declare(server.url("x.h5"))
    interrupt(file, folder, at)
    part = folder / ".x.h5.part"
    had = part.stat().st_size if part.exists() else 0
    assert had >= at
    told = succeeds(file, folder)
    expected = [f"bytes={had}-"] if 0 < had < len(CONTENT) else [] if had else [None]
    assert server.ranges[-len(expected) or len(server.ranges) :] == expected
    assert len(server.requests) == (at > 0) + len(expected)
    if had:
        assert told[0].state == "verifying"


CHILD = """
import signal
import sys
from pathlib import Path
from mfbench.data.download import fetch
from mfbench.data.manifest import DataFile
from mfbench.data.transport import Options
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
file = DataFile.model_validate_json(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    fetch(file, Path(sys.argv[2]), options=Options(backoff=0.01), progress=lambda one: print(one.state, flush=True))
except KeyboardInterrupt:
    sys.exit(42)
"""


def child(file: DataFile, folder: Path) -> subprocess.Popen[str]:
    """Another process that fetches a file once a line comes in."""
    command = [sys.executable, "-c", CHILD, file.model_dump_json(), str(folder)]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def until(true: Callable[[], bool]) -> None:
    """Wait for something to happen, half a minute at most."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 42)])
def test_a_process_is_killed_midway(server: Server, folder: Path, how: signal.Signals, code: int) -> None:
    """Also while another one waits: that one goes on, from where the first stopped."""
    server.faults["x.h5"] = [stall(120_000)]
    file = declare(server.url("x.h5"))
    part = folder / ".x.h5.part"
    told: list[str] = []
    with child(file, folder) as process:
        go(process)
        until(lambda: part.exists() and part.stat().st_size == 120_000)
        waiting = threading.Thread(target=lambda: fetch(file, folder, progress=lambda one: told.append(one.state)))
        waiting.start()
        until(lambda: bool(told))
        assert set(told) == {"waiting for another pull"}
        process.send_signal(how)
        assert process.wait(30) == code
        waiting.join(30)
    assert_clean(folder, file, CONTENT)
    assert server.ranges == [None, "bytes=120000-"]


def test_processes_at_once(server: Server, folder: Path) -> None:
    server.faults["x.h5"] = [truncate(50_000), truncate(50_000)]
    file = declare(server.url("x.h5"))
    with child(file, folder) as first, child(file, folder) as second:
        for process in (first, second):
            go(process)
        assert [process.wait(30) for process in (first, second)] == [0, 0]
    assert_clean(folder, file, CONTENT)
    assert server.ranges == [None, "bytes=50000-", "bytes=100000-"]


def test_threads_at_once(server: Server, folder: Path) -> None:
    file = declare(server.url("x.h5"))
    paths: list[Path] = []
    barrier = threading.Barrier(4)

    def pull() -> None:
        barrier.wait()
        paths.append(fetch(file, folder, options=QUICK))

    threads = [threading.Thread(target=pull) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert paths == [folder / "x.h5"] * 4
    assert_clean(folder, file, CONTENT)
    assert len(server.requests) == 1


# --- all of it


def any_fault(chance: random.Random, content: bytes, name: str) -> Answer:
    """Some fault, anywhere in the file."""
    size = len(content)
    at = chance.choice([0, size // 3, size - 1, chance.randrange(size), chance.randrange(size)])
    framing = chance.choice(["length", "chunked", "close"])
    damaged = bytearray(content)
    damaged[at] ^= 1 + chance.randrange(255)
    made = [
        lambda: Answer(framing=framing),
        lambda: Answer(stop=at, framing=framing, ranges=chance.random() < 0.8),
        lambda: truncate(at, framing),
        lambda: reset(at),
        lambda: stall(at),
        lambda: trickle(at),
        lambda: status(chance.choice([202, 204, 403, 404, 416, 429, 500, 503])),
        lambda: challenge(),
        lambda: status(200),
        lambda: page(),
        lambda: other(HTML, framing),
        lambda: other(bytes(damaged), framing),
        lambda: Answer(200, body=bytes(damaged), framing=framing, stop=at),
        lambda: other(content + b"more", framing),
        lambda: other(content[:at], framing),
        lambda: Answer(shift=chance.choice([-3, 2])),
        lambda: Answer(headers={"ETag": chance.choice(["", '"other"', 'W/"weak"'])}, framing=framing),
        lambda: Answer(headers={"Content-Range": chance.choice(["", "bytes x", "bytes 0-1/2"])}),
        lambda: redirect(chance.choice([f"/{name}?again", "/store", "/nowhere", "http://127.0.0.1:1/", "ftp://x/y"])),
        lambda: Answer(replace=bytes(damaged), stop=at, if_range=chance.random() < 0.5),
        lambda: Answer(replace=content, framing=framing),
    ]
    return chance.choice(made)()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_any_sequence_of_faults(folder: Path, seed: int) -> None:
    """Ends in the right bytes or a UserError; and without faults, the next pull always ends well."""
    chance = random.Random(seed)
    inner = chance.randbytes(chance.choice([1, 100, 5000, 150_000]))
    hashed = chance.random() < 0.6
    content = inner if hashed else zipped(inner)
    names = [f"{k}/{'x.h5' if hashed else 'x.zip'}" for k in range(chance.choice([1, 1, 2, 3]))]
    options = Options(2, 0.1, 2000, 0.3, chance.choice([1, 2, 4]), 0.001, 0.01, 5, chance.choice([512, 8192]))
    with serve(dict.fromkeys([*names, "store"], content)) as server:
        urls = [server.url(name) for name in names]
        if hashed:
            file = declare(*urls, content=content, size=chance.random() < 0.7)
        else:
            file = declare_zip(*urls, content=inner)
        for name in names:
            server.faults[name] = [any_fault(chance, content, name) for _ in range(chance.randrange(12))]
        server.faults["store"] = [any_fault(chance, content, "store") for _ in range(chance.randrange(3))]
        for _ in range(chance.choice([1, 2, 3])):
            try:
                fetch(file, folder, options=options)
            except UserError:
                assert_clean(folder, file)
            else:
                break
        else:
            server.faults.clear()
            server.files.update(dict.fromkeys(server.files, content))
            fetch(file, folder, options=QUICK)
    path = folder / file.name
    assert_clean(folder, file, content if hashed else path.read_bytes())
    if not hashed:  # its members are vouched for, other bytes of the archive are not
        assert zipfile.ZipFile(path).read("a.npz") == inner
