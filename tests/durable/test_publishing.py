"""The functions that store publications: what they refuse, what they store, and what they may be imported in."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from tests.apps.chat.events import Price, Said
from tests.support.commands import run
from tests.support.databases import Database
from tests.support.processes import ROOT
from wsrt import (
    Event,
    InvalidRoom,
    TypedEventConsumer,
    UndeclaredEvent,
    UnknownNamespace,
    UnsendableEvent,
    WrongContext,
)
from wsrt import addresses as to
from wsrt.addresses import Audience, Room
from wsrt.cluster.messages import PublishMessage
from wsrt.cluster.outgoing import Outgoing, prepare
from wsrt.durable import (
    apublish_many,
    apublish_to_room,
    apublish_to_user,
    publish_many,
    publish_to_room,
    publish_to_user,
    publish_waiting,
)
from wsrt.durable.models import WaitingPublication
from wsrt.durable.restoring import Restorer
from wsrt.testing import capture_publications


class Noted(Event, name="noted", history=True):
    text: str


class Priced(Event, name="priced", history="latest", key="symbol"):
    symbol: str
    price: int


class KeepingConsumer(TypedEventConsumer):
    namespace = "durable-kept"
    out_events = (Noted, Priced)


@pytest.mark.django_db
def test_row() -> None:
    """A row has the audience, the encoded event, and a random key."""
    for _ in range(2):
        publish_to_room("lobby", Said(text="hi"), namespace="chat")
    first, second = WaitingPublication.objects.order_by("id")
    assert (first.namespace, first.tenant, first.kind, first.name) == ("chat", "", "room", "lobby")
    assert (first.event, first.data, first.key) == ("said", '{"text":"hi"}', "")
    assert len(first.idempotency_key) == 32
    assert first.idempotency_key != second.idempotency_key
    assert first.partition == second.partition
    assert str(first) == "said (room lobby)"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "room", "event", "namespace"),
    [
        (InvalidRoom, "", Said(text="hi"), "chat"),
        (TypeError, 7, Said(text="hi"), "chat"),
        (UnknownNamespace, "lobby", Said(text="hi"), "nowhere"),
        (UndeclaredEvent, "lobby", Noted(text="hi"), "chat"),
        (UnsendableEvent, "lobby", Said(text="x" * 1_100_000), "chat"),
    ],
)
def test_refused(error: type[Exception], room: Any, event: Event, namespace: str) -> None:
    """What the ordinary function refuses is refused at the call, and nothing is stored."""
    with pytest.raises(error):
        publish_to_room(room, event, namespace=namespace)
    assert not WaitingPublication.objects.exists()


@pytest.mark.django_db
def test_idempotency_key() -> None:
    """A key of one's own is stored, for an event with history; users have no history."""
    publish_to_room("lobby", Noted(text="hi"), namespace="durable-kept", idempotency_key="order-7")
    assert WaitingPublication.objects.get().idempotency_key == "order-7"
    with pytest.raises(ValueError, match="requires an event with history"):
        publish_to_room("lobby", Said(text="hi"), namespace="chat", idempotency_key="order-7")
    with pytest.raises(ValueError, match="exactly one room"):
        publish_to_user(7, Noted(text="hi"), namespace="durable-kept")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("event", "namespace"),
    [
        (Said(text="hi"), "chat"),
        (Price(symbol="X", value=1), "chat"),
        (Noted(text="hi"), "durable-kept"),
        (Priced(symbol="X", price=1), "durable-kept"),
    ],
)
def test_restored(event: Event, namespace: str) -> None:
    """A row becomes the publication that the ordinary function makes, with its keys and its place in history."""

    def plain(outgoing: Outgoing) -> Any:
        assert isinstance(outgoing.item, PublishMessage)
        message = outgoing.item.to_message()
        message.pop("history", None)
        append = outgoing.append
        return message, outgoing.groups, outgoing.alias, append and (append.room, append.event, append.data, append.key)

    publish_to_room("lobby", event, namespace=namespace)
    row = WaitingPublication.objects.get()
    restored = Restorer().restore(row)
    assert plain(restored) == plain(prepare(Room("lobby"), event, namespace, None))
    assert restored.append is None or restored.append.idempotency_key == row.idempotency_key
    assert restored.description == f"the event {row.event!r}"


@pytest.mark.django_db
def test_lost_key() -> None:
    """An event of which the class replaced nothing when it was stored is queued."""
    publish_to_room("lobby", Price(symbol="X", value=1), namespace="chat")
    WaitingPublication.objects.update(key="")
    message = Restorer().restore(WaitingPublication.objects.get()).item
    assert isinstance(message, PublishMessage)
    assert (message.encoded.overflow, message.encoded.key) == ("close", None)


@pytest.mark.django_db
def test_captured() -> None:
    """Tests capture what is published from the database."""
    with capture_publications() as published:
        publish_to_room("lobby", Said(text="hi"), namespace="chat")
        assert published == []
        assert publish_waiting() == 1
    assert published.to_room("lobby") == [Said(text="hi")]


@pytest.mark.django_db
def test_nothing_can_receive() -> None:
    """Where nothing can receive what waits, that is an error that says what to do in a test. The events still wait."""
    assert publish_waiting() == 0
    publish_to_room("lobby", Said(text="hi"), namespace="chat")
    with pytest.raises(WrongContext, match=r"in a test, call .* inside capture_publications\(\)"):
        publish_waiting()
    with capture_publications():
        assert publish_waiting() == 1


@pytest.mark.django_db
def test_captured_in_another_shape() -> None:
    """An event whose class has changed is published, though a test can't capture it as an event."""
    publish_to_room("lobby", Said(text="hi"), namespace="chat")
    WaitingPublication.objects.update(data='{"words":"hi"}')
    with capture_publications() as published:
        assert publish_waiting() == 1
    assert published == []


def test_asynchronous_forms(database: Database) -> None:
    """The twins store as well."""

    async def store() -> None:
        await apublish_to_room("lobby", Said(text="one"), namespace="chat", using=database.alias)
        await apublish_to_user(7, Said(text="two"), namespace="chat", using=database.alias)
        await apublish_many([(Room("attic"), Said(text="three"))], namespace="chat", using=database.alias)

    async_to_sync(store)()
    rows = WaitingPublication.objects.using(database.alias).order_by("id")
    assert [(row.kind, row.name) for row in rows] == [("room", "lobby"), ("user", "7"), ("room", "attic")]


@pytest.mark.django_db
def test_many(django_assert_num_queries: Any) -> None:
    """Several events are stored with one query, and nothing is stored if one of them isn't valid."""
    publications: list[tuple[Audience, Event]] = [(Room(f"r{n % 3}"), Said(text=str(n))) for n in range(20)]
    publications.append((to.User(7), Said(text="hi")))
    with django_assert_num_queries(1):
        publish_many(publications, namespace="chat")
    rows = [(row.kind, row.name) for row in WaitingPublication.objects.order_by("id")]
    assert rows == [*(("room", f"r{n % 3}") for n in range(20)), ("user", "7")]
    WaitingPublication.objects.all().delete()
    with pytest.raises(UndeclaredEvent):
        publish_many([*publications, (Room("lobby"), Noted(text="hi"))], namespace="chat")
    with pytest.raises(ValueError, match=r"one Room or one User, not Everyone\(\)"):
        publish_many([*publications, (to.Everyone(), Said(text="hi"))], namespace="chat")
    assert not WaitingPublication.objects.exists()


async def test_in_a_loop() -> None:
    """The synchronous form names its twin where a loop runs."""
    with pytest.raises(WrongContext, match=r"await wsrt\.durable\.apublish_to_room"):
        publish_to_room("lobby", Said(text="hi"), namespace="chat")
    with pytest.raises(WrongContext, match=r"await wsrt\.durable\.apublish_to_user"):
        publish_to_user(7, Said(text="hi"), namespace="chat")
    with pytest.raises(WrongContext, match=r"await wsrt\.durable\.apublish_many"):
        publish_many([], namespace="chat")


def test_without_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the app the call says what to add."""
    installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "wsrt.durable" and installed(name))
    with pytest.raises(ImproperlyConfigured, match=r'add "wsrt\.durable" to INSTALLED_APPS'):
        publish_to_room("lobby", Said(text="hi"), namespace="chat")


def test_imported_before_the_apps() -> None:
    """The package is imported without settings and without its models, as by a module of an app's models."""
    code = "import sys, wsrt.durable; assert 'wsrt.durable.models' not in sys.modules"
    assert run(ROOT, "-c", code) == ""


@pytest.mark.django_db
def test_migration() -> None:
    """The migration makes the tables of the models."""
    call_command("makemigrations", "wsrt_durable", check=True, dry_run=True, verbosity=0)
