"""
Compare the publications of one transaction with a raw pipeline of Redis, from the first call to the end of the commit.

``benchmarks.history`` runs it and keeps the figures.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

PUBLICATIONS = 10_000
"""The publications of a transaction."""

ROOMS = (1, 100, 10_000)
"""The numbers of rooms that they go to."""

WAYS = ("one publish_many", "single calls")
"""How a transaction publishes."""


def configure(url: str) -> None:
    """Set up Django with the pub/sub layer and history in Redis."""
    import django
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        USE_TZ=True,
        INSTALLED_APPS=["channels", "wsrt"],
        CHANNEL_LAYERS={
            "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [url]}}
        },
        WSRT={"HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": url}},
    )
    django.setup()


def measure(url: str, rounds: int, publications: int = PUBLICATIONS) -> Iterator[tuple[str, str, int, float]]:
    """
    Measure the batches, each in turn with a pipeline of PUBLISH that has the same channels and the same bytes.

    Args:
        url: The address of Redis.
        rounds: How often each is measured. The shortest times are compared: other programs only add to them.
        publications: The publications of a transaction.

    Yields:
        The kind of events, the way to publish, the number of rooms, and the ratio of the times.
    """
    configure(url)
    import redis
    from django.db import transaction

    from benchmarks.publishing import KINDS, NAMESPACE, TEXT
    from wsrt import Event, publish_many, publish_to_room
    from wsrt import addresses as to

    client: Any = redis.Redis.from_url(url)
    for kind, cls in KINDS.items():
        for rooms in ROOMS:
            batch: list[tuple[Any, Event]] = [
                (to.Room(f"room-{number % rooms}"), cls(text=TEXT)) for number in range(publications)
            ]
            posts = _posts(batch)

            def raw(posts: list[tuple[str, bytes]] = posts) -> None:
                pipeline = client.pipeline(transaction=False)
                for channel, message in posts:
                    pipeline.publish(channel, message)
                pipeline.execute()

            def together(batch: list[tuple[Any, Event]] = batch) -> None:
                with transaction.atomic():
                    publish_many(batch, namespace=NAMESPACE)

            def singly(batch: list[tuple[Any, Event]] = batch) -> None:
                with transaction.atomic():
                    for room, event in batch:
                        publish_to_room(room.name, event, namespace=NAMESPACE)

            ways: dict[str, Callable[[], None]] = {"raw": raw, "one publish_many": together, "single calls": singly}
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, act in ways.items():
                    times[way].append(_taken(act))
            for way in WAYS:
                yield kind, way, rooms, min(times[way]) / min(times["raw"])
    client.close()


def _posts(batch: list[tuple[Any, Any]]) -> list[tuple[str, bytes]]:
    """Return the channels and messages that Redis gets for publications."""
    from wsrt.cluster import background_loop
    from wsrt.cluster.layers import layer_of_loop
    from wsrt.cluster.messages import Kept
    from wsrt.cluster.outgoing import prepare
    from wsrt.types import Position

    async def layer() -> Any:
        return layer_of_loop("default")

    names = background_loop.run(layer())
    posts = []
    for number, (room, event) in enumerate(batch):
        outgoing = prepare(room, event, "bench", None)
        item: Any = outgoing.item
        if item.kept is not None:
            item.keep(Kept(Position("0" * 16, number), item.kept.id, None))
        [group] = outgoing.groups
        posts.append((names._name_of(group), names.layer.serialize(item.to_message())))
    return posts


def _taken(act: Callable[[], None]) -> float:
    # The garbage of the measurement before isn't a part of this one.
    gc.collect()
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
