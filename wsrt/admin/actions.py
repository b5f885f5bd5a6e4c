"""What may be done in "Realtime": disconnect clients, send an announcement."""

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

from ..cluster.sending import unreachable_layer
from ..exceptions import BackplaneUnavailable, WrongContext, WsrtError
from ..permissions import ANNOUNCE, DISCONNECT, VIEW
from ..presence.base import StoreUnavailable
from ..publish import publish_to_audience
from ..realms import check_tenant, realm_of, split_realm
from ..tenants import has_tenants
from .announcements import (
    InvalidAnnouncement,
    Problem,
    events_of,
    example_json,
    is_kept,
    json_schema,
    read_event,
    summary_of,
)
from .base import RealtimeAdminBase, content_type, text_of
from .queries import known_namespaces, place_of
from .targets import MAX_SPARED, Target, spared_by

LOGGED_CHARACTERS = 1000
"""What the log keeps of the data of an announcement."""


PAGES = ("changelist", "rooms", "users", "room", "user")
"""Pages that an action leads back to."""


class Actions(RealtimeAdminBase):
    """
    Actions, each behind its own permission.

    Those that hit many are confirmed first; all are noted in Django's log of the admin, and not done unless they are.
    """

    def disconnect(self, request: HttpRequest) -> HttpResponse:
        """Close the connections of a target; more than one only once that is confirmed."""
        if request.method != "POST":
            self._require(request, DISCONNECT)
            # Who had to sign in first is led to what they had posted to: nothing is done, and they see where they are.
            return HttpResponseRedirect(self._url("changelist"))
        target = _posted(request)
        self._require(request, DISCONNECT, target)
        back = self._back(request, target)
        trouble = _unheard(target) or self._protected(request, target)
        if trouble is not None:
            self.message_user(request, _("Not disconnected: %s") % trouble, messages.ERROR)
            return HttpResponseRedirect(back)
        count = _count(target)
        if count == 0:
            self.message_user(request, _("Nobody is connected there any more."), messages.WARNING)
        elif count == 1 or "confirm" in request.POST:
            self._disconnect(request, target, count)
        else:
            context = {"target": target, "count": count, "back": back}
            return self._render(request, "disconnect", _("Disconnect clients"), context)
        return HttpResponseRedirect(back)

    def announce(self, request: HttpRequest) -> HttpResponse:
        """Send an event to everyone, a room or a user: choose it, write it, confirm it."""
        namespace, name = text_of(request, "namespace"), text_of(request, "event")
        given = _announced_to(request, namespace)
        self._require(request, ANNOUNCE, given)
        model = events_of(namespace).get(name)
        if model is None or not _is_announced_to(namespace):
            return self._choose_event(request, namespace)
        context: dict[str, Any] = {
            "namespace": namespace,
            "event": name,
            "summary": summary_of(model),
            "is_kept": is_kept(model),
            "schema": to_json(json_schema(model), indent=2).decode(),
            "given": given,
            "kind": request.POST.get("to") or (given.token if given else "room" if is_kept(model) else "everyone"),
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
        one, tenant = split_realm(namespace)
        if one:
            spaces = [namespace] if _is_announced_to(namespace) else known_namespaces()
        else:
            # The user of a tenant, in whatever namespace.
            known = [realm_of(space, tenant) for space in known_namespaces()]
            spaces = [realm for realm in known if _is_announced_to(realm)]
        # What is to be kept: to whom.
        query = {key: request.GET[key] for key in ("room", "user") if key in request.GET}
        choices = [
            {
                "namespace": space,
                "events": [
                    {
                        "name": name,
                        "summary": summary_of(model),
                        "is_kept": is_kept(model),
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
        """Send what was posted, or ask whether to; None where it is wrong, which the context then says."""
        namespace, name, data = context["namespace"], context["event"], context["data"]
        try:
            target = _chosen(context)
        except ValueError:
            context["target_problem"] = _("Give the name of the room, or the id of the user.")
            return None
        self._require(request, ANNOUNCE, target)
        try:
            event = read_event(namespace, name, data, target.audience)
        except InvalidAnnouncement as error:
            context["problems"] = error.problems
            return None
        unheard = _unheard(target)
        if unheard is not None:
            context["problems"] = [Problem(unheard)]
            return None
        count = _count(target)
        if count != 1 and "confirm" not in request.POST:
            context |= {"target": target, "count": count}
            return self._render(request, "announce_confirm", _("Send the announcement"), context)
        message = _("Announced %(event)s: %(data)s") % {"event": name, "data": _cut(data)}
        try:
            with transaction.atomic(using=router.db_for_write(LogEntry)):
                self._note(request, target, message)
                publish_to_audience(target.audience, event, **place_of(namespace), on_commit=False)
        except BackplaneUnavailable as error:
            context["problems"] = [Problem(_("The channel layer did not take it, so nothing was sent: %s") % error)]
            return None
        sent = _("“%(event)s” was sent to %(target)s.") % {"event": name, "target": target}
        self.message_user(request, sent, messages.SUCCESS)
        return HttpResponseRedirect(self._back(request, target))

    def _disconnect(self, request: HttpRequest, target: Target, count: int | None) -> None:
        spared = spared_by(request.user)
        message = (
            _("Disconnected (4410).")
            if count is None
            else ngettext(
                "Disconnected (4410): %(count)d connection.", "Disconnected (4410): %(count)d connections.", count
            )
            % {"count": count}
        )
        try:
            # Noted first, and only kept if the layer takes the command: nothing is done that is not noted.
            with transaction.atomic(using=router.db_for_write(LogEntry)):
                self._note(request, target, message)
                target.disconnect(spared)
        except WsrtError as error:
            text = _("Not disconnected: %s") % error
            self.message_user(request, text, messages.ERROR)
            return
        text = (
            _("Disconnected: %(target)s.") % {"target": target}
            if count is None
            else ngettext(
                "Disconnected: %(target)s, %(count)d connection.",
                "Disconnected: %(target)s, %(count)d connections.",
                count,
            )
            % {"target": target, "count": count}
        )
        self.message_user(request, text, messages.SUCCESS)
        if spared and target.kind != "user":
            self.message_user(request, _("Superusers stay connected: only a superuser may disconnect them."))

    def _protected(self, request: HttpRequest, target: Target) -> str | None:
        """Return why a target is not this operator's to disconnect; None where it is."""
        spared = spared_by(request.user)
        if target.kind == "user" and target.name in spared:
            return _("only a superuser may disconnect a superuser.")
        if target.kind != "user" and len(spared) > MAX_SPARED:
            return _("there are so many superusers that only one of them may disconnect others than single users.")
        return None

    def _note(self, request: HttpRequest, target: Target, message: str) -> None:
        """Write to Django's log of the admin: who did what, to whom."""
        user: Any = request.user
        LogEntry.objects.create(
            user_id=user.pk,
            content_type=content_type(),
            object_id=target.token,
            object_repr=_storable(str(target))[:200],
            action_flag=CHANGE,
            change_message=_storable(message),
        )

    def _back(self, request: HttpRequest, target: Target) -> str:
        """Return where an action leads back to: a page of ours that the form names, else the page of its target."""
        if not self._has_permission(request, VIEW):
            is_announcer = self._has_permission(request, ANNOUNCE)
            return self._url("announce") if is_announcer else reverse("admin:index", current_app=self.admin_site.name)
        back = request.POST.get("back", "")
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


def _is_announced_to(realm: str) -> bool:
    """Return whether consumers of this process have connections in a realm."""
    namespace, tenant = split_realm(realm)
    with contextlib.suppress(ValueError):
        return namespace in known_namespaces() and (check_tenant(tenant) is None or has_tenants(namespace))
    return False


def _posted(request: HttpRequest) -> Target:
    try:
        return Target.from_token(request.POST.get("target", ""))
    except ValueError as error:
        raise Http404(str(error)) from None


def _announced_to(request: HttpRequest, namespace: str) -> Target | None:
    """Return the room or user that the link to the form named."""
    for kind in ("room", "user"):
        if kind in request.GET:
            with contextlib.suppress(ValueError):
                return Target(kind, namespace, request.GET[kind])
    return None


def _chosen(context: dict[str, Any]) -> Target:
    """Return to whom a form sends. Raises ValueError."""
    kind, namespace = context["kind"], context["namespace"]
    if kind.startswith("["):
        target = Target.from_token(kind)
        if target.namespace != namespace:
            raise ValueError(f"{target} is not in {namespace!r}")
        return target
    if kind not in {"everyone", "room", "user"}:
        raise ValueError(f"an announcement goes to no {kind!r}")
    return Target(kind, namespace, "" if kind == "everyone" else context["to_name"])


def _count(target: Target) -> int | None:
    """Return how many connections a target has; None where nobody knows."""
    try:
        return target.count()
    except (StoreUnavailable, WrongContext):
        return None


def _unheard(target: Target) -> str | None:
    """Return why nobody would hear what is sent to a target from here; None where somebody may."""
    alias = unreachable_layer(target.name_of_namespace)
    if alias is None:
        return None
    return _(
        "nobody would hear it: the channel layer “%s” reaches this process only, which holds no connections. Set "
        "CHANNEL_LAYERS to channels_redis.pubsub.RedisPubSubChannelLayer, here and where the servers run."
    ) % (alias,)


def _cut(text: str) -> str:
    """Return text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= LOGGED_CHARACTERS else f"{line[:LOGGED_CHARACTERS]}…"


def _storable(text: str) -> str:
    """Return text as every database takes it: PostgreSQL has no NUL."""
    return text.replace("\0", "\\0")
