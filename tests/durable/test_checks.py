"""The checks of durable publishing, and what the doctor finds."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.apps import apps
from django.db import router
from django.utils import timezone

from tests.apps.chat.events import Said
from wsrt.doctor.durable import examine, read
from wsrt.durable import publish_to_room
from wsrt.durable.checks import check_workers
from wsrt.durable.models import FailedPublication, WaitingPublication, Worker


def ids() -> list[str | None]:
    return [message.id for message in check_workers(databases=["default"])]


def store(seconds: float) -> None:
    """Store a row of this age."""
    publish_to_room("lobby", Said(text="hi"), namespace="chat")
    WaitingPublication.objects.update(created=timezone.now() - datetime.timedelta(seconds=seconds))


def see_worker() -> None:
    now = timezone.now()
    Worker.objects.create(name="a", started=now, seen=now)


@pytest.mark.django_db
def test_no_worker() -> None:
    """A database for which no worker has ever run is a warning; a check without a database asks none."""
    assert ids() == ["wsrt.W021"]
    assert check_workers() == []
    see_worker()
    assert ids() == []


@pytest.mark.django_db
def test_backlog() -> None:
    """So are rows that wait for too long."""
    see_worker()
    store(30)
    assert ids() == []
    store(300)
    assert ids() == ["wsrt.W022"]


@pytest.mark.django_db
def test_not_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database without the tables, is left to migrate; the doctor calls it an error."""
    monkeypatch.setattr(WaitingPublication._meta, "db_table", "nothing")
    assert ids() == []
    assert read("default").status == "error"


@pytest.mark.django_db
def test_another_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that the routers exclude is left alone."""
    monkeypatch.setattr(router, "allow_migrate_model", lambda alias, model: False)
    assert ids() == []


@pytest.mark.django_db
def test_doctor() -> None:
    """The doctor reports what waits, what failed and the workers."""
    finding = read("default")
    assert finding.status == "warning"
    assert finding.seen == "0 publications wait, 0 failed; 0 workers run"
    see_worker()
    store(5)
    finding = read("default")
    assert finding.status == "ok"
    assert finding.seen == "1 publications wait, 0 failed; 1 workers run; the oldest has waited for 5 s"
    assert finding.facts["waiting"] == 1
    FailedPublication.objects.create(kind="room", created=timezone.now(), failed=timezone.now())
    finding = read("default")
    assert (finding.status, "See the errors in the admin" in finding.advice) == ("warning", True)
    store(300)
    assert "wsrt_durable_worker" in read("default").advice


@pytest.mark.django_db(transaction=True)
async def test_examination() -> None:
    """The examination reads each database."""
    [finding] = await examine()
    assert finding.subject == "durable 'default'"


@pytest.mark.django_db(transaction=True)
async def test_examination_of_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves out databases without the tables, and everything without the app."""
    monkeypatch.setattr(router, "allow_migrate_model", lambda alias, model: False)
    assert await examine() == []
    installed: Any = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "wsrt.durable" and installed(name))
    assert await examine() == []
