"""Every frame that a page sends and gets, compared with the schema of its consumer."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jsonschema
from playwright.sync_api import Page, WebSocket

STRINGS = {"type": "string"}
MEMBERS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"user_id": {"type": ["string", "null"]}, "connections": {"type": "integer", "minimum": 0}},
        "required": ["user_id", "connections", "data"],
    },
}

RESERVED: dict[str, dict[str, Any]] = {
    "wsrt.hello": {
        "properties": {
            "connection": STRINGS,
            "heartbeat": {"type": ["number", "null"]},
            "heartbeat_timeout": {"type": ["number", "null"]},
            "max_payload": {"type": "integer"},
            "server_time": {"type": "number"},
            "schema": STRINGS,
        },
        "required": ["connection", "heartbeat", "heartbeat_timeout", "max_payload", "server_time", "schema"],
    },
    "wsrt.resume": {},
    "wsrt.ping": {"maxProperties": 0},
    "wsrt.pong": {"maxProperties": 0},
    "wsrt.joined": {"properties": {"room": STRINGS}, "required": ["room"]},
    "wsrt.left": {"properties": {"room": STRINGS}, "required": ["room"]},
    "wsrt.presence": {
        "properties": {
            "room": STRINGS,
            "version": {"type": "integer"},
            **dict.fromkeys(("members", "joined", "left", "changed"), MEMBERS),
            "count": {"type": "integer"},
        },
        "required": ["room", "version"],
    },
    "wsrt.closing": {"properties": {"retry_after_ms": {"type": "integer"}}, "required": ["retry_after_ms"]},
}
"""The data of reserved events, which no schema of an application has."""


@dataclass(frozen=True)
class Seen:
    """A frame as it went over a socket; `socket` tells apart those of one URL."""

    socket: int
    path: str
    is_sent: bool
    text: str


class Frames:
    """
    Watches pages.

    Args:
        schemas: JSON Schema as ``wsrt_schema`` writes it and the name of the client, by the path of the socket or
            its beginning.
    """

    def __init__(self, schemas: dict[str, tuple[dict[str, Any], str]]) -> None:
        self.schemas = schemas
        self.seen: list[Seen] = []
        self.sockets: list[WebSocket] = []

    def watch(self, page: Page) -> None:
        """Note every frame of a page from now on."""

        def opened(socket: WebSocket) -> None:
            number, path = len(self.sockets), urlsplit(socket.url).path
            self.sockets.append(socket)
            socket.on("framesent", lambda text: self.seen.append(Seen(number, path, True, text)))
            socket.on("framereceived", lambda text: self.seen.append(Seen(number, path, False, text)))

        page.on("websocket", opened)

    def problems(self) -> list[str]:
        """
        Return the frames that don't validate, one line for each.

        A request that the server refused may be as wrong as it likes.
        """
        refused = {
            (seen.socket, frame.get("ref"))
            for seen, frame in self._decoded()
            if not seen.is_sent and frame.get("event") == "wsrt.error" and "ref" in frame
        }
        return [
            f"{'sent' if seen.is_sent else 'received'} at {seen.path}: {seen.text}: {error.message}"
            for seen, frame in self._decoded()
            if not (seen.is_sent and (seen.socket, frame.get("ref")) in refused)
            for error in self._validator(seen, frame.get("event")).iter_errors(frame)
        ]

    def events(self, *, is_sent: bool) -> set[str]:
        """Return the names of events that went one way."""
        return {frame["event"] for seen, frame in self._decoded() if seen.is_sent == is_sent}

    def _decoded(self) -> Iterator[tuple[Seen, dict[str, Any]]]:
        for seen in self.seen:
            frame = json.loads(seen.text)
            assert isinstance(frame, dict), seen
            yield seen, frame

    def _validator(self, seen: Seen, event: Any) -> jsonschema.Draft202012Validator:
        prefix = next(prefix for prefix in self.schemas if seen.path.startswith(prefix))
        schema, client = self.schemas[prefix]
        if event in RESERVED:
            data = {"type": "object", **RESERVED[event]}
            return jsonschema.Draft202012Validator({"properties": {"data": data}, "required": ["data"]})
        answers = () if seen.is_sent else ("wsrt.ok", "wsrt.error")
        name = event if event in answers else f"{client}.{'receives' if seen.is_sent else 'sends'}"
        return _validator_of(json.dumps({**schema, "$ref": f"#/$defs/{name}"}))


@functools.cache
def _validator_of(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema))
