"""Work that takes a while, done beside a server's loop: other visitors' pages go on meanwhile."""

import asyncio
from collections.abc import Callable
from functools import partial

import panel as pn


def aside[T](work: Callable[[], T], then: Callable[[T], None], told: Callable[[], None] = lambda: None) -> None:
    """Do something in a thread, and show what it gives in the page that asks; at once where no server is.

    Args:
        work: raises nothing: what goes wrong is what it gives.
        told: called some times a second meanwhile, to show how far it is.
    """
    document = pn.state.curdoc
    if document is None or document.session_context is None:
        then(work())
        return

    async def follow() -> None:
        doing = asyncio.ensure_future(asyncio.to_thread(work))
        while not doing.done():
            await asyncio.wait([doing], timeout=0.3)
            if not doing.done():
                document.add_next_tick_callback(told)
        # As a callback of its own, which holds the document's lock: without it a change may be lost while a page opens.
        document.add_next_tick_callback(partial(then, await doing))

    pn.state.execute(follow, schedule=True)
