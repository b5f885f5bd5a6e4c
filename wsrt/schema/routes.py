"""Routes: which URL patterns of ``ASGI_APPLICATION`` lead to which consumer, and the URL of a consumer."""

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
"""Django's patterns of one route, from the outermost router in."""


def routes() -> dict[type, list[str]]:
    """
    Return the URL patterns of ``ASGI_APPLICATION`` by the consumer that they lead to; {} where there is none.

    Parameters stand in braces: "/ws/chat/{slug}/". Patterns begin with ``FORCE_SCRIPT_NAME``, where it is set.
    """
    # Not what Django takes for the prefix of the current request: a description is that of the project.
    prefix = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")
    found: dict[type, list[str]] = {}
    for patterns, consumer in _all():
        found.setdefault(consumer, []).append(prefix + _template(patterns))
    return found


def path_of(name: str, parameters: dict[str, Any]) -> str:
    """
    Return the path that leads to a consumer, percent-encoded; it begins with "/", without the script prefix.

    Args:
        name: the dotted path of the class, or the name of its client: "chat.consumers.ChatConsumer", "Chat".
        parameters: of the URL pattern; of several patterns the first one that has just these is taken.

    Raises:
        NoReverseMatch: there is no such consumer, or no pattern of it that these parameters fit.
    """
    found = list(_all())
    consumers = list(dict.fromkeys(each for _, each in found if name in (_dotted(each), client_name(each))))
    if len(consumers) != 1:
        raise NoReverseMatch(_unknown(name, consumers, found))
    ours = [patterns for patterns, consumer in found if consumer is consumers[0]]
    for patterns in ours:
        try:
            path = _resolver(patterns).reverse(ROUTE, **parameters)
        except NoReverseMatch:
            continue
        # "//" at the start would name another host.
        return str(escape_leading_slashes(f"/{path}"))
    raise NoReverseMatch(_no_match(_dotted(consumers[0]), parameters, ours))


def client_name(consumer: type) -> str:
    """Return what the client of a consumer is called: the name of the class, without "Consumer" at its end."""
    return consumer.__name__.removesuffix("Consumer") or consumer.__name__


PARAMETER = re.compile(r"{([^\W\d]\w*)}")
"""A parameter in a template of a path; "{4}" is what is left of a regular expression."""


def parameters_of(template: str) -> list[str]:
    """Return the names of the parameters of "/ws/chat/{slug}/", in their order."""
    return PARAMETER.findall(template)


def application() -> Any:
    """Return ``ASGI_APPLICATION``, imported with all that it routes to; None where there is none."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    return import_string(path) if path else None


# Private.

ROUTE = "route"


def _dotted(consumer: type) -> str:
    return f"{consumer.__module__}.{consumer.__qualname__}"


def _all() -> Iterator[tuple[Patterns, type]]:
    found = application()
    if found is not None:
        yield from _walk(found, ())


def _walk(application: Any, above: Patterns) -> Iterator[tuple[Patterns, type]]:
    """Find consumers in whatever Channels and its middlewares are made of."""
    consumer = getattr(application, "consumer_class", None)
    if isinstance(consumer, type):
        if issubclass(consumer, TypedEventConsumer):
            yield above, consumer
        return
    mapping = getattr(application, "application_mapping", None)
    if isinstance(mapping, dict):
        if "websocket" in mapping:
            yield from _walk(mapping["websocket"], above)
        return
    patterns = getattr(application, "routes", None)
    if patterns is not None:
        for route in patterns:
            yield from _walk(route.callback, (*above, route.pattern))
        return
    inner = getattr(application, "inner", None) or getattr(application, "application", None)
    if inner is None:
        inner = getattr(application, "_application", None)
    if inner is not None:
        yield from _walk(inner, above)


def _resolver(patterns: Patterns) -> URLResolver:
    """Return Django's own way back from parameters to a path: converters, encoding, optional groups."""
    *outer, last = patterns or [RegexPattern("")]
    found: URLPattern | URLResolver = URLPattern(last, _never, name=ROUTE)
    for pattern in reversed(outer):
        found = URLResolver(pattern, [found])
    return URLResolver(RegexPattern(""), [found])


def _never(*args: Any) -> Any:
    raise NotImplementedError("this pattern is for reversing only")


def _unknown(name: str, consumers: list[type], found: list[tuple[Patterns, type]]) -> str:
    if consumers:
        paths = " and ".join(_dotted(consumer) for consumer in consumers)
        return f"{name!r} is the name of {paths}: give the dotted path of the class"
    if not found:
        return f"No route leads to {name!r}: ASGI_APPLICATION has no consumer of wsrt"
    known = ", ".join(dict.fromkeys(f"{_dotted(consumer)} ({client_name(consumer)})" for _, consumer in found))
    return f"No route of ASGI_APPLICATION leads to {name!r}; there are routes to: {known}"


def _no_match(name: str, parameters: dict[str, Any], ours: list[Patterns]) -> str:
    shown = ", ".join(_template(patterns) for patterns in ours)
    given = set(parameters)
    wanted = [set(parameters_of(_template(patterns))) for patterns in ours]
    if given in wanted:
        return f"These parameters do not fit {shown}, which leads to {name}: {parameters}"
    # Against the pattern that comes nearest.
    nearest = min(wanted, key=lambda names: len(names ^ given))
    problems = [
        f"{what} {', '.join(sorted(names))}"
        for what, names in (("missing", nearest - given), ("not in the pattern:", given - nearest))
        if names
    ]
    return f"{shown} leads to {name}; of its parameters: {'; '.join(problems)}"


REGEX_NAME = re.compile(r"<(\w+)>")
ESCAPED = re.compile(r"\\([^\w\s{}])")
PATH_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


def _template(patterns: Patterns) -> str:
    """Return patterns of Django with their parameters as ``{name}``."""
    return "/" + "".join(map(_part, patterns))


def _part(pattern: Any) -> str:
    text = str(pattern)
    if isinstance(pattern, RegexPattern):
        text = REGEX_NAME.sub(r"{\1}", replace_named_groups(text))
        for start in ("^", r"\A"):
            text = text.removeprefix(start)
        for end in ("$", r"\Z", "/?"):
            text = text.removesuffix(end)
        # Of what is left of a regular expression only escaped punctuation is text.
        return ESCAPED.sub(r"\1", text)
    return PATH_PARAMETER.sub(r"{\1}", text)
