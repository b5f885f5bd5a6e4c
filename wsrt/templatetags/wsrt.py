"""
Template tags for pages that use a client without a bundler.

    {% load wsrt %}
    {% wsrt_client %}
    <main data-url="{% ws_url "Chat" slug=room.slug %}" data-position="{% room_position room.slug namespace="chat" %}">
"""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.template import Context
from django.templatetags.static import static
from django.urls import get_script_prefix
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from .. import history
from ..realms import NOT_GIVEN, Tenant
from ..schema.routes import path_of
from ..types import Position

register = template.Library()

CLIENT = "wsrt/client.js"
"""The static file with the runtime of the clients."""

IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""Characters that could end a script or begin a comment within it, with their escapes."""


@register.simple_tag(takes_context=True)
def wsrt_client(context: Context, /, **modules: str) -> SafeString:
    """
    Return an import map, so that scripts of the page can use ``import { Client } from "wsrt"``.

    Use it once, in the head, before all modules. It includes the nonce of the content security policy, if the context
    has one.

    Args:
        context: The context of the template.
        modules: Additional import names with their static files, such as ``clients="chat/clients/index.js"``.
    """
    urls = {name: static(path) for name, path in {"wsrt": CLIENT, **modules}.items()}
    nonce = _nonce(context)
    attribute = "" if nonce is None else format_html(' nonce="{}"', nonce)
    # Safe, because characters that could end the script are escaped. Quotes must not be.
    text = mark_safe(json.dumps({"imports": urls}, ensure_ascii=False).translate(IN_SCRIPT))  # noqa: S308
    lines = [
        format_html('<script type="importmap"{}>{}</script>', attribute, text),
        # After the map, because older browsers ignore an import map once they load a module.
        *(format_html('<link rel="modulepreload" href="{}"{}>', url, attribute) for url in urls.values()),
    ]
    return format_html_join("\n", "{}", ((line,) for line in lines))


@register.simple_tag(takes_context=True)
def ws_url(context: Context, target: str, /, **parameters: Any) -> str:
    """
    Return the absolute ws:// or wss:// URL of an endpoint on the host of the request.

    Args:
        context: The context of the template.
        target: A percent-encoded path that starts with "/"; or a consumer with a route in ``ASGI_APPLICATION``, by the
            dotted path of its class or the name of its client.
        parameters: The parameters of the consumer's URL pattern.

    Raises:
        NoReverseMatch: No route leads to the consumer.
        ImproperlyConfigured: The context has no request.
        ValueError: The target is neither a path nor a consumer.
    """
    request = context.get("request")
    if not isinstance(request, HttpRequest):
        raise ImproperlyConfigured(
            "{% ws_url %} needs the request: render the template with a request, and add "
            "django.template.context_processors.request to the context processors"
        )
    # Django determines the host and scheme, including those set by proxies.
    return f"ws{request.build_absolute_uri(_path(target, parameters)).removeprefix('http')}"


@register.simple_tag
def room_position(room: str | Position, /, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> SafeString:
    """
    Return the position in the history of a room, as JSON for an attribute of an element.

        <main data-position="{% room_position room.slug namespace="chat" %}">

    A client that starts from this position receives everything that is published after the page was rendered. The
    position must be read before the page's data. If the view loads the data, let the view read the position first.

    Args:
        room: The name of the room; or its position, which the view has read. A template that is rendered in an event
            loop needs the position, from ``await aroom_position(...)``.
        namespace: The namespace of the room.
        tenant: The tenant that the room belongs to; see ``wsrt.room_position()``.

    Raises:
        WrongContext: A room is given, and an event loop is running in this thread.
        Exception: Anything else that ``wsrt.room_position()`` raises.
    """
    position = room if isinstance(room, Position) else history.room_position(room, namespace=namespace, tenant=tenant)
    return format_html("{}", json.dumps(position.as_dict()))


def _path(target: Any, parameters: dict[str, Any]) -> str:
    if not isinstance(target, str) or not target:
        raise ValueError(f"{{% ws_url %}} needs a path or a consumer, not {target!r}: is the variable defined?")
    if "/" not in target:
        return get_script_prefix().removesuffix("/") + path_of(target, parameters)
    if not target.startswith("/") or target.startswith("//"):
        raise ValueError(f"{{% ws_url %}} needs a path on this host, which starts with a single slash, not {target!r}")
    if parameters:
        raise ValueError(
            f"{{% ws_url %}} can't put parameters into the path {target!r}: remove {', '.join(parameters)}, or name a "
            "consumer instead of the path"
        )
    return target


def _nonce(context: Context) -> str | None:
    """Return the nonce of the response, set by Django or django-csp. Return None if there is none."""
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    # A lazy nonce is false until it is converted to a string.
    return None if nonce is None else str(nonce)
