"""The ticket of a handshake: whom it lets in, and that what it doesn't let in is counted, and never logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore

from wsrt import TypedEventConsumer, close_codes
from wsrt.metrics import counters
from wsrt.protocol.namespaces import namespaces
from wsrt.testing import connect
from wsrt.tickets import issue_ticket

PATH = "/ws/desk/"
SESSION = "the key of a session"
GUEST = AnonymousUser()


class DeskConsumer(TypedEventConsumer):
    """Requires tickets."""

    namespace = "tickets"
    requires_ticket = True


class TenantConsumer(DeskConsumer):
    """The same, of a tenant."""

    namespace = "tickets.of.tenants"

    async def tenant(self) -> str:
        return "red"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Have the consumer with tenants for the time of a test: elsewhere a call without a namespace needs no tenant."""
    namespaces.add(TenantConsumer.namespace, TenantConsumer, TenantConsumer.catalog)
    yield
    del namespaces[TenantConsumer.namespace]


del namespaces[TenantConsumer.namespace]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, from the lowest level."""
    caplog.set_level(logging.DEBUG)
    counters.forget_logged()
    return caplog


def issue(user: Any, *, path: str = PATH, session: str | None = SESSION, tenant: str | None = None) -> str:
    return issue_ticket(user, path, tenant=tenant, session=session and SessionStore(session))


def dial(ticket: str | None, user: Any = None, consumer: Any = DeskConsumer, **options: Any) -> Any:
    """Connect with a ticket, in a session and at the path for which issue() issues it."""
    offered = ["wsrt.v1", *([] if ticket is None else [f"ticket.{ticket}"])]
    scope = {"session": SessionStore(options.pop("session", SESSION)), **options.pop("scope", {})}
    return connect(consumer, options.pop("path", PATH), user=user, subprotocols=offered, scope=scope)


async def assert_refused(client: Any, problem: str, log: pytest.LogCaptureFixture, *secrets: str) -> None:
    """A refusal closes with 4401 and one reason, is counted, and logged without any secret."""
    before = counters["tickets_refused"]
    async with client:
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
    assert counters["tickets_refused"] == before + 1
    assert f"no valid ticket for {DeskConsumer.__name__}: {problem}" in log.text
    assert not [secret for secret in (SESSION, *secrets) if secret in log.text]


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.create_user("ada")


# Who is let in.


async def test_user_of_the_handshake(user: User) -> None:
    """A handshake of the same user, session, path and tenant is let in; the answer isn't the ticket."""
    async with dial(issue(user), user) as client:
        assert client.subprotocol == "wsrt.v1"
        assert client.consumer.user is user
        assert client.consumer.scope["subprotocols"] == ["wsrt.v1"]


@pytest.mark.parametrize("guest", [GUEST, None], ids=["guest", "none"])
async def test_user_of_the_ticket(user: User, guest: Any) -> None:
    """Without a session, the user is that of the ticket, for every hook."""

    class HookConsumer(DeskConsumer):
        async def tenant(self) -> str | None:
            seen.append(self.user)
            return None

        async def authorize(self) -> bool:
            seen.append(self.user)
            return self.user.is_authenticated

    seen: list[Any] = []
    async with dial(issue(user, session=None), consumer=HookConsumer, scope={"user": guest}) as client:
        assert client.consumer.user_id == str(user.pk)
    assert seen == [user, user]


async def test_plain_client(user: User) -> None:
    """A client that speaks a protocol of the application offers the ticket beside it."""

    class ChatConsumer(DeskConsumer):
        subprotocols = ("chat",)

    offered = [f"ticket.{issue(user, session=None)}", "chat"]
    async with connect(ChatConsumer, PATH, user=user, subprotocols=offered) as client:
        assert client.subprotocol == "chat"
        assert client.consumer.user == user


async def test_prefix(user: User) -> None:
    """The prefix under which the application is mounted isn't part of the path."""
    async with dial(issue(user), user, path=f"/app{PATH}", scope={"root_path": "/app"}) as client:
        assert client.consumer.user == user


async def test_tenant(user: User) -> None:
    """The tenant is that of the ticket."""
    async with dial(issue(user, tenant="red"), user, TenantConsumer) as client:
        assert client.consumer.tenant_id == "red"


async def test_not_required(user: User) -> None:
    """Elsewhere a ticket has no meaning, and isn't used up."""

    class OpenConsumer(DeskConsumer):
        requires_ticket = False

    ticket = issue(user)
    async with dial(ticket, GUEST, OpenConsumer) as client:
        assert client.consumer.user.is_anonymous
    async with dial(ticket, user) as client:
        assert client.consumer.user == user


# Who is refused.


async def test_none(log: pytest.LogCaptureFixture) -> None:
    """Without a ticket, the client is told to authenticate."""
    before = counters["tickets_refused"]
    async with dial(None, User(pk=7)) as client:
        await client.assert_closed(close_codes.UNAUTHENTICATED)
    assert counters["tickets_refused"] == before + 1
    assert "no valid ticket for DeskConsumer: the handshake has no ticket" in log.text


@pytest.mark.parametrize("ticket", ["", "a", "A" * 43, "A" * 5000])
async def test_forged(log: pytest.LogCaptureFixture, ticket: str) -> None:
    """A ticket that was never issued is refused."""
    await assert_refused(dial(ticket, User(pk=7)), "it is forged, has expired, or was used before", log, "AAAA")


async def test_reused(user: User, log: pytest.LogCaptureFixture) -> None:
    """A ticket is used once."""
    ticket = issue(user)
    async with dial(ticket, user) as client:
        assert client.consumer.user == user
        await assert_refused(dial(ticket, user), "it is forged, has expired, or was used before", log, ticket)


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("it was issued to another user", {"user": User(pk=70, username="eve")}),
        ("it was issued for another path", {"user": User(pk=7), "path": "/ws/other/"}),
        ("it was issued for another path", {"user": User(pk=7), "path": "/ws/desk"}),
        ("it was issued in another session", {"user": User(pk=7), "session": "another key"}),
        ("it was issued in another session", {"user": User(pk=7), "session": ""}),
        ("the session is signed out", {"user": GUEST}),
    ],
)
async def test_of_another(log: pytest.LogCaptureFixture, problem: str, options: dict[str, Any]) -> None:
    """A ticket of another user, path or session is refused, and used up."""
    ticket, user = issue(User(pk=7)), User(pk=7)
    await assert_refused(dial(ticket, **options), problem, log, ticket)
    await assert_refused(dial(ticket, user), "", log, ticket)


@pytest.mark.parametrize("tenant", [None, "blue"])
async def test_of_another_tenant(log: pytest.LogCaptureFixture, tenant: str | None) -> None:
    """A ticket of another tenant is refused, and used up."""
    ticket, before = issue(User(pk=7), tenant=tenant), counters["tickets_refused"]
    for _ in range(2):
        async with dial(ticket, User(pk=7), TenantConsumer) as client:
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
    assert counters["tickets_refused"] == before + 2
    assert "no valid ticket for TenantConsumer: it was issued for another tenant" in log.text
    assert ticket not in log.text


@pytest.mark.parametrize("how", ["deleted", "inactive"])
async def test_user_is_gone(user: User, log: pytest.LogCaptureFixture, how: str) -> None:
    """A ticket of a user that has been deleted, or is inactive, is refused."""
    ticket = issue(user, session=None)
    if how == "deleted":
        await user.adelete()
    else:
        user.is_active = False
        await user.asave()
    await assert_refused(dial(ticket), "its user was deleted or is inactive", log, ticket)


async def test_refused_before_the_hooks() -> None:
    """No hook runs for a connection whose ticket is refused."""

    class HookConsumer(DeskConsumer):
        async def tenant(self) -> str | None:
            raise AssertionError("never")

        authorize = on_connect = tenant  # type: ignore[assignment]

    async with dial("A" * 43, User(pk=7), HookConsumer) as client:
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_cache_fails(log: pytest.LogCaptureFixture, settings: Any) -> None:
    """A cache that fails lets nobody in; clients try again later."""
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/"}
    }
    before, ticket, refused = counters["tickets_unavailable"], "A" * 43, counters["tickets_refused"]
    async with dial(ticket, User(pk=7)) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_FAILED)
    assert counters["tickets_unavailable"] == before + 1
    assert counters["tickets_refused"] == refused
    assert "a ticket can't be checked: the cache raised ConnectionError" in log.text
    assert ticket not in log.text
