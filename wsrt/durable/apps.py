"""The Django app of durable publishing."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.utils.translation import gettext_lazy as _


class DurableConfig(AppConfig):
    """Stores publications in the database. It is installed in addition to the app ``wsrt``."""

    name = "wsrt.durable"
    label = "wsrt_durable"
    verbose_name = _("Durable publishing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks."""
        from .checks import check_workers

        register(check_workers, Tags.database)
