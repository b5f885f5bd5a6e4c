"""The node: what one event loop of one process needs to hold connections."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from ..delivery.hub import Hub
from ..delivery.mailbox import Mailbox, Taken
from ..delivery.subscriber import Subscriber, SubscriberHandler
from ..delivery.tasks import start_task
from ..delivery.timer_wheel import TimerWheel
from ..delivery.turns import Turns
from ..metrics import counters
from . import messages
from .backplane import Backplane
from .layers import is_local
from .per_loop import PerLoop

Item = messages.PublishMessage | messages.CommandMessage | messages.PresenceMessage

NODE_ID_BYTES = 12
"""96 random bits: not a counter, which an emptied store would hand out twice."""

MAX_ARRIVING_COMMANDS = 10_000
"""Commands of the whole cluster that may come while one connection is being set up."""


class Node:
    """
    The hub, the timers and the backplanes of one event loop.

    Made in the loop that runs it, never at import: a fork, the parent of a reloader and commands make none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.id = secrets.token_hex(NODE_ID_BYTES)
        self.loop = loop
        self.hub = Hub(loop)
        self.wheel = TimerWheel(loop)
        self.turns = Turns(loop)
        # What other threads publish and command.
        self.mailbox = Mailbox(loop, self.take, self.hub.checkpoint)
        # What served connections so far, as asgi.with_runtime() recognised it: the names of their transports.
        self.servers: set[str] = set()
        # Every connection that was accepted, until it is cleaned up; the hub knows those that are set up.
        self.handlers: set[SubscriberHandler] = set()
        # Connections that are not yet known to the hub, each with the commands that came in the meantime: whether one
        # is addressed is known when it is registered.
        self.arriving: dict[SubscriberHandler, list[messages.CommandMessage]] = {}
        # Whether connections are being ended, and new ones are not wanted.
        self.is_draining = False
        # What ends them.
        self.drain: asyncio.Task[None] | None = None
        # Hears of changes in rooms. None while nobody wants to know.
        self.on_presence: Callable[[messages.PresenceMessage], None] | None = None
        self._backplanes: dict[str, Backplane] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()

    def new_connection_id(self) -> str:
        """Return the id of a new connection; it names the node, so that one group reaches it."""
        return f"{self.id}-{next(self._numbers)}"

    def backplane(self, alias: str) -> Backplane | None:
        """Return how this node hears of others; None where a layer is local and there are no others."""
        if is_local(alias):
            return None
        if alias not in self._backplanes:
            self._backplanes[alias] = Backplane(alias, self.id, self.receive)
        return self._backplanes[alias]

    async def receive(self, message: dict[str, Any]) -> None:
        """Take in a message from a backplane."""
        item = messages.read(message)
        self.take(item)
        if isinstance(item, messages.PublishMessage):
            await self.hub.checkpoint()

    def post(self, item: Item) -> Taken | None:
        """
        Hand over a message, from any thread; what one thread posts is taken in that order.

        Returns:
            What the caller has to wait for: with a command always, with others while much waits or in the loop itself.
        """
        is_here = _running_loop() is self.loop
        if is_here and not len(self.mailbox):
            self.take(item)
            return None
        if not self.loop.is_running() and self.mailbox.must_wait:
            counters.count("deliveries_failed", "the event loop of a node does not run: what is for it is dropped")
            return None
        taken = self.mailbox.put(item, item.frame.size if isinstance(item, messages.PublishMessage) else 0)
        must_wait = is_here or isinstance(item, messages.CommandMessage) or self.mailbox.must_wait
        return taken if must_wait and self.loop.is_running() else None

    def take(self, item: Item) -> None:
        """Do what a message is for."""
        match item:
            case messages.PublishMessage():
                self.deliver(item)
            case messages.CommandMessage():
                self.carry_out(item)
            case messages.PresenceMessage():
                if self.on_presence is not None:
                    self.on_presence(item)

    def deliver(self, publication: messages.PublishMessage) -> int:
        """Hand a publication to the local connections; return how many those are."""
        if publication.id is not None and self.hub.is_copy(publication.id):
            return 0
        return self.hub.deliver(publication.realm, publication.audience, publication.frame)

    def carry_out(self, command: messages.CommandMessage) -> None:
        """Hand a control command to the local connections that it names."""
        if self.hub.is_copy(command.id):
            return
        for handler, commands in list(self.arriving.items()):
            commands.append(command)
            if len(commands) > MAX_ARRIVING_COMMANDS:
                handler.commands_overflowed()
        for realm in filter(command.includes, self.hub.realms):
            for subscriber in self.hub.select(realm, command.audience):
                if subscriber.handler not in self.arriving:
                    subscriber.handler.command(command.name, command.arguments)

    def register(self, subscriber: Subscriber) -> None:
        """The connection is in the hub, with its user: have it carry out the commands that came before, in order."""
        for command in self.arriving.pop(subscriber.handler, ()):
            if command.includes(subscriber.realm) and self.hub.is_addressed(subscriber, command.audience):
                subscriber.handler.command(command.name, command.arguments)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something to its end, whoever is cancelled meanwhile."""
        task = start_task(self.loop, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_nodes = PerLoop(lambda: Node(asyncio.get_running_loop()))

_is_server = False


def current_node() -> Node:
    """Return the node of the running loop; made at first use."""
    return _nodes.get()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def nodes() -> list[Node]:
    """Return the nodes of this process, of whatever thread."""
    return _nodes.all()


def note_server() -> None:
    """Take in that this process has routes to consumers: a server, or its test, which may come to hold connections."""
    global _is_server
    _is_server = True


def is_server() -> bool:
    """Return whether this process has routes to consumers."""
    return _is_server
