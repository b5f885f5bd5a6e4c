"""The base class of the admin of "Realtime": permissions, URLs and the context that all pages share."""

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
from ..permissions import ANNOUNCE, DISCONNECT, FORGET, VIEW, Realtime
from ..presence.backends import is_shared, option
from .live import AdminConsumer
from .targets import Target

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

TEMPLATES = "admin/wsrt/realtime"


class RealtimeAdminBase(ModelAdmin):
    """
    Permissions and rendering of the pages and actions.

    Override the ``has_*_permission`` methods to restrict operators.
    """

    live_path = str(AdminConsumer.path)
    """The path of the live socket (``AdminConsumer``), below the script prefix."""

    # The interface of ModelAdmin.

    def check(self, **kwargs: Any) -> list[Any]:
        """Skip Django's checks: Realtime isn't a model and has no fields."""
        return []

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user of a request may see the pages. The live socket calls it too."""
        return _has(request, VIEW)

    def has_disconnect_permission(self, request: HttpRequest, target: Target | None = None) -> bool:
        """
        Return whether the user of a request may disconnect clients.

        Args:
            request: The request.
            target: The connections to close. None asks whether the user may disconnect any clients at all.
        """
        return _has(request, DISCONNECT, target)

    def has_announce_permission(self, request: HttpRequest, target: Target | None = None) -> bool:
        """
        Return whether the user of a request may send announcements.

        Args:
            request: The request.
            target: The recipients. None asks whether the user may send announcements at all.
        """
        return _has(request, ANNOUNCE, target)

    def has_forget_permission(self, request: HttpRequest, target: Target | None = None) -> bool:
        """
        Return whether the user of a request may see and delete what is kept in the history of rooms.

        Args:
            request: The request.
            target: The room. None asks whether the user may do so at all.
        """
        return _has(request, FORGET, target)

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

    # Helpers of the pages.

    def _render(
        self, request: HttpRequest, name: str, title: str, context: dict[str, Any], *, status: int = 200
    ) -> HttpResponse:
        request.current_app = self.admin_site.name  # read by {% url %}
        zone = timezone.get_current_timezone()
        target: Target | None = context.get("target")
        # Pairs of text and URL. The last one is the page itself, without a URL.
        inner = [] if name == "overview" else context.get("crumbs", [(title, None)])
        crumbs = [(_("Realtime"), self._url("changelist") if inner else None), *inner]
        common = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "page_name": name,
            "has_list_of_crumbs": django.VERSION >= (6, 1),
            "is_shared": is_shared(),
            # Pages that show the whole cluster warn if actions reach this process only.
            "reaches_all": not is_shared() or not is_local(conf.channel_layer_alias),
            "has_details": option("DETAILS", False) is True,
            "may_view": self._has_permission(request, VIEW),
            "may_disconnect": self._has_permission(request, DISCONNECT, target),
            "may_forget": target is not None and self._has_permission(request, FORGET, target),
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
            case "wsrt.forget":
                return self.has_forget_permission(request, target)
            case _:
                return self.has_view_permission(request)

    def _require(self, request: HttpRequest, permission: str, target: Target | None = None) -> None:
        if not self._has_permission(request, permission, target):
            raise PermissionDenied

    def _url(self, name: str, **query: str) -> str:
        url = reverse(f"admin:wsrt_realtime_{name}", current_app=self.admin_site.name)
        return f"{url}?{urlencode(query)}" if query else url


def _has(request: HttpRequest, permission: str, target: Target | None = None) -> bool:
    """Return whether a user has a permission, in general or, by a backend with object permissions, for the target."""
    user: Any = request.user
    return bool(user.has_perm(permission) or (target is not None and user.has_perm(permission, target)))


def query_parameter(request: HttpRequest, key: str) -> str:
    """Return a parameter of the query string, "" if it is missing."""
    return request.GET.get(key, "")


def content_type() -> ContentType:
    """Return the content type of the log's entries."""
    model: Any = Realtime  # not a model, but it has what the manager needs
    return ContentType.objects.get_for_model(model, for_concrete_model=False)
