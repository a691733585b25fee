"""Locks: one process makes a run or a shared stage, others wait until it is there.

A lock is a file that appears by ``link``, which is atomic on network file systems too (``flock`` is not everywhere),
and that says who holds it. Its holder touches it every few seconds. A lock whose holder died is taken over: on the
same machine at once, on another when it was not touched for minutes, as seen from here, whatever the clocks say.
"""

import errno
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mfbench.errors import UserError
from mfbench.files import disk, machine, make_folder, running, sweep, temporary_for

TOUCHED = 10.0  # s between touches of a lock by its holder

SILENT = 300.0  # s without a touch after which a holder on another machine counts as dead

_PAUSE = 0.1, 2.0  # s between looks at another's lock: first, most

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    machine: str  # boot and process namespace: two processes with the same one see each other's numbers
    started: str  # when the process began: numbers are used again
    since: str  # for people
    token: str  # of this one time that the lock was taken

    def here(self) -> bool:
        """Whether the holder is, or was, a process that this one could see."""
        return bool(self.machine) and self.machine == machine()

    def dead(self) -> bool:
        """Whether the holder is certainly gone."""
        return self.here() and (not running(self.pid) or _started(self.pid) != self.started)


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _me() -> Holder:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return Holder(socket.gethostname(), os.getpid(), machine(), _started(os.getpid()), now, uuid.uuid4().hex)


@dataclass(frozen=True)
class Lock:
    """A lock that is held."""

    path: Path
    holder: Holder

    def held(self) -> bool:
        """Whether the lock is still this one's."""
        found = read(self.path)
        return found is not None and found.token == self.holder.token

    def check(self) -> None:
        """Raise UserError where the lock was removed or taken over: others may write the same files."""
        if not self.held():
            raise UserError(
                f"{self.path}: expected the lock that this process took at {self.holder.since}, found "
                f"{'another' if self.path.exists() else 'none'}: was its folder moved or removed while it was at work? "
                "Nothing more is written; give the same command again"
            )


def to_stderr(text: str) -> None:
    """Tell a person at the terminal."""
    print(f"mfbench: {text}", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path, what: str, told: Callable[[str], None] = to_stderr) -> Iterator[Lock]:
    """Hold a lock while the block runs; wait for another process that holds it.

    Args:
        path: the file of the lock.
        what: what is made under it, for people.
        told: tells a person what is waited for.
    """
    make_folder(path.parent)
    sweep(path.parent, path.name)
    lock = Lock(path, _me())
    _acquire(lock, what, told)
    over = threading.Event()
    touching = threading.Thread(target=_touch, args=(lock, over), daemon=True)
    touching.start()
    try:
        yield lock
    finally:
        over.set()
        _release(lock)


def _touch(lock: Lock, over: threading.Event) -> None:
    while not over.wait(TOUCHED):
        with suppress(OSError):
            if not lock.held():
                return
            os.utime(lock.path)


def _release(lock: Lock) -> None:
    with suppress(OSError):
        if lock.held():
            lock.path.unlink(missing_ok=True)


def read(path: Path) -> Holder | None:
    """Who holds a lock; None where nobody does. Of a file that says nothing of use, a holder that is not known."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        content = b""
    try:
        found = Holder(**json.loads(content))
        return found if isinstance(found.pid, int) and found.pid > 0 else replace(found, pid=1, machine="")
    except (ValueError, TypeError, RecursionError):
        return Holder("a machine that is not known", 0, "", "", "a time that is not known", "")


def at_work(path: Path) -> bool:
    """Whether somebody seems to hold a lock: a process that lives, or one of another machine that touched it lately."""
    holder = read(path)
    return holder is not None and not holder.dead() and (holder.here() or time.time() - _touched(path) / 1e9 < SILENT)


def _acquire(lock: Lock, what: str, told: Callable[[str], None] | None) -> None:
    """Wait until the lock is this one's."""
    # The content is there before the name is, and the name of this file is of this one time alone.
    own = temporary_for(lock.path.with_name(f"{lock.path.name}.{lock.holder.token}"))
    pause, most = _PAUSE
    seen: tuple[str, int] | None = None
    seen_at, said = 0.0, ""
    try:
        with disk(lock.path):
            own.write_text(json.dumps(asdict(lock.holder)), "utf-8")
        while not _create(own, lock):
            holder, touched = read(lock.path), _touched(lock.path)
            if holder is None:
                continue
            if seen != (holder.token, touched):
                seen, seen_at = (holder.token, touched), time.monotonic()
            silent = not holder.here() and time.monotonic() - seen_at > SILENT
            if (holder.dead() or silent) and _take_over(own, lock, holder, touched):
                return
            if told is not None and said != holder.token + what:
                said = holder.token + what
                told(
                    f"{what}: waiting for process {holder.pid} on {holder.host}, which has been making it since "
                    f"{holder.since}; if there is no such process any more, remove {lock.path}"
                )
            time.sleep(pause)
            pause = min(1.5 * pause, most)
    finally:
        own.unlink(missing_ok=True)


def _create(own: Path, lock: Lock) -> bool:
    """Make the lock's file, unless there is one."""
    try:
        os.link(own, lock.path)
    except FileExistsError:
        # A network file system may lose the answer to a link that it made.
        return os.stat(own).st_nlink == 2 and lock.held()
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            descriptor = os.open(lock.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with disk(lock.path), open(descriptor, "wb") as file:
            file.write(own.read_bytes())
    os.utime(lock.path)
    return True


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _take_over(own: Path, lock: Lock, dead: Holder, touched: int) -> bool:
    """Replace the lock of a dead holder; one at a time, by a lock of its own, so that nobody replaces a new one."""
    guard = Lock(lock.path.with_name(f"{lock.path.name}.takeover"), _me())
    _acquire(guard, "", None)
    try:
        now = read(lock.path)
        if now is None or now.token != dead.token or (not dead.here() and _touched(lock.path) != touched):
            return False
        os.utime(own)
        os.replace(own, lock.path)
        return True
    finally:
        _release(guard)
