"""The threads that ``def`` handlers run in."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import TestCase

from wsrt import Closed, Event, Refused, TypedEventConsumer, WrongContext, on
from wsrt.connection import threads
from wsrt.connection.db import database_care
from wsrt.connection.threads import run_in_thread
from wsrt.testing import RequestRefused, connect


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


@pytest.fixture
def two_threads(settings: Any) -> Iterator[None]:
    """A pool of its own for this test, of two threads."""
    settings.WSRT = {"THREADS": 2}
    threads._pool.cache_clear()
    yield
    threads._pool().shutdown()
    threads._pool.cache_clear()


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


async def test_async_methods_in_a_thread() -> None:
    """The async methods raise where they are called in a thread, and name what to call."""

    def join(value: int) -> None:
        with pytest.raises(WrongContext, match=r"self\.sync\.join"):
            client.consumer.join("lobby")

    async with connect(Sync) as client:
        client.consumer.todo = join
        assert await client.request(Do(value=2)) == Done(value=2)
        with pytest.raises(WrongContext, match="on_disconnect"):
            await asyncio.to_thread(client.consumer.wait_for_close)


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
    """A def handler sees the context variables of its caller."""
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

    monkeypatch.setattr("wsrt.connection.db.close_old_connections", lambda: note("closed"))
    monkeypatch.setattr(database_care, "after_handler", lambda: None)
    async with connect(Sync) as client:
        client.consumer.todo = work
        await client.send(Do())
        await client.settle()
    assert [what for what, _ in seen] == ["closed", "handler", "closed"]
    assert len({thread for _, thread in seen}) == 1
