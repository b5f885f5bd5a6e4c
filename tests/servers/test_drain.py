"""The end of a server: everybody is told, nothing is lost, and clients come back spread out."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import psutil
import pytest

from tests.servers.conftest import WITH_RUNTIME, marks_of
from tests.support.client import dial, send
from tests.support.processes import Server
from tests.support.raw import CLOSE, PING, PONG, RawClient, RawFrame, connect
from tests.support.report import note
from tests.support.waiting import aeventually
from wsrt.servers.granian import RELAY_SECONDS

pytestmark = pytest.mark.servers

CLIENTS = 1000
SETTINGS: dict[str, Any] = {"RATE": None, "DRAIN_SECONDS": 10, "HEARTBEAT": None}


def serve(kind: str, *, measured: bool = False) -> Server:
    return Server(kind, wsrt=SETTINGS, application="tests.apps.asgi:runtime", measured=measured)


async def last_frames(client: RawClient) -> list[RawFrame]:
    """Everything up to the close frame."""
    frames = [await client.receive(30)]
    while frames[-1].opcode != CLOSE:
        frames.append(await client.receive(30))
    return frames


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *((kind, signal.SIGTERM) for kind in WITH_RUNTIME),
        *(pytest.param(kind, signal.SIGINT, marks=marks_of(kind)) for kind in WITH_RUNTIME),
        # Its SIGINT is a quick shutdown by its own definition.
        ("gunicorn", signal.SIGTERM),
    ],
)
async def test_told_and_answered(kind: str, number: signal.Signals) -> None:
    """A handler under way finishes and its answer arrives, queued frames too, then 1001 with its reason (S37)."""
    with serve(kind, measured=True) as server:
        plain = await connect(server.port, "/chat/room/")
        extended = await connect(server.port, "/chat/room/", subprotocol="wsrt.v1")
        for client in (plain, extended):
            client.event("slow", ref="slow", seconds=1)
            client.event("echo", ref="behind", value=1)
        await asyncio.sleep(0.5)
        assert server.process is not None
        server.signal(number)
        for client in (plain, extended):
            frames = await last_frames(client)
            client.send(frames[-1].payload, CLOSE)
            assert frames[-1].close == (1001, "Server shutting down")
            answers = [frame.json for frame in frames[:-1] if frame.json.get("ref")]
            assert [answer["ref"] for answer in answers] == ["slow", "behind"]
            closing = [frame.json for frame in frames[:-1] if frame.json["event"] == "wsrt.closing"]
            assert len(closing) == (client is extended)
        await asyncio.to_thread(server.process.wait, 15)
        assert "Traceback" not in server.log()
        assert "drain timed out" not in server.log()


@pytest.mark.parametrize("kind", WITH_RUNTIME)
async def test_hooks_run(kind: str) -> None:
    """on_disconnect runs once for each connection while the process drains; it says who closed."""
    with serve(kind) as server:
        clients = [await connect(server.port, "/chat/room/") for _ in range(20)]
        for client in clients:
            client.event("echo", ref=1)
            await client.receive()
        server.signal(signal.SIGTERM)
        for client in clients:
            assert (await client.until(CLOSE)).close[0] == 1001
            client.send(b"\x03\xe9", CLOSE)
        assert server.process is not None
        await asyncio.to_thread(server.process.wait, 15)
        assert server.log().count("disconnected (1001, 'Server shutting down', 'server')") == 20


@pytest.mark.parametrize("kind", ["daphne", "uvicorn-sansio"])
async def test_tasks_end(kind: str) -> None:
    """Tasks of connections are cancelled, and have cleaned up before on_disconnect and before the process ends."""
    with serve(kind) as server:
        clients = [await connect(server.port, "/chat/room/") for _ in range(3)]
        for client in clients:
            client.event("linger", ref=1, seconds=0.5)
            await client.receive()
        clients.pop().writer.transport.abort()
        await aeventually(lambda: "'network')" in server.log(), "the lost client")
        assert server.log().index("lingered") < server.log().index("disconnected")
        server.signal(signal.SIGTERM)
        for client in clients:
            assert (await client.until(CLOSE)).close[0] == 1001
            client.send(b"\x03\xe9", CLOSE)
        assert server.process is not None
        await asyncio.to_thread(server.process.wait, 30)
        lines = [line for line in server.log().splitlines() if line.startswith(("lingered", "disconnected"))]
        assert [line.split()[0] for line in lines].count("lingered") == 3
        assert lines[-1].startswith("disconnected (1001")
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("kind", ["daphne", "uvicorn-sansio"])
async def test_second_signal(kind: str) -> None:
    """A second signal ends the process at once, whatever still runs."""
    with serve(kind, measured=True) as server:
        ws = await dial(server.url("/chat/"))
        await send(ws, "slow", seconds=60)
        await asyncio.sleep(0.3)
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert server.process is not None
        assert server.process.poll() is None
        server.signal(signal.SIGTERM)
        await asyncio.to_thread(server.process.wait, 4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_that_is_passed_on(number: signal.Signals) -> None:
    """A repetition of the first signal by granian's main process doesn't shorten the drain."""
    with serve("granian", measured=True) as server:
        client = await connect(server.port, "/chat/")
        client.event("slow", ref="slow", seconds=1)
        await asyncio.sleep(0.3)
        server.worker.send_signal(number)
        server.signal(number)
        assert (await client.receive()).json["ref"] == "slow"
        assert (await client.until(CLOSE)).close == (1001, "Server shutting down")


async def test_second_signal_to_a_worker() -> None:
    """A second signal that granian's worker gets later on ends it at once."""
    with serve("granian", measured=True) as server:
        ws = await dial(server.url("/chat/"))
        await send(ws, "slow", seconds=60)
        await asyncio.sleep(0.3)
        server.signal(signal.SIGTERM)
        await asyncio.sleep(RELAY_SECONDS + 0.5)
        assert server.process is not None
        assert server.process.poll() is None
        server.worker.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.process.wait, 4)


@pytest.mark.parametrize("kind", ["daphne", "uvicorn-sansio", "granian"])
async def test_newcomers_are_refused(kind: str) -> None:
    """A server that drains refuses new connections: with 503 if it can send that, else with 1013."""
    with serve(kind, measured=True) as server:
        busy = await connect(server.port, "/chat/")
        busy.event("slow", seconds=3)
        await asyncio.sleep(0.3)
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        try:
            late = await connect(server.port, "/chat/")
        except ConnectionError as refused:
            assert "503" in str(refused)
        else:
            assert (await late.until(CLOSE)).close == (1013, "Server shutting down")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=marks_of(kind)) for kind in WITH_RUNTIME])
async def test_everybody_comes_back(kind: str) -> None:
    """Of 1,000 clients all see 1001, and are back on another server over the window that they were told."""
    with serve(kind) as leaving, serve(kind) as staying:
        back: list[float] = []

        async def live(client: RawClient) -> None:
            hint = 0.0
            while (frame := await client.receive(60)).opcode != CLOSE:
                if frame.opcode == PING:
                    # The server's own keepalive, where a slow machine takes longer than that.
                    client.send(frame.payload, PONG)
                elif frame.json["event"] == "wsrt.closing":
                    hint = frame.json["data"]["retry_after_ms"] / 1000
            assert frame.close == (1001, "Server shutting down")
            client.send(frame.payload, CLOSE)
            await asyncio.sleep(hint)
            again = await come_back(staying)
            assert (await again.receive()).json["event"] == "wsrt.hello"
            # When it was told to dial: how late a busy machine does so is not part of the window.
            back.append(hint)
            again.writer.transport.abort()
            client.writer.transport.abort()

        lives = []
        for _ in range(CLIENTS):
            client = await connect(leaving.port, "/chat/room/", subprotocol="wsrt.v1")
            lives.append(asyncio.create_task(live(client)))
        assert leaving.process is not None
        await aeventually(lambda: _all_there(leaving), "all to be connected")
        leaving.signal(signal.SIGTERM)
        await asyncio.gather(*lives)
        await asyncio.to_thread(leaving.process.wait, 15)
        assert len(back) == CLIENTS
        # Spread over ten seconds: in no second come more than twice the average of the window.
        seconds = [sum(second <= moment < second + 1 for moment in back) for second in range(12)]
        note("Clients that came back after a drain, in each second", f"{kind:20} {seconds}")
        assert max(seconds) < 2 * CLIENTS / 10


async def come_back(server: Server) -> RawClient:
    """Connect as clients do: once more, where a crowd at the door of a slow machine was reset."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await connect(server.port, "/chat/room/", subprotocol="wsrt.v1")
            except ConnectionResetError:
                await asyncio.sleep(0.1)


async def _all_there(server: Server) -> bool:
    stats = await asyncio.to_thread(server.stats)
    return bool(stats["connections"] == CLIENTS)


class DevelopmentServer(Server):
    """``runserver`` of Daphne."""

    def __init__(self, *arguments: str) -> None:
        super().__init__("daphne", wsrt=SETTINGS, environment={"WSRT_TEST_RUNSERVER": "1"})
        self.command = [sys.executable, "-m", "django", "runserver", *arguments, f"127.0.0.1:{self.port}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_runserver(number: signal.Signals) -> None:
    """runserver without its reloader drains like Daphne itself."""
    with DevelopmentServer("--noreload") as server:
        client = await connect(server.port, "/chat/")
        client.event("slow", ref="slow", seconds=1)
        await asyncio.sleep(0.5)
        server.signal(number)
        assert (await client.receive()).json["ref"] == "slow"
        closing = await client.until(CLOSE)
        assert closing.close == (1001, "Server shutting down")
        client.send(closing.payload, CLOSE)
        assert server.process is not None
        await asyncio.to_thread(server.process.wait, 10)


async def test_runserver_with_reloader() -> None:
    """Below the reloader the process ends without waiting: clients are told, and no hook runs into the exit."""
    with DevelopmentServer() as server:
        client = await connect(server.port, "/chat/")
        client.event("echo", ref=1)
        await client.receive()
        assert server.process is not None
        # The reloader's parent waits for the child that serves.
        for child in psutil.Process(server.process.pid).children():
            child.send_signal(signal.SIGTERM)
        assert (await client.until(CLOSE)).close == (1001, "Server shutting down")
        client.send(b"\x03\xe9", CLOSE)
        await asyncio.to_thread(server.process.wait, 10)
        assert "disconnected (" not in server.log()
        assert "Traceback" not in server.log()
