"""Settings, and the limits of consumers that follow them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.test import override_settings

from wsrt import Event, TypedEventConsumer, close_codes, on
from wsrt.conf import DEFAULTS, SHAPES, Conf, conf
from wsrt.testing import connect
from wsrt.types import Limits

PROPERTIES = sorted(name for name, value in vars(Conf).items() if isinstance(value, property))
LIMITS = sorted({field.name for field in dataclasses.fields(Limits)} | {"check_origin", "revalidate"})

# A value of each key that is not its default.
OTHERS = {
    "CHANNEL_LAYER_ALIAS": "other",
    "TICKET_CACHE": "other",
    "TICKET_SECONDS": 5,
    "TICKET_RATE": "60/m",
    "CONSUMERS": ("sockets",),
    "PRESENCE": {"BACKEND": "wsrt.presence.redis.RedisPresence"},
    "HISTORY": {"BACKEND": "other.History"},
    "HISTORY_SIZE": 7,
    "HISTORY_SECONDS": 7.0,
    "HEARTBEAT": None,
    "HEARTBEAT_TIMEOUT": 3.5,
    "SETUP_TIMEOUT": None,
    "MAX_PAYLOAD": 1,
    "INBOX_FRAMES": 2,
    "INBOX_BYTES": 3,
    "OUTBOX_FRAMES": 4,
    "OUTBOX_BYTES": 5,
    "OUTBOX_SECONDS": 0.5,
    "ON_VIOLATION": "report",
    "MAX_VIOLATIONS": 0,
    "MAX_ROOMS": 7,
    "MAX_TASKS": 3,
    "MAX_ROOM_NAME": 8,
    "MAX_CONNECTIONS_PER_USER": 8,
    "CONNECTION_LIMIT_POLICY": "replace",
    "MAX_CONNECTIONS_PER_ADDRESS": 12,
    "TRUSTED_PROXIES": ("10.0.0.0/8", "unix"),
    "MAX_CONNECTIONS": 13,
    "MAX_SETUPS": 14,
    "HANDSHAKE_RATE": "200/s",
    "MAX_VALUES": 11,
    "RATE": None,
    "RATE_BURST": 9,
    "RATE_BYTES": "2M/s",
    "CHECK_ORIGIN": False,
    "REVALIDATE": None,
    "TENANT": "accounts.tenants.current",
    "THREADS": 1,
    "FAST_PATH": False,
    "DRAIN_SECONDS": 2,
}


class Ping(Event, name="unit-conf.ping"):
    pass


class Plain(TypedEventConsumer):
    """Sets no limit of its own."""

    namespace = "unit-conf"


class Own(TypedEventConsumer):
    """Sets some limits of its own."""

    namespace = "unit-conf"
    max_rooms = 3
    heartbeat = None


def test_every_key_has_a_shape() -> None:
    """A key is in both tables or in none, and its default is of its shape."""
    assert DEFAULTS.keys() == SHAPES.keys()
    assert [key for key, value in DEFAULTS.items() if not SHAPES[key].fits(value)] == []


@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("values", [{}, None])
def test_default(name: str, values: Any, settings: Any) -> None:
    """Without configuration every setting has its default."""
    settings.WSRT = values
    default = DEFAULTS[name.upper()]
    assert getattr(conf, name) == (tuple(default) if isinstance(default, list) else default)


def test_no_setting_at_all(settings: Any) -> None:
    """The dict may be left out."""
    del settings.WSRT
    assert conf.max_payload == DEFAULTS["MAX_PAYLOAD"]


@pytest.mark.parametrize("name", PROPERTIES)
def test_read_when_used(name: str) -> None:
    """A changed setting is seen at once, and the default after it."""
    before = getattr(conf, name)
    with override_settings(WSRT={name.upper(): OTHERS[name.upper()]}):
        assert getattr(conf, name) == OTHERS[name.upper()]
    assert getattr(conf, name) == before != OTHERS[name.upper()]


@pytest.mark.parametrize("name", LIMITS)
def test_limits_follow_the_settings(name: str, settings: Any) -> None:
    """A consumer's limit is the setting, on the class and on an instance made earlier."""
    consumer = Plain()
    settings.WSRT = {name.upper(): OTHERS[name.upper()]}
    assert getattr(Plain, name) == getattr(consumer, name) == OTHERS[name.upper()]


def test_limits_of_a_class(settings: Any) -> None:
    """What a class sets stays, whatever the settings say; what it leaves follows them."""
    settings.WSRT = {"MAX_ROOMS": 99, "HEARTBEAT": 1, "RATE_BURST": 5}
    assert (Own.max_rooms, Own.heartbeat, Own.rate_burst) == (3, None, 5)
    assert (Plain.max_rooms, Plain.heartbeat, Plain.rate_burst) == (99, 1, 5)


def test_limits_of_a_subclass(settings: Any) -> None:
    """A limit is inherited like any attribute."""

    class Below(Own):
        heartbeat = 20

    settings.WSRT = {"MAX_ROOMS": 99}
    assert (Below.max_rooms, Below.heartbeat) == (3, 20)


def test_limits_of_a_route(settings: Any) -> None:
    """A route's attributes go before those of the class, and leave the class as it is."""
    settings.WSRT = {"MAX_ROOMS": 99}
    assert Own(max_rooms=1).max_rooms == 1
    assert Own.max_rooms == 3


async def test_a_connection_keeps_its_limits(settings: Any) -> None:
    """A connection lives by the settings that it was opened under."""

    class Listening(Plain):
        @on
        async def ping(self, event: Ping) -> None:
            """Take it."""

    async with connect(Listening) as before:
        settings.WSRT = {"MAX_PAYLOAD": 5}
        await before.request(Ping())
        async with connect(Listening) as after:
            await after.send(Ping())
            await after.assert_closed(close_codes.MESSAGE_TOO_LARGE)
        await before.request(Ping())
