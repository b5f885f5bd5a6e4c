"""The rounds in which the connections of a node are checked again."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Collection
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from tests.support import report
from tests.support.sessions import MODEL_BACKEND
from tests.support.waiting import aeventually
from wsrt.metrics import counters
from wsrt.sessions import rounds as module
from wsrt.sessions.claims import Claim, SessionClaim, UserClaim
from wsrt.sessions.rounds import FIRST, PAUSE, SPREAD, Rounds, rounds_of_loop

INTERVAL = 0.2


class Connection:
    """A connection as the rounds see it."""

    def __init__(self, pk: int | None, *, reloads_user: bool = False) -> None:
        self.claim: Claim | None = None if pk is None else UserClaim(Group, pk)
        self.reloads_user = reloads_user
        self.reloaded = 0
        self.expired = 0

    def reload_user(self) -> None:
        self.reloaded += 1

    def expire(self) -> None:
        self.expired += 1


class Checks:
    """Stands in for the checks of the database: knows what is invalid, and records what it is asked."""

    def __init__(self) -> None:
        self.invalid: set[Claim] = set()
        self.single: set[Claim] = set()
        self.error: Exception | None = None
        self.asked: list[list[Claim]] = []
        self.times: list[float] = []

    def find_invalid(self, claims: Collection[Claim]) -> set[Claim]:
        self.asked.append(list(claims))
        if self.error is not None:
            raise self.error
        return self.invalid & set(claims)

    def is_batchable(self, claim: Claim) -> bool:
        return claim not in self.single


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    checks = Checks()

    async def run_in_thread(function: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)

    monkeypatch.setattr(module, "find_invalid", checks.find_invalid)
    monkeypatch.setattr(module, "is_batchable", checks.is_batchable)
    monkeypatch.setattr(module, "run_in_thread", run_in_thread)
    return checks


def make_rounds() -> Rounds:
    return Rounds(asyncio.get_running_loop(), INTERVAL)


def test_times() -> None:
    """Two checks of a connection are never further apart than the interval, the first one included."""
    assert FIRST[1] + SPREAD <= 1
    assert PAUSE[1] + SPREAD <= 1


async def test_invalid_connections_expire(checks: Checks) -> None:
    """In each round the valid connections of each claim stay, and the others expire. A claim is asked about once."""
    rounds = make_rounds()
    tabs, other, anonymous = [Connection(1), Connection(1)], Connection(2), Connection(None)
    for connection in (*tabs, other, anonymous):
        rounds.add(connection)
    await aeventually(lambda: len(checks.asked) > 1, "two rounds")
    assert not any(connection.expired for connection in (*tabs, other))
    checks.invalid = {UserClaim(Group, 1)}
    await aeventually(lambda: tabs[0].expired, "the claim to be found invalid")
    assert [connection.expired > 0 for connection in (*tabs, other, anonymous)] == [True, True, False, False]
    assert {frozenset(batch) for batch in checks.asked} == {frozenset({UserClaim(Group, 1), UserClaim(Group, 2)})}


async def test_batches(checks: Checks) -> None:
    """Five thousand claims are checked in five batches; a claim that doesn't share queries is checked by itself."""
    rounds = make_rounds()
    checks.single = {UserClaim(Group, 1), UserClaim(Group, 2)}
    for pk in range(1, 5003):
        rounds.add(Connection(pk))
    await aeventually(lambda: len(checks.asked) >= 7, "a round")
    assert sorted(map(len, checks.asked[:7])) == [1, 1, 1000, 1000, 1000, 1000, 1000]


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries of all threads."""
    queries: list[str] = []
    execute = CursorWrapper.execute

    def note(self: Any, sql: Any, params: Any = None) -> Any:
        if sql.startswith("SELECT"):
            queries.append(sql)
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", note)
    return queries


def create_sessions(count: int) -> list[SessionClaim]:
    """Create users, each with a session in the database."""
    model = get_user_model()
    model.objects.bulk_create(model(username=f"user{number}", password="!") for number in range(count))
    claims, rows = [], []
    for user in model.objects.all():
        claim = SessionClaim(SessionStore, SessionStore()._get_new_session_key(), str(user.pk), MODEL_BACKEND)
        data = {SESSION_KEY: claim.user, BACKEND_SESSION_KEY: MODEL_BACKEND, HASH_SESSION_KEY: _hash_of(user)}
        expires = timezone.now() + datetime.timedelta(days=1)
        rows.append(Session(session_key=claim.key, session_data=SessionStore().encode(data), expire_date=expires))
        claims.append(claim)
    Session.objects.bulk_create(rows)
    return claims


def start_now(rounds: Rounds) -> None:
    """Start the first round without waiting for its time."""
    assert rounds._timer is not None
    rounds._timer.cancel()
    rounds._start()


def _hash_of(user: Any) -> str:
    return str(user.get_session_auth_hash())


@pytest.mark.django_db(transaction=True)
async def test_queries_of_5000_connections(queries: list[str]) -> None:
    """A round of 5,000 connections with 5,000 sessions takes ten queries. Without connections there is none."""
    claims = await sync_to_async(create_sessions)(5000)
    rounds, connections = Rounds(asyncio.get_running_loop(), 20.0), [Connection(None) for _ in claims]
    for connection, claim in zip(connections, claims, strict=True):
        connection.claim = claim
        rounds.add(connection)
    await Session.objects.filter(session_key=claims[4711].key).adelete()
    queries.clear()
    start_now(rounds)
    await aeventually(lambda: rounds._round is None, "the round to end", seconds=120)
    assert len(queries) == 10
    assert [number for number, connection in enumerate(connections) if connection.expired] == [4711]
    report.note("Queries of a round of 5,000 connections with sessions", f"{len(queries)}")
    for connection in connections:
        rounds.discard(connection)
    queries.clear()
    assert rounds._timer is None
    await asyncio.sleep(0)
    assert queries == []


async def test_nothing_without_connections(checks: Checks) -> None:
    """Without connections there is no timer, and nothing is asked; nor for connections without a claim."""
    rounds = make_rounds()
    connection, anonymous = Connection(1), Connection(None)
    rounds.add(connection)
    await aeventually(lambda: checks.asked, "a round")
    rounds.discard(connection)
    await aeventually(lambda: rounds._timer is None and rounds._round is None, "the rounds to end")
    assert len(rounds) == 0
    asked = len(checks.asked)
    rounds.add(anonymous)
    assert rounds._timer is not None
    first = rounds._timer
    await aeventually(lambda: rounds._timer not in (None, first), "an empty round")
    rounds.discard(anonymous)
    assert rounds._timer is None
    assert len(checks.asked) == asked


async def test_store_is_down(checks: Checks) -> None:
    """If the checks fail, connections stay, the failure is counted, and the next round asks again."""
    rounds, connection = make_rounds(), Connection(1)
    checks.invalid = {UserClaim(Group, 1)}
    checks.error = RuntimeError("down")
    before = counters["revalidations_failed"]
    rounds.add(connection)
    await aeventually(lambda: counters["revalidations_failed"] > before + 1, "two rounds to fail")
    assert not connection.expired
    checks.error = None
    await aeventually(lambda: connection.expired, "the next round")


async def test_changes_during_the_check(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has ended or has got another user during the check doesn't expire."""
    rounds = make_rounds()
    ended, changed, invalid = Connection(1), Connection(1), Connection(1)
    checks.invalid = {UserClaim(Group, 1)}

    async def run_in_thread(function: Any, *args: Any) -> Any:
        rounds.discard(ended)
        changed.claim = UserClaim(Group, 2)
        return function(*args)

    monkeypatch.setattr(module, "run_in_thread", run_in_thread)
    for connection in (ended, changed, invalid):
        rounds.add(connection)
    await aeventually(lambda: invalid.expired, "the round")
    assert not ended.expired
    assert not changed.expired


async def test_own_checks(checks: Checks) -> None:
    """Consumers with a check of their own are asked in each round."""
    rounds, connection = make_rounds(), Connection(None, reloads_user=True)
    rounds.add(connection)
    await aeventually(lambda: connection.reloaded > 1, "two rounds")
    assert checks.asked == []


async def test_slow_checks(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that takes longer than the interval is counted, and the next one follows."""
    rounds, connection = make_rounds(), Connection(1)

    async def run_in_thread(function: Any, *args: Any) -> Any:
        await asyncio.sleep(INTERVAL)
        return function(*args)

    monkeypatch.setattr(module, "run_in_thread", run_in_thread)
    before = counters["revalidations_late"]
    rounds.add(connection)
    await aeventually(lambda: counters["revalidations_late"] > before and len(checks.asked) > 1, "two late rounds")


async def test_rounds_of_loop() -> None:
    """There is one object for each interval in a loop."""
    assert rounds_of_loop(60) is rounds_of_loop(60.0)
    assert rounds_of_loop(60) is not rounds_of_loop(30)
