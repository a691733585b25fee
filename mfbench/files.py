"""Files that appear whole or not at all, what a crash leaves of them, JSON, and hashes."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from mfbench.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: bytes) -> str:
    """Hex digest (sha256) of a file's content."""
    return hashlib.sha256(content).hexdigest()


# Writing


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Say in one line, as a UserError, that a disk or a quota is full while ``path`` is written."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        # HDF5 tells it in its own error's text alone.
        if number not in _FULL and "No space left" not in str(error):
            raise
        full = "its owner's quota is used up" if number == errno.EDQUOT else "its disk is full"
        raise UserError(
            f"cannot write {path}: {full}; what was finished is kept: free some space and give the same command again, "
            "or name a folder on another disk"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; raises UserError where what stands there is none."""
    try:
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        at = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        if at.is_symlink() and not at.exists():
            raise UserError(f"{at}: expected a folder, got a link to {os.readlink(at)}, which is not there") from error
        raise UserError(f"{folder}: expected a folder, got a file at {at}; name another place") from error


@lru_cache
def machine() -> str:
    """This boot and process namespace: two processes that have the same one see each other's numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: the name has to do
        return f"host {socket.gethostname()}"


def _writer() -> str:
    """This process, as part of a file's name; a host's name alone would be shared by containers of one machine."""
    return f"{digest(machine().encode())[:10]}.{os.getpid()}"


def temporary_for(path: Path) -> Path:
    """Where this process writes what will be ``path``: beside it."""
    return path.with_name(f".{path.name}.{_writer()}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error.

    Raises:
        UserError: the disk is full, or there can be no such folder.
    """
    make_folder(path.parent)
    temporary = temporary_for(path)
    try:
        with disk(path):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file by temp file and rename."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def as_json(content: Mapping[str, Any]) -> bytes:
    """JSON as this project writes it."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON by temp file and rename."""
    write_bytes(path, as_json(content))


def settle(folder: Path) -> None:
    """See to it that the names in a folder are on the disk before anything that is written from now on."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # not every system opens folders
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def require_space(folder: Path, needed: int, what: str, remedy: str = "free some space") -> None:
    """Raise UserError where fewer than ``needed`` bytes are free on the disk of a folder that may not exist yet."""
    there = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), None)
    if there is not None and (free := shutil.disk_usage(there).free) < needed:
        raise UserError(
            f"{what} needs about {needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} are free: {remedy}, or "
            "name a folder on another disk"
        )


# What crashes leave


def running(pid: int) -> bool:
    """Whether there is a process of that number on this machine; one that ended and waits for its parent is none."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):  # no such folder on this system
        return True


_OLD = 86_400.0  # s after which a temporary file is nobody's, whichever machine it is of


def sweep(folder: Path, name: str = "", own: bool = False) -> None:
    """Remove the temporary files that dead processes left; those of other machines when they are a day old.

    Args:
        name: only those of files whose names begin so.
        own: this process's, too; only where no thread of it can be writing there.
    """
    pattern = re.compile(rf"\.{re.escape(name)}.*?\.(?:(?P<machine>[0-9a-f]{{10}})\.)?(?P<pid>\d{{1,10}})\.part")
    here, now = digest(machine().encode())[:10], time.time()
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = pattern.fullmatch(entry.name)
            if match is None:
                continue
            pid, mine = int(match["pid"]), match["machine"] == here
            dead = own if pid == os.getpid() else not running(pid)
            if dead if mine else now - entry.stat().st_mtime > _OLD:
                os.unlink(entry.path)


# Reading


def read_bytes(path: Path) -> bytes:
    """A file's content; raises UserError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object that was read from ``path``; raises UserError where it is none."""
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"cannot read {path}: expected a JSON object, got {type(found).__name__}")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises UserError where the file is not one."""
    return parse_json(read_bytes(path), path)
