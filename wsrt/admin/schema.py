"""The schema of all consumers as a page shows it: events with their fields, in words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..close_codes import Reconnect
from ..schema.asyncapi import asyncapi, json_schema, message_key
from ..schema.description import ConsumerEntry, Description, EventEntry, describe
from ..schema.text import has_yaml, to_json, to_yaml

UNDESCRIBABLE = (ImproperlyConfigured, ImportError)
"""What describe() raises of a project."""

DEFS = "#/$defs/"

Schema = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the text of a type; with an anchor it is a link to a model."""

    text: str
    anchor: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of an event or a model; the default as JSON, None where there is none."""

    name: str
    type: list[Piece]
    is_required: bool
    default: str | None
    constraints: list[str]
    description: str


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRow:
    """What fields refer to. Where it has no fields, `type` says what it is."""

    name: str
    anchor: str
    description: str
    fields: list[FieldRow]
    type: list[Piece]


@dataclasses.dataclass(frozen=True, slots=True)
class EventRow:
    """An event. Where its data is no object, `type` says what it is."""

    name: str
    anchor: str
    model: str
    description: str
    facts: list[str]
    replies: list[Piece]
    fields: list[FieldRow]
    type: list[Piece]
    is_hidden: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer; each list of events with what is said above it."""

    entry: ConsumerEntry
    anchor: str
    directions: list[tuple[str, list[EventRow]]]
    models: list[ModelRow]
    presence: list[Piece] | None
    is_hidden: bool


def consumers(description: Description, search: str = "") -> list[ConsumerRow]:
    """Return what the page shows; an event that has the text nowhere is hidden."""
    return [_Consumer(entry, search.casefold()).row() for entry in description["consumers"]]


def closes(description: Description) -> list[dict[str, Any]]:
    """Return the close table, with what the client does then."""
    then = {
        Reconnect.NEVER: _("stays away"),
        Reconnect.BACKOFF: _("comes back, later with each attempt"),
        Reconnect.SPREAD: _("comes back within the window that the server named"),
        Reconnect.AUTH: _("asks for new credentials, then comes back"),
        Reconnect.LATER: _("comes back after 5 s or more"),
    }
    return [
        # Backquotes are for Markdown.
        {**row, "issued": _(row["issued"]).replace("`", ""), "then": then[Reconnect(row["reconnect"])]}
        for row in description["closes"]
    ]


FILES = {"asyncapi.json": "application/json", "asyncapi.yaml": "application/yaml", "frames.json": "application/json"}
"""Documents to download, with their types."""


def available_files() -> dict[str, str]:
    """Return what the documents are called that can be made here, by their names: YAML needs PyYAML."""
    return {
        "asyncapi.json": _("AsyncAPI as JSON"),
        **({"asyncapi.yaml": _("AsyncAPI as YAML")} if has_yaml() else {}),
        "frames.json": _("JSON Schema"),
    }


def file_text(name: str) -> str:
    """Return a document by its name. Raises UNDESCRIBABLE."""
    description = describe()
    if name == "frames.json":
        document = json_schema(description)
    else:
        document = asyncapi(description, session_cookie=settings.SESSION_COOKIE_NAME)
    return to_yaml(document) if name.endswith(".yaml") else to_json(document)


# Private.


class _Consumer:
    def __init__(self, entry: ConsumerEntry, search: str) -> None:
        self.entry = entry
        self.name = entry["name"]
        self.search = search
        # Models that something refers to, in the order of their first mention.
        self.mentioned: dict[str, None] = {}

    def row(self) -> ConsumerRow:
        directions = [
            (_("Clients send"), [self._event(event, "receives") for event in self.entry["receives"]]),
            (_("Clients get"), [self._event(event, "sends") for event in self.entry["sends"]]),
        ]
        shown = self.entry["presence"]
        presence = None if shown is None else self._type(shown) if shown else []
        events = [event for _title, rows in directions for event in rows]
        return ConsumerRow(
            entry=self.entry,
            anchor=self.name,
            directions=directions,
            models=list(self._models()),
            presence=presence,
            is_hidden=bool(self.search) and all(event.is_hidden for event in events),
        )

    def _models(self) -> Iterator[ModelRow]:
        # Models mention models: the dict grows meanwhile.
        number = 0
        while number < len(self.mentioned):
            name = list(self.mentioned)[number]
            number += 1
            schema = self.entry["definitions"].get(name, {})
            fields = self._fields(schema)
            yield ModelRow(
                name=name,
                anchor=self._anchor(name),
                description=str(schema.get("description", "")),
                fields=fields,
                type=[] if fields else self._type(schema),
            )

    def _event(self, event: EventEntry, direction: str) -> EventRow:
        schema = self._whole(event["schema"])
        fields = self._fields(schema)
        words = " ".join(
            [self.name, event["name"], event["model"], event["description"], *(row.name for row in fields)]
        )
        return EventRow(
            name=event["name"],
            anchor=message_key(self.name, direction, event["name"]),
            model=event["model"],
            description=event["description"],
            facts=list(_facts(event)),
            replies=self._replies(event) if direction == "receives" else [],
            fields=fields,
            type=[] if fields or _is_plain_object(schema) else self._type(schema),
            is_hidden=self.search not in words.casefold(),
        )

    def _replies(self, event: EventEntry) -> list[Piece]:
        return [
            Piece(name, "" if name.startswith("wsrt.") else message_key(self.name, "sends", name))
            for name in [*event["replies"], "wsrt.error"]
        ]

    def _fields(self, schema: Schema) -> list[FieldRow]:
        required = schema.get("required", [])
        return [
            FieldRow(
                name=name,
                type=self._type(field),
                is_required=name in required,
                default=_json(field["default"]) if "default" in field else None,
                constraints=list(_constraints(field)),
                description=str(field.get("description", "")),
            )
            for name, field in schema.get("properties", {}).items()
        ]

    def _whole(self, schema: Schema) -> Schema:
        reference = schema.get("$ref", "")
        whole: Schema = self.entry["definitions"].get(reference.removeprefix(DEFS), schema)
        return whole

    def _anchor(self, model: str) -> str:
        return message_key(self.name, "model", model)

    # Types, in words.

    def _type(self, schema: Any) -> list[Piece]:
        if not isinstance(schema, dict):
            return [Piece(_("anything"))]
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(DEFS)
            self.mentioned.setdefault(name)
            return [Piece(name, self._anchor(name))]
        if "const" in schema:
            return [Piece(_json(schema["const"]))]
        if "enum" in schema:
            return [Piece(" | ".join(map(_json, schema["enum"])))]
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return [*self._joined(schema[several], " | "), *_told_apart(schema)]
        match schema.get("type"):
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
            case "string":
                inside = schema.get("format") or schema.get("contentEncoding")
                return [Piece(f"string ({inside})" if inside else "string")]
            case str() as name:
                return [Piece(name)]
            case list() as names:
                return [Piece(" | ".join(map(str, names)))]
        return [Piece(_("anything"))]

    def _joined(self, schemas: list[Any], between: str) -> list[Piece]:
        pieces: list[Piece] = []
        for schema in schemas:
            pieces += [*([Piece(between)] if pieces else []), *self._type(schema)]
        return pieces

    def _array(self, schema: Schema) -> list[Piece]:
        if "prefixItems" in schema:
            return [Piece("["), *self._joined(schema["prefixItems"], ", "), Piece("]")]
        return [Piece(_("array of ")), *self._type(schema.get("items"))]

    def _object(self, schema: Schema) -> list[Piece]:
        values = schema.get("additionalProperties")
        return [Piece(_("object of ")), *self._type(values)] if isinstance(values, dict) else [Piece("object")]


def _facts(event: EventEntry) -> Iterator[str]:
    if event["history"]:
        yield _("Kept in the history of its room.")
    if event["overflow"] == "drop":
        yield _("Skipped for a client that is behind.")
    elif event["overflow"] == "latest":
        yield _("Only the latest waits for a client that is behind.")


def _is_plain_object(schema: Schema) -> bool:
    return schema.get("type") == "object" and not isinstance(schema.get("additionalProperties"), dict)


def _told_apart(schema: Schema) -> list[Piece]:
    by = schema.get("discriminator", {}).get("propertyName")
    return [Piece(_(", told apart by “%s”") % by)] if by else []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _constraints(schema: Schema) -> Iterator[str]:
    # Of `X | None` those of X.
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    inner = options[0] if len(options) == 1 else schema
    yield from _own_constraints(inner)
    items = inner.get("items")
    if isinstance(items, dict):
        for text in _own_constraints(items):
            yield _("each: %s") % text


def _own_constraints(schema: Schema) -> Iterator[str]:
    for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        if key in schema:
            yield f"{sign} {schema[key]}"
    if "multipleOf" in schema:
        yield _("a multiple of %s") % schema["multipleOf"]
    if "minLength" in schema:
        number = schema["minLength"]
        yield ngettext("at least %d character", "at least %d characters", number) % number
    if "maxLength" in schema:
        number = schema["maxLength"]
        yield ngettext("at most %d character", "at most %d characters", number) % number
    if "pattern" in schema:
        yield _("matches %s") % schema["pattern"]
    if "minItems" in schema and schema.get("minItems") == schema.get("maxItems"):
        if "prefixItems" not in schema:
            number = schema["minItems"]
            yield ngettext("just %d item", "just %d items", number) % number
    else:
        if "minItems" in schema:
            number = schema["minItems"]
            yield ngettext("at least %d item", "at least %d items", number) % number
        if "maxItems" in schema:
            number = schema["maxItems"]
            yield ngettext("at most %d item", "at most %d items", number) % number
    if schema.get("uniqueItems"):
        yield _("no item twice")
