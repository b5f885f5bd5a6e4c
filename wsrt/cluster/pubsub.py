"""
The pub/sub layer of channels_redis, driven without its lock.

That layer holds one lock across each round trip to Redis, so that at a distance publications, joins and probes wait for
each other; and it takes a group for joined when SUBSCRIBE was written. Here the same messages travel under the same
names, so that code which calls the layer itself still reaches everybody, but commands are pipelined, and a join waits
for the confirmation. wsrt's private instance of the layer gives names, hosts and serializer; the connections are ours.
"""

from __future__ import annotations

import asyncio
import collections
import importlib
import inspect
import uuid
from typing import Any

from ..metrics import counters
from .pipeline import BacklogFull, Pipeline

MAILBOX_MESSAGES = 10_000
MAILBOX_BYTES = 32 * 1024 * 1024
"""Received messages that may wait for the node. Then Redis is read no further, until it ends the connection."""

FEATURES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("channels_redis.pubsub", "RedisPubSubChannelLayer", ("serialize", "deserialize", "_get_layer")),
    ("channels_redis.pubsub", "RedisPubSubLoopLayer", ("_get_shard", "_get_group_channel_name")),
    ("channels_redis.utils", "create_pool", ()),
    ("redis.asyncio.connection", "ConnectionPool", ("make_connection",)),
    ("redis.asyncio.connection", "Connection", ("connect", "disconnect", "send_packed_command", "read_response")),
    ("redis.asyncio.retry", "Retry", ("call_with_retry",)),
    ("redis.backoff", "NoBackoff", ()),
)
"""What is needed of the libraries: module, name, and the attributes of that."""

CALLS = ("new_channel", "receive", "send", "group_add", "group_discard", "group_send", "_get_layer")
"""What a class that is made of the layer must not do in its own way, to be driven here."""


def is_pubsub(layer: object) -> bool:
    """Return whether this is the pub/sub layer, or made of it: memberships end with its connections."""
    return isinstance(layer, PubSubLayer) or any(_is_of_library(base) for base in type(layer).__mro__)


def missing_features() -> list[str]:
    """Return what the installed channels_redis and redis-py lack to be driven, as dotted names."""
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


def driven(layer: Any) -> Any:
    """
    Return what drives a private instance of the pub/sub layer in the running loop.

    Returns:
        The layer itself if it isn't the pub/sub layer, or is one of another kind than those that are known here; that
        is counted and logged.
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
        "the pub/sub layer is used by its own calls, so that publications and joins wait for each other: %s",
        reason,
    )
    return layer


def _reason_against(layer: object) -> str | None:
    for base in type(layer).__mro__:
        own = [call for call in CALLS if call in vars(base)]
        if own and not _is_of_library(base):
            return f"{base.__module__}.{base.__qualname__} has a {own[0]} of its own"
    missing = missing_features()
    return f"the installed libraries lack {', '.join(missing)}" if missing else None


def _is_of_library(base: type) -> bool:
    return base.__module__ == "channels_redis.pubsub"


class PubSubLayer:
    """
    A channel layer in one event loop: the calls of the pub/sub layer, on connections of our own.

    Publications leave in the order of the calls, a shard each; ``group_send`` returns when Redis has taken the message.
    ``group_add`` returns when Redis has the subscription. When a connection that subscribes is lost, ``receive`` raises
    ConnectionError once, after the messages that came before, and all groups must be added again.

    Attributes:
        layer: the instance that is driven.

    Raises:
        AttributeError, TypeError, ValueError: the layer isn't as it's known here.
    """

    def __init__(self, layer: Any) -> None:
        names = layer._get_layer()
        self.layer = layer
        self._prefix: str = names.prefix
        self._name_of = names._get_group_channel_name
        self._places = {id(shard): place for place, shard in enumerate(names._shards)}
        self._shard_of = names._get_shard
        self._shards = [_Shard(shard.host, self) for shard in names._shards]
        # By the name of the channel in Redis: our channels that are in the group.
        self._groups: dict[str, dict[str, None]] = {}
        self._mailboxes: dict[str, _Mailbox] = {}
        # The layer closes what stands here when the loop is closed.
        layer._layers[asyncio.get_running_loop()] = self

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return the name of a new channel, once Redis has its subscription."""
        channel = f"{self._prefix}{prefix}{uuid.uuid4().hex}"
        self._mailboxes[channel] = _Mailbox()
        await self._shard(channel).subscribe(channel)
        return channel

    async def receive(self, channel: str) -> dict[str, Any]:
        """
        Return the next message.

        Raises:
            ConnectionError: subscriptions were lost. Messages may be missing, and groups must be added again.
        """
        data = await self._mailboxes[channel].get()
        return self.layer.deserialize(data)  # type: ignore[no-any-return]

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send to one channel, of whatever process."""
        await self._shard(channel).publish(channel, self.layer.serialize(message))

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel of this instance to a group; returns when Redis has confirmed the subscription."""
        name = self._name_of(group)
        self._groups.setdefault(name, {})[channel] = None
        await self._shard(name).subscribe(name)

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        name = self._name_of(group)
        members = self._groups.get(name)
        if members is None:
            return
        members.pop(channel, None)
        if not members:
            del self._groups[name]
            await self._shard(name).unsubscribe(name)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Publish to a group; returns when Redis has taken the message."""
        name = self._name_of(group)
        await self._shard(name).publish(name, self.layer.serialize(message))

    async def check(self) -> None:
        """Return when every connection that is open has answered; raises what went wrong."""
        await asyncio.gather(*(answer for shard in self._shards for answer in shard.ping()))

    async def flush(self) -> None:
        """Close all connections. The name is the layer's own."""
        self._groups.clear()
        await asyncio.gather(*(shard.close() for shard in self._shards))
        self.layer._layers.pop(asyncio.get_running_loop(), None)

    def take(self, name: bytes, data: bytes) -> Any:
        """Put a message into the mailboxes of a channel or group; return what to await before more is read."""
        text = name.decode()
        pause = None
        for channel in self._groups.get(text, (text,)):
            mailbox = self._mailboxes.get(channel)
            if mailbox is not None:
                mailbox.put(data)
                if mailbox.is_full:
                    pause = mailbox.wait_for_room()
        return pause

    def lose(self, error: BaseException) -> None:
        """Have every receive() raise, after the messages that came before."""
        for mailbox in self._mailboxes.values():
            mailbox.end(ConnectionError(f"subscriptions were lost: {type(error).__name__}: {error}"))

    def _shard(self, name: str) -> _Shard:
        return self._shards[self._places[id(self._shard_of(name))]]


class _Shard:
    """The two connections to one host: one publishes, the other subscribes."""

    def __init__(self, host: dict[str, Any], layer: PubSubLayer) -> None:
        from channels_redis.utils import create_pool

        # Of version 2 of the protocol: messages are answers like any other there, which every redis-py reads.
        pool = create_pool({**host, "protocol": 2})
        if pool.connection_kwargs["protocol"] not in {2, "2"}:
            raise ValueError("the URL of a host asks for another protocol than RESP2")
        self._pool = pool
        self._layer = layer
        self._publisher = Pipeline(pool)
        self._subscriber = Pipeline(pool, layer.take, self._lose)
        # By channel: Redis' confirmation, which may be still to come.
        self._subscriptions: dict[str, asyncio.Future[Any]] = {}

    async def publish(self, name: str, data: bytes) -> None:
        await _request(self._publisher, "PUBLISH", name, data)

    async def subscribe(self, name: str) -> None:
        confirmed = self._subscriptions.get(name)
        if confirmed is None or (confirmed.done() and (confirmed.cancelled() or confirmed.exception())):
            confirmed = self._subscriptions[name] = _request(self._subscriber, "SUBSCRIBE", name)
            # All that wait for it may have given up by then.
            confirmed.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        # Others may be waiting for the same.
        await asyncio.shield(confirmed)

    async def unsubscribe(self, name: str) -> None:
        if self._subscriptions.pop(name, None) is not None:
            await _request(self._subscriber, "UNSUBSCRIBE", name)

    def ping(self) -> list[asyncio.Future[Any]]:
        return [_request(pipe, "PING") for pipe in (self._publisher, self._subscriber) if pipe.is_used]

    async def close(self) -> None:
        self._subscriptions.clear()
        await asyncio.gather(self._publisher.close(), self._subscriber.close())
        # Sentinels are asked over connections of their own.
        for sentinel in getattr(getattr(self._pool, "sentinel_manager", None), "sentinels", ()):
            await sentinel.connection_pool.disconnect()

    def _lose(self, error: BaseException) -> None:
        self._subscriptions.clear()
        self._layer.lose(error)


def _request(pipe: Pipeline, *command: str | bytes) -> asyncio.Future[Any]:
    try:
        return pipe.request(*command)
    except BacklogFull:
        counters.count("backplane_backlog_full", "too many publications and joins are waiting for Redis: refusing more")
        raise


class _Mailbox:
    """What was received for one channel and not yet taken; for one reader."""

    __slots__ = ("_arrived", "_bytes", "_items", "_room")

    def __init__(self) -> None:
        # An error stands where messages may be missing.
        self._items: collections.deque[bytes | ConnectionError] = collections.deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

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
            self._room.set()
        return item

    async def wait_for_room(self) -> None:
        while self.is_full:
            self._room.clear()
            await self._room.wait()
