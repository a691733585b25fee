"""Progress bars over bytes and structures, in a terminal and in a notebook."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm


@dataclass(frozen=True)
class Transfer:
    """How far a download is: ``total`` is None where it is not known, ``source`` is the host asked."""

    name: str
    done: int
    total: int | None
    source: str
    state: str  # connecting, downloading, verifying, waiting for another pull, retrying: REASON


def visible() -> bool:
    """Whether somebody would see a bar: stderr is a terminal, or this is a notebook."""
    ipython = sys.modules.get("IPython")  # loaded already where this is a notebook
    shell = ipython.get_ipython() if ipython else None
    return "IPKernelApp" in getattr(shell, "config", {}) or (sys.stderr is not None and sys.stderr.isatty())


def bar(**options: Any) -> tqdm:
    """A bar that is gone when it is done."""
    return tqdm(leave=False, mininterval=0.2, dynamic_ncols=True, **options)


@contextmanager
def transfers() -> Iterator[Callable[[Transfer], None]]:
    """A progress bar over the bytes of one download: done, speed, time left, and what it is waiting for."""
    bars: list[tqdm] = []
    states: list[str] = []

    def show(transfer: Transfer) -> None:
        if not bars:
            # What an earlier pull left counts as done, not as speed.
            start = {"total": transfer.total, "initial": transfer.done}
            bars.append(bar(desc=transfer.name, unit="B", unit_scale=True, **start))
        shown, state = bars[0], f"{transfer.state}, {transfer.source}" if transfer.source else transfer.state
        shown.total = transfer.total
        shown.set_postfix_str(state, refresh=False)
        if transfer.done < shown.n:  # begun anew
            shown.reset(transfer.total)
        shown.update(transfer.done - shown.n)
        if states != [state]:  # nothing may come for a while: a wait is told at once
            states[:] = [state]
            shown.refresh()

    try:
        yield show
    finally:
        for shown in bars:
            shown.close()


@contextmanager
def counts(label: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar over structures, one for each thing that is done with them."""
    bars: dict[str, tqdm] = {}

    def show(doing: str, done: int, total: int | None) -> None:
        if doing not in bars:
            close()
            bars[doing] = bar(desc=f"{label}: {doing}", total=total, unit="structure", unit_scale=True)
        bars[doing].update(done - bars[doing].n)

    def close() -> None:
        for shown in bars.values():
            shown.close()

    try:
        yield show
    finally:
        close()


@contextmanager
def runs(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over runs that are read, where that takes a while."""
    with bar(desc=label, unit="run", delay=1, disable=not visible()) as shown:

        def show(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield show
