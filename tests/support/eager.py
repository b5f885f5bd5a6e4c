"""An eager task factory on every Python: that of asyncio from 3.12 on, and one that behaves like it before."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from typing import Any


class _Begun:
    """A coroutine whose first step is done; the task that finishes it runs in its own context."""

    def __init__(self, rest: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self.rest = rest
        self.waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self.waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                step, argument = self.rest.throw, error
            else:
                step, argument = self.rest.send, value
            try:
                waits_for = step(argument)
            except StopIteration as end:
                return end.value


async def _finish(begun: _Begun) -> Any:
    return await begun


async def _nothing() -> None: ...


def _emulated(loop: asyncio.AbstractEventLoop, work: Any, context: contextvars.Context | None = None) -> Any:
    """Run the first step at once. A context that is entered already raises RuntimeError, as it does from 3.12 on."""
    context = contextvars.copy_context() if context is None else context
    if not loop.is_running():
        return asyncio.Task(work, loop=loop, context=context)
    current = asyncio.current_task(loop)
    if current is not None:
        _leave_task(loop, current)
    # While it runs its first step, the current task is one that exists.
    stand_in: Any = asyncio.Task(_nothing(), loop=loop)
    _enter_task(loop, stand_in)
    done: Any = loop.create_future()
    try:
        waits_for = context.run(work.send, None)
    except StopIteration as end:
        done.set_result(end.value)
    except BaseException as error:
        done.set_exception(error)
    finally:
        _leave_task(loop, stand_in)
        if current is not None:
            _enter_task(loop, current)
    if done.done():
        return done
    return asyncio.Task(_finish(_Begun(work, waits_for)), loop=loop, context=context)


def _asyncios(loop: asyncio.AbstractEventLoop, work: Any, *, eager_start: bool = True, **options: Any) -> Any:
    """Call asyncio's own; uvloop 0.23 passes ``eager_start``, which it takes from Python 3.13.3 on."""
    return asyncio.eager_task_factory(loop, work, **options)  # type: ignore[attr-defined]  # Python 3.12


eager_task_factory: Any = _asyncios if sys.version_info >= (3, 12) else _emulated
