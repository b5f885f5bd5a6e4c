"""The HTTP view of wsrt: TicketView, which issues tickets to pages."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import unquote

from django.db import models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import get_script_prefix
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect

from .conf import conf
from .connection.users import is_signed_in
from .realms import NOT_GIVEN, Tenant
from .tickets import issue_ticket, wait_for_ticket

__all__ = ["TicketView"]


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
        """Override to return the user that the connection will belong to. If it returns None, the answer is a 401."""
        user: Any = getattr(request, "user", None)
        return user if is_signed_in(user) else None

    def get_tenant(self, request: HttpRequest) -> Tenant:
        """Override to return the tenant of the request. By default ``WSRT["TENANT"]`` supplies it, if needed."""
        return NOT_GIVEN

    def get_session(self, request: HttpRequest) -> Any:
        """Override to return None if handshakes go to another host, which doesn't receive the session's cookie."""
        return getattr(request, "session", None)


def own_path(path: str) -> str | None:
    """Return the decoded path of a URL without the script prefix, or None if it isn't the path of a URL."""
    path, prefix = unquote(path), get_script_prefix()
    if not path.startswith("/"):
        return None
    return f"/{path.removeprefix(prefix)}" if path.startswith(prefix) else path
