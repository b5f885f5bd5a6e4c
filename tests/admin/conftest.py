"""Fixtures of the tests of the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import reverse

from wsrt.admin import live

MakeStaff = Callable[..., User]


def page(name: str, **query: str) -> str:
    """The address of a page of ours."""
    url = reverse(f"admin:wsrt_realtime_{name}")
    return f"{url}?{urlencode(query)}" if query else url


def make_user(name: str, *permissions: str, is_staff: bool = True) -> User:
    """A user with permissions, given as has_perm() asks for them."""
    user = User.objects.create_user(name, is_staff=is_staff)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


amake_user = sync_to_async(make_user)


class Operator:
    """Somebody of the staff in front of the admin, in the loop that holds the connections."""

    def __init__(self, client: AsyncClient, user: User) -> None:
        self.client = client
        self.user = user

    async def see(self, name: str, *, status: int = 200, **query: str) -> str:
        """Return a page."""
        return text_of(await self.client.get(page(name, **query)), status)

    async def post(self, name: str, data: dict[str, str], *, status: int = 200, **query: str) -> str:
        """Post a form, follow its redirect, and return the text of the page."""
        return text_of(await self.client.post(page(name, **query), data, follow=True), status)


def text_of(response: HttpResponse, status: int = 200) -> str:
    assert response.status_code == status, response.content.decode()
    return response.content.decode()


MakeOperator = Callable[..., Any]


@pytest.fixture
def operator() -> MakeOperator:
    """Makes an operator with permissions; all of them, if none are given."""

    async def make(*permissions: str) -> Operator:
        if permissions:
            user = await amake_user("operator", *permissions)
        else:
            user = await sync_to_async(User.objects.create_superuser)("operator")
        client = AsyncClient()
        await sync_to_async(client.force_login)(user)
        return Operator(client, user)

    return make


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket looks at the store all the time."""
    monkeypatch.setattr(live, "MIN_PAUSE", 0.02)
    monkeypatch.setattr(live, "PAUSE_FACTOR", 0)
