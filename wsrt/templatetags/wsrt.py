"""
Tags for pages that use a client without a bundler.

    {% load wsrt %}
    {% wsrt_client %}
    <main data-url="{% ws_url "Chat" slug=room.slug %}">
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

from ..schema.routes import path_of

register = template.Library()

CLIENT = "wsrt/client.js"
"""The static file with the runtime of the clients."""

IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""What could end a script, or begin a comment in one."""


@register.simple_tag(takes_context=True)
def wsrt_client(context: Context, /, **modules: str) -> SafeString:
    """
    Return an import map, so that scripts of the page may say ``import { Client } from "wsrt"``.

    It goes into the head, once, ahead of all modules. It carries the nonce of the content security policy where the
    context has one.

    Args:
        modules: further names to import by, each with its static file: ``clients="chat/clients/index.js"``.
    """
    urls = {name: static(path) for name, path in {"wsrt": CLIENT, **modules}.items()}
    nonce = _nonce(context)
    attribute = "" if nonce is None else format_html(' nonce="{}"', nonce)
    # Nothing in it can end the script; quotes stay what they are.
    text = mark_safe(json.dumps({"imports": urls}, ensure_ascii=False).translate(IN_SCRIPT))  # noqa: S308
    lines = [
        format_html('<script type="importmap"{}>{}</script>', attribute, text),
        # After the map: older browsers take none once a module is on its way.
        *(format_html('<link rel="modulepreload" href="{}"{}>', url, attribute) for url in urls.values()),
    ]
    return format_html_join("\n", "{}", ((line,) for line in lines))


@register.simple_tag(takes_context=True)
def ws_url(context: Context, target: str, /, **parameters: Any) -> str:
    """
    Return the absolute ws:// or wss:// URL of an endpoint on the host of this request.

    Args:
        target: a path that begins with "/", percent-encoded already; or a consumer that a route of
            ``ASGI_APPLICATION`` leads to, by the dotted path of its class or the name of its client.
        parameters: of the consumer's URL pattern.

    Raises:
        NoReverseMatch: no route leads there.
        ImproperlyConfigured: the context has no request.
        ValueError: the target is neither.
    """
    request = context.get("request")
    if not isinstance(request, HttpRequest):
        raise ImproperlyConfigured(
            "{% ws_url %} needs the request: render the template with one, with "
            "django.template.context_processors.request among the context processors"
        )
    # What Django believes of host and scheme, behind proxies too.
    return f"ws{request.build_absolute_uri(_path(target, parameters)).removeprefix('http')}"


def _path(target: Any, parameters: dict[str, Any]) -> str:
    if not isinstance(target, str) or not target:
        raise ValueError(f"{{% ws_url %}} needs a path or a consumer, not {target!r}: is the variable defined?")
    if "/" not in target:
        return get_script_prefix().removesuffix("/") + path_of(target, parameters)
    if not target.startswith("/") or target.startswith("//"):
        raise ValueError(f"{{% ws_url %}} takes paths of this host, which begin with one slash, not {target!r}")
    if parameters:
        raise ValueError(f"{{% ws_url %}} has no use for {', '.join(parameters)}: {target!r} is a path already")
    return target


def _nonce(context: Context) -> str | None:
    """Return the nonce of this response, of Django's policy or django-csp's."""
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    # Lazy ones are made by being read, and are false until then.
    return None if nonce is None else str(nonce)
