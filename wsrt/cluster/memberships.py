"""The memberships of a node in the groups of a layer: wanted ones, existing ones, and those that it has yet to end."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from .layers import Layer

STRAYS = 10_000
"""The maximum number of memberships that the node ends later. Of more, the oldest last until the layer expires them."""

SWEPT = 2_000
"""The maximum number of memberships that one call of sweep() leaves."""

LATE_SECONDS = 30.0
"""
How long after a join that failed or was cancelled the layer may still execute it, in seconds.

The join may be on its way, on another connection than the leave that follows. So the leave is repeated for this time.
"""


class Line:
    """
    The use of a channel layer by a node: an instance of the layer, and the node's channel on it.

    When the connections of the layer have died, the node replaces its line by a new one.

    Attributes:
        layer: The instance of the channel layer.
        channel: The name of the node's channel.
        at_once: The maximum number of concurrent calls.
        outlives: Whether memberships continue to exist after the connections of the layer have ended.
        session: An object that is replaced when the layer may have lost memberships. Groups that were joined in an
            earlier session have to be joined again.
        is_over: Whether the line isn't used any more, because it was replaced.
    """

    def __init__(self, layer: Layer, channel: str, *, at_once: int, outlives: bool) -> None:
        self.layer = layer
        self.channel = channel
        self.at_once = at_once
        self.outlives = outlives
        self.session = object()
        self.is_over = False
        # A layer may open a connection for each concurrent call, so their number is limited.
        self.slots = asyncio.Semaphore(at_once)


class _Group:
    __slots__ = ("joined", "late_until", "references", "task", "touched")

    def __init__(self) -> None:
        self.references = 0
        # The session in which the layer confirmed the membership.
        self.joined: object | None = None
        # The line on which a membership may exist, confirmed or not. It is set before the join is sent, because a join
        # that fails or is cancelled may still have reached the layer.
        self.touched: Line | None = None
        # The time until which a failed or cancelled join may still reach the layer. 0 if there was none.
        self.late_until = 0.0
        # Joins or leaves as wanted. There is at most one task for each group, so that a leave and a join never overtake
        # each other.
        self.task: asyncio.Task[None] | None = None


class Memberships:
    """
    Keeps the memberships of a node in sync with the groups that its connections need.

    The calls of the layer run in tasks of the node. A caller that is cancelled only stops waiting: its join continues,
    and is undone if no other connection needs the group.

    Args:
        spawn: Runs a coroutine in a task of the node.
        line: Returns the Line that the node uses, or None while the layer is down.
        join: Joins a group on a line, and returns when the layer has confirmed it. Raises BackplaneUnavailable.
        leave: Removes a channel from a group. Raises BackplaneUnavailable.
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
        # Memberships that no connection needs and that couldn't be left yet, oldest first, each with the time until
        # which leaving it has to be repeated.
        self._strays: dict[tuple[str, Line], float] = {}

    @property
    def wanted(self) -> list[str]:
        """The groups that connections need."""
        return [name for name, group in self._groups.items() if group.references]

    @property
    def strays(self) -> int:
        """The number of groups that the node still has to leave."""
        return len(self._strays)

    async def acquire(self, name: str) -> None:
        """
        Join a group for one more connection. Return when the layer has confirmed the membership.

        Every successful call must be followed by one release(). A call that fails or is cancelled releases by itself.

        Raises:
            BackplaneUnavailable: The layer did not accept the join.
        """
        group = self._groups.setdefault(name, _Group())
        group.references += 1
        try:
            while not self._is_joined(group):
                task = self._settle_soon(name, group)
                # Other callers may be waiting for the same task. wait() leaves it running if this caller is cancelled;
                # awaiting the task itself would cancel it for all of them.
                await asyncio.wait({task})
                # If other code cancelled the task, that says nothing about the layer: the next iteration starts a new
                # task. In the meantime the line or its session may have been replaced, which the condition checks.
                if not task.cancelled():
                    task.result()
        except BaseException:
            self.release(name)
            raise

    def release(self, name: str) -> None:
        """Undo one acquire(). When no connection needs the group any more, the node leaves it in the background."""
        group = self._groups.get(name)
        if group is None or not group.references:
            return
        group.references -= 1
        if not group.references:
            self._settle_soon(name, group)

    async def join_all(self, line: Line) -> None:
        """
        Join all wanted groups that aren't confirmed in the line's session.

        Raises:
            BackplaneUnavailable: The layer did not accept some of the joins.
        """
        missing = [name for name, group in self._groups.items() if group.references and not self._is_joined(group)]
        for start in range(0, len(missing), line.at_once):
            names = missing[start : start + line.at_once]
            # While earlier batches were awaited, connections may have released groups, which removes them.
            tasks = [self._settle_soon(name, self._groups[name]) for name in names if name in self._groups]
            if tasks:
                await asyncio.wait(tasks)
            for task in tasks:
                if task.cancelled():
                    raise BackplaneUnavailable("joining groups was interrupted")
                task.result()

    def strand(self, line: Line) -> None:
        """Record that a line has ended. Where memberships outlive it, sweep() ends them on the line that follows."""
        for name, group in self._groups.items():
            if group.touched is line:
                group.touched = None
                self.leave_later(name, line, group.late_until)

    def leave_later(self, name: str, line: Line, late_until: float = 0.0) -> None:
        """
        Record a membership that sweep() has to end.

        Args:
            name: The name of the group.
            line: The line on which the membership may exist.
            late_until: The time until which a join may still reach the layer, so that leaving has to be repeated.
        """
        if line.is_over and not line.outlives:
            return
        self._strays[name, line] = max(late_until, self._strays.get((name, line), 0.0))
        while len(self._strays) > STRAYS:
            stray, other = next(iter(self._strays))
            del self._strays[stray, other]
            group = self._groups.get(stray)
            if group is not None and group.touched is other and not group.references:
                del self._groups[stray]
            counters.count(
                "groups_not_left",
                "can't leave so many channel-layer groups: the oldest memberships stay until they expire",
            )

    async def sweep(self, line: Line) -> None:
        """Leave groups that no connection needs, until done or until the layer fails again."""
        todo = list(self._strays)[:SWEPT]
        for start in range(0, len(todo), line.at_once):
            tasks = [self._spawn(self._end(line, *stray)) for stray in todo[start : start + line.at_once]]
            await asyncio.wait(tasks)
            if [task for task in tasks if task.cancelled() or task.exception()]:
                return

    async def _end(self, line: Line, name: str, old: Line) -> None:
        if old is not line:
            # Raises BackplaneUnavailable if the layer fails; the entry then stays for the next sweep.
            await self._leave(line, name, old.channel)
            if not _is_late(self._strays.get((name, old), 0.0)):
                self._strays.pop((name, old), None)
            return
        # The membership is on the current line, where a connection may have acquired the group again. The group's own
        # task joins or leaves as needed.
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
            # Mark the exception as retrieved: all callers that waited for the task may have been cancelled.
            task.exception()
        if group.task is not task or group.references or self._groups.get(name) is not group:
            return
        if group.touched is None:
            del self._groups[name]
        else:
            self.leave_later(name, group.touched)

    async def _settle(self, name: str, group: _Group) -> None:
        """
        Join or leave until the membership is as wanted.

        During each await the group may be acquired or released, and the line or its session may be replaced. So each
        iteration starts from the present state, and nothing that was read before an await is relied on after it.
        """
        while True:
            line = self._line()
            if group.references and line is None:
                raise BackplaneUnavailable("the channel layer is down; wsrt keeps trying to reconnect")
            if group.references and line is not None and not self._is_joined(group):
                await self._join_once(line, name, group)
            elif not group.references and line is not None and group.touched is line:
                if not await self._leave_once(line, name, group):
                    return  # _settled() records the group, and sweep() repeats the leave
            else:
                return

    async def _join_once(self, line: Line, name: str, group: _Group) -> None:
        session = line.session
        group.touched = line
        try:
            # Raises BackplaneUnavailable if the layer fails, and CancelledError if other code cancelled this task.
            await self._join(line, name)
        except BaseException:
            group.late_until = late_until()
            raise
        finally:
            if line.is_over:
                # The line was given up during the join. strand() has recorded the group, but the next line may have
                # left it already, before this join reached the layer.
                self.leave_later(name, line, group.late_until)
        # This is the session from before the join. If the layer has lost memberships in the meantime, the line has
        # another session by now: the group doesn't count as joined, and the next iteration joins it again.
        group.joined = session

    async def _leave_once(self, line: Line, name: str, group: _Group) -> bool:
        """Leave a group. Return False if an earlier join may still reach the layer, so that the leave is repeated."""
        # Cleared before the await: a connection that acquires the group in the meantime must wait for a new join.
        group.joined = None
        try:
            await self._leave(line, name, line.channel)
        except BackplaneUnavailable as error:
            counters.count("groups_left_late", "%s", error)
            raise
        if line.outlives and _is_late(group.late_until):
            return False
        if group.touched is line:
            group.touched = None
        return True


def late_until() -> float:
    """Return the time until which a join that has just failed may still reach the layer."""
    return asyncio.get_running_loop().time() + LATE_SECONDS


def _is_late(until: float) -> bool:
    return asyncio.get_running_loop().time() < until
