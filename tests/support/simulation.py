"""A loop whose time is simulated, and a Redis with staged faults: what depends on timing is run by seed, in no time."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import random
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.eager import eager_task_factory
from wsrt.cluster import layers
from wsrt.cluster.pubsub import PubSubLayer

FULL_BUFFERS = 0.2
"""How often the buffer of a socket is full after a batch of commands, as a fraction."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Never waits: when nothing is ready, the time of the next timer has come."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:  # type: ignore[attr-defined]
            import heapq

            heapq.heappop(self._scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]
            if not self._scheduled:  # type: ignore[attr-defined]
                raise RuntimeError("everything waits, and there is no timer")
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def simulate(work: Callable[[], Coroutine[Any, Any, None]], seed: int, *, eager: bool = False) -> None:
    """Run a coroutine in a simulated loop, with the module random seeded; ``eager`` starts tasks eagerly."""
    state = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
            if eager:
                runner.get_loop().set_task_factory(eager_task_factory)
            runner.run(work())
    finally:
        random.setstate(state)


class Redis:
    """
    What layers share, and the way to it.

    Attributes:
        state: "up", "down" (refuses), "hole" (swallows what connections of now carry, for good), or "slow".
        groups: memberships that are stored, by group.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.state = "up"
        self.groups: dict[str, set[str]] = {}
        self.queues: dict[str, collections.deque[str]] = collections.defaultdict(collections.deque)
        self.arrived = asyncio.Event()
        self.connections: set[Connection] = set()
        # Grows with each black hole: connections of before are dead.
        self.epoch = 0

    def enter(self, state: str) -> None:
        self.state = state
        if state == "hole":
            self.epoch += 1

    def restart(self) -> None:
        """Forget everything and end all connections."""
        self.groups.clear()
        self.queues.clear()
        self.epoch += 1
        self.arrived.set()
        for connection in list(self.connections):
            connection.die()

    def is_lost(self, epoch: int) -> bool:
        """Return whether what a connection of an epoch carries is swallowed."""
        return epoch != self.epoch or self.state == "hole"

    def latency(self) -> float:
        return self.rng.uniform(0, 4) if self.state == "slow" else self.rng.uniform(0.0005, 0.002)

    def publish(self, group: str, text: str) -> None:
        for channel in self.groups.get(group, ()):
            self.queues[channel].append(text)
        self.arrived.set()


class StoringLayer:
    """A layer whose memberships are stored in Redis, as those of the core layer are."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.epoch = redis.epoch
        self.closed = asyncio.Event()

    async def new_channel(self, prefix: str = "specific.") -> str:
        await self._call(lambda: None)
        return f"{prefix}!{self.redis.rng.getrandbits(64):x}"

    async def receive(self, channel: str) -> dict[str, Any]:
        redis, epoch = self.redis, self.redis.epoch
        while True:
            if redis.state == "down" or (epoch != redis.epoch and redis.state != "hole"):
                await asyncio.sleep(redis.latency())
                raise ConnectionError("the connection was lost")
            if not redis.is_lost(epoch) and redis.queues[channel]:
                return json.loads(redis.queues[channel].popleft())  # type: ignore[no-any-return]
            redis.arrived.clear()
            await redis.arrived.wait()

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await self._call(lambda: self.redis.queues[channel].append(json.dumps(message)))

    async def group_add(self, group: str, channel: str) -> None:
        await self._call(lambda: self.redis.groups.setdefault(group, set()).add(channel))

    async def group_discard(self, group: str, channel: str) -> None:
        await self._call(lambda: self.redis.groups.get(group, set()).discard(channel))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._call(lambda: self.redis.publish(group, json.dumps(message)))

    async def close_pools(self) -> None:
        self.closed.set()

    async def _call(self, effect: Callable[[], object]) -> None:
        redis = self.redis
        if redis.state == "down":
            await asyncio.sleep(redis.latency())
            raise ConnectionError("connection refused")
        epoch = redis.epoch
        if redis.state == "hole":
            await self.closed.wait()
            raise ConnectionError("closed")
        # The answer may be lost where the command was not, and the other way around. A caller that is cancelled doesn't
        # stop a command that was sent.
        share = redis.rng.random()
        latency = redis.latency()
        asyncio.get_running_loop().call_later(latency * share, lambda: redis.is_lost(epoch) or effect())
        await asyncio.sleep(latency)
        if redis.is_lost(epoch):
            await self.closed.wait()
            raise ConnectionError("closed")


class Connection:
    """A connection of redis-py to a Redis that only knows PUBLISH, SUBSCRIBE, UNSUBSCRIBE and PING."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.epoch = redis.epoch
        self.answers: collections.deque[Any] = collections.deque()
        self.answered = asyncio.Event()
        self.subscribed: set[bytes] = set()
        self.is_dead = False
        # What is on its way to Redis, oldest first, and when the last of it arrives.
        self._sent: collections.deque[list[bytes]] = collections.deque()
        self._due = 0.0

    async def connect(self) -> None:
        redis = self.redis
        await asyncio.sleep(redis.latency())
        if redis.state == "down":
            raise ConnectionError("connection refused")
        if redis.state == "hole":
            await asyncio.Event().wait()
        self.epoch = redis.epoch
        redis.connections.add(self)

    async def disconnect(self, nowait: bool = False) -> None:
        self.redis.connections.discard(self)
        self.die()

    async def send_packed_command(self, batch: list[bytes], check_health: bool = True) -> None:
        loop = asyncio.get_running_loop()
        # One after the other, however long each is on its way: timers of the same time are called in any order.
        self._sent.append(batch)
        self._due = max(self._due, loop.time() + self.redis.latency())
        loop.call_at(self._due, lambda: self._serve(self._sent.popleft()))
        # When the socket's buffer is full, further commands wait, and may be withdrawn. A black hole never empties it.
        if self.redis.rng.random() >= FULL_BUFFERS:
            await asyncio.sleep(0)
        elif self.redis.is_lost(self.epoch):
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self._due - loop.time())

    async def read_response(self, disable_decoding: bool = False) -> Any:
        while not self.answers:
            if self.is_dead:
                raise ConnectionError("closed by the server")
            self.answered.clear()
            await self.answered.wait()
        return self.answers.popleft()

    @property
    def _reader(self) -> Connection:
        return self

    async def read(self, size: int) -> bytes:
        """As the stream of a connection without subscriptions, which has answers of one line."""
        answer = await self.read_response()
        return b":%d\r\n" % answer if isinstance(answer, int) else b"+%b\r\n" % answer

    def deliver(self, answer: Any) -> None:
        if not self.redis.is_lost(self.epoch):
            self.answers.append(answer)
            self.answered.set()

    def die(self) -> None:
        self.is_dead = True
        self.answered.set()

    def _serve(self, batch: list[bytes]) -> None:
        if self.is_dead or self.redis.is_lost(self.epoch):
            return
        for packed in batch:
            name, *arguments = packed.split(b"\r\n")[2::2]
            if name == b"SUBSCRIBE":
                self.subscribed.add(arguments[0])
                self.deliver([b"subscribe", arguments[0], len(self.subscribed)])
            elif name == b"UNSUBSCRIBE":
                self.subscribed.discard(arguments[0])
                self.deliver([b"unsubscribe", arguments[0], len(self.subscribed)])
            elif name == b"PUBLISH":
                for other in list(self.redis.connections):
                    if arguments[0] in other.subscribed:
                        other.deliver([b"message", *arguments])
                self.deliver(1)
            else:
                self.deliver(b"PONG")


def pubsub_layer(redis: Redis) -> PubSubLayer:
    """Return the real driver, on simulated connections."""
    names = SimpleNamespace(
        prefix="",
        _get_group_channel_name=lambda group: group,
        _shards=[SimpleNamespace(host={"simulated": redis})],
    )
    names._get_shard = lambda name: names._shards[0]
    return PubSubLayer(
        SimpleNamespace(
            _get_layer=lambda: names,
            _layers={},
            serialize=lambda message: json.dumps(message).encode(),
            deserialize=json.loads,
        )
    )


@contextlib.contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> Iterator[None]:
    """Have the node of every loop get its layers from a function."""

    def pool_of(host: dict[str, Any]) -> Any:
        return SimpleNamespace(connection_kwargs={"protocol": 2}, make_connection=lambda: Connection(host["simulated"]))

    with monkeypatch.context() as patch:
        patch.setattr("channels_redis.utils.create_pool", pool_of)
        patch.setattr(layers, "_make", lambda alias, shared: make())
        yield
