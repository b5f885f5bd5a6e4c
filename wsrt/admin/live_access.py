"""Access to the live socket: granted as long as the admin site would show the page that opened it."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import io
import logging
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.urls import NoReverseMatch, resolve, reverse

from ..close_codes import CREDENTIALS_EXPIRED, FORBIDDEN, Close
from ..connection.users import is_signed_in
from ..types import Scope

logger = logging.getLogger("wsrt")


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """
    The result of an access check.

    Attributes:
        user: The user of the simulated request, current as of the check.
        refusal: The close code and reason if access is denied, None if it is granted.
    """

    user: Any
    refusal: Close | None


def check_access(scope: Scope, site: str, user: Any) -> Access:
    """
    Check whether the client of a handshake may see the pages of an admin site. Queries the database.

    If the handshake has a session, this simulates a request for a page: it passes the project's middleware and the
    site's ``has_permission``, so that their requirements (a second factor, an address) apply to the socket too.

    Args:
        scope: The scope of the handshake.
        site: The name of the admin site that rendered the page.
        user: The user of a handshake without a session, for which no middleware runs.
    """
    try:
        path = reverse(f"{site}:wsrt_realtime_live")
    except NoReverseMatch:
        logger.info(
            "refused the WebSocket of an admin page: ROOT_URLCONF doesn't contain an admin site named %.50r", site
        )
        return Access(user, FORBIDDEN)
    # In a copy of the context: the language and time zone that middleware activates must not leak into the caller.
    return contextvars.copy_context().run(_check_access, scope, path, user)


def has_session(scope: Scope) -> bool:
    """Return whether a handshake has a saved session."""
    session = scope.get("session")
    return session is not None and session.session_key is not None


def _check_access(scope: Scope, path: str, user: Any) -> Access:
    request = _make_request(scope, path)
    if has_session(scope):
        return _request_page(request, scope["session"].session_key)
    request.user = user
    if user is None:
        return Access(user, CREDENTIALS_EXPIRED)
    view: Any = resolve(path).func
    admin = view.model_admin
    try:
        is_granted = admin.admin_site.has_permission(request) and admin.has_view_permission(request)
    except AttributeError as error:
        # The site or the admin class needs an attribute that only middleware sets on a request.
        logger.warning("can't check access to the admin site %r without a session: %r", admin.admin_site.name, error)
        is_granted = False
    return Access(user, None if is_granted else FORBIDDEN)


def _request_page(request: Any, session_key: str) -> Access:
    request.COOKIES[settings.SESSION_COOKIE_NAME] = session_key
    response = _handler(tuple(settings.MIDDLEWARE)).get_response(request)
    user = getattr(request, "user", None)
    if response.status_code == 204:
        return Access(user, None)
    logger.info(
        "refused the WebSocket of an admin page, because a request for %s would be answered with the status %d",
        request.path,
        response.status_code,
    )
    if not is_signed_in(user):
        return Access(user, CREDENTIALS_EXPIRED)
    return Access(user, FORBIDDEN)


def _make_request(scope: Scope, path: str) -> Any:
    """Return a GET request for a page, with the headers of a handshake."""
    headers = dict(scope.get("headers") or ())
    # Daphne doesn't set the scheme. That of the origin is good enough: only redirects to HTTPS depend on it.
    is_secure = scope.get("scheme") == "wss" or headers.get(b"origin", b"").startswith(b"https:")
    root = scope.get("root_path") or ""
    http_scope = {
        **scope,
        "type": "http",
        "method": "GET",
        "scheme": "https" if is_secure else "http",
        "path": root + path,
        "query_string": b"",
        "headers": scope.get("headers") or [],
    }
    return ASGIRequest(http_scope, io.BytesIO())


@functools.lru_cache(1)
def _handler(middleware: tuple[str, ...]) -> BaseHandler:
    """
    Return a handler that passes requests through the project's middleware.

    Args:
        middleware: The setting MIDDLEWARE, which is the key of the cache: tests change it.
    """
    handler = BaseHandler()
    handler.load_middleware()
    return handler
