"""The outbox, against a server whose send can be held up."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
import uvloop

from tests.protocol.test_session import LIMITS
from tests.support.eager import eager_task_factory
from wsrt import close_codes
from wsrt.addresses import Everyone
from wsrt.delivery import outbox as module
from wsrt.delivery.hub import CORK_AFTER, CORK_SECONDS, TURN, Hub
from wsrt.delivery.outbox import Outbox
from wsrt.delivery.subscriber import Subscriber
from wsrt.delivery.timer_wheel import TimerWheel
from wsrt.delivery.transport import Writer
from wsrt.metrics import counters
from wsrt.protocol.frame import Frame


class Transport:
    """A server: it takes frames at once, or holds them up, or raises."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None
        self.refuses: set[int] = set()
        self.calls: list[str] = []

    async def send(self, message: Any) -> None:
        if self.error is not None:
            raise self.error
        if message.get("code") in self.refuses:
            raise ValueError("invalid close code")
        if not self.open.is_set():
            await self.open.wait()
        self.sent.append(message.get("text", message.get("code")))

    send.__module__ = "uvicorn"  # as if it were a server's own

    def outbox(self, *, released: bool = True, **limits: Any) -> Outbox:
        outbox = Outbox(
            self.send,
            dataclasses.replace(LIMITS, **limits),
            TimerWheel(asyncio.get_running_loop()),
            on_overflow=lambda: self._overflow(outbox),
            on_error=lambda error: self.calls.append("error"),
            on_closed=lambda: self.calls.append("closed"),
        )
        if released:
            outbox.release()
        return outbox

    def _overflow(self, outbox: Outbox) -> None:
        self.calls.append("overflow")
        outbox.close(close_codes.BACKPRESSURE_OVERFLOW, discard=True)


def frames(*texts: str) -> list[Frame]:
    return [Frame(text) for text in texts]


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_eager() -> None:
    """While nothing waits, a frame is with the server when put returns, and no task was made."""
    transport = Transport()
    outbox = transport.outbox()
    tasks = len(asyncio.all_tasks())
    assert outbox.put(Frame("a"))
    assert transport.sent == ["a"]
    assert len(asyncio.all_tasks()) == tasks


async def test_back_pressure() -> None:
    """A held-up send is finished by a task; what follows keeps its order (S31, S32)."""
    transport = Transport()
    outbox = transport.outbox()
    transport.open.clear()
    for frame in frames("a", "b", "c"):
        outbox.put(frame)
    assert len(outbox) == 2
    assert not outbox.is_idle
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["a", "b", "c"]
    outbox.put(Frame("d"))
    assert transport.sent[-1] == "d"


async def test_other_awaitables() -> None:
    """A server whose send returns a future, or yields bare, is served too."""
    transport = Transport()
    futures: list[asyncio.Future[None]] = []

    def send(message: Any) -> Any:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    outbox = transport.outbox()
    outbox._send = send
    outbox.put(Frame("a"))
    outbox.put(Frame("b"))
    futures[0].set_result(None)
    await until(lambda: len(futures) == 2)
    futures[1].set_result(None)
    await until(lambda: outbox.is_idle)

    async def slowly(message: Any) -> None:
        await asyncio.sleep(0)
        raise OSError("gone")

    slowly.__module__ = "uvicorn"

    outbox._send = slowly
    outbox.put(Frame("c"))
    await until(lambda: transport.calls == ["error"])


@pytest.mark.parametrize("limit", [{"outbox_frames": 10}, {"outbox_bytes": 100}])
async def test_overflow(limit: dict[str, int]) -> None:
    """Over the limit of frames or bytes it overflows once, and 1013 goes out if the client reads again (S30)."""
    transport = Transport()
    outbox = transport.outbox(**limit)
    transport.open.clear()
    before = counters["outbox_overflows"]
    for _ in range(30):
        outbox.put(Frame("x" * 10))
    assert transport.calls == ["overflow"]
    assert counters["outbox_overflows"] == before + 1
    transport.open.set()
    await until(lambda: "closed" in transport.calls)
    assert transport.sent == ["x" * 10, 1013]
    assert outbox.close_sent


async def test_too_old() -> None:
    """A frame that waited too long overflows: a client that reads nothing is found by time (S32)."""
    transport = Transport()
    outbox = transport.outbox(outbox_seconds=0.02)
    transport.open.clear()
    outbox.put(Frame("a"))
    await until(lambda: "overflow" in transport.calls)


async def test_standstill_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads is not closed because the process stood still for longer than a frame may wait."""
    loop = asyncio.get_running_loop()
    transport = Transport()
    outbox = transport.outbox(outbox_seconds=0.5)
    transport.open.clear()
    for frame in frames("a", "b", "c"):
        outbox.put(frame)
    time, stopped = loop.time, 100.0
    monkeypatch.setattr(loop, "time", lambda: time() + stopped)
    await asyncio.sleep(0.15)  # a turn of the wheel
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["a", "b", "c"]
    assert transport.calls == []


async def test_time_of_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for which a publication waited for the set-up is not counted as a client that does not read."""
    loop = asyncio.get_running_loop()
    transport = Transport()
    outbox = transport.outbox(released=False, outbox_seconds=10)
    outbox.put(Frame("a"))
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + 30)
    transport.open.clear()
    outbox.release()
    await asyncio.sleep(0.25)  # turns of the wheel
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert (transport.sent, transport.calls) == (["a"], [])


async def test_stalled_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read at all is given up, with everything that waits."""
    monkeypatch.setattr(module, "ABORT_SECONDS", 0.01)
    transport = Transport()
    outbox = transport.outbox(outbox_frames=2)
    transport.open.clear()
    for frame in frames("a", "b", "c", "d", "e"):
        outbox.put(frame)
    await until(lambda: "closed" in transport.calls)
    assert transport.sent == []
    assert not outbox.close_sent
    outbox.put(Frame("f"))
    outbox.put_direct(Frame("g"))
    outbox.abandon()
    outbox.close(close_codes.NORMAL)
    assert transport.calls == ["overflow", "closed"]


async def test_close_drains() -> None:
    """A close waits for what is queued before it (S37)."""
    transport = Transport()
    outbox = transport.outbox()
    transport.open.clear()
    for frame in frames("a", "b"):
        outbox.put(frame)
    outbox.close(close_codes.NORMAL)
    outbox.put(Frame("late"))
    transport.open.set()
    await until(lambda: "closed" in transport.calls)
    assert transport.sent == ["a", "b", 1000]


async def test_code_that_the_server_refuses() -> None:
    """Where a server refuses the code, its twin goes out; where it refuses both, we give up."""
    transport = Transport()
    transport.refuses = {1011}
    outbox = transport.outbox()
    outbox.close(close_codes.MESSAGE_HANDLING_FAILED)
    await until(lambda: transport.calls)
    assert transport.sent == [4011]
    transport = Transport()
    transport.refuses = {4403}
    outbox = transport.outbox()
    outbox.close(close_codes.FORBIDDEN)
    await until(lambda: transport.calls)
    assert (transport.sent, outbox.close_sent) == ([], False)


async def test_send_that_raises() -> None:
    """What send raises is told once; nothing is sent after it, and nothing gets lost in an exception (S44)."""
    transport = Transport()
    transport.error = OSError("gone")
    outbox = transport.outbox()
    outbox.put(Frame("a"))
    assert transport.calls == ["error"]
    outbox.close(close_codes.OUTBOUND_PUBLISH_FAILED, discard=True)
    await until(lambda: "closed" in transport.calls)


async def test_held_until_release() -> None:
    """Before release publications wait behind what is sent directly (S52)."""
    transport = Transport()
    outbox = transport.outbox(released=False)
    outbox.put(Frame("publication"))
    outbox.put_direct(Frame("snapshot"))
    assert transport.sent == ["snapshot"]
    outbox.release()
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["snapshot", "publication"]


async def test_held_and_closed() -> None:
    """Frames that waited for a set-up are dropped when it fails."""
    transport = Transport()
    outbox = transport.outbox(released=False)
    outbox.put(Frame("publication"))
    outbox.close(close_codes.FORBIDDEN)
    outbox.release()
    await until(lambda: transport.calls)
    assert transport.sent == [4403]
    transport = Transport()
    outbox = transport.outbox(released=False)
    outbox.put(Frame("publication"))
    outbox.abandon()
    assert len(outbox) == 0


async def test_room() -> None:
    """room() waits until a frame fits, and ends with the connection."""
    transport = Transport()
    outbox = transport.outbox(outbox_frames=2)
    transport.open.clear()
    for frame in frames("a", "b", "c"):
        outbox.put(frame)
    waiting = [asyncio.create_task(outbox.wait_for_space()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    transport.open.set()
    await asyncio.gather(*waiting)
    transport.open.clear()
    for frame in frames("d", "e", "f"):
        outbox.put(frame)
    waiting = [asyncio.create_task(outbox.wait_for_space())]
    await asyncio.sleep(0)
    outbox.abandon()
    await asyncio.gather(*waiting)


async def test_room_for_publications() -> None:
    """A burst of the connection's own handler leaves half of the outbox to publications, which do not wait."""
    transport = Transport()
    outbox = transport.outbox(outbox_frames=10)
    transport.open.clear()
    outbox.put_direct(Frame("under way"))
    own = 0

    async def burst() -> None:
        nonlocal own
        while True:
            await outbox.wait_for_space()
            outbox.put_direct(Frame("own"))
            own += 1
            await asyncio.sleep(0)

    bursting = asyncio.create_task(burst())
    for _ in range(50):
        await asyncio.sleep(0)
    assert own == 5
    for frame in frames("a", "b", "c", "d"):
        outbox.put(frame)
    assert transport.calls == []
    bursting.cancel()
    outbox.abandon()


async def test_drop() -> None:
    """An event with overflow="drop" is skipped while something waits, and counted."""
    transport = Transport()
    outbox = transport.outbox()
    outbox.put(Frame("seen", "drop"))
    transport.open.clear()
    outbox.put(Frame("a"))
    before = counters["events_dropped"]
    outbox.put(Frame("skipped", "drop"))
    assert counters["events_dropped"] == before + 1
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["seen", "a"]


async def test_latest() -> None:
    """An event with overflow="latest" takes the place of the waiting one with its key, and counts."""
    transport = Transport()
    outbox = transport.outbox(outbox_frames=3)
    transport.open.clear()
    outbox.put(Frame("a"))
    for value in range(50):
        outbox.put(Frame(f"x{value}", "latest", "x"))
        outbox.put(Frame(f"y{value}", "latest", "y"))
    assert len(outbox) == 2
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["a", "x49", "y49"]
    transport.open.clear()
    outbox.put(Frame("b"))
    outbox.put(Frame("x50", "latest", "x"))
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent[-1] == "x50"


async def test_latest_across_queues() -> None:
    """A direct frame does not take the place of a held publication with its key."""
    transport = Transport()
    outbox = transport.outbox(released=False)
    outbox.put(Frame("held", "latest", "x"))
    transport.open.clear()
    outbox.put_direct(Frame("a"))
    outbox.put_direct(Frame("direct", "latest", "x"))
    outbox.release()
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["a", "direct", "held"]


async def test_slow_client_delays_nobody() -> None:
    """One that does not read costs the others nothing (D1)."""
    slow, quick = Transport(), Transport()
    outboxes = [slow.outbox(), quick.outbox()]
    slow.open.clear()
    for number in range(1500):
        for outbox in outboxes:
            outbox.put(Frame(str(number)))
    assert quick.sent == [str(number) for number in range(1500)]
    assert slow.calls == ["overflow"]


class Socket:
    """Takes frames at once: what was written, and whether it takes anything."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.is_open = True

    def write(self, frames: Sequence[Frame]) -> bool:
        if self.is_open:
            self.transport.sent.append(b"".join(frame.framed for frame in frames))
        return self.is_open

    @property
    def writer(self) -> Writer:
        return Writer(lambda frame: self.write([frame]), self.write)


async def test_fast_path() -> None:
    """A frame is written as it stands on the wire while the fast path takes it, and sent otherwise; in order."""
    transport = Transport()
    outbox, socket = transport.outbox(), Socket(transport)
    outbox.use(socket.writer)
    outbox.put(Frame("a"))
    socket.is_open = False
    outbox.put(Frame("b"))
    socket.is_open = True
    outbox.put(Frame("c"))
    assert transport.sent == [b"\x81\x01a", "b", b"\x81\x01c"]


async def test_fast_path_waits_behind_a_send_that_blocks() -> None:
    """While an ordinary send is blocked half-way, nothing goes past it."""
    transport = Transport()
    outbox, socket = transport.outbox(), Socket(transport)
    outbox.use(socket.writer)
    socket.is_open = False
    transport.open.clear()
    outbox.put(Frame("blocked"))
    socket.is_open = True
    outbox.put(Frame("behind"))
    assert outbox.put_corked(Frame("further behind")) is False
    outbox.put_direct(Frame("last"))
    assert transport.sent == []
    transport.open.set()
    await until(lambda: outbox.is_idle)
    outbox.put(Frame("fast again"))
    assert transport.sent == ["blocked", "behind", "further behind", "last", b"\x81\x0afast again"]


async def test_corked() -> None:
    """Corked frames go out together, in one write."""
    transport = Transport()
    outbox = transport.outbox()
    outbox.use(Socket(transport).writer)
    assert [outbox.put_corked(Frame(text)) for text in "abc"] == [True, False, False]
    assert transport.sent == []
    outbox.uncork()
    outbox.uncork()
    assert transport.sent == [b"\x81\x01a\x81\x01b\x81\x01c"]
    assert outbox.is_idle
    outbox.put(Frame("d"))
    assert transport.sent[1:] == [b"\x81\x01d"]


async def test_corked_for_ordinary_sends() -> None:
    """Nothing is corked where there is no writer; what a writer does not take in the end is sent one by one."""
    transport = Transport()
    outbox, socket = transport.outbox(), Socket(transport)
    assert not outbox.put_corked(Frame("at once"))
    outbox.use(socket.writer)
    outbox.put_corked(Frame("a"))
    outbox.put_corked(Frame("b"))
    assert transport.sent == ["at once"]
    socket.is_open = False
    transport.open.clear()
    outbox.uncork()
    outbox.put(Frame("c"))
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["at once", "a", "b", "c"]


async def test_direct_frames_uncork() -> None:
    """What is meant for one client waits for no cork, and goes behind what was published before."""
    transport = Transport()
    outbox = transport.outbox()
    outbox.use(Socket(transport).writer)
    outbox.put_corked(Frame("a"))
    outbox.put_direct(Frame("b"))
    assert transport.sent == [b"\x81\x01a", b"\x81\x01b"]


async def test_closed_while_corked() -> None:
    """What waits for the cork leaves before the close frame (S37)."""
    transport = Transport()
    outbox = transport.outbox()
    outbox.use(Socket(transport).writer)
    outbox.put_corked(Frame("a"))
    outbox.close(close_codes.NORMAL)
    outbox.uncork()
    await until(lambda: transport.calls)
    assert transport.sent == ["a", 1000]


async def test_cork_keeps_the_limits() -> None:
    """A cork that is full is pulled; events that may be replaced are, and those that may be skipped are not."""
    transport = Transport()
    outbox = transport.outbox(outbox_frames=3)
    outbox.use(Socket(transport).writer)
    for frame in (Frame("1", "latest", "k"), Frame("2", "latest", "k"), Frame("3", "drop"), Frame("4"), Frame("5")):
        outbox.put_corked(frame)
    outbox.uncork()
    assert b"".join(transport.sent) == b"\x81\x012\x81\x013\x81\x014\x81\x015"


async def test_fast_path_that_raises() -> None:
    """A fast path that raises is a send that failed."""
    transport = Transport()

    def broken(frames: object) -> bool:
        raise OSError("gone")

    outbox = transport.outbox()
    outbox.use(Writer(broken, broken))
    outbox.put_corked(Frame("a"))
    outbox.uncork()
    assert transport.calls == ["error"]


@pytest.mark.parametrize("members", [CORK_AFTER, 3 * TURN])
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_hub_corks_under_load(factory: Callable[[], asyncio.AbstractEventLoop], members: int) -> None:
    """
    Few publications go out at once; many in a row go out together, complete and in order, also where the clock has a
    resolution of 1 ms and stands still within a turn of the loop (D2).
    """
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(hub_corks_under_load(members))


async def hub_corks_under_load(members: int) -> None:
    hub = Hub(asyncio.get_running_loop())
    transports = [Transport() for _ in range(members)]
    for number, transport in enumerate(transports):
        outbox = transport.outbox()
        outbox.use(Socket(transport).writer)
        connection = Subscriber(f"n-{number}", "n", outbox, None)  # type: ignore[arg-type]
        hub.add(connection)
    for number in range(10):
        hub.deliver("n", Everyone(), Frame(str(number)))
    assert [len(transport.sent) for transport in transports] == [1] * members
    await until(lambda: all(len(b"".join(transport.sent)) == 30 for transport in transports))
    for transport in transports:
        assert len(transport.sent) < 10
        assert b"".join(transport.sent) == b"".join(b"\x81\x01%d" % number for number in range(10))


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_hub_rests_after_a_load(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Once nothing was published for a while, a publication goes out at once again."""
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(hub_rests_after_a_load())


async def hub_rests_after_a_load() -> None:
    hub = Hub(asyncio.get_running_loop())
    transports = [Transport() for _ in range(CORK_AFTER)]
    for number, transport in enumerate(transports):
        outbox = transport.outbox()
        outbox.use(Socket(transport).writer)
        hub.add(Subscriber(f"n-{number}", "n", outbox, None))  # type: ignore[arg-type]
    for number in range(3):
        hub.deliver("n", Everyone(), Frame(str(number)))
    await until(lambda: all(len(b"".join(transport.sent)) == 9 for transport in transports))
    await asyncio.sleep(5 * CORK_SECONDS)  # longer than anything waits
    hub.deliver("n", Everyone(), Frame("x"))
    assert all(transport.sent[-1] == b"\x81\x01x" for transport in transports)


class Middleware:
    """
    An application's wrapper around a server's ``send``, as tracing and correlation ids have it.

    Args:
        transport: The server.
        has_its_name: Whether the wrapper takes over the name and the module of the server's ``send``.
    """

    def __init__(self, transport: Transport, *, has_its_name: bool = False) -> None:
        self.transport = transport
        self.has_its_name = has_its_name
        self.spans: list[object] = []
        self.tasks: list[object] = []

    async def send(self, message: Any) -> None:
        self.spans.append(span.get())
        before = asyncio.current_task()
        token = span.set("send")
        try:
            with anyio.CancelScope():
                await self.transport.send(message)
        finally:
            # Raises in another context, as leaving the scope does in another task.
            span.reset(token)
            self.tasks.append(asyncio.current_task() is before)

    def outbox(self, **limits: Any) -> Outbox:
        """An outbox as a connection has it, which is opened in a context of its own."""
        context = contextvars.copy_context()
        context.run(span.set, "connection")
        plain = self.transport.send
        wrapper: Any = functools.wraps(plain)(lambda message: self.send(message)) if self.has_its_name else self.send
        self.transport.send = wrapper  # type: ignore[method-assign]
        try:
            return context.run(lambda: self.transport.outbox(**limits))
        finally:
            self.transport.send = plain  # type: ignore[method-assign]


span: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")


@pytest.fixture(params=["lazy", "eager"])
async def factory(request: pytest.FixtureRequest) -> None:
    """The loop's task factory."""
    if request.param == "eager":
        asyncio.get_running_loop().set_task_factory(eager_task_factory)


@pytest.mark.usefixtures("factory")
@pytest.mark.parametrize("has_its_name", [False, True])
async def test_wrapped_send_runs_in_one_task_and_context(has_its_name: bool) -> None:
    """A send that middleware has wrapped begins and ends in one task, and in the connection's context."""
    transport = Transport()
    middleware = Middleware(transport, has_its_name=has_its_name)
    outbox = middleware.outbox()
    span.set("publisher")
    for text in "ab":
        outbox.put(Frame(text))
        await until(lambda: outbox.is_idle)
    transport.open.clear()
    for text in "cd":
        outbox.put(Frame(text))
    await asyncio.sleep(0)
    outbox.put_direct(Frame("e"))
    transport.open.set()
    await until(lambda: outbox.is_idle)
    outbox.close(close_codes.NORMAL)
    await until(lambda: outbox.close_sent)
    assert transport.sent == ["a", "b", "c", "d", "e", 1000]
    assert middleware.spans == ["connection"] * 6
    assert all(middleware.tasks)
    assert "error" not in transport.calls
    assert span.get() == "publisher"


@pytest.mark.usefixtures("factory")
async def test_stalled_wrapped_send_is_closed() -> None:
    """A stalled send is cancelled in its own task; then the client is told why it is closed."""
    transport = Transport()
    outbox = Middleware(transport).outbox(outbox_seconds=0.02)
    transport.open.clear()
    outbox.put(Frame("a"))
    await until(lambda: "overflow" in transport.calls)
    transport.open.set()
    await until(lambda: outbox.close_sent)
    assert transport.sent == [1013]


async def test_frames_that_wait_for_the_loop_are_not_skipped() -> None:
    """An event with overflow="drop" is skipped for a client that is behind, not for a task that has yet to run."""
    transport = Transport()
    outbox = Middleware(transport).outbox(outbox_frames=4)
    for text in "abcdef":
        outbox.put(Frame(text, "drop"))
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["a", "b", "c", "d"]
    transport.open.clear()
    outbox.put(Frame("g", "drop"))
    await asyncio.sleep(0)
    outbox.put(Frame("h", "drop"))
    transport.open.set()
    await until(lambda: outbox.is_idle)
    assert transport.sent[4:] == ["g"]
    assert "overflow" not in transport.calls


async def test_corked_frames_of_a_wrapped_send() -> None:
    """What a writer does not take goes through the wrapped send, in order."""
    transport = Transport()
    outbox, socket = Middleware(transport).outbox(), Socket(transport)
    outbox.use(socket.writer)
    for text in "abc":
        outbox.put_corked(Frame(text))
    socket.is_open = False
    outbox.uncork()
    outbox.put(Frame("d"))
    await until(lambda: outbox.is_idle)
    assert transport.sent == ["a", "b", "c", "d"]


async def test_cancelled_before_it_ran() -> None:
    """A task of the outbox that somebody else cancels before it ran ends the connection, as a failed send does."""
    transport = Transport()
    outbox = Middleware(transport).outbox(outbox_seconds=0.02)
    others = asyncio.all_tasks()
    outbox.put(Frame("a"))
    for task in asyncio.all_tasks() - others:
        task.cancel()
    await until(lambda: transport.calls == ["error"])


async def test_send_that_swallows_its_cancellation() -> None:
    """A stalled send that doesn't end when it is cancelled is cancelled again, and the client is closed."""
    transport = Transport()
    cancelled: list[str] = []

    async def stubborn(message: Any) -> None:
        if "text" in message:
            while len(cancelled) < 2:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(message["text"])
            raise asyncio.CancelledError
        await Transport.send(transport, message)

    transport.send = stubborn  # type: ignore[method-assign]
    outbox = transport.outbox(outbox_seconds=0.02)
    outbox.put(Frame("a"))
    await until(lambda: outbox.close_sent)
    assert cancelled == ["a", "a"]
    assert transport.sent == [1013]
