"""The actions of operators in "Realtime": disconnecting clients, logging them out, and sending announcements."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from pydantic_core import to_json

from ..close_codes import CREDENTIALS_EXPIRED, DISCONNECTED, Close
from ..cluster.in_process import unreachable_layer
from ..exceptions import BackplaneUnavailable, WrongContext, WsrtError
from ..permissions import ANNOUNCE, DISCONNECT, VIEW
from ..presence.base import StoreUnavailable
from ..publish import publish_to_audience
from ..realms import realm_of, split_realm
from ..tenants import check_tenant, has_tenants
from .announcements import (
    InvalidAnnouncement,
    Problem,
    events_of,
    example_json,
    has_history,
    json_schema,
    read_event,
    summary_of,
)
from .base import RealtimeAdminBase, content_type, query_parameter
from .queries import local_namespaces, realm_arguments
from .targets import MAX_PROTECTED, Target, protected_superusers

LOGGED_CHARACTERS = 1000
"""Number of characters of an announcement's data that the log keeps."""


PAGES = ("changelist", "rooms", "users", "room", "user")
"""Pages that an action may redirect back to."""


class Actions(RealtimeAdminBase):
    """
    The views of the actions. Each action requires its own permission.

    An action that affects more than one connection must be confirmed first. Every action is recorded in Django's admin
    log, and isn't carried out if it can't be recorded.
    """

    def disconnect(self, request: HttpRequest) -> HttpResponse:
        """Close the connections of a target with 4410, after a confirmation if there is more than one."""
        return self._end_connections(request, DISCONNECTED)

    def log_out(self, request: HttpRequest) -> HttpResponse:
        """
        Close the connections of a target with 4401, after a confirmation if there is more than one.

        Their clients need new credentials to connect again. Sessions and tokens stay valid.
        """
        return self._end_connections(request, CREDENTIALS_EXPIRED)

    def _end_connections(self, request: HttpRequest, close: Close) -> HttpResponse:
        if request.method != "POST":
            self._require(request, DISCONNECT)
            # After signing in, Django redirects to the URL that was posted to. Show the pages and do nothing.
            return HttpResponseRedirect(self._url("changelist"))
        target = posted_target(request)
        self._require(request, DISCONNECT, target)
        back = self._return_url(request, target)
        reason = unreachable_reason(target) or self._protected_reason(request, target)
        if reason is not None:
            self.message_user(request, _failed_text(close) % reason, messages.ERROR)
            return HttpResponseRedirect(back)
        count = _count(target)
        if count == 0:
            self.message_user(request, _("There are no connections any more."), messages.WARNING)
        elif count == 1 or "confirm" in request.POST:
            self._disconnect(request, target, count, close)
        else:
            logs_out = close is CREDENTIALS_EXPIRED
            title = _("Log clients out of sockets") if logs_out else _("Disconnect clients")
            context = {"target": target, "count": count, "back": back, "logs_out": logs_out}
            return self._render(request, "disconnect", title, context)
        return HttpResponseRedirect(back)

    def announce(self, request: HttpRequest) -> HttpResponse:
        """Send an event to everyone, a room or a user: choose the event, edit its data, confirm."""
        namespace, name = query_parameter(request, "namespace"), query_parameter(request, "event")
        given = _linked_target(request, namespace)
        self._require(request, ANNOUNCE, given)
        model = events_of(namespace).get(name)
        if model is None or not _can_announce_to(namespace):
            return self._choose_event(request, namespace)
        context: dict[str, Any] = {
            "namespace": namespace,
            "event": name,
            "summary": summary_of(model),
            "has_history": has_history(model),
            "schema": to_json(json_schema(model), indent=2).decode(),
            "given": given,
            "kind": request.POST.get("to") or (given.token if given else "room" if has_history(model) else "everyone"),
            "to_name": request.POST.get("name", ""),
            "data": request.POST.get("data", example_json(model)),
            "crumbs": [(_("Announce"), self._url("announce", namespace=namespace)), (name, None)],
        }
        status = 200
        if request.method == "POST" and "edit" not in request.POST:
            done = self._announce(request, context)
            if done is not None:
                return done
            status = 400
        title = _("Announce “%s”") % name
        return self._render(request, "announce", title, context, status=status)

    def _choose_event(self, request: HttpRequest, namespace: str) -> HttpResponse:
        plain_namespace, tenant = split_realm(namespace)
        if plain_namespace:
            spaces = [namespace] if _can_announce_to(namespace) else local_namespaces()
        else:
            # The link was to a user across all namespaces of a tenant.
            known = [realm_of(space, tenant) for space in local_namespaces()]
            spaces = [realm for realm in known if _can_announce_to(realm)]
        # The target of the link stays selected.
        query = {key: request.GET[key] for key in ("room", "user") if key in request.GET}
        choices = [
            {
                "namespace": space,
                "events": [
                    {
                        "name": name,
                        "summary": summary_of(model),
                        "has_history": has_history(model),
                        "url": self._url("announce", namespace=space, event=name, **query),
                    }
                    for name, model in events_of(space).items()
                ],
            }
            for space in spaces
            if events_of(space)
        ]
        return self._render(request, "events", _("Announce"), {"choices": choices})

    def _announce(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse | None:
        """
        Send the posted announcement, or render the page that asks for confirmation.

        Returns:
            None if the announcement isn't valid. The errors are then in the context.
        """
        namespace, name, data = context["namespace"], context["event"], context["data"]
        try:
            target = _chosen_target(context)
        except ValueError:
            context["target_problem"] = _("Enter the name of the room or the id of the user.")
            return None
        self._require(request, ANNOUNCE, target)
        try:
            event = read_event(namespace, name, data, target.audience)
        except InvalidAnnouncement as error:
            context["problems"] = error.problems
            return None
        reason = unreachable_reason(target)
        if reason is not None:
            context["problems"] = [Problem(reason)]
            return None
        count = _count(target)
        if count != 1 and "confirm" not in request.POST:
            context |= {"target": target, "count": count}
            return self._render(request, "announce_confirm", _("Send the announcement"), context)
        message = _("Announced %(event)s: %(data)s") % {"event": name, "data": _truncate(data)}
        try:
            # The entry is written first and rolled back if publishing fails: nothing is sent without a log entry.
            with transaction.atomic(using=router.db_for_write(LogEntry)):
                self._log(request, target, message)
                publish_to_audience(target.audience, event, **realm_arguments(namespace), on_commit=False)
        except BackplaneUnavailable as error:
            context["problems"] = [
                Problem(_("The channel layer didn’t accept the announcement, so nothing was sent: %s") % error)
            ]
            return None
        sent = _("“%(event)s” was sent to %(target)s.") % {"event": name, "target": target}
        self.message_user(request, sent, messages.SUCCESS)
        return HttpResponseRedirect(self._return_url(request, target))

    def _disconnect(self, request: HttpRequest, target: Target, count: int | None, close: Close) -> None:
        protected = protected_superusers(request.user)
        try:
            # The entry is written first and rolled back if sending fails: nothing is done without a log entry.
            with transaction.atomic(using=router.db_for_write(LogEntry)):
                self._log(request, target, _log_text(close, count))
                target.disconnect(protected, close)
        except WsrtError as error:
            self.message_user(request, _failed_text(close) % error, messages.ERROR)
            return
        self.message_user(request, _done_text(close, target, count), messages.SUCCESS)
        if protected and target.kind != "user":
            self.message_user(request, _("Superusers stay connected: only superusers may disconnect them."))

    def _protected_reason(self, request: HttpRequest, target: Target) -> str | None:
        """Return the reason that this operator may not disconnect a target, None if there isn't any."""
        protected = protected_superusers(request.user)
        if target.kind == "user" and target.name in protected:
            return _("only superusers may disconnect a superuser.")
        if target.kind != "user" and len(protected) > MAX_PROTECTED:
            return _(
                "there are too many superusers to exclude from this action. Disconnect individual users, or ask a "
                "superuser."
            )
        return None

    def _log(self, request: HttpRequest, target: Target, message: str) -> None:
        """Add an entry to Django's admin log."""
        user: Any = request.user
        LogEntry.objects.create(
            user_id=user.pk,
            content_type=content_type(),
            object_id=target.token,
            object_repr=_escape_nul(str(target))[:200],
            action_flag=CHANGE,
            change_message=_escape_nul(message),
        )

    def _return_url(self, request: HttpRequest, target: Target) -> str:
        """Return the URL to redirect to after an action: the page that the form was on, or that of the target."""
        if not self._has_permission(request, VIEW):
            is_announcer = self._has_permission(request, ANNOUNCE)
            return self._url("announce") if is_announcer else reverse("admin:index", current_app=self.admin_site.name)
        back = request.POST.get("back", "")
        # Only the admin's own pages: an open redirect would be a vulnerability.
        if urlsplit(back)[:3] in {("", "", self._url(name)) for name in PAGES}:
            return back
        match target.kind:
            case "room":
                return self._url("room", namespace=target.namespace or "", room=target.name)
            case "user":
                return self._url(
                    "user", **({} if target.tenant is None else {"tenant": target.tenant}), user=target.name
                )
            case _:
                return self._url("changelist")


def _failed_text(close: Close) -> str:
    """Return the message of an action that was not carried out, with a placeholder for the reason."""
    return _("Not logged out: %s") if close is CREDENTIALS_EXPIRED else _("Not disconnected: %s")


def _log_text(close: Close, count: int | None) -> str:
    """Return the text of the log. ``count`` is None if the number of connections is unknown."""
    if close is CREDENTIALS_EXPIRED:
        if count is None:
            return _("Logged out of sockets (4401).")
        text = ngettext(
            "Logged out of sockets (4401): %(count)d connection.",
            "Logged out of sockets (4401): %(count)d connections.",
            count,
        )
    else:
        if count is None:
            return _("Disconnected (4410).")
        text = ngettext(
            "Disconnected (4410): %(count)d connection.", "Disconnected (4410): %(count)d connections.", count
        )
    return text % {"count": count}


def _done_text(close: Close, target: Target, count: int | None) -> str:
    """Return the message of an action that was carried out. ``count`` is None if the number is unknown."""
    if close is CREDENTIALS_EXPIRED:
        if count is None:
            return _("Logged out of sockets: %(target)s.") % {"target": target}
        text = ngettext(
            "Logged out of sockets: %(target)s, %(count)d connection.",
            "Logged out of sockets: %(target)s, %(count)d connections.",
            count,
        )
    else:
        if count is None:
            return _("Disconnected: %(target)s.") % {"target": target}
        text = ngettext(
            "Disconnected: %(target)s, %(count)d connection.",
            "Disconnected: %(target)s, %(count)d connections.",
            count,
        )
    return text % {"target": target, "count": count}


def _can_announce_to(realm: str) -> bool:
    """Return whether consumers of this process have connections in a realm."""
    namespace, tenant = split_realm(realm)
    with contextlib.suppress(ValueError):
        return namespace in local_namespaces() and (check_tenant(tenant) is None or has_tenants(namespace))
    return False


def posted_target(request: HttpRequest) -> Target:
    try:
        return Target.from_token(request.POST.get("target", ""))
    except ValueError as error:
        raise Http404(str(error)) from None


def _linked_target(request: HttpRequest, namespace: str) -> Target | None:
    """Return the room or user in the URL of the form, None if there isn't any."""
    for kind in ("room", "user"):
        if kind in request.GET:
            with contextlib.suppress(ValueError):
                return Target(kind, namespace, request.GET[kind])
    return None


def _chosen_target(context: dict[str, Any]) -> Target:
    """Return the target that was chosen in the form. Raises ValueError if it isn't valid."""
    kind, namespace = context["kind"], context["namespace"]
    if kind.startswith("["):
        target = Target.from_token(kind)
        if target.namespace != namespace:
            raise ValueError(f"{target} is not in {namespace!r}")
        return target
    if kind not in {"everyone", "room", "user"}:
        raise ValueError(f"{kind!r} isn't a valid target of an announcement")
    return Target(kind, namespace, "" if kind == "everyone" else context["to_name"])


def _count(target: Target) -> int | None:
    """Return the number of connections of a target, None if presence can't be read."""
    try:
        return target.count()
    except (StoreUnavailable, WrongContext):
        return None


def unreachable_reason(target: Target) -> str | None:
    """Return the reason that this process can't reach a target's connections, None if it can."""
    alias = unreachable_layer(target.plain_namespace)
    if alias is None:
        return None
    return _(
        "the channel layer “%s” doesn’t reach other processes, and this process holds no connections. Set "
        "CHANNEL_LAYERS to channels_redis.pubsub.RedisPubSubChannelLayer, here and in the server processes."
    ) % (alias,)


def _truncate(text: str) -> str:
    """Return text on one line, truncated to LOGGED_CHARACTERS."""
    line = " ".join(text.split())
    return line if len(line) <= LOGGED_CHARACTERS else f"{line[:LOGGED_CHARACTERS]}…"


def _escape_nul(text: str) -> str:
    """Escape NUL characters, which PostgreSQL rejects."""
    return text.replace("\0", "\\0")
