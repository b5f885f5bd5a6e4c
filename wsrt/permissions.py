"""
Realtime, as Django's admin and permissions know it: a model that is none, and what may be done with it.

There is no table and no migration. The content type and the permissions are rows that ``migrate`` adds, as it does for
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

PERMISSIONS = {
    VIEW: "Can see who is connected",
    DISCONNECT: "Can disconnect clients",
    ANNOUNCE: "Can send announcements to clients",
}
"""Every permission, and what it is called where permissions are assigned."""


class _NoObjects:
    """The manager of what has no objects."""

    def using(self, alias: str | None) -> _NoObjects:
        return self

    def get(self, **kwargs: Any) -> Any:
        raise ObjectDoesNotExist


class Realtime:
    """
    What is connected, in the place of a model: register it with ``site.register([Realtime], RealtimeAdmin)``.

    A model without a table would make ``dumpdata`` fail, and one with a table would need a migration.
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
    made: Options[Any] = options
    return made


Realtime._meta = _options()


def add_permissions(*, using: str = DEFAULT_DB_ALIAS, apps: Apps = installed_apps, **kwargs: Any) -> None:
    """Add the content type and the permissions that are missing; a receiver of ``post_migrate``."""
    try:
        content_types: Any = apps.get_model("contenttypes", "ContentType")
        permissions: Any = apps.get_model("auth", "Permission")
    except LookupError:
        return  # migrated back to before they were there
    if not router.allow_migrate_model(using, permissions):
        return
    content_type, _is_new = content_types._default_manager.using(using).get_or_create(
        app_label=APP, model=Realtime._meta.model_name
    )
    rows = permissions._default_manager.using(using)
    known = set(rows.filter(content_type=content_type).values_list("codename", flat=True))
    codenames = {permission.partition(".")[2]: name for permission, name in PERMISSIONS.items()}
    rows.bulk_create(
        permissions(content_type=content_type, codename=codename, name=name)
        for codename, name in codenames.items()
        if codename not in known
    )
