"""
The description of a project's consumers, as plain data.

It is the only input of the generators: AsyncAPI, JSON Schema, and the clients in TypeScript, JavaScript and Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

from django.core.exceptions import ImproperlyConfigured
from django.utils import translation
from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import models_json_schema

from .. import close_codes
from ..close_codes import Close
from ..consumers import TypedEventConsumer
from ..protocol.events import Event, meta
from ..protocol.namespaces import namespaces
from ..protocol.schema import Schema, as_plain
from ..types import History
from .routes import client_name, routes

__all__ = ["CloseEntry", "ConsumerEntry", "Description", "EventEntry", "describe", "known_consumers"]

OWN = "wsrt."
"""The prefix of wsrt's own namespaces, which are described only on request."""


class EventEntry(TypedDict):
    """
    An event in one direction.

    Attributes:
        name: The event's name on the wire.
        model: The name of the event's class.
        description: The docstring of the class, or "".
        schema: The schema of the data (JSON Schema 2020-12). Its references refer to the consumer's definitions.
        is_optional: Whether ``data`` may be left out.
        replies: The names of the events that may answer it as a request, including "wsrt.ok" if the handler may
            return None.
        history: Whether publications of the event are kept; "latest" if only the last one for each key is.
        overflow: How the event is handled for a client that is behind.
        rate: How often one client may send the event, such as "2/s". None for no limit of its own, and for an event
            that the server sends.
    """

    name: str
    model: str
    description: str
    schema: dict[str, Any]
    is_optional: bool
    replies: list[str]
    history: History
    overflow: str
    rate: str | None


class ConsumerEntry(TypedDict):
    """
    A consumer class, as its clients see it.

    Attributes:
        name: The name of the class without the suffix "Consumer", such as "Chat".
        consumer: The dotted path of the class.
        namespace: The consumer's namespace.
        description: The docstring of the class, or "".
        paths: The URL patterns that lead to the consumer, such as "/ws/chat/{slug}/".
        hash: The hash of the schema, as sent in ``wsrt.hello``.
        receives, sends: The events that the server receives and sends.
        login: The name of the event in whose field ``token`` clients send their token, to log in and to renew it. None
            if the consumer has no such event.
        presence: The schema of the data shown for members of a room. None if there is no presence, {} if no model is
            declared.
        subscriptions: The patterns of the rooms that clients may subscribe to, such as "order.<int:pk>".
        definitions: The ``$defs`` of all schemas.
        limits: The limits that the server enforces: ``max_payload`` in bytes, ``heartbeat`` and ``heartbeat_timeout``
            in seconds.
    """

    name: str
    consumer: str
    namespace: str
    description: str
    paths: list[str]
    hash: str
    receives: list[EventEntry]
    sends: list[EventEntry]
    login: str | None
    presence: dict[str, Any] | None
    subscriptions: list[str]
    definitions: dict[str, Any]
    limits: dict[str, Any]


class CloseEntry(TypedDict):
    """A close code with its reason, and what the client does after it."""

    code: int
    fallback_code: int
    reason: str
    reconnect: str
    issued: str


class Description(TypedDict):
    """The description of a project. It is sorted, so that the same project always gives the same text."""

    wsrt: str
    subprotocol: str
    consumers: list[ConsumerEntry]
    closes: list[CloseEntry]


def describe(consumers: Iterable[type[TypedEventConsumer]] | None = None) -> Description:
    """
    Return the description of consumers.

    Args:
        consumers: The consumers. By default all that this process knows.

    Raises:
        ImproperlyConfigured: Two consumers have the same client name, or an event has no JSON Schema.
    """
    from .. import __version__  # here, to avoid a circular import

    # Must come first: it imports the application, which declares consumers.
    paths = routes()
    found = list(_known(paths) if consumers is None else consumers)
    entries: dict[str, ConsumerEntry] = {}
    for consumer in found:
        entry = _consumer(consumer, paths.get(consumer, []))
        other = entries.setdefault(entry["name"], entry)
        if other is not entry:
            raise ImproperlyConfigured(
                f"the clients of {other['consumer']} and {entry['consumer']} would both be called "
                f"{entry['name']}Client: rename one of the consumers"
            )
    return {
        "wsrt": __version__,
        "subprotocol": "wsrt.v1",
        "consumers": [entries[name] for name in sorted(entries)],
        "closes": [_close(close) for close in close_codes.TABLE],
    }


def known_consumers() -> Iterator[type[TypedEventConsumer]]:
    """
    Return the consumers that this process knows, except wsrt's own and base classes.

    A consumer counts as a base class if it has no route, but a consumer with a route inherits from it.
    """
    return _known(routes())


# Private.


def _known(routed: Mapping[type, object]) -> Iterator[type[TypedEventConsumer]]:
    bases = {base for consumer in routed for base in consumer.__mro__[1:]} - routed.keys()
    for space in sorted(namespaces):
        for consumer in namespaces[space].consumers:
            if issubclass(consumer, TypedEventConsumer) and not space.startswith(OWN) and consumer not in bases:
                yield consumer


def _consumer(consumer: type[TypedEventConsumer], paths: list[str]) -> ConsumerEntry:
    catalog = consumer.catalog
    models: list[tuple[type[BaseModel], Any]] = [
        *((model, "validation") for model in catalog.receives.values()),
        *((model, "serialization") for model in catalog.sends.values()),
    ]
    member_data = consumer.presence
    if isinstance(member_data, type):
        models.append((member_data, "serialization"))
    schemas, definitions = _schemas(consumer, models)
    receives = []
    for _, model in sorted(catalog.receives.items()):
        handler = consumer.handlers.get(model)
        entry = _event(model, schemas[model, "validation"], definitions.get("$defs", {}))
        entry["rate"] = meta(model).rate
        # The login event has no handler, and is answered with wsrt.ok.
        entry["replies"] = [] if handler is None else sorted(meta(reply).name for reply in handler.replies)
        if handler is None or handler.may_return_none:
            entry["replies"].append("wsrt.ok")
        receives.append(entry)
    presence = None
    if member_data:
        presence = schemas[member_data, "serialization"] if isinstance(member_data, type) else {}
    return {
        "name": client_name(consumer),
        "consumer": f"{consumer.__module__}.{consumer.__qualname__}",
        "namespace": consumer.namespace,
        "description": _docstring(consumer, TypedEventConsumer),
        "paths": sorted(paths),
        "hash": catalog.schema_hash,
        "receives": receives,
        "sends": [
            _event(model, schemas[model, "serialization"], definitions.get("$defs", {}))
            for _, model in sorted(catalog.sends.items())
        ],
        "login": meta(catalog.login).name if catalog.login is not None and catalog.login_takes_token else None,
        "presence": presence,
        "subscriptions": [pattern.text for pattern in consumer.room_patterns],
        "definitions": dict(sorted(definitions.get("$defs", {}).items())),
        "limits": {
            "max_payload": consumer.max_payload,
            "heartbeat": consumer.heartbeat,
            "heartbeat_timeout": consumer.heartbeat_timeout,
        },
    }


def _schemas(
    consumer: type[TypedEventConsumer], models: list[tuple[type[BaseModel], Any]]
) -> tuple[dict[Any, Any], dict[str, Any]]:
    try:
        schemas, definitions = models_json_schema(
            models, by_alias=True, ref_template="#/$defs/{model}", schema_generator=Schema
        )
    except PydanticInvalidForJsonSchema as error:
        raise ImproperlyConfigured(
            f"{consumer.__qualname__}: {_model_without_schema(models)}{error.message}"
        ) from error
    # Without a language, so that the text doesn't depend on the active translation.
    with translation.override(None):
        return {key: as_plain(schema) for key, schema in schemas.items()}, as_plain(definitions)


def _model_without_schema(models: list[tuple[type[BaseModel], Any]]) -> str:
    """Return the name of the first model without a schema, as a prefix of an error message."""
    for model, mode in models:
        try:
            model.model_json_schema(by_alias=True, mode=mode, schema_generator=Schema)
        except PydanticInvalidForJsonSchema:
            return f"{model.__qualname__}: "
    return ""


def _event(model: type[Event], schema: dict[str, Any], definitions: dict[str, Any]) -> EventEntry:
    declared = meta(model)
    whole = definitions.get(str(schema.get("$ref", "")).removeprefix("#/$defs/"), schema)
    return {
        "name": declared.name,
        "model": model.__name__,
        "description": _docstring(model, Event),
        "schema": schema,
        "is_optional": whole.get("type") == "object" and not whole.get("required"),
        "replies": [],
        "history": declared.history,
        "overflow": declared.overflow,
        "rate": None,
    }


def _close(close: Close) -> CloseEntry:
    return {
        "code": close.code,
        "fallback_code": close.fallback_code,
        "reason": close.reason,
        "reconnect": close.reconnect.value,
        "issued": close_codes.TABLE[close],
    }


def _docstring(cls: type, base: type) -> str:
    # Only the docstring of the class itself, not an inherited one.
    own = cls.__dict__.get("__doc__")
    return inspect.cleandoc(own) if own and own != base.__doc__ else ""
