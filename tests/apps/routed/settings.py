"""The settings of the tests, with the app of the consumers that have paths."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as OTHERS
from tests.settings import MIDDLEWARE as PAGES

ASGI_APPLICATION = "tests.apps.routed.asgi.application"
INSTALLED_APPS = [*(app for app in OTHERS if app != "tests.apps.chat"), "tests.apps.routed"]
MIDDLEWARE = [*PAGES, "django.middleware.locale.LocaleMiddleware"]
LANGUAGES = [("en", "English"), ("de", "German")]
ROOT_URLCONF = "tests.apps.routed.urls"
