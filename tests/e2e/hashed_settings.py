"""Settings of the tests, with hashes in the names of static files."""

from __future__ import annotations

import os

from django.conf import global_settings

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.e2e.hashed_urls"
STATIC_ROOT = os.environ["WSRT_TEST_STATIC"]
STORAGES = {
    **global_settings.STORAGES,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
