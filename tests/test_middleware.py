"""The middleware of consumers that have a path: what it consists of follows from the project's settings."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.middleware.locale import LocaleMiddleware

from tests.support.sessions import signed_in
from wsrt.middleware import AuthMiddlewareStack, ConsumerRoutes
from wsrt.types import Scope

SESSIONS, AUTH = "django.contrib.sessions", "django.contrib.auth"


class OwnLocaleMiddleware(LocaleMiddleware):
    """Chooses another language."""


def function_middleware(get_response: Any) -> Any:
    return get_response


@pytest.mark.parametrize(
    ("missing", "engine", "expected"),
    [
        ((), "db", ["CookieMiddleware", "SessionMiddleware", "AuthMiddleware"]),
        ((AUTH,), "db", ["CookieMiddleware", "SessionMiddleware"]),
        ((SESSIONS,), "db", ["CookieMiddleware"]),
        ((SESSIONS,), "cached_db", ["CookieMiddleware"]),
        ((SESSIONS,), "signed_cookies", ["CookieMiddleware", "SessionMiddleware", "AuthMiddleware"]),
        ((SESSIONS, AUTH), "cache", ["CookieMiddleware", "SessionMiddleware"]),
    ],
)
def test_sessions_and_users(
    monkeypatch: pytest.MonkeyPatch, settings: Any, missing: tuple[str, ...], engine: str, expected: list[str]
) -> None:
    """There are sessions and users as far as the apps for them are installed, or aren't needed."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    is_installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name not in missing and is_installed(name))
    assert list(ConsumerRoutes().middleware_names) == expected


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ("django.middleware.locale.LocaleMiddleware", True),
        (f"{__name__}.OwnLocaleMiddleware", True),
        ("django.middleware.common.CommonMiddleware", False),
        (f"{__name__}.function_middleware", False),
    ],
)
def test_language(settings: Any, middleware: str, expected: bool) -> None:
    """A handshake has a language of its own if the project's pages have one."""
    settings.MIDDLEWARE = [middleware]
    assert ("LanguageMiddleware" in ConsumerRoutes().middleware_names) is expected


def test_own_middleware() -> None:
    """Middleware of the project wraps the routes inside of the standard one, in its order."""
    order: list[str] = []

    def layer(name: str) -> Any:
        def wrap(inner: Any) -> Any:
            order.append(name)
            return inner

        return wrap

    routes = ConsumerRoutes([layer("outer"), layer("inner")])
    assert order == ["inner", "outer"]
    assert list(routes.middleware_names)[-2:] == ["wrap", "wrap"]


def test_user_of_a_handshake(db: None, settings: Any) -> None:
    """A handshake doesn't change its session, and is signed in while the previous secret key is a fallback."""
    user = get_user_model().objects.create_user("ada")
    session = signed_in(user)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "new"
    seen: list[Any] = []

    async def application(scope: Scope, receive: Any, send: Any) -> None:
        seen.append(scope["user"]._wrapped)

    def shake_hands() -> Any:
        cookie = f"{settings.SESSION_COOKIE_NAME}={session.session_key}".encode()
        scope = {"type": "websocket", "headers": [(b"cookie", cookie)]}
        async_to_sync(AuthMiddlewareStack(application))(scope, None, None)
        assert Session.objects.filter(session_key=session.session_key).exists()
        return seen.pop()

    assert shake_hands() == AnonymousUser()
    settings.SECRET_KEY_FALLBACKS = [old]
    assert shake_hands() == user
