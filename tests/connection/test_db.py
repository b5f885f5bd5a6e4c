"""Database connections of handlers, which are closed when they are too old or broken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db.backends.signals import connection_created

from wsrt import Closed, Event, Refused, TypedEventConsumer, aadd_to_room, apermissions_changed, on
from wsrt import addresses as to
from wsrt.connection import db
from wsrt.metrics import counters
from wsrt.testing import RequestRefused, connect


class Do(Event, name="unit-db.do"):
    value: int = 0


class Done(Event, name="unit-db.done"):
    value: int = 0


class Query(Event, name="unit-db.query"):
    """Have the handler do something in the thread of the ORM."""


class Async(TypedEventConsumer):
    """Has an async handler, which does what a test tells it."""

    namespace = "unit-db"
    out_events = (Done,)

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.todo: Callable[[], Any] = lambda: None

    @on
    async def do(self, event: Do) -> None:
        self.todo()

    @on
    async def run_query(self, event: Query) -> None:
        await sync_to_async(self.todo)()


@pytest.fixture
def cleaned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A care that begins clean; returns the names of the threads in which it cleaned up."""
    cleaned: list[str] = []
    monkeypatch.setattr(db.database_care, "_dirty_since", None)
    monkeypatch.setattr(db.database_care, "_queued", None)
    monkeypatch.setattr(db.database_care, "_connections", [])
    monkeypatch.setattr("wsrt.connection.db.connections.all", lambda **kwargs: [])
    monkeypatch.setattr(db, "close_old_connections", lambda: cleaned.append(threading.current_thread().name))
    return cleaned


class Connection:
    """What the care looks at in a connection of Django; open since ``opened`` seconds ago."""

    def __init__(self, *, opened: float = 10.0, max_age: float | None = None, **attributes: Any) -> None:
        self.connection: object = "open"
        self.settings_dict = {"AUTOCOMMIT": True, "CONN_MAX_AGE": max_age}
        self.close_at = None if max_age is None else time.monotonic() - opened + max_age
        self.autocommit = True
        self.errors_occurred = False
        self.in_atomic_block = False
        self.health_check_enabled = False
        self.health_check_done = True
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.fixture
def opened(cleaned: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Connections that the thread of the ORM has open; cleaning up closes them all."""
    opened: list[Connection] = []

    def close() -> None:
        cleaned.append("closed")
        for connection in opened:
            connection.connection = None

    monkeypatch.setattr(db, "close_old_connections", close)
    monkeypatch.setattr("wsrt.connection.db.connections.all", lambda **kwargs: opened)
    monkeypatch.setattr(db.database_care, "_connections", opened)
    return opened


def open_connection() -> None:
    """Do what Django does when code of a handler opens a connection."""
    connection_created.send(sender=None, connection=None)


async def cleaning_done() -> None:
    """Wait for the thread in which cleaning up is done."""
    for _ in range(3):
        await sync_to_async(lambda: None)()
        await asyncio.sleep(0)


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
    care = db.database_care
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

    monkeypatch.setattr(db, "close_old_connections", clean)
    db.database_care.mark()
    db.database_care.after_handler()
    await cleaning_done()
    assert len(cleaned) == 2


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

    monkeypatch.setattr(db, "close_old_connections", fail)
    before = counters["database_cleanups_failed"]
    for count in (1, 2):
        open_connection()
        db.database_care.after_handler()
        await cleaning_done()
        assert len(cleaned) == count
        assert counters["database_cleanups_failed"] == before + count


def test_loop_that_ended_before_cleaning(cleaned: list[str]) -> None:
    """A loop that ends before it cleaned up does not keep the next one from it."""

    async def last_handler() -> None:
        db.database_care.mark()
        db.database_care.after_handler()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def next_handler() -> None:
        db.database_care.after_handler()
        await cleaning_done()

    asyncio.run(last_handler())
    assert cleaned == []
    asyncio.run(next_handler())
    assert len(cleaned) == 1


# Before handlers


OLD: dict[str, dict[str, Any]] = {
    "past its CONN_MAX_AGE": {"opened": 61, "max_age": 60},
    "closed after each use, and left open": {"opened": 5, "max_age": 0},
    "one on which a query failed": {"errors_occurred": True},
    "one whose autocommit was not restored": {"autocommit": False},
}

USABLE: dict[str, dict[str, Any]] = {
    "without CONN_MAX_AGE": {},
    "within its CONN_MAX_AGE": {"opened": 60, "max_age": 3600},
    "in a transaction": {"opened": 61, "max_age": 60, "in_atomic_block": True},
    "closed already": {"opened": 61, "max_age": 60, "connection": None},
}


@pytest.mark.parametrize("attributes", OLD.values(), ids=OLD)
async def test_old_connections(cleaned: list[str], opened: list[Connection], attributes: dict[str, Any]) -> None:
    """A connection that Django would close before a request is closed before the ORM calls of a handler."""
    async with connect(Async) as client:
        opened.append(Connection(**attributes))
        client.consumer.todo = lambda: cleaned.append("queried")
        await client.request(Query())
        await client.request(Query())
    assert cleaned == ["closed", "queried", "queried"]


@pytest.mark.parametrize("attributes", USABLE.values(), ids=USABLE)
async def test_usable_connections(cleaned: list[str], opened: list[Connection], attributes: dict[str, Any]) -> None:
    """A connection that can be used costs a handler no hop to the thread."""
    opened.append(Connection(**attributes))
    async with connect(Async) as client:
        for _ in range(10):
            await client.request(Do())
    await cleaning_done()
    assert cleaned == []


async def test_connection_that_another_handler_opened(
    cleaned: list[str], opened: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CONN_MAX_AGE 0, one that a handler has just opened and will have closed costs the others no hop."""
    monkeypatch.setattr(db, "FRESH_SECONDS", 3600.0)
    opened.append(Connection(opened=1, max_age=0))
    async with connect(Async) as client:
        await client.request(Do())
    await cleaning_done()
    assert cleaned == []


async def test_connection_that_stays_open(
    cleaned: list[str], opened: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that Django never closes, as of SQLite in memory, costs one attempt."""
    monkeypatch.setattr(db, "close_old_connections", lambda: cleaned.append("tried"))
    opened.append(Connection(opened=5, max_age=0))
    async with connect(Async) as client:
        await cleaning_done()
        assert cleaned == ["tried"]
        for _ in range(10):
            await client.request(Do())
            await cleaning_done()
        assert cleaned == ["tried"]


async def test_health_checks(cleaned: list[str], opened: list[Connection]) -> None:
    """With CONN_HEALTH_CHECKS a connection is checked before the first query of each handler, without a hop."""
    opened.append(connection := Connection(health_check_enabled=True))
    async with connect(Async) as client:
        for _ in range(2):
            connection.health_check_done = True
            await client.request(Do())
            assert not connection.health_check_done
    await cleaning_done()
    assert cleaned == []


async def test_connection_of_a_handler_that_runs_on(cleaned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that a handler opened long ago, and that still runs, is looked at before the next one."""
    monkeypatch.setattr(db, "FRESH_SECONDS", 0.0)
    async with connect(Async) as client:
        await cleaning_done()
        cleaned.clear()
        open_connection()
        client.consumer.todo = lambda: cleaned.append("queried")
        await client.request(Query())
    assert cleaned.index("queried") == 1


# After hooks


async def test_after_on_disconnect(cleaned: list[str]) -> None:
    """A connection that on_disconnect opens is cleaned up."""

    class Leaving(Async):
        async def on_disconnect(self, closed: Closed) -> None:
            open_connection()

    async with connect(Leaving):
        pass
    await cleaning_done()
    assert len(cleaned) == 1


async def test_after_commands(cleaned: list[str]) -> None:
    """A connection that hooks open on ``permissions_changed`` or ``add_to_room`` is cleaned up."""

    class Asking(Async):
        async def authorize(self) -> bool:
            open_connection()
            return True

        async def authorize_room(self, room: str) -> bool:
            open_connection()
            return True

    async with connect(Asking) as client:
        await client.consumer.set_user_id("7")
        for command in ("permissions_changed", "add_to_room"):
            await client.settle()
            await cleaning_done()
            cleaned.clear()
            if command == "permissions_changed":
                await apermissions_changed("7")
            else:
                await aadd_to_room(to.User("7"), "a", namespace="unit-db")
            await client.settle()
            await cleaning_done()
            assert len(cleaned) == 1
