"""
The settings of wsrt: the dict ``WSRT`` in Django's settings. All keys are optional, and are read when they are used.

DEFAULTS and SHAPES define the keys. Django's system checks, and the tests that compare the documentation with the code,
read them from here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from . import addresses
from .protocol.client_address import parse_proxies
from .protocol.rate import parse_byte_rate, parse_rate
from .types import ConnectionLimitPolicy, OnViolation

__all__ = ["DEFAULTS", "SHAPES", "Shape", "conf", "validation_error"]

DEFAULTS: dict[str, Any] = {
    "CHANNEL_LAYER_ALIAS": "default",
    "CONSUMERS": ["consumers"],
    "PRESENCE": {"BACKEND": "wsrt.presence.memory.MemoryPresence", "OPTIONS": {"LEASE": 30, "GRACE": 5}},
    "HISTORY": {"BACKEND": "wsrt.history.memory.MemoryHistory"},
    "HISTORY_SIZE": 100,
    "HISTORY_SECONDS": 300,
    "HEARTBEAT": 25,
    "HEARTBEAT_TIMEOUT": 10,
    "SETUP_TIMEOUT": 10,
    "MAX_PAYLOAD": 65_536,
    "MAX_VALUES": 10_000,
    "INBOX_FRAMES": 1000,
    "INBOX_BYTES": 1_048_576,
    "OUTBOX_FRAMES": 1000,
    "OUTBOX_BYTES": 1_048_576,
    "OUTBOX_SECONDS": 10,
    "ON_VIOLATION": "auto",
    "MAX_VIOLATIONS": 10,
    "MAX_ROOMS": 128,
    "MAX_TASKS": 32,
    "MAX_ROOM_NAME": 255,
    "MAX_CONNECTIONS_PER_USER": None,
    "CONNECTION_LIMIT_POLICY": "refuse",
    "MAX_CONNECTIONS_PER_ADDRESS": None,
    "TRUSTED_PROXIES": [],
    "MAX_CONNECTIONS": None,
    "MAX_SETUPS": None,
    "HANDSHAKE_RATE": None,
    "RATE": "50/s",
    "RATE_BURST": 100,
    "RATE_BYTES": "1M/s",
    "CHECK_ORIGIN": True,
    "FAST_PATH": True,
    "REVALIDATE": 60,
    "TENANT": None,
    "TICKET_CACHE": "default",
    "TICKET_SECONDS": 30,
    "TICKET_RATE": None,
    "THREADS": 8,
    "DRAIN_SECONDS": 25,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """
    The values that a setting accepts.

    Attributes:
        types: The accepted types. A bool isn't accepted as a number.
        description: A description of the accepted values, for the error.
        least: The smallest accepted number; None for no limit.
        choices: The accepted values, if they can be listed.
        items: The type of the items of a list.
        optional: Whether None is accepted.
    """

    types: tuple[type, ...]
    description: str
    least: float | None = None
    choices: tuple[str, ...] = ()
    items: type | None = None
    optional: bool = False

    def fits(self, value: Any) -> bool:
        """Return whether a value is accepted."""
        if value is None:
            return self.optional
        if not isinstance(value, self.types) or (isinstance(value, bool) and bool not in self.types):
            return False
        if self.choices:
            return value in self.choices
        if self.items is not None:
            return isinstance(value, list | tuple) and all(isinstance(item, self.items) for item in value)
        # Written as a chained comparison, which is False for NaN.
        return self.least is None or (isinstance(value, int | float) and self.least <= value < math.inf)


_COUNT = Shape((int,), "an integer of at least 1", least=1)
_LIMIT = dataclasses.replace(_COUNT, description="an integer of at least 1, or None", optional=True)
_SECONDS = Shape((int, float), "a number of seconds above 0", least=0.001)
_TIMEOUT = dataclasses.replace(
    _SECONDS, description="a number of seconds above 0, or None to switch it off", optional=True
)
_STORE = Shape((Mapping,), 'a dict with "BACKEND", a dotted path, and optionally "OPTIONS" and "LOCATION"')

SHAPES: dict[str, Shape] = {
    "CHANNEL_LAYER_ALIAS": Shape((str,), "a key of CHANNEL_LAYERS"),
    "CONSUMERS": Shape((list, tuple), "a list of module names", items=str),
    "PRESENCE": _STORE,
    "HISTORY": _STORE,
    "HISTORY_SIZE": _COUNT,
    "HISTORY_SECONDS": _SECONDS,
    "HEARTBEAT": _TIMEOUT,
    "HEARTBEAT_TIMEOUT": _TIMEOUT,
    "SETUP_TIMEOUT": _TIMEOUT,
    "MAX_PAYLOAD": _COUNT,
    "MAX_VALUES": _COUNT,
    "INBOX_FRAMES": _COUNT,
    "INBOX_BYTES": _COUNT,
    "OUTBOX_FRAMES": _COUNT,
    "OUTBOX_BYTES": _COUNT,
    "OUTBOX_SECONDS": _SECONDS,
    "ON_VIOLATION": Shape((str,), '"auto", "close" or "report"', choices=("auto", "close", "report")),
    "MAX_VIOLATIONS": Shape((int,), "an integer of at least 0", least=0),
    "MAX_ROOMS": _COUNT,
    "MAX_TASKS": _COUNT,
    "MAX_ROOM_NAME": _COUNT,
    "MAX_CONNECTIONS_PER_USER": _LIMIT,
    "CONNECTION_LIMIT_POLICY": Shape((str,), '"refuse" or "replace"', choices=("refuse", "replace")),
    "MAX_CONNECTIONS_PER_ADDRESS": _LIMIT,
    "TRUSTED_PROXIES": Shape((list, tuple), 'a list of IP addresses, networks and "unix"', items=str),
    "MAX_CONNECTIONS": _LIMIT,
    "MAX_SETUPS": _LIMIT,
    "HANDSHAKE_RATE": Shape((str,), 'handshakes per time, such as "200/s", or None', optional=True),
    "RATE": Shape((str,), 'frames per time, such as "50/s", "300/m" or "1000/h", or None', optional=True),
    "RATE_BURST": _COUNT,
    "RATE_BYTES": Shape((str,), 'bytes per time, such as "1M/s", "500K/s" or "10M/m", or None', optional=True),
    "CHECK_ORIGIN": Shape((bool,), "True or False"),
    "FAST_PATH": Shape((bool,), "True or False"),
    "REVALIDATE": _TIMEOUT,
    "TENANT": Shape((str,), "a dotted path, or None", optional=True),
    "TICKET_CACHE": Shape((str,), "a key of CACHES"),
    "TICKET_SECONDS": _COUNT,
    "TICKET_RATE": Shape((str,), 'tickets per time, such as "60/m", or None', optional=True),
    "THREADS": _COUNT,
    "DRAIN_SECONDS": _SECONDS,
}


PARSERS: dict[str, Callable[[Any], object]] = {
    "RATE": parse_rate,
    "RATE_BYTES": parse_byte_rate,
    "HANDSHAKE_RATE": parse_rate,
    "TICKET_RATE": parse_rate,
    "TRUSTED_PROXIES": lambda texts: parse_proxies(tuple(texts)),
}
"""The functions that parse settings, and raise ValueError for an invalid one."""


def validation_error(key: str, value: Any) -> str | None:
    """
    Return the problem with the value of a known key; None if it is valid.

    The text continues a sentence that begins with the key, such as "should be a number, not 'x'".
    """
    if not SHAPES[key].fits(value):
        return f"should be {SHAPES[key].description}, not {value!r}"
    if key in PARSERS:
        try:
            PARSERS[key](value)
        except ValueError as error:
            return f"is invalid: {error}"
    return None


def require_installed() -> None:
    """Raise ImproperlyConfigured if Django has set up its apps, and wsrt is not one of them."""
    if apps.ready and not apps.is_installed("wsrt"):
        raise ImproperlyConfigured(
            'add "wsrt" to INSTALLED_APPS: without it, the modules "consumers" of the installed apps aren\'t imported, '
            "so their routes and events are unknown, no check runs, and wsrt's commands and template tags are missing"
        )


class Conf:
    """The current settings, with one property for each key."""

    def _get(self, key: str) -> Any:
        values = getattr(settings, "WSRT", None)
        # The checks report a value that isn't a dict. It must not prevent them from running.
        return values.get(key, DEFAULTS[key]) if isinstance(values, dict) else DEFAULTS[key]

    @property
    def channel_layer_alias(self) -> str:
        return str(self._get("CHANNEL_LAYER_ALIAS"))

    @property
    def consumers(self) -> Sequence[str]:
        names = self._get("CONSUMERS")
        # Read before the checks run, which report an invalid value.
        return tuple(names) if SHAPES["CONSUMERS"].fits(names) else ()

    @property
    def heartbeat(self) -> float | None:
        value: float | None = self._get("HEARTBEAT")
        return value

    @property
    def heartbeat_timeout(self) -> float | None:
        value: float | None = self._get("HEARTBEAT_TIMEOUT")
        return value

    @property
    def setup_timeout(self) -> float | None:
        value: float | None = self._get("SETUP_TIMEOUT")
        return value

    @property
    def max_payload(self) -> int:
        return int(self._get("MAX_PAYLOAD"))

    @property
    def max_values(self) -> int:
        return int(self._get("MAX_VALUES"))

    @property
    def inbox_frames(self) -> int:
        return int(self._get("INBOX_FRAMES"))

    @property
    def inbox_bytes(self) -> int:
        return int(self._get("INBOX_BYTES"))

    @property
    def outbox_frames(self) -> int:
        return int(self._get("OUTBOX_FRAMES"))

    @property
    def outbox_bytes(self) -> int:
        return int(self._get("OUTBOX_BYTES"))

    @property
    def outbox_seconds(self) -> float:
        return float(self._get("OUTBOX_SECONDS"))

    @property
    def on_violation(self) -> OnViolation:
        value: OnViolation = self._get("ON_VIOLATION")
        return value

    @property
    def max_violations(self) -> int:
        return int(self._get("MAX_VIOLATIONS"))

    @property
    def max_rooms(self) -> int:
        return int(self._get("MAX_ROOMS"))

    @property
    def max_tasks(self) -> int:
        return int(self._get("MAX_TASKS"))

    @property
    def max_room_name(self) -> int:
        return int(self._get("MAX_ROOM_NAME"))

    @property
    def max_connections_per_user(self) -> int | None:
        value: int | None = self._get("MAX_CONNECTIONS_PER_USER")
        return value

    @property
    def connection_limit_policy(self) -> ConnectionLimitPolicy:
        value: ConnectionLimitPolicy = self._get("CONNECTION_LIMIT_POLICY")
        return value

    @property
    def max_connections_per_address(self) -> int | None:
        value: int | None = self._get("MAX_CONNECTIONS_PER_ADDRESS")
        return value

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        return tuple(self._get("TRUSTED_PROXIES"))

    @property
    def max_connections(self) -> int | None:
        value: int | None = self._get("MAX_CONNECTIONS")
        return value

    @property
    def max_setups(self) -> int | None:
        value: int | None = self._get("MAX_SETUPS")
        return value

    @property
    def handshake_rate(self) -> str | None:
        value: str | None = self._get("HANDSHAKE_RATE")
        return value

    @property
    def rate(self) -> str | None:
        value: str | None = self._get("RATE")
        return value

    @property
    def rate_burst(self) -> int:
        return int(self._get("RATE_BURST"))

    @property
    def rate_bytes(self) -> str | None:
        value: str | None = self._get("RATE_BYTES")
        return value

    @property
    def check_origin(self) -> bool:
        return bool(self._get("CHECK_ORIGIN"))

    @property
    def presence(self) -> dict[str, Any]:
        settings = self._get("PRESENCE")
        # The checks report a value that isn't a dict. With {} there is no backend, and presence isn't stored.
        return dict(settings) if SHAPES["PRESENCE"].fits(settings) else {}

    @property
    def history(self) -> dict[str, Any]:
        settings = self._get("HISTORY")
        # The checks report a value that isn't a dict. With {} there is no backend, and history can't be kept.
        return dict(settings) if SHAPES["HISTORY"].fits(settings) else {}

    @property
    def history_size(self) -> int:
        return int(self._get("HISTORY_SIZE"))

    @property
    def history_seconds(self) -> float:
        return float(self._get("HISTORY_SECONDS"))

    @property
    def fast_path(self) -> bool:
        return bool(self._get("FAST_PATH"))

    @property
    def revalidate(self) -> float | None:
        value: float | None = self._get("REVALIDATE")
        return value

    @property
    def drain_seconds(self) -> float:
        return float(self._get("DRAIN_SECONDS"))

    @property
    def tenant(self) -> str | None:
        value: str | None = self._get("TENANT")
        return value

    @property
    def ticket_cache(self) -> str:
        return str(self._get("TICKET_CACHE"))

    @property
    def ticket_seconds(self) -> int:
        return int(self._get("TICKET_SECONDS"))

    @property
    def ticket_rate(self) -> str | None:
        value: str | None = self._get("TICKET_RATE")
        return value

    @property
    def threads(self) -> int:
        return int(self._get("THREADS"))


conf = Conf()

addresses.auth_user_model = lambda: str(settings.AUTH_USER_MODEL)
addresses.max_room_name = lambda: conf.max_room_name
