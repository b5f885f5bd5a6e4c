"""However a connection ends, its process holds afterwards what it held before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.client import closed, dial, receive, request, send
from tests.support.processes import RedisServer, Server
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with (
        RedisServer() as redis,
        Server(request.param, layer="pubsub", redis=redis.url, wsrt={"RATE": None, "OUTBOX_SECONDS": 1}) as process,
    ):
        yield process


@pytest_asyncio.fixture
async def baseline(server: Server) -> AsyncIterator[dict[str, Any]]:
    """What the process holds once its backplane is up; afterwards the same, and one hook each was called."""
    ws = await dial(server.url("/chat/warm/"))
    # The node opens its connection for publishing with the first publication, and keeps it.
    await send(ws, "say", room="warm", text="warm")
    await request(ws, "echo")
    await ws.close()
    await aeventually(lambda: _gone(server), "the first connection to be gone")
    before = await _settled(server)
    yield before

    async def as_before() -> bool:
        stats = await asyncio.to_thread(server.stats)
        # Fewer tasks are fine: the server's own last for a moment, and may be among those that were there before.
        return stats["tasks"] <= before["tasks"] and all(
            stats[key] == before[key] for key in ("connections", "rooms", "groups")
        )

    await aeventually(as_before, "everything to be as before", 15)
    stats = await asyncio.to_thread(server.stats)
    hooks = [name for name, _ in stats["hooks"]]
    assert hooks.count("on_connect") == hooks.count("on_disconnect")
    assert len(hooks) > len(before["hooks"])


async def _settled(server: Server) -> dict[str, Any]:
    """Return the objects of the process once they are stable: a server's tasks outlive its connection."""
    seen: list[dict[str, Any]] = []

    async def is_settled() -> bool:
        seen.append(await asyncio.to_thread(server.stats))
        return len(seen) >= 5 and len({stats["tasks"] for stats in seen[-5:]}) == 1

    await aeventually(is_settled, "the number of tasks to stay the same")
    return seen[-1]


async def _gone(server: Server) -> bool:
    stats = await asyncio.to_thread(server.stats)
    hooks = [name for name, _ in stats["hooks"]]
    return (
        not stats["connections"] and not stats["groups"] and hooks.count("on_connect") == hooks.count("on_disconnect")
    )


async def test_vanishes_in_handler(server: Server, baseline: dict[str, Any]) -> None:
    """A client that is cut off while a handler runs, whose send then raises on uvicorn, leaves nothing (S12, S43)."""
    ws = await dial(server.url("/chat/one/"))
    await request(ws, "echo")
    await send(ws, "slow", ref="1", seconds=0.5)
    await send(ws, "say", room="one", text="after the client was gone")
    ws.transport.abort()


async def test_frames_before_leaving_are_handled(server: Server, baseline: dict[str, Any]) -> None:
    """Frames that were received before the client left are handled, also behind a slow handler (S22)."""
    listener = await dial(server.url("/chat/two/"))
    await request(listener, "echo")
    ws = await dial(server.url("/chat/"))
    await send(ws, "slow", seconds=0.5)
    await send(ws, "say", room="two", text="last words")
    await ws.close()
    assert (await receive(listener))["data"] == {"text": "last words"}
    await listener.close()


async def test_handler_raises(server: Server, baseline: dict[str, Any]) -> None:
    """A handler's error closes 1011, and its traceback is in the log (S18)."""
    ws = await dial(server.url("/chat/three/"))
    await send(ws, "crash")
    assert (await closed(ws))[0] in (1011, 4011)
    assert "RuntimeError: the handler failed" in server.log()
    assert "Traceback" in server.log()


async def test_cancelled_handler(server: Server, baseline: dict[str, Any]) -> None:
    """A handler that ends cancelled is a failed one: frames behind it would wait for ever."""
    ws = await dial(server.url("/chat/four/"))
    await send(ws, "crash", kind="cancel")
    assert (await closed(ws))[0] in (1011, 4011)


async def test_endless_handler(server: Server, baseline: dict[str, Any]) -> None:
    """A handler that does not end is cancelled 5 s after its client left (S21)."""
    ws = await dial(server.url("/chat/five/"))
    await request(ws, "echo")
    await send(ws, "slow", seconds=600)
    await ws.close()


async def test_vanishes_while_sending(server: Server, baseline: dict[str, Any]) -> None:
    """A client that is cut off in the middle of a burst leaves nothing."""
    ws = await dial(server.url("/chat/six/"))
    await request(ws, "echo")
    await send(ws, "burst", count=2000, size=2000)
    await receive(ws)
    ws.transport.abort()


async def test_refused(server: Server, baseline: dict[str, Any]) -> None:
    """A connection that was refused was never connected, and leaves nothing (H1)."""
    ok = await dial(server.url("/chat/"))
    await request(ok, "echo")
    for query in ("authorize=no", "authorize=error"):
        ws = await dial(server.url(f"/chat/?{query}"))
        await closed(ws)
    await ok.close()


async def test_burst_to_a_client_that_reads(server: Server, baseline: dict[str, Any]) -> None:
    """1,500 events in a row reach a client that reads, sent or published, complete and in order (S30)."""
    ws = await dial(server.url("/chat/seven/"))
    for room in (None, "seven"):
        await send(ws, "burst", count=1500, size=1000, **({"room": room} if room else {}))
        for number in range(1500):
            text = (await receive(ws))["data"]["text"]
            assert text.rstrip(".") == str(number)
    await ws.close()


async def test_layer_by_hand(server: Server) -> None:
    """Old and new consumers share a group: what one sends by hand reaches both (the migration path)."""
    old, new = await dial(server.url("/plain/")), await dial(server.url("/layer/"))
    async with asyncio.timeout(10):
        while True:
            await old.send('{"text": "hi"}')
            assert await receive(old) == {"plain": "hi"}
            try:
                assert (await receive(new, 0.3))["data"] == {"text": "hi"}
            except TimeoutError:
                continue
            break
    await old.close()
    await new.close()
    await aeventually(lambda: _gone(server), "the connections to be gone")
