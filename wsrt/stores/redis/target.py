"""
The location of Redis (a URL, a cluster, or a service that Sentinels monitor) and the client for it.

Nothing here connects. Errors about a setting that redis-py can't use never contain the URL, as it may hold a password.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio as redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from ..options import require_truth

DEFAULT = "redis://localhost:6379/0"

SHAPE = "LOCATION must be a URL such as redis://localhost:6379/0, rediss://... or unix://..."

SERVICE_SHAPE = "with SENTINELS, LOCATION must name the service that they monitor, such as redis://mymaster/0"


class RedisTarget:
    """
    The location of Redis.

    Args:
        location: A ``redis://``, ``rediss://`` or ``unix://`` URL; with Sentinels, the name of the service in place of
            the host. None for the default.
        cluster: Whether it is a Redis Cluster.
        sentinels: The (host, port) of each Sentinel; None for no Sentinels.
        sentinel_kwargs: redis-py's arguments for the connections to Sentinels, such as ``password``.
        timeout: The number of seconds that an answer may take.

    Raises:
        ValueError: redis-py can't use these settings; the text names the valid ones.
    """

    def __init__(
        self,
        location: object,
        *,
        cluster: bool,
        sentinels: object,
        sentinel_kwargs: object,
        timeout: float,
    ) -> None:
        require_truth("CLUSTER", cluster)
        self.is_cluster = cluster
        self.sentinels = _sentinels_in(sentinels)
        self._sentinel_options = _options_in(sentinel_kwargs)
        self._timeout = timeout
        if self.sentinels and cluster:
            raise ValueError("SENTINELS and CLUSTER can't be used together: a cluster fails over without Sentinels")
        if self._sentinel_options and not self.sentinels:
            raise ValueError("SENTINEL_KWARGS requires SENTINELS, which isn't set")
        if location is None and self.sentinels:
            raise ValueError(SERVICE_SHAPE)
        self.location = _require_url(DEFAULT if location is None else location)
        self.service = _service_in(self.location) if self.sentinels else None
        self._try()

    def connect(self, *, retries: int = 1) -> Any:
        """
        Return a new client. It connects with its first command.

        Args:
            retries: How often a command is sent again if the connection breaks. An idle connection may be stale, so one
                helps. It must be 0 if a command could have another effect when it is executed twice.
        """
        options: dict[str, Any] = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), retries, (redis.ConnectionError,)),
            "protocol": 2,
            "decode_responses": True,
            # Names may be any strings, also those that UTF-8 can't encode.
            "encoding_errors": "surrogatepass",
        }
        if self.service is not None:
            return redis.Redis.from_pool(self._service_pool(options))
        kind: Any = redis.RedisCluster if self.is_cluster else redis.Redis
        return kind.from_url(self.location, **options)

    def _service_pool(self, options: dict[str, Any]) -> Any:
        make_manager: Any = Sentinel
        make_pool: Any = SentinelConnectionPool
        # redis-py asks the Sentinels one after the other. All of them must fit in the timeout of one command.
        share = self._timeout / (len(self.sentinels) + 1)
        asking = {"socket_timeout": share, "socket_connect_timeout": share, "retry": Retry(NoBackoff(), 0)}
        manager = make_manager(self.sentinels, sentinel_kwargs={**asking, **self._sentinel_options})
        found: dict[str, Any] = {**parse_url(self.location)}
        del found["host"]
        if found.pop("connection_class", None) is SSLConnection:
            found["ssl"] = True
        return make_pool(self.service, manager, **{**options, **found})

    def _try(self) -> None:
        """Create a connection without opening it: redis-py checks some options only at that time. Raises ValueError."""
        try:
            client = self.connect()
            if not self.is_cluster:
                client.connection_pool.make_connection()
        except Exception as error:
            raise ValueError(f"redis-py can't use the URL in LOCATION: {error}") from None


async def close(client: Any) -> None:
    """Close a client of a RedisTarget, including its connections to Sentinels."""
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _sentinels_in(value: object) -> tuple[tuple[str, int], ...]:
    if value is None:
        return ()
    expected = "SENTINELS must be a list of (host, port) pairs, such as [('10.0.0.1', 26379)]"
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"{expected}, not {value!r}")
    for pair in value:
        is_pair = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        if not is_pair or not isinstance(pair[0], str) or type(pair[1]) is not int or not 0 < pair[1] < 65_536:
            raise ValueError(f"{expected}; {pair!r} isn't such a pair")
    return tuple((host, port) for host, port in value)


def _options_in(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        # The value isn't repeated: it may hold a password.
        raise ValueError(f"SENTINEL_KWARGS must be a dict of keyword arguments, not a {type(value).__name__}")
    return dict(value)


def _require_url(location: object) -> str:
    """Check the form of a Redis URL. Raises ValueError."""
    if not isinstance(location, str):
        raise ValueError(f"{SHAPE}, not a {type(location).__name__}")
    if not re.match("(redis|rediss|unix)://", location):
        raise ValueError(SHAPE)
    if re.search(r"[\s\x00-\x20]", location):
        raise ValueError(f"{SHAPE}, without spaces and control characters: percent-encode them")
    if "#" in location:
        # urlsplit would take the rest for a fragment, and a part of the password for the host.
        raise ValueError(f"{SHAPE}, without '#': in a password, write it as %23")
    try:
        parts = urllib.parse.urlsplit(location)
        _ = parts.port
        urllib.parse.parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True)
    except ValueError:
        raise ValueError(
            f"{SHAPE}; its host, port or query isn't valid, perhaps because the password isn't percent-encoded"
        ) from None
    if parts.scheme != "unix" and not re.fullmatch("(/[0-9]*)*", parts.path):
        raise ValueError(f"{SHAPE}; the path must be the number of a database. In a password, write / as %2F")
    return location


def _service_in(location: str) -> str:
    """Return the name of the service in a URL. Raises ValueError."""
    parts = urllib.parse.urlsplit(location)
    # Not `hostname`, which is lower-cased: names of services are case-sensitive.
    name = urllib.parse.unquote(parts.netloc.rpartition("@")[2])
    if parts.scheme == "unix" or not name or ":" in name:
        raise ValueError(SERVICE_SHAPE)
    return name
