"""
The permissions of wsrt, and the class that stands in for a model in Django's admin.

There is no table and no migration. ``migrate`` adds the rows of the content type and the permissions, as it does for
models.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.apps import apps as installed_apps
from django.apps.registry import Apps
from django.core.exceptions import ObjectDoesNotExist
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models.options import Options
from django.utils.translation import gettext_lazy as _

APP = "wsrt"

VIEW = f"{APP}.view_realtime"
DISCONNECT = f"{APP}.disconnect"
ANNOUNCE = f"{APP}.announce"
FORGET = f"{APP}.forget"

PERMISSIONS = {
    VIEW: "Can see who is connected",
    DISCONNECT: "Can disconnect clients",
    ANNOUNCE: "Can send announcements to clients",
    FORGET: "Can see and delete kept publications",
}
"""The names of the permissions, as the admin shows them."""


class _NoObjects:
    """An empty manager, through which a ``ContentType`` finds that an object doesn't exist."""

    def using(self, alias: str | None) -> _NoObjects:
        return self

    def get(self, **kwargs: Any) -> Any:
        raise ObjectDoesNotExist


class Realtime:
    """
    The class that is registered in place of a model: ``site.register([Realtime], RealtimeAdmin)``.

    It isn't a real model: a model without a table makes ``dumpdata`` fail, and one with a table needs a migration.
    """

    _meta: ClassVar[Options[Any]]
    _base_manager: ClassVar[_NoObjects] = _NoObjects()


def _options() -> Options[Any]:
    options: Any = Options(None, app_label=APP)
    options.model = options.concrete_model = Realtime
    options.object_name, options.model_name = "Realtime", "realtime"
    options.verbose_name, options.verbose_name_plural = _("realtime"), _("connections")
    options.managed = False
    options.default_permissions = ()
    typed: Options[Any] = options
    return typed


Realtime._meta = _options()


def add_permissions(*, using: str = DEFAULT_DB_ALIAS, apps: Apps = installed_apps, **kwargs: Any) -> None:
    """Create the content type and the permissions that don't exist yet. A receiver of ``post_migrate``."""
    try:
        content_types: Any = apps.get_model("contenttypes", "ContentType")
        permissions: Any = apps.get_model("auth", "Permission")
    except LookupError:
        return  # while migrating backwards, the models don't exist any more
    if not router.allow_migrate_model(using, permissions):
        return
    content_type, _created = content_types._default_manager.using(using).get_or_create(
        app_label=APP, model=Realtime._meta.model_name
    )
    rows = permissions._default_manager.using(using)
    existing = set(rows.filter(content_type=content_type).values_list("codename", flat=True))
    codenames = {permission.partition(".")[2]: name for permission, name in PERMISSIONS.items()}
    rows.bulk_create(
        permissions(content_type=content_type, codename=codename, name=name)
        for codename, name in codenames.items()
        if codename not in existing
    )
