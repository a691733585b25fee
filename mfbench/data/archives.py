"""Archives: their declared members, checked and unpacked, whatever else an archive holds and claims.

Paths, types and sizes in an archive are compared, never obeyed: a member is written under its own declared name,
as a regular file, of as many bytes as were counted while they were written.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from mfbench.data.cache import writing
from mfbench.data.manifest import DataFile, Member
from mfbench.errors import DataCorrupt, UserError
from mfbench.files import replacing

MAX_BYTES = 1 << 37  # what an archive may unpack to, whatever its own size

_RATIO = 200  # and in units of its own size: numbers seldom shrink to a tenth, a bomb to a thousandth

_SMALL = 1 << 26  # but this much is harmless

_CHUNK = 1 << 20

_DECODERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".tar": lambda stream: stream,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}

# What the standard library's decoders raise on bytes that make no sense to them (RuntimeError: also encryption).
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,
    MemoryError,
)


def check(path: Path, file: DataFile) -> None:
    """Read an archive from end to end: it is what its name says, and holds each declared member once, undamaged.

    Raises:
        DataCorrupt: it does not.
    """
    for _, chunks in _wanted(path, file.name, file.members, MAX_BYTES, whole=True):
        for _ in chunks:
            pass


def unpack(path: Path, members: Sequence[Member], folder: Path, max_bytes: int = MAX_BYTES) -> list[Path]:
    """Write members of an archive to ``folder``, each under its own name: all of them, or none.

    A tar archive is read once, and not beyond the last of the members.

    Args:
        max_bytes: most bytes that it may unpack to.

    Returns:
        Their paths, in the order of ``members``.

    Raises:
        DataCorrupt: the archive is damaged, or a member is missing, there twice, not a regular file, too large, or
            not of the declared md5.
        UserError: the folder cannot be written.
    """
    paths = [folder / member.name for member in members]
    if len(set(paths)) < len(paths):
        raise UserError(f"expected members of different names, got {sorted(path.name for path in paths)}")
    with writing(folder), ExitStack() as stack:
        for member, chunks in _wanted(path, path.name, members, max_bytes):
            with open(stack.enter_context(replacing(folder / member.name)), "wb") as out:
                for chunk in chunks:
                    out.write(chunk)
    return paths


@dataclass(frozen=True)
class _Entry:
    """One entry of an archive, as the archive describes it."""

    path: str
    size: int
    problem: str | None  # why it cannot be read as a file
    open: Callable[[], Any]


@dataclass
class _Budget:
    """Counts bytes that an archive gives, and refuses more than it may."""

    left: int
    name: str

    def read(self, stream: IO[bytes], size: int = _CHUNK) -> bytes:
        data = stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise DataCorrupt(f"{self.name}: unpacks to far more than expected: refused as a bomb")
        return data


@dataclass(frozen=True)
class _Limited:
    """A stream that is read on a budget."""

    stream: IO[bytes]
    budget: _Budget

    def read(self, size: int) -> bytes:
        return self.budget.read(self.stream, size)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except _BROKEN as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataCorrupt(f"{name}: not a readable archive: {why:.200}: download it again") from error


def _wanted(
    path: Path, name: str, members: Sequence[Member], max_bytes: int, whole: bool = False
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Members of an archive as they come, each with its bytes; these are to be consumed before the next member."""
    by_path = {member.path: member for member in members}
    found: set[str] = set()
    others: list[str] = []
    if not path.is_file():
        raise UserError(f"no file {path}")
    with _readable(name), open(path, "rb") as archive:
        limit = min(max_bytes, max(_SMALL, _RATIO * os.path.getsize(path)))
        budget = _Budget(limit, name)
        is_zip = name.lower().endswith(".zip")
        entries = _zip_entries(archive) if is_zip else _tar_entries(archive, name, _Budget(limit, name))
        with closing(entries):
            for entry in entries:
                member = by_path.get(entry.path)
                if member is None:
                    others.append(entry.path)
                    continue
                if entry.problem:
                    raise DataCorrupt(f"{name}: {member.path} is {entry.problem}: expected a regular, readable file")
                if member.path in found:
                    raise DataCorrupt(f"{name}: expected {member.path} once, found it twice")
                found.add(member.path)
                yield member, _chunks(entry, member, name, budget)
                if len(found) == len(by_path) and not whole and not is_zip:
                    return
    if missing := [member.path for member in members if member.path not in found]:
        held = ", ".join(f"{other!r:.80}" for other in others[:5]) or "nothing else"
        more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
        raise DataCorrupt(f"{name}: expected {', '.join(missing)}; it holds {held}{more}")


def _chunks(entry: _Entry, member: Member, name: str, budget: _Budget) -> Iterator[bytes]:
    digest, count = hashlib.md5(usedforsecurity=False), 0
    with _readable(name), entry.open() as stream:
        while chunk := budget.read(stream):
            digest.update(chunk)
            count += len(chunk)
            yield chunk
    if count != entry.size:
        raise DataCorrupt(f"{name}: {member.path}: expected {entry.size:,} bytes as it says, got {count:,}")
    if member.md5 is not None and digest.hexdigest() != member.md5:
        raise DataCorrupt(f"{name}: {member.path}: expected md5 {member.md5}, got {digest.hexdigest()}")


def _normal(path: str) -> str:
    while path.startswith("./"):
        path = path[2:]
    return path


def _zip_entries(archive: IO[bytes]) -> Generator[_Entry]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was not made on Unix
            if info.is_dir() or kind not in (0, stat.S_IFREG):
                problem: str | None = "a folder, a link or a device"
            else:
                problem = "encrypted" if info.flag_bits & 1 else None
            yield _Entry(_normal(info.filename), info.file_size, problem, partial(opened.open, info))


def _tar_entries(archive: IO[bytes], name: str, budget: _Budget) -> Generator[_Entry]:
    decoder = next((made for suffix, made in _DECODERS.items() if name.lower().endswith(suffix)), None)
    if decoder is None:
        raise UserError(f"{name}: expected an archive whose name ends in .zip, {', '.join(_DECODERS)}")
    # The decoders of these modules read archives of several streams and verify their checksums; tarfile's do not.
    stream = _Limited(decoder(archive), budget)
    with tarfile.open(fileobj=stream, mode="r|") as opened:  # type: ignore[call-overload]
        for info in opened:
            problem = None if info.isreg() else "a folder, a link or a device"
            yield _Entry(_normal(info.name), info.size, problem, partial(opened.extractfile, info))
    while stream.read(_CHUNK):  # the checksum is at the end
        pass
