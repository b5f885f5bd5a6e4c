"""The subscriptions of the Python client: who uses a room, and when the server is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.clients.scripted import Peer, ScriptedServer
from tests.support.eager import eager_task_factory
from tests.support.waiting import aeventually
from wsrt.clients.runtime.python import (
    Client,
    ConnectionLost,
    Limits,
    PayloadTooLarge,
    RequestError,
    Subscription,
    Timings,
)

pytestmark = pytest.mark.servers

SECONDS = 10.0

FAST = Timings(base=0.02, cap=0.1, minimum=0.01, jump=0.02, close=0.5)

FORBIDDEN = {"code": "forbidden", "message": "You may not subscribe to this room", "errors": []}


@pytest_asyncio.fixture(params=["lazy", "eager"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedServer]:
    """A server, in a loop without and with an eager task factory."""
    loop = asyncio.get_running_loop()
    if request.param == "eager":
        loop.set_task_factory(eager_task_factory)
    try:
        async with ScriptedServer() as server:
            yield server
    finally:
        loop.set_task_factory(None)


@pytest_asyncio.fixture
async def make(server: ScriptedServer) -> AsyncIterator[Callable[..., Client]]:
    """Make clients of the server, which are closed in the end and leave no task behind."""
    made: list[Client] = []

    def make(**options: Any) -> Client:
        made.append(Client(server.url, **{"timings": FAST, **options}))
        return made[-1]

    yield make
    for client in made:
        await client.close()
    for peer in server.peers:
        peer.drop()
    await aeventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("wsrt-client")])


async def opened(client: Client, server: ScriptedServer) -> Peer:
    """Connect a client and greet it."""
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(client.connect())
        return await server.greet()


async def asked(peer: Peer) -> tuple[str, str, str]:
    """Return the next request for a room: its event, room and ref."""
    while True:
        frame = await peer.receive()
        if frame["event"] in ("wsrt.subscribe", "wsrt.unsubscribe"):
            return frame["event"], frame["data"]["room"], frame["ref"]


async def answer(peer: Peer, wanted: tuple[str, str], event: str = "wsrt.ok", data: object = None) -> None:
    """Take the next request, which must be the wanted one, and answer it."""
    name, room, ref = await asked(peer)
    assert (name, room) == wanted
    if event == "wsrt.ok":
        await peer.send("wsrt.joined" if name == "wsrt.subscribe" else "wsrt.left", {"room": room})
    await peer.send(event, data, ref=ref)


async def ready(subscription: Subscription) -> None:
    async with asyncio.timeout(SECONDS):
        await subscription.ready()


async def test_shared(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """Three parts share a room; the server is asked once, and again when the last one has left."""
    client = make()
    early = client.subscribe("order.1")
    peer = await opened(client, server)
    parts = [early, client.subscribe("order.1"), client.subscribe("order.1")]
    await answer(peer, ("wsrt.subscribe", "order.1"))
    for part in parts:
        await ready(part)
    for part in (parts[0], parts[0], parts[1]):
        part.unsubscribe()
    assert [part.state for part in parts] == ["ended", "ended", "subscribed"]
    await peer.receive_nothing()
    parts[2].unsubscribe()
    await answer(peer, ("wsrt.unsubscribe", "order.1"))
    await peer.receive_nothing()


async def test_after_a_reconnect(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """The rooms in use are asked for again on the next connection, and listeners hear of both changes."""
    client, states = make(), asyncio.Queue[str]()
    peer = await opened(client, server)
    use = client.subscribe("order.1", lambda subscription: states.put_nowait(subscription.state))
    other = client.subscribe("order.2")
    await answer(peer, ("wsrt.subscribe", "order.1"))
    await answer(peer, ("wsrt.subscribe", "order.2"))
    async with asyncio.timeout(SECONDS):
        assert await states.get() == "subscribed"
        await ready(other)
        other.unsubscribe()
        peer.drop()
        assert await states.get() == "waiting"
        again = await server.greet()
        await answer(again, ("wsrt.subscribe", "order.1"))
        assert await states.get() == "subscribed"
    assert use.state == "subscribed"
    await again.receive_nothing()


async def test_back_before_the_answer(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """A use that begins while the room is being left waits, and asks again."""
    client = make()
    peer = await opened(client, server)
    client.subscribe("order.1").unsubscribe()
    use = client.subscribe("order.1")
    await answer(peer, ("wsrt.subscribe", "order.1"))
    await ready(use)
    use.unsubscribe()
    name, room, ref = await asked(peer)
    assert name == "wsrt.unsubscribe"
    again = client.subscribe("order.1")
    assert again.state == "waiting"
    await peer.send("wsrt.left", {"room": room})
    await peer.send("wsrt.ok", ref=ref)
    await answer(peer, ("wsrt.subscribe", "order.1"))
    await ready(again)


async def test_refused(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """A refusal is raised, or passed to a handler, or reported; a refused room is asked for by a new use only."""
    errors: list[Exception] = []
    client, told = make(on_error=errors.append), asyncio.Queue[str | None]()
    peer = await opened(client, server)
    async with asyncio.timeout(SECONDS):

        async def enter() -> None:
            async with client.subscribe("order.1"):
                raise AssertionError

        entering = asyncio.create_task(enter())
        await answer(peer, ("wsrt.subscribe", "order.1"), "wsrt.error", FORBIDDEN)
        with pytest.raises(RequestError, match="forbidden"):
            await entering
        client.subscribe("order.2", lambda use: told.put_nowait(str(use.error)))
        await answer(peer, ("wsrt.subscribe", "order.2"), "wsrt.error", FORBIDDEN)
        assert "forbidden" in str(await told.get())
        assert errors == []
        refused = client.subscribe("order.3")
        await answer(peer, ("wsrt.subscribe", "order.3"), "wsrt.error", FORBIDDEN)
        await aeventually(lambda: len(errors) == 1)
        assert (refused.state, refused.error) == ("refused", errors[0])
        await peer.receive_nothing()
        client.subscribe("order.3")
        await answer(peer, ("wsrt.subscribe", "order.3"))
        await ready(refused)


async def test_removed(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """A client that the server has removed doesn't come back by itself; a removal before the answer counts."""
    client = make()
    peer = await opened(client, server)
    use = client.subscribe("order.1")
    await answer(peer, ("wsrt.subscribe", "order.1"))
    await ready(use)
    await peer.send("wsrt.left", {"room": "order.1"})
    await aeventually(lambda: use.state == "removed")
    with pytest.raises(ConnectionLost, match="removed"):
        await use.ready()
    use.unsubscribe()
    late = client.subscribe("order.2")
    _, room, ref = await asked(peer)
    for event in ("wsrt.joined", "wsrt.left"):
        await peer.send(event, {"room": room})
    await peer.send("wsrt.ok", ref=ref)
    await aeventually(lambda: late.state == "removed")
    await peer.receive_nothing()


async def test_a_busy_server(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """After rate_limited the client waits, and then asks for one room after the other; it gives none up."""
    client = make()
    peer = await opened(client, server)
    uses = [client.subscribe(f"order.{number}") for number in range(6)]
    refs = [(await asked(peer))[2] for _ in range(4)]
    await peer.receive_nothing()
    for ref in refs:
        await peer.send("wsrt.error", {"code": "rate_limited", "message": "", "errors": []}, ref=ref)
    for _ in range(6):
        _, room, ref = await asked(peer)
        await peer.send("wsrt.joined", {"room": room})
        await peer.send("wsrt.ok", ref=ref)
    for use in uses:
        await ready(use)


async def test_no_answer(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """A request that isn't answered in time is repeated."""
    client = make(limits=Limits(request_timeout=0.1))
    peer = await opened(client, server)
    use = client.subscribe("order.1")
    await asked(peer)
    await answer(peer, ("wsrt.subscribe", "order.1"))
    await ready(use)


async def test_closed(server: ScriptedServer, make: Callable[..., Client]) -> None:
    """What waits for a room raises when the client is closed; the rooms are asked for if it connects again."""
    client = make()
    await opened(client, server)
    use = client.subscribe("order.1")
    waiting = asyncio.create_task(use.ready())
    await asyncio.sleep(0)
    async with asyncio.timeout(SECONDS):
        await client.close()
        with pytest.raises(ConnectionLost):
            await waiting
    peer = await opened(client, server)
    await answer(peer, ("wsrt.subscribe", "order.1"))
    await ready(use)
    use.unsubscribe()
    with pytest.raises(ConnectionLost, match="ended"):
        await use.ready()
    assert (use.state, use.error, repr(use)) == ("ended", None, "<Subscription 'order.1' ended>")


async def test_without_patterns(make: Callable[..., Client], server: ScriptedServer) -> None:
    """A generated client of a consumer without patterns says so; a name that is too large is refused."""
    generated = type("NoneClient", (Client,), {"subscriptions": ()})
    with pytest.raises(TypeError, match="NoneClient can't subscribe"):
        generated(server.url).subscribe("order.1")
    client = make()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(client.connect())
        await server.greet(max_payload=100)
    with pytest.raises(PayloadTooLarge):
        await ready(client.subscribe("x" * 200))


async def test_a_task_that_is_cancelled(make: Callable[..., Client], server: ScriptedServer) -> None:
    """A part that is cancelled while it waits ends its use."""
    client = make()
    peer = await opened(client, server)

    async def enter() -> None:
        async with client.subscribe("order.1"):
            raise AssertionError

    entering = asyncio.create_task(enter())
    _, room, ref = await asked(peer)
    entering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await entering
    await peer.send("wsrt.joined", {"room": room})
    await peer.send("wsrt.ok", ref=ref)
    await answer(peer, ("wsrt.unsubscribe", "order.1"))
