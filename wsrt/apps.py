"""The Django app."""

from __future__ import annotations

import importlib
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started
from django.db.models.signals import post_migrate
from django.utils.module_loading import module_has_submodule
from django.utils.translation import gettext_lazy as _

from .conf import conf
from .delivery.calls import report_calls


class WsrtConfig(AppConfig):
    """Imports the consumers, so that every process, workers included, knows the events that may be published."""

    name = "wsrt"
    verbose_name = _("Realtime")

    def ready(self) -> None:
        """Register the checks and import the modules of ``WSRT["CONSUMERS"]``."""
        from . import checks
        from .servers.http_only import note_request
        from .sessions.log_out import observe_log_outs

        report_calls(settings.DEBUG)
        request_started.connect(note_request, dispatch_uid="wsrt.servers.http_only")
        observe_log_outs()
        for check in checks.ALWAYS:
            register(check)
        for check in checks.DEPLOY:
            register(check, deploy=True)
        self._add_permissions()
        for module in conf.consumers:
            if "." in module:
                _import(module)
                continue
            for app in apps.get_app_configs():
                if app.module is not None and module_has_submodule(app.module, module):
                    importlib.import_module(f"{app.name}.{module}")

    def get_model(self, model_name: str, require_ready: bool = True) -> Any:
        """
        Return a model of this app, including the placeholder that carries the permissions (see wsrt.permissions).

        Without the placeholder, ``remove_stale_contenttypes`` would consider its content type stale and delete it
        together with all permissions granted to users.
        """
        from .permissions import Realtime

        if model_name.lower() == Realtime._meta.model_name:
            return Realtime
        return super().get_model(model_name, require_ready)

    def _add_permissions(self) -> None:
        """Make ``migrate`` add wsrt's permissions after those of Django's auth app."""
        from .permissions import add_permissions

        # This app can't be the sender: Django doesn't send the signal for apps without models.
        for app in apps.get_app_configs():
            if app.label == "auth":
                post_migrate.connect(add_permissions, sender=app, dispatch_uid="wsrt.permissions")


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        # If the module exists but one of its own imports fails, that error is the useful one.
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise ImproperlyConfigured(
            f'WSRT["CONSUMERS"] names the module {module!r}, which does not exist. A name without a dot is looked for '
            "in every installed app"
        ) from error
