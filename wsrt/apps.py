"""The Django app."""

from __future__ import annotations

import importlib

from django.apps import AppConfig, apps
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import module_has_submodule
from django.utils.translation import gettext_lazy as _

from .conf import conf


class WsrtConfig(AppConfig):
    """Finds the consumers, so that every process knows what may be published, workers too."""

    name = "wsrt"
    verbose_name = _("Realtime")

    def ready(self) -> None:
        """Register the checks and import the modules of ``WSRT["CONSUMERS"]``."""
        from . import checks

        register(checks.check_settings)
        register(checks.check_layers)
        register(checks.check_consumers)
        register(checks.check_runtime, deploy=True)
        for module in conf.consumers:
            if "." in module:
                _import(module)
                continue
            for app in apps.get_app_configs():
                if app.module is not None and module_has_submodule(app.module, module):
                    importlib.import_module(f"{app.name}.{module}")


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        # An import that fails inside of the module is the module's own error.
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise ImproperlyConfigured(
            f'WSRT["CONSUMERS"] names the module {module!r}, which does not exist. A name without a dot is looked for '
            "in every installed app"
        ) from error
