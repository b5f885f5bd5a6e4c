"""The door: what the admin asks before it shows a page, asked for the socket that keeps the page up to date."""

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
class Verdict:
    """
    Whether the pages are shown.

    Attributes:
        user: The user, as the pages see them now.
        close: How the connection ends if they are not; None if they are.
    """

    user: Any
    close: Close | None


def ask(scope: Scope, site: str, user: Any) -> Verdict:
    """
    Ask a site of the admin whether the client of a handshake may see who is connected. Queries the database.

    Where the handshake has a session, the question is a request that passes the project's middleware and the site's
    ``has_permission`` like that of a page: what those ask for (a second factor, an address) is asked for here too.

    Args:
        site: The name of the admin site that rendered the page.
        user: The user of a handshake without a session, for which no middleware is asked.
    """
    try:
        path = reverse(f"{site}:wsrt_realtime_live")
    except NoReverseMatch:
        logger.info("ROOT_URLCONF has no pages of an admin site %.50r: its socket is refused", site)
        return Verdict(user, FORBIDDEN)
    # Middleware activates languages and time zones, which must not stay.
    return contextvars.copy_context().run(_ask, scope, path, user)


def has_session(scope: Scope) -> bool:
    """Return whether a handshake has a session that was saved."""
    session = scope.get("session")
    return session is not None and session.session_key is not None


def _ask(scope: Scope, path: str, user: Any) -> Verdict:
    request = _request(scope, path)
    if has_session(scope):
        return _ask_the_page(request, scope["session"].session_key)
    request.user = user
    if user is None:
        return Verdict(user, CREDENTIALS_EXPIRED)
    view: Any = resolve(path).func
    admin = view.model_admin
    try:
        is_shown = admin.admin_site.has_permission(request) and admin.has_view_permission(request)
    except AttributeError as error:
        # It asks for something that only middleware puts into a request.
        logger.warning("the admin site %r can't be asked without a session: %r", admin.admin_site.name, error)
        is_shown = False
    return Verdict(user, None if is_shown else FORBIDDEN)


def _ask_the_page(request: Any, session_key: str) -> Verdict:
    request.COOKIES[settings.SESSION_COOKIE_NAME] = session_key
    response = _handler(tuple(settings.MIDDLEWARE)).get_response(request)
    user = getattr(request, "user", None)
    if response.status_code == 204:
        return Verdict(user, None)
    logger.info("the admin's page %s would answer %d", request.path, response.status_code)
    if not is_signed_in(user):
        return Verdict(user, CREDENTIALS_EXPIRED)
    return Verdict(user, FORBIDDEN)


def _request(scope: Scope, path: str) -> Any:
    """Return the request of a page that has the headers of a handshake."""
    headers = dict(scope.get("headers") or ())
    # Daphne names no scheme. The page's own does as well: redirects to HTTPS are all that depends on it.
    is_secure = scope.get("scheme") == "wss" or headers.get(b"origin", b"").startswith(b"https:")
    root = scope.get("root_path") or ""
    asked = {
        **scope,
        "type": "http",
        "method": "GET",
        "scheme": "https" if is_secure else "http",
        "path": root + path,
        "query_string": b"",
        "headers": scope.get("headers") or [],
    }
    return ASGIRequest(asked, io.BytesIO())


@functools.lru_cache(1)
def _handler(middleware: tuple[str, ...]) -> BaseHandler:
    """Return what answers requests as the project does. Made again where a test changes the middleware."""
    handler = BaseHandler()
    handler.load_middleware()
    return handler
