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
from ..permissions import ANNOUNCE, FORGET, VIEW
from ..presence.access import run
from ..presence.backends import make_store
from ..presence.base import BadCursor, StoreUnavailable
from ..protocol.events import meta
from ..realms import split_realm
from ..schema.description import describe
from .base import content_type, query_parameter
from .history import HistoryActions, past_rows
from .queries import (
    Query,
    Result,
    WatchOverview,
    WatchRoom,
    WatchRooms,
    WatchUser,
    WatchUsers,
    keeps_history,
    local_namespaces,
    require_visible,
    rows_with_users,
    run_query,
    visible_realms,
)
from .schema import DESCRIBE_ERRORS, FILES, available_files, close_rows, consumer_rows, file_text
from .targets import Target
from .usernames import Usernames

View = Callable[..., HttpResponse]

LOG_ROWS = 50
"""Number of rows on a page of the log."""


class RealtimeAdmin(HistoryActions):
    """
    The pages of "Realtime": who is connected, what clients may send, and a log of the operators' actions.

    Each page and each action requires its own permission: ``wsrt.view_realtime``, ``wsrt.disconnect``,
    ``wsrt.announce`` or ``wsrt.forget``. Subclass it to restrict operators to some targets, see RealtimeAdminBase.
    """

    def get_urls(self) -> list[URLPattern]:
        """Return the URLs. Names go into the query string, because they can be anything, even "../"."""
        views: dict[str, View] = {
            "changelist": self.overview,
            "rooms": self.rooms,
            "users": self.users,
            "room": self.room,
            "user": self.user,
            "disconnect": self.disconnect,
            "log_out": self.log_out,
            "announce": self.announce,
            "forget": self.forget,
            "purge": self.purge,
            "schema": self.schema,
            "log": self.log,
        }
        pages = [
            path(
                "" if name == "changelist" else f"{name.replace('_', '-')}/",
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
        """Show nodes and namespaces."""
        if not self._has_permission(request, VIEW) and self._has_permission(request, ANNOUNCE):
            return HttpResponseRedirect(self._url("announce"))
        self._require(request, VIEW)
        return self._page(request, "overview", _("Realtime"), WatchOverview(), {})

    def rooms(self, request: HttpRequest) -> HttpResponse:
        """Show the rooms of a namespace."""
        self._require(request, VIEW)
        namespace, spaces = self._requested_namespace(request)
        query = WatchRooms(
            namespace=namespace, search=query_parameter(request, "q"), after=query_parameter(request, "after") or None
        )
        context = {
            "namespace": namespace,
            "tenant": split_realm(namespace)[1],
            "namespaces": spaces,
            "pagers": _pager_links(request, "after", namespace=namespace),
        }
        return self._page(request, "rooms", _("Rooms"), query, context)

    def users(self, request: HttpRequest) -> HttpResponse:
        """Show the users of a namespace."""
        self._require(request, VIEW)
        namespace, spaces = self._requested_namespace(request)
        query = WatchUsers(
            namespace=namespace, search=query_parameter(request, "q"), after=query_parameter(request, "after") or None
        )
        query.include_users(*Usernames(request.user).search(query.search))
        context = {
            "namespace": namespace,
            "tenant": split_realm(namespace)[1],
            "namespaces": spaces,
            "pagers": _pager_links(request, "after", namespace=namespace),
        }
        return self._page(request, "users", _("Users"), query, context)

    def room(self, request: HttpRequest) -> HttpResponse:
        """Show one room: its members and their connections."""
        self._require(request, VIEW)
        target = _requested_target(request, "room")
        query = WatchRoom(
            namespace=target.namespace or "",
            room=target.name,
            members_after=query_parameter(request, "members_after") or None,
            sessions_after=query_parameter(request, "sessions_after") or None,
        )
        may_forget = self._has_permission(request, FORGET, target) and keeps_history(query.namespace)
        context = {
            "target": target,
            "past": past_rows(target) if may_forget else None,
            "namespace": query.namespace,
            "tenant": target.tenant,
            "announce_url": self._url("announce", namespace=query.namespace, room=target.name),
            "crumbs": [
                (_("Rooms of %s") % query.namespace, self._url("rooms", namespace=query.namespace)),
                (target.name, None),
            ],
            "pagers": _pager_links(request, "members_after", "sessions_after"),
        }
        return self._page(request, "room", _("Room %s") % target.name, query, context)

    def user(self, request: HttpRequest) -> HttpResponse:
        """Show one user: their connections in all namespaces."""
        self._require(request, VIEW)
        target = _requested_target(request, "user")
        usernames = Usernames(request.user)
        context = {
            "target": target,
            "name": usernames.get(target.name),
            "account": self._account_url(usernames, target),
            "announce_url": self._url("announce", **_realm_parameters(target), user=target.name),
            "crumbs": [(_("Users"), self._url("users")), (target.name, None)],
        }
        query = WatchUser(user=target.name, tenant=target.tenant)
        return self._page(request, "user", _("User %s") % target.name, query, context)

    def log(self, request: HttpRequest) -> HttpResponse:
        """Show the operators' actions."""
        self._require(request, VIEW)
        entries = LogEntry.objects.filter(content_type=content_type()).select_related("user")
        pages = Paginator(entries.order_by("-action_time", "-pk"), LOG_ROWS)
        page = pages.get_page(request.GET.get("page"))
        return self._render(request, "log", _("Log"), {"page": page, "pages": pages.get_elided_page_range(page.number)})

    def schema(self, request: HttpRequest) -> HttpResponse:
        """Show the events that clients may send and receive, and the close codes."""
        self._require(request, VIEW)
        search = query_parameter(request, "q").strip()
        context: dict[str, Any] = {"search": search}
        try:
            description = describe()
        except DESCRIBE_ERRORS as error:
            return self._render(request, "schema", _("Schema"), {**context, "schema_trouble": str(error)})
        rows = consumer_rows(description, search)
        context |= {
            "consumers": rows,
            "is_empty": bool(search) and all(row.is_hidden for row in rows),
            "closes": close_rows(description),
            "files": [{"label": label, "url": self._file_url(name)} for name, label in available_files().items()],
        }
        return self._render(request, "schema", _("Schema"), context)

    def schema_file(self, request: HttpRequest, name: str) -> HttpResponse:
        """Download the schema as a document."""
        self._require(request, VIEW)
        if name not in available_files():
            raise Http404("There is no such document, or the package that writes it isn't installed.")
        try:
            text = file_text(name)
        except DESCRIBE_ERRORS:
            return HttpResponseRedirect(self._url("schema"))  # that page shows the error
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return HttpResponse(text, content_type=FILES[name], headers=headers)

    def live(self, request: HttpRequest) -> HttpResponse:
        """Answer 204 if the user may see the pages. The live socket calls this view to check its user's access."""
        self._require(request, VIEW)
        return HttpResponse(status=204)

    # Private.

    def _page(self, request: HttpRequest, name: str, title: str, query: Query, context: dict[str, Any]) -> HttpResponse:
        """Render a page with the result of its query, which the live socket then keeps up to date."""
        try:
            result: Result | None = run_query(query)
        except BadCursor as error:
            raise Http404("There is no such page of the list: start with the first.") from error
        except (StoreUnavailable, WrongContext) as error:
            return self._render(
                request, name, title, {**context, "trouble": _unavailable_reason(error), "query": query}
            )
        assert result is not None  # noqa: S101
        Usernames(request.user).fill(rows_with_users(result))
        shown = {
            "query": query,
            "result": result,
            "watch": to_json({"event": meta(query).name, "data": query}).decode(),
        }
        return self._render(request, name, title, {**context, **shown})

    def _file_url(self, name: str) -> str:
        return reverse("admin:wsrt_realtime_schema_file", args=[name], current_app=self.admin_site.name)

    def _requested_namespace(self, request: HttpRequest) -> tuple[str, list[str]]:
        """Return the requested namespace, or the busiest by default, and all namespaces to choose from."""
        try:
            spaces: list[str] = run(visible_realms)
        except (StoreUnavailable, WrongContext):
            # The page still shows its search form, above the message about presence.
            spaces = local_namespaces()
        wanted = query_parameter(request, "namespace")
        try:
            require_visible(wanted)
        except ValueError as error:
            raise Http404(str(error)) from None
        return wanted or (spaces[0] if spaces else ""), sorted({*spaces, *([wanted] if wanted else [])})

    def _account_url(self, usernames: Usernames, target: Target) -> str | None:
        """Return the URL of the user's account in this admin, None if it can't be shown there."""
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


def _pager_links(request: HttpRequest, *keys: str, **given: str) -> dict[str, dict[str, str]]:
    """Return for each list the URL of its first page, and the URL of its next page up to the cursor."""
    pagers = {}
    for key in keys:
        query = request.GET.copy()
        query.pop(key, None)
        for name, value in given.items():
            query[name] = value
        first = f"?{query.urlencode()}"
        pagers[key] = {"first": first, "prefix": f"{first}{'&' if query else ''}{key}="}
    return pagers


def _realm_parameters(target: Target) -> dict[str, str]:
    """Return the realm of a target as query parameters."""
    return {"namespace": target.namespace} if target.namespace else {}


def _requested_target(request: HttpRequest, kind: Any) -> Target:
    """Return the room or user whose page is requested. Raises Http404 if the name isn't valid."""
    try:
        tenant = query_parameter(request, "tenant")
        namespace = query_parameter(request, "namespace") if kind == "room" else f"@{tenant}" if tenant else None
        return Target(kind, namespace, query_parameter(request, kind))
    except ValueError as error:
        raise Http404(str(error)) from None


def _unavailable_reason(error: Exception) -> str:
    """Return the reason that presence can't be read, and how to fix it."""
    if isinstance(error, WrongContext):
        return _(
            "Presence is kept in the memory of each process, and this process holds no connections. Set "
            'WSRT["PRESENCE"]["BACKEND"] to a store that all processes share: wsrt.presence.redis.RedisPresence or '
            "wsrt.presence.cache.CachePresence."
        )
    try:
        make_store(conf.presence)
    except Exception as reason:
        return _('The store in the setting WSRT["PRESENCE"] can’t be used: %s. Run “manage.py check” for details.') % (
            reason,
        )
    return _(
        "The presence store doesn’t respond. Connections and publications aren’t affected. Check that the store is "
        'running and that WSRT["PRESENCE"]["LOCATION"] is correct, or run “manage.py wsrt_doctor”. The error was: %s'
    ) % (error,)
