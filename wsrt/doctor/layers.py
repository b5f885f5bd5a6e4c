"""Findings about channel layers, from messages sent through them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import time
from collections.abc import Iterator
from typing import Any

from channels.layers import get_channel_layer

from ..cluster.layers import Layer, drop_layer, is_local, layer_of_loop
from ..cluster.pubsub import is_pubsub
from ..conf import conf
from ..protocol.namespaces import namespaces
from .finding import Finding, ok, warning

TRIPS = 5
"""Number of messages sent, one after the other. The median of their times is reported."""

RESEND_SECONDS = 0.5
"""Seconds after which a message is sent again, because the first may arrive before the group is joined."""

SLOW_MS = 100
"""Round trips slower than this are a warning, in milliseconds. In one data center they take a few."""


def aliases() -> list[str]:
    """Return the aliases of the layers that the consumers use."""
    consumers = [consumer for namespace in namespaces.values() for consumer in namespace.consumers]
    named = {getattr(consumer, "channel_layer_alias", None) for consumer in consumers}
    return sorted({alias for alias in named if alias} | {conf.channel_layer_alias})


async def examine(alias: str) -> Iterator[Finding]:
    """Return findings about a layer: whether it delivers messages, and how long that takes."""
    subject = f"layer {alias!r}"
    if is_local(alias):
        seen = "none" if get_channel_layer(alias) is None else "in memory"
        return iter([ok(subject, f"{seen}: reaches this process only", is_local=True)])
    layer: Any = layer_of_loop(alias)
    try:
        trips = await round_trips(layer)
    finally:
        await drop_layer(alias, layer)
    middle = statistics.median(trips)
    names = () if is_pubsub(layer) else ("capacity", "expiry", "group_expiry")
    facts = {name: getattr(layer, name) for name in names if hasattr(layer, name)}
    kept = ", ".join(f"{name} {value}" for name, value in facts.items()) or "no capacity and no expiry"
    backend = type(get_channel_layer(alias))
    seen = f"{backend.__qualname__}: a message through a group took {middle:.1f} ms; {kept}"
    facts |= {"backend": f"{backend.__module__}.{backend.__qualname__}", "round_trip_ms": round(middle, 2)}
    if middle > SLOW_MS:
        advice = "Every publication takes that long. Move the layer's server closer, or find out what keeps it busy."
        return iter([warning(subject, seen, advice, **facts)])
    return iter([ok(subject, seen, **facts)])


async def round_trips(layer: Layer) -> list[float]:
    """Send messages through a group of our own; return the time of each in milliseconds."""
    channel = await layer.new_channel("wsrt.")
    group = f"wsrt.doctor.{secrets.token_hex(8)}"
    arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def receive() -> None:
        while True:
            arrived.put_nowait((await layer.receive(channel)).get("number"))

    await layer.group_add(group, channel)
    receiving = asyncio.create_task(receive())
    try:
        return [await _trip(layer, group, number, arrived, receiving) for number in range(TRIPS)]
    finally:
        receiving.cancel()
        # The wait is bounded, because redis-py swallows cancellations on Python 3.11.
        await asyncio.wait([receiving], timeout=0.1)
        # A call that hung before would hang again.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(RESEND_SECONDS):
                await layer.group_discard(group, channel)


async def _trip(
    layer: Layer, group: str, number: int, arrived: asyncio.Queue[Any], receiving: asyncio.Task[None]
) -> float:
    while True:
        begun = time.perf_counter()
        await layer.group_send(group, {"type": "wsrt.doctor", "number": number})
        try:
            async with asyncio.timeout(RESEND_SECONDS):
                while await arrived.get() != number:
                    pass
        except TimeoutError:
            if receiving.done():
                receiving.result()
            continue
        return (time.perf_counter() - begun) * 1000
