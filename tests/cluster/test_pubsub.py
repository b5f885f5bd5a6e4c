"""The driver of the pub/sub layer, on a Redis of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core.checks import CheckMessage
from redis import Redis

from tests.support import simulation
from tests.support.processes import RedisServer
from tests.support.proxy import TcpProxy
from tests.support.waiting import aeventually, eventually
from wsrt import BackplaneUnavailable, Event, TypedEventConsumer, checks, publish_to_room
from wsrt.cluster import layers, pipeline, pubsub
from wsrt.cluster.backplane import Backplane
from wsrt.cluster.layers import ask, drop_layer, layer_of_loop
from wsrt.cluster.pipeline import BacklogFull, Pipeline
from wsrt.cluster.pubsub import PubSubLayer
from wsrt.metrics import counters

Use = Callable[..., Any]


class Said(Event, name="said"):
    pass


class Speaker(TypedEventConsumer):
    namespace = "pubsub"
    out_events = (Said,)


@pytest_asyncio.fixture
async def use(settings: Any) -> AsyncIterator[Use]:
    """Configure the pub/sub layer and return the instance that wsrt has of it."""
    made: list[Any] = []

    def use(*hosts: object, **config: object) -> Any:
        backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": list(hosts), **config}}}
        made.append(layer_of_loop("default"))
        return made[-1]

    yield use
    for layer in made:
        await layer.flush()


@contextlib.asynccontextmanager
async def plain(*urls: str, **config: object) -> AsyncIterator[RedisPubSubChannelLayer]:
    """The layer as other code uses it."""
    layer = RedisPubSubChannelLayer(hosts=list(urls), **config)
    yield layer
    await layer.flush()


@pytest.fixture
def second_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


# The same messages as those of the layer.


@pytest.mark.parametrize("config", [{}, {"prefix": "site:"}, {"symmetric_encryption_keys": ["key"]}])
async def test_same_wire(redis_server: RedisServer, use: Use, config: dict[str, Any]) -> None:
    """Code that calls the layer itself reaches groups and channels of wsrt's instance, and is reached."""
    ours = use(redis_server.url, **config)
    assert isinstance(ours, PubSubLayer)
    async with plain(redis_server.url, **config) as theirs:
        channel, other = await ours.new_channel("wsrt."), await theirs.new_channel()
        await theirs.group_add("room", other)
        await ours.group_add("room", channel)
        await theirs.group_send("room", {"type": "theirs", "data": b"\x00"})
        assert await ours.receive(channel) == {"type": "theirs", "data": b"\x00"}
        await ours.group_send("room", {"type": "ours"})
        assert await ours.receive(channel) == {"type": "ours"}
        assert [(await theirs.receive(other))["type"] for _ in range(2)] == ["theirs", "ours"]
        await ours.send(other, {"type": "direct"})
        await theirs.send(channel, {"type": "direct"})
        assert await ours.receive(channel) == await theirs.receive(other) == {"type": "direct"}


async def test_shards(redis_server: RedisServer, second_server: RedisServer, use: Use) -> None:
    """With several hosts every group is where the layer has it."""
    urls = (redis_server.url, second_server.url)
    ours = use(*urls)
    channel = await ours.new_channel()
    async with plain(*urls) as theirs:
        for number in range(40):
            await ours.group_add(f"room{number}", channel)
            await theirs.group_send(f"room{number}", {"type": "x", "number": number})
            assert (await ours.receive(channel))["number"] == number
        assert all(Redis.from_url(url).pubsub_channels("asgi__group__room*") for url in urls)


async def test_left_group(redis_server: RedisServer, use: Use) -> None:
    """A group that was left is no longer subscribed to, and can be joined again."""
    layer = use(redis_server.url)
    channel = await layer.new_channel()
    client = Redis.from_url(redis_server.url)
    for _ in range(3):
        await layer.group_add("room", channel)
        assert client.pubsub_numsub("asgi__group__room") == [(b"asgi__group__room", 1)]
        await layer.group_discard("room", channel)
        assert client.pubsub_numsub("asgi__group__room") == [(b"asgi__group__room", 0)]
    await layer.group_discard("room", channel)


@pytest.mark.parametrize("trouble", ["withdrawn", "refused"])
async def test_leave_is_repeated(
    trouble: str, redis_server: RedisServer, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leave that never reached Redis leaves the group when it is repeated."""
    layer = use(redis_server.url)
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    if trouble == "withdrawn":
        leaving = asyncio.create_task(layer.group_discard("room", channel))
        await asyncio.sleep(0)  # the command is queued, and isn't written yet
        leaving.cancel()
        await asyncio.wait({leaving})
    else:
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "BACKLOG_COMMANDS", 0)
            with pytest.raises(BacklogFull):
                await layer.group_discard("room", channel)
    client = Redis.from_url(redis_server.url)
    assert client.pubsub_numsub("asgi__group__room") == [(b"asgi__group__room", 1)]
    await layer.group_discard("room", channel)
    assert client.pubsub_numsub("asgi__group__room") == [(b"asgi__group__room", 0)]


def test_leave_after_a_queued_join(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group can be left whose SUBSCRIBE was queued while a connection was lost, and was sent over the next one."""

    async def run() -> None:
        redis = simulation.Redis(random.Random(1))
        monkeypatch.setattr(simulation, "FULL_BUFFERS", 1)
        with simulation.installed(monkeypatch, lambda: None):
            layer = simulation.pubsub_layer(redis)
        channel = await layer.new_channel()
        # The socket's buffer is full after the first join, so the second one waits.
        joins = []
        for number in range(2):
            joins.append(asyncio.create_task(layer.group_add(f"room{number}", channel)))
            await asyncio.sleep(0.0001)
        redis.restart()
        first, second = await asyncio.gather(*joins, return_exceptions=True)
        assert isinstance(first, ConnectionError)
        assert second is None
        assert [connection.subscribed for connection in redis.connections] == [{b"room1"}]
        await layer.group_discard("room1", channel)
        assert [connection.subscribed for connection in redis.connections] == [set()]
        await layer.flush()

    simulation.simulate(run, 1)


# Distance.


async def test_publications_are_pipelined(redis_server: RedisServer, use: Use) -> None:
    """Publications, joins and probes don't wait for each other's round trips, and publications keep their order."""
    async with TcpProxy(redis_server.port, latency=0.05) as proxy, plain(redis_server.url) as theirs:
        layer = use(proxy.url)
        channel, other = await layer.new_channel(), await theirs.new_channel()
        await theirs.group_add("room", other)
        loop = asyncio.get_running_loop()
        started = loop.time()
        calls = [layer.group_send("room", {"type": "x", "number": number}) for number in range(600)]
        calls += [layer.group_add(f"room{number}", channel) for number in range(300)]
        await asyncio.gather(*calls, layer.check())
        # One after the other they would take 45 s.
        assert loop.time() - started < 15
        assert [(await theirs.receive(other))["number"] for _ in range(600)] == list(range(600))


@pytest.mark.parametrize("config", [{}, {"symmetric_encryption_keys": ["key"]}])
async def test_batch(redis_server: RedisServer, second_server: RedisServer, use: Use, config: dict[str, Any]) -> None:
    """A batch to groups on several hosts keeps the order of each group, also between single messages."""
    layer = use(redis_server.url, second_server.url, **config)
    channel = await layer.new_channel()
    groups = [f"room{number}" for number in range(8)]
    for group in groups:
        await layer.group_add(group, channel)
    first = layer.post("room0", {"group": "room0", "number": -1})
    answers = layer.post_all([(group, {"group": group, "number": number}) for number in range(100) for group in groups])
    await layer.group_send("room0", {"group": "room0", "number": 100})
    await answers.done
    await first
    assert not answers.errors
    received: dict[str, list[int]] = {}
    for _ in range(802):
        message = await layer.receive(channel)
        received.setdefault(message["group"], []).append(message["number"])
    assert received == {group: [*range(100)] for group in groups} | {"room0": [*range(-1, 101)]}


async def test_batch_with_a_message_that_cannot_be_sent(redis_server: RedisServer, use: Use) -> None:
    """A message that can't be serialized fails alone, in all its groups."""
    layer = use(redis_server.url)
    bad: dict[str, Any] = {"type": object()}
    answers = layer.post_all([("a", {"type": "x"}), ("a", bad), ("b", bad), ("b", {"type": "y"})])
    await answers.done
    assert sorted(answers.errors) == [1, 2]
    assert isinstance(answers.errors[2], TypeError)


async def test_join_is_confirmed(redis_server: RedisServer, use: Use) -> None:
    """What another process publishes once a join has returned arrives, however far Redis is."""
    async with TcpProxy(redis_server.port, latency=0.05) as proxy, plain(redis_server.url) as theirs:
        layer = use(proxy.url)
        channel = await layer.new_channel()
        for number in range(20):
            await layer.group_add(f"room{number}", channel)
            await theirs.group_send(f"room{number}", {"type": "x", "number": number})
            async with asyncio.timeout(10):
                assert (await layer.receive(channel))["number"] == number


async def test_second_joiner_waits_too(redis_server: RedisServer, use: Use) -> None:
    """Who joins while a subscription is on its way waits for its confirmation, though the first gives up."""
    async with TcpProxy(redis_server.port, latency=0.2) as proxy:
        layer = use(proxy.url)
        channel = await layer.new_channel()
        first, second = (asyncio.create_task(layer.group_add("room", channel)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert not second.done()
        await second
        assert Redis.from_url(redis_server.url).pubsub_numsub("asgi__group__room") == [(b"asgi__group__room", 1)]


# Limits.


async def test_backlog_is_bounded_in_commands(
    redis_server: RedisServer, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More publications than may wait are refused at once and counted; when the others are through there is room."""
    monkeypatch.setattr(pipeline, "BACKLOG_COMMANDS", 10)
    before = counters["backplane_backlog_full"]
    layer = use(redis_server.url)
    waiting = [asyncio.create_task(layer.group_send("room", {"type": "x"})) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(BackplaneUnavailable, match="BacklogFull"):
        await ask("accept a publication", layer.group_send("room", {"type": "x"}))
    assert counters["backplane_backlog_full"] == before + 1
    assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    await layer.group_send("room", {"type": "x"})


async def test_backlog_is_bounded_in_bytes(
    redis_server: RedisServer, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backlog has a limit in bytes, of which nothing is kept once it is through."""
    monkeypatch.setattr(pipeline, "BACKLOG_BYTES", 10_000)
    layer = use(redis_server.url)
    for _ in range(5):
        waiting = asyncio.create_task(layer.group_send("room", {"type": "x", "text": "x" * 6_000}))
        await asyncio.sleep(0)
        with pytest.raises(BacklogFull):
            await layer.group_send("room", {"type": "x", "text": "x" * 6_000})
        await waiting


async def test_mailbox_is_bounded(redis_server: RedisServer, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the node doesn't take its messages Redis is read no further, and nothing is lost when it goes on."""
    monkeypatch.setattr(pubsub, "MAILBOX_MESSAGES", 10)
    layer = use(redis_server.url)
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    async with plain(redis_server.url) as theirs:
        for number in range(200):
            await theirs.group_send("room", {"type": "x", "number": number})
    await aeventually(lambda: layer._mailboxes[channel].is_full)
    assert len(layer._mailboxes[channel]._items) == 10
    assert [(await layer.receive(channel))["number"] for _ in range(200)] == list(range(200))


# Broken connections.


async def test_lost_subscriptions(redis_server: RedisServer, use: Use) -> None:
    """When Redis ends the connection receive() says so, after what came before; a group is subscribed to again then."""
    layer = use(redis_server.url)
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.group_send("room", {"type": "before"})
    client = Redis.from_url(redis_server.url)
    client.client_kill_filter(_type="pubsub")
    await aeventually(lambda: client.pubsub_numsub("asgi__group__room")[0][1] == 0)
    assert await layer.receive(channel) == {"type": "before"}
    with pytest.raises(ConnectionError, match="subscriptions was lost"):
        await layer.receive(channel)
    await layer.group_add("room", channel)
    await layer.group_send("room", {"type": "after"})
    assert await layer.receive(channel) == {"type": "after"}


@pytest.mark.parametrize("how", ["restart", "reset", "kill"])
async def test_node_hears_again(redis_server: RedisServer, use: Use, how: str) -> None:
    """After a lost connection every group of the node is confirmed again, not only its own."""
    async with TcpProxy(redis_server.port) as proxy, plain(redis_server.url) as theirs:
        use(proxy.url)
        heard: list[dict[str, Any]] = []

        async def hear(message: dict[str, Any]) -> None:
            heard.append(message)

        plane = Backplane("default", "n1", hear)
        for number in range(20):
            await plane.acquire(f"room{number}")
        before = counters["backplane_rejoins"]
        if how == "restart":
            await asyncio.to_thread(redis_server.stop)
            await asyncio.to_thread(redis_server.start)
            await theirs.flush()
        elif how == "reset":
            proxy.reset()
        else:
            Redis.from_url(redis_server.url).client_kill_filter(_type="pubsub")
        await aeventually(lambda: counters["backplane_rejoins"] > before)
        for number in range(20):
            await plane.acquire(f"room{number}")
            await theirs.group_send(f"room{number}", {"type": "x", "number": number})
        await aeventually(lambda: [message["number"] for message in heard] == list(range(20)))
        for task in list(plane._tasks):
            task.cancel()
        assert plane._line is not None
        await drop_layer("default", plane._line.layer)


async def test_shard_that_falls_silent(
    redis_server: RedisServer, second_server: RedisServer, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose connections are dead is noticed though the node's own group is on another."""
    async with TcpProxy(redis_server.port) as first, TcpProxy(second_server.port) as second:
        layer = use(first.url, second.url)
        plane = Backplane("default", "n1", lambda message: asyncio.sleep(0))
        await plane.acquire("room")
        for number in range(20):
            await plane.acquire(f"room{number}")
            await layer.group_send(f"room{number}", {"type": "x"})
        assert await plane._probe()
        monkeypatch.setattr("wsrt.cluster.backplane.ANSWER_SECONDS", 0.2)
        for proxy in (first, second):
            proxy.blackhole()
            assert not await plane._probe()
            proxy.restore()
            for task in list(plane._tasks):
                task.cancel()
            await drop_layer("default", layer)
            layer = layer_of_loop("default")
            plane = Backplane("default", "n1", lambda message: asyncio.sleep(0))
            for number in range(20):
                await plane.acquire(f"room{number}")
                await layer.group_send(f"room{number}", {"type": "x"})
            assert await plane._probe()
        for task in list(plane._tasks):
            task.cancel()
        await drop_layer("default", layer)


async def test_refused_subscription(redis_server: RedisServer, use: Use) -> None:
    """A subscription that Redis refuses is the joiner's error alone: the connection and other groups go on."""
    client = Redis.from_url(redis_server.url)
    client.execute_command("ACL", "SETUSER", "default", "resetchannels", "&asgi*open", "&asgiwsrt*")
    layer = use(redis_server.url)
    channel = await layer.new_channel("wsrt.")
    await layer.group_add("open", channel)
    with pytest.raises(Exception, match="permissions"):
        await layer.group_add("secret", channel)
    with pytest.raises(Exception, match="permissions"):
        await layer.group_send("secret", {"type": "x"})
    await layer.group_send("open", {"type": "x"})
    assert await layer.receive(channel) == {"type": "x"}


async def test_idle_subscription(redis_server: RedisServer, use: Use) -> None:
    """A subscription that is idle for longer than the time-out of a host is neither an error nor lost."""
    layer = use({"address": redis_server.url, "socket_timeout": 0.2, "health_check_interval": 0.1})
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0.6)  # three times the time-out
    assert not receiving.done()
    await layer.group_send("room", {"type": "x"})
    assert await receiving == {"type": "x"}


def test_publication_that_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication whose caller gave up before it was written is never sent; one that was written may be."""

    async def run() -> None:
        redis = simulation.Redis(random.Random(1))
        with simulation.installed(monkeypatch, lambda: None):
            near, far = simulation.pubsub_layer(redis), simulation.pubsub_layer(redis)
        channel = await near.new_channel()
        await near.group_add("room", channel)
        given_up = asyncio.create_task(far.group_send("room", {"number": 1}))
        await asyncio.sleep(0)  # it waits for the connection
        given_up.cancel()
        await far.group_send("room", {"number": 2})
        assert await near.receive(channel) == {"number": 2}
        await near.flush()
        await far.flush()

    simulation.simulate(run, 1)


async def test_publishing_without_a_node(
    redis_server: RedisServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no node watches over the connections, one that doesn't answer is given up by the publication it fails."""
    backend = "channels_redis.pubsub.RedisPubSubChannelLayer"

    def publish() -> None:
        publish_to_room("a", Said(), namespace="pubsub", on_commit=False)

    async with TcpProxy(redis_server.port) as proxy:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [proxy.url]}}}
        await asyncio.to_thread(publish)
        monkeypatch.setattr(layers, "LAYER_SECONDS", 0.3)
        proxy.blackhole()
        with pytest.raises(BackplaneUnavailable, match="TimeoutError"):
            await asyncio.to_thread(publish)
        proxy.restore()
        monkeypatch.undo()
        await asyncio.to_thread(publish)


async def test_connection_that_breaks(redis_server: RedisServer) -> None:
    """Commands that were written when the connection breaks fail; those that come then use a new one."""
    from channels_redis.utils import create_pool

    async with TcpProxy(redis_server.port) as proxy:
        pipe = Pipeline(create_pool({"address": proxy.url, "protocol": 2}))
        assert await pipe.request("PING") == b"PONG"
        proxy.blackhole()
        lost = pipe.request("PING")
        await asyncio.sleep(0.05)  # let it be written
        proxy.reset()
        proxy.restore()
        with pytest.raises(ConnectionError):
            await lost
        assert await pipe.request("PING") == b"PONG"
        await pipe.close()
        with pytest.raises(ConnectionError, match="closed"):
            pipe.request("PING")


def test_nothing_stays_open(redis_server: RedisServer, settings: Any) -> None:
    """A loop that is closed leaves no connection open."""
    backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [redis_server.url]}}}

    async def use() -> None:
        layer = layer_of_loop("default")
        channel = await layer.new_channel("wsrt.")
        await layer.group_add("room", channel)
        await layer.group_send("room", {"type": "x"})

    client = Redis.from_url(redis_server.url)
    client.ping()
    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    thread.join()
    eventually(lambda: len(client.client_list()) == 1)


# Libraries that aren't as they are known.


class Overriding(RedisPubSubChannelLayer):
    """Does something of its own with what is published."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await super()._get_layer().group_send(group, message)


def check() -> list[CheckMessage]:
    return [message for message in checks.check_layers() if message.id == "wsrt.W011"]


async def test_missing_feature(redis_server: RedisServer, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a library lacks a feature the layer's own calls are used, a check and the log say so, and joins hold."""
    lost = ("channels_redis.utils", "no_such_function", ())
    monkeypatch.setattr(pubsub, "FEATURES", (*pubsub.FEATURES, lost))
    before = counters["pubsub_not_driven"]
    layer = use(redis_server.url)
    assert type(layer) is RedisPubSubChannelLayer
    assert counters["pubsub_not_driven"] == before + 1
    (message,) = check()
    assert "channels_redis.utils.no_such_function" in message.msg
    assert message.hint
    heard: list[Any] = []

    async def hear(message: dict[str, Any]) -> None:
        heard.append(message["number"])

    async with plain(redis_server.url) as theirs:
        plane = Backplane("default", "n1", hear)
        for number in range(5):
            await plane.acquire(f"room{number}")
            await theirs.group_send(f"room{number}", {"type": "x", "number": number})
        await aeventually(lambda: heard == list(range(5)))
        for task in list(plane._tasks):
            task.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("feature", pubsub.FEATURES, ids=lambda feature: feature[1])
def test_features_are_looked_for(feature: tuple[str, str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attribute that the driver needs is found missing where it is."""
    assert pubsub.missing_features() == []
    module, name, attributes = feature
    for attribute in attributes:
        monkeypatch.setattr(pubsub, "FEATURES", ((module, name, (f"{attribute}_of_tomorrow",)),))
        assert pubsub.missing_features() == [f"{module}.{name}.{attribute}_of_tomorrow"]
    monkeypatch.setattr(pubsub, "FEATURES", ((f"{module}_of_tomorrow", name, ()),))
    assert pubsub.missing_features() == [f"{module}_of_tomorrow.{name}"]


async def test_layers_that_are_not_driven(redis_server: RedisServer, settings: Any) -> None:
    """A layer with calls of its own keeps them, and one whose host asks for RESP3 is used by its own calls."""
    for backend, host in [
        (f"{__name__}.Overriding", redis_server.url),
        ("channels_redis.pubsub.RedisPubSubChannelLayer", redis_server.url + "?protocol=3"),
    ]:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [host]}}}
        before = counters["pubsub_not_driven"]
        assert isinstance(layer_of_loop("default"), RedisPubSubChannelLayer)
        assert counters["pubsub_not_driven"] == before + 1


def test_redis_py_without_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redis-py from before protocols could be chosen is found to lack that."""
    from redis.asyncio.connection import AbstractConnection

    monkeypatch.setattr(AbstractConnection, "__init__", lambda self, host: None)
    assert pubsub.missing_features() == ["redis.asyncio.connection.AbstractConnection(protocol=)"]


@pytest.mark.parametrize("kind", ["pubsub.RedisPubSubChannelLayer", "core.RedisChannelLayer"])
async def test_instances_that_are_given_up(redis_server: RedisServer, settings: Any, kind: str) -> None:
    """An instance that is given up stays neither in memory nor in the way that the loop is closed."""
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": f"channels_redis.{kind}", "CONFIG": {"hosts": [redis_server.url]}}
    }
    loop: Any = asyncio.get_running_loop()
    close = loop.close
    gone = []
    for _ in range(3):
        layer = layer_of_loop("default")
        await layer.group_send("room", {"type": "x"})
        assert loop.close != close
        await drop_layer("default", layer)
        gone.append(weakref.ref(layer))
        del layer
    assert loop.close == close
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
    client = Redis.from_url(redis_server.url)
    await aeventually(lambda: len(client.client_list()) == 1)


def test_closing_a_layer_twice() -> None:
    """A layer that isn't ours to close is left alone."""

    async def run() -> None:
        await drop_layer("default", None)
        assert not layers.forget_layer("default", object())  # type: ignore[arg-type]

    asyncio.run(run())
