"""The pages of "Realtime" in Django's admin."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.translation import gettext as _
from pydantic_core import to_json

from ..conf import conf
from ..exceptions import WrongContext
from ..permissions import ANNOUNCE, VIEW
from ..presence.access import run
from ..presence.backends import make_store
from ..presence.base import BadCursor, StoreUnavailable
from ..protocol.events import meta
from ..realms import split_realm
from ..schema.description import describe
from .actions import Actions
from .base import content_type, text_of
from .queries import (
    Answer,
    Question,
    WatchOverview,
    WatchRoom,
    WatchRooms,
    WatchUser,
    WatchUsers,
    ask,
    known_namespaces,
    require_shown,
    rows_with_users,
    shown_namespaces,
)
from .schema import FILES, UNDESCRIBABLE, available_files, closes, consumers, file_text
from .targets import Target
from .usernames import Usernames

View = Callable[..., HttpResponse]

ENTRIES = 50
"""Rows of a page of the log."""


class RealtimeAdmin(Actions):
    """
    Who is connected, and what may be done to them.

    Each page and each action asks for its own permission: ``wsrt.view_realtime``, ``wsrt.disconnect``,
    ``wsrt.announce``.
    """

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
        live: Any = self.admin_site.admin_view(self.live)
        live.model_admin = self
        return [
            *pages,
            path("schema/<str:name>", download, name="wsrt_realtime_schema_file"),
            path("live/", live, name="wsrt_realtime_live"),
        ]

    # Pages.

    def overview(self, request: HttpRequest) -> HttpResponse:
        """Nodes and namespaces."""
        if not self._has_permission(request, VIEW) and self._has_permission(request, ANNOUNCE):
            return HttpResponseRedirect(self._url("announce"))
        self._require(request, VIEW)
        return self._page(request, "overview", _("Realtime"), WatchOverview(), {})

    def rooms(self, request: HttpRequest) -> HttpResponse:
        """Rooms of a namespace."""
        self._require(request, VIEW)
        namespace, spaces = self._namespace(request)
        question = WatchRooms(
            namespace=namespace, search=text_of(request, "q"), after=text_of(request, "after") or None
        )
        context = {
            "namespace": namespace,
            "tenant": split_realm(namespace)[1],
            "namespaces": spaces,
            "pagers": _pagers(request, "after", namespace=namespace),
        }
        return self._page(request, "rooms", _("Rooms"), question, context)

    def users(self, request: HttpRequest) -> HttpResponse:
        """Users of a namespace."""
        self._require(request, VIEW)
        namespace, spaces = self._namespace(request)
        question = WatchUsers(
            namespace=namespace, search=text_of(request, "q"), after=text_of(request, "after") or None
        )
        question.also(*Usernames(request.user).search(question.search))
        context = {
            "namespace": namespace,
            "tenant": split_realm(namespace)[1],
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
            members_after=text_of(request, "members_after") or None,
            sessions_after=text_of(request, "sessions_after") or None,
        )
        context = {
            "target": target,
            "namespace": question.namespace,
            "tenant": target.tenant,
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
        usernames = Usernames(request.user)
        context = {
            "target": target,
            "name": usernames.get(target.name),
            "account": self._account(usernames, target),
            "announce_url": self._url("announce", **_where(target), user=target.name),
            "crumbs": [(_("Users"), self._url("users")), (target.name, None)],
        }
        question = WatchUser(user=target.name, tenant=target.tenant)
        return self._page(request, "user", _("User %s") % target.name, question, context)

    def log(self, request: HttpRequest) -> HttpResponse:
        """What was done here, and by whom."""
        self._require(request, VIEW)
        entries = LogEntry.objects.filter(content_type=content_type()).select_related("user")
        pages = Paginator(entries.order_by("-action_time", "-pk"), ENTRIES)
        page = pages.get_page(request.GET.get("page"))
        return self._render(request, "log", _("Log"), {"page": page, "pages": pages.get_elided_page_range(page.number)})

    def schema(self, request: HttpRequest) -> HttpResponse:
        """What clients may send and get."""
        self._require(request, VIEW)
        search = text_of(request, "q").strip()
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

    def live(self, request: HttpRequest) -> HttpResponse:
        """Answer 204 to those who may see who is connected: what the live socket asks in the place of a page."""
        self._require(request, VIEW)
        return HttpResponse(status=204)

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
        Usernames(request.user).fill(rows_with_users(answer))
        shown = {
            "question": question,
            "answer": answer,
            "watch": to_json({"event": meta(question).name, "data": question}).decode(),
        }
        return self._render(request, name, title, {**context, **shown})

    def _file_url(self, name: str) -> str:
        return reverse("admin:wsrt_realtime_schema_file", args=[name], current_app=self.admin_site.name)

    def _namespace(self, request: HttpRequest) -> tuple[str, list[str]]:
        """Return the namespace that is asked for, else the first, and those that there are."""
        try:
            spaces: list[str] = run(shown_namespaces)
        except (StoreUnavailable, WrongContext):
            spaces = known_namespaces()
        wanted = text_of(request, "namespace")
        try:
            require_shown(wanted)
        except ValueError as error:
            raise Http404(str(error)) from None
        return wanted or (spaces[0] if spaces else ""), sorted({*spaces, *([wanted] if wanted else [])})

    def _account(self, usernames: Usernames, target: Target) -> str | None:
        """Return where this admin shows the user as one of Django's; None where it does not."""
        key = usernames.primary_key(target.name) if usernames.get(target.name) else None
        if key is None:
            return None
        options = usernames.model._meta
        with contextlib.suppress(NoReverseMatch):
            return reverse(
                f"admin:{options.app_label}_{options.model_name}_change",
                args=[quote(key)],
                current_app=self.admin_site.name,
            )
        return None


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


def _where(target: Target) -> dict[str, str]:
    """Return what the address of a user says of the tenant."""
    return {"namespace": target.namespace} if target.namespace else {}


def _target(request: HttpRequest, kind: Any) -> Target:
    """Return whose page is asked for. Raises Http404 where there can be nobody of that name."""
    try:
        tenant = text_of(request, "tenant")
        namespace = text_of(request, "namespace") if kind == "room" else f"@{tenant}" if tenant else None
        return Target(kind, namespace, text_of(request, kind))
    except ValueError as error:
        raise Http404(str(error)) from None


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
