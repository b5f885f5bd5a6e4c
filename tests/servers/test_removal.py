"""Two servers and Redis: a client that was taken out gets nothing more, on its own server and on the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support import report
from tests.support.client import dial, receive, request, send
from tests.support.processes import RedisServer, Server

pytestmark = pytest.mark.servers

COUNT = 200


@pytest.fixture(scope="module", params=["pubsub", "core"])
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server, Server]]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        options = {"layer": request.param, "redis": redis.url, "wsrt": {"RATE": None}}
        one = stack.enter_context(Server("uvicorn", **options))  # type: ignore[arg-type]
        two = stack.enter_context(Server("daphne", **options))  # type: ignore[arg-type]
        yield request.param, one, two


async def read_on(ws: ClientConnection) -> list[str]:
    """Read until everyone was told the end, or the connection is closed."""
    texts: list[str] = []
    with contextlib.suppress(ConnectionClosed):
        while not texts or texts[-1] != "end":
            frame = await receive(ws)
            if frame["event"] == "said":
                texts.append(frame["data"]["text"])
    return texts


@pytest.mark.parametrize("how", ["remove", "permissions", "disconnect"])
async def test_taken_out(servers: tuple[str, Server, Server], how: str) -> None:
    """Clients whose handlers run get nothing that is published when the call has returned, and others get all of it."""
    layer, one, two = servers
    room = f"taken-{how}"
    victims = [await dial(server.url(f"/chat/{room}/?user=victim&rooms=once")) for server in (one, two)]
    others = [await dial(server.url(f"/chat/{room}/?user=other")) for server in (one, two)]
    for ws in (*victims, *others):
        await request(ws, "echo")
    for ws in victims:
        # A handler that runs while all of it happens.
        await send(ws, "slow", seconds=3)
    await asyncio.to_thread(one.get, f"/take/{how}/victim/{room}/?count={COUNT}")
    seen = await asyncio.gather(*map(read_on, (*victims, *others)))
    every = [f"{when} {number}" for when in ("before", "after") for number in range(COUNT)] + ["end"]
    assert seen[2] == every
    assert seen[3] == every
    late = [sum(text.startswith("after") for text in texts) for texts in seen[:2]]
    report.note("Published after a removal returned, and seen", f"{layer}, {how}: {late[0]} here, {late[1]} elsewhere")
    # Commands and publications of one process arrive everywhere in the order in which they were sent.
    assert late == [0, 0]
