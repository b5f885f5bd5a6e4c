"""The schema of all consumers, prepared for the Schema page: rows of events and fields, with types as text."""

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

DESCRIBE_ERRORS = (ImproperlyConfigured, ImportError)
"""Exceptions of describe() that are due to the project, such as a consumer that can't be imported."""

DEFS = "#/$defs/"

Schema = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class TypePart:
    """Part of the text of a type. With an anchor, it is a link to a model or event."""

    text: str
    anchor: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of an event or a model. ``default`` is JSON, or None if there is no default."""

    name: str
    type: list[TypePart]
    is_required: bool
    default: str | None
    constraints: list[str]
    description: str


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRow:
    """A model that fields refer to. If it has no fields, ``type`` describes it."""

    name: str
    anchor: str
    description: str
    fields: list[FieldRow]
    type: list[TypePart]


@dataclasses.dataclass(frozen=True, slots=True)
class EventRow:
    """An event. If its data isn't an object with fields, ``type`` describes it."""

    name: str
    anchor: str
    model: str
    description: str
    facts: list[str]
    replies: list[TypePart]
    fields: list[FieldRow]
    type: list[TypePart]
    is_hidden: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer. ``directions`` are pairs of a heading and its events."""

    entry: ConsumerEntry
    anchor: str
    directions: list[tuple[str, list[EventRow]]]
    models: list[ModelRow]
    presence: list[TypePart] | None
    is_hidden: bool


def consumer_rows(description: Description, search: str = "") -> list[ConsumerRow]:
    """Return a row for each consumer. Events that don't contain the search text are hidden."""
    return [_RowBuilder(entry, search.casefold()).row() for entry in description["consumers"]]


def close_rows(description: Description) -> list[dict[str, Any]]:
    """Return the table of close codes, with a description of the client's reaction to each."""
    reactions = {
        Reconnect.NEVER: _("doesn’t reconnect"),
        Reconnect.BACKOFF: _("reconnects with increasing delays"),
        Reconnect.SPREAD: _("reconnects at a random time within the window that the server sent"),
        Reconnect.AUTH: _("gets new credentials, then reconnects"),
        Reconnect.LATER: _("reconnects after 5 s or more"),
    }
    return [
        # The descriptions are shared with the documentation, which is Markdown.
        {**row, "issued": _(row["issued"]).replace("`", ""), "reaction": reactions[Reconnect(row["reconnect"])]}
        for row in description["closes"]
    ]


FILES = {"asyncapi.json": "application/json", "asyncapi.yaml": "application/yaml", "frames.json": "application/json"}
"""Documents to download, with their media types."""


def available_files() -> dict[str, str]:
    """Return the labels of the documents by file name. The YAML document is left out without PyYAML."""
    return {
        "asyncapi.json": _("AsyncAPI as JSON"),
        **({"asyncapi.yaml": _("AsyncAPI as YAML")} if has_yaml() else {}),
        "frames.json": _("JSON Schema"),
    }


def file_text(name: str) -> str:
    """Return the text of a document. Raises DESCRIBE_ERRORS."""
    description = describe()
    if name == "frames.json":
        document = json_schema(description)
    else:
        document = asyncapi(description, session_cookie=settings.SESSION_COOKIE_NAME)
    return to_yaml(document) if name.endswith(".yaml") else to_json(document)


# Private.


class _RowBuilder:
    """Builds the row of one consumer, and collects the models that its events refer to."""

    def __init__(self, entry: ConsumerEntry, search: str) -> None:
        self.entry = entry
        self.name = entry["name"]
        self.search = search
        # Models that events or other models refer to, in the order of their first mention; used as an ordered set.
        self.models_in_use: dict[str, None] = {}

    def row(self) -> ConsumerRow:
        directions = [
            (_("Clients send"), [self._event(event, "receives") for event in self.entry["receives"]]),
            (_("Clients receive"), [self._event(event, "sends") for event in self.entry["sends"]]),
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
        # Describing a model can mention further models, so the dict grows during the loop.
        number = 0
        while number < len(self.models_in_use):
            name = list(self.models_in_use)[number]
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
        schema = self._resolve(event["schema"])
        fields = self._fields(schema)
        searched = " ".join(
            [self.name, event["name"], event["model"], event["description"], *(row.name for row in fields)]
        )
        return EventRow(
            name=event["name"],
            anchor=message_key(self.name, direction, event["name"]),
            model=event["model"],
            description=event["description"],
            facts=list(_facts(event, is_login=direction == "receives" and event["name"] == self.entry["login"])),
            replies=self._replies(event) if direction == "receives" else [],
            fields=fields,
            type=[] if fields or _is_plain_object(schema) else self._type(schema),
            is_hidden=self.search not in searched.casefold(),
        )

    def _replies(self, event: EventEntry) -> list[TypePart]:
        return [
            TypePart(name, "" if name.startswith("wsrt.") else message_key(self.name, "sends", name))
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

    def _resolve(self, schema: Schema) -> Schema:
        reference = schema.get("$ref", "")
        resolved: Schema = self.entry["definitions"].get(reference.removeprefix(DEFS), schema)
        return resolved

    def _anchor(self, model: str) -> str:
        return message_key(self.name, "model", model)

    # Types as text.

    def _type(self, schema: Any, *, is_item: bool = False) -> list[TypePart]:
        """
        Return the text of a type.

        Args:
            schema: The JSON schema of the type.
            is_item: Whether it is the type of the items of an array or an object. If it has several alternatives, it
                is then in parentheses: only the items have them, not the whole.
        """
        alternatives = self._alternatives(schema)
        parts = [*_joined(alternatives, " | "), *_discriminator(schema)]
        return [TypePart("("), *parts, TypePart(")")] if is_item and len(alternatives) > 1 else parts

    def _alternatives(self, schema: Any) -> list[list[TypePart]]:
        """Return the types that a value may have; only one for most schemas."""
        if not isinstance(schema, dict):
            return [[TypePart(_("anything"))]]
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(DEFS)
            self.models_in_use.setdefault(name)
            return [[TypePart(name, self._anchor(name))]]
        if "const" in schema:
            return [[TypePart(_json(schema["const"]))]]
        if "enum" in schema:
            return [[TypePart(_json(value))] for value in schema["enum"]]
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return [self._type(option) for option in schema[several]]
        names = schema.get("type")
        return [self._named(name, schema) for name in (names if isinstance(names, list) else [names])]

    def _named(self, name: str | None, schema: Schema) -> list[TypePart]:
        match name:
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
            case "string":
                inside = schema.get("format") or schema.get("contentEncoding")
                return [TypePart(f"string ({inside})" if inside else "string")]
            case None:
                return [TypePart(_("anything"))]
        return [TypePart(name)]

    def _array(self, schema: Schema) -> list[TypePart]:
        if "prefixItems" in schema:
            items = [self._type(item) for item in schema["prefixItems"]]
            return [TypePart("["), *_joined(items, ", "), TypePart("]")]
        return [TypePart(_("array of ")), *self._type(schema.get("items"), is_item=True)]

    def _object(self, schema: Schema) -> list[TypePart]:
        values = schema.get("additionalProperties")
        if not isinstance(values, dict):
            return [TypePart("object")]
        return [TypePart(_("object of ")), *self._type(values, is_item=True)]


def _facts(event: EventEntry, *, is_login: bool) -> Iterator[str]:
    if is_login:
        yield _("Logs a client in with its token, and renews the token.")
    if event["rate"] is not None:
        yield _("Each client may send it at a rate of %s.") % event["rate"]
    if event["overflow"] == "drop":
        yield _("Dropped for a client that has fallen behind.")
    elif event["overflow"] == "latest":
        yield _("Only the latest is kept for a client that has fallen behind.")


def _is_plain_object(schema: Schema) -> bool:
    return schema.get("type") == "object" and not isinstance(schema.get("additionalProperties"), dict)


def _joined(types: list[list[TypePart]], between: str) -> list[TypePart]:
    joined: list[TypePart] = []
    for parts in types:
        joined += [*([TypePart(between)] if joined else []), *parts]
    return joined


def _discriminator(schema: Any) -> list[TypePart]:
    by = schema.get("discriminator", {}).get("propertyName") if isinstance(schema, dict) else None
    return [TypePart(_(", discriminated by “%s”") % by)] if by else []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _constraints(schema: Schema) -> Iterator[str]:
    # For `X | None`, the constraints of X.
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
            yield ngettext("exactly %d item", "exactly %d items", number) % number
    else:
        if "minItems" in schema:
            number = schema["minItems"]
            yield ngettext("at least %d item", "at least %d items", number) % number
        if "maxItems" in schema:
            number = schema["maxItems"]
            yield ngettext("at most %d item", "at most %d items", number) % number
    if schema.get("uniqueItems"):
        yield _("unique items")
