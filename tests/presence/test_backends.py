"""The stores of event loops: made at first use, and closed with the loop."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.processes import RedisServer
from wsrt.presence import backends
from wsrt.presence.backends import close_stores, store_of_loop
from wsrt.presence.memory import MemoryPresence

REDIS = "wsrt.presence.redis.RedisPresence"

PROGRAM = """
import asyncio, gc
import django
django.setup()
from asgiref.sync import async_to_sync
from django.test.utils import override_settings
from redis import Redis
from wsrt import presence
from wsrt.conf import conf

location = conf.presence["LOCATION"]

def connections():
    gc.collect()
    with Redis.from_url(location, client_name="looking") as client:
        return sum(other["name"] != "looking" for other in client.client_list())

async def with_other_settings():
    await presence.acount("a")
    settings = {**conf.presence, "OPTIONS": {"LEASE": 20}}
    with override_settings(WSRT={"PRESENCE": settings}):
        await presence.acount("a")
    return connections()

asyncio.run(presence.acount("a"))
async_to_sync(presence.acount)("a")
print(asyncio.run(with_other_settings()), connections())
presence.count("a")
print(connections())
"""


def test_closed_with_the_loop(redis_server: RedisServer) -> None:
    """What asyncio.run and async_to_sync end leaves no connection to Redis, and nothing for the garbage collector."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "WSRT_TEST_SETTINGS": json.dumps({"PRESENCE": {"BACKEND": REDIS, "LOCATION": redis_server.url}}),
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stderr == ""
    assert ran.stdout.split() == ["2", "0", "1"]


class Counting(MemoryPresence):
    """Counts how often it was closed; the first one fails at that."""

    closed: list[Counting] = []

    async def close(self) -> None:
        self.closed.append(self)
        if len(self.closed) == 1:
            raise RuntimeError("closing failed")


async def test_stores_of_former_settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One store is made for each settings that a loop sees, and all of them are closed, whatever one of them raises."""
    monkeypatch.setattr(Counting, "closed", [])
    made = []
    for lease in (30, 30, 20):
        settings.WSRT = {"PRESENCE": {"BACKEND": f"{__name__}.Counting", "OPTIONS": {"LEASE": lease}}}
        made.append(store_of_loop())
    assert made[0] is made[1]
    assert made[1] is not made[2]
    await close_stores()
    assert Counting.closed == [made[0], made[2]]


def test_loops_that_are_gone() -> None:
    """Loops that were closed are forgotten, however they were."""
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(_open())
        loop.close()
    asyncio.run(_open())
    assert sum(loop.is_closed() for loop, _ in backends._stores._values.values()) <= 1


async def _open() -> None:
    assert store_of_loop() is not None
