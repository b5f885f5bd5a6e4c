"""A channel layer whose faults a test can stage."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

from channels.layers import channel_layers

from wsrt.cluster.backplane import PROBE


class FakeLayer:
    """
    Groups and channels in memory, as another process would have them.

    Attributes:
        is_down: Every call raises ConnectionError.
        failing: The names of methods that raise.
        is_deaf: Messages are accepted but not delivered, as with connections that died without being closed.
        gate: An event that calls wait for.
        latency: The seconds that each call takes.
        delay: The seconds after which a group_add() that has returned takes effect.
        calls: The number of calls by method and group. The method of the node's messages to itself is "probe".
    """

    group_expiry: float = 86400

    def __init__(self) -> None:
        self.is_down = False
        self.failing: set[str] = set()
        self.is_deaf = False
        self.latency = 0.0
        self.delay = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: collections.Counter[tuple[str, str]] = collections.Counter()
        self.groups: dict[str, set[str]] = {}
        self.queues: dict[str, asyncio.Queue[Any]] = {}
        self._numbers = itertools.count(1)

    async def new_channel(self, prefix: str = "specific.") -> str:
        await self._serve("new_channel")
        name = f"{prefix}!{next(self._numbers)}"
        self.queues[name] = asyncio.Queue()
        return name

    async def receive(self, channel: str) -> dict[str, Any]:
        item = await self.queues[channel].get()
        if isinstance(item, BaseException):
            raise item
        return json.loads(item)  # type: ignore[no-any-return]

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await self._serve("send")
        self.queues[channel].put_nowait(json.dumps(message))

    async def group_add(self, group: str, channel: str) -> None:
        await self._serve("group_add", group)
        members = self.groups.setdefault(group, set())
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, members.add, channel)
        else:
            members.add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._serve("group_discard", group)
        self.groups.get(group, set()).discard(channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._serve("probe" if message["type"] == PROBE else "group_send", group)
        if not self.is_deaf:
            for channel in self.groups.get(group, ()):
                self.queues[channel].put_nowait(json.dumps(message))

    def members(self, group: str) -> int:
        return len(self.groups.get(group, ()))

    def fail(self, error: BaseException) -> None:
        """Let every receive() that waits raise."""
        for queue in self.queues.values():
            queue.put_nowait(error)

    async def _serve(self, method: str, group: str = "") -> None:
        self.calls[method, group] += 1
        await self.gate.wait()
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.is_down or method in self.failing:
            raise ConnectionError("the layer is down")


@contextlib.contextmanager
def installed(layer: FakeLayer, alias: str = "default") -> Iterator[FakeLayer]:
    """Put a layer into the place of an alias."""
    before = channel_layers.set(alias, layer)
    try:
        yield layer
    finally:
        if before is None:
            del channel_layers.backends[alias]
        else:
            channel_layers.set(alias, before)
