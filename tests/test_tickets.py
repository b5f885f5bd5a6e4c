"""Tickets: what they are stored as, and that each is taken once, on every cache, by any number of processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.sessions.backends import db, signed_cookies
from django.core.cache import caches
from django.core.management import call_command

from tests.support.postgres import PostgresServer
from tests.support.processes import RedisServer
from tests.support.racers import race
from tests.support.report import note
from tests.support.waiting import eventually
from wsrt import TypedEventConsumer
from wsrt.exceptions import TenantRequired
from wsrt.protocol.namespaces import namespaces
from wsrt.tickets import Ticket, _key_of, aissue_ticket, issue_ticket, take_ticket

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
FILES = "django.core.cache.backends.filebased.FileBasedCache"
DATABASE = "django.core.cache.backends.db.DatabaseCache"
REDIS = "django.core.cache.backends.redis.RedisCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"

PATH = "/ws/chat/lobby/"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["locmem", "files", "database", "redis"])
def cache(
    request: pytest.FixtureRequest, settings: Any, tmp_path: Path, redis: RedisServer, transactional_db: None
) -> Iterator[Any]:
    """A cache of each kind."""
    settings.CACHES = {
        "default": {"BACKEND": LOCMEM},
        "tickets": {
            "locmem": {"BACKEND": LOCMEM, "LOCATION": "tickets"},
            "files": {"BACKEND": FILES, "LOCATION": str(tmp_path)},
            "database": {"BACKEND": DATABASE, "LOCATION": "tickets"},
            "redis": {"BACKEND": REDIS, "LOCATION": redis.url},
        }[request.param],
    }
    settings.WSRT = {"TICKET_CACHE": "tickets"}
    call_command("createcachetable", "tickets")
    yield caches["tickets"]
    caches["tickets"].clear()


def a_user(pk: int = 7) -> User:
    return User(pk=pk, username="ada")


def a_session(key: str = "the key of a session") -> Any:
    return db.SessionStore(key)


# Issuing and taking.


def test_taken_once(cache: Any) -> None:
    """A ticket is taken once, and says what it is valid for."""
    ticket = issue_ticket(a_user(), PATH, tenant="red")
    other = issue_ticket(a_user(8), PATH, tenant="red")
    assert take_ticket(ticket) == Ticket("7", "auth.user", "7", "red", PATH, None)
    assert take_ticket(ticket) is None
    assert take_ticket(other) is not None


@pytest.mark.parametrize("cache", ["locmem", "files", "redis"], indirect=True)
def test_raced(cache: Any) -> None:
    """Of threads that take one ticket at once, one has it."""
    threads = 4
    barrier = threading.Barrier(threads)

    def take(ticket: str) -> bool:
        barrier.wait(30)
        return take_ticket(ticket) is not None

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(10):
            ticket = issue_ticket(a_user(), PATH, tenant=None)
            assert sum(pool.map(take, [ticket] * threads)) == 1


def test_expires(cache: Any, settings: Any) -> None:
    """A ticket is valid for some seconds."""
    settings.WSRT = {**settings.WSRT, "TICKET_SECONDS": 1}
    ticket = issue_ticket(a_user(), PATH, tenant=None)
    eventually(lambda: cache.get(_key_of(ticket)) is None)
    assert take_ticket(ticket) is None


@pytest.mark.parametrize("cache", ["redis"], indirect=True)
def test_stored_as_a_hash(cache: Any, redis: RedisServer) -> None:
    """The store holds neither the ticket nor the key of the session."""
    ticket = issue_ticket(a_user(), PATH, tenant=None, session=a_session())
    client = cache._cache.get_client()
    (key,) = client.keys("*")
    stored = key + client.get(key)
    assert b"wsrt:ticket:" in stored
    assert ticket.encode() not in stored
    assert b"the key of a session" not in stored
    assert 0 < client.ttl(key) <= 30


def test_forged(settings: Any) -> None:
    """A ticket that was never issued is none; a text that can't be one isn't looked for."""
    ticket = issue_ticket(a_user(), PATH, tenant=None)
    forged = ticket[:-4] + ("aaaa" if ticket[-4:] != "aaaa" else "bbbb")
    assert take_ticket(forged) is None
    settings.CACHES = {}  # would raise
    for text in ("", "a", ticket + "a", ticket[:-1] + "\n", ticket[:-1] + "é", "x" * 100_000):
        assert take_ticket(text) is None


def test_lost(settings: Any) -> None:
    """A cache that loses tickets lets nobody in."""
    settings.CACHES = {"default": {"BACKEND": DUMMY}}
    assert take_ticket(issue_ticket(a_user(), PATH, tenant=None)) is None


def test_of_another_version() -> None:
    """A record of another version of wsrt is none."""
    ticket = issue_ticket(a_user(), PATH, tenant=None)
    caches["default"].set(_key_of(ticket), {"user": 7})
    assert take_ticket(ticket) is None


def test_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that doesn't store a ticket is an error where it is issued."""
    monkeypatch.setattr(type(caches["default"]), "add", lambda *args: False)
    with pytest.raises(RuntimeError, match=r"the cache 'default' .* didn't store a ticket"):
        issue_ticket(a_user(), PATH, tenant=None)


@pytest.mark.parametrize(
    "user", [None, 7, "7", AnonymousUser(), User()], ids=["none", "int", "str", "guest", "unsaved"]
)
def test_users(user: Any) -> None:
    """A ticket is issued to a saved instance of a model."""
    with pytest.raises(TypeError):
        issue_ticket(user, PATH, tenant=None)


def test_users_of_other_models() -> None:
    """Users of other models have their own keys."""
    ticket = take_ticket(issue_ticket(Group(pk=7), PATH, tenant=None))
    assert ticket is not None
    assert (ticket.user_key, ticket.model) == ("auth.group:7", "auth.group")
    assert ticket.is_of_user(Group(pk=7))
    assert not ticket.is_of_user(User(pk=7))
    assert not ticket.is_of_user(object())


@pytest.mark.parametrize("path", ["", "ws/chat/", "https://example.com/ws/"])
def test_paths(path: str) -> None:
    """A ticket is bound to a path."""
    with pytest.raises(ValueError, match="begins with"):
        issue_ticket(a_user(), path, tenant=None)


def tenant_of_test() -> str:
    return "blue"


def test_tenant(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant is that of the call, else that of the setting where consumers that require tickets have tenants."""

    class ShopConsumer(TypedEventConsumer):
        namespace = "tickets.shop"

        async def tenant(self) -> str:
            return "blue"

    monkeypatch.setattr("wsrt.tickets.namespaces", {"tickets.shop": namespaces["tickets.shop"]})
    ticket = take_ticket(issue_ticket(a_user(), PATH))
    assert ticket is not None
    assert ticket.tenant is None
    ShopConsumer.requires_ticket = True
    with pytest.raises(TenantRequired):
        issue_ticket(a_user(), PATH)
    settings.WSRT = {"TENANT": f"{__name__}.tenant_of_test"}
    ticket = take_ticket(issue_ticket(a_user(), PATH))
    assert ticket is not None
    assert ticket.tenant == "blue"


# Sessions.


@pytest.mark.parametrize(
    ("issued", "used", "expected"),
    [
        (None, None, True),
        (None, a_session(), True),
        (a_session(), a_session(), True),
        (a_session(), a_session("another"), False),
        (a_session(), a_session(""), False),
        (a_session(), None, False),
        (a_session(), signed_cookies.SessionStore("the key of a session"), False),
        (signed_cookies.SessionStore("a"), signed_cookies.SessionStore("b"), True),
    ],
)
def test_sessions(issued: Any, used: Any, expected: bool) -> None:
    """A ticket is of the session in which it was issued, if that has a key."""
    text = issue_ticket(a_user(), PATH, tenant=None, session=issued)
    ticket = take_ticket(text)
    assert ticket is not None
    assert ticket.is_of_session(text, used) is expected


# Users.


@pytest.mark.django_db
def test_load_user() -> None:
    """The user is loaded by the model and the primary key; who is gone, or has no such key, isn't there."""
    user = User.objects.create_user("ada")
    ticket = take_ticket(issue_ticket(user, PATH, tenant=None))
    assert ticket is not None
    assert ticket.load_user() == user
    user.delete()
    assert ticket.load_user() is None
    for model, pk in (("no.model", "7"), ("auth.user", "seven")):
        assert Ticket("7", model, pk, None, PATH, None).load_user() is None


async def test_issue_in_a_loop() -> None:
    """The twin issues in an event loop."""
    ticket = await aissue_ticket(a_user(), PATH, tenant=None)
    assert await sync_to_async(take_ticket)(ticket) is not None


# Two processes.


@pytest.mark.parametrize("races", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_raced_on_redis(redis: RedisServer, races: int) -> None:
    """Of two processes that take one ticket at once, on one Redis, exactly one has it, each time."""
    assert_one_winner("redis", race({"default": {"BACKEND": REDIS, "LOCATION": redis.url}}, races))


@pytest.mark.slow
def test_raced_on_files(tmp_path: Path) -> None:
    """The same on one file system."""
    assert_one_winner("files", race({"default": {"BACKEND": FILES, "LOCATION": str(tmp_path)}}, 50))


@pytest.mark.slow
def test_raced_on_a_database() -> None:
    """The same on one database."""
    with PostgresServer() as postgres:
        caches = {"default": {"BACKEND": DATABASE, "LOCATION": "tickets"}}
        assert_one_winner("database", race(caches, 50, postgres.settings))


def assert_one_winner(where: str, outcomes: list[list[bool]]) -> None:
    winners = [one + other for one, other in zip(*outcomes, strict=True)]
    assert winners == [1] * len(winners)
    firsts = sum(outcomes[0])
    note("tickets", f"{where}: {len(winners)} raced by two processes, one winner each, {firsts} times the first")
