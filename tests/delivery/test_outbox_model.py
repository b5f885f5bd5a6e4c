"""The outbox under any sequence of actions of its callers, the server and middleware."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
import uvloop

from tests.protocol.test_session import LIMITS
from tests.support.eager import eager_task_factory
from wsrt import close_codes
from wsrt.delivery.outbox import Outbox
from wsrt.delivery.timer_wheel import TimerWheel
from wsrt.delivery.transport import Writer
from wsrt.protocol.frame import Frame

MANY = 1_000
"""A limit that no sequence reaches."""

TURNS = 400
"""More turns of the loop than any sequence needs once nothing holds it up."""

span: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")


class Server:
    """A server's ``send``: it takes frames at once, after some turns, when its gate opens, or raises."""

    def __init__(self, turns: int) -> None:
        self.sent: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.turns = turns
        self.error: BaseException | None = None
        self.is_writable = False
        # Calls under way: a server has one socket, and frames must not be sent at the same time.
        self.under_way = 0

    async def send(self, message: Any) -> None:
        assert not self.under_way
        self.under_way += 1
        try:
            if self.error is not None:
                raise self.error
            for _ in range(self.turns):
                await asyncio.sleep(0)
            if not self.gate.is_set():
                await self.gate.wait()
            self.sent.append(message.get("text", message.get("code")))
        finally:
            self.under_way -= 1

    send.__module__ = "uvicorn"

    def write(self, frames: Sequence[Frame]) -> bool:
        if self.is_writable:
            assert not self.under_way
            self.sent += [frame.text for frame in frames]
        return self.is_writable


def plain(server: Server) -> Callable[[Any], Awaitable[None]]:
    """The server's own send."""
    return server.send


def future(server: Server) -> Callable[[Any], Awaitable[None]]:
    """A server whose send returns something of its own, as granian's does."""

    def send(message: Any) -> Awaitable[None]:
        return asyncio.ensure_future(server.send(message))

    send.__module__ = "uvicorn"
    return send


def wrapped(server: Server) -> Callable[[Any], Awaitable[None]]:
    """Middleware that keeps a context variable and a cancel scope around send, as tracing and anyio do."""

    async def send(message: Any) -> None:
        assert span.get() == "connection"
        token = span.set("send")
        task = asyncio.current_task()
        try:
            with anyio.CancelScope():
                await server.send(message)
        finally:
            assert asyncio.current_task() is task
            span.reset(token)

    return send


SENDS = {"plain": plain, "future": future, "wrapped": wrapped}

WEIGHTS: dict[Any, int] = {
    ("put", "close"): 3,
    ("put", "drop"): 1,
    ("put", "x"): 1,
    ("put", "y"): 1,
    ("put_corked", "close"): 3,
    ("put_corked", "x"): 1,
    "direct": 3,
    "uncork": 1,
    "release": 2,
    "shut": 3,
    "open": 1,
    "jam": 1,
    "clear": 2,
    ("turns", 1): 2,
    ("turns", 3): 1,
}
"""What may happen, and how often."""

ENDS = ("finish", "finish", "close", "discard", "abandon", "error", "cancelled", "cancel")

SEEDS = 500
FEW_SEEDS = 120


class Story:
    """What happens, by seed."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.turns = rng.choice((0, 0, 1, 2))
        self.limit = rng.choice((3, MANY))
        self.operations: list[Any] = rng.choices([*WEIGHTS], [*WEIGHTS.values()], k=rng.randint(3, 40))
        if rng.random() < 0.7:
            self.operations.insert(0, "release")
        self.how = rng.choice(ENDS)

    def __repr__(self) -> str:
        return repr(vars(self))


class World:
    """An outbox, what was put into it in which order, and what it reported."""

    def __init__(self, kind: str, turns: int, limit: int) -> None:
        self.server = Server(turns)
        self.calls: list[str] = []
        self.order: list[Frame] = []
        self.held: list[Frame] | None = []
        self.number = 0
        context = contextvars.copy_context()
        context.run(span.set, "connection")
        self.outbox: Outbox = context.run(self._make, SENDS[kind](self.server), limit)
        self.outbox.use(Writer(lambda frame: self.server.write([frame]), self.server.write))

    def _make(self, send: Any, limit: int) -> Outbox:
        return Outbox(
            send,
            dataclasses.replace(LIMITS, outbox_frames=limit),
            TimerWheel(asyncio.get_running_loop()),
            on_overflow=lambda: self._end("overflow", close_codes.BACKPRESSURE_OVERFLOW),
            on_error=lambda error: self._end("error", close_codes.OUTBOUND_PUBLISH_FAILED),
            on_closed=lambda: self.calls.append("closed"),
        )

    def _end(self, call: str, close: close_codes.Close) -> None:
        # As a connection does.
        self.calls.append(call)
        self.outbox.close(close, discard=True)

    def frame(self, kind: str) -> Frame:
        self.number += 1
        if kind in ("x", "y"):
            return Frame(f"{kind}{self.number}", "latest", kind)
        return Frame(f"{kind}{self.number}", "drop" if kind == "drop" else "close")

    async def do(self, operation: Any) -> None:
        match operation:
            case ("put" | "put_corked" as name, kind):
                frame = self.frame(kind)
                (self.order if self.held is None else self.held).append(frame)
                getattr(self.outbox, name)(frame)
            case "direct":
                frame = self.frame("close")
                self.order.append(frame)
                self.outbox.put_direct(frame)
            case "uncork":
                self.outbox.uncork()
            case "release":
                if self.held is not None:
                    self.order += self.held
                    self.held = None
                    self.outbox.release()
            case "shut":
                self.server.gate.clear()
            case "open":
                self.server.gate.set()
            case "jam":
                self.server.is_writable = False
            case "clear":
                self.server.is_writable = True
            case ("turns", count):
                for _ in range(count):
                    await asyncio.sleep(0)

    async def end(self, how: str) -> None:
        if how in ("error", "cancelled"):
            self.server.error = OSError("gone") if how == "error" else asyncio.CancelledError()
        elif how == "cancel":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        elif how == "abandon":
            # Whatever is held up stays so.
            self.outbox.abandon()
        if how != "abandon":
            await self.do("open")
        await self.do("release")
        if how in ("close", "discard"):
            self.outbox.close(close_codes.NORMAL, discard=how == "discard")
        await self.do("uncork")
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def check(self, how: str) -> None:
        sent = self.server.sent
        texts = [text for text in sent if isinstance(text, str)]
        codes = [code for code in sent if isinstance(code, int)]
        assert len(set(texts)) == len(texts), "duplicated"
        # The close frame comes once, after everything else.
        assert codes == sent[len(texts) :]
        assert len(codes) <= 1
        known = {frame.text: place for place, frame in enumerate(self.order)}
        ordered = [known[text] for text in texts if text[0] not in "xy"]
        assert ordered == sorted(ordered), "reordered"
        for key in "xy":
            values = [known[text] for text in texts if text[0] == key]
            assert values == sorted(values), "an older value after a newer one"
        # It is reported once how it ended, and why.
        assert len(self.calls) == len(set(self.calls))
        if self.calls or how != "finish":
            return
        assert self.outbox.is_idle
        assert len(self.outbox) == 0
        self.check_complete(texts)

    def check_complete(self, texts: list[str]) -> None:
        """A client that reads gets everything, except frames that may be dropped or replaced."""
        needed = [frame.text for frame in self.order if frame.overflow == "close"]
        assert [text for text in texts if text.startswith("close")] == needed, "lost"
        for key in "xy":
            values = [frame.text for frame in self.order if frame.key == key]
            assert values[-1:] == [text for text in texts if text[0] == key][-1:], "the latest is lost"


async def play(kind: str, story: Story) -> None:
    loop = asyncio.get_running_loop()
    problems: list[Any] = []
    loop.set_exception_handler(lambda loop, problem: problems.append(problem))
    before = asyncio.all_tasks()
    world = World(kind, story.turns, story.limit)
    for operation in story.operations:
        await world.do(operation)
    await world.end(story.how)
    world.check(story.how)
    match story.how:
        case "close" if world.calls == ["closed"]:
            assert world.server.sent[-1] == 1000
            world.check_complete(world.server.sent[:-1])
        case "finish" if story.limit == MANY:
            assert world.calls == [], "a client that reads was closed"
        case "abandon":
            assert "closed" in world.calls
    assert asyncio.all_tasks() == before, "a task is left"
    assert problems == []


@pytest.mark.parametrize("seeds", [FEW_SEEDS, pytest.param(SEEDS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", SENDS)
@pytest.mark.parametrize("is_eager", [False, True], ids=["lazy", "eager"])
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_any_story(factory: Callable[[], asyncio.AbstractEventLoop], is_eager: bool, kind: str, seeds: int) -> None:
    """
    No frame is lost, duplicated or sent out of order, no task is left, and a client that reads isn't closed; whatever
    blocks, raises, is cancelled or is closed, in whatever order.
    """
    for seed in range(seeds):
        story = Story(seed)
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop().set_task_factory(eager_task_factory if is_eager else None)
            try:
                runner.run(play(kind, story))
            except BaseException as error:
                error.add_note(f"seed {seed}: {story}")
                raise
