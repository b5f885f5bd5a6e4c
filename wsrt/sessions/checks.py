"""
The checks that sessions and users are still valid. They query the database, so they run in threads.

They only read: no session is saved, deleted, extended, or given another key. Channels' ``get_user`` isn't used, because
it reads the session that the handshake has read, ignores SECRET_KEY_FALLBACKS, and deletes the session if it isn't
valid.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cached_db import SessionStore as CachedDatabaseStore
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from ..connection.users import is_active
from .claims import Claim, SessionClaim, UserClaim

__all__ = ["find_invalid", "is_batchable", "user_of_session"]

MODIFYING = ("create", "save", "delete", "flush", "cycle_key")
"""The methods of sessions that change the store. Some engines call them from ``load``."""

Users = Mapping[type[models.Model], Mapping[Any, Any]]
"""Users by their class and primary key."""


def is_batchable(claim: Claim) -> bool:
    """
    Return whether a claim is checked together with others, in one query for sessions and one for users.

    That is so for sessions in the database whose backend loads users as ModelBackend does, and for users without a
    session. Others need calls of their own.
    """
    return not isinstance(claim, SessionClaim) or (_is_in_database(claim.store) and _loads_from_model(claim.backend))


def find_invalid(claims: Collection[Claim]) -> set[Claim]:
    """
    Return the claims that are no longer valid.

    A session is invalid if it has expired or is gone, if its user has signed out, or if the user has
    another password or is inactive or gone. A user without a session is invalid if inactive or gone.

    Raises:
        Exception: Anything that the database, the session engine or the backend raises. Nothing is known then.
    """
    sessions = _read_sessions({claim for claim in claims if isinstance(claim, SessionClaim)})
    wanted: dict[type[models.Model], set[Any]] = {}
    for claim in claims:
        if isinstance(claim, UserClaim):
            wanted.setdefault(claim.model, set()).add(claim.pk)
    for data in sessions.values():
        if _loads_from_model(data.get(BACKEND_SESSION_KEY)) and (pk := _pk_of(data)) is not None:
            wanted.setdefault(get_user_model(), set()).add(pk)
    users: Users = {
        model: {user.pk: user for user in model._default_manager.filter(pk__in=pks)} for model, pks in wanted.items()
    }
    return {claim for claim in claims if not _is_valid(claim, sessions, users)}


def user_of_session(session: SessionBase) -> Any:
    """
    Return the signed-in user of a session, or None.

    Like Django's own ``get_user``, but without changing the session.
    """
    return _user_of({name: session.get(name) for name in (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY)}, {})


# Private.


def _is_valid(claim: Claim, sessions: Mapping[SessionClaim, Mapping[str, Any]], users: Users) -> bool:
    if isinstance(claim, UserClaim):
        user = users[claim.model].get(claim.pk)
        return user is not None and is_active(user)
    data = sessions[claim]
    # The session of another user, or of none, has kept its key. Django itself doesn't do that.
    return data.get(SESSION_KEY) == claim.user and _user_of(data, users) is not None


def _user_of(data: Mapping[str, Any], users: Users) -> Any:
    """
    Return the user of a session's data, if it verifies the user, else None.

    Args:
        data: The data.
        users: The users that were already loaded.
    """
    path, pk = data.get(BACKEND_SESSION_KEY), _pk_of(data)
    # As in Django, a session is void if its backend was removed from the settings.
    if pk is None or path is None or path not in settings.AUTHENTICATION_BACKENDS:
        return None
    backend: Any = load_backend(path)
    loaded = users.get(get_user_model())
    if loaded is not None and _loads_from_model(path):
        user = loaded.get(pk)
        if user is not None and not backend.user_can_authenticate(user):
            user = None
    else:
        user = backend.get_user(pk)
    return user if user is not None and _verifies(user, data.get(HASH_SESSION_KEY)) else None


def _verifies(user: Any, session_hash: Any) -> bool:
    """Return whether the session was created with the user's current password and a secret key that is still known."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    if not session_hash:
        return False
    if constant_time_compare(session_hash, user.get_session_auth_hash()):
        return True
    fallbacks = getattr(user, "get_session_auth_fallback_hash", tuple)
    return any(constant_time_compare(session_hash, fallback) for fallback in fallbacks())


def _pk_of(data: Mapping[str, Any]) -> Any:
    """Return the primary key of the user in a session's data. None if no user is signed in."""
    text = data.get(SESSION_KEY)
    try:
        return None if text is None else get_user_model()._meta.pk.to_python(text)
    except ValidationError:
        # Of another user model than the present one.
        return None


def _read_sessions(claims: Collection[SessionClaim]) -> dict[SessionClaim, Mapping[str, Any]]:
    """Return the data of each session as the store has it now; {} for one that has expired or is gone."""
    found: dict[SessionClaim, Mapping[str, Any]] = {claim: {} for claim in claims}
    stored: dict[type[Any], list[SessionClaim]] = {}
    for claim in claims:
        if _is_in_database(claim.store):
            stored.setdefault(claim.store, []).append(claim)
        else:
            found[claim] = _reader(claim.store)(claim.key).load()
    for store, of_store in stored.items():
        found.update(_read_rows(store, of_store))
    return found


def _read_rows(store: type[Any], claims: Iterable[SessionClaim]) -> dict[SessionClaim, Mapping[str, Any]]:
    by_key = {claim.key: claim for claim in claims}
    now = timezone.now()
    rows = store.get_model_class().objects.filter(session_key__in=list(by_key))
    return {
        by_key[key]: store(key).decode(data)
        for key, data, expires in rows.values_list("session_key", "session_data", "expire_date")
        if expires > now
    }


@functools.cache
def _is_in_database(store: type[Any]) -> bool:
    """Return whether the session is what its row in the database says, as it is with the engines db and cached_db."""
    return (
        issubclass(store, DatabaseStore)
        and store.load in (DatabaseStore.load, CachedDatabaseStore.load)
        and store._get_session_from_db is DatabaseStore._get_session_from_db  # type: ignore[attr-defined]
    )


def _loads_from_model(path: Any) -> bool:
    """Return whether a backend loads users as ModelBackend does."""
    if path not in settings.AUTHENTICATION_BACKENDS:
        return False
    # The module needs the app registry, which isn't ready when this module is first imported.
    from django.contrib.auth.backends import ModelBackend

    backend = type(load_backend(path))
    return issubclass(backend, ModelBackend) and backend.get_user is ModelBackend.get_user


@functools.cache
def _reader(store: type[Any]) -> type[Any]:
    """
    Return a class that reads sessions of a store, and changes none.

    The engine ``file``, for example, deletes an expired session when it is loaded, and creates a new one.
    """
    methods: dict[str, Any] = dict.fromkeys(MODIFYING, lambda self, *args, **kwargs: None)
    # The salt of a session's signature is made of the name of its class.
    return type(store.__name__, (store,), {**methods, "__qualname__": store.__qualname__})
