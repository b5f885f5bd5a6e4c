"""Claims that are made to harm: they are bounded and counted, and other clients don't notice."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from benchmarks.sockets import connect
from tests.support.client import closed, dial, request
from tests.support.member import Member, Speaker
from tests.support.processes import RedisServer, Server
from tests.support.redis import command_calls

pytestmark = pytest.mark.servers

ATTACKERS = 4
SECONDS = 4.0
"""How long they attack, in seconds."""

MISSED = 80


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def server(redis: RedisServer) -> Iterator[Server]:
    wsrt = {
        "HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis.url},
        "HEARTBEAT": None,
        "SETUP_TIMEOUT": 60,
    }
    with Server(
        "uvicorn", application="tests.apps.kept:application", layer="pubsub", redis=redis.url, wsrt=wsrt, measured=True
    ) as running:
        yield running


@pytest_asyncio.fixture(autouse=True)
async def nothing_raised(server: Server) -> AsyncIterator[None]:
    """Nothing is raised in the server, and it serves afterwards."""
    yield
    member = Member(f"r{secrets.token_hex(4)}")
    await member.come(server)
    await Speaker(server).say(member.room, 1)
    await member.until(1)
    log = server.log()
    assert "Traceback" not in log
    assert "ERROR" not in log


@pytest.fixture
def room() -> str:
    return f"r{secrets.token_hex(4)}"


async def counted(server: Server, name: str) -> int:
    stats = await asyncio.to_thread(server.stats)
    return int(stats["counts"].get(name, 0))


async def test_a_claim_for_ten_thousand_rooms(server: Server, redis: RedisServer, room: str) -> None:
    """A claim that is longer than a frame closes the connection. In a longer frame, most claims don't count."""
    claims = {f"r{number}": ["e", 1] for number in range(10_000)}
    ws = await dial(server.url(f"/kept/{room}/"), extended=True)
    await ws.send(json.dumps({"event": "wsrt.resume", "data": claims}))
    assert (await closed(ws))[0] == 1009
    before, calls = await counted(server, "history_claims_refused"), command_calls(redis, "evalsha")
    member = Member(room, "/roomy/")
    told = await member.come(server, claims)
    assert "recovered" not in told
    assert await counted(server, "history_claims_refused") == before + 10_000 - 128
    # Rooms that the connection isn't in cost nothing: only the position of its room is read, and perhaps checked.
    assert command_calls(redis, "evalsha") - calls < 20


@pytest.mark.parametrize("path", ["/other/", "/tenant/b/"])
async def test_a_claim_for_a_room_of_another_realm(server: Server, room: str, path: str) -> None:
    """A position of another namespace's or tenant's room of the same name is no position of this one."""
    own, foreign = Member(room, "/tenant/a/" if "tenant" in path else "/kept/"), Member(room, path)
    assert own.path != foreign.path
    told = await own.come(server)
    ws = await dial(server.url(own.path))
    for number in (1, 2):
        await request(ws, "say", room=room, numbers=[number])
    await own.until(1, 2)
    answer = await foreign.come(server, {room: [told["epoch"], 0]})
    assert (answer["recovered"], answer["reason"], answer["offset"]) == (False, "epoch", 0)
    assert answer["epoch"] != told["epoch"]
    await foreign.silence()
    assert foreign.numbers == []


async def test_claims_that_are_no_positions(server: Server, room: str) -> None:
    """Claims that aren't positions are counted, and the room is joined as without a claim."""
    told = await Member(room).come(server)
    await Speaker(server).say(room, 1)
    before = await counted(server, "history_claims_refused")
    wrong: list[Any] = [10**30, -1, -(10**30), "1", 1.0, 1e300, True, None, [], {}, 2**53]
    for offset in wrong:
        answer = await Member(room).come(server, {room: [told["epoch"], offset]})
        assert "recovered" not in answer
    for claim in (1, "x", None, [], [told["epoch"]], [told["epoch"], 0, 0], {"epoch": told["epoch"], "offset": 0}):
        assert "recovered" not in await Member(room).come(server, {room: claim})
    assert await counted(server, "history_claims_refused") == before + len(wrong) + 7
    # An offset that may be one, and is ahead of the room.
    answer = await Member(room).come(server, {room: [told["epoch"], 2**53 - 1]})
    assert (answer["recovered"], answer["reason"]) == (False, "epoch")


@pytest.mark.parametrize("path", ["/limited/", "/kept/"])
async def test_claims_at_full_rate(server: Server, redis: RedisServer, room: str, path: str) -> None:
    """
    Clients that claim as fast as they can, and come back when they are closed, don't hold up another client.

    Each recovers the same 80 messages over and over, with and without a limit of its rate.
    """
    told = await Member(room).come(server)
    await Speaker(server).say(room, *range(MISSED), size=500)
    other = await dial(server.url("/kept/"))
    before = server.worker.memory_info().rss
    claim = json.dumps({"event": "wsrt.resume", "data": {room: [told["epoch"], 0], "x": [told["epoch"], -1]}})
    refused, recovered = await counted(server, "history_claims_refused"), await counted(server, "history_recovered")
    reads = await counted(server, "history_reads")
    until = time.monotonic() + SECONDS
    attacks = [asyncio.create_task(_attack(server, f"{path}{room}/", claim, until)) for _ in range(ATTACKERS)]
    trips = 0
    while not all(attack.done() for attack in attacks):
        async with asyncio.timeout(30):
            await request(other, "ping")
        trips += 1
    attempts = sum([await attack for attack in attacks])
    assert trips > 3
    assert attempts >= ATTACKERS
    assert await counted(server, "history_claims_refused") > refused
    assert await counted(server, "history_recovered") > recovered
    # A few, as the log of the node ends with its last connection in the room.
    assert await counted(server, "history_reads") - reads <= attempts
    assert server.worker.memory_info().rss - before < 64 * 2**20


async def _attack(server: Server, path: str, claim: str, until: float) -> int:
    """Claim at full rate; return the number of connections that it took."""
    attempts = 0
    while time.monotonic() < until:
        try:
            socket = await connect(server.port, path, len, subprotocol="wsrt.v1")
        except OSError:
            await asyncio.sleep(0.1)
            continue
        attempts += 1
        while not socket.ended.done() and time.monotonic() < until:
            for _ in range(20):
                socket.send(claim)
            await asyncio.sleep(0.02)
        # Some of the answers are read.
        await asyncio.sleep(0.1)
        socket.reset()
    return attempts
