"""The frame of the pages of "Realtime": who may see them, where they are, what all of them show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import django
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import get_script_prefix, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from ..cluster.layers import is_local
from ..conf import conf
from ..permissions import ANNOUNCE, DISCONNECT, VIEW, Realtime
from ..presence.backends import is_shared, option
from .live import AdminConsumer
from .targets import Target

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

TEMPLATES = "admin/wsrt/realtime"


class RealtimeAdminBase(ModelAdmin):
    """What pages and actions have in common."""

    live_path = "ws/wsrt/admin/"
    """Where ``wsrt.routing.admin_urlpatterns`` is served, below the script prefix."""

    # What Django's admin asks of a model.

    def check(self, **kwargs: Any) -> list[Any]:
        """There are no fields to check."""
        return []

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user of a request may see who is connected."""
        return _has(request, VIEW)

    def has_disconnect_permission(self, request: HttpRequest, target: Target | None = None) -> bool:
        """
        Return whether the user of a request may disconnect clients.

        Args:
            target: Whom. None asks whether there may be any.
        """
        return _has(request, DISCONNECT, target)

    def has_announce_permission(self, request: HttpRequest, target: Target | None = None) -> bool:
        """Return whether the user of a request may send announcements. See has_disconnect_permission()."""
        return _has(request, ANNOUNCE, target)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._has_permission(request, VIEW) or self._has_permission(request, ANNOUNCE)

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        return {"add": False, "change": False, "delete": False, "view": self.has_module_permission(request)}

    # What the pages use.

    def _render(
        self, request: HttpRequest, name: str, title: str, context: dict[str, Any], *, status: int = 200
    ) -> HttpResponse:
        request.current_app = self.admin_site.name  # read by {% url %}
        zone = timezone.get_current_timezone()
        target: Target | None = context.get("target")
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
            "may_view": self._has_permission(request, VIEW),
            "may_disconnect": self._has_permission(request, DISCONNECT, target),
            "may_announce": self._has_permission(request, ANNOUNCE, target),
            "live_url": f"{get_script_prefix()}{self.live_path}?{urlencode({'site': self.admin_site.name})}",
            "live_schema": AdminConsumer.catalog.schema_hash,
            "zone": zone,
            "zone_name": str(zone),
            "this_page": request.get_full_path(),
        }
        return TemplateResponse(
            request, f"{TEMPLATES}/{name}.html", {**common, **context, "crumbs": crumbs}, status=status
        )

    def _has_permission(self, request: HttpRequest, permission: str, target: Target | None = None) -> bool:
        match permission:
            case "wsrt.disconnect":
                return self.has_disconnect_permission(request, target)
            case "wsrt.announce":
                return self.has_announce_permission(request, target)
            case _:
                return self.has_view_permission(request)

    def _require(self, request: HttpRequest, permission: str, target: Target | None = None) -> None:
        if not self._has_permission(request, permission, target):
            raise PermissionDenied

    def _url(self, name: str, **query: str) -> str:
        url = reverse(f"admin:wsrt_realtime_{name}", current_app=self.admin_site.name)
        return f"{url}?{urlencode(query)}" if query else url


def _has(request: HttpRequest, permission: str, target: Target | None = None) -> bool:
    """Ask the backends of authentication, also those that know permissions of single objects."""
    user: Any = request.user
    return bool(user.has_perm(permission) or (target is not None and user.has_perm(permission, target)))


def text_of(request: HttpRequest, key: str) -> str:
    """Return a parameter of the query, "" where there is none."""
    return request.GET.get(key, "")


def content_type() -> ContentType:
    """Return the content type that entries of the log have."""
    model: Any = Realtime  # which stands in the place of one
    return ContentType.objects.get_for_model(model, for_concrete_model=False)
