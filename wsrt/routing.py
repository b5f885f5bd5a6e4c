"""
The WebSocket routes of the consumers that have a ``path``.

``wsrt.asgi.with_runtime(get_asgi_application())`` serves them. A project with routers of its own adds them to its list:

    URLRouter([path("ws/old/", OldConsumer.as_asgi()), *consumer_urlpatterns()])
"""

from __future__ import annotations

import gc
import re
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.urls import path

from .conf import require_installed
from .consumers import TypedEventConsumer
from .protocol.namespaces import namespaces

__all__ = ["consumer_urlpatterns", "routed_consumers"]

Consumer = type[TypedEventConsumer[Any]]


def consumer_urlpatterns() -> list[Any]:
    """
    Return a URLPattern for each consumer that has a ``path``, including the one of the admin's live pages.

    The consumers are those that were imported when Django started: the modules of ``WSRT["CONSUMERS"]``. A path with
    literal text comes before one with a parameter in the same place, so the order of the apps doesn't matter.

    Raises:
        ImproperlyConfigured: Two consumers have the same path, Django isn't set up yet, or ``wsrt`` isn't installed.
    """
    # The items are Any, because the stubs of Channels' URLRouter accept only a type of their own.
    return [path(str(consumer.path), consumer.as_asgi()) for consumer in routed_consumers()]


def routed_consumers() -> list[Consumer]:
    """
    Return the consumers that have a ``path``, in the order of their routes. See consumer_urlpatterns().

    Raises:
        ImproperlyConfigured: See consumer_urlpatterns().
    """
    if not apps.ready:
        raise ImproperlyConfigured(
            "consumers have routes only after Django has been set up: call consumer_urlpatterns() and with_runtime() "
            "after get_asgi_application()"
        )
    require_installed()
    if _clash(_consumers()) is not None:
        # Classes are part of reference cycles. A class that is not in use any more may still be here.
        gc.collect()
    consumers = _consumers()
    clash = _clash(consumers)
    if clash is not None:
        one, other = clash
        raise ImproperlyConfigured(
            f"{_dotted(one)} and {_dotted(other)} have the same path, {other.path!r}: a path leads to one consumer. "
            "Change one of them, or set path = None and route it with as_asgi()"
        )
    return sorted(consumers, key=lambda consumer: _precedence(str(consumer.path)))


# Private.

PARAMETER = re.compile(r"<(?:(\w+):)?\w+>")

CONVERTERS = ("slug", "str", "path")
"""Django's converters of text. Each accepts what the one before accepts, and more."""


def _consumers() -> list[Consumer]:
    own: list[Consumer] = []
    if apps.is_installed("django.contrib.admin"):
        # Imported here: a project without the admin doesn't need it.
        from .admin.live import AdminConsumer

        own.append(AdminConsumer)
    consumers: dict[str, Consumer] = {}
    for name, space in namespaces.items():
        for consumer in space.consumers:
            if issubclass(consumer, TypedEventConsumer) and consumer.path is not None and not name.startswith("wsrt."):
                # A class that was defined again, by a reloaded module, replaces the earlier one.
                consumers[_dotted(consumer)] = consumer
    return [*consumers.values(), *own]


def _clash(consumers: list[Consumer]) -> tuple[Consumer, Consumer] | None:
    """Return two consumers whose paths match the same, None if there are none."""
    found: dict[str, Consumer] = {}
    for consumer in consumers:
        other = found.setdefault(_matched(str(consumer.path)), consumer)
        if other is not consumer:
            return other, consumer
    return None


def _precedence(route: str) -> list[int]:
    """Return the key by which routes are sorted: of two that match the same path, the more specific one comes first."""
    return [_breadth(segment) for segment in route.split("/")]


def _breadth(segment: str) -> int:
    """Return 0 for literal text, else a higher number the more text the parameter accepts."""
    match = PARAMETER.search(segment)
    if match is None:
        return 0
    converter = match[1] or "str"
    return 2 + CONVERTERS.index(converter) if converter in CONVERTERS else 1


def _matched(route: str) -> str:
    """Return a route without the names of its parameters. Two routes with the same result match the same paths."""
    return PARAMETER.sub(lambda match: f"<{match[1] or 'str'}>", route)


def _dotted(consumer: type) -> str:
    return f"{consumer.__module__}.{consumer.__qualname__}"
