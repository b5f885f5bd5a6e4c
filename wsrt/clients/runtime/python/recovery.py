"""Recovery: receiving the missed events of a room, in order, before new ones."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_core import to_json

from .dispatcher import Dispatcher
from .frame import Frame
from .history import History, HistoryGap
from .listeners import Listeners, Report
from .position import Position, position_of
from .rooms import MAX_HELD, Fetch, Forgotten, Recovery, Rooms


class Receiver:
    """
    Passes publications to handlers: those that were missed first, and each only once.

    Args:
        rooms: The rooms of the client.
        dispatcher: Calls the handlers.
        history: Fetches missed events. None if they can't be fetched.
        timeout: How long one page of a history may take, in seconds.
        report: Receives errors of fetching.
    """

    def __init__(
        self, rooms: Rooms, dispatcher: Dispatcher, history: History | None, timeout: float, report: Report
    ) -> None:
        self._rooms = rooms
        self._dispatcher = dispatcher
        self._history = history
        self._timeout = timeout
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_frame: Listeners[[Frame]] = Listeners(report, dispatcher.generation)
        self.on_recovered: Listeners[[Recovery]] = Listeners(report, dispatcher.generation)
        self.on_forgotten: Listeners[[Forgotten]] = Listeners(report, dispatcher.generation)

    def joined(self, room: str) -> None:
        """Receive the missed events of a room that was joined."""
        self._recovered(self._rooms.ended(room))
        fetch = self._rooms.fetch(room)
        if fetch is not None and self._history is not None:
            task = asyncio.create_task(self._fetch(room, fetch, self._history), name="wsrt-client-history")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def receive(self, frame: Frame, room: str | None) -> None:
        """Handle a frame of a room, unless it has to wait for missed events of the room."""
        fetch = None if room is None else self._rooms.fetch(room)
        if room is not None and fetch is not None:
            if len(fetch.held) < MAX_HELD:
                fetch.held.append(frame)
                return
            self._fetched(room, fetch, fetch.reason)
        self._deliver(frame)

    def connection_lost(self) -> None:
        """Stop fetching. The next connection begins where this one has stopped."""
        for task in self._tasks:
            task.cancel()

    def _deliver(self, frame: Frame) -> None:
        if frame.event == "wsrt.forgotten":
            name, position = frame.data["room"], position_of(frame.data)
            if isinstance(name, str) and position is not None:
                self._post(functools.partial(self.on_forgotten.call, Forgotten(name, *position)))
            return
        room, position = frame.room, frame.position
        if room is None or position is None:
            self._post(functools.partial(self.on_frame.call, frame))
            return
        self._recovered(self._rooms.ended(room, position))
        if self._rooms.is_new(room, position):
            self._post(functools.partial(self.on_frame.call, frame))
        self._recovered(self._rooms.ended(room))

    async def _fetch(self, room: str, fetch: Fetch, history: History) -> None:
        async def deliver(event: str, data: Any, position: Position) -> None:
            await self._dispatcher.wait_for_room()
            if self._rooms.fetch(room) is not fetch:
                raise asyncio.CancelledError  # the room was left, or too many frames wait
            text = to_json({"data": data}).decode()
            self._deliver(Frame(event, data, None, room, *position, text))

        reason: str | None = fetch.reason
        try:
            reason = await history(HistoryGap(room, fetch.since, fetch.until, self._timeout, deliver))
        except Exception as error:
            self._report(error)
        if self._rooms.fetch(room) is fetch:
            self._fetched(room, fetch, reason)

    def _fetched(self, room: str, fetch: Fetch, reason: str | None) -> None:
        """Record the end of fetching, and deliver what has waited for it."""
        self._recovered(self._rooms.fetched(room, reason))
        for frame in fetch.held:
            self._deliver(frame)

    def _recovered(self, recovery: Recovery | None) -> None:
        if recovery is not None:
            self._post(functools.partial(self.on_recovered.call, recovery))

    def _post(self, call: Callable[[], Awaitable[None]]) -> None:
        self._dispatcher.post(call)
