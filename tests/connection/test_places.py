"""The places of a connection: of its user, whenever it belongs to one, and of its address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from wsrt import BackplaneUnavailable, Event, TypedEventConsumer, on
from wsrt.close_codes import CONNECTION_SETUP_FAILED, REPLACED, TOO_MANY_CONNECTIONS, UNAUTHENTICATED
from wsrt.connection.groups import Groups
from wsrt.metrics import counters
from wsrt.presence.places import places_of_loop
from wsrt.protocol.namespaces import namespaces
from wsrt.testing import connect


class BecomeUser(Event, name="become"):
    user: str | None


class Limited(TypedEventConsumer):
    """Belongs to the user in its query; ``/?no`` is refused."""

    namespace = "unit-places"
    max_connections_per_user = 2
    hooks: ClassVar[list[str]] = []

    async def tenant(self) -> str | None:
        return self.query.get("tenant")

    async def authorize(self) -> bool:
        self.hooks.append("authorize")
        return "no" not in self.query

    async def identity(self) -> object:
        return self.query.get("user")

    async def on_connect(self) -> None:
        self.hooks.append("on_connect")

    async def on_disconnect(self, closed: Any) -> None:
        self.hooks.append("on_disconnect")

    @on
    async def become(self, event: BecomeUser) -> None:
        if event.user is None:
            await self.clear_user_id()
        else:
            await self.set_user_id(event.user)


class Replacing(Limited):
    connection_limit_policy = "replace"


class ByAddress(Limited):
    """Has no limit of users."""

    max_connections_per_user = None
    max_connections_per_address = 1


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Have the consumers with tenants for the time of a test: elsewhere a call without a namespace needs no tenant."""
    for consumer in (Limited, Replacing, ByAddress):
        namespaces.add(consumer.namespace, consumer, consumer.catalog)
    yield
    del namespaces[Limited.namespace]


del namespaces[Limited.namespace]


@pytest.fixture(autouse=True)
def hooks() -> list[str]:
    Limited.hooks.clear()
    return Limited.hooks


async def test_refused(hooks: list[str]) -> None:
    """A user's connection too many is closed before it is registered; guests, others and other tenants are not."""
    before = counters["connections_refused_per_user"]
    async with connect(Limited, "/?user=ann"), connect(Limited, "/?user=ann"):
        hooks.clear()
        async with connect(Limited, "/?user=ann", subprotocols=["wsrt.v1"]) as third:
            # Not even the hello.
            await third.assert_closed(TOO_MANY_CONNECTIONS)
        assert hooks == ["authorize"]
        others = ("/?user=bob", "/?user=ann&tenant=acme", "/", "/", "/")
        for path in others:
            async with connect(Limited, path) as other:
                await other.assert_silent()
    async with connect(Limited, "/?user=ann") as again:
        await again.assert_silent()
    assert counters["connections_refused_per_user"] == before + 1
    assert places_of_loop().rooms == []


async def test_replaced(hooks: list[str]) -> None:
    """With the policy "replace" the oldest is closed with 4409, and has its on_disconnect."""
    before = counters["connections_replaced"]
    async with (
        connect(Replacing, "/?user=ann") as first,
        connect(Replacing, "/?user=ann") as second,
        connect(Replacing, "/?user=ann") as third,
    ):
        await first.assert_closed(REPLACED)
        await first.disconnect()
        assert hooks[-1] == "on_disconnect"
        async with connect(Replacing, "/?user=ann") as fourth:
            await second.assert_closed(REPLACED)
            await third.assert_silent()
            await fourth.assert_silent()
    assert counters["connections_replaced"] == before + 2
    assert places_of_loop().rooms == []


async def test_refused_set_up() -> None:
    """A connection that authorize() refuses takes no place."""
    async with connect(Limited, "/?user=ann"):
        for _ in range(3):
            async with connect(Limited, "/?user=ann&no") as refused:
                await refused.assert_closed(UNAUTHENTICATED)
        async with connect(Limited, "/?user=ann") as second:
            await second.assert_silent()


async def test_another_user() -> None:
    """A connection takes a place of its new user and gives back that of the former; too many are closed."""
    async with connect(Limited, "/?user=ann") as first, connect(Limited, "/?user=ann") as second:
        await first.request(BecomeUser(user="bob"))
        await second.request(BecomeUser(user=None))
        async with connect(Limited, "/?user=ann"), connect(Limited, "/?user=ann") as fourth:
            await second.send(BecomeUser(user="ann"))
            await second.assert_closed(TOO_MANY_CONNECTIONS)
            await fourth.request(BecomeUser(user="ann"))
            await fourth.request(BecomeUser(user="bob"))
            await first.assert_silent()
    assert places_of_loop().rooms == []


async def test_layer_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that doesn't come to belong to a user takes no place of the user."""

    async def failing(self: Groups, kind: str, name: str) -> bool:
        if kind == "user":
            raise BackplaneUnavailable("no answer")
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Groups, "_acquire", failing)
        async with connect(Limited, "/?user=ann") as client:
            await client.assert_closed(CONNECTION_SETUP_FAILED)
    assert places_of_loop().rooms == []


async def test_address(settings: Any, hooks: list[str]) -> None:
    """An address has so many connections, in all tenants together; one too many is closed before any hook."""
    settings.WSRT = {"TRUSTED_PROXIES": ["192.0.2.0/24"]}
    scope = {"client": ("192.0.2.1", 80)}
    before = counters["connections_refused_per_address"]

    def client(path: str, address: str) -> Any:
        return connect(ByAddress, path, scope=scope, headers={"X-Forwarded-For": address})

    async with client("/", "2001:db8::1"):
        hooks.clear()
        async with client("/?tenant=acme", "2001:db8::2") as second:
            await second.assert_closed(TOO_MANY_CONNECTIONS)
        assert hooks == []
        async with client("/", "2001:db8:0:1::1") as other:
            await other.assert_silent()
    async with client("/", "2001:db8::2") as again:
        await again.assert_silent()
    assert counters["connections_refused_per_address"] == before + 1
    assert places_of_loop().rooms == []


async def test_address_is_not_stored(settings: Any) -> None:
    """The names of places contain neither the address nor its network."""
    settings.WSRT = {}
    async with connect(ByAddress, scope={"client": ("192.0.2.1", 80)}):
        ((namespace, name),) = places_of_loop().rooms
        assert namespace == "unit-places"
        assert "192" not in name.replace(name.rpartition(":")[2], "")
        assert len(name.rpartition(":")[2]) == 32


@pytest.mark.parametrize(
    ("scope", "headers", "counter"),
    [
        ({"client": None}, {}, "addresses_missing"),
        ({"client": ("10.0.0.1", 80)}, {"X-Forwarded-For": "203.0.113.9"}, "proxies_untrusted"),
    ],
)
async def test_doubtful_address(settings: Any, scope: dict[str, Any], headers: dict[str, str], counter: str) -> None:
    """A client without an address isn't limited, and a proxy that isn't trusted is a client: both are counted."""
    settings.WSRT = {}
    before = counters[counter]
    async with connect(ByAddress, scope=scope, headers=headers), connect(ByAddress, scope=scope, headers=headers):
        assert counters[counter] == before + 2


async def test_header_that_the_server_has_read(settings: Any) -> None:
    """A server that reads the header itself reports an address from it: no proxy is missing in the settings."""
    settings.WSRT = {}
    before = counters["proxies_untrusted"]
    headers = {"X-Forwarded-For": "203.0.113.9, 203.0.113.10"}
    async with connect(ByAddress, scope={"client": ("203.0.113.9", 0)}, headers=headers):
        assert counters["proxies_untrusted"] == before
