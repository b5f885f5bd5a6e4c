"""What the Python client does with handlers, streams and event loops, which clients in other languages do not have."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.clients.scripted import Peer, ScriptedServer
from tests.clients.tickets import TicketOffice
from tests.support.eager import eager_task_factory
from wsrt.clients.runtime.python import (
    Client,
    ConnectionLost,
    Disconnected,
    Incoming,
    Limits,
    Outgoing,
    Position,
    Sends,
    State,
    Timings,
    Unauthorized,
)
from wsrt.clients.runtime.python.tickets import Tickets

pytestmark = pytest.mark.servers

SECONDS = 10.0

FAST = Timings(base=0.02, cap=0.1, minimum=0.01, jump=0.02, close=0.5)


class News(Incoming):
    n: int


class Ask(Outgoing[News]):
    n: int = 0


class NewsClient(Client):
    receives = {"news": News}
    sends = {Ask: Sends("ask", {"news": News})}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest_asyncio.fixture
async def make(server: ScriptedServer) -> AsyncIterator[Callable[..., NewsClient]]:
    """Make clients of the server, which are closed in the end."""
    made: list[NewsClient] = []

    def make(**options: Any) -> NewsClient:
        made.append(NewsClient(server.url, **{"timings": FAST, **options}))
        return made[-1]

    before = asyncio.all_tasks()
    yield make
    for client in made:
        await client.close()
    for peer in server.peers:
        peer.drop()
    left = [task for task in asyncio.all_tasks() - before if task.get_name().startswith("wsrt-client")]
    assert not left


async def opened(client: NewsClient, server: ScriptedServer) -> Peer:
    """Connect a client and greet it."""
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(client.connect())
        return await server.greet()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def soon(work: Any) -> Any:
    """Wait for what must come to an end."""
    async with asyncio.timeout(SECONDS):
        return await work


async def cancelled() -> None:
    """Await a task that was cancelled."""
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


# Handlers.


async def test_a_handler_awaits_what_was_cancelled(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A CancelledError that a handler lets out is reported, and the next handlers and events are told."""
    errors: list[Exception] = []
    heard: list[int] = []
    client = make(on_error=errors.append)

    async def handler(news: News) -> None:
        if news.n == 1:
            await cancelled()
        heard.append(news.n)

    client.on(News, handler)
    client.on(News, lambda news: heard.append(10 * news.n))
    peer = await opened(client, server)
    for n in (1, 2):
        await peer.send("news", {"n": n})
    await until(lambda: 20 in heard)
    assert heard == [10, 2, 20]
    assert [type(error) for error in errors] == [RuntimeError]
    assert isinstance(errors[0].__cause__, asyncio.CancelledError)
    assert client.state is State.OPEN


async def test_the_task_of_handlers_is_cancelled(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A handler that cancels the task in which it is called closes the client: it would hear of nothing any more."""
    states: list[State] = []
    client = make()
    client.on_state(lambda status: states.append(status.state))

    async def handler(news: News) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    client.on(News, handler)
    stream = client.events(News)
    peer = await opened(client, server)
    await peer.send("news", {"n": 1})
    await soon(client.wait_closed())
    assert [news.n async for news in stream] == [1]
    assert states[-1] is State.CLOSED
    assert client.state is State.CLOSED


async def test_get_token_awaits_what_was_cancelled(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A CancelledError that get_token lets out is an error like any other: it is asked again."""
    errors: list[Exception] = []
    calls = 0

    async def get_token() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await cancelled()
        return "token"

    client = make(
        get_token=get_token,
        on_error=errors.append,
        timings=Timings(later=0.01),
    )
    peer = await opened(client, server)
    assert peer.token == "token"
    assert isinstance(errors[0].__cause__, asyncio.CancelledError)


async def test_get_token_that_hangs(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A credential callback that doesn't answer within the connection time-out is given up, and called again."""
    asked: list[int] = []

    async def get_token() -> str:
        asked.append(1)
        if len(asked) == 1:
            await asyncio.sleep(3600)
        return "token"

    client = make(get_token=get_token, timings=Timings(connect=0.2, later=0.01))
    client.start()
    peer = await server.greet()
    assert peer.token == "token"
    assert len(asked) == 2


async def test_get_token_that_fails(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A get_token that fails is called again after the times of any other retry."""
    delays: list[float] = []
    failures = [OSError("down"), OSError("down"), OSError("down")]

    async def get_token() -> str:
        if failures:
            raise failures.pop()
        return "token"

    client = make(get_token=get_token, timings=dataclasses.replace(FAST, later=60), random=lambda: 1.0)
    client.on_retry(lambda attempt, delay: delays.append(delay))
    client.start()
    peer = await server.greet()
    assert peer.token == "token"
    assert delays == pytest.approx([0.03, 0.05, 0.09])


@pytest.mark.parametrize("given", [{"token": ""}, {"get_token": lambda: ""}])
async def test_empty_token(server: ScriptedServer, make: Callable[..., NewsClient], given: dict[str, Any]) -> None:
    """An empty token is none."""
    make(**given).start()
    peer = await server.greet()
    assert peer.offered == ["wsrt.v1"]


# Tickets.


async def test_ticket_of_a_session(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """Cookies go with the request for a ticket, and Django's CSRF token with them; a path is one on the same host."""
    async with TicketOffice() as office:
        make(ticket_url=office.url, cookies={"sessionid": "s", "csrftoken": "c"}, ticket_headers={"X-Own": "1"}).start()
        peer = await server.greet()
    assert peer.ticket == "t1"
    headers = office.requests[0].headers
    assert headers["cookie"] == "sessionid=s; csrftoken=c"
    assert (headers["x-csrftoken"], headers["referer"], headers["x-own"]) == ("c", office.url, "1")


async def test_ticket_headers(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """The headers of each request come from a function, sync or async."""
    numbers = itertools.count(1)

    async def later() -> dict[str, str]:
        return {"Authorization": f"Bearer {next(numbers)}"}

    def now() -> dict[str, str]:
        return {"Authorization": f"Bearer {next(numbers)}"}

    async with TicketOffice() as office:
        for headers in (later, now):
            make(ticket_url=office.url, ticket_headers=headers).start()
            await server.greet()
    assert [request.headers["authorization"] for request in office.requests] == ["Bearer 1", "Bearer 2"]
    assert "cookie" not in office.requests[0].headers


@pytest.mark.parametrize(
    ("socket", "given", "expected"),
    [
        ("ws://host:8000/ws/", "/ticket/", "http://host:8000/ticket/"),
        ("WSS://host/ws/?a=b", "/ticket/", "https://host/ticket/"),
        ("wss://host/ws/", "https://other/ticket/", "https://other/ticket/"),
    ],
)
def test_ticket_url(socket: str, given: str, expected: str) -> None:
    """The URL is absolute, or a path on the host of the socket."""
    tickets = Tickets(given, socket, {}, cookies={}, timeout=1, options={"ssl": ssl.create_default_context()})
    assert tickets._url == expected


def test_wrong_tickets() -> None:
    """Tickets and tokens exclude each other, and a URL that isn't one of HTTP is an error."""
    for wrong in ({"token": "a"}, {"get_token": lambda: "a"}):
        with pytest.raises(TypeError, match="not both"):
            NewsClient("ws://host/", ticket_url="/ticket/", **wrong)
    with pytest.raises(ValueError, match="must begin with http"):
        NewsClient("ws://host/", ticket_url="file:///etc/passwd")
    assert NewsClient("ws://host/", ticket_url="/ticket/", options={"proxy": None}).state is State.CLOSED


async def test_get_token_keeps_its_cancellation(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """close() ends a client whose get_token does not let itself be cancelled."""
    asked = asyncio.Event()

    async def get_token() -> str:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "token"

    client = make(get_token=get_token)
    client.start()
    await soon(asked.wait())
    await soon(client.close())
    assert client.state is State.CLOSED
    await server.no_client(0.2)


async def test_a_handler_asks_while_the_inbox_is_full(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A request of a handler is answered, and pings too, however many events wait; they come in their order."""
    client = make(limits=Limits(inbox=5))
    heard: list[int] = []
    answers: list[int] = []

    async def handler(news: News) -> None:
        heard.append(news.n)
        if news.n == 0:
            answers.append((await client.request(Ask())).n)

    client.on(News, handler)
    peer = await opened(client, server)
    for n in range(50):
        await peer.send("news", {"n": n})
    await peer.send("wsrt.ping", ref="p-1")
    frame = await peer.receive("ask")
    assert (await peer.receive("wsrt.pong"))["ref"] == "p-1"
    await peer.send("news", {"n": 7}, ref=frame["ref"])
    await until(lambda: len(heard) == 50)
    assert heard == list(range(50))
    assert answers == [7]


async def test_a_request_while_the_socket_is_not_read(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A full inbox lets the socket be; a request that somebody makes then lets it be read on."""
    client = make(limits=Limits(inbox=5))
    gate = asyncio.Event()
    heard: list[int] = []

    async def handler(news: News) -> None:
        heard.append(news.n)
        await gate.wait()

    client.on(News, handler)
    peer = await opened(client, server)
    for n in range(10):
        await peer.send("news", {"n": n})
    await peer.send("wsrt.ping")
    await peer.receive_nothing()
    asking = asyncio.create_task(client.request(Ask()))
    assert (await peer.receive("wsrt.pong"))["data"] == {}
    await peer.send("news", {"n": 7}, ref=peer.seen[1]["ref"])
    assert (await soon(asking)).n == 7
    # One frame is asked for before the request has its answer.
    await peer.send("wsrt.ping")
    await peer.receive("wsrt.pong")
    await peer.send("wsrt.ping")
    await peer.receive_nothing()
    gate.set()
    await peer.receive("wsrt.pong")
    await until(lambda: len(heard) == 10)


# Positions.


@pytest.mark.parametrize("wrong", [{"epoch": "e1", "offset": 3}, {}, None, "e1:3", 3])
async def test_what_is_not_a_position(make: Callable[..., NewsClient], wrong: Any) -> None:
    """Something else than a position is refused, with what to pass."""
    client = make()
    with pytest.raises(TypeError, match=rf"Position\(epoch, offset\), not {type(wrong).__name__}"):
        client.set_position("a", wrong)
    assert not client.rooms


@pytest.mark.parametrize("wrong", [(), ("e1",), ("e1", 3, 4), (3, "e1"), ("e1", -1), ("e1", "3"), [None, None]])
async def test_an_invalid_position(make: Callable[..., NewsClient], wrong: Any) -> None:
    """A position of something else than an epoch and an offset is refused."""
    client = make()
    with pytest.raises(ValueError, match="an epoch, a str, and an offset, an int of at least 0"):
        client.set_position("a", wrong)
    assert not client.rooms


async def test_a_position_that_was_saved_as_json(make: Callable[..., NewsClient]) -> None:
    """A position becomes a list in JSON, which is one again."""
    client = make()
    client.set_position("a", json.loads(json.dumps(Position("e1", 3))))
    assert client.rooms["a"].position == Position("e1", 3)


# close().


async def test_nothing_is_told_after_close(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """After close() no handler is told of what waits, not even of the event that others have; but of the state."""
    client = make()
    heard: list[str] = []
    states: list[State] = []
    gate = asyncio.Event()

    async def slow(news: News) -> None:
        heard.append(f"slow {news.n}")
        await gate.wait()

    client.on(News, slow)
    client.on(News, lambda news: heard.append(f"next {news.n}"))
    client.on_any(lambda at, data: heard.append("any"))
    client.on_state(lambda status: states.append(status.state))
    client.on_room(lambda change: heard.append("room"))
    peer = await opened(client, server)
    for n in range(10):
        await peer.send("news", {"n": n})
    await peer.send("wsrt.joined", {"room": "a"})
    await until(lambda: heard and "a" in client.rooms)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    assert client.state is State.CLOSED
    gate.set()
    await soon(closing)
    assert heard == ["slow 0"]
    assert states == [State.CONNECTING, State.OPEN, State.CLOSED]


async def test_a_handler_closes(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A handler that closes the client is the last that is told of an event; it goes on, in a closed client."""
    client = make()
    heard: list[int] = []
    states: list[State] = []
    errors: list[BaseException] = []

    async def handler(news: News) -> None:
        heard.append(news.n)
        await client.close()
        states.append(client.state)
        assert await client.send(Ask(), queue=True) == "dropped"
        try:
            await client.request(Ask(), queue=True)
        except ConnectionLost as error:
            errors.append(error)

    client.on(News, handler)
    client.on(News, lambda news: heard.append(-1))
    client.on_state(lambda status: states.append(status.state))
    peer = await opened(client, server)
    for n in range(10):
        await peer.send("news", {"n": n})
    await soon(client.wait_closed())
    assert heard == [0]
    assert len(errors) == 1
    assert states[-2:] == [State.CLOSED, State.CLOSED]
    assert await peer.left() == 1000


async def test_close_ends_a_handler_by_force(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A handler that takes too long is cancelled by close(); streams end, and handlers are told of the state."""
    client = make()
    states: list[State] = []
    called = asyncio.Event()

    async def handler(news: News) -> None:
        called.set()
        await asyncio.sleep(60)

    client.on(News, handler)
    client.on_state(lambda status: states.append(status.state))
    stream = client.events(News)
    peer = await opened(client, server)
    await peer.send("news", {"n": 1})
    await soon(called.wait())
    await soon(client.close())
    assert [news.n async for news in stream] == [1]
    assert states[-1] is State.CLOSED


async def test_close_after_a_refusal(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """close() of a client that was refused does not wait for all that its handlers have yet to be told."""
    client = make()
    heard: list[int] = []
    states: list[State] = []

    async def handler(news: News) -> None:
        heard.append(news.n)
        await asyncio.sleep(60)

    client.on(News, handler)
    client.on_state(lambda status: states.append(status.state))
    peer = await opened(client, server)
    for n in range(5):
        await peer.send("news", {"n": n})
    await peer.close(4403, "Forbidden")
    await until(lambda: client.state is State.CLOSED and heard)
    await soon(client.close())
    assert heard == [0]
    assert states[-1] is State.CLOSED
    assert client.reason is not None
    assert client.reason.code == 4403


async def test_close_twice_at_a_time(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """Both return when the client has ended, which ends as it should."""
    client = make()
    peer = await opened(client, server)
    await soon(asyncio.gather(client.close(), client.close()))
    assert await peer.left() == 1000


async def test_close_before_the_first_step(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A client that is closed at once after start() has ended, and says so."""
    client = make()
    states: list[State] = []
    client.on_state(lambda status: states.append(status.state))
    client.start()
    assert client.state is State.CONNECTING
    await soon(client.close())
    assert client.state is State.CLOSED
    assert states == [State.CONNECTING, State.CLOSED]
    await server.no_client(0.2)


# Again.


@pytest.mark.parametrize("again", ["connect", "start"])
async def test_a_handler_connects_again(server: ScriptedServer, make: Callable[..., NewsClient], again: str) -> None:
    """A handler cannot connect a client that it has closed: that waits for the handler. It is told so at once."""
    errors: list[Exception] = []
    client = make(on_error=errors.append)

    async def handler(news: News) -> None:
        await client.close()
        if again == "start":
            client.start()
        else:
            await client.connect()

    client.on(News, handler)
    peer = await opened(client, server)
    await peer.send("news", {"n": 1})
    await soon(client.wait_closed())
    assert [type(error) for error in errors] == [RuntimeError]
    assert "wait_closed" in str(errors[0])
    await opened(client, server)
    assert client.state is State.OPEN


async def test_a_task_of_a_handler_connects_again(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A task of its own connects a closed client again once it has ended; also after a refusal."""
    client = make()
    tasks: list[asyncio.Task[None]] = []

    async def handler(news: News) -> None:
        if news.n:
            await client.close()
        tasks.append(asyncio.create_task(client.connect()))

    def on_state(status: Any) -> None:
        if status.reason is not None and status.reason.code == 4403:
            tasks.append(asyncio.create_task(client.connect()))

    client.on(News, handler)
    client.on_state(on_state)
    peer = await opened(client, server)
    await peer.send("news", {"n": 1})
    peer = await server.greet()
    await soon(tasks.pop())
    await peer.close(4403, "Forbidden")
    await server.greet()
    await soon(tasks.pop())
    assert client.state is State.OPEN
    assert server.most_open == 1


def test_two_loops() -> None:
    """A client that was closed is used again in another event loop."""
    client: NewsClient | None = None
    port = 0
    heard: list[int] = []

    async def once() -> None:
        nonlocal client, port
        server = ScriptedServer()
        server.port = port
        async with asyncio.timeout(SECONDS), server:
            port = server.port
            if client is None:
                client = NewsClient(server.url, timings=FAST, limits=Limits(inbox=2))
                client.on(News, lambda news: heard.append(news.n))
            stream = client.events(News) if client.reason is None else None
            peer = await opened(client, server)
            stream = stream or client.events(News)
            for n in range(5):
                await peer.send("news", {"n": n})
            async for news in stream:
                if news.n == 4:
                    break
            asking = asyncio.create_task(client.request(Ask()))
            await peer.send("news", {"n": 5}, ref=(await peer.receive("ask"))["ref"])
            assert (await asking).n == 5
            await client.close()
            await client.close()
            await client.wait_closed()

    asyncio.run(once())
    asyncio.run(once())
    assert heard == [0, 1, 2, 3, 4] * 2
    gc.collect()


# Streams.


async def test_streams_of_a_closed_client(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A stream that is made before the client connects waits; one of a client that was closed ends at once."""
    client = make()
    stream = client.events(News)
    peer = await opened(client, server)
    await peer.send("news", {"n": 1})
    assert (await soon(anext(stream))).n == 1
    await client.close()
    for each in (stream, client.events(News)):
        with pytest.raises(StopAsyncIteration):
            await soon(anext(each))
    client.start()
    stream = client.events(News)
    peer = await server.greet()
    await peer.send("news", {"n": 2})
    assert (await soon(anext(stream))).n == 2
    await peer.close(4403, "Forbidden")
    await soon(client.wait_closed())
    with pytest.raises(StopAsyncIteration):
        await soon(anext(client.events(News)))


# connect().


async def test_connect_is_cancelled_alone(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A connect() that is cancelled ends what it has begun, and nothing else."""
    server.gate.clear()
    client = make()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.connect()
    assert client.state is State.CLOSED


@pytest.mark.parametrize("order", ["start first", "start later", "two connects"])
async def test_connect_is_cancelled_beside_others(
    server: ScriptedServer, make: Callable[..., NewsClient], order: str
) -> None:
    """A cancelled connect() leaves the client to other callers that have started it or wait for it."""
    server.gate.clear()
    client = make()
    if order == "start first":
        client.start()
    connecting = asyncio.create_task(client.connect())
    await until(lambda: server.handshakes)
    other = asyncio.create_task(client.connect()) if order == "two connects" else None
    if order == "start later":
        client.start()
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait({connecting})
    assert client.state is State.CONNECTING
    server.gate.set()
    await server.greet()
    await until(lambda: client.state is State.OPEN)
    if other is not None:
        await soon(other)
    assert len(server.handshakes) == 1


async def test_connect_is_cancelled_while_waiting(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """A connect() that is cancelled while a client that was open comes back by itself does not close it."""
    client = make()
    peer = await opened(client, server)
    server.gate.clear()
    peer.drop()
    await until(lambda: client.state is not State.OPEN)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.connect()
    server.gate.set()
    await server.greet()
    await until(lambda: client.state is State.OPEN)


async def test_connect_is_refused(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """Everybody who waits in connect() is told that the server refuses, and that the client was closed."""
    client = make()
    waiting = [asyncio.create_task(client.connect()) for _ in range(2)]
    peer = await server.accept()
    await peer.close(4403, "Forbidden")
    await soon(asyncio.wait(waiting))
    assert [type(task.exception()) for task in waiting] == [Disconnected, Disconnected]
    server.gate.clear()
    waiting = [asyncio.create_task(client.connect()) for _ in range(2)]
    await until(lambda: len(server.handshakes) == 2)
    await soon(client.close())
    await soon(asyncio.wait(waiting))
    assert [type(task.exception()) for task in waiting] == [Disconnected, Disconnected]


class Said(Outgoing[None]):
    text: str


class SaidClient(Client):
    sends = {Said: Sends("said", {})}


@pytest.mark.parametrize("token", ["eyJh.SECRET==", "SECRET:x", "a SECRET", "SECRET/x"])
async def test_tokens_are_not_repeated(server: ScriptedServer, token: str) -> None:
    """A token that no subprotocol can be is told without it; so is the query of the URL, which may hold a ticket."""
    client = NewsClient(f"{server.url}?ticket=TICKET", token=token, timings=FAST)
    with pytest.raises(Disconnected) as caught:
        await client.connect()
    assert caught.value.reason.kind == "invalid"
    assert "SECRET" not in str(caught.value)
    assert "TICKET" not in repr(client)
    assert server.url in repr(client)
    assert not server.handshakes


async def test_half_a_character(server: ScriptedServer) -> None:
    """What cannot be written is told by name, and disturbs nothing."""
    client = SaidClient(server.url, timings=FAST)
    peer = await opened(client, server)  # type: ignore[arg-type]  # a client like any other
    for call in (client.send, client.request):
        with pytest.raises(ValueError, match="Said can't be sent"):
            await call(Said(text="\ud83c"))
    await client.send(Said(text="whole"))
    assert (await peer.receive("said"))["data"] == {"text": "whole"}
    await client.close()


async def test_streams_have_room(make: Callable[..., NewsClient]) -> None:
    """A stream that keeps nothing is none."""
    with pytest.raises(ValueError, match="limit must be at least 1"):
        make().events(News, limit=0)


# Eager tasks.


@pytest_asyncio.fixture
async def eager() -> AsyncIterator[None]:
    """Let the loop take the first step of a task when the task is created."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task_factory)
    yield
    loop.set_task_factory(None)


@pytest.mark.usefixtures("eager")
async def test_eager_tasks(server: ScriptedServer, make: Callable[..., NewsClient]) -> None:
    """With an eager task factory the client connects, receives events in order, and closes."""
    client = make()
    states: list[State] = []
    received: list[int] = []
    client.on_state(lambda status: states.append(status.state))
    client.on(News, lambda news: received.append(news.n))
    peer = await opened(client, server)
    for n in (1, 2, 3):
        await peer.send("news", {"n": n})
    await until(lambda: len(received) == 3)
    await soon(client.close())
    assert received == [1, 2, 3]
    assert states == [State.CONNECTING, State.OPEN, State.CLOSED]


@pytest.mark.usefixtures("eager")
async def test_eager_tasks_without_credentials(make: Callable[..., NewsClient]) -> None:
    """With an eager task factory a client whose token function gives up at once is closed, and says why."""

    def get_token() -> str:
        raise Unauthorized

    client = make(get_token=get_token)
    with pytest.raises(Disconnected):
        await soon(client.connect())
    await soon(client.wait_closed())
    assert client.state is State.CLOSED
    assert client.reason is not None
    assert client.reason.kind == "unauthorized"


@pytest.mark.usefixtures("eager")
async def test_eager_tasks_and_a_handler_that_closes(make: Callable[..., NewsClient]) -> None:
    """With an eager task factory a handler of the first state may close the client: it does not wait for itself."""
    client = make()
    done = asyncio.Event()

    async def close(status: Any) -> None:
        if status.state is State.CONNECTING:
            await client.close()
            done.set()

    client.on_state(close)
    client.start()
    await soon(done.wait())
    await soon(client.wait_closed())
    assert client.state is State.CLOSED
