"""Captured publications."""

from __future__ import annotations

import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.core import mail
from django.db import DatabaseError, connections, transaction
from django.test import TestCase

from tests.testing.consumers import NAMESPACE, Other, Talker, Word, publish, texts
from wsrt import (
    abroadcast,
    apublish_to_room,
    broadcast,
    disconnect,
    publish_to_audience,
    publish_to_room,
    publish_to_user,
)
from wsrt import addresses as to
from wsrt.testing import capture_publications, connect


def test_capture() -> None:
    """What is published while it is open is captured, with namespace, address and event, in order."""
    publish("before")
    with capture_publications() as published:
        publish("one")
        publish_to_user(7, Word(text="two"), namespace=NAMESPACE)
        publish_to_audience(to.Room("a") | to.Room("b"), Other(), namespace=NAMESPACE)
        broadcast(Word(text="three"), namespace="unit-testing-elsewhere")
    publish("after")
    assert [(one.namespace, one.audience) for one in published] == [
        (NAMESPACE, to.Room("lobby")),
        (NAMESPACE, to.User(7)),
        (NAMESPACE, to.Room("a") | to.Room("b")),
        ("unit-testing-elsewhere", to.Everyone()),
    ]
    assert published.events == [Word(text="one"), Word(text="two"), Other(), Word(text="three")]


def test_capture_to_room() -> None:
    """The publications to one room, of any namespace or of one; expressions are none of them."""
    with capture_publications() as published:
        publish("one")
        publish("two", room="attic")
        publish("three", namespace="unit-testing-elsewhere")
        publish_to_audience(to.Room("lobby") - to.User(7), Word(text="four"), namespace=NAMESPACE)
    assert texts(published.to_room("lobby")) == ["one", "three"]
    assert texts(published.to_room("lobby", namespace=NAMESPACE)) == ["one"]
    assert published.to_room("cellar") == []


def test_capture_to_user() -> None:
    """The publications to one user, however the user is named (P6)."""
    with capture_publications() as published:
        publish_to_user(7, Word(text="one"), namespace=NAMESPACE)
        publish_to_user("8", Word(text="two"), namespace=NAMESPACE)
        publish_to_user("7", Word(text="three"), namespace="unit-testing-elsewhere")
    assert texts(published.to_user("7")) == ["one", "three"]
    assert texts(published.to_user(7, namespace="unit-testing-elsewhere")) == ["three"]


def test_capture_holds_no_commands() -> None:
    """A command isn't a publication."""
    with capture_publications() as published:
        disconnect(to.User(7), namespace=NAMESPACE)
    assert published == []


def test_capture_within_capture() -> None:
    """Captures may be nested; each has what was published while it was open."""
    with capture_publications() as outer:
        publish("one")
        with capture_publications() as inner:
            publish("two")
        publish("three")
    assert texts(outer.events) == ["one", "two", "three"]
    assert texts(inner.events) == ["two"]


def test_capture_and_error() -> None:
    """An error leaves the block, and nothing is captured after it."""
    with pytest.raises(ZeroDivisionError), capture_publications() as published:
        publish("one")
        raise ZeroDivisionError
    publish("two")
    assert texts(published.events) == ["one"]


def test_capture_in_threads() -> None:
    """What other threads publish is captured too."""
    with capture_publications() as published:
        workers = [threading.Thread(target=publish, args=(str(number),)) for number in range(10)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert sorted(texts(published.events)) == [str(number) for number in range(10)]


async def test_capture_async() -> None:
    """The asynchronous twins are captured as well, and local connections still get what is published."""
    async with connect(Talker) as client, capture_publications() as published:
        await client.consumer.join("lobby")
        await apublish_to_room("lobby", Word(text="one"), namespace=NAMESPACE)
        await abroadcast(Word(text="two"), namespace="unit-testing-elsewhere")
        assert await client.receive(Word) == Word(text="one")
    assert texts(published.events) == ["one", "two"]


async def test_capture_from_a_handler() -> None:
    """What a handler publishes is captured."""
    async with connect(Talker) as client:
        client.consumer.todo = lambda consumer: consumer.publish_to_room("lobby", Word(text="one"))
        with capture_publications() as published:
            await client.request(Word())
    assert texts(published.to_room("lobby", namespace=NAMESPACE)) == ["one"]


# Captured publications and transactions


def commit(text: str = "a") -> None:
    with transaction.atomic():
        Group.objects.create(name=text)
        publish(text)


def roll_back(text: str = "a") -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        publish(text)
        raise DatabaseError


@pytest.mark.django_db
def test_capture_in_a_test_transaction() -> None:
    """In a test whose transaction never commits, what waits for a commit is captured when the block ends."""
    with capture_publications() as published:
        commit("one")
        publish("two")
        assert published == []
    assert texts(published.events) == ["one", "two"]


@pytest.mark.django_db
def test_capture_at_once_in_a_test_transaction() -> None:
    """What is not to wait for the commit is captured at once."""
    with capture_publications() as published:
        publish("late")
        publish_to_room("lobby", Word(text="early"), namespace=NAMESPACE, on_commit=False)
        assert texts(published.events) == ["early"]
    assert texts(published.events) == ["early", "late"]


@pytest.mark.django_db
def test_capture_of_a_savepoint() -> None:
    """What is rolled back to a savepoint is never captured, and the rest is."""
    with capture_publications() as published:
        with transaction.atomic():
            publish("one")
            roll_back("two")
        publish("three")
    assert texts(published.events) == ["one", "three"]


@pytest.mark.django_db
def test_capture_leaves_earlier_callbacks() -> None:
    """What was published before the block is not captured in it."""
    publish("before")
    with capture_publications() as published:
        publish("within")
    assert texts(published.events) == ["within"]


@pytest.mark.django_db
def test_callbacks_run_once() -> None:
    """Of two nested captures each has a publication once."""
    with capture_publications() as outer:
        publish("one")
        with capture_publications() as inner:
            publish("two")
        assert texts(inner.events) == ["two"]
    assert sorted(texts(outer.events)) == ["one", "two"]


@pytest.mark.django_db(transaction=True)
def test_capture_of_a_real_commit() -> None:
    """Where transactions do commit, a publication is captured at the commit and not again."""
    with capture_publications() as published:
        with transaction.atomic():
            publish("one")
            assert published == []
        assert texts(published.events) == ["one"]
        roll_back("two")
    assert texts(published.events) == ["one"]


@pytest.mark.django_db(transaction=True)
def test_capture_within_an_open_transaction() -> None:
    """A block inside of a transaction that goes on captures at its end, and the commit sends nothing again."""
    with capture_publications() as outer:
        with transaction.atomic():
            with capture_publications() as inner:
                publish("one")
            assert texts(inner.events) == ["one"]
    assert texts(outer.events) == ["one"]


@pytest.mark.django_db(transaction=True)
def test_capture_after_a_publication(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block captures its own publications only, also without Django's test environment."""
    monkeypatch.delattr(mail, "outbox")
    with capture_publications() as outer, transaction.atomic():
        publish("one")
        with capture_publications() as inner:
            publish("two")
            publish("three")
        assert texts(inner.events) == ["two", "three"]
        publish("four")
    assert texts(outer.events) == ["two", "three", "one", "four"]


@pytest.mark.django_db(transaction=True)
def test_capture_of_commits_in_threads() -> None:
    """A transaction of another thread is captured at its own commit."""

    def work() -> None:
        try:
            with transaction.atomic():
                publish("kept")
            roll_back("lost")
        finally:
            connections.close_all()

    with capture_publications() as published:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    assert texts(published.events) == ["kept"]


@pytest.mark.django_db(transaction=True)
async def test_capture_async_of_a_commit() -> None:
    """Synchronous code that asynchronous tests call is captured at its commit, and never after a rollback."""
    async with capture_publications() as published:
        await sync_to_async(commit)("one")
        assert texts(published.events) == ["one"]
        await sync_to_async(roll_back)("two")
    assert texts(published.events) == ["one"]


class DjangoTestCase(TestCase):
    """Django's own test case, synchronous and not."""

    def test_commit(self) -> None:
        """What waits for the commit is captured when the block ends."""
        with capture_publications() as published:
            commit("one")
            roll_back("two")
            self.assertEqual(published, [])
        self.assertEqual(texts(published.to_room("lobby")), ["one"])

    async def test_commit_of_synchronous_code(self) -> None:
        """An asynchronous test captures what its synchronous code publishes."""
        async with capture_publications() as published:
            await sync_to_async(commit)("one")
            await sync_to_async(roll_back)("two")
        self.assertEqual(texts(published.events), ["one"])

    async def test_handler(self) -> None:
        """A client works in an asynchronous test."""
        async with connect(Talker) as client:
            self.assertEqual(await client.request(Word(text="a")), Word(text="a"))
            await client.assert_silent()

    def test_client_in_a_synchronous_test(self) -> None:
        """A connection within a synchronous test gets what the block publishes at its end."""

        async def main() -> list[str]:
            async with connect(Talker) as client:
                await client.consumer.join("lobby")
                async with capture_publications():
                    await sync_to_async(commit)("one")
                return [(await client.receive(Word)).text]

        self.assertEqual(async_to_sync(main)(), ["one"])
