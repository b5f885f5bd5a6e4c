"""The middleware of a handshake: cookies, sessions, users and the language."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

import channels.auth
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.sessions import CookieMiddleware, SessionMiddleware
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.http import HttpRequest
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.utils.module_loading import import_string

from .routing import consumer_urlpatterns
from .sessions.checks import user_of_session
from .types import Application, Middleware, Receive, Scope, Send

__all__ = ["AuthMiddleware", "AuthMiddlewareStack", "ConsumerRoutes", "LanguageMiddleware"]


class AuthMiddleware(channels.auth.AuthMiddleware):  # type: ignore[misc]  # Channels has no annotations
    """
    Puts the user of the session into the scope, like the middleware of Channels, but without changing the session.

    The one of Channels ignores SECRET_KEY_FALLBACKS: after the secret key was replaced, it deletes the session.
    """

    async def resolve_scope(self, scope: Scope) -> None:
        user = await database_sync_to_async(user_of_session)(scope["session"])
        if user is None:
            # The import needs the app registry.
            from django.contrib.auth.models import AnonymousUser

            user = AnonymousUser()
        scope["user"]._wrapped = user


def AuthMiddlewareStack(inner: Application) -> Application:  # noqa: N802 - named as in Channels, which it replaces
    """Wrap an application in the middleware for cookies, sessions and users."""
    return CookieMiddleware(SessionMiddleware(AuthMiddleware(inner)))  # type: ignore[no-any-return]


class LanguageMiddleware:
    """Activates the language of a handshake, from its language cookie or Accept-Language, for the whole connection."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest()
        request.COOKIES = scope["cookies"]
        for name, value in scope["headers"]:
            if name == b"accept-language":
                request.META["HTTP_ACCEPT_LANGUAGE"] = value.decode("latin-1")
        with translation.override(translation.get_language_from_request(request)):
            await self.inner(scope, receive, send)


class ConsumerRoutes:
    """
    The WebSocket application of all consumers that have a ``path``, within the middleware for the session, the user and
    the language, as far as the project uses it.

    Args:
        middleware: Further middleware, the outermost first. It runs after the session, the user and the language are
            known.
    """

    def __init__(self, middleware: Iterable[Middleware] = ()) -> None:
        layers = [*_standard_middleware(), *middleware]
        self.inner = URLRouter(consumer_urlpatterns())
        self.middleware_names = tuple(getattr(layer, "__name__", type(layer).__name__) for layer in layers)
        self._outermost: Application = self.inner
        for layer in reversed(layers):
            self._outermost = layer(self._outermost)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._outermost(scope, receive, send)


# Private.


def _standard_middleware() -> list[Middleware]:
    """Return the middleware for what the project's pages have: sessions, users, and a language for each request."""
    found: list[Middleware] = [CookieMiddleware]
    if _has_sessions():
        found.append(SessionMiddleware)
        if apps.is_installed("django.contrib.auth"):
            found.append(AuthMiddleware)
    if any(_is_locale_middleware(path) for path in settings.MIDDLEWARE):
        found.append(LanguageMiddleware)
    return found


def _has_sessions() -> bool:
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return apps.is_installed("django.contrib.sessions") or not issubclass(store, DatabaseStore)


def _is_locale_middleware(path: str) -> bool:
    middleware = import_string(path)
    return isinstance(middleware, type) and issubclass(middleware, LocaleMiddleware)
