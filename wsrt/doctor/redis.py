"""Findings about the Redis servers behind channel layers, presence and history."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from typing import Any, TypeVar

from channels.layers import channel_layers

from ..conf import conf
from .clocks import Clock, clock, skew_of
from .finding import Finding, error, ok, warning
from .installed import numbers
from .layers import aliases

T = TypeVar("T")

OLDEST = (6, 2)

ANSWER_SECONDS = 2.0
"""How long a Sentinel, or the Redis that it names, may take to answer, in seconds."""

PINGS = 5

SLOW_MS = 20
"""Pings slower than this are a warning, in milliseconds. In one data center they take less than 1 ms."""

SMALLEST_BUFFER = 8 * 2**20
"""Bytes that Redis should at least buffer for a slow node before it closes the node's connection."""

DEFAULT_BUFFER = "CONFIG SET client-output-buffer-limit 'pubsub 33554432 8388608 60'"


@dataclasses.dataclass(frozen=True)
class Host:
    """
    A Redis, and what it is used for.

    Attributes:
        subject: The name of the Redis in findings.
        options: The connection options, as a layer of channels_redis accepts them.
        is_pubsub: Whether nodes subscribe there.
        is_cluster: Whether it may be a Redis Cluster: only stores use it, with ``OPTIONS["CLUSTER"]`` set.
    """

    subject: str
    options: Mapping[str, Any]
    is_pubsub: bool
    is_cluster: bool = False


def hosts() -> list[Host]:
    """Return each Redis that is configured for layers, presence or history, without duplicates."""
    found: dict[str, Host] = {}

    def add(options: Mapping[str, Any], *, is_pubsub: bool, is_cluster: bool = False) -> None:
        subject = f"Redis {address(options)}"
        before = found.get(subject)
        if before is not None:
            options, is_pubsub = before.options, is_pubsub or before.is_pubsub
            is_cluster = is_cluster and before.is_cluster
        found[subject] = Host(subject, options, is_pubsub, is_cluster)

    for alias in aliases():
        config = channel_layers.configs.get(alias, {})
        backend = str(config.get("BACKEND", ""))
        if backend.startswith("channels_redis."):
            for options in _decoded((config.get("CONFIG") or {}).get("hosts")):
                add(options, is_pubsub="pubsub" in backend)
    for settings in (conf.presence, conf.history):
        # The system checks report settings of a wrong type.
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            location, more = str(settings.get("LOCATION")), settings.get("OPTIONS") or {}
            if re.match(r"(rediss?|unix)://", location):
                add(_store_options(location, more), is_pubsub=False, is_cluster=more.get("CLUSTER") is True)
    return list(found.values())


def _store_options(location: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the options for connecting to the Redis of a store.

    Raises:
        ValueError: An option is invalid. The caller ignores it, because the examination of the store reports it.
    """
    if not options.get("SENTINELS"):
        return {"address": location}
    from ..stores.redis.target import RedisTarget

    target = RedisTarget(
        location,
        cluster=False,
        sentinels=options["SENTINELS"],
        sentinel_kwargs=options.get("SENTINEL_KWARGS"),
        timeout=ANSWER_SECONDS,
    )
    return {"master_name": target.service, "target": target}


def _decoded(hosts: Any) -> list[dict[str, Any]]:
    try:
        from channels_redis.utils import decode_hosts

        decoded: list[dict[str, Any]] = decode_hosts(hosts)
    except (ImportError, ValueError):
        return []  # the layer says so itself
    return decoded


def address(options: Mapping[str, Any]) -> str:
    """Return the address of a Redis, without its password."""
    if "address" in options:
        return re.sub(r"^\w+://(.*@)?", "", str(options["address"]).partition("?")[0])
    if "master_name" in options:
        return f"{options['master_name']} (Sentinel)"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


async def examine(host: Host, now: Clock = time.time) -> Iterator[Finding]:
    """
    Return findings about a Redis, as far as its ACL lets this user examine it.

    Args:
        host: The Redis.
        now: The clock of this machine.
    """
    findings: list[Finding] = []
    async with _connected(host) as redis:
        info: Mapping[str, Any] = await _allowed(redis.info(), {})
        findings.append(version(host.subject, info, may_be_cluster=host.is_cluster))
        pings = [ms for _ in range(PINGS) if (ms := await _allowed(_ping(redis), None)) is not None]
        if pings:
            findings.append(latency(host.subject, statistics.median(pings)))
        skew = await _allowed(skew_of(lambda: _time(redis), now), None)
        if skew is not None:
            findings.append(clock(host.subject, skew))
        if info:
            findings.append(memory(host.subject, info))
        if host.is_pubsub:
            findings.append(buffers(host.subject, await _setting(redis, "client-output-buffer-limit")))
    return iter(findings)


async def _allowed(asking: Awaitable[T], otherwise: T) -> T:
    """Return the answer to a command; ``otherwise`` if an ACL forbids the command or the service doesn't know it."""
    from redis.exceptions import ResponseError

    try:
        return await asking
    except ResponseError:
        return otherwise


@contextlib.asynccontextmanager
async def _connected(host: Host) -> AsyncIterator[Any]:
    from channels_redis.utils import create_pool
    from redis import asyncio as aioredis

    from ..stores.redis import target

    if "target" in host.options:
        connection = host.options["target"].connect()
    else:
        connection = aioredis.Redis.from_pool(create_pool(dict(host.options)))
    try:
        yield connection
    finally:
        await target.close(connection)


async def _time(redis: Any) -> float:
    seconds, microseconds = await redis.time()
    return float(seconds + microseconds / 1e6)


async def _ping(redis: Any) -> float:
    begun = time.perf_counter()
    await redis.ping()
    return (time.perf_counter() - begun) * 1000


async def _setting(redis: Any, name: str) -> str:
    try:
        return str((await redis.config_get(name)).get(name, ""))
    except Exception:
        return ""  # managed services do not allow it


def version(subject: str, info: Mapping[str, Any], *, may_be_cluster: bool = False) -> Finding:
    """
    Return a finding about the version, and about the kind of server: layers and stores don't work with all of them.

    Args:
        info: The answer to INFO; empty if the command isn't allowed.
    """
    if not info:
        return ok(subject, "answers; INFO is not allowed, so neither version nor memory settings can be read")
    number, valkey = str(info.get("redis_version", "?")), info.get("valkey_version")
    seen = f"Valkey {valkey}" if valkey else f"version {number}"
    facts = {"version": valkey or number, "mode": info.get("redis_mode"), "role": info.get("role")}
    if facts["mode"] == "cluster" and not may_be_cluster:
        advice = "The layers of channels_redis do not know Redis Cluster: use a single server, or Sentinel."
        return error(subject, f"{seen}, a cluster", advice, **facts)
    if facts["role"] == "slave":
        return error(
            subject, f"{seen}, a replica: nothing can be written", "Configure the address of the master.", **facts
        )
    if not valkey and numbers(number) < OLDEST:
        return error(subject, f"{seen} is too old", "Use Redis 6.2 or newer, or Valkey.", **facts)
    return ok(subject, seen, **facts)


def latency(subject: str, milliseconds: float) -> Finding:
    """Return a finding about the latency."""
    subject, seen = f"{subject} latency", f"a ping took {milliseconds:.1f} ms"
    facts = {"ping_ms": round(milliseconds, 2)}
    if milliseconds > SLOW_MS:
        return warning(subject, seen, "Move Redis closer, or look for slow commands with SLOWLOG.", **facts)
    return ok(subject, seen, **facts)


def memory(subject: str, info: Mapping[str, Any]) -> Finding:
    """Return a finding about the eviction policy."""
    subject = f"{subject} memory"
    policy, limit = str(info.get("maxmemory_policy", "?")), int(info.get("maxmemory", 0))
    facts = {"policy": policy, "maxmemory": limit, "used_memory": info.get("used_memory")}
    seen = f"maxmemory-policy {policy}, {info.get('maxmemory_human', limit) if limit else 'no maxmemory'}"
    if policy not in {"noeviction", "?"}:
        advice = (
            "CONFIG SET maxmemory-policy noeviction; otherwise groups, presence and history are lost without an error."
        )
        return warning(subject, seen, advice, **facts)
    return ok(subject, seen, **facts)


def buffers(subject: str, limits: str) -> Finding:
    """
    Return a finding about the limit at which Redis disconnects a node that reads too slowly.

    Args:
        limits: ``normal 0 0 0 slave ... pubsub 33554432 8388608 60``, as CONFIG GET returns them; empty if unknown.
    """
    subject = f"{subject} buffers"
    match = re.search(r"pubsub (\d+) (\d+) (\d+)", limits)
    if match is None:
        return ok(subject, "client-output-buffer-limit cannot be read")
    hard, soft, seconds = map(int, match.groups())
    facts = {"hard": hard, "soft": soft, "soft_seconds": seconds}
    if not hard and not soft:
        return warning(subject, "a node that stops reading fills the memory of Redis", DEFAULT_BUFFER, **facts)
    parts = [f"{hard / 2**20:g} MiB"] if hard else []
    parts += [f"{soft / 2**20:g} MiB for {seconds} s"] if soft else []
    seen = f"Redis disconnects a node that falls behind by {' or '.join(parts)}; messages queued for it are lost"
    if min(limit for limit in (hard, soft) if limit) < SMALLEST_BUFFER:
        return warning(subject, seen, f"{DEFAULT_BUFFER}, which is the default, or more", **facts)
    return ok(subject, seen, **facts)
