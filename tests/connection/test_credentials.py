"""The credentials of a connection: the login, the expiry and the renewal."""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from pydantic import field_validator

from wsrt import (
    BackplaneUnavailable,
    DeclarationError,
    Event,
    TypedEventConsumer,
    apublish_to_room,
    close_codes,
    on,
    presence,
)
from wsrt.connection import credentials
from wsrt.metrics import counters
from wsrt.testing import connect
from wsrt.testing.client import RequestRefused


class Login(Event, name="login"):
    token: str


class LoginWithTenant(Event, name="login"):
    token: str
    tenant: str


class Ask(Event, name="ask"):
    pass


class Answer(Event, name="answer"):
    text: str


class Person:
    """A user that isn't a model instance."""

    is_authenticated = True

    def __init__(self, pk: str, is_active: bool = True) -> None:
        self.pk = pk
        self.is_active = is_active


class Robot:
    """A user without a primary key, one of its kind."""

    is_authenticated = True


class Accounts(TypedEventConsumer):
    """Tokens are "<user>:<seconds until they expire>", "" for the seconds if they don't."""

    namespace = "credentials"
    out_events = (Answer,)

    async def authenticate(self, event: Login) -> Any:
        self.asked = [*getattr(self, "asked", []), event.token]
        user, _, seconds = event.token.partition(":")
        match user:
            case "nobody":
                return None
            case "denied":
                raise PermissionDenied
            case "inactive":
                return Person("7", is_active=False)
            case "down":
                raise BackplaneUnavailable
            case "broken":
                raise RuntimeError
            case "wrong":
                return 7
        self.until = time.time() + float(seconds) if seconds else None
        return Person(user)

    async def authorize(self) -> bool:
        return self.user.is_authenticated

    async def expires_at(self) -> float | None:
        return getattr(self, "until", None)

    async def on_connect(self) -> None:
        await self.join("lobby")

    @on
    async def ask(self, event: Ask) -> Answer:
        return Answer(text=str(self.user_id))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Logging in.


@pytest.mark.parametrize(
    "given",
    [
        {"headers": bearer("7")},
        {"headers": {"Authorization": "bearer  7"}},
        {"subprotocols": ["bearer.7"]},
        {"subprotocols": ["wsrt.v1", "bearer.7"]},
        {"login": Login(token="7")},
    ],
)
async def test_login(given: dict[str, Any]) -> None:
    """A token logs in by the header, by the subprotocol and by the first frame."""
    async with connect(Accounts, **given) as client:
        assert await client.request(Ask()) == Answer(text="7")
        assert client.consumer.asked == ["7"]
        assert client.subprotocol in (None, "wsrt.v1")


async def test_signed_in_by_the_handshake() -> None:
    """A user of the session isn't asked to log in: the first frame is handled like any other."""
    async with connect(Accounts, user=Person("8")) as client:
        assert await client.request(Ask()) == Answer(text="8")
        assert not hasattr(client.consumer, "asked")


async def test_required_ticket() -> None:
    """Where a ticket is required, neither a token nor a first frame takes its place."""

    class Ticketed(Accounts):
        requires_ticket = True

    for given in ({"headers": bearer("7")}, {"login": Login(token="7")}):
        async with connect(Ticketed, **given) as client:
            await client.assert_closed(close_codes.UNAUTHENTICATED)
            assert not hasattr(client.consumer, "asked")


async def test_a_token_precedes_the_session() -> None:
    """The token of a handshake takes precedence over its session, also if the token is refused."""
    seen: list[bool] = []

    class Seeing(Accounts):
        async def authenticate(self, event: Login) -> Any:
            seen.append(self.user.is_authenticated)
            return await super().authenticate(event)

    async with connect(Seeing, user=Person("8"), headers=bearer("7")) as client:
        assert await client.request(Ask()) == Answer(text="7")
    assert seen == [False]
    async with connect(Accounts, user=Person("8"), headers=bearer("nobody")) as client:
        await client.assert_closed(close_codes.UNAUTHENTICATED)


@pytest.mark.parametrize("token", ["nobody", "denied", "inactive"])
@pytest.mark.parametrize("kind", ["header", "frame"])
async def test_login_refused(token: str, kind: str) -> None:
    """A refused login closes with 4401 and is counted; frames behind it aren't handled."""
    before = counters["logins_refused"]
    given: dict[str, Any] = {"headers": bearer(token)} if kind == "header" else {"login": Login(token=token)}
    async with connect(Accounts, scope={"user": None}, **given) as client:
        await client.assert_closed(close_codes.UNAUTHENTICATED)
    assert counters["logins_refused"] == before + 1


@pytest.mark.parametrize("token", ["down", "broken", "wrong"])
async def test_login_fails(token: str) -> None:
    """A login that can't be decided closes with 1011, after which the client tries again."""
    async with connect(Accounts, login=Login(token=token)) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_FAILED)


HOSTILE = [
    ('{"event":"login","data":{"token":"' + "x" * 8192 + '"}}', close_codes.MESSAGE_TOO_LARGE),
    (b"\xff\xfe", close_codes.INVALID_MESSAGE_PAYLOAD),
    ("no json", close_codes.INVALID_MESSAGE_PAYLOAD),
    ("[" * 8000, close_codes.INVALID_MESSAGE_PAYLOAD),
    ('{"event":"ask"}', close_codes.UNAUTHENTICATED),
    ('{"event":"wsrt.ping","ref":"1"}', close_codes.UNAUTHENTICATED),
    ('{"event":"wsrt.resume","data":{}}', close_codes.UNAUTHENTICATED),
    ('{"event":"login","data":{}}', close_codes.INVALID_EVENT_DATA),
    ('{"event":"login","data":{"token":7},"ref":"1"}', close_codes.INVALID_EVENT_DATA),
]


@pytest.mark.parametrize(("frame", "close"), HOSTILE)
@pytest.mark.parametrize("subprotocols", [(), ("wsrt.v1",)])
async def test_hostile_first_frame(frame: str | bytes, close: close_codes.Close, subprotocols: list[str]) -> None:
    """A first frame that isn't a login ends the connection, is counted, and is answered with nothing but the close."""
    before = counters["logins_refused"]
    async with Entered(subprotocols) as client:
        await (client.send_bytes(frame) if isinstance(frame, bytes) else client.send_text(frame))
        await client.send(Login(token="7"), ref="late")
        await client.assert_closed(close)
        assert client.reserved == []
        assert not hasattr(client.consumer, "asked")
    assert counters["logins_refused"] == before + 1


class Entered:
    """A client that has connected, and has sent nothing yet: connect() would wait for the login."""

    def __init__(self, subprotocols: Any = (), consumer: type[Accounts] = Accounts) -> None:
        self.client = connect(consumer, subprotocols=subprotocols)

    async def __aenter__(self) -> Any:
        self.entering = asyncio.create_task(self.client.__aenter__())
        while not self.client.accepted:
            await asyncio.sleep(0)
        return self.client

    async def __aexit__(self, *error: Any) -> None:
        await self.client.disconnect()
        await self.entering


async def test_binary_login() -> None:
    """A binary first frame is read as UTF-8 text, like any other."""
    async with Entered() as client:
        await client.send_bytes(b'{"event":"login","data":{"token":"7"}}')
        assert await client.request(Ask()) == Answer(text="7")


async def test_slow_login() -> None:
    """A client that doesn't log in is closed with 4408 by the deadline of the set-up."""

    class Hasty(Accounts):
        setup_timeout = 0.01

    async with Entered(consumer=Hasty) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_TIMEOUT)


async def test_frames_behind_the_login() -> None:
    """Frames behind the first one wait until the client is authorized; a second login is a renewal."""
    async with Entered(["wsrt.v1"]) as client:
        await client.send(Login(token="7:60"), ref="1")
        await client.send(Login(token="7:90"), ref="2")
        await client.send(Ask(), ref="3")
        frames = [await client.receive_json() for _ in range(3)]
        assert [(frame["event"], frame["ref"]) for frame in frames] == [
            ("wsrt.ok", "1"),
            ("wsrt.ok", "2"),
            ("answer", "3"),
        ]
        assert client.reserved[0]["event"] == "wsrt.hello"
        told = [frame["data"]["expires_in"] for frame in (client.reserved[0], *frames[:2])]
        assert [round(seconds, -1) for seconds in told] == [60, 60, 90]
        assert client.consumer.asked == ["7:60", "7:90"]


async def test_client_that_leaves_before_the_login() -> None:
    """A client that leaves without having logged in is cleaned up at once, and nothing of it is handled."""
    cancelled = counters["handlers_cancelled"]
    async with Entered() as client:
        await client.disconnect()
    assert counters["handlers_cancelled"] == cancelled
    assert not hasattr(client.consumer, "asked")


async def test_drain_before_the_login() -> None:
    """A drain doesn't wait for clients that haven't logged in."""
    async with Entered(["wsrt.v1"]) as client:
        client.consumer._connection.drain(1.5)
        await client.assert_closed(close_codes.SERVER_SHUTTING_DOWN)
        assert [frame["data"] for frame in client.reserved] == [{"retry_after_ms": 1500}]


async def test_login_with_more_than_a_token() -> None:
    """A token of the handshake is no login where the event needs more; the client sends the event."""

    class Shops(TypedEventConsumer):
        namespace = "credentials.shops"

        async def authenticate(self, event: LoginWithTenant) -> Person:
            self.shop = event.tenant
            return Person(event.token)

        async def tenant(self) -> str:
            return self.shop

    login = LoginWithTenant(token="7", tenant="north")
    async with connect(Shops, headers=bearer("8"), login=login) as client:
        assert (client.consumer.tenant_id, client.consumer.user_id) == ("north", "7")
        await client.request(login)
        assert (client.consumer.tenant_id, client.consumer.user_id) == ("north", "7")
        await client.send(LoginWithTenant(token="7", tenant="south"))
        await client.assert_closed(close_codes.UNAUTHENTICATED)


async def test_validator_of_the_login() -> None:
    """A validator that refuses the token of a handshake refuses the login."""

    class Strict(Event, name="strict"):
        token: str

        @field_validator("token")
        @classmethod
        def check(cls, value: str) -> str:
            if value == "worse":
                raise PermissionDenied
            if value == "bad":
                raise ValueError("bad")
            return value

    class Validated(TypedEventConsumer):
        namespace = "credentials.validated"

        def authenticate(self, event: Strict) -> Person:
            return Person(event.token)

    async with connect(Validated, headers=bearer("7")) as client:
        assert client.consumer.user_id == "7"
    for given in ({"headers": bearer("bad")}, {"headers": bearer("worse")}):
        async with connect(Validated, **given) as client:
            await client.assert_closed(close_codes.UNAUTHENTICATED)


# Expiry.


async def test_expiry() -> None:
    """When the credentials expire, the connection is closed with 4401, which is counted."""
    before = counters["credentials_expired"]
    async with connect(Accounts, headers=bearer("7:0.3"), subprotocols=["wsrt.v1"]) as client:
        assert 0 < client.reserved[0]["data"]["expires_in"] <= 0.3
        started = time.time()
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        # Not before, and by the wheel of the node at most a little later.
        assert time.time() >= client.consumer.until
        assert time.time() - started < 20
    assert counters["credentials_expired"] == before + 1


async def test_expired_before_the_set_up_ends() -> None:
    """Credentials that have expired already close before the connection can be reached, or on_connect is called."""
    async with connect(Accounts, headers=bearer("7:-1")) as client:
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        assert client.consumer.rooms == ()


async def test_no_expiry() -> None:
    """Credentials that don't expire are told as null, and no timer runs."""
    async with connect(Accounts, headers=bearer("7"), subprotocols=["wsrt.v1"]) as client:
        assert client.reserved[0]["data"]["expires_in"] is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (1_800_000_000, 1_800_000_000.0),
        (datetime.datetime.fromtimestamp(1_800_000_000, datetime.UTC), 1_800_000_000.0),
    ],
)
def test_time_of_expiry(value: object, expected: float | None) -> None:
    """expires_at returns an aware datetime, seconds since 1970, or None."""
    assert credentials.seconds_since_1970(value) == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (datetime.datetime(2030, 1, 1), "naive"),
        ("2030-01-01", "not str"),
        (True, "not bool"),
        (float("inf"), "finite"),
    ],
)
def test_wrong_time_of_expiry(value: object, error: str) -> None:
    """Anything else is an error that names what to return."""
    with pytest.raises((TypeError, ValueError), match=error):
        credentials.seconds_since_1970(value)


async def test_moved_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read again and again: one that is set while the connection is open counts."""
    monkeypatch.setattr(credentials, "CLOCK_SECONDS", 0.05)
    async with connect(Accounts, headers=bearer("7:5000")) as client:
        now = time.time()
        monkeypatch.setattr(credentials.time, "time", lambda: now + 6000)
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


# Renewal.


async def test_renewal() -> None:
    """Renewed credentials move the expiry, and the connection stays in its rooms."""
    async with connect(Accounts, headers=bearer("7:1"), subprotocols=["wsrt.v1"]) as client:
        for number in range(10):
            await client.send(Login(token="7:5000" if number == 9 else "7:1"), ref=number)
            await apublish_to_room("lobby", Answer(text=str(number)), namespace="credentials")
            frames = [await client.receive_json(), await client.receive_json()]
            answers = [frame for frame in frames if frame["event"] == "wsrt.ok"]
            assert [frame["ref"] for frame in answers] == [number]
            assert [frame["data"]["text"] for frame in frames if frame not in answers] == [str(number)]
        assert answers[0]["data"]["expires_in"] > 4000
        assert client.consumer.rooms == ("lobby",)
        # The first token has expired by now, or will have: its time doesn't count any more.
        now = time.time()
        await asyncio.sleep(max(0.0, 1.2 - (now - client.consumer.until + 5000)))
        assert await client.request(Ask()) == Answer(text="7")


async def test_expiry_is_shown_to_operators() -> None:
    """Presence has the time at which the credentials expire, also after a renewal, and none if they don't expire."""

    async def shown() -> list[Any]:
        return [found.expires for found in await presence.aconnections(namespace="credentials")]

    def utc(timestamp: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(timestamp, datetime.UTC)

    async with connect(Accounts, headers=bearer("7:60")) as client:
        assert await shown() == [utc(client.consumer.until)]
        await client.request(Login(token="7:5000"))
        assert await shown() == [utc(client.consumer.until)]
        assert (await shown())[0].timestamp() > time.time() + 4000
        await client.request(Login(token="7"))
        assert await shown() == [None]


async def test_renewal_without_ref() -> None:
    """A renewal that is no request is carried out, and isn't answered."""
    async with connect(Accounts, headers=bearer("7:60")) as client:
        await client.send(Login(token="7"))
        await client.assert_silent()
        assert client.consumer._connection.credentials.expires_in is None


@pytest.mark.parametrize("token", ["nobody", "denied", "inactive"])
async def test_renewal_refused(token: str) -> None:
    """A refused renewal is an error and is counted; the connection keeps the credentials that it has."""
    before = counters["renewals_refused"]
    async with connect(Accounts, headers=bearer("7:60")) as client:
        with pytest.raises(RequestRefused, match="forbidden"):
            await client.request(Login(token=token))
        assert await client.request(Ask()) == Answer(text="7")
        assert client.consumer._connection.credentials.expires_in > 30
    assert counters["renewals_refused"] == before + 1


async def test_renewal_by_another_user() -> None:
    """The token of another user closes with 4401: the client reconnects as that user."""
    before = counters["renewals_refused"]
    async with connect(Accounts, headers=bearer("7")) as client:
        await client.send(Login(token="8"), ref=1)
        await client.assert_closed(close_codes.UNAUTHENTICATED)
    assert counters["renewals_refused"] == before + 1


async def test_renewal_that_has_expired() -> None:
    """A renewal whose token has expired closes with 4401, unanswered."""
    async with connect(Accounts, headers=bearer("7")) as client:
        await client.send(Login(token="7:-1"), ref=1)
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_renewal_asks_for_permission() -> None:
    """After a renewal every permission is asked for again: what isn't granted any more is taken away."""

    class Permitted(Accounts):
        is_allowed = True
        rooms_allowed: frozenset[str] = frozenset({"lobby", "den"})

        async def authorize(self) -> bool:
            return self.is_allowed

        async def authorize_room(self, room: str) -> bool:
            return room in self.rooms_allowed

        async def on_connect(self) -> None:
            await self.join("lobby")
            await self.join("den")

    async with connect(Permitted, headers=bearer("7")) as client:
        client.consumer.rooms_allowed = frozenset({"lobby"})
        await client.request(Login(token="7"))
        assert client.consumer.rooms == ("lobby",)
        client.consumer.is_allowed = False
        await client.send(Login(token="7"), ref=1)
        await client.assert_closed(close_codes.FORBIDDEN)


def test_same_user() -> None:
    """Users are the same if their keys are; without keys, if they are equal."""
    robot = Robot()
    assert credentials.is_same_user(Person("7"), Person("7"))
    assert not credentials.is_same_user(Person("7"), Person("8"))
    assert credentials.is_same_user(robot, robot)
    assert not credentials.is_same_user(robot, Robot())
    assert not credentials.is_same_user(robot, None)


# The declaration.


def test_declaration_without_event() -> None:
    """authenticate names the one event that it takes, or the class can't be created."""
    with pytest.raises(DeclarationError, match="the one event that clients log in with"):

        class Untyped(TypedEventConsumer):
            async def authenticate(self, event): ...  # type: ignore[no-untyped-def]

    with pytest.raises(DeclarationError, match="the one event that clients log in with"):

        class Two(TypedEventConsumer):
            async def authenticate(self, event: Login | Ask) -> None: ...


def test_declaration_with_handler() -> None:
    """The event of authenticate has no other handler."""
    with pytest.raises(DeclarationError, match="already handled by authenticate"):

        class Doubled(Accounts):
            @on
            async def login(self, event: Login) -> None: ...


def test_misspelt_hooks() -> None:
    """A method that looks like a misspelt hook is an error."""
    with pytest.raises(DeclarationError, match="Did you mean expires_at"):

        class Misspelt(TypedEventConsumer):
            async def expire_at(self) -> None: ...
