"""
A replacement for the calls of channels_redis' pub/sub layer that pipelines commands.

That layer holds one lock during each round trip to Redis. With a distant Redis, publications, joins and probes wait for
each other. It also treats a group as joined once SUBSCRIBE was written. Here commands are pipelined, and a join waits
for the confirmation of Redis. The messages and channel names are the same, so code that calls the layer directly still
reaches all consumers. wsrt's private instance of the layer provides names, hosts and serializer; the connections are
wsrt's own.
"""

from __future__ import annotations

import asyncio
import collections
import importlib
import inspect
import uuid
from collections.abc import Sequence
from typing import Any

from ..metrics import counters
from .pipeline import Answers, BacklogFull, Pipeline

MAILBOX_MESSAGES = 10_000
MAILBOX_BYTES = 32 * 1024 * 1024
"""
The limits of received messages that wait for the node, as a number and in bytes.

Beyond them, wsrt stops reading, and Redis closes the connection once its own output buffer is full.
"""

FEATURES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("channels_redis.pubsub", "RedisPubSubChannelLayer", ("serialize", "deserialize", "_get_layer")),
    ("channels_redis.pubsub", "RedisPubSubLoopLayer", ("_get_shard", "_get_group_channel_name")),
    ("channels_redis.utils", "create_pool", ()),
    ("redis.asyncio.connection", "ConnectionPool", ("make_connection",)),
    (
        "redis.asyncio.connection",
        "Connection",
        ("connect", "disconnect", "send_packed_command", "read_response", "_reader"),
    ),
    ("redis.asyncio.retry", "Retry", ("call_with_retry",)),
    ("redis.backoff", "NoBackoff", ()),
)
"""The parts of the libraries that are used: module, name in the module, and attributes of the named object."""

CALLS = ("new_channel", "receive", "send", "group_add", "group_discard", "group_send", "_get_layer")
"""Methods that a subclass of the layer must not override, or else its own calls are used."""


def is_pubsub(layer: object) -> bool:
    """Return whether this is the pub/sub layer or a subclass of it, whose memberships end with its connections."""
    return isinstance(layer, PubSubLayer) or any(_is_of_library(base) for base in type(layer).__mro__)


def missing_features() -> list[str]:
    """Return the dotted names of features that the installed channels_redis and redis-py lack for pipelining."""
    missing = []
    for module, name, attributes in FEATURES:
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            missing.append(f"{module}.{name}")
        else:
            missing += [f"{module}.{name}.{attribute}" for attribute in attributes if not hasattr(found, attribute)]
    return missing or _without_protocol()


def _without_protocol() -> list[str]:
    from redis.asyncio.connection import AbstractConnection

    is_known = "protocol" in inspect.signature(AbstractConnection.__init__).parameters
    return [] if is_known else ["redis.asyncio.connection.AbstractConnection(protocol=)"]


def pipelined(layer: Any) -> Any:
    """
    Return a PubSubLayer for a private instance of the pub/sub layer, for use in the running loop.

    Returns:
        The PubSubLayer. The layer itself if it isn't the pub/sub layer. Also the layer itself if it differs from the
        known versions; this is counted and logged.
    """
    if not is_pubsub(layer):
        return layer
    reason = _reason_against(layer)
    if reason is None:
        try:
            return PubSubLayer(layer)
        except (AttributeError, TypeError, ValueError) as error:
            reason = repr(error)
    counters.count(
        "pubsub_not_driven",
        "wsrt can't pipeline the pub/sub layer (%s): each publication or join waits for the answer to the one before",
        reason,
    )
    return layer


def _reason_against(layer: object) -> str | None:
    for base in type(layer).__mro__:
        own = [call for call in CALLS if call in vars(base)]
        if own and not _is_of_library(base):
            return f"{base.__module__}.{base.__qualname__} overrides {own[0]}"
    missing = missing_features()
    return f"the installed libraries lack {', '.join(missing)}" if missing else None


def _is_of_library(base: type) -> bool:
    return base.__module__ == "channels_redis.pubsub"


class PubSubLayer:
    """
    A channel layer for one event loop: the calls of the pub/sub layer, on connections of wsrt's own.

    Publications to one shard are sent in the order of the calls. ``group_send`` returns when Redis has accepted the
    message, ``group_add`` when Redis has confirmed the subscription. When a subscribed connection is lost, ``receive``
    raises ConnectionError once, after the messages that arrived before; then all groups must be added again.

    Args:
        layer: The instance of the pub/sub layer that provides names, hosts and serializer.

    Raises:
        AttributeError, TypeError, ValueError: The layer differs from the known versions.
    """

    def __init__(self, layer: Any) -> None:
        names = layer._get_layer()
        self.layer = layer
        self._prefix: str = names.prefix
        self._name_of = names._get_group_channel_name
        self._places = {id(shard): place for place, shard in enumerate(names._shards)}
        self._shard_of = names._get_shard
        self._shards = [_Shard(shard.host, self) for shard in names._shards]
        # By the name of a group's channel in Redis: the local channels in the group.
        self._groups: dict[str, dict[str, None]] = {}
        self._mailboxes: dict[str, _Mailbox] = {}
        # The layer closes the objects in this dict when their loop is closed.
        layer._layers[asyncio.get_running_loop()] = self

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return the name of a new channel, once Redis has confirmed its subscription."""
        channel = f"{self._prefix}{prefix}{uuid.uuid4().hex}"
        self._mailboxes[channel] = _Mailbox()
        await self._shard(channel).subscribe(channel)
        return channel

    async def receive(self, channel: str) -> dict[str, Any]:
        """
        Return the next message.

        Raises:
            ConnectionError: Subscriptions were lost. Messages may be missing, and groups must be added again.
        """
        data = await self._mailboxes[channel].get()
        return self.layer.deserialize(data)  # type: ignore[no-any-return]

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to one channel of any process."""
        await self._shard(channel).publish(channel, self.layer.serialize(message))

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel of this instance to a group. Return when Redis has confirmed the subscription."""
        name = self._name_of(group)
        # Before the await: messages may arrive as soon as Redis has the subscription, before this task runs again.
        self._groups.setdefault(name, {})[channel] = None
        await self._shard(name).subscribe(name)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group. A call that failed or was cancelled can be repeated."""
        name = self._name_of(group)
        members = self._groups.get(name, {})
        members.pop(channel, None)
        if not members:
            self._groups.pop(name, None)
            await self._shard(name).unsubscribe(name)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Publish a message to a group. Return when Redis has accepted it."""
        await self.post(group, message)

    def post(self, group: str, message: dict[str, Any]) -> asyncio.Future[Any]:
        """
        Publish a message to a group, and return without waiting.

        Returns:
            A future that is done when Redis has accepted it.

        Raises:
            BacklogFull: Too many commands wait for Redis already; it wasn't sent.
            ConnectionError: The layer was closed.
        """
        name = self._name_of(group)
        return self._shard(name).publish(name, self.layer.serialize(message))

    def post_all(self, posts: Sequence[tuple[str, dict[str, Any]]], *, in_order: bool = False) -> Answers:
        """
        Publish messages, each to a group, and return without waiting. It costs less than as many calls of post().

        Args:
            posts: The group and the message of each.
            in_order: Whether a message that fails withdraws the later ones that aren't written yet.

        Returns:
            The answers of Redis, and the errors that post() would raise.
        """
        answers = Answers(len(posts), in_order=in_order)
        # By group: its shard's commands, and the beginning of each.
        known: dict[str, tuple[list[bytes], list[int], bytes]] = {}
        by_shard: dict[_Shard, tuple[list[bytes], list[int]]] = {}
        serialized, data = None, b""
        for number, (group, message) in enumerate(posts):
            if message is not serialized:
                try:
                    serialized, data = message, self.layer.serialize(message)
                except Exception as error:
                    serialized = None
                    answers.settle(number, error)
                    continue
            found = known.get(group)
            if found is None:
                name = self._name_of(group)
                commands, numbers = by_shard.setdefault(self._shard(name), ([], []))
                found = known[group] = commands, numbers, _publish(name)
            found[0].append(b"%b$%d\r\n%b\r\n" % (found[2], len(data), data))
            found[1].append(number)
        for shard, (commands, numbers) in by_shard.items():
            shard.publish_all(commands, numbers, answers)
        return answers

    async def check(self) -> None:
        """Return when every open connection has answered a PING. Raises the first error of any of them."""
        await asyncio.gather(*(answer for shard in self._shards for answer in shard.ping()))

    async def flush(self) -> None:
        """
        Close all connections.

        It is called ``flush``, because the method of channels_redis that closes the connections has this name, and
        ``close_layer`` calls it on the layers of both kinds.
        """
        self._groups.clear()
        await asyncio.gather(*(shard.close() for shard in self._shards))
        self.layer._layers.pop(asyncio.get_running_loop(), None)

    def take(self, name: bytes, data: bytes) -> Any:
        """
        Put a message into the mailboxes of its channel or group.

        Returns:
            An awaitable to await before more is read, or None.
        """
        text = name.decode()
        pause = None
        for channel in self._groups.get(text, (text,)):
            mailbox = self._mailboxes.get(channel)
            if mailbox is not None:
                mailbox.put(data)
                if mailbox.is_full:
                    pause = mailbox.wait_for_space()
        return pause

    def connection_lost(self, error: BaseException) -> None:
        """Make every receive() raise ConnectionError, after the messages that arrived before."""
        for mailbox in self._mailboxes.values():
            text = f"the Redis connection with the node's subscriptions was lost: {type(error).__name__}: {error}"
            mailbox.end(ConnectionError(text))

    def _shard(self, name: str) -> _Shard:
        return self._shards[self._places[id(self._shard_of(name))]]


class _Shard:
    """The two connections to one Redis host: one publishes, the other subscribes."""

    def __init__(self, host: dict[str, Any], layer: PubSubLayer) -> None:
        from channels_redis.utils import create_pool

        # With RESP2, messages look like other answers, which read_response() of every redis-py returns.
        pool = create_pool({**host, "protocol": 2})
        if pool.connection_kwargs["protocol"] not in {2, "2"}:
            raise ValueError(
                f"the URL of a host in CHANNEL_LAYERS sets protocol={pool.connection_kwargs['protocol']}, but wsrt "
                "needs RESP2 to send commands in batches: remove protocol= from the URL"
            )
        self._pool = pool
        self._layer = layer
        self._publisher = Pipeline(pool)
        self._subscriber = Pipeline(pool, layer.take, self._on_lost)
        # By channel: the confirmation of Redis, which may not have arrived yet.
        self._subscriptions: dict[str, asyncio.Future[Any]] = {}

    def publish(self, name: str, data: bytes) -> asyncio.Future[Any]:
        return _request(self._publisher, "PUBLISH", name, data)

    def publish_all(self, commands: list[bytes], numbers: list[int], answers: Answers) -> None:
        _note_refused(self._publisher.request_all(commands, numbers, answers))

    async def subscribe(self, name: str) -> None:
        confirmed = self._subscriptions.get(name)
        if confirmed is None or (confirmed.done() and (confirmed.cancelled() or confirmed.exception())):
            confirmed = self._subscriptions[name] = _request(self._subscriber, "SUBSCRIBE", name)
            # Mark an exception as retrieved: all waiters may have been cancelled when it arrives.
            confirmed.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        # Other joins of the same group may wait for the same confirmation, so a cancelled one must not cancel it.
        await asyncio.shield(confirmed)

    async def unsubscribe(self, name: str) -> None:
        self._subscriptions.pop(name, None)
        # Sent even if no subscription is known: an earlier UNSUBSCRIBE may have failed or been withdrawn, and a
        # SUBSCRIBE that was queued when a connection was lost is sent over the next one. Without a connection, there
        # are no subscriptions.
        if self._subscriber.is_used:
            await _request(self._subscriber, "UNSUBSCRIBE", name)

    def ping(self) -> list[asyncio.Future[Any]]:
        return [_request(pipe, "PING") for pipe in (self._publisher, self._subscriber) if pipe.is_used]

    async def close(self) -> None:
        self._subscriptions.clear()
        await asyncio.gather(self._publisher.close(), self._subscriber.close())
        # Connections to sentinels are separate from those of the pool.
        for sentinel in getattr(getattr(self._pool, "sentinel_manager", None), "sentinels", ()):
            await sentinel.connection_pool.disconnect()

    def _on_lost(self, error: BaseException) -> None:
        self._subscriptions.clear()
        self._layer.connection_lost(error)


def _request(pipe: Pipeline, *command: str | bytes) -> asyncio.Future[Any]:
    try:
        return pipe.request(*command)
    except BacklogFull:
        _note_refused(1)
        raise


def _note_refused(number: int) -> None:
    counters.count(
        "backplane_backlog_full",
        "too many publications and joins are waiting for Redis: refusing more",
        times=number,
    )


def _publish(name: str) -> bytes:
    """Return the beginning of a PUBLISH, as Redis reads it; the message follows."""
    channel = name.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(channel), channel)


class _Mailbox:
    """The messages that were received for one channel and not read yet. It has one reader."""

    __slots__ = ("_arrived", "_bytes", "_has_space", "_items")

    def __init__(self) -> None:
        # An error in between marks a gap: messages may be missing there.
        self._items: collections.deque[bytes | ConnectionError] = collections.deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._has_space = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return len(self._items) >= MAILBOX_MESSAGES or self._bytes >= MAILBOX_BYTES

    def put(self, data: bytes) -> None:
        self._items.append(data)
        self._bytes += len(data)
        self._arrived.set()

    def end(self, error: ConnectionError) -> None:
        if not self._items or isinstance(self._items[-1], bytes):
            self._items.append(error)
            self._arrived.set()

    async def get(self) -> bytes:
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        if not isinstance(item, bytes):
            raise item
        self._bytes -= len(item)
        if not self.is_full:
            self._has_space.set()
        return item

    async def wait_for_space(self) -> None:
        while self.is_full:
            self._has_space.clear()
            await self._has_space.wait()
