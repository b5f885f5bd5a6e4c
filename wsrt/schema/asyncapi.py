"""AsyncAPI 3.0 and JSON Schema documents, generated from a description."""

from __future__ import annotations

import re
from typing import Any

from ..clients.generate.shapes import pascal
from ..protocol.schema import BY_NAME, GIVEN
from .description import ConsumerEntry, Description, EventEntry
from .routes import parameters_of

__all__ = ["asyncapi", "json_schema", "message_key"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

REF = {"description": "Marks a request. Its answer has the same ref.", "type": ["string", "integer"], "maxLength": 64}

DIRECTIONS = {"receives": "Received", "sends": "Sent"}
"""The words for directions in the titles of frames, from the server's perspective."""

ROOM_REQUESTS = {"wsrt.subscribe": "WsrtSubscribe", "wsrt.unsubscribe": "WsrtUnsubscribe"}
"""The reserved events that ask for a room, with their titles."""

OWN_TITLES = (
    *("WsrtOk", "WsrtError", "WsrtErrorData", "WsrtErrorEntry"),
    *ROOM_REQUESTS.values(),
    *(f"{title}Data" for title in ROOM_REQUESTS.values()),
)
"""The titles of frames that the clients of all consumers receive or send."""


def asyncapi(
    description: Description, *, title: str = "Realtime", version: str = "1.0.0", session_cookie: str = "sessionid"
) -> dict[str, Any]:
    """
    Return an AsyncAPI 3.0 document, with a channel for each consumer and URL pattern.

    Operations are described from the application's perspective: "receive" is what clients send. Answers refer to their
    requests by ``ref``. ``x-wsrt-closes`` has the close codes, and what clients do after each.

    Code generators name types by ``title``, so each model and each frame has a unique one.

    Args:
        description: The description of the consumers.
        title: The title of the document.
        version: The version of the document.
        session_cookie: The name of the session cookie, ``SESSION_COOKIE_NAME``. It isn't part of the description,
            because it may differ between deployments.
    """
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {"wsrt.ok": _ok(), "wsrt.error": _error()}
    if any(consumer["subscriptions"] for consumer in description["consumers"]):
        messages |= {name: _room_request(name) for name in ROOM_REQUESTS}
    schemas: dict[str, Any] = {}
    # Code generators also create a type for each channel.
    titles = _Titles(*OWN_TITLES, *(consumer["name"] for consumer in description["consumers"]))
    for consumer in description["consumers"]:
        prefix = consumer["name"]
        for name, schema in consumer["definitions"].items():
            schemas[_key(prefix, name)] = titles.titled(_rebased(schema, prefix), titles.unique(prefix, name))
        for direction in ("receives", "sends"):
            for event in consumer[direction]:
                message = _message(event, prefix)
                frame = titles.unique(prefix, DIRECTIONS[direction], event["name"], "Frame")
                message["payload"] = titles.titled(message["payload"], frame)
                messages[message_key(prefix, direction, event["name"])] = message
        for number, path in enumerate(consumer["paths"] or [None]):
            channel = prefix if number == 0 else f"{prefix}.{number + 1}"
            channels[channel] = _channel(consumer, path)
            operations |= _operations(consumer, channel)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": title,
            "version": version,
            "description": "WebSocket endpoints. A frame is a JSON object with an event and its data.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "session": {
                    "type": "httpApiKey",
                    "name": session_cookie,
                    "in": "cookie",
                    "description": "The Django session of the page that opens the socket.",
                }
            },
        },
        "x-wsrt-subprotocol": description["subprotocol"],
        "x-wsrt-closes": description["closes"],
    }


def json_schema(description: Description) -> dict[str, Any]:
    """
    Return a JSON Schema (2020-12) whose ``$defs`` describe all frames of each consumer, in both directions.

    ``#/$defs/Chat.receives`` matches the frames that a client of ``ChatConsumer`` may send, and ``#/$defs/Chat.sends``
    those that it may receive.
    """
    definitions: dict[str, Any] = {"wsrt.ok": _ok()["payload"], "wsrt.error": _error()["payload"]}
    for consumer in description["consumers"]:
        prefix = consumer["name"]
        for name, schema in consumer["definitions"].items():
            definitions[_key(prefix, name)] = _rebased(schema, prefix, "#/$defs/")
        for direction in ("receives", "sends"):
            frames = [_payload(event, prefix, "#/$defs/") for event in consumer[direction]]
            if direction == "receives" and consumer["subscriptions"]:
                frames += [_room_request(name)["payload"] for name in ROOM_REQUESTS]
            definitions[f"{prefix}.{direction}"] = {"oneOf": frames} if frames else {"not": {}}
    return {"$schema": DRAFT, "$id": "urn:wsrt:frames", "$defs": definitions}


def message_key(prefix: str, direction: str, name: str) -> str:
    """Return the unique key of an event in these documents, such as "Chat.receives.message.send"."""
    return f"{prefix}.{direction}.{_escaped(name)}"


# Private.


def _channel(consumer: ConsumerEntry, path: str | None) -> dict[str, Any]:
    prefix = consumer["name"]
    found: dict[str, Any] = {
        "address": path,
        "messages": {
            **{
                message_key(prefix, direction, event["name"]): {
                    "$ref": f"#/components/messages/{message_key(prefix, direction, event['name'])}"
                }
                for direction in ("receives", "sends")
                for event in consumer[direction]
            },
            "wsrt.ok": {"$ref": "#/components/messages/wsrt.ok"},
            "wsrt.error": {"$ref": "#/components/messages/wsrt.error"},
            **{name: {"$ref": f"#/components/messages/{name}"} for name in _room_requests(consumer)},
        },
        "bindings": {"ws": {"method": "GET"}},
        "x-wsrt-namespace": consumer["namespace"],
        "x-wsrt-hash": consumer["hash"],
        "x-wsrt-limits": consumer["limits"],
    }
    if consumer["description"]:
        found["description"] = consumer["description"]
    if consumer["login"] is not None:
        found["x-wsrt-login"] = consumer["login"]
    if consumer["subscriptions"]:
        found["x-wsrt-subscriptions"] = consumer["subscriptions"]
    parameters = parameters_of(path or "")
    if parameters:
        found["parameters"] = {name: {"description": "A parameter of the URL."} for name in parameters}
    return found


def _operations(consumer: ConsumerEntry, channel: str) -> dict[str, Any]:
    prefix, at = consumer["name"], {"$ref": f"#/channels/{channel}"}
    operations: dict[str, Any] = {}

    def message(direction: str, name: str) -> dict[str, str]:
        key = name if name.startswith("wsrt.") else message_key(prefix, direction, name)
        return {"$ref": f"#/channels/{channel}/messages/{key}"}

    for event in consumer["receives"]:
        operations[f"{channel}.receive.{_escaped(event['name'])}"] = {
            "action": "receive",
            "channel": at,
            "summary": event["description"].partition("\n")[0] or f"A client sends {event['name']}.",
            "messages": [message("receives", event["name"])],
            "reply": {
                "channel": at,
                "messages": [message("sends", name) for name in [*event["replies"], "wsrt.error"]],
            },
        }
    for name in _room_requests(consumer):
        operations[f"{channel}.receive.{name}"] = {
            "action": "receive",
            "channel": at,
            "summary": f"A client sends {name}, which is answered with wsrt.ok.",
            "messages": [message("receives", name)],
            "reply": {"channel": at, "messages": [message("sends", "wsrt.ok"), message("sends", "wsrt.error")]},
        }
    for event in consumer["sends"]:
        operations[f"{channel}.send.{_escaped(event['name'])}"] = {
            "action": "send",
            "channel": at,
            "summary": event["description"].partition("\n")[0] or f"The server sends {event['name']}.",
            "messages": [message("sends", event["name"])],
        }
    return operations


def _message(event: EventEntry, prefix: str) -> dict[str, Any]:
    found = {
        "name": event["name"],
        "title": event["model"],
        "contentType": "application/json",
        "correlationId": {
            "location": "$message.payload#/ref",
            "description": "The ref of a request, repeated in its answer.",
        },
        "payload": _payload(event, prefix),
    }
    if event["description"]:
        found["description"] = event["description"]
    if event["rate"] is not None:
        found["x-wsrt-rate"] = event["rate"]
    return found


def _payload(event: EventEntry, prefix: str, where: str = "#/components/schemas/") -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "event": {"const": event["name"]},
            "data": _rebased(event["schema"], prefix, where),
            "ref": REF,
            "room": {"type": "string", "description": "The room, in a publication to a single room."},
        },
        "required": ["event"] if event["is_optional"] else ["event", "data"],
    }


def _room_requests(consumer: ConsumerEntry) -> list[str]:
    """Return the names of the reserved events by which the clients of a consumer ask for rooms."""
    return list(ROOM_REQUESTS) if consumer["subscriptions"] else []


def _room_request(name: str) -> dict[str, Any]:
    title = ROOM_REQUESTS[name]
    data = {
        "title": f"{title}Data",
        "type": "object",
        "properties": {"room": {"type": "string"}},
        "required": ["room"],
    }
    payload = {
        "title": title,
        "type": "object",
        "properties": {"event": {"const": name}, "data": data, "ref": REF},
        "required": ["event", "data"],
    }
    return {"name": name, "title": title.removeprefix("Wsrt"), "contentType": "application/json", "payload": payload}


def _ok() -> dict[str, Any]:
    payload = {
        "title": "WsrtOk",
        "type": "object",
        "properties": {"event": {"const": "wsrt.ok"}, "data": {"type": "object"}, "ref": REF},
        "required": ["event", "data", "ref"],
    }
    return {"name": "wsrt.ok", "title": "Ok", "contentType": "application/json", "payload": payload}


def _error() -> dict[str, Any]:
    entry = {
        "title": "WsrtErrorEntry",
        "type": "object",
        "properties": {
            "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
            "msg": {"type": "string"},
            "type": {"type": "string"},
        },
        "required": ["loc", "msg", "type"],
    }
    data = {
        "title": "WsrtErrorData",
        "type": "object",
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "errors": {"type": "array", "items": entry},
        },
        "required": ["code", "message", "errors"],
    }
    payload = {
        "title": "WsrtError",
        "type": "object",
        "properties": {"event": {"const": "wsrt.error"}, "data": data, "ref": REF},
        "required": ["event", "data"],
    }
    return {"name": "wsrt.error", "title": "Error", "contentType": "application/json", "payload": payload}


class _Titles:
    """Creates unique titles. Titles that differ only in case count as equal."""

    def __init__(self, *taken: str) -> None:
        self._taken = {title.lower() for title in taken}

    def unique(self, *parts: str) -> str:
        """Return a new title, made of the words of names."""
        base = "".join(pascal(part) for part in parts)
        title, number = base, 2
        while title.lower() in self._taken:
            title, number = f"{base}{number}", number + 1
        self._taken.add(title.lower())
        return title

    def titled(self, schema: Any, title: str) -> dict[str, Any]:
        """
        Return a schema with a title, and with titles for those parts of it that become types of code generators.

        Other titles are removed. They are names of fields or texts for humans, and may not be unique: code generators
        would create one type for all parts with the same title.
        """
        return {"title": title, **self._inner(schema, title)}

    def _inner(self, schema: Any, title: str) -> Any:
        if isinstance(schema, list):
            return [self._part(item, title) for item in schema]
        if not isinstance(schema, dict):
            return schema
        found: dict[str, Any] = {}
        for key, value in schema.items():
            if key in BY_NAME and isinstance(value, dict):
                found[key] = {name: self._part(inner, f"{title}{pascal(name)}") for name, inner in value.items()}
            elif key in ("items", "additionalProperties"):
                found[key] = self._part(value, f"{title}Item")
            elif key != "title":
                found[key] = value if key in GIVEN else self._inner(value, title)
        return found

    def _part(self, schema: Any, title: str) -> Any:
        is_type = isinstance(schema, dict) and not {"const", "enum", "properties"}.isdisjoint(schema)
        return self.titled(schema, self.unique(title)) if is_type else self._inner(schema, title)


def _rebased(schema: Any, prefix: str, where: str = "#/components/schemas/") -> Any:
    """Return a schema with its references changed to the new place of the definitions."""
    if isinstance(schema, list):
        return [_rebased(item, prefix, where) for item in schema]
    if not isinstance(schema, dict):
        return schema
    rebased: dict[str, Any] = {}
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, dict):
            rebased[key] = {name: _rebased(inner, prefix, where) for name, inner in value.items()}
        elif key == "$ref" and isinstance(value, str) and value.startswith("#/$defs/"):
            rebased[key] = where + _key(prefix, value.removeprefix("#/$defs/"))
        elif key == "discriminator" and isinstance(value, dict):
            # Pydantic writes OpenAPI's object. AsyncAPI has only the name of the property, and JSON Schema has neither.
            if where.startswith("#/components"):
                rebased[key] = value["propertyName"]
        elif key in GIVEN:
            rebased[key] = value  # data, even if it looks like a schema
        else:
            rebased[key] = _rebased(value, prefix, where)
    return rebased


def _key(prefix: str, name: str) -> str:
    return f"{prefix}.{_escaped(name)}"


def _escaped(name: str) -> str:
    """Return a name with only those characters that AsyncAPI allows in keys. Different names stay different."""
    return re.sub(r"[^\w.-]", lambda match: f"_{ord(match.group()):x}_", name, flags=re.ASCII)
