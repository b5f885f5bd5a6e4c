"""The admin of durable publishing: waiting and failed publications, with an action that publishes failed ones again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .models import FailedPublication, WaitingPublication
from .retrying import retry

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class StoredPublicationAdmin(ModelAdmin):
    """The base class for both tables: operators can read and delete publications, but not edit them."""

    list_filter = ("namespace", "event", "kind")
    search_fields = ("name", "event", "tenant")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(WaitingPublication)
class WaitingPublicationAdmin(StoredPublicationAdmin):
    """The publications that wait for a worker, oldest first."""

    list_display = ("event", "namespace", "tenant", "kind", "name", "created")
    ordering = ("id",)


@admin.register(FailedPublication)
class FailedPublicationAdmin(StoredPublicationAdmin):
    """The publications that can't be published, newest first. The permission to delete them also allows a retry."""

    list_display = ("event", "namespace", "tenant", "kind", "name", "failed", "error")
    ordering = ("-id",)
    actions = ("retry",)

    @admin.action(description=_("Publish the selected publications again"), permissions=("delete",))
    def retry(self, request: HttpRequest, queryset: QuerySet[FailedPublication]) -> None:
        """Put publications behind those that wait."""
        number = retry(queryset)
        text = ngettext(
            "%(number)d publication waits for a worker again.",
            "%(number)d publications wait for a worker again.",
            number,
        )
        self.message_user(request, text % {"number": number}, messages.SUCCESS)
