"""The authentication classes of Django REST framework, such as that of simplejwt, for consumers and HistoryView."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from pydantic import Field
from rest_framework.authentication import BaseAuthentication, BasicAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.settings import api_settings

from .protocol.events import Event
from .types import Scope
from .views import HistoryView

__all__ = ["Login", "RestFrameworkHistoryView", "RestFrameworkLogin"]

NOT_FOR_TOKENS = (BasicAuthentication, SessionAuthentication)
"""The classes that don't read a token. A client that could log in by name and password would send the password."""


class Login(Event, name="login"):
    """
    The event by which a client logs in with a token, and later sends a new token before the old one expires.

    Attributes:
        token: The token, without the keyword that precedes it in an ``Authorization`` header.
    """

    token: str = Field(min_length=1, max_length=8000)


class RestFrameworkLogin:
    """
    A mixin for consumers whose clients log in with the tokens of an API.

        class ChatConsumer(RestFrameworkLogin, TypedEventConsumer):
            authentication_classes = (JWTAuthentication,)

    The event ``login`` carries the token, see TypedEventConsumer.authenticate(). The connection ends when a JSON Web
    Token of simplejwt expires; for other tokens, override ``expires_at``.

    Attributes:
        authentication_classes: The classes of Django REST framework that read the token, in order. By default those of
            the setting DEFAULT_AUTHENTICATION_CLASSES. Classes for sessions and passwords are skipped.
        auth: The second value that the class returned, usually the token, like ``request.auth`` in an API.
    """

    authentication_classes: ClassVar[Sequence[type[BaseAuthentication]] | None] = None
    auth: Any = None
    scope: Scope

    def authenticate(self, event: Login) -> Any:
        """
        Return the user of a token, by the first class that accepts it.

        Raises:
            AuthenticationFailed: No class accepts the token.
            ImproperlyConfigured: No class reads tokens.
        """
        refused: AuthenticationFailed | None = None
        for authenticator in self._authenticators():
            request = self._request(authenticator, event.token)
            try:
                found = authenticator.authenticate(request)
            except AuthenticationFailed as error:
                # The token may be one of the next class.
                refused = error
                continue
            if found is not None:
                user, self.auth = found
                return user
        raise refused or AuthenticationFailed()

    async def expires_at(self) -> float | None:
        """Return the time in the claim ``exp`` of a JSON Web Token. None for any other token."""
        expires: float | None = getattr(self.auth, "payload", {}).get("exp")
        return expires

    def _authenticators(self) -> list[BaseAuthentication]:
        classes = self.authentication_classes
        if classes is None:
            classes = api_settings.DEFAULT_AUTHENTICATION_CLASSES
        found = [each() for each in classes if not issubclass(each, NOT_FOR_TOKENS)]
        if not found:
            raise ImproperlyConfigured(
                f"{type(self).__name__}: set authentication_classes to classes of Django REST framework that read a "
                "token, such as (JWTAuthentication,)"
            )
        return found

    def _request(self, authenticator: BaseAuthentication, token: str) -> Request:
        """Return a request of an API with the token, and with the headers of the handshake."""
        request = Request(ASGIRequest({**self.scope, "type": "http", "method": "GET"}, io.BytesIO()))
        # For example "Bearer", or "Token": what the class announces with a 401.
        kind = (authenticator.authenticate_header(request) or "Bearer").split()[0]
        request.META["HTTP_AUTHORIZATION"] = f"{kind} {token}"
        return request


class RestFrameworkHistoryView(HistoryView):
    """
    A HistoryView that authenticates requests with the classes of Django REST framework.

        path("chat/history/", RestFrameworkHistoryView.as_view(consumer=ChatConsumer))

    Attributes:
        authentication_classes: The classes of Django REST framework that authenticate a request, in order. By default
            those of the setting DEFAULT_AUTHENTICATION_CLASSES.
    """

    authentication_classes: ClassVar[Sequence[type[BaseAuthentication]] | None] = None

    def get_user(self, request: HttpRequest) -> Any:
        """
        Return the user of a request, by the first class that knows it.

        Raises:
            AuthenticationFailed: A class refused the credentials.
        """
        classes = self.authentication_classes
        if classes is None:
            classes = api_settings.DEFAULT_AUTHENTICATION_CLASSES
        return Request(request, authenticators=[each() for each in classes]).user
