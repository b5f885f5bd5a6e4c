"""The pages of "Realtime" in Django's admin."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import django
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, get_script_prefix, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from pydantic_core import to_json

from ..clients.description import describe
from ..conf import conf
from ..exceptions import BackplaneUnavailable, WrongContext, WsrtError
from ..layers import is_local
from ..presence.access import run
from ..presence.store import BadCursor, StoreUnavailable
from ..presence.stores import is_shared, make_store, option
from ..protocol.events import meta
from ..publish import deaf_layer, publish_to_audience
from .announcing import Problem, Wrong, events_of, is_kept, json_schema, purpose, read_event, skeleton
from .live import AdminConsumer
from .names import Names
from .pages import (
    Answer,
    Question,
    WatchOverview,
    WatchRoom,
    WatchRooms,
    WatchUser,
    WatchUsers,
    ask,
    is_hidden,
    known_namespaces,
    rows_with_users,
    shown_namespaces,
)
from .realtime import ANNOUNCE, DISCONNECT, VIEW, Realtime
from .schema import FILES, UNDESCRIBABLE, available_files, closes, consumers, file_text
from .targets import Target

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

View = Callable[..., HttpResponse]

LOGGED_CHARACTERS = 1000
"""What the log keeps of the data of an announcement."""

ENTRIES = 50
"""Rows of a page of the log."""

TEMPLATES = "admin/wsrt/realtime"

PAGES = ("changelist", "rooms", "users", "room", "user")
"""Pages that an action leads back to."""


class RealtimeAdmin(ModelAdmin):
    """
    Who is connected, and what may be done to them.

    Each page and each action asks for its own permission: ``wsrt.view_realtime``, ``wsrt.disconnect``,
    ``wsrt.announce``.
    """

    live_path = "ws/wsrt/admin/"
    """Where ``wsrt.routing.admin_urlpatterns`` is served, below the script prefix."""

    # What Django's admin asks of a model.

    def check(self, **kwargs: Any) -> list[Any]:
        """There are no fields to check."""
        return []

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, VIEW)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request, VIEW) or self._may(request, ANNOUNCE)

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        return {"add": False, "change": False, "delete": False, "view": self.has_module_permission(request)}

    def get_urls(self) -> list[URLPattern]:
        """Return the pages. Names of rooms and users stand in the query: they may be anything, also "../"."""
        views: dict[str, View] = {
            "changelist": self.overview,
            "rooms": self.rooms,
            "users": self.users,
            "room": self.room,
            "user": self.user,
            "disconnect": self.disconnect,
            "announce": self.announce,
            "schema": self.schema,
            "log": self.log,
        }
        pages = [
            path(
                "" if name == "changelist" else f"{name}/",
                self.admin_site.admin_view(view),
                name=f"wsrt_realtime_{name}",
            )
            for name, view in views.items()
        ]
        download = self.admin_site.admin_view(self.schema_file)
        return [*pages, path("schema/<str:name>", download, name="wsrt_realtime_schema_file")]

    # Pages.

    def overview(self, request: HttpRequest) -> HttpResponse:
        """Nodes and namespaces."""
        if not self._may(request, VIEW) and self._may(request, ANNOUNCE):
            return HttpResponseRedirect(self._url("announce"))
        self._require(request, VIEW)
        return self._page(request, "overview", _("Realtime"), WatchOverview(), {})

    def rooms(self, request: HttpRequest) -> HttpResponse:
        """Rooms of a namespace."""
        self._require(request, VIEW)
        namespace, spaces = self._namespace(request)
        question = WatchRooms(namespace=namespace, search=_text(request, "q"), after=_text(request, "after") or None)
        context = {
            "namespace": namespace,
            "namespaces": spaces,
            "pagers": _pagers(request, "after", namespace=namespace),
        }
        return self._page(request, "rooms", _("Rooms"), question, context)

    def users(self, request: HttpRequest) -> HttpResponse:
        """Users of a namespace."""
        self._require(request, VIEW)
        namespace, spaces = self._namespace(request)
        question = WatchUsers(namespace=namespace, search=_text(request, "q"), after=_text(request, "after") or None)
        question.also(Names(request.user).matching(question.search))
        context = {
            "namespace": namespace,
            "namespaces": spaces,
            "pagers": _pagers(request, "after", namespace=namespace),
        }
        return self._page(request, "users", _("Users"), question, context)

    def room(self, request: HttpRequest) -> HttpResponse:
        """One room: its members and their connections."""
        self._require(request, VIEW)
        target = _target(request, "room")
        question = WatchRoom(
            namespace=target.namespace or "",
            room=target.name,
            members_after=_text(request, "members_after") or None,
            sessions_after=_text(request, "sessions_after") or None,
        )
        context = {
            "target": target,
            "namespace": question.namespace,
            "announce_url": self._url("announce", namespace=question.namespace, room=target.name),
            "crumbs": [
                (_("Rooms of %s") % question.namespace, self._url("rooms", namespace=question.namespace)),
                (target.name, None),
            ],
            "pagers": _pagers(request, "members_after", "sessions_after"),
        }
        return self._page(request, "room", _("Room %s") % target.name, question, context)

    def user(self, request: HttpRequest) -> HttpResponse:
        """One user: their connections in all namespaces."""
        self._require(request, VIEW)
        target = _target(request, "user")
        names = Names(request.user)
        context = {
            "target": target,
            "name": names.of(target.name),
            "account": self._account(names, target),
            "announce_url": self._url("announce", user=target.name),
            "crumbs": [(_("Users"), self._url("users")), (target.name, None)],
        }
        return self._page(request, "user", _("User %s") % target.name, WatchUser(user=target.name), context)

    def log(self, request: HttpRequest) -> HttpResponse:
        """What was done here, and by whom."""
        self._require(request, VIEW)
        entries = LogEntry.objects.filter(content_type=_content_type()).select_related("user")
        pages = Paginator(entries.order_by("-action_time", "-pk"), ENTRIES)
        page = pages.get_page(request.GET.get("page"))
        return self._render(request, "log", _("Log"), {"page": page, "pages": pages.get_elided_page_range(page.number)})

    def schema(self, request: HttpRequest) -> HttpResponse:
        """What clients may send and get."""
        self._require(request, VIEW)
        search = _text(request, "q").strip()
        context: dict[str, Any] = {"search": search}
        try:
            description = describe()
        except UNDESCRIBABLE as error:
            return self._render(request, "schema", _("Schema"), {**context, "schema_trouble": str(error)})
        rows = consumers(description, search)
        context |= {
            "consumers": rows,
            "is_empty": bool(search) and all(row.is_hidden for row in rows),
            "closes": closes(description),
            "files": [{"label": label, "url": self._file_url(name)} for name, label in available_files().items()],
        }
        return self._render(request, "schema", _("Schema"), context)

    def schema_file(self, request: HttpRequest, name: str) -> HttpResponse:
        """The schema as a document, to download."""
        self._require(request, VIEW)
        if name not in available_files():
            raise Http404("There is no such document, or what writes it is not installed.")
        try:
            text = file_text(name)
        except UNDESCRIBABLE:
            return HttpResponseRedirect(self._url("schema"))  # which says why
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return HttpResponse(text, content_type=FILES[name], headers=headers)

    # Actions.

    def disconnect(self, request: HttpRequest) -> HttpResponse:
        """Close the connections of a target; more than one only once that is confirmed."""
        self._require(request, DISCONNECT)
        if request.method != "POST":
            # Who had to sign in first is led to what they had posted to: nothing is done, and they see where they are.
            return HttpResponseRedirect(self._url("changelist"))
        target = _posted(request)
        back = self._back(request, target)
        unheard = _unheard(target)
        if unheard is not None:
            self.message_user(request, _("Not disconnected: %s") % unheard, messages.ERROR)
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
        self._require(request, ANNOUNCE)
        namespace, name = _text(request, "namespace"), _text(request, "event")
        model = events_of(namespace).get(name)
        if model is None or namespace not in known_namespaces():
            return self._choose_event(request, namespace)
        given = _announced_to(request, namespace)
        context: dict[str, Any] = {
            "namespace": namespace,
            "event": name,
            "purpose": purpose(model),
            "is_kept": is_kept(model),
            "schema": to_json(json_schema(model), indent=2).decode(),
            "given": given,
            "kind": request.POST.get("to") or (given.token if given else "room" if is_kept(model) else "everyone"),
            "to_name": request.POST.get("name", ""),
            "data": request.POST.get("data", skeleton(model)),
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
        spaces = [namespace] if namespace in known_namespaces() else known_namespaces()
        # What is to be kept: to whom.
        query = {key: request.GET[key] for key in ("room", "user") if key in request.GET}
        choices = [
            {
                "namespace": space,
                "events": [
                    {
                        "name": name,
                        "purpose": purpose(model),
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
        try:
            event = read_event(namespace, name, data, target.audience)
        except Wrong as error:
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
                publish_to_audience(target.audience, event, namespace=namespace, on_commit=False)
        except BackplaneUnavailable as error:
            context["problems"] = [Problem(_("The channel layer did not take it, so nothing was sent: %s") % error)]
            return None
        sent = _("“%(event)s” was sent to %(target)s.") % {"event": name, "target": target}
        self.message_user(request, sent, messages.SUCCESS)
        return HttpResponseRedirect(self._back(request, target))

    def _disconnect(self, request: HttpRequest, target: Target, count: int | None) -> None:
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
                target.disconnect()
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

    def _note(self, request: HttpRequest, target: Target, message: str) -> None:
        """Write to Django's log of the admin: who did what, to whom."""
        user: Any = request.user
        LogEntry.objects.create(
            user_id=user.pk,
            content_type=_content_type(),
            object_id=target.token,
            object_repr=_storable(str(target))[:200],
            action_flag=CHANGE,
            change_message=_storable(message),
        )

    # Private.

    def _page(
        self, request: HttpRequest, name: str, title: str, question: Question, context: dict[str, Any]
    ) -> HttpResponse:
        """Render a page that shows the answer to a question, and keeps it up to date where there is a route."""
        try:
            answer: Answer | None = ask(question)
        except BadCursor as error:
            raise Http404("There is no such page of the list: begin with the first.") from error
        except (StoreUnavailable, WrongContext) as error:
            return self._render(request, name, title, {**context, "trouble": _trouble(error), "question": question})
        assert answer is not None  # noqa: S101
        Names(request.user).put(rows_with_users(answer))
        shown = {
            "question": question,
            "answer": answer,
            "watch": to_json({"event": meta(question).name, "data": question}).decode(),
        }
        return self._render(request, name, title, {**context, **shown})

    def _render(
        self, request: HttpRequest, name: str, title: str, context: dict[str, Any], *, status: int = 200
    ) -> HttpResponse:
        request.current_app = self.admin_site.name  # read by {% url %}
        zone = timezone.get_current_timezone()
        # Text and address; the last one is the page itself.
        inner = [] if name == "overview" else context.get("crumbs", [(title, None)])
        crumbs = [(_("Realtime"), self._url("changelist") if inner else None), *inner]
        common = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "page_name": name,
            "has_list_of_crumbs": django.VERSION >= (6, 1),
            "is_shared": is_shared(),
            # Where presence is of the whole cluster, actions should be too.
            "reaches_all": not is_shared() or not is_local(conf.channel_layer_alias),
            "has_details": option("DETAILS", False) is True,
            "may_view": self._may(request, VIEW),
            "may_disconnect": self._may(request, DISCONNECT),
            "may_announce": self._may(request, ANNOUNCE),
            "live_url": get_script_prefix() + self.live_path,
            "live_schema": AdminConsumer.catalog.schema_hash,
            "zone": zone,
            "zone_name": str(zone),
            "this_page": request.get_full_path(),
        }
        return TemplateResponse(
            request, f"{TEMPLATES}/{name}.html", {**common, **context, "crumbs": crumbs}, status=status
        )

    def _may(self, request: HttpRequest, permission: str) -> bool:
        return request.user.has_perm(permission)

    def _require(self, request: HttpRequest, permission: str) -> None:
        if not self._may(request, permission):
            raise PermissionDenied

    def _url(self, name: str, **query: str) -> str:
        url = reverse(f"admin:wsrt_realtime_{name}", current_app=self.admin_site.name)
        return f"{url}?{urlencode(query)}" if query else url

    def _file_url(self, name: str) -> str:
        return reverse("admin:wsrt_realtime_schema_file", args=[name], current_app=self.admin_site.name)

    def _namespace(self, request: HttpRequest) -> tuple[str, list[str]]:
        """Return the namespace that is asked for, else the first, and those that there are."""
        try:
            spaces: list[str] = run(shown_namespaces)
        except (StoreUnavailable, WrongContext):
            spaces = known_namespaces()
        wanted = _text(request, "namespace")
        if is_hidden(wanted):
            raise Http404("This namespace is wsrt's own.")
        return wanted or (spaces[0] if spaces else ""), sorted({*spaces, *([wanted] if wanted else [])})

    def _back(self, request: HttpRequest, target: Target) -> str:
        """Return where an action leads back to: a page of ours that the form names, else the page of its target."""
        if not self._may(request, VIEW):
            is_announcer = self._may(request, ANNOUNCE)
            return self._url("announce") if is_announcer else reverse("admin:index", current_app=self.admin_site.name)
        back = request.POST.get("back", "")
        if urlsplit(back)[:3] in {("", "", self._url(name)) for name in PAGES}:
            return back
        match target.kind:
            case "room":
                return self._url("room", namespace=target.namespace or "", room=target.name)
            case "user":
                return self._url("user", user=target.name)
            case _:
                return self._url("changelist")

    def _account(self, names: Names, target: Target) -> str | None:
        """Return where this admin shows the user as one of Django's; None where it does not."""
        key = names.key(target.name) if names.of(target.name) else None
        if key is None:
            return None
        options = names.model._meta
        with contextlib.suppress(NoReverseMatch):
            return reverse(
                f"admin:{options.app_label}_{options.model_name}_change",
                args=[quote(key)],
                current_app=self.admin_site.name,
            )
        return None


def _text(request: HttpRequest, key: str) -> str:
    return request.GET.get(key, "")


def _pagers(request: HttpRequest, *keys: str, **given: str) -> dict[str, dict[str, str]]:
    """Return for each list of a page where its first page is, and what stands before the cursor of the next."""
    pagers = {}
    for key in keys:
        query = request.GET.copy()
        query.pop(key, None)
        for name, value in given.items():
            query[name] = value
        first = f"?{query.urlencode()}"
        pagers[key] = {"first": first, "prefix": f"{first}{'&' if query else ''}{key}="}
    return pagers


def _target(request: HttpRequest, kind: Any) -> Target:
    """Return whose page is asked for. Raises Http404 where there can be nobody of that name."""
    try:
        return Target(kind, _text(request, "namespace") if kind == "room" else None, _text(request, kind))
    except ValueError as error:
        raise Http404(str(error)) from None


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
    alias = deaf_layer(target.namespace)
    if alias is None:
        return None
    return _(
        "nobody would hear it: the channel layer “%s” reaches this process only, which holds no connections. Set "
        "CHANNEL_LAYERS to channels_redis.pubsub.RedisPubSubChannelLayer, here and where the servers run."
    ) % (alias,)


def _content_type() -> ContentType:
    model: Any = Realtime  # which stands in the place of one
    return ContentType.objects.get_for_model(model, for_concrete_model=False)


def _trouble(error: Exception) -> str:
    """Return what keeps a page from showing anything, and what to do."""
    if isinstance(error, WrongContext):
        return _(
            "Presence is kept in the memory of each process, and this process holds no connections. Name a store that "
            'all processes share in the setting WSRT["PRESENCE"]["BACKEND"]: wsrt.presence.redis.RedisPresence or '
            "wsrt.presence.cache.CachePresence."
        )
    try:
        make_store(conf.presence)
    except Exception as reason:
        return _(
            'The setting WSRT["PRESENCE"] names no store that can be used, so nobody is counted: %s. “manage.py check” '
            "says what is wrong with it."
        ) % (reason,)
    return _(
        "The store of presence does not answer, so nobody knows who is connected. Connections and publications are not "
        'touched by this. See that it runs and that WSRT["PRESENCE"]["LOCATION"] is right; “manage.py wsrt_doctor” '
        "examines it. It said: %s"
    ) % (error,)


def _cut(text: str) -> str:
    """Return text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= LOGGED_CHARACTERS else f"{line[:LOGGED_CHARACTERS]}…"


def _storable(text: str) -> str:
    """Return text as every database takes it: PostgreSQL has no NUL."""
    return text.replace("\0", "\\0")
