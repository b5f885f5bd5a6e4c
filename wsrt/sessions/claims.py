"""What a connection is based on: the session or the user that its handshake had."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.db import models

from ..connection.users import is_signed_in
from ..types import Scope
from .keys import session_key_of

__all__ = ["Claim", "SessionClaim", "UserClaim", "claim_of", "user_claim"]


@dataclasses.dataclass(frozen=True, slots=True)
class SessionClaim:
    """
    A session in which a user is signed in. Connections of one session have equal claims.

    Attributes:
        store: The class of the session.
        key: The session's key.
        user: The primary key of the user, as the session has it.
        backend: The dotted path of the authentication backend that signed the user in.
    """

    store: type[SessionBase]
    key: str = dataclasses.field(repr=False)
    user: str
    backend: str


@dataclasses.dataclass(frozen=True, slots=True)
class UserClaim:
    """
    The user of a connection that was authenticated without a Django session, such as by a token.

    See SessionClaim for the others.

    Attributes:
        model: The class of the user.
        pk: The primary key of the user.
    """

    model: type[models.Model]
    pk: Any


Claim = SessionClaim | UserClaim


def claim_of(scope: Scope) -> Claim | None:
    """
    Return the claim of a connection; None if there is nothing to check.

    A session counts if its signed-in user is the user of the scope, as below AuthMiddleware. Makes no query.
    """
    user = scope.get("user")
    if not is_signed_in(user):
        return None
    key = session_key_of(scope)
    session: Any = scope.get("session")
    # The middleware has read the session for the user. Reading it in any other way might query the store.
    data = getattr(session, "_session_cache", None)
    if key is not None and isinstance(data, Mapping) and isinstance(user, models.Model):
        signed_in, backend = data.get(SESSION_KEY), data.get(BACKEND_SESSION_KEY)
        if signed_in == _pk_text(user) and isinstance(backend, str):
            # For a lazy object this is the class of the wrapped session.
            return SessionClaim(session.__class__, key, signed_in, backend)
    return user_claim(user)


def user_claim(user: Any) -> UserClaim | None:
    """Return the claim of a signed-in user without a session. None if the user isn't a saved model instance."""
    if not isinstance(user, models.Model) or user.pk is None:
        return None
    return UserClaim(user.__class__, user.pk)


def is_claim_of(claim: SessionClaim, user: Any) -> bool:
    """Return whether a session belongs to the given user."""
    return isinstance(user, models.Model) and _pk_text(user) == claim.user


def _pk_text(user: models.Model) -> str:
    return str(user._meta.pk.value_to_string(user))
