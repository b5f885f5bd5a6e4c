"""The rooms that a client has asked for, with the number of uses of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal, Self

from pydantic_core import to_json

from .errors import ConnectionLost, RequestError, RequestTimeout
from .frame import Frame
from .listeners import Listeners, Report
from .options import Timings

SubscriptionState = Literal["waiting", "subscribed", "refused", "removed", "ended"]
"""
The state of a subscription.

"waiting": the server has not answered yet, or there is no connection. "subscribed": the client is in the room.
"refused": the server refused the room. "removed": the server has taken the client out of the room. After these two, the
room is asked for again on the next connection. "ended": ``unsubscribe()`` was called.
"""

WINDOW = 4
"""How many requests are under way at once, so that many rooms don't exceed the server's rate."""

TEMPORARY = frozenset({"rate_limited", "unavailable"})
"""The errors after which a request is repeated later."""


class _Room:
    """
    A room, with what is wanted and what the server has confirmed on the current connection.

    Attributes:
        name: The room's name.
        uses: The subscriptions that haven't ended, in their order.
        state: The state of all of them.
        error: Why the server refused the room.
        is_held: Whether the server holds the subscription, as far as is known.
        is_asking: Whether a request for the room is under way.
        is_left: Whether ``wsrt.left`` has arrived since the request was sent.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.uses: dict[Subscription, None] = {}
        self.state: SubscriptionState = "waiting"
        self.error: Exception | None = None
        self.is_held = self.is_asking = self.is_left = False


class Subscription:
    """
    A subscription of one part of the program to a room. The client stays in the room while it has any.

        async with client.subscribe("order.7"):
            ...

    Entering it waits until the client is in the room. Leaving the block ends this use.
    """

    def __init__(
        self,
        room: _Room,
        listeners: Listeners[[Subscription]],
        end: Callable[[Subscription], None],
    ) -> None:
        self._room = room
        self._end = end
        self._is_ended = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._listeners = listeners

    def __repr__(self) -> str:
        return f"<Subscription {self.room!r} {self.state}>"

    @property
    def room(self) -> str:
        """The name of the room."""
        return self._room.name

    @property
    def state(self) -> SubscriptionState:
        """The state of the subscription."""
        return "ended" if self._is_ended else self._room.state

    @property
    def error(self) -> Exception | None:
        """Why the server refused the room. None if it didn't."""
        return None if self._is_ended else self._room.error

    async def ready(self) -> None:
        """
        Wait until the client is in the room.

        Raises:
            RequestError: The server refused the room.
            ConnectionLost: The subscription has ended, the client was removed from the room, or the client was closed.
        """
        while self.state == "waiting":
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        if self.state != "subscribed":
            raise self.error or ConnectionLost(f"the subscription to {self.room!r} is over: {self.state}")

    def unsubscribe(self) -> None:
        """End this subscription. With the last one, the client leaves the room, unless the server joined it, too."""
        self._end(self)

    async def __aenter__(self) -> Self:
        try:
            await self.ready()
        except BaseException:
            self.unsubscribe()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unsubscribe()


class Subscriptions:
    """
    Sends requests until the server has exactly the subscriptions that the application uses.

    There is at most one request for each room at a time.

    Args:
        request: Sends a request of a name and data, and returns its answer.
        timings: The delays before a request is repeated.
        random: Returns a number from 0 to 1.
        report: Called with refusals that no caller waits for.
        notify: Schedules a call of listeners.
        generation: Returns a number. When it changes during a call of listeners, the remaining ones are skipped.
    """

    def __init__(
        self,
        request: Callable[[str, str], Awaitable[Frame]],
        *,
        timings: Timings,
        random: Callable[[], float],
        report: Report,
        notify: Callable[[Callable[[], Awaitable[None]]], None],
        generation: Callable[[], int],
    ) -> None:
        self._request = request
        self._timings = timings
        self._random = random
        self._report = report
        self._notify = notify
        self._generation = generation
        self._rooms: dict[str, _Room] = {}
        # The requests under way. Empty without a connection.
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._window = WINDOW
        self._failures = 0
        # Set while no request is sent, because the server was too busy.
        self._pause: asyncio.TimerHandle | None = None

    def add(self, name: str, handler: Callable[[Subscription], object] | None) -> Subscription:
        """Add a subscription. The first one for a room, and one after a refusal or removal, sends a request."""
        room = self._rooms.setdefault(name, _Room(name))
        listeners: Listeners[[Subscription]] = Listeners(self._report, self._generation)
        if handler is not None:
            listeners.add(handler)
        use = Subscription(room, listeners, self._remove)
        room.uses[use] = None
        if room.state in ("refused", "removed"):
            self._set(room, "waiting")
        self._send_requests()
        return use

    def is_wanted(self, name: str) -> bool:
        """Return whether there are subscriptions to a room."""
        room = self._rooms.get(name)
        return room is not None and bool(room.uses)

    def opened(self) -> None:
        """Ask for all rooms, because a connection was opened."""
        self._is_open = True
        self._send_requests()

    def connection_lost(self) -> None:
        """Forget what the server has confirmed, because the connection was lost."""
        self._is_open = False
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._window, self._failures = WINDOW, 0
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        for room in list(self._rooms.values()):
            room.is_held = room.is_asking = room.is_left = False
            if room.uses:
                self._set(room, "waiting")
            else:
                del self._rooms[room.name]

    def closed(self, error: Exception) -> None:
        """Fail what waits, because the client was closed. Its rooms are asked for if it connects again."""
        for room in self._rooms.values():
            for use in room.uses:
                for waiter in use._waiters:
                    if not waiter.done():
                        waiter.set_exception(error)

    def apply(self, event: str, name: str) -> None:
        """Record that the connection has joined or left a room."""
        room = self._rooms.get(name)
        if room is None:
            return
        room.is_left = event == "wsrt.left"
        if room.is_left and not room.is_asking:
            room.is_held = False
            if room.state == "subscribed":
                self._set(room, "removed")

    # Private.

    def _remove(self, use: Subscription) -> None:
        room = use._room
        if use not in room.uses:
            return
        del room.uses[use]
        use._is_ended = True
        self._wake(use)
        self._send_requests()

    def _send_requests(self) -> None:
        """Send the requests that are needed, until the server has exactly the subscriptions that are used."""
        for room in list(self._rooms.values()):
            if room.is_asking:
                continue
            if not room.uses and not room.is_held:
                del self._rooms[room.name]
            elif self._is_open and self._pause is None and len(self._tasks) < self._window:
                if not room.uses:
                    self._ask(room, "wsrt.unsubscribe")
                elif room.state == "waiting":
                    self._ask(room, "wsrt.subscribe")

    def _ask(self, room: _Room, event: str) -> None:
        room.is_asking, room.is_left = True, False
        # For a use that begins before the answer. There is none now, or the state is the same.
        room.state = "waiting"
        task = asyncio.create_task(self._send(room, event), name="wsrt-client-subscription")
        self._tasks.add(task)

    async def _send(self, room: _Room, event: str) -> None:
        # If an eager task factory takes the first step within create_task(), the task isn't among self._tasks yet.
        await asyncio.sleep(0)
        task = asyncio.current_task()
        error: Exception | None = None
        try:
            await self._request(event, to_json({"room": room.name}).decode())
        except Exception as problem:
            error = problem
        if task not in self._tasks:
            return  # the connection was lost in the meantime
        self._tasks.discard(task)
        room.is_asking = False
        if error is None:
            self._confirmed(room, is_subscribed=event == "wsrt.subscribe")
        else:
            self._failed(room, error)

    def _confirmed(self, room: _Room, *, is_subscribed: bool) -> None:
        self._failures = 0
        # The server may have removed the client between its join and its answer.
        room.is_held = is_subscribed and not room.is_left
        if is_subscribed and room.uses:
            self._set(room, "subscribed" if room.is_held else "removed")
        self._send_requests()

    def _failed(self, room: _Room, error: Exception) -> None:
        if not _is_temporary(error):
            room.is_held = False
            if room.uses:
                if not any(use._waiters or use._listeners for use in room.uses):
                    self._report(error)
                self._set(room, "refused", error)
            self._send_requests()
            return
        # Over the rate, or no answer in time: wait, and then ask for one room after the other.
        self._window = 1
        self._failures += 1
        if self._pause is None:
            timings = self._timings
            most = min(timings.cap, timings.base * 2 ** (self._failures - 1))
            delay = timings.minimum + self._random() * most
            self._pause = asyncio.get_running_loop().call_later(delay, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._send_requests()

    def _set(self, room: _Room, state: SubscriptionState, error: Exception | None = None) -> None:
        if (room.state, room.error) == (state, error):
            return
        room.state, room.error = state, error
        for use in room.uses:
            self._wake(use)

    def _wake(self, use: Subscription) -> None:
        for waiter in use._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if use._listeners:
            self._notify(lambda: use._listeners.call(use))


def _is_temporary(error: Exception) -> bool:
    if isinstance(error, RequestError):
        return error.code in TEMPORARY
    return isinstance(error, RequestTimeout | ConnectionLost)
