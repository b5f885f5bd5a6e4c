"""The heartbeat on the wire: dead clients are found in time, and no others are closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.servers.conftest import WITH_RUNTIME
from tests.support.client import dial, request, send
from tests.support.processes import Server
from tests.support.raw import CLOSE, PING, PONG, TEXT, RawClient, connect

pytestmark = pytest.mark.servers

HEARTBEAT, TIMEOUT = 1.0, 1.5
IN_TIME = HEARTBEAT + TIMEOUT + 1.5
"""What machines may be late is added."""


Scenario = Callable[[Server], Awaitable[None]]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """All servers at once: most of these tests wait."""
    wsrt = {"RATE": None, "HEARTBEAT": HEARTBEAT, "HEARTBEAT_TIMEOUT": TIMEOUT}
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Server(kind, wsrt=wsrt, application="tests.apps.asgi:runtime", measured=True))
            for kind in WITH_RUNTIME
        ]


async def on_all(servers: list[Server], scenario: Scenario) -> None:
    """Run a scenario on every server at a time; an error tells which."""

    async def on_one(server: Server) -> None:
        try:
            await scenario(server)
        except BaseException as error:
            error.add_note(f"on {server.kind}")
            raise

    await asyncio.gather(*map(on_one, servers))


def that_ping(servers: list[Server]) -> list[Server]:
    """All but those that give no way to send protocol pings: plain clients have no heartbeat there."""
    return [server for server in servers if server.kind not in {"hypercorn", "granian"}]


def seconds_since(begun: float) -> float:
    return asyncio.get_running_loop().time() - begun


async def test_plain_client_that_answers_nothing(servers: list[Server]) -> None:
    """A plain client gets protocol pings, and is closed 1001 in time when it answers none (S46, S48, S49)."""

    async def scenario(server: Server) -> None:
        async with await connect(server.port, "/chat/") as client:
            begun = asyncio.get_running_loop().time()
            assert (await client.until(PING)).opcode == PING
            assert (await client.until(CLOSE)).close == (1001, "Heartbeat timeout")
            assert seconds_since(begun) < IN_TIME

    await on_all(that_ping(servers), scenario)


async def test_extended_client_that_answers_nothing(servers: list[Server]) -> None:
    """A wsrt.v1 client gets wsrt.ping on every server, and no protocol pings beside them."""

    async def scenario(server: Server) -> None:
        async with await connect(server.port, "/chat/", subprotocol="wsrt.v1") as client:
            begun = asyncio.get_running_loop().time()
            frames = []
            while (frame := await client.receive()).opcode != CLOSE:
                frames.append(frame)
            assert frame.close == (1001, "Heartbeat timeout")
            assert [each.json["event"] for each in frames] == ["wsrt.hello", "wsrt.ping"]
            assert seconds_since(begun) < IN_TIME

    await on_all(servers, scenario)


@pytest.fixture(scope="module", params=["uvicorn-sansio", "uvicorn-websockets", "uvicorn-wsproto", "granian"])
def coarse(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on uvloop, whose clock has a resolution of 1 ms and stands still within a turn of the loop."""
    wsrt = {"RATE": None, "HEARTBEAT": 0.1, "HEARTBEAT_TIMEOUT": 0.3}
    with Server(request.param, "--loop", "uvloop", wsrt=wsrt, application="tests.apps.asgi:runtime") as server:
        yield server


async def test_answers_within_the_resolution_of_the_clock(coarse: Server) -> None:
    """Clients that answer each ping in less than a millisecond stay, plain and wsrt.v1."""
    kinds = [None, "wsrt.v1"] if that_ping([coarse]) else ["wsrt.v1"]
    clients = [await connect(coarse.port, "/chat/", subprotocol=kind) for kind in kinds for _ in range(6)]

    async def answer(client: RawClient) -> None:
        answered = 0
        while answered < 20:
            frame = await client.receive()
            assert frame.opcode != CLOSE, frame.close
            if frame.opcode == PING:
                client.send(frame.payload, PONG)
                answered += 1
            elif frame.json["event"] == "wsrt.ping":
                client.event("wsrt.pong")
                answered += 1
        await still_there(client)

    await asyncio.gather(*map(answer, clients))


async def test_late_answers(servers: list[Server]) -> None:
    """A client that answers every ping late, but within the limit, stays."""

    async def scenario(server: Server) -> None:
        async with await connect(server.port, "/chat/") as client:
            for _ in range(3):
                ping = await client.until(PING)
                await asyncio.sleep(TIMEOUT * 0.8)
                client.send(ping.payload, PONG)
            await still_there(client)

    await on_all(that_ping(servers), scenario)


async def test_data_alone(servers: list[Server]) -> None:
    """A client that answers no ping, but sends data, stays (S47)."""

    async def scenario(server: Server) -> None:
        async with await connect(server.port, "/chat/") as client:
            for _ in range(10):
                client.event("echo")
                await asyncio.sleep(HEARTBEAT * 0.6)
            await still_there(client)

    await on_all(that_ping(servers), scenario)


async def test_pings_of_the_client(servers: list[Server]) -> None:
    """A client's own pings are life too, and are answered."""

    async def scenario(server: Server) -> None:
        async with await connect(server.port, "/chat/") as client:
            for _ in range(10):
                client.send(b"mine", PING)
                await asyncio.sleep(HEARTBEAT * 0.6)
            assert (await client.until(PONG)).payload == b"mine"
            await still_there(client)

    await on_all(that_ping(servers), scenario)


@pytest.mark.parametrize("kind", ["daphne", "uvicorn-sansio", "hypercorn"])
@pytest.mark.slow
async def test_process_that_stood_still_while_frames_waited(kind: str) -> None:
    """A client that reads gets every frame, though the process stood still for longer than a frame may wait."""
    count = 150
    wsrt = {"RATE": None, "OUTBOX_FRAMES": 10_000, "OUTBOX_BYTES": 100_000_000, "OUTBOX_SECONDS": 3}
    with Server(kind, wsrt=wsrt, application="tests.apps.asgi:runtime") as server:
        client = await connect(server.port, "/chat/stopped/", buffer=4096)
        client.event("echo", ref="in")
        assert (await client.receive()).json["ref"] == "in"
        talker = await dial(server.url("/chat/"))
        client.writer.transport.pause_reading()
        # More than the kernel buffers: the answer says that it waits.
        assert (await request(talker, "burst", count=count, size=50_000, room="stopped"))["event"] == "wsrt.ok"
        server.worker.suspend()
        client.writer.transport.resume_reading()
        begun = asyncio.get_running_loop().time()
        texts = [(await client.until(TEXT)).json["data"]["text"].rstrip(".") for _ in range(3)]
        await asyncio.sleep(max(0.0, begun + 6 - asyncio.get_running_loop().time()))
        server.worker.resume()
        texts += [(await client.until(TEXT)).json["data"]["text"].rstrip(".") for _ in range(count - 3)]
        assert texts == [str(number) for number in range(count)]


async def test_process_that_stood_still_while_a_client_sent() -> None:
    """A client that keeps the rate stays, though its frames of a standstill of the process arrive at once."""
    wsrt = {"RATE": "50/s", "RATE_BURST": 50, "HEARTBEAT": 1, "HEARTBEAT_TIMEOUT": 10}
    with Server("uvicorn-sansio", wsrt=wsrt, application="tests.apps.asgi:runtime") as server:
        async with await connect(server.port, "/chat/", subprotocol="wsrt.v1") as client:
            client.event("echo", ref=-1)
            while (await client.receive()).json.get("ref") != -1:
                pass
            server.worker.suspend()
            for number in range(120):
                client.event("echo", ref=number)
                await asyncio.sleep(0.04)
            server.worker.resume()
            refs: list[int] = []
            while len(refs) < 120:
                frame = (await client.until(TEXT)).json
                assert frame["event"] != "wsrt.error", frame
                refs += [frame["ref"]] if "ref" in frame else []
            assert refs == list(range(120))


async def still_there(client: RawClient) -> None:
    client.event("echo", ref="last")
    while (frame := await client.receive()).opcode != CLOSE:
        if frame.opcode == 0x1 and frame.json.get("ref") == "last":
            return
    raise AssertionError(f"closed {frame.close}")


async def test_slow_handler(servers: list[Server]) -> None:
    """A healthy client behind a handler that takes far longer than the heartbeat stays (S21)."""

    async def scenario(server: Server) -> None:
        ws = await dial(server.url("/chat/"), ping_interval=None)
        await send(ws, "slow", seconds=3 * (HEARTBEAT + TIMEOUT))
        assert (await request(ws, "echo"))["event"] == "echoed"
        await ws.close()

    await on_all(servers, scenario)


@pytest.mark.slow
async def test_process_that_stood_still(servers: list[Server]) -> None:
    """50 healthy clients of a process that is stopped for 3 s, six times, all stay."""

    async def scenario(server: Server) -> None:
        clients = [await dial(server.url("/chat/"), ping_interval=None) for _ in range(50)]
        for _ in range(6):
            server.worker.suspend()
            await asyncio.sleep(3)
            server.worker.resume()
            await asyncio.sleep(1)
        for ws in clients:
            assert (await request(ws, "echo"))["event"] == "echoed"
            await ws.close()

    await on_all(servers, scenario)
