"""One function called on many things, in plain processes: nothing here knows what an experiment is, or loads torch."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from mfbench import extensions
from mfbench.errors import UserError


def spread[T, R](
    function: Callable[[T], R], items: Sequence[T], workers: int = 1
) -> Generator[tuple[int, R | Exception], None, None]:
    """Call a function on each item and yield (its place in ``items``, what came of it) as they are done.

    With one worker they are called here, in order; with several, in processes that are started anew (``spawn``), so
    function, items and results must be what pickle takes, and a script needs ``if __name__ == "__main__":``. What was
    added to mfbench in this process is known there, too. An error is yielded, and the others go on. When the iterator
    is closed, or Ctrl-C comes, or this process dies, the others end at once, wherever they are.

    Raises:
        UserError: fewer than one worker; or what was added in this process cannot be sent to others.
    """
    if workers < 1:
        raise UserError(f"workers: expected 1 or more, got {workers}")
    if min(workers, len(items)) <= 1:
        for place, item in enumerate(items):
            yield place, _tried(function, item)
        return
    with _processes(min(workers, len(items))) as pool:
        with _deaf():
            places = {pool.submit(function, item): place for place, item in enumerate(items)}
        for future in as_completed(places):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                error = UserError(
                    "a worker process ended before it was done: was it killed, or out of memory (take fewer workers)? "
                    'A script has to start what uses workers under `if __name__ == "__main__":`'
                )
            if error is not None and not isinstance(error, Exception):
                raise error
            yield places[future], future.result() if error is None else error


def _tried[T, R](function: Callable[[T], R], item: T) -> R | Exception:
    try:
        return function(item)
    except Exception as error:  # whatever it is, the other items are not lost by it
        return error


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, all of which end when the block is left by an error, or this process dies."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    own = _sendable(extensions.own())
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(theirs, own))
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()  # whoever still works ends now
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _begin(parent: Connection, own: bytes) -> None:
    """In a new process: end with its parent, not by Ctrl-C, which is the parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    extensions.adopt(pickle.loads(own))


def _end_with(parent: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        parent.recv()  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)


def _sendable(own: dict[extensions.Kind, dict[str, Any]]) -> bytes:
    """What was added in this process, pickled; raises UserError where other processes could not read it."""
    advice = "put it in a module that can be imported, or take workers=1"
    for kind, things in own.items():
        for name, thing in things.items():
            if type(thing).__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
                raise UserError(
                    f"workers: {name!r} ({kind}) is defined in a notebook, where no other process sees it: {advice}"
                )
            try:
                pickle.dumps(thing)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise UserError(
                    f"workers: {name!r} ({kind}) cannot be sent to another process ({error}): {advice}"
                ) from error
    return pickle.dumps(own)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, not even while they import: what is ignored is inherited."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
