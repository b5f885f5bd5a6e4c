"""
The check of the Origin header, which keeps foreign web pages from opening a connection.

A browser lets any web page open a WebSocket to any host, and sends the user's cookies with the handshake (RFC 6455,
10.2). The Origin header must therefore be the host's own, as Django checks it for forms, or be trusted by a setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.utils.http import is_same_domain

from ..metrics import MAX_QUOTED, quoted

DEFAULT_PORTS = {"http": 80, "https": 443}
SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True, slots=True)
class OriginRefused:
    """
    The refusal of a handshake.

    Attributes:
        origin: The Origin header.
        hint: The problem, or the setting that allows the origin.
    """

    origin: str
    hint: str

    def __str__(self) -> str:
        return f"the origin {quoted(self.origin)} is not allowed: {self.hint}"


def check_origin(scope: Mapping[str, Any]) -> OriginRefused | None:
    """
    Return the refusal of a handshake, or None if its origin is allowed.

    A handshake without an Origin header doesn't come from a browser and is allowed. Never raises, whatever the headers
    contain.
    """
    headers = _headers(scope)
    origins = headers.get("origin", [])
    if not origins:
        return None
    origin = origins[0]
    if len(origins) > 1:
        return OriginRefused(", ".join(origins), "the handshake has several Origin headers")
    parsed = _parse(origin)
    if parsed is None:
        return OriginRefused(origin, 'it isn\'t a "scheme://host" with http or https')
    if _is_trusted(origin, parsed) or (settings.DEBUG and _is_local(parsed)):
        return None
    request = _request(scope, headers)
    try:
        host = request.get_host()
    except DisallowedHost as error:
        return OriginRefused(origin, f"{str(error)[:MAX_QUOTED]} (ALLOWED_HOSTS)")
    if _is_own(parsed, host, _scheme(scope, request)):
        return None
    hint = f"add {quoted(origin)} to CSRF_TRUSTED_ORIGINS if its pages may connect to {quoted(host)}"
    return OriginRefused(origin, hint)


def _headers(scope: Mapping[str, Any]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope.get("headers", ()):
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _request(scope: Mapping[str, Any], headers: Mapping[str, list[str]]) -> HttpRequest:
    """Return a request with the headers that get_host() and the proxy settings read."""
    request = HttpRequest()
    for name, values in headers.items():
        # Repeated headers are joined as in WSGI. get_host() then refuses a repeated Host.
        if "_" not in name:  # X_Forwarded_Host passes a proxy that strips X-Forwarded-Host (CVE-2015-0219)
            request.META["HTTP_" + name.upper().replace("-", "_")] = ",".join(values)
    host, port = scope.get("server") or ("unknown", 0)
    request.META["SERVER_NAME"] = str(host)
    request.META["SERVER_PORT"] = str(port)
    return request


def _scheme(scope: Mapping[str, Any], request: HttpRequest) -> str | None:
    """Return http or https, or None where it is unknown (Daphne doesn't report it) and can't be compared."""
    if settings.SECURE_PROXY_SSL_HEADER:
        header, secure = settings.SECURE_PROXY_SSL_HEADER
        value = request.META.get(header)
        if value is not None:
            return "https" if value.split(",", 1)[0].strip() == secure else "http"
    return SCHEMES.get(scope.get("scheme", ""))


def _parse(origin: str) -> SplitResult | None:
    try:
        parsed = urlsplit(origin)
        parsed.port  # noqa: B018 - raises ValueError for an invalid port
    except ValueError:
        return None
    is_plain = parsed.path == "" and not parsed.query and not parsed.fragment and "@" not in parsed.netloc
    return parsed if parsed.scheme in DEFAULT_PORTS and parsed.hostname and is_plain else None


def _is_trusted(origin: str, parsed: SplitResult) -> bool:
    for trusted in settings.CSRF_TRUSTED_ORIGINS:
        if trusted == origin:
            return True
        pattern = urlsplit(trusted)
        is_pattern = pattern.netloc.startswith("*") and pattern.scheme == parsed.scheme
        if is_pattern and is_same_domain(parsed.netloc, pattern.netloc.lstrip("*")):
            return True
    return False


def _is_local(parsed: SplitResult) -> bool:
    host = parsed.hostname or ""
    return host in LOCAL_HOSTS or host.endswith(".localhost")


def _is_own(origin: SplitResult, host: str, scheme: str | None) -> bool:
    if scheme is not None and scheme != origin.scheme:
        return False
    own = _parse(f"{origin.scheme}://{host}")
    default = DEFAULT_PORTS[origin.scheme]
    return own is not None and (own.hostname, own.port or default) == (origin.hostname, origin.port or default)
