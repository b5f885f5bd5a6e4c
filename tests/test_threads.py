"""Threads: where ``def`` handlers run, and how database connections are looked after."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.backends.signals import connection_created
from django.test import TestCase

from wsrt import Closed, Event, Refused, TypedEventConsumer, on, threads
from wsrt.delivery.ledger import ledger
from wsrt.testing import RequestRefused, connect
from wsrt.threads import run_in_thread


class Do(Event, name="unit-threads.do"):
    value: int = 0


class Done(Event, name="unit-threads.done"):
    value: int = 0


class Sync(TypedEventConsumer):
    """Has a def handler, which does what a test tells it."""

    namespace = "unit-threads"

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.todo: Callable[[int], Any] = lambda value: None

    @on
    def do(self, event: Do) -> Done | None:
        self.todo(event.value)
        return Done(value=event.value)


class Async(TypedEventConsumer):
    """Has an async handler, which does what a test tells it."""

    namespace = "unit-threads"
    out_events = (Done,)

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.todo: Callable[[], Any] = lambda: None

    @on
    async def do(self, event: Do) -> None:
        self.todo()


@pytest.fixture
def two_threads(settings: Any) -> Iterator[None]:
    """A pool of its own for this test, of two threads."""
    settings.WSRT = {"THREADS": 2}
    threads._pool.cache_clear()
    yield
    threads._pool().shutdown()
    threads._pool.cache_clear()


@pytest.fixture
def cleaned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A care that begins clean; returns the names of the threads in which it cleaned up."""
    cleaned: list[str] = []
    for name, value in [("_is_dirty", False), ("_cleaning", None), ("_checked_at", 0.0)]:
        monkeypatch.setattr(threads.database_care, name, value)
    monkeypatch.setattr(threads, "close_old_connections", lambda: cleaned.append(threading.current_thread().name))
    return cleaned


def open_connection() -> None:
    """Do what Django does when code of a handler opens a connection."""
    connection_created.send(sender=None, connection=None)


async def cleaning_done() -> None:
    """Wait for the thread in which cleaning up is done."""
    for _ in range(3):
        await sync_to_async(lambda: None)()
        await asyncio.sleep(0)


# Where def handlers run


async def test_not_in_the_loop() -> None:
    """A def handler runs in a thread of the pool, where no event loop runs."""
    seen: list[str] = []

    def look(value: int) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        seen.append(threading.current_thread().name)

    async with connect(Sync) as client:
        client.consumer.todo = look
        await client.request(Do())
    assert seen[0].startswith("wsrt-handler")


async def test_bounded_pool(two_threads: None) -> None:
    """THREADS handlers of as many connections run at the same time, and never more."""
    running: set[int] = set()
    most: list[int] = []
    both = threading.Barrier(2)

    def work(value: int) -> None:
        running.add(value)
        both.wait(10)
        most.append(len(running))
        both.wait(10)
        running.discard(value)

    clients = [connect(Sync) for _ in range(6)]
    for client in clients:
        await client.__aenter__()
        client.consumer.todo = work
    answers = await asyncio.gather(*(client.request(Do(value=n)) for n, client in enumerate(clients)))
    assert answers == [Done(value=value) for value in range(6)]
    assert max(most) == 2
    for client in clients:
        await client.disconnect()


async def test_one_call_a_connection() -> None:
    """The def handlers of one connection run one at a time, in order, though there are more threads (S13)."""
    seen: list[int] = []
    running: list[int] = []

    def work(value: int) -> None:
        running.append(value)
        assert len(running) == 1
        seen.append(running.pop())

    async with connect(Sync) as client:
        client.consumer.todo = work
        for value in range(50):
            await client.send(Do(value=value))
        for value in range(50):
            assert await client.receive(Done) == Done(value=value)
    assert seen == list(range(50))


async def test_errors_of_def_handlers() -> None:
    """What a def handler raises is treated as if it were async."""

    def refuse(value: int) -> None:
        raise Refused("teapot")

    async with connect(Sync) as client:
        client.consumer.todo = refuse
        with pytest.raises(RequestRefused, match="teapot"):
            await client.request(Do())


async def test_def_hooks() -> None:
    """Hooks may be def methods too."""
    seen: list[tuple[str, str]] = []

    def note(name: str) -> None:
        seen.append((name, threading.current_thread().name.partition("_")[0]))

    class Hooks(TypedEventConsumer):
        namespace = "unit-threads"

        def authorize(self) -> bool:  # type: ignore[override]
            note("authorize")
            return True

        def authorize_room(self, room: str) -> bool:  # type: ignore[override]
            note("authorize_room")
            return True

        def on_connect(self) -> None:  # type: ignore[override]
            note("on_connect")

        def on_disconnect(self, closed: Closed) -> None:  # type: ignore[override]
            note("on_disconnect")

    async with connect(Hooks) as client:
        await client.consumer.join("lobby")
    names = ["authorize", "on_connect", "authorize_room", "on_disconnect"]
    assert seen == [(name, "wsrt-handler") for name in names]


async def test_context_variables() -> None:
    """A def handler sees the context variables of whoever calls it."""
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(5)
    assert await run_in_thread(lambda value: (variable.get(), value), 7) == (5, 7)


def test_threads_of_async_to_sync() -> None:
    """Below ``async_to_sync`` a def handler runs in the caller's thread."""
    seen: list[threading.Thread] = []

    async def main() -> None:
        async with connect(Sync) as client:
            client.consumer.todo = lambda value: seen.append(threading.current_thread())
            await client.request(Do())

    async_to_sync(main)()
    assert seen == [threading.current_thread()]


class DjangoTestCase(TestCase):
    """Django's own test case, which keeps all in one transaction of one thread."""

    async def test_def_handler_is_in_the_transaction(self) -> None:
        """A def handler sees what the test made, and the test sees what it made."""
        await Group.objects.acreate(name="before")
        found: list[int] = []

        def work(value: int) -> None:
            found.append(Group.objects.count())
            with transaction.atomic():
                Group.objects.create(name="after")

        async with connect(Sync) as client:
            client.consumer.todo = work
            await client.request(Do())
        assert found == [1]
        assert await Group.objects.acount() == 2

    async def test_failing_handler_keeps_the_connection(self) -> None:
        """Cleaning up after a handler does not close the connection that the test's transaction is in."""

        def fail(value: int) -> None:
            Group.objects.create(name="once")
            raise Refused("teapot")

        async with connect(Sync) as client:
            client.consumer.todo = fail
            with pytest.raises(RequestRefused):
                await client.request(Do())
        assert await Group.objects.acount() == 1


@pytest.mark.parametrize("error", [None, Refused("teapot")])
async def test_connections_of_the_pool(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Old connections are closed before and after each def handler, in its own thread, as around a request."""
    seen: list[tuple[str, str]] = []

    def note(what: str) -> None:
        seen.append((what, threading.current_thread().name))

    def work(value: int) -> None:
        note("handler")
        if error is not None:
            raise error

    monkeypatch.setattr(threads, "close_old_connections", lambda: note("closed"))
    monkeypatch.setattr("wsrt.pump.database_care.after_handler", lambda: None)
    async with connect(Sync) as client:
        client.consumer.todo = work
        await client.send(Do())
        await client.settle()
    assert [what for what, _ in seen] == ["closed", "handler", "closed"]
    assert len({thread for _, thread in seen}) == 1


# Database connections


async def test_no_cleaning_without_reason(cleaned: list[str]) -> None:
    """A handler that opens no connection costs no hop to another thread."""
    async with connect(Async) as client:
        for _ in range(10):
            await client.request(Do())
    await cleaning_done()
    assert cleaned == []


async def test_cleaning_after_a_connection(cleaned: list[str]) -> None:
    """After a handler that opened a connection it is cleaned up, once."""
    async with connect(Async) as client:
        client.consumer.todo = open_connection
        await client.request(Do())
        client.consumer.todo = lambda: None
        for _ in range(10):
            await client.request(Do())
    await cleaning_done()
    assert len(cleaned) == 1


async def test_cleaning_after_a_failure(cleaned: list[str]) -> None:
    """After a handler that raised it is cleaned up: the connection may be what failed."""

    def fail() -> None:
        raise Refused("teapot")

    async with connect(Async) as client:
        client.consumer.todo = fail
        with pytest.raises(RequestRefused):
            await client.request(Do())
    await cleaning_done()
    assert len(cleaned) == 1


async def test_cleaning_once_for_many(cleaned: list[str]) -> None:
    """Handlers that finish while it is cleaned up are cleaned up after together, and none is forgotten."""
    care = threads.database_care
    for _ in range(20):
        open_connection()
        care.after_handler()
    await cleaning_done()
    assert len(cleaned) == 1
    care.after_handler()
    await cleaning_done()
    assert len(cleaned) == 1


async def test_connection_opened_while_cleaning(cleaned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is opened while it is cleaned up is cleaned up after too."""

    def clean() -> None:
        cleaned.append("")
        if len(cleaned) == 1:
            open_connection()

    monkeypatch.setattr(threads, "close_old_connections", clean)
    threads.database_care.mark()
    threads.database_care.after_handler()
    await cleaning_done()
    assert len(cleaned) == 2


async def test_cleaning_from_time_to_time(cleaned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that persist are looked at from time to time while handlers run."""
    now = [1000.0]
    monkeypatch.setattr("wsrt.threads.time.monotonic", lambda: now[0])
    care = threads.database_care
    care.mark()
    for now[0], expected in [(1000.0, 1), (1029.0, 1), (1031.0, 2), (1032.0, 2)]:
        care.after_handler()
        await cleaning_done()
        assert len(cleaned) == expected


async def test_no_cleaning_for_fan_out(cleaned: list[str]) -> None:
    """Publications are delivered without a look at the database."""
    async with connect(Async) as one, connect(Async) as two:
        for client in (one, two):
            await client.consumer.join("lobby")
        await cleaning_done()
        open_connection()
        for _ in range(10):
            await one.consumer.publish_to_room("lobby", Done())
        for _ in range(10):
            await two.receive(Done)
        await cleaning_done()
        assert cleaned == []
        await two.request(Do())
        await cleaning_done()
        assert len(cleaned) == 1


async def test_failing_clean_up(cleaned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be closed is counted, and tried again after the next that is opened."""

    def fail() -> None:
        cleaned.append("")
        raise OSError("gone")

    monkeypatch.setattr(threads, "close_old_connections", fail)
    before = ledger["database_cleanups_failed"]
    for count in (1, 2):
        open_connection()
        threads.database_care.after_handler()
        await cleaning_done()
        assert len(cleaned) == count
        assert ledger["database_cleanups_failed"] == before + count


def test_loop_that_ended_before_cleaning(cleaned: list[str]) -> None:
    """A loop that ends before it cleaned up does not keep the next one from it."""

    async def last_handler() -> None:
        threads.database_care.mark()
        threads.database_care.after_handler()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def next_handler() -> None:
        threads.database_care.after_handler()
        await cleaning_done()

    asyncio.run(last_handler())
    assert cleaned == []
    asyncio.run(next_handler())
    assert len(cleaned) == 1
