"""The duration of Redis commands, which doesn't grow with the number of members, by Redis' own log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from benchmarks.blocking import Crowd, Durations, measure, taken_by
from tests.support.processes import RedisServer
from tests.support.report import note
from wsrt.presence.redis import RedisPresence

YARDSTICK = 1000
"""Fields of a hash that Redis is asked to look at: what everything else is compared with."""

MOST = 5.0
"""The limit for any command, as a multiple. A command that reads all members takes 8 or 20 times as long."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize(("members", "repeats"), [(8_000, 2), pytest.param(20_000, 3, marks=pytest.mark.slow)])
async def test_no_command_is_long(server: RedisServer, members: int, repeats: int) -> None:
    """With thousands of members in a room, no command takes Redis much longer than to read 1,000 fields of a hash."""
    store = RedisPresence(server.url, lease=3600, pace=1e6, timeout=60)
    async with Redis.from_url(server.url, socket_timeout=60) as client:
        crowd = Crowd(store, members)
        await crowd.fill()
        before = await look(client, store)
        found = await measure(client, crowd, repeats=repeats)
        yardstick = max(before, await look(client, store))
    await store.close()
    assert {"EVALSHA apply", "EVALSHA purge", "HSCAN"} <= {took.command for took in found.values()}
    what, took = max(found.items(), key=lambda item: item[1].low)
    note(
        "The longest command of presence",
        f"{took.low / yardstick:.1f} times a look at {YARDSTICK:,} fields ({took.command}, {what})",
    )
    too_long = {what: took for what, took in found.items() if took.low > MOST * yardstick}
    assert not too_long, f"a look at {YARDSTICK:,} fields takes {yardstick:.2f} ms"


async def look(client: Redis, store: RedisPresence) -> float:
    """Return the milliseconds that Redis takes for the yardstick."""
    await client.config_set("slowlog-log-slower-than", 0)
    counts = store._keys.room(("crowd", "large")).counts
    taken: list[float] = []
    for _ in range(20):
        taken += (await taken_by(client, store._execute("HSCAN", counts, 0, "COUNT", YARDSTICK)))["HSCAN"]
    return Durations.of("HSCAN", taken).low
