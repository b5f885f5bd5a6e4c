"""Sessions as log-ins leave them, and scopes as the middleware of a handshake makes them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def store(key: str | None = None) -> Any:
    """Return a session of the engine in the settings."""
    return import_module(settings.SESSION_ENGINE).SessionStore(key)


def signed_in(user: Any, backend: str = MODEL_BACKEND, **data: Any) -> Any:
    """Return a saved session in which a user is signed in."""
    session = store()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = backend
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    for name, value in data.items():
        session[name] = value
    session.save()
    return session


def scope_of(user: Any, session: Any) -> dict[str, Any]:
    """Return the keys of the scope of a handshake with a session."""
    fresh = store(session.session_key)
    fresh.get(SESSION_KEY)  # as the middleware reads it
    return {"user": user, "session": fresh}


ascope_of = sync_to_async(scope_of)
