"""Event loops that uvicorn runs when tests ask for them: ``--loop tests.support.loops:eager``."""

from __future__ import annotations

import asyncio

from tests.support.eager import eager_task_factory


def eager() -> asyncio.AbstractEventLoop:
    """Asyncio's own loop, whose tasks run at once up to where they first wait (Python 3.12)."""
    return _with_eager_tasks(asyncio.new_event_loop())


def uvloop_eager() -> asyncio.AbstractEventLoop:
    """The same with uvloop."""
    import uvloop

    return _with_eager_tasks(uvloop.new_event_loop())


def _with_eager_tasks(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    loop.set_task_factory(eager_task_factory)
    return loop
