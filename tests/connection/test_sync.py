"""``self.sync``: the methods of a connection for ``def`` handlers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.test import TestCase, override_settings

from tests.support.layer import FakeLayer, installed
from wsrt import Event, TypedEventConsumer, UnsendableEvent, WrongContext, apublish_to_room, on
from wsrt.addresses import Connection
from wsrt.connection import threads
from wsrt.testing import connect


class Do(Event, name="do"):
    what: str


class Done(Event, name="done"):
    number: int


class Sync(TypedEventConsumer):
    """A consumer of def methods only."""

    namespace = "sync"
    out_events = (Done,)

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.threads: list[int] = []
        self.barrier: threading.Barrier | None = None

    def authorize_room(self, room: str) -> bool:  # type: ignore[override]
        self.threads.append(threading.get_ident())
        return room != "forbidden" and not Group.objects.filter(name=room).exists()

    @on
    def do(self, event: Do) -> Done | None:
        self.threads.append(threading.get_ident())
        if self.barrier is not None:
            self.barrier.wait(5)
        match event.what:
            case "sends":
                self.sync.join("a")
                self.sync.set_user_id(7)
                self.sync.send(Done(number=1))
                self.sync.publish_to_room("a", Done(number=2))
                self.sync.publish_to_others("a", Done(number=3))
                self.sync.publish_to_user(7, Done(number=4))
                self.sync.publish_to_audience(Connection(self.id), Done(number=5))
                self.sync.broadcast(Done(number=6))
                self.sync.join("a", key="part")
                self.sync.leave("a")
                assert self.rooms == ("a",)
                self.sync.leave("a", key="part")
                self.sync.clear_user_id()
                assert self.rooms == ()
                assert self.user_id is None
                self.sync.close(4500, "enough")
            case "wrong":
                self.sync.send(Done.model_construct(number="x"))
            case "transaction":
                with transaction.atomic():
                    Group.objects.create(name="made")
                    with contextlib.suppress(PermissionDenied):
                        self.sync.join("made")
                    return Done(number=len(self.rooms))
            case room:
                self.sync.join(room)
        return None


@pytest.fixture
def no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sync, "authorize_room", allow)


def allow(self: Sync, room: str) -> bool:
    self.threads.append(threading.get_ident())
    return room != "forbidden"


@pytest.fixture
def one_thread(settings: Any) -> Iterator[None]:
    """A pool of one thread."""
    settings.WSRT = {"THREADS": 1}
    threads._pool.cache_clear()
    yield
    threads._pool().shutdown()
    threads._pool.cache_clear()


@pytest.mark.usefixtures("no_groups")
async def test_every_method() -> None:
    """Each method does what the asynchronous one does, in order."""
    async with connect(Sync) as client:
        await client.send(Do(what="sends"))
        assert [(await client.receive(Done)).number for _ in range(5)] == [1, 2, 4, 5, 6]
        await client.assert_closed(4500)


@pytest.mark.usefixtures("no_groups")
async def test_join_in_a_thread() -> None:
    """When join returns in a def handler, nothing that is published after it is missed."""
    with installed(FakeLayer()):
        async with connect(Sync) as client:
            assert await client.request(Do(what="a")) is None
            await apublish_to_room("a", Done(number=1), namespace="sync")
            assert (await client.receive(Done)).number == 1


@pytest.mark.usefixtures("no_groups")
async def test_exceptions_arrive() -> None:
    """What the asynchronous method raises is raised in the thread."""
    async with connect(Sync) as client:
        with pytest.raises(AssertionError, match="forbidden"):
            await client.request(Do(what="forbidden"))
        await client.send(Do(what="wrong"))
        await client.assert_closed(1011)
    assert issubclass(UnsendableEvent, Exception)


@pytest.mark.usefixtures("no_groups", "one_thread")
async def test_no_thread_to_spare() -> None:
    """Hooks that a call asks run in the calling thread, so handlers in all threads of the pool block no one."""
    async with connect(Sync) as one, connect(Sync) as other:
        async with asyncio.timeout(10):
            await asyncio.gather(one.request(Do(what="a")), other.request(Do(what="b")))
        assert len(set(one.consumer.threads)) == 1
        assert one.consumer.rooms == ("a",)
        assert other.consumer.rooms == ("b",)


async def test_in_the_event_loop() -> None:
    """In the event loop the call raises, and says what to await."""
    async with connect(Sync) as client:
        with pytest.raises(WrongContext, match=r"await self\.join"):
            client.consumer.sync.join("a")


class DjangoTestCase(TestCase):
    """Django's own test case, which keeps all in one transaction of one thread."""

    async def test_hook_is_in_the_transaction(self) -> None:
        """A hook that a handler's join asks sees what the handler has not yet committed."""
        async with connect(Sync) as client:
            assert await client.request(Do(what="transaction")) == Done(number=0)


@override_settings(WSRT={"THREADS": 1})
@pytest.mark.django_db(transaction=True)
async def test_hook_is_in_the_handlers_transaction() -> None:
    """The same in the pool, where each thread has a connection of its own."""
    async with connect(Sync) as client:
        assert await client.request(Do(what="transaction")) == Done(number=0)
        assert await Group.objects.acount() == 1
