"""What a connection is based on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.utils.functional import SimpleLazyObject

from tests.support.sessions import MODEL_BACKEND, scope_of, signed_in
from wsrt.sessions.claims import SessionClaim, UserClaim, claim_of

User = get_user_model()


@pytest.fixture
def ada(db: None) -> Any:
    return User.objects.create_user("ada")


@pytest.fixture
def bob(db: None) -> Any:
    return User.objects.create_user("bob")


def test_session(ada: Any) -> None:
    """A session counts in which the user of the scope is signed in, lazy or not; connections of it are equal."""
    session = signed_in(ada)
    scope = scope_of(ada, session)
    claim = claim_of(scope)
    assert claim == SessionClaim(SessionStore, session.session_key, str(ada.pk), MODEL_BACKEND)
    assert session.session_key not in repr(claim)
    other = scope_of(SimpleLazyObject(lambda: ada), session)
    assert claim_of(other) == claim
    lazy = SimpleLazyObject(lambda: scope["session"])
    assert bool(lazy.session_key)
    assert claim_of({**scope, "session": lazy}) == claim


def test_user_without_a_session(ada: Any, bob: Any, django_assert_num_queries: Any) -> None:
    """The session of somebody else doesn't count, nor one that the middleware hasn't read; reading it would query."""
    session = signed_in(bob)
    with django_assert_num_queries(0):
        assert claim_of({"user": ada}) == UserClaim(User, ada.pk)
        assert claim_of({"user": ada, "session": SessionStore(session.session_key)}) == UserClaim(User, ada.pk)
    assert claim_of(scope_of(ada, session)) == UserClaim(User, ada.pk)


@pytest.mark.parametrize(
    "user",
    [None, AnonymousUser(), User(), SimpleNamespace(is_authenticated=True, pk=7)],
    ids=["none", "anonymous", "unsaved", "not a model"],
)
def test_nothing_to_check(user: Any) -> None:
    """There is nothing to check for an anonymous user, and for one that isn't in the database."""
    assert claim_of({"user": user}) is None
