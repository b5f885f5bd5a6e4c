"""The memberships of a node in groups: those that are wanted, those that it has, and those that it has yet to end."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from .layers import Layer

STRAYS = 10_000
"""Memberships to end later that are remembered; what is more is left to the layer's own expiry."""

SWEPT = 2_000
"""How many of them one call of sweep() ends at most."""


class Line:
    """
    A layer and the node's channel on it, replaced as a whole when its connections have died.

    Attributes:
        at_once: how many calls may run at a time.
        outlives: whether memberships last when the connections of the layer have ended.
        session: replaced when the layer may have lost memberships; what was joined in an earlier one is joined again.
        is_over: there is another line by now, or will be.
    """

    def __init__(self, layer: Layer, channel: str, *, at_once: int, outlives: bool) -> None:
        self.layer = layer
        self.channel = channel
        self.at_once = at_once
        self.outlives = outlives
        self.session = object()
        self.is_over = False
        # A layer may open a connection for each call.
        self.slots = asyncio.Semaphore(at_once)


class _Group:
    __slots__ = ("joined", "references", "task", "touched")

    def __init__(self) -> None:
        self.references = 0
        # The session in which the layer confirmed the membership.
        self.joined: object | None = None
        # The line on which there may be a membership, confirmed or not.
        self.touched: Line | None = None
        # What brings the layer to what is wanted: one at a time, so that a leave and a join never overtake each other.
        self.task: asyncio.Task[None] | None = None


class Memberships:
    """
    Keeps the memberships of a node as they are wanted.

    The calls of the layer run in tasks of the node's own. A caller that is cancelled only stops to wait: its join ends
    as it may, and is undone if nobody else wants the group.

    Args:
        spawn: runs something in a task of the node.
        line: returns the line in use; None while the layer is down.
        join: joins a group on a line; returns when the layer confirmed it. Raises BackplaneUnavailable.
        leave: takes a channel out of a group. Raises BackplaneUnavailable.
    """

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        line: Callable[[], Line | None],
        join: Callable[[Line, str], Awaitable[None]],
        leave: Callable[[Line, str, str], Awaitable[None]],
    ) -> None:
        self._spawn = spawn
        self._line = line
        self._join = join
        self._leave = leave
        self._groups: dict[str, _Group] = {}
        # Memberships that nobody wants and that couldn't be ended, the oldest first.
        self._strays: dict[tuple[str, Line], None] = {}

    @property
    def wanted(self) -> list[str]:
        """The groups that are held for somebody."""
        return [name for name, group in self._groups.items() if group.references]

    @property
    def strays(self) -> int:
        """The number of memberships that are still to be ended."""
        return len(self._strays)

    async def acquire(self, name: str) -> None:
        """
        Join a group for one more connection.

        Returns:
            When the layer has confirmed the membership; at once if it had before.

        Raises:
            BackplaneUnavailable: the layer didn't take it. Nothing is held then.
        """
        group = self._groups.setdefault(name, _Group())
        group.references += 1
        try:
            while not self._is_joined(group):
                task = self._settle_soon(name, group)
                # Not awaited itself: a waiter that is cancelled must not cancel what others wait for.
                await asyncio.wait({task})
                if not task.cancelled():
                    task.result()
        except BaseException:
            self.release(name)
            raise

    def release(self, name: str) -> None:
        """Give back what acquire() gave. The node leaves the group with the last one, in the background."""
        group = self._groups.get(name)
        if group is None or not group.references:
            return
        group.references -= 1
        if not group.references:
            self._settle_soon(name, group)

    async def join_all(self, line: Line) -> None:
        """
        Join every wanted group that isn't confirmed in the line's session.

        Raises:
            BackplaneUnavailable: some of them the layer didn't take.
        """
        missing = [name for name, group in self._groups.items() if group.references and not self._is_joined(group)]
        for start in range(0, len(missing), line.at_once):
            names = missing[start : start + line.at_once]
            tasks = [self._settle_soon(name, self._groups[name]) for name in names if name in self._groups]
            if tasks:
                await asyncio.wait(tasks)
            for task in tasks:
                if task.cancelled():
                    raise BackplaneUnavailable("joining groups was interrupted")
                task.result()

    def strand(self, line: Line) -> None:
        """Note that a line has ended. Whatever was joined on it is to be left, on the next one."""
        for name, group in self._groups.items():
            if group.touched is line:
                group.touched = None
                self.leave_later(name, line)

    def leave_later(self, name: str, line: Line) -> None:
        """Note a membership to be ended by sweep()."""
        if line.is_over and not line.outlives:
            return
        self._strays[name, line] = None
        while len(self._strays) > STRAYS:
            stray, other = next(iter(self._strays))
            del self._strays[stray, other]
            group = self._groups.get(stray)
            if group is not None and group.touched is other and not group.references:
                del self._groups[stray]
            counters.count(
                "groups_not_left", "too many groups couldn't be left: their memberships stay until they expire"
            )

    async def sweep(self, line: Line) -> None:
        """End memberships that nobody wants, until the layer fails again."""
        todo = list(self._strays)[:SWEPT]
        for start in range(0, len(todo), line.at_once):
            tasks = [self._spawn(self._end(line, *stray)) for stray in todo[start : start + line.at_once]]
            await asyncio.wait(tasks)
            if [task for task in tasks if task.cancelled() or task.exception()]:
                return

    async def _end(self, line: Line, name: str, old: Line) -> None:
        if old is not line:
            await self._leave(line, name, old.channel)
            self._strays.pop((name, old), None)
            return
        self._strays.pop((name, old), None)
        group = self._groups.get(name)
        if group is not None:
            await asyncio.wait({self._settle_soon(name, group)})

    # One group.

    def _is_joined(self, group: _Group) -> bool:
        line = self._line()
        return line is not None and group.joined is line.session

    def _settle_soon(self, name: str, group: _Group) -> asyncio.Task[None]:
        if group.task is None or group.task.done():
            group.task = self._spawn(self._settle(name, group))
            group.task.add_done_callback(functools.partial(self._settled, name, group))
        return group.task

    def _settled(self, name: str, group: _Group, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen, if nobody waits any more
        if group.task is not task or group.references or self._groups.get(name) is not group:
            return
        if group.touched is None:
            del self._groups[name]
        else:
            self.leave_later(name, group.touched)

    async def _settle(self, name: str, group: _Group) -> None:
        """Join or leave until the layer has what is wanted. Each turn looks anew, as much may change at each await."""
        while True:
            line = self._line()
            if group.references and line is None:
                raise BackplaneUnavailable("the channel layer is down; its groups are kept")
            if group.references and line is not None and not self._is_joined(group):
                await self._settle_in(line, name, group)
            elif not group.references and line is not None and group.touched is line:
                await self._settle_out(line, name, group)
            else:
                return

    async def _settle_in(self, line: Line, name: str, group: _Group) -> None:
        session = line.session
        group.touched = line
        try:
            await self._join(line, name)
        finally:
            if line.is_over:
                # It may have come through after the line was given up.
                self.leave_later(name, line)
        # Of an earlier session if the layer has lost memberships meanwhile: it is joined again then.
        group.joined = session

    async def _settle_out(self, line: Line, name: str, group: _Group) -> None:
        group.joined = None
        try:
            await self._leave(line, name, line.channel)
        except BackplaneUnavailable as error:
            counters.count("groups_left_late", "%s", error)
            raise
        if group.touched is line:
            group.touched = None
