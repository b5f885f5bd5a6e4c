"""The HTTP views of wsrt: TicketView issues tickets to pages, HistoryView serves the history of rooms."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import unquote

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import get_script_prefix
from django.utils.cache import get_conditional_response
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from pydantic_core import to_json

from .conf import conf
from .connection.detached import HookRefused, require_permission
from .connection.hooks import call
from .connection.refusals import refusal_of
from .connection.users import is_signed_in
from .consumers import TypedEventConsumer
from .exceptions import DeclarationError, InvalidRoom, StoreUnavailable
from .history.access import run
from .history.base import Reading
from .history.queries import DEFAULT_LIMIT, read
from .metrics import counters
from .realms import NOT_GIVEN, RoomId, Tenant
from .tickets import issue_ticket, wait_for_ticket
from .types import Position, Scope

__all__ = ["HistoryView", "TicketView"]

MAX_LIMIT = 300
"""The maximum number of events in one answer of HistoryView."""

MAX_PAGE_BYTES = 256 * 1024
"""The maximum number of bytes of the events in one answer of HistoryView. A single event may be larger."""

STATUSES = {"not_found": 404, "invalid_data": 400, "rate_limited": 429, "unavailable": 503}
"""The statuses of HistoryView for refusals, by their codes. It is 403 for all others."""

HISTORY_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"}
"""The headers of each answer of HistoryView: caches store it for one client, and ask before each use."""


@method_decorator([never_cache, csrf_protect], name="dispatch")
class TicketView(View):
    """
    Issues a ticket for one WebSocket handshake of the signed-in user.

        urlpatterns = [path("ws-ticket/", TicketView.as_view())]

    The request is a POST with Django's CSRF token and the form field ``path``, the path of the WebSocket URL as the
    client uses it. The answer is ``{"ticket": "...", "expires_in": 30}``, the status 401 without a signed-in user, or
    the status 429 beyond ``WSRT["TICKET_RATE"]``. No cache stores it.

    The ticket is bound to the user, the session, the tenant and the path. Override the methods to change this.
    """

    http_method_names = ["post"]  # noqa: RUF012 - as in the base class

    def post(self, request: HttpRequest) -> HttpResponse:
        """Issue a ticket."""
        path = own_path(request.POST.get("path", ""))
        if path is None:
            return JsonResponse({"error": 'send the field "path": the path of the WebSocket URL'}, status=400)
        user = self.get_user(request)
        if user is None:
            return JsonResponse({"error": "sign in first"}, status=401)
        wait = wait_for_ticket(user)
        if wait is not None:
            headers = {"Retry-After": str(math.ceil(wait))}
            return JsonResponse({"error": "too many tickets, try again later"}, status=429, headers=headers)
        ticket = issue_ticket(user, path, tenant=self.get_tenant(request), session=self.get_session(request))
        return JsonResponse({"ticket": ticket, "expires_in": conf.ticket_seconds})

    def get_user(self, request: HttpRequest) -> models.Model | None:
        """Override to return the user that the connection will belong to. If it returns None, the status is 401."""
        user: Any = getattr(request, "user", None)
        return user if is_signed_in(user) else None

    def get_tenant(self, request: HttpRequest) -> Tenant:
        """
        Override to return the tenant of the request.

        By default ``WSRT["TENANT"]`` supplies it, if a consumer has tenants.
        """
        return NOT_GIVEN

    def get_session(self, request: HttpRequest) -> Any:
        """Override to return None if handshakes go to another host, which doesn't receive the session's cookie."""
        return getattr(request, "session", None)


class HistoryView(View):
    """
    Serves the history of rooms over HTTP, to clients that have no open WebSocket or have missed too many events.

        urlpatterns = [path("chat/history/", HistoryView.as_view(consumer=ChatConsumer))]

    A GET has the parameters ``room``; ``since``, a position ``EPOCH:OFFSET``, which the header ``Last-Event-ID`` may
    carry instead; and ``limit``, from 1 to 300. Without a position, the answer begins with the oldest event of the
    history. It is a JSON object:

    * ``room``, and ``epoch`` and ``offset``, the position of its last publication
    * ``events``: objects with ``event``, ``data``, ``epoch`` and ``offset``
    * ``has_more``: whether there are more events; request them with the position of the last event as ``since``
    * ``gap``: the reason why events after ``since`` are missing: "epoch", "trimmed" or "expired"; null if none are

    The consumer's hooks decide about each request, as they do for a connection: ``authenticate`` with the token of the
    header ``Authorization: Bearer``, ``tenant``, ``authorize``, ``expires_at``, ``identity`` and ``authorize_room``.
    ``on_connect`` isn't called. In these hooks ``self.scope`` is that of the request and ``self.kwargs`` are the
    arguments of its URL; ``join``, ``send``, the methods that publish, and ``self.id`` raise WrongContext.

    The status is 400 for invalid parameters, 401 if the client should sign in, 403 if ``authorize`` refuses, 404 if
    ``authorize_room`` refuses or the room doesn't exist, and 503 if the store doesn't answer.

    Attributes:
        consumer: The consumer class, whose rooms are served. It must override ``authorize_room``.
    """

    http_method_names = ["get", "head", "options"]  # noqa: RUF012 - as in the base class

    consumer: ClassVar[type[TypedEventConsumer[Any]] | None] = None
    """The consumer class, whose rooms are served. It must override ``authorize_room``."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """
        Return the view for a URL pattern.

        Raises:
            DeclarationError: There is no consumer, or it doesn't override ``authorize_room``.
        """
        consumer = initkwargs.get("consumer", cls.consumer)
        if not (isinstance(consumer, type) and issubclass(consumer, TypedEventConsumer)):
            raise DeclarationError(
                f"{cls.__name__} needs a consumer class: {cls.__name__}.as_view(consumer=...), not {consumer!r}"
            )
        if "authorize_room" not in consumer.overridden_hooks:
            raise DeclarationError(
                f"{cls.__name__} needs {consumer.__name__}.authorize_room, or every client could read every room: "
                "override `async def authorize_room(self, room: str) -> bool`"
            )
        view: Callable[..., HttpResponseBase] = super().as_view(**initkwargs)
        for alias in connections:
            # Django refuses asynchronous views with ATOMIC_REQUESTS. This one only reads.
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    async def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        """Serve a page of the history of a room."""
        assert self.consumer is not None  # noqa: S101 - as_view() requires one
        consumer = self.consumer()
        try:
            room, since, limit = _parameters(request)
            consumer.scope = _scope_of(request, kwargs, await self._user_of(request, consumer))
            room_id = await require_permission(consumer, room)
            reading = await _read(request, room_id, since, limit)
        except (_BadRequest, InvalidRoom) as error:
            return _problem(400, str(error))
        except HookRefused as error:
            return _refused(error, consumer)
        except StoreUnavailable as error:
            counters.count("history_views_unavailable", "a request for the history of a room failed: %s", error)
            return _problem(503, "The history can't be read at the moment; try again later", {"Retry-After": "5"})
        body = _body(room_id[1], reading)
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {**HISTORY_HEADERS, "ETag": etag}
        response = HttpResponse(body, content_type="application/json", headers=headers)
        # Only now: a client that may not read the room any more must not find out that nothing has changed.
        return get_conditional_response(request, etag=etag, response=response) or response

    async def get_user(self, request: HttpRequest) -> Any:
        """
        Override to return the user of a request, as a ``def`` or ``async def``. None for an anonymous user.

        By default, it returns ``request.user``, which Django's AuthenticationMiddleware sets. If the consumer overrides
        ``authenticate``, the view also accepts a token, which takes precedence over this user.
        """
        user = getattr(request, "user", None)
        if isinstance(user, SimpleLazyObject):
            # Its first use may query the session and the database.
            await sync_to_async(is_signed_in)(user)
        return user

    async def _user_of(self, request: HttpRequest, consumer: TypedEventConsumer[Any]) -> Any:
        try:
            user = await call(self.get_user, request)
        except Exception as error:
            refusal = refusal_of(error, consumer.refusal_for)
            if refusal is None:
                raise
            raise HookRefused(refusal, is_anonymous=True) from error
        # Imported here, because it needs the app registry.
        from django.contrib.auth.models import AnonymousUser

        return AnonymousUser() if user is None else user


class _BadRequest(ValueError):
    """Raised for a parameter that isn't valid. The text says what to send."""


def _parameters(request: HttpRequest) -> tuple[str, Position | None, int]:
    """Return the room, the position and the limit that a request asks for. Raises _BadRequest."""
    room = request.GET.get("room", "")
    if not room:
        raise _BadRequest('send the parameter "room": the name of a room')
    given = request.GET.get("since") or request.headers.get("Last-Event-ID") or None
    try:
        since = None if given is None else Position.parse(given)
    except ValueError as error:
        raise _BadRequest(f'"since" and Last-Event-ID are positions in the history of the room: {error}') from None
    text = request.GET.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= (limit := int(text)) <= MAX_LIMIT:
        raise _BadRequest(f'"limit" is a number from 1 to {MAX_LIMIT}')
    return room, since, limit


def _scope_of(request: HttpRequest, kwargs: dict[str, Any], user: Any) -> Scope:
    """Return the scope of a request, with what Channels' middleware would add to that of a connection."""
    if isinstance(request, ASGIRequest):
        scope: dict[str, Any] = dict(request.scope)
    else:
        meta = request.META
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "root_path": meta.get("SCRIPT_NAME", ""),
            "scheme": request.scheme,
            "query_string": meta.get("QUERY_STRING", "").encode("latin-1", "replace"),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers.items()],
            "client": [meta["REMOTE_ADDR"], int(meta.get("REMOTE_PORT") or 0)] if meta.get("REMOTE_ADDR") else None,
        }
    scope |= {"user": user, "cookies": request.COOKIES, "url_route": {"args": (), "kwargs": kwargs}}
    if hasattr(request, "session"):
        scope["session"] = request.session
    return scope


async def _read(request: HttpRequest, room_id: RoomId, since: Position | None, limit: int) -> Reading:
    if isinstance(request, ASGIRequest):
        return await read(room_id, since, limit=limit, max_bytes=MAX_PAGE_BYTES)
    # Below a WSGI server each request has an event loop of its own, and with it would have its own connection to the
    # store. The background loop keeps one.
    return await sync_to_async(run)("ahistory", read, room_id, since, limit=limit, max_bytes=MAX_PAGE_BYTES)


def _body(room: str, reading: Reading) -> bytes:
    """Return the JSON of an answer. The data of events is JSON already."""
    epoch = to_json(reading.position.epoch)
    events = b",".join(
        b'{"event":%b,"data":%b,"epoch":%b,"offset":%d}'
        % (to_json(entry.event), entry.data.encode(), epoch, entry.offset)
        for entry in reading.entries
    )
    return b'{"room":%b,"epoch":%b,"offset":%d,"events":[%b],"has_more":%b,"gap":%b}' % (
        to_json(room),
        epoch,
        reading.position.offset,
        events,
        to_json(reading.has_more),
        to_json(reading.gap),
    )


def _refused(error: HookRefused, consumer: TypedEventConsumer[Any]) -> HttpResponse:
    counters.count(
        "history_views_refused",
        "%s refused a request for the history of a room: %s",
        type(consumer).__name__,
        error.refusal.code,
        level=logging.INFO,
    )
    if error.wants_login:
        headers = {"WWW-Authenticate": "Bearer"} if consumer.catalog.login_takes_token else None
        return _problem(401, "Sign in first, or send credentials that are valid", headers)
    return _problem(STATUSES.get(error.refusal.code, 403), error.refusal.message)


def _problem(status: int, text: str, headers: dict[str, str] | None = None) -> HttpResponse:
    return JsonResponse({"error": text}, status=status, headers={**HISTORY_HEADERS, **(headers or {})})


def own_path(path: str) -> str | None:
    """Decode a path, and remove the script prefix from it. None if the path doesn't begin with a slash."""
    path, prefix = unquote(path), get_script_prefix()
    if not path.startswith("/"):
        return None
    return f"/{path.removeprefix(prefix)}" if path.startswith(prefix) else path
