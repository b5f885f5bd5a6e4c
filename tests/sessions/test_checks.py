"""The checks that sessions and users are still valid."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.backends import AllowAllUsersModelBackend, ModelBackend
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.utils import timezone

from tests.support.sessions import scope_of, signed_in, store
from wsrt.sessions.checks import find_invalid, is_batchable, user_of_session
from wsrt.sessions.claims import Claim, SessionClaim, UserClaim, claim_of

pytestmark = pytest.mark.django_db

User = get_user_model()

ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]


class OwnBackend(ModelBackend):
    """Loads users in a way of its own."""

    def get_user(self, user_id: Any) -> Any:
        return super().get_user(user_id)


class StubbornStore(SessionStore):
    """Sessions in the database that are read in a way of their own."""

    def load(self) -> Any:
        return super().load()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    # The class keeps the setting SESSION_FILE_PATH once it was read.
    monkeypatch.setattr(FileStore, "_storage_path", str(tmp_path), raising=False)
    cache.clear()
    return str(request.param)


@pytest.fixture
def ada() -> Any:
    return User.objects.create_user("ada", password="first")


def claimed(user: Any, session: Any) -> Claim:
    claim = claim_of(scope_of(user, session))
    assert isinstance(claim, SessionClaim)
    return claim


def is_valid(claim: Claim) -> bool:
    return not find_invalid([claim])


def test_valid(engine: str, ada: Any) -> None:
    """A session that nothing has happened to is valid, with every engine."""
    assert is_valid(claimed(ada, signed_in(ada)))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda ada: User.objects.update(is_active=False), id="deactivated"),
        pytest.param(lambda ada: ada.delete(), id="deleted"),
        pytest.param(lambda ada: (ada.set_password("second"), ada.save()), id="another password"),
    ],
)
def test_user_changes(engine: str, ada: Any, change: Callable[[Any], Any]) -> None:
    """A session is invalid once its user has another password, is inactive or gone, with every engine."""
    claim = claimed(ada, signed_in(ada))
    change(User.objects.get())
    assert not is_valid(claim)


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file"], indirect=True)
def test_session_is_gone(engine: str, ada: Any) -> None:
    """A session is invalid once it was deleted, with every engine that keeps sessions."""
    session = signed_in(ada)
    claim = claimed(ada, session)
    session.flush()
    assert not is_valid(claim)


def test_session_expires(engine: str, ada: Any, settings: Any, tmp_path: Path) -> None:
    """An expired session is invalid. The check changes nothing in the store: it neither deletes nor creates one."""
    session = signed_in(ada)
    claim = claimed(ada, session)
    match engine:
        case "db" | "cached_db":
            cache.clear()
            Session.objects.update(expire_date=timezone.now() - datetime.timedelta(seconds=1))
        case "cache":
            cache.clear()
        case "file" | "signed_cookies":
            settings.SESSION_COOKIE_AGE = -1
    before = list(Session.objects.values()), list(tmp_path.iterdir())
    assert not is_valid(claim)
    assert (list(Session.objects.values()), list(tmp_path.iterdir())) == before
    assert len(before[1]) == (engine == "file")


def test_session_is_not_extended(engine: str, ada: Any, settings: Any) -> None:
    """A valid session keeps its data, its key and its expiry."""
    settings.SESSION_SAVE_EVERY_REQUEST = True
    session = signed_in(ada, cart=[1])
    claim = claimed(ada, session)
    before = list(Session.objects.values())
    assert is_valid(claim)
    assert list(Session.objects.values()) == before
    assert store(session.session_key)["cart"] == [1]


def test_secret_key_is_rotated(ada: Any, settings: Any) -> None:
    """A session from before a rotation of the secret key is valid while the old key is a fallback, and unchanged."""
    session = signed_in(ada)
    claim = claimed(ada, session)
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [old]
    assert is_valid(claim)
    assert user_of_session(store(session.session_key)) == ada
    settings.SECRET_KEY_FALLBACKS = []
    assert not is_valid(claim)
    assert user_of_session(store(session.session_key)) is None
    assert Session.objects.filter(session_key=session.session_key).exists()


@pytest.mark.parametrize("name", [SESSION_KEY, HASH_SESSION_KEY])
def test_signed_out_without_a_flush(ada: Any, name: str) -> None:
    """A session that has kept its key is invalid once the user isn't signed in in it, or isn't verified by it."""
    session = signed_in(ada)
    claim = claimed(ada, session)
    del session[name]
    session.save()
    assert not is_valid(claim)


def test_another_user(ada: Any) -> None:
    """A session that has kept its key is invalid for the user who was signed in before."""
    session = signed_in(ada)
    claim = claimed(ada, session)
    bob = User.objects.create_user("bob")
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(bob.pk), bob.get_session_auth_hash()
    session.save()
    assert not is_valid(claim)


def test_not_a_key(ada: Any) -> None:
    """A session whose user can't be one of the present model is invalid."""
    session = signed_in(ada)
    session[SESSION_KEY] = "not a number"
    session.save()
    assert user_of_session(store(session.session_key)) is None


def test_backends(ada: Any, settings: Any) -> None:
    """A backend decides about its users, is asked by itself if it isn't ModelBackend, and has to be in the settings."""
    own, lenient = (f"{cls.__module__}.{cls.__qualname__}" for cls in (OwnBackend, AllowAllUsersModelBackend))
    settings.AUTHENTICATION_BACKENDS = [own, lenient]
    claims = {path: claimed(ada, signed_in(ada, path)) for path in (own, lenient)}
    assert not is_batchable(claims[own])
    assert is_batchable(claims[lenient])
    assert find_invalid([*claims.values()]) == set()
    User.objects.update(is_active=False)
    assert find_invalid([*claims.values()]) == {claims[own]}
    settings.AUTHENTICATION_BACKENDS = [own]
    assert find_invalid([*claims.values()]) == {*claims.values()}
    assert not is_batchable(claims[lenient])


@pytest.mark.parametrize(("engine", "expected"), [(name, "db" in name) for name in ENGINES], indirect=["engine"])
def test_batchable(engine: str, expected: bool, ada: Any) -> None:
    """Sessions in the database are read together, others one by one."""
    assert is_batchable(claimed(ada, signed_in(ada))) is expected


def test_store_that_reads_in_its_own_way(ada: Any) -> None:
    """Sessions in the database that a subclass reads in its own way are read by it."""
    session = StubbornStore()
    session.update(signed_in(ada).items())
    session.save()
    claim = SessionClaim(StubbornStore, session.session_key, str(ada.pk), session[BACKEND_SESSION_KEY])
    assert not is_batchable(claim)
    assert is_valid(claim)


def test_users_without_sessions(ada: Any) -> None:
    """A user without a session is invalid if inactive or gone; so is an instance of another model."""
    group = Group.objects.create(name="devices")
    claims: list[Claim] = [UserClaim(User, ada.pk), UserClaim(User, 4711), UserClaim(Group, group.pk)]
    assert find_invalid(claims) == {claims[1]}
    User.objects.update(is_active=False)
    assert find_invalid(claims) == {*claims[:2]}


def test_two_queries(ada: Any, django_assert_num_queries: Any) -> None:
    """A thousand sessions of as many users take two queries."""
    User.objects.bulk_create(User(username=f"user{number}", password="!") for number in range(999))
    claims = [claimed(user, signed_in(user)) for user in User.objects.all()]
    Session.objects.filter(session_key=claims[7].key).delete()  # type: ignore[union-attr]
    with django_assert_num_queries(2):
        assert find_invalid(claims) == {claims[7]}
