"""The check that the session and the user of a connection are still valid."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session

from tests.support.recorder import Recorder
from tests.support.sessions import ascope_of, signed_in
from tests.support.waiting import aeventually
from wsrt import close_codes, presence
from wsrt.metrics import counters
from wsrt.presence.access import open_store
from wsrt.sessions.keys import hashes_of
from wsrt.sessions.rounds import rounds_of_loop
from wsrt.testing import connect

User = get_user_model()

pytestmark = pytest.mark.django_db(transaction=True)

INTERVAL = 0.3


class Short(Recorder):
    revalidate = INTERVAL


class Reloading(Short):
    """Checks its user itself."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.result: Any = None
        self.reloaded = 0

    async def reload_user(self) -> Any:
        self.reloaded += 1
        result = self.result or self.user
        if isinstance(result, Exception):
            raise result
        return result


@pytest.fixture
def ada() -> Any:
    return User.objects.create_user("ada")


@pytest.fixture
def session(ada: Any) -> Iterator[Any]:
    return signed_in(ada)


async def rounds(count: int = 2) -> None:
    """Wait until some rounds have begun and ended."""
    ours = rounds_of_loop(INTERVAL)
    for _ in range(count):
        timer = ours._timer
        await aeventually(lambda timer=timer: ours._timer not in (None, timer), "a round")  # type: ignore[misc]


@pytest.mark.parametrize("change", ["session", "user", "password"])
async def test_session(ada: Any, session: Any, change: str) -> None:
    """A connection stays while its session is valid. It is closed when that was deleted, or its user has changed."""
    before = counters["credentials_expired"]
    async with connect(Short, scope=await ascope_of(ada, session)) as client:
        await rounds()
        await client.assert_silent()
        match change:
            case "session":
                await Session.objects.all().adelete()
            case "user":
                await User.objects.aupdate(is_active=False)
            case "password":
                await User.objects.aupdate(password="another")
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
    assert counters["credentials_expired"] == before + 1
    assert len(rounds_of_loop(INTERVAL)) == 0


async def test_session_is_shown_to_operators(ada: Any, session: Any) -> None:
    """Presence says that a connection has a session, and holds neither its key nor a hash of it."""
    async with connect(Short, scope=await ascope_of(ada, session)), connect(Short, user=ada):
        found = await presence.aconnections(namespace=Short.namespace)
        assert sorted(each.has_session for each in found) == [False, True]
        store = await open_store()
        page = await store.connections(Short.namespace)
        stored = " ".join(str(record) for record in page.items)
    assert "session" in stored
    assert session.session_key not in stored
    assert not [digest for digest in hashes_of(session.session_key) if digest in stored]


async def test_user_without_a_session(ada: Any) -> None:
    """A user who was authenticated in another way is checked, too."""
    async with connect(Short, user=ada) as client:
        await rounds()
        await client.assert_silent()
        await User.objects.all().adelete()
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_switched_off(ada: Any, session: Any) -> None:
    """With None, the connection isn't checked."""
    async with connect(Short(revalidate=None), scope=await ascope_of(ada, session)):
        assert len(rounds_of_loop(INTERVAL)) == 0


async def test_another_user(ada: Any, session: Any) -> None:
    """A connection that its consumer gives to another user is checked for that one; an anonymous one isn't checked."""
    bob = await User.objects.acreate(username="bob")
    async with connect(Short, scope=await ascope_of(ada, session)) as client:
        client.consumer.scope["user"] = AnonymousUser()
        await Session.objects.all().adelete()
        await rounds()
        client.consumer.scope["user"] = bob
        await rounds()
        await client.assert_silent()
        await User.objects.filter(username="bob").adelete()
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_reload_user(ada: Any) -> None:
    """reload_user() replaces the check of the user. Its result becomes the user; without one the connection ends."""
    bob = await User.objects.acreate(username="bob")
    async with connect(Reloading, user=ada) as client:
        await User.objects.filter(pk=ada.pk).adelete()
        await aeventually(lambda: client.consumer.reloaded, "reload_user")
        client.consumer.result = bob
        await aeventually(lambda: client.consumer.user == bob, "the other user")
        client.consumer.result = AnonymousUser()
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_reload_user_and_session(ada: Any, session: Any) -> None:
    """The session of a consumer with reload_user() is checked as any other."""
    async with connect(Reloading, scope=await ascope_of(ada, session)) as client:
        await rounds()
        await client.assert_silent()
        await Session.objects.all().adelete()
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_reload_user_fails(ada: Any) -> None:
    """If reload_user() raises, the connection stays, and the failure is counted."""
    before = counters["revalidations_failed"]
    async with connect(Reloading, user=ada) as client:
        client.consumer.result = RuntimeError("the database is down")
        await aeventually(lambda: counters["revalidations_failed"] > before + 1, "two failures")
        await client.assert_silent()


async def test_reload_user_waits_for_its_turn(ada: Any) -> None:
    """reload_user() is called between handlers, once, however many rounds have passed; a new user isn't overwritten."""
    bob = await User.objects.acreate(username="bob")
    gate = asyncio.Event()

    class Waiting(Reloading):
        async def reload_user(self) -> Any:
            result = await super().reload_user()
            await gate.wait()
            return result

    async with connect(Waiting, user=ada) as client:
        await aeventually(lambda: client.consumer.reloaded, "reload_user")
        await rounds()
        assert client.consumer.reloaded == 1
        client.consumer.scope["user"] = bob
        gate.set()
        await aeventually(lambda: client.consumer.reloaded > 1, "the next one")
        assert client.consumer.user == bob
