"""The node: the hub, timers and backplanes of one event loop of one process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from ..addresses import Connection, Session
from ..delivery.hub import Hub
from ..delivery.lingering import Lingering
from ..delivery.mailbox import Mailbox, Taken
from ..delivery.subscriber import Subscriber, SubscriberHandler
from ..delivery.tasks import start_task
from ..delivery.timer_wheel import TimerWheel
from ..delivery.turns import Turns
from ..history.backends import store_of_loop
from ..history.follower import Follower
from ..metrics import counters
from . import messages
from .backplane import Backplane
from .ended_sessions import EndedSessions
from .layers import is_local
from .per_loop import PerLoop

Item = messages.PublishMessage | messages.CommandMessage | messages.PresenceMessage

NODE_ID_BYTES = 12
"""96 random bits. A counter in a store could give out the same id twice after the store was emptied."""

MAX_ARRIVING_COMMANDS = 10_000
"""Commands of the whole cluster that are kept for one connection while it is being set up."""


class Node:
    """
    The hub, timers and backplanes of one event loop.

    A node is created in the loop that it belongs to, never at import. So the parent of a reloader, a process that only
    forks workers, and management commands have no node.

    Args:
        loop: The running loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.id = secrets.token_hex(NODE_ID_BYTES)
        self.loop = loop
        self.hub = Hub(loop)
        self.wheel = TimerWheel(loop)
        self.turns = Turns(loop)
        # Publications and commands from other threads.
        self.mailbox = Mailbox(loop, self.take, self.hub.checkpoint)
        # The names of the transports that have served connections so far, as asgi.with_runtime() recognised them.
        self.servers: set[str] = set()
        # The handlers of all accepted connections, until they are cleaned up. The hub only has those that are set up.
        self.handlers: set[SubscriberHandler] = set()
        # Sockets that were closed, until their peers have taken what is buffered.
        self.lingering = Lingering(loop)
        # Connections that aren't in the hub yet, each with the commands that have arrived in the meantime. Whether a
        # command addresses a connection can only be decided when it is registered.
        self.arriving: dict[SubscriberHandler, list[messages.CommandMessage]] = {}
        # The sessions that were logged out a short time ago: handshakes that read them before are refused.
        self.ended_sessions = EndedSessions(loop.time)
        # Whether the node is closing its connections and accepts no new ones.
        self.is_draining = False
        # The task that closes them.
        self.drain: asyncio.Task[None] | None = None
        # Called with changes of presence. None while no connection of the node needs them.
        self.on_presence: Callable[[messages.PresenceMessage], None] | None = None
        # The rooms with history of the node's connections.
        self.history = Follower(loop, self.hub, store_of_loop)
        self._backplanes: dict[str, Backplane] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()

    def new_connection_id(self) -> str:
        """Return an id for a new connection. It begins with the node's id, which tells other nodes where to send."""
        return f"{self.id}-{next(self._numbers)}"

    def backplane(self, alias: str) -> Backplane | None:
        """Return the node's backplane for a channel layer, created if necessary; None for a local layer."""
        if is_local(alias):
            return None
        if alias not in self._backplanes:
            self._backplanes[alias] = Backplane(alias, self.id, self.receive, self.history.check_all)
        return self._backplanes[alias]

    async def receive(self, message: dict[str, Any]) -> None:
        """
        Handle a message from a backplane.

        Raises:
            UnknownMessage: The message isn't one of wsrt's, or has a format that this version can't read.
        """
        item = messages.read(message)
        self.take(item)
        if isinstance(item, messages.PublishMessage):
            await self.hub.checkpoint()

    def post(self, item: Item) -> Taken | None:
        """
        Pass a message to the node, from any thread. Messages from one thread are handled in the order of the calls.

        Returns:
            A future that the caller has to wait for; None if it needn't wait. The caller waits after posting a command,
            after posting from the node's own loop while other messages are queued, and, as back-pressure, while too
            many messages are queued.
        """
        is_here = _running_loop() is self.loop
        if is_here and not len(self.mailbox):
            self.take(item)
            return None
        if not self.loop.is_running() and self.mailbox.must_wait:
            counters.count("deliveries_failed", "the event loop of a node isn't running: messages for it are dropped")
            return None
        taken = self.mailbox.put(item, item.frame.size if isinstance(item, messages.PublishMessage) else 0)
        must_wait = is_here or isinstance(item, messages.CommandMessage) or self.mailbox.must_wait
        return taken if must_wait and self.loop.is_running() else None

    def take(self, item: Item) -> None:
        """Handle a message. Must run in the node's loop."""
        match item:
            case messages.PublishMessage():
                self.deliver(item)
            case messages.CommandMessage():
                self.carry_out(item)
            case messages.PresenceMessage():
                if self.on_presence is not None:
                    self.on_presence(item)

    def deliver(self, publication: messages.PublishMessage) -> int:
        """Deliver a publication to the local connections; return the number of connections that got it now."""
        if publication.id is not None and self.hub.is_copy(publication.id):
            return 0
        if self.history.is_used:
            return self.history.deliver(publication)
        return self.hub.deliver(publication.realm, publication.audience, publication.frame)

    def carry_out(self, command: messages.CommandMessage) -> None:
        """Pass a control command to the local connections that it addresses."""
        if self.hub.is_copy(command.id):
            return
        if self.history.carry_out(command):
            return
        if command.name == messages.LOG_OUT and isinstance(command.audience, Session):
            self.ended_sessions.add(command.audience.hashes)
        # A command for one connection isn't kept for the others: they would be closed if there were too many.
        only = command.audience.id if isinstance(command.audience, Connection) else None
        for handler, commands in list(self.arriving.items()):
            if only is not None and handler.id != only:
                continue
            commands.append(command)
            if len(commands) > MAX_ARRIVING_COMMANDS:
                handler.commands_overflowed()
        for realm in filter(command.includes, self.hub.realms):
            for subscriber in self.hub.select(realm, command.audience):
                if subscriber.handler not in self.arriving:
                    subscriber.handler.command(command.name, command.arguments)

    def register(self, subscriber: Subscriber) -> None:
        """
        Pass the commands that arrived during the set-up of a connection to it, in order.

        Call it once the connection is in the hub and its user is known.
        """
        for command in self.arriving.pop(subscriber.handler, ()):
            if command.includes(subscriber.realm) and self.hub.is_addressed(subscriber, command.audience):
                subscriber.handler.command(command.name, command.arguments)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in a task of the node, which isn't cancelled together with the caller."""
        task = start_task(self.loop, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_nodes = PerLoop(lambda: Node(asyncio.get_running_loop()))

_is_server = False


def current_node() -> Node:
    """Return the node of the running loop, created if necessary."""
    return _nodes.get()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def nodes() -> list[Node]:
    """Return the nodes of this process, whichever threads they run in."""
    return _nodes.all()


def note_server() -> None:
    """Record that this process has routes to consumers: it is a server, or a test of one, and may get connections."""
    global _is_server
    _is_server = True


@contextlib.contextmanager
def examination() -> Iterator[None]:
    """
    Undo note_server() at the end of the block, in which a system check imports the application's routes.

    Checks run before most management commands, which aren't servers.
    """
    global _is_server
    before = _is_server
    try:
        yield
    finally:
        _is_server = before


def is_server() -> bool:
    """Return whether this process has routes to consumers."""
    return _is_server
