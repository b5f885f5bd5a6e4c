"""The routes of ``ASGI_APPLICATION``: the URL patterns of each consumer, and the path of a consumer."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.contrib.admindocs.utils import replace_named_groups
from django.core.handlers.asgi import ASGIHandler
from django.urls import NoReverseMatch, Resolver404, URLPattern, URLResolver
from django.urls.resolvers import RegexPattern
from django.utils.http import escape_leading_slashes
from django.utils.module_loading import import_string

from ..consumers import TypedEventConsumer
from ..metrics import quoted

__all__ = [
    "PARAMETER",
    "Route",
    "advice",
    "application",
    "client_name",
    "dotted",
    "is_http_only",
    "parameters_of",
    "path_of",
    "routes",
    "routes_of",
]

Patterns = tuple[Any, ...]
"""Django's patterns of one route, starting with the outermost router."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """
    A WebSocket route of an ASGI application.

    Attributes:
        patterns: Django's patterns, starting with the outermost router.
        consumer: The class that serves it, which needn't be one of wsrt. None for another ASGI application.
        middleware: The names of the wrappers around it, starting with the outermost one.
    """

    patterns: Patterns
    consumer: type | None
    middleware: tuple[str, ...]

    @property
    def template(self) -> str:
        """The path template, with parameters in braces: "/ws/chat/{slug}/"."""
        return _template(self.patterns)

    def matches(self, path: str) -> bool:
        """Return whether the route matches a path, which starts with "/"."""
        try:
            _resolver(self.patterns).resolve(path.lstrip("/"))
        except Resolver404:
            return False
        return True


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


def routes_of(application: Any) -> Iterator[Route]:
    """
    Yield the WebSocket routes of an ASGI application.

    Routers, and middleware that keeps the application that it wraps in ``inner``, ``app`` or ``application``, are
    followed. Other wrappers hide the routes below them.
    """
    return _walk(application, (), ())


def is_http_only(application: Any) -> bool:
    """Return whether an application is Django's own ASGI handler, possibly wrapped, with no router in between."""
    while application is not None and not isinstance(application, ASGIHandler):
        application = None if _is_router(application) else _inner(application)
    return application is not None


def advice(path: str, found: Iterable[Route]) -> str:
    """
    Return advice about a path without a route: a missing slash, or the most similar of the project's routes.

    Args:
        path: The path, which starts with "/".
        found: The routes.
    """
    found = list(found)
    without_slash = path.removesuffix("/")
    if without_slash != path and any(route.matches(without_slash) for route in found):
        return "remove the slash at the end"
    if any(route.matches(f"{path}/") for route in found):
        return f"add a slash at the end: {quoted(path + '/')}"
    templates = [route.template for route in found if not _is_built_in(route.consumer)]
    if not templates:
        return NO_ROUTES
    # The path comes from a client: comparing takes time in proportion to its length.
    path = path[:MAX_COMPARED]
    similar = max(templates, key=lambda each: difflib.SequenceMatcher(None, path, _filled(each, path)).ratio())
    return f"the most similar route is {similar}"


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
    consumers = list(dict.fromkeys(each for _, each in found if name in (dotted(each), client_name(each))))
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
    raise NoReverseMatch(_no_matching_pattern(dotted(consumers[0]), parameters, candidates))


def dotted(consumer: type) -> str:
    """Return the dotted path of a consumer class."""
    return f"{consumer.__module__}.{consumer.__qualname__}"


def client_name(consumer: type) -> str:
    """Return the name of a consumer's client: the name of the class without the suffix "Consumer"."""
    return consumer.__name__.removesuffix("Consumer") or consumer.__name__


PARAMETER = re.compile(r"{([^\W\d]\w*)}")
"""A parameter in a path template. "{4}" isn't a parameter, but a part of a regular expression."""


def parameters_of(template: str) -> list[str]:
    """Return the names of the parameters in a path template such as "/ws/chat/{slug}/", in order."""
    return PARAMETER.findall(template)


def application() -> Any:
    """Import and return ``ASGI_APPLICATION``. Return None if the setting isn't set."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    return import_string(path) if path else None


# Private.

ROUTE = "route"

NO_ROUTES = "no consumer has a route; is there one with a path, in consumers.py of an app in INSTALLED_APPS?"
"""The advice if a project has no routes but those of wsrt itself. It fits into the reason of a close."""

MAX_COMPARED = 200
"""The number of characters of a path that are compared with the routes."""


def _routed_consumers() -> Iterator[tuple[Patterns, type]]:
    for route in routes_of(application()):
        if route.consumer is not None and issubclass(route.consumer, TypedEventConsumer):
            yield route.patterns, route.consumer


def _walk(application: Any, outer: Patterns, middleware: tuple[str, ...]) -> Iterator[Route]:
    if application is None or isinstance(application, ASGIHandler):
        return
    consumer = getattr(application, "consumer_class", None)
    if isinstance(consumer, type):
        yield Route(outer, consumer, middleware)
        return
    mapping = getattr(application, "application_mapping", None)
    if isinstance(mapping, dict):
        yield from _walk(mapping.get("websocket"), outer, middleware)
        return
    patterns = getattr(application, "routes", None)
    if patterns is not None:
        for route in patterns:
            yield from _walk(route.callback, (*outer, route.pattern), middleware)
        return
    inner = _inner(application)
    if inner is not None:
        yield from _walk(inner, outer, (*middleware, *_names(application)))
    elif outer:
        yield Route(outer, None, middleware)


def _is_router(application: Any) -> bool:
    return hasattr(application, "application_mapping") or hasattr(application, "routes")


def _inner(application: Any) -> Any:
    """Return the application that a middleware or another wrapper wraps. None if there is none."""
    values = (getattr(application, name, None) for name in ("inner", "app", "application", "_application"))
    return next((value for value in values if value is not None), None)


def _names(application: Any) -> tuple[str, ...]:
    """Return the names of the middleware that a wrapper consists of."""
    names: tuple[str, ...] | None = getattr(application, "middleware_names", None)
    return (type(application).__name__,) if names is None else names


def _filled(template: str, path: str) -> str:
    """Return a path template whose parameters are replaced by the parts of a path in the same place."""
    parts = path.split("/")
    return "/".join(
        parts[number] if PARAMETER.search(segment) and number < len(parts) else segment
        for number, segment in enumerate(template.split("/"))
    )


def _resolver(patterns: Patterns) -> URLResolver:
    """Return a URL resolver, with which Django reverses patterns with converters, encoding and optional groups."""
    *outer, last = patterns or [RegexPattern("")]
    found: URLPattern | URLResolver = URLPattern(last, _no_view, name=ROUTE)
    for pattern in reversed(outer):
        found = URLResolver(pattern, [found])
    return URLResolver(RegexPattern(""), [found])


def _no_view(*args: Any) -> Any:
    raise NotImplementedError("this pattern is only used to build URLs, not to serve them")


def _unknown_consumer(name: str, consumers: list[type], found: list[tuple[Patterns, type]]) -> str:
    if consumers:
        paths = " and ".join(dotted(consumer) for consumer in consumers)
        return f"{name!r} is ambiguous: {paths}. Use the dotted path of the class"
    own = [consumer for _, consumer in found if not _is_built_in(consumer)]
    if not own:
        return f"No route of ASGI_APPLICATION leads to {name!r}: {NO_ROUTES}"
    known = ", ".join(dict.fromkeys(f"{dotted(consumer)} ({client_name(consumer)})" for consumer in own))
    return f"No route of ASGI_APPLICATION leads to {name!r}. There are routes to: {known}"


def _is_built_in(consumer: type | None) -> bool:
    """Return whether a consumer is one of wsrt's own, such as that of the admin's live pages."""
    return consumer is not None and consumer.__module__.startswith("wsrt.")


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
