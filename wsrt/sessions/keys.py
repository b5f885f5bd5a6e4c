"""The hashes that stand for the keys of sessions wherever a session is named outside of its connections."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from ..types import Scope

__all__ = ["hashes_of", "session_key_of"]

SALT = "wsrt.sessions"


def hashes_of(session_key: str) -> tuple[str, ...]:
    """
    Return the keyed hashes of a session's key: with SECRET_KEY, then with each of SECRET_KEY_FALLBACKS.

    Two processes find a common hash while the secret key is being rotated, as long as one of them knows the other's.
    """
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return tuple(salted_hmac(SALT, session_key, secret, algorithm="sha256").hexdigest() for secret in secrets)


def session_key_of(scope: Scope) -> str | None:
    """Return the key of the session in a scope. None if there is none. Doesn't query the session store."""
    session: Any = scope.get("session")
    # Not every middleware puts one of Django's sessions there.
    key = getattr(session, "session_key", None)
    return key if isinstance(key, str) and key else None
