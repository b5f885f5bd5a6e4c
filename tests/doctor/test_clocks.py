"""The doctor's look at clocks: of Redis, PostgreSQL and nodes, against this machine's or a skewed one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from tests.support.postgres import PostgresServer
from tests.support.processes import RedisServer
from wsrt import __version__, doctor
from wsrt.doctor import Finding, clocks, presence, redis
from wsrt.presence.base import NodeFacts, NodeRecord
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.redis import RedisPresence

SKEW = 100.0
"""Seconds: no machine is so busy that a question takes that long."""


def skewed(seconds: float) -> Callable[[], float]:
    """A clock that is ahead of the real one."""
    return lambda: time.time() + seconds


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize(
    ("skew", "status", "seen"),
    [
        (0.002, "ok", "0.00 s ahead"),
        (-0.9, "ok", "0.90 s behind"),
        (3.5, "warning", "3.50 s ahead"),
        (-2, "warning", "behind"),
    ],
)
def test_clock(skew: float, status: str, seen: str) -> None:
    """Clocks that differ by more than a second are a warning."""
    finding = clocks.clock("Redis", skew)
    assert (finding.subject, finding.status) == ("Redis clock", status)
    assert seen in finding.seen
    assert finding.facts == {"skew_s": skew}
    assert bool(finding.advice) is (status != "ok")


async def test_answers_take_time() -> None:
    """The answer is compared with the middle of the time that it took."""
    times = iter([10.0, 14.0])

    async def ask() -> float:
        return 12.5

    assert await clocks.skew_of(ask, lambda: next(times)) == 0.5


def of(findings: Any, subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject.endswith(subject)]
    assert isinstance(found, Finding)
    return found


@pytest.mark.parametrize(("ahead", "status"), [(0.0, "ok"), (SKEW, "warning"), (-SKEW, "warning")])
async def test_redis(redis_server: RedisServer, ahead: float, status: str) -> None:
    """The clock of a real Redis is compared with that of this machine."""
    host = redis.Host("Redis", {"address": redis_server.url}, is_pubsub=False)
    found = of(await redis.examine(host, skewed(ahead)), "clock")
    assert found.status == status
    assert abs(found.facts["skew_s"] + ahead) < SKEW / 2
    if ahead:
        assert ("behind" if ahead > 0 else "ahead of") in found.seen


# Nodes.


@pytest.mark.parametrize(("ahead", "seen"), [(0.0, None), (SKEW, "behind this machine"), (-SKEW, "ahead of")])
async def test_node(redis_server: RedisServer, ahead: float, seen: str | None) -> None:
    """The clock of a node whose lease is in Redis is compared with that of this machine, without asking the node."""
    store = RedisPresence(redis_server.url, prefix=f"clocks{ahead:.0f}")
    facts = {"host": "web-1", "pid": 7, "version": __version__, "servers": ["daphne"], "beat": time.time()}
    await store.begin(NodeFacts("a" * 24, facts))
    findings = list(await presence.read(store, skewed(ahead)))
    await store.close()
    assert [finding.status for finding in findings if finding.subject == "node web-1:7"] == ["ok"]
    if seen is None:
        assert not [finding for finding in findings if "clock" in finding.subject]
    else:
        found = of(findings, "node web-1:7 clock")
        assert found.status == "warning"
        assert seen in found.seen


async def test_node_between_heartbeats() -> None:
    """The age of the heartbeat is taken into account. A node of another version may not report it."""
    record = NodeRecord("a" * 24, 21.0, {"beat": 1000.0})
    assert list(clocks.node("node", record, lambda: 1009.0)) == []
    (found,) = clocks.node("node", record, lambda: 1014.0)
    assert found.facts == {"skew_s": -5.0}
    assert list(clocks.node("node", NodeRecord("a" * 24, 21.0, {}), lambda: 1014.0)) == []


async def test_this_process() -> None:
    """A store that measures leases by this process has no skew."""
    store = MemoryPresence()
    await store.begin(NodeFacts("b" * 24, {"beat": time.time()}))
    try:
        (record,) = [record for record in await store.nodes() if record.id == "b" * 24]
        assert list(clocks.node("node", record, time.time)) == []
    finally:
        async for _ in store.reap("b" * 24):
            pass


# Databases.


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[str, Any]]:
    with PostgresServer() as server:
        yield {**connections.settings["default"], **server.settings}


@pytest.fixture
def database(postgres: dict[str, Any], monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Iterator[str]:
    """The alias of a database in PostgreSQL."""
    monkeypatch.setitem(connections.settings, "other", dict(postgres))
    with django_db_blocker.unblock():
        yield "other"


@pytest.mark.parametrize(("ahead", "status"), [(0.0, "ok"), (SKEW, "warning"), (-SKEW, "warning")])
async def test_database(database: str, ahead: float, status: str) -> None:
    """The clock of a real PostgreSQL is compared with that of this machine."""
    assert clocks.databases() == [database]
    (found,) = await clocks.examine(database, skewed(ahead))
    assert (found.subject, found.status) == ("database 'other' clock", status)
    assert abs(found.facts["skew_s"] + ahead) < SKEW / 2


async def test_database_that_is_down(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that can't be reached is an error, and the other parts go on."""
    monkeypatch.setitem(connections.settings, database, {**connections.settings[database], "PORT": "1"})
    findings = await doctor.examine()
    found = of(findings, "database 'other'")
    assert found.status == "error"
    assert "OperationalError" in found.seen
    assert of(findings, "presence").status == "ok"


def test_other_databases() -> None:
    """SQLite has the clock of this machine."""
    assert clocks.databases() == []
