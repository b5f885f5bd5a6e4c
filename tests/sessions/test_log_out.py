"""Log-outs: which connections are closed, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import alogout, get_user_model, logout
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest

from tests.support.layer import FakeLayer, installed
from tests.support.recorder import Recorder
from tests.support.sessions import ascope_of, signed_in
from wsrt import close_codes
from wsrt.cluster.in_process import observers
from wsrt.cluster.messages import CommandMessage
from wsrt.cluster.node import current_node
from wsrt.cluster.outgoing import Outgoing
from wsrt.metrics import counters
from wsrt.sessions.keys import hashes_of
from wsrt.testing import connect

User = get_user_model()

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada() -> Any:
    return User.objects.create_user("ada")


@pytest.fixture
def session(ada: Any) -> Any:
    return signed_in(ada)


class Sent(list[bool]):
    """For each command that was sent: whether the session was still in the database."""

    def __init__(self, key: str) -> None:
        self.key = key

    def note(self, outgoing: Outgoing) -> None:
        assert isinstance(outgoing.item, CommandMessage)
        assert self.key not in repr(outgoing.item)
        self.append(Session.objects.filter(session_key=self.key).exists())


@pytest.fixture
def sent(session: Any) -> Iterator[Sent]:
    sent = Sent(session.session_key)
    observers.append(sent.note)
    yield sent
    observers.remove(sent.note)


def request_of(user: Any, session: Any) -> HttpRequest:
    request = HttpRequest()
    request.user, request.session = user, session
    return request


def test_sent_after_the_flush(ada: Any, session: Any, sent: Sent) -> None:
    """The command is sent once, when the session is gone. A later flush of the same object sends none."""
    logout(request_of(ada, session))
    assert sent == [False]
    session.flush()
    logout(request_of(ada, session))
    assert sent == [False]


def test_sent_after_the_commit(ada: Any, session: Any, sent: Sent) -> None:
    """In a transaction the command waits for the commit, and isn't sent at all if it is rolled back."""
    with transaction.atomic():
        logout(request_of(ada, signed_in(ada)))
        transaction.set_rollback(True)
    with transaction.atomic():
        logout(request_of(ada, session))
        assert sent == []
    assert sent == [False]


def test_session_outside_of_the_database(ada: Any, settings: Any, sent: Sent) -> None:
    """A session of another engine is gone at once, whatever becomes of the transaction."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    other = signed_in(ada)
    with transaction.atomic():
        logout(request_of(ada, other))
        assert len(sent) == 1


def test_signal_twice(ada: Any, session: Any, sent: Sent) -> None:
    """Two signals before the flush send one command."""
    request = request_of(ada, session)
    user_logged_out.send(User, request=request, user=ada)
    logout(request)
    assert len(sent) == 1


@pytest.mark.parametrize("request_", [None, HttpRequest()], ids=["no request", "no session"])
def test_signal_without_a_session(ada: Any, request_: Any, sent: Sent) -> None:
    """Without a request, or without a session, nothing is sent: packages send the signal when they revoke a token."""
    user_logged_out.send(User, request=request_, user=ada)
    assert sent == []


def test_signal_without_a_flush(ada: Any, session: Any, sent: Sent) -> None:
    """A session that isn't flushed wasn't logged out."""
    user_logged_out.send(User, request=request_of(ada, session), user=ada)
    session["note"] = 1
    session.save()
    assert sent == []


async def test_asynchronous_log_out(ada: Any, session: Any) -> None:
    """alogout() closes the connections of the session."""
    async with connect(Recorder, scope=await ascope_of(ada, session)) as client:
        request = request_of(ada, session)
        request.auser = sync_to_async(lambda: ada)
        await alogout(request)
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_synchronous_log_out_in_the_loop(ada: Any, settings: Any) -> None:
    """logout() in an event loop, with an engine that doesn't block it, closes them a moment later."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    session = signed_in(ada)
    async with connect(Recorder, scope=await ascope_of(ada, session)) as client:
        logout(request_of(ada, session))
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_whose_connections(ada: Any, session: Any) -> None:
    """All tabs of the session are closed, whatever their tenant. Other sessions of the user stay, as do others."""

    class Tenants(Recorder):
        namespace = "sessions.tenants"

        async def tenant(self) -> str | None:
            return self.query.get("tenant")

    other = await sync_to_async(signed_in)(ada)
    before = counters["connections_logged_out"]
    async with (
        connect(Recorder, scope=await ascope_of(ada, session)) as one,
        connect(Tenants, "/?tenant=a", scope=await ascope_of(ada, session)) as two,
        connect(Recorder, scope=await ascope_of(AnonymousUser(), session)) as anonymous,
        connect(Recorder, user=ada) as without,
        connect(Recorder, scope=await ascope_of(ada, other)) as elsewhere,
    ):
        await sync_to_async(logout)(request_of(ada, session))
        for client in (one, two):
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        for client in (anonymous, without, elsewhere):
            await client.assert_silent()
    assert counters["connections_logged_out"] == before + 2
    assert current_node().hub._sessions == {}


async def test_scope_without_a_user(ada: Any, session: Any) -> None:
    """A connection below a middleware for sessions alone is closed too."""
    scope = {**await ascope_of(None, session), "user": None}
    async with connect(Recorder, scope=scope) as client:
        await sync_to_async(logout)(request_of(ada, session))
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_handshake_that_was_faster(ada: Any, session: Any) -> None:
    """A handshake that has read the session before the log-out, and comes after it, is closed before on_connect."""

    class Connecting(Recorder):
        async def on_connect(self) -> None:
            self.seen.append("connected")

    scope = await ascope_of(ada, session)
    async with connect(Recorder, scope=await ascope_of(ada, session)):
        await sync_to_async(logout)(request_of(ada, session))
    before = counters["sessions_refused"]
    async with connect(Connecting, scope=scope) as client:
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        assert client.consumer.seen == []
    assert counters["sessions_refused"] == before + 1


async def test_log_out_during_the_set_up(ada: Any, session: Any) -> None:
    """A session that is logged out while a connection is set up is closed before on_connect."""

    class Leaving(Recorder):
        async def authorize(self) -> bool:
            await sync_to_async(logout)(request_of(ada, session))
            return True

        async def on_connect(self) -> None:
            self.seen.append("connected")

    async with connect(Leaving, scope=await ascope_of(ada, session)) as client:
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        assert client.consumer.seen == []


async def test_through_a_layer(ada: Any, session: Any) -> None:
    """Other processes are told with hashes of the key. The key is neither in the layer nor in the log."""
    layer, key = FakeLayer(), session.session_key
    with installed(layer):
        async with connect(Recorder, scope=await ascope_of(ada, session)) as client:
            spy = await layer.new_channel()
            await layer.group_add("wsrt.control", spy)
            await alogout(request_of(None, session))
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
            message = json.loads(layer.queues[spy].get_nowait())
    assert message["audience"] == ["session", *hashes_of(key)]
    assert key not in json.dumps(message)


@pytest.mark.parametrize("is_async", [True, False])
async def test_layer_is_down(ada: Any, session: Any, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A log-out succeeds while the layer is down; that other processes weren't told is counted and logged."""
    layer, key = FakeLayer(), session.session_key
    before = counters["log_outs_unsent"]
    with installed(layer):
        async with connect(Recorder, scope=await ascope_of(ada, session)) as client:
            layer.failing.add("group_send")
            if is_async:
                await alogout(request_of(None, session))
            else:
                await sync_to_async(logout)(request_of(ada, session))
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
    assert counters["log_outs_unsent"] == before + 1
    assert "REVALIDATE" in caplog.text
    assert key not in caplog.text


def test_nothing_can_hear(ada: Any, session: Any) -> None:
    """A process that can't reach any connection, such as a test's, sends nothing and doesn't complain."""
    before = counters.snapshot()
    logout(request_of(ada, session))
    assert counters.snapshot() == before


def test_anonymous_log_out(session: Any, sent: Sent) -> None:
    """The session of an anonymous visitor has ended, too."""
    logout(request_of(AnonymousUser(), session))
    assert sent == [False]
