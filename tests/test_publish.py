"""Publishing: the checks at the call, the time of sending, and the callers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from pydantic import field_serializer, field_validator

from tests.support.layer import FakeLayer, installed
from wsrt import (
    BackplaneUnavailable,
    Event,
    TypedEventConsumer,
    UndeclaredEvent,
    UnknownNamespace,
    UnsendableEvent,
    WrongContext,
    abroadcast,
    apublish_to_audience,
    apublish_to_room,
    apublish_to_user,
    broadcast,
    disconnect,
    publish_many,
    publish_to_audience,
    publish_to_room,
    publish_to_user,
)
from wsrt import addresses as to
from wsrt.cluster import batch, in_process
from wsrt.exceptions import PublicationsFailed
from wsrt.metrics import counters
from wsrt.signals import publication_failed
from wsrt.testing import capture_publications, connect

calls: list[str] = []


class News(Event, name="news"):
    text: str = ""

    @field_validator("text")
    @classmethod
    def validated(cls, text: str) -> str:
        calls.append("validated")
        return text

    @field_serializer("text")
    def encoded(self, text: str) -> str:
        calls.append("encoded")
        return text


class Kept(Event, name="kept", history=True):
    pass


class Stray(Event, name="stray"):
    pass


class Reader(TypedEventConsumer):
    namespace = "publishing"
    out_events = (News, Kept)

    async def on_connect(self) -> None:
        await self.join("a")
        if user := self.query.get("user"):
            await self.set_user_id(user)


SYNC = [
    (lambda event, **options: publish_to_room("a", event, **options), "apublish_to_room"),
    (lambda event, **options: publish_to_user(7, event, **options), "apublish_to_user"),
    (lambda event, **options: publish_to_audience(to.Room("a"), event, **options), "apublish_to_audience"),
    (broadcast, "abroadcast"),
]


@pytest.fixture
def layer() -> Iterator[FakeLayer]:
    with installed(FakeLayer()) as fake:
        yield fake


# What is checked at the call


def test_unknown_namespace() -> None:
    """A namespace that no consumer has raises, and the text names those that there are."""
    with pytest.raises(
        UnknownNamespace, match=r"no consumer has the namespace 'pubishing'; known namespaces: .*'publishing'"
    ):
        publish_to_room("a", News(), namespace="pubishing")


def test_undeclared_event() -> None:
    """An event that the namespace does not declare is the publisher's error, and the text names the others (D5)."""
    with pytest.raises(UndeclaredEvent, match=r"does not declare Stray \('stray'\); it declares: kept, news"):
        publish_to_room("a", Stray(), namespace="publishing")


async def test_wrong_event_disturbs_nobody() -> None:
    """No subscriber is closed for a publisher's mistake (D5)."""
    async with connect(Reader) as client:
        with pytest.raises(UndeclaredEvent):
            await apublish_to_room("a", Stray(), namespace="publishing")
        with pytest.raises(UnsendableEvent):
            await apublish_to_room("a", News.model_construct(text=5), namespace="publishing")
        with pytest.raises(UnsendableEvent, match="limit is 1048576"):
            await apublish_to_room("a", News(text="x" * 1_100_000), namespace="publishing")
        await client.assert_silent()


@pytest.mark.parametrize(
    ("audience", "event", "error", "says"),
    [
        ("a", News(), TypeError, "audience must be an address, such as wsrt.addresses.Room"),
        (to.Room("a"), {"text": "hi"}, TypeError, "expected an Event, not dict"),
        (to.Room("a"), News, TypeError, r"expected an event, not its class: write News\(\.\.\.\)"),
        (to.User(7), Kept(), ValueError, "only be published to exactly one room"),
        (to.Room("a") | to.Room("b"), Kept(), ValueError, "only be published to exactly one room"),
    ],
)
def test_wrong_call(audience: Any, event: Any, error: type[Exception], says: str) -> None:
    """A value that isn't an address or an event, or history for more than one room, raises at the call."""
    with pytest.raises(error, match=says):
        publish_to_audience(audience, event, namespace="publishing")


@pytest.mark.parametrize(("call", "twin"), SYNC)
async def test_sync_form_in_a_loop(call: Any, twin: str) -> None:
    """A synchronous call that would block a running loop raises, and names its twin."""
    with pytest.raises(WrongContext, match=rf"await {twin}\("):
        call(News(), namespace="publishing")


# To whom it goes


async def test_asynchronous_forms() -> None:
    """Room, user, audience and everyone are reached from a running loop, all by one way (R2)."""
    async with connect(Reader, "/?user=7") as client:
        await apublish_to_room("a", News(text="1"), namespace="publishing")
        await apublish_to_user(7, News(text="2"), namespace="publishing")
        await apublish_to_audience(to.Room("a") & to.User("7"), News(text="3"), namespace="publishing")
        await abroadcast(News(text="4"), namespace="publishing")
        assert [(await client.receive(News)).text for _ in range(4)] == ["1", "2", "3", "4"]


async def test_synchronous_forms_from_another_thread() -> None:
    """The same from a thread without a loop, such as a view's."""
    async with connect(Reader, "/?user=7") as client:
        for number, (call, _) in enumerate(SYNC):
            await asyncio.to_thread(call, News(text=str(number)), namespace="publishing", on_commit=False)
        assert [(await client.receive(News)).text for _ in range(4)] == ["0", "1", "2", "3"]


async def test_delivered_once() -> None:
    """A connection that is in both parts of a union gets one frame (A4)."""
    async with connect(Reader, "/?user=7") as client:
        both = to.Room("a") | to.User(7) | to.Everyone()
        await apublish_to_audience(both, News(text="once"), namespace="publishing")
        await client.receive(News)
        await client.assert_silent()


async def test_one_validation_and_one_encoding() -> None:
    """An event is validated and encoded once, whatever the number of recipients (D4)."""
    clients = [connect(Reader) for _ in range(50)]
    for client in clients:
        await client.__aenter__()
    calls.clear()
    await apublish_to_room("a", News(text="hi"), namespace="publishing")
    seen = [await client.receive_json() for client in clients]
    assert calls == ["validated", "encoded"]
    assert seen == [{"event": "news", "data": {"text": "hi"}, "room": "a"}] * 50
    for client in clients:
        await client.disconnect()


async def test_one_encoding_through_a_layer(layer: FakeLayer) -> None:
    """Nodes that hear of a publication hand on its frame: they neither validate nor encode (D4)."""
    async with connect(Reader) as first, connect(Reader) as second:
        calls.clear()
        await apublish_to_room("a", News(text="hi"), namespace="publishing")
        assert (await first.receive_json()) == (await second.receive_json())
        # The receive() of the test client is what validates again.
        assert calls == ["validated", "encoded"]


async def test_one_message_a_group(layer: FakeLayer) -> None:
    """A publication is one message through the layer for each group that it names, however many are in it (C2)."""
    async with connect(Reader), connect(Reader) as client:
        layer.calls.clear()
        await apublish_to_room("a", News(text="hi"), namespace="publishing")
        await client.receive(News)
        sent = {group: times for (method, group), times in layer.calls.items() if method == "group_send"}
        assert sent == {"wsrt.room.publishing.a": 1}


async def test_several_groups_through_a_layer(layer: FakeLayer) -> None:
    """A node that is in several of the groups drops the copies (C2)."""
    async with connect(Reader, "/?user=7") as client:
        await apublish_to_audience(to.Room("a") | to.User(7), News(text="once"), namespace="publishing")
        await apublish_to_room("a", News(text="then"), namespace="publishing")
        assert [(await client.receive(News)).text for _ in range(2)] == ["once", "then"]


async def test_overflow_goes_along(layer: FakeLayer) -> None:
    """What to do for a client that is behind is known to the nodes that deliver."""

    class Price(Event, name="price", overflow="latest", key="symbol"):
        symbol: str

    class Ticker(TypedEventConsumer):
        namespace = "publishing-ticker"
        out_events = (Price,)

        async def on_connect(self) -> None:
            await self.join("a")

    async with connect(Ticker) as client:
        await apublish_to_room("a", Price(symbol="X"), namespace="publishing-ticker")
        assert (await client.receive(Price)).symbol == "X"


# When it leaves


@pytest.mark.django_db(transaction=True)
def test_after_the_commit() -> None:
    """Inside a transaction a publication leaves with the commit, in order."""
    with capture_publications() as published:
        with transaction.atomic():
            publish_to_room("a", News(text="1"), namespace="publishing")
            publish_to_room("a", News(text="2"), namespace="publishing")
            assert not published
        assert published.to_room("a") == [News(text="1"), News(text="2")]


@pytest.mark.django_db(transaction=True)
def test_rolled_back() -> None:
    """A publication of a transaction that is rolled back is never sent."""
    with capture_publications() as published, transaction.atomic():
        publish_to_room("a", News(), namespace="publishing")
        transaction.set_rollback(True)
    assert not published


@pytest.mark.django_db(transaction=True)
def test_at_once_by_request() -> None:
    """on_commit=False sends at once, whatever becomes of the transaction."""
    with capture_publications() as published, transaction.atomic():
        publish_to_room("a", News(), namespace="publishing", on_commit=False)
        assert len(published) == 1


@pytest.mark.django_db(transaction=True)
def test_checked_at_the_call_inside_a_transaction() -> None:
    """A mistake raises where it is made, not after the commit."""
    with transaction.atomic(), pytest.raises(UndeclaredEvent):
        publish_to_room("a", Stray(), namespace="publishing")


@pytest.mark.django_db(transaction=True)
def test_failure_after_the_commit(layer: FakeLayer, caplog: pytest.LogCaptureFixture) -> None:
    """A failure after the commit is logged, counted and signalled, never raised; the next callback runs."""
    failed: list[dict[str, Any]] = []

    def note(**facts: Any) -> None:
        failed.append(facts)

    publication_failed.connect(note)
    before = counters["publications_lost_after_commit"]
    layer.is_down = True
    after: list[str] = []
    with transaction.atomic():
        publish_to_room("a", News(text="lost"), namespace="publishing")
        transaction.on_commit(lambda: after.append("ran"))
        disconnect(to.Room("a"), namespace="publishing")
    assert after == ["ran"]
    assert counters["publications_lost_after_commit"] == before + 2
    assert (failed[0]["namespace"], failed[0]["tenant"]) == ("publishing", None)
    assert (failed[0]["audience"], failed[0]["event"]) == (to.Room("a"), "news")
    assert isinstance(failed[0]["error"], BackplaneUnavailable)
    assert failed[1]["event"] == ""
    assert "failed to send the event 'news' to Room('a') after the commit" in caplog.text
    assert "failed to send the command 'disconnect' to Room('a') after the commit" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_time_of_a_commit(layer: FakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that says nothing holds up a commit once, not once a publication; the rest is counted and signalled."""
    monkeypatch.setattr(batch, "LAYER_SECONDS", 0.5)
    monkeypatch.setattr(batch, "SHARE_SECONDS", 0.05)
    failed: list[Any] = []

    def note(**facts: Any) -> None:
        failed.append(str(facts["error"]))

    publication_failed.connect(note)
    before = counters["publications_lost_after_commit"]
    layer.gate.clear()
    with transaction.atomic():
        for _ in range(20):
            publish_to_room("a", News(), namespace="publishing")
    assert counters["publications_lost_after_commit"] == before + 20
    assert len(failed) == 20
    assert layer.calls["group_send", "wsrt.room.publishing.a"] < 4
    assert failed[-1].startswith("the channel layer was too slow for earlier publications")
    # The next transaction has a time of its own.
    layer.gate.set()
    with transaction.atomic():
        publish_to_room("a", News(), namespace="publishing")
    assert len(failed) == 20


@pytest.mark.django_db(transaction=True)
def test_many_publications_of_a_commit(layer: FakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many publications a commit has, a layer that takes each in time gets them all."""
    monkeypatch.setattr(batch, "LAYER_SECONDS", 0.2)
    layer.latency = 0.01
    with transaction.atomic():
        for _ in range(100):
            publish_to_room("a", News(), namespace="publishing")
    assert layer.calls["group_send", "wsrt.room.publishing.a"] == 100


def test_layer_that_is_down(layer: FakeLayer) -> None:
    """Outside of a transaction a publication that the layer did not take raises."""
    layer.is_down = True
    with pytest.raises(BackplaneUnavailable, match=r"accept a publication: ConnectionError: the layer is down"):
        publish_to_room("a", News(), namespace="publishing", on_commit=False)


def test_layer_that_does_not_answer(layer: FakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that doesn't answer is given up in time, and connected again at the next use."""
    monkeypatch.setattr("wsrt.cluster.layers.LAYER_SECONDS", 0.05)
    layer.gate.clear()
    with pytest.raises(BackplaneUnavailable, match="TimeoutError"):
        publish_to_room("a", News(), namespace="publishing", on_commit=False)


# From where


def test_from_many_threads(layer: FakeLayer) -> None:
    """Threads share one loop, and every publication is taken."""
    threads = [
        threading.Thread(target=lambda: publish_to_room("t", News(), namespace="publishing", on_commit=False))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert layer.calls["group_send", "wsrt.room.publishing.t"] == 20
    assert [thread.name for thread in threading.enumerate()].count("wsrt-background-loop") == 1


def test_unheard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A process without connections that publishes to a local layer logs a warning that it is discarded."""
    monkeypatch.setattr(in_process, "nodes", list)
    Reader.as_asgi()  # as a module of routes does that workers import too
    caplog.set_level(logging.WARNING, "wsrt")
    publish_to_room("a", News(), namespace="publishing", on_commit=False)
    assert "doesn't reach other processes. Configure channels_redis.pubsub.RedisPubSubChannelLayer" in caplog.text


async def test_serving_process_is_not_warned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A server without connections doesn't warn, not even in its views."""
    monkeypatch.setattr(in_process, "nodes", list)
    await apublish_to_room("a", News(), namespace="publishing")
    await sync_to_async(publish_to_room)("a", News(), namespace="publishing", on_commit=False)
    assert "publication discarded" not in caplog.text


async def test_class_of_before() -> None:
    """An event of a class that was made again is told apart from the one that the namespace knows."""

    class News(Event, name="news"):
        pass

    with pytest.raises(UndeclaredEvent, match="import the same class"):
        await apublish_to_room("a", News(), namespace="publishing")


@pytest.mark.django_db(transaction=True)
def test_publish_many() -> None:
    """A batch arrives in order; after the commit, if a transaction is open."""
    items = [(to.Room("a"), News(text=str(number))) for number in range(3)]
    with capture_publications() as published:
        assert publish_many(items, namespace="publishing") == [None, None, None]
        with transaction.atomic():
            publish_many(items, namespace="publishing")
            assert len(published) == 3
    assert [event.text for event in published.events] == ["0", "1", "2"] * 2  # type: ignore[attr-defined]


def test_publish_many_through_a_layer_that_fails(layer: FakeLayer) -> None:
    """The error says which publications of a batch weren't sent; the others were."""
    layer.failing.add("group_send")
    with pytest.raises(PublicationsFailed, match="2 of 2 publications were not accepted") as failure:
        publish_many([(to.Room("a"), News()), (to.Room("b"), News())], namespace="publishing")
    assert set(failure.value.errors) == {0, 1}
    assert failure.value.positions == [None, None]


def test_publish_many_with_an_invalid_event(layer: FakeLayer) -> None:
    """Everything is validated before anything is sent."""
    with pytest.raises(TypeError):
        publish_many([(to.Room("a"), News()), ("a", News())], namespace="publishing")  # type: ignore[list-item]
    assert not layer.calls["group_send", "wsrt.room.publishing.a"]


@pytest.mark.django_db(transaction=True)
def test_batches_of_savepoints() -> None:
    """A savepoint that is rolled back drops its own publications, whichever of a transaction they are."""
    for dropped in range(3):
        with capture_publications() as published, transaction.atomic():
            for number in range(3):
                with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                    publish_to_room("a", News(text=str(number)), namespace="publishing")
                    if number == dropped:
                        raise ZeroDivisionError
        assert [event.text for event in published.events] == [str(n) for n in range(3) if n != dropped]  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
def test_a_callback_that_raises() -> None:
    """What waited for a callback that Django doesn't run, because one of the application raises, isn't lost."""

    def fail() -> None:
        raise ZeroDivisionError

    with capture_publications() as published:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            publish_to_room("a", News(text="1"), namespace="publishing")
            transaction.on_commit(fail)
            publish_to_room("a", News(text="2"), namespace="publishing")
        assert [event.text for event in published.events] == ["1", "2"]  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
def test_a_callback_that_publishes() -> None:
    """What the application publishes in a callback of its own comes after what was published before."""
    with capture_publications() as published, transaction.atomic():
        publish_to_room("a", News(text="1"), namespace="publishing")
        transaction.on_commit(lambda: publish_to_room("a", News(text="2"), namespace="publishing"))
        publish_to_room("a", News(text="3"), namespace="publishing")
    assert [event.text for event in published.events] == ["1", "2", "3"]  # type: ignore[attr-defined]


def test_a_process_without_settings() -> None:
    """A process that imports this and has no Django settings ends without an error."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", "import wsrt.cluster.commits"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
