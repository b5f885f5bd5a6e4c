"""Logging in with the authentication classes of Django REST framework."""

from __future__ import annotations

import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication, BasicAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.authentication import JWTAuthentication, JWTStatelessUserAuthentication
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from wsrt import Event, TypedEventConsumer, close_codes, on
from wsrt.rest_framework import Login, RestFrameworkLogin
from wsrt.testing import connect
from wsrt.testing.client import RequestRefused


class Ask(Event, name="ask"):
    pass


class Answer(Event, name="answer"):
    text: str


class Api(RestFrameworkLogin, TypedEventConsumer):
    namespace = "rest-framework"
    authentication_classes = (JWTAuthentication,)

    @on
    async def ask(self, event: Ask) -> Answer:
        return Answer(text=str(self.user_id))


class Keys(BaseAuthentication):
    """Tokens as those of DRF's own TokenAuthentication, which needs a table: "Token <username>"."""

    def authenticate(self, request: Any) -> Any:
        kind, _, name = request.META["HTTP_AUTHORIZATION"].partition(" ")
        if kind != "Token":
            return None
        user = User.objects.filter(username=name).first()
        if user is None:
            raise AuthenticationFailed("no such key")
        return user, name

    def authenticate_header(self, request: Any) -> str:
        return "Token"


@pytest.fixture
async def ada(transactional_db: None) -> User:
    return await sync_to_async(User.objects.create_user)("ada")


def token_of(user: User, seconds: float = 600) -> str:
    token = AccessToken.for_user(user)
    token["exp"] = int(time.time() + seconds)
    return str(token)


@pytest.mark.parametrize("kind", ["header", "subprotocol", "frame"])
async def test_jwt(ada: User, kind: str) -> None:
    """simplejwt's class logs in by each way to send a token, and its token tells when it expires."""
    token = token_of(ada)
    given: dict[str, Any] = {
        "header": {"headers": {"Authorization": f"Bearer {token}"}},
        "subprotocol": {"subprotocols": [f"bearer.{token}"]},
        "frame": {"login": Login(token=token)},
    }[kind]
    async with connect(Api, **given) as client:
        assert await client.request(Ask()) == Answer(text=str(ada.pk))
        assert client.consumer.user == ada
        assert 300 < client.consumer._connection.credentials.expires_in <= 600


async def test_renewal(ada: User) -> None:
    """A fresh token takes the place of the first; a bad one is refused, and nothing changes."""
    async with connect(Api, login=Login(token=token_of(ada, 60))) as client:
        assert await client.request(Login(token=token_of(ada, 6000))) is None
        assert client.consumer._connection.credentials.expires_in > 3000
        with pytest.raises(RequestRefused, match="forbidden"):
            await client.request(Login(token=token_of(ada, -60)))
        assert client.consumer._connection.credentials.expires_in > 3000


@pytest.mark.parametrize("kind", ["expired", "refresh", "none", "inactive"])
async def test_refused(ada: User, kind: str) -> None:
    """A token that the class refuses closes with 4401."""
    token = {
        "expired": token_of(ada, -60),
        "refresh": str(RefreshToken.for_user(ada)),
        "none": "none",
        "inactive": token_of(ada),
    }[kind]
    if kind == "inactive":
        await User.objects.aupdate(is_active=False)
    async with connect(Api, login=Login(token=token)) as client:
        await client.assert_closed(close_codes.UNAUTHENTICATED)


async def test_several_classes(ada: User) -> None:
    """Each class gets the token with its own word before it; the first that accepts it decides."""

    class Both(Api):
        namespace = "rest-framework.both"
        authentication_classes = (SessionAuthentication, BasicAuthentication, Keys, JWTAuthentication)

    for token in ("ada", token_of(ada)):
        async with connect(Both, login=Login(token=token)) as client:
            assert client.consumer.user == ada
    # A password isn't a token: "ada:secret", as Basic would read it.
    for token in ("eve", "YWRhOnNlY3JldA=="):
        async with connect(Both, login=Login(token=token)) as client:
            await client.assert_closed(close_codes.UNAUTHENTICATED)


async def test_user_without_table(ada: User) -> None:
    """A TokenUser, which is no model instance, is the same user as the one of the table."""

    class Stateless(Api):
        namespace = "rest-framework.stateless"
        authentication_classes = (JWTStatelessUserAuthentication,)

    async with connect(Stateless, login=Login(token=token_of(ada))) as client:
        assert client.consumer.user_id == str(ada.pk)
        assert await client.request(Login(token=token_of(ada))) is None


async def test_no_class_for_tokens(ada: User) -> None:
    """Without a class that reads tokens, the set-up fails, and the log says what to set."""

    class Default(RestFrameworkLogin, TypedEventConsumer):
        namespace = "rest-framework.default"

    async with connect(Default, login=Login(token=token_of(ada))) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_FAILED)
