"""The routes of ``ASGI_APPLICATION``: the URL patterns of each consumer, and the path of a consumer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.admindocs.utils import replace_named_groups
from django.urls import NoReverseMatch, URLPattern, URLResolver
from django.urls.resolvers import RegexPattern
from django.utils.http import escape_leading_slashes
from django.utils.module_loading import import_string

from ..consumers import TypedEventConsumer

__all__ = ["PARAMETER", "client_name", "parameters_of", "path_of", "routes"]

Patterns = tuple[Any, ...]
"""Django's patterns of one route, starting with the outermost router."""


def routes() -> dict[type, list[str]]:
    """
    Return the URL patterns of ``ASGI_APPLICATION``, by consumer. Return {} if the setting isn't set.

    Parameters are in braces: "/ws/chat/{slug}/". Patterns start with ``FORCE_SCRIPT_NAME``, if it is set.
    """
    # Not get_script_prefix(), which depends on the current request: the description belongs to the project.
    prefix = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")
    found: dict[type, list[str]] = {}
    for patterns, consumer in _routed_consumers():
        found.setdefault(consumer, []).append(prefix + _template(patterns))
    return found


def path_of(name: str, parameters: dict[str, Any]) -> str:
    """
    Return the percent-encoded path of a consumer. It starts with "/" and doesn't include the script prefix.

    Args:
        name: The dotted path of the class, such as "chat.consumers.ChatConsumer", or the name of its client, such as
            "Chat".
        parameters: The parameters of the URL pattern. The first pattern with exactly these is used.

    Raises:
        NoReverseMatch: There is no such consumer, or none of its patterns matches the parameters.
    """
    found = list(_routed_consumers())
    consumers = list(dict.fromkeys(each for _, each in found if name in (_dotted(each), client_name(each))))
    if len(consumers) != 1:
        raise NoReverseMatch(_unknown_consumer(name, consumers, found))
    candidates = [patterns for patterns, consumer in found if consumer is consumers[0]]
    for patterns in candidates:
        try:
            path = _resolver(patterns).reverse(ROUTE, **parameters)
        except NoReverseMatch:
            continue
        # A path that starts with "//" would refer to another host.
        return str(escape_leading_slashes(f"/{path}"))
    raise NoReverseMatch(_no_matching_pattern(_dotted(consumers[0]), parameters, candidates))


def client_name(consumer: type) -> str:
    """Return the name of a consumer's client: the name of the class without the suffix "Consumer"."""
    return consumer.__name__.removesuffix("Consumer") or consumer.__name__


PARAMETER = re.compile(r"{([^\W\d]\w*)}")
"""A parameter in a path template. "{4}" isn't one, but a remainder of a regular expression."""


def parameters_of(template: str) -> list[str]:
    """Return the names of the parameters in a path template such as "/ws/chat/{slug}/", in order."""
    return PARAMETER.findall(template)


def application() -> Any:
    """Import and return ``ASGI_APPLICATION``. Return None if the setting isn't set."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    return import_string(path) if path else None


# Private.

ROUTE = "route"


def _dotted(consumer: type) -> str:
    return f"{consumer.__module__}.{consumer.__qualname__}"


def _routed_consumers() -> Iterator[tuple[Patterns, type]]:
    found = application()
    if found is not None:
        yield from _walk(found, ())


def _walk(application: Any, outer: Patterns) -> Iterator[tuple[Patterns, type]]:
    """Yield the consumers within an ASGI application: routers, middlewares and wrappers are followed."""
    consumer = getattr(application, "consumer_class", None)
    if isinstance(consumer, type):
        if issubclass(consumer, TypedEventConsumer):
            yield outer, consumer
        return
    mapping = getattr(application, "application_mapping", None)
    if isinstance(mapping, dict):
        if "websocket" in mapping:
            yield from _walk(mapping["websocket"], outer)
        return
    patterns = getattr(application, "routes", None)
    if patterns is not None:
        for route in patterns:
            yield from _walk(route.callback, (*outer, route.pattern))
        return
    inner = getattr(application, "inner", None) or getattr(application, "application", None)
    if inner is None:
        inner = getattr(application, "_application", None)
    if inner is not None:
        yield from _walk(inner, outer)


def _resolver(patterns: Patterns) -> URLResolver:
    """Return a URL resolver, with which Django reverses patterns with converters, encoding and optional groups."""
    *outer, last = patterns or [RegexPattern("")]
    found: URLPattern | URLResolver = URLPattern(last, _no_view, name=ROUTE)
    for pattern in reversed(outer):
        found = URLResolver(pattern, [found])
    return URLResolver(RegexPattern(""), [found])


def _no_view(*args: Any) -> Any:
    raise NotImplementedError("this pattern is only for reversing")


def _unknown_consumer(name: str, consumers: list[type], found: list[tuple[Patterns, type]]) -> str:
    if consumers:
        paths = " and ".join(_dotted(consumer) for consumer in consumers)
        return f"{name!r} is ambiguous: {paths}. Use the dotted path of the class"
    if not found:
        return f"No route leads to {name!r}: ASGI_APPLICATION has no wsrt consumers"
    known = ", ".join(dict.fromkeys(f"{_dotted(consumer)} ({client_name(consumer)})" for _, consumer in found))
    return f"No route of ASGI_APPLICATION leads to {name!r}. There are routes to: {known}"


def _no_matching_pattern(name: str, parameters: dict[str, Any], candidates: list[Patterns]) -> str:
    templates = ", ".join(_template(patterns) for patterns in candidates)
    given = set(parameters)
    wanted = [set(parameters_of(_template(patterns))) for patterns in candidates]
    if given in wanted:
        return f"These parameters don't match {templates}, the URL of {name}: {parameters}"
    # Compare with the most similar pattern.
    nearest = min(wanted, key=lambda names: len(names ^ given))
    problems = [
        f"{what} {', '.join(sorted(names))}"
        for what, names in (("missing:", nearest - given), ("not in the pattern:", given - nearest))
        if names
    ]
    return f"The URL of {name} is {templates}. Its parameters don't match: {'; '.join(problems)}"


REGEX_NAME = re.compile(r"<(\w+)>")
ESCAPED = re.compile(r"\\([^\w\s{}])")
PATH_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


def _template(patterns: Patterns) -> str:
    """Return the path template of Django's patterns, with parameters as ``{name}``."""
    return "/" + "".join(map(_part, patterns))


def _part(pattern: Any) -> str:
    text = str(pattern)
    if isinstance(pattern, RegexPattern):
        text = REGEX_NAME.sub(r"{\1}", replace_named_groups(text))
        for start in ("^", r"\A"):
            text = text.removeprefix(start)
        for end in ("$", r"\Z", "/?"):
            text = text.removesuffix(end)
        # Escaped punctuation in the remainder of a regular expression is text.
        return ESCAPED.sub(r"\1", text)
    return PATH_PARAMETER.sub(r"{\1}", text)
