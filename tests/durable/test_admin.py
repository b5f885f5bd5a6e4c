"""The admin of durable publishing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from tests.apps.chat.events import Said
from wsrt.cluster.outgoing import Outgoing
from wsrt.durable import publish_to_room, publish_waiting
from wsrt.durable.models import FailedPublication, WaitingPublication

FAILED = "/admin/wsrt_durable/failedpublication/"
WAITING = "/admin/wsrt_durable/waitingpublication/"

pytestmark = pytest.mark.django_db


def fail(text: str) -> FailedPublication:
    now = timezone.now()
    data = Said(text=text).model_dump_json()
    where: dict[str, Any] = {"namespace": "chat", "kind": "room", "name": "lobby", "event": "said", "data": data}
    return FailedPublication.objects.create(**where, idempotency_key=text, created=now, failed=now, error="Why: oh why")


@pytest.fixture
def operator() -> User:
    user = User.objects.create(username="op", is_staff=True)
    codenames = ["view_failedpublication", "view_waitingpublication"]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


@pytest.fixture
def client(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def test_pages(client: Client) -> None:
    """The pages show what waits and what failed, and the row of each, without a way to edit it."""
    publish_to_room("lobby", Said(text="hi"), namespace="chat")
    fail("one")
    assert "lobby" in client.get(WAITING).content.decode()
    assert "oh why" in client.get(FAILED).content.decode()
    row = client.get(f"{WAITING}{WaitingPublication.objects.get().pk}/change/").content.decode()
    assert "said" in row
    assert "_save" not in row
    assert client.get(f"{WAITING}add/").status_code == 403


def test_retry(client: Client, operator: User, sent: list[Outgoing]) -> None:
    """The action puts rows behind those that wait, with their keys and in their order."""
    operator.user_permissions.add(Permission.objects.get(codename="delete_failedpublication"))
    publish_to_room("lobby", Said(text="first"), namespace="chat")
    rows = [fail("one"), fail("two"), fail("kept")]
    chosen = {"action": "retry", "_selected_action": [row.pk for row in rows[:2]]}
    answer = client.post(FAILED, chosen, follow=True)
    assert "2 publications wait for a worker again." in answer.content.decode()
    assert [row.idempotency_key for row in WaitingPublication.objects.order_by("id")][1:] == ["one", "two"]
    assert FailedPublication.objects.get().idempotency_key == "kept"
    assert publish_waiting() == 3
    assert [outgoing.append for outgoing in sent] == [None] * 3


def test_retry_is_refused(client: Client) -> None:
    """Without the permission to delete the action doesn't exist."""
    row = fail("one")
    client.post(FAILED, {"action": "retry", "_selected_action": [row.pk]})
    assert FailedPublication.objects.exists()
    assert not WaitingPublication.objects.exists()
