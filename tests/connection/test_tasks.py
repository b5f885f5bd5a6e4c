"""The tasks of a connection: they run next to its handlers, and end with it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import pytest
from django.core.exceptions import PermissionDenied

from tests.support.recorder import Go, Number, Recorder, do
from wsrt import BackplaneUnavailable, Closed, Refused, TooManyTasks, WrongContext, close_codes, on
from wsrt.connection import dispatcher, drain, tasks
from wsrt.metrics import counters
from wsrt.testing import RequestRefused, connect

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Worker(Recorder):
    """Starts tasks, and records when they end."""

    namespace = "unit-tasks"

    async def authorize_room(self, room: str) -> bool:
        return room != "shut"

    async def on_connect(self) -> None:
        variable.set("on_connect")

    async def endless(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # the clean-up may take time
            self.seen.append("ended")


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged, except that tests without a database can't close connections that others have opened."""
    return [record for record in caplog.records if "database" not in record.getMessage()]


async def test_next_to_handlers() -> None:
    """A task joins, publishes and sends while handlers run, and its result can be awaited."""
    async with connect(Worker) as client:
        go = asyncio.Event()

        async def work(consumer: Worker) -> str:
            await consumer.join("a")
            await consumer.publish_to_room("a", Number(value=1))
            await go.wait()
            await consumer.send(Number(value=2))
            return "result"

        async def start(consumer: Worker) -> None:
            consumer.seen.append(consumer.create_task(work(consumer), name="worker"))

        await do(client, start)
        assert (await client.receive(Number)).value == 1
        await client.request(Number(value=5))
        task, handled = client.consumer.seen
        assert (task.get_name(), handled, task.done()) == ("worker", 5, False)
        go.set()
        assert (await client.receive(Number)).value == 2
        assert await task == "result"


async def test_contexts() -> None:
    """A task sees what on_connect and handlers have set, and what it sets doesn't reach them."""

    async def work(consumer: Worker) -> None:
        consumer.seen.append(variable.get())
        variable.set("task")

    async def start(consumer: Worker) -> None:
        consumer.seen.append(variable.get())
        variable.set("handler")
        await consumer.create_task(work(consumer))
        consumer.seen.append(variable.get())

    async with connect(Worker) as client:
        await do(client, start)
        assert client.consumer.seen == ["on_connect", "handler", "handler"]


Ending = Literal["client", "server", "handler", "cancelled", "drain"]


@pytest.mark.parametrize("ending", ["client", "server", "handler", "cancelled", "drain"])
async def test_end_with_the_connection(ending: Ending) -> None:
    """However the connection ends, its tasks are cancelled, and have cleaned up before on_disconnect is called."""

    async def start(consumer: Worker) -> None:
        for _ in range(3):
            consumer.create_task(consumer.endless())

    async with connect(Worker) as client:
        await do(client, start)
        consumer = client.consumer
        match ending:
            case "client":
                await client.disconnect(1006)
            case "server":
                await consumer.close(4500)
                await client.disconnect()
            case "handler":
                client.consumer.todo = lambda consumer: 1 / 0
                await client.send(Go())
                await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
                await client.disconnect()
            case "cancelled":
                assert client._task is not None
                client._task.cancel()
                await asyncio.wait([client._task])
            case "drain":
                await drain.drain(5)
                assert len(consumer.seen) == 4
        assert consumer.seen[:-1] == ["ended"] * 3
        assert isinstance(consumer.seen[-1][0], Closed)
        assert not consumer._connection.tasks._tasks
        client._task = None


async def test_handler_that_waits_for_a_task(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that waits for a task when its client leaves ends with it. That isn't an error of the handler."""
    before = counters["handlers_failed"]

    async def start(consumer: Worker) -> None:
        await consumer.create_task(consumer.endless())

    async with connect(Worker) as client:
        client.consumer.todo = start
        await client.send(Go(), ref=1)
        while not client.consumer._connection.tasks._tasks:
            await asyncio.sleep(0)
    assert client.consumer.seen[0] == "ended"
    assert counters["handlers_failed"] == before
    assert not said(caplog)


async def test_task_that_the_application_cancels(caplog: pytest.LogCaptureFixture) -> None:
    """A task that was cancelled is no error; a handler that waits for it fails as with any other cancellation."""

    async def start(consumer: Worker) -> None:
        task = consumer.create_task(consumer.endless())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async with connect(Worker) as client:
        await do(client, start)
        assert client.consumer.seen == ["ended"]
        await client.assert_silent()
    assert not said(caplog)


async def test_error(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged once and counted, and the connection stays open."""
    before = counters["tasks_failed"]

    async def work() -> None:
        raise OSError("the provider is down")

    async def start(consumer: Worker) -> None:
        consumer.create_task(work())

    async with connect(Worker) as client:
        await do(client, start)
        await client.assert_silent()
        gc.collect()  # asyncio would report an exception that nobody has retrieved
        (record,) = said(caplog)
        assert (record.name, record.levelno) == ("wsrt", logging.ERROR)
        assert record.getMessage() == "the task test_error.<locals>.work of Worker failed"
        assert record.exc_info is not None
        assert counters["tasks_failed"] == before + 1


@pytest.mark.parametrize("error", [PermissionDenied("no"), BackplaneUnavailable("down"), Refused("busy")])
async def test_refusal(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal in a task is counted, and logged without a traceback once a minute."""
    counters.forget_logged()
    before = counters["tasks_refused"], counters["tasks_failed"]

    async def work() -> None:
        raise error

    async def start(consumer: Worker) -> None:
        for _ in range(3):
            consumer.create_task(work(), name="join")

    async with connect(Worker) as client:
        await do(client, start)
        await client.assert_silent()
    assert (counters["tasks_refused"], counters["tasks_failed"]) == (before[0] + 3, before[1])
    (record,) = said(caplog)
    assert record.getMessage().startswith(f"the task join of Worker ended with a refusal: {error!r}")
    assert record.exc_info is None


async def test_bounded() -> None:
    """One task more than max_tasks is refused, as long as none has ended."""

    class Two(Worker):
        max_tasks = 2

    async def start(consumer: Worker) -> None:
        consumer.seen.append(consumer.create_task(consumer.endless()))

    async with connect(Two) as client:
        for _ in range(2):
            await do(client, start)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RequestRefused, match="rate_limited: A connection may run 2 tasks at the same time"):
                await do(client, start)
            before = counters["tasks_over_limit"]
            with pytest.raises(TooManyTasks):
                client.consumer.create_task(client.consumer.endless())
            assert counters["tasks_over_limit"] == before + 1
        client.consumer.seen[0].cancel()
        await asyncio.wait([client.consumer.seen[0]])
        await do(client, start)


async def test_closed_connection() -> None:
    """On a closed connection a task is cancelled before its first step, also when on_disconnect starts it."""

    class Late(Worker):
        async def on_disconnect(self, closed: Closed) -> None:
            self.seen.append(self.create_task(self.endless()))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with connect(Late) as client:
            consumer = client.consumer
            await consumer.close()
            consumer.seen.append(consumer.create_task(consumer.endless()))
            await client.disconnect()
        await asyncio.wait(consumer.seen)
        assert [task.cancelled() for task in consumer.seen] == [True, True]
        gc.collect()


async def test_task_that_does_not_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A task that ignores its cancellation is counted and left behind: on_disconnect is called all the same."""
    monkeypatch.setattr(tasks, "END_SECONDS", 0.05)
    counters.forget_logged()
    before = counters["tasks_abandoned"]
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    async def start(consumer: Worker) -> None:
        consumer.seen.append(consumer.create_task(stubborn(), name="stubborn"))

    async with connect(Worker) as client:
        await do(client, start)
    assert isinstance(client.consumer.seen[-1][0], Closed)
    assert counters["tasks_abandoned"] == before + 1
    assert "tasks of a connection to Worker were still running 0.05 s after" in caplog.text
    assert "stubborn" in caplog.text
    go.set()
    await client.consumer.seen[0]


async def test_handlers_and_tasks_share_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are cancelled while handlers still run, and aren't given more time after them."""
    monkeypatch.setattr(dispatcher, "FINISH_SECONDS", 0.05)
    go = asyncio.Event()

    async def start(consumer: Worker) -> None:
        consumer.create_task(consumer.endless())
        await asyncio.sleep(0)
        try:
            await go.wait()
        finally:
            consumer.seen.append("handler")

    async with connect(Worker) as client:
        client.consumer.todo = start
        await client.send(Go())
        while not client.consumer._connection.tasks._tasks:
            await asyncio.sleep(0)
    assert client.consumer.seen[:2] == ["ended", "handler"]


@pytest.mark.parametrize("is_closed", [False, True])
async def test_task_that_sends_in_a_loop(is_closed: bool) -> None:
    """A task that only sends leaves the loop to others, also after the connection was closed."""

    async def flood(consumer: Worker) -> None:
        for _ in range(300_000):
            await consumer.send(Number())

    async with connect(Worker) as client:
        client._received = lambda frame: None
        flooding = client.consumer.create_task(flood(client.consumer))
        if is_closed:
            await client.consumer.close()
        for _ in range(3):
            await asyncio.sleep(0)
    # It would have come to its end if it had never let the client leave.
    assert flooding.cancelled()


async def test_where_it_cannot_be_called() -> None:
    """In a thread it raises, and names the way. So does everything else than a coroutine."""

    class Threaded(Worker):
        @on
        def number(self, event: Number) -> None:  # type: ignore[override]
            self.seen.append(threading.current_thread())
            self.create_task(self.endless())

    async with connect(Threaded) as client:
        wrong: Callable[..., Any]
        for wrong, hint in ((client.consumer.endless, r"call it, endless\(\.\.\.\)"), (None, "call an async def")):
            with pytest.raises(TypeError, match=f"takes a coroutine, not .*: {hint}"):
                client.consumer.create_task(wrong)
        coroutine: Coroutine[Any, Any, None] = client.consumer.endless()

        def start() -> None:
            with pytest.raises(WrongContext, match="make the method an async def"):
                client.consumer.create_task(coroutine)

        await asyncio.to_thread(start)
        assert coroutine.cr_frame is None  # type: ignore[attr-defined]  # it was closed
        await client.send(Number())
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
