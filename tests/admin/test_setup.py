"""Nothing of the admin is needed by who does not use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

SCRIPT = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS={apps!r},
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
    MIDDLEWARE=[],
    ROOT_URLCONF=[],
)
django.setup()

from django.core.management import call_command
from django.db import connection

call_command("migrate", verbosity=0)
call_command("check")
import wsrt.routing

assert wsrt.routing.consumer_urlpatterns() == []
tables = set(connection.introspection.table_names())
assert not [table for table in tables if table.startswith("wsrt")], tables
if "auth_permission" in tables:
    from django.contrib.auth.models import Permission

    assert Permission.objects.filter(content_type__app_label="wsrt").count() == 4
"""


@pytest.mark.parametrize(
    "apps",
    [
        ["wsrt"],
        ["django.contrib.contenttypes", "wsrt"],
        ["django.contrib.contenttypes", "django.contrib.auth", "wsrt"],
        ["wsrt", "django.contrib.auth", "django.contrib.contenttypes"],
    ],
    ids=["alone", "contenttypes", "auth", "before auth"],
)
def test_without_the_admin(apps: list[str]) -> None:
    """Without the admin, users or content types everything starts and migrates; permissions come with users."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", SCRIPT.format(apps=apps)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
