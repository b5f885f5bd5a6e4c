"""Events that an operator writes by hand as JSON: for the admin's form and ``manage.py wsrt_publish``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from pydantic import ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import from_json

from ..addresses import Audience, Room
from ..cluster.outgoing import prepare
from ..exceptions import WsrtError
from ..protocol.errors import field_errors
from ..protocol.events import Event, meta
from ..protocol.namespaces import namespaces
from ..realms import split_realm

MAX_DEPTH = 6
"""Depth at which an example stops, because models may contain themselves."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong with an announcement.

    Attributes:
        message: The description of the problem.
        field: The path of the field, such as "author.name"; "" for the whole event.
    """

    message: str
    field: str = ""


class InvalidAnnouncement(Exception):
    """
    The text isn't a valid event for its audience.

    Attributes:
        problems: Everything that is wrong with it.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


def events_of(namespace: str) -> dict[str, type[Event]]:
    """Return the events that can be published to a realm, by name. Empty if this process doesn't know its namespace."""
    space = namespaces.get(split_realm(namespace)[0])
    return dict(sorted(space.events.items())) if space is not None else {}


def summary_of(model: type[Event]) -> str:
    """Return the first paragraph of the event's own docstring, "" if it has none."""
    own = inspect.cleandoc(vars(model).get("__doc__") or "")
    return " ".join(own.partition("\n\n")[0].split())


def has_history(model: type[Event]) -> bool:
    """Return whether the event is declared with history; it can then only be sent to exactly one room."""
    return bool(meta(model).history)


def example_json(model: type[Event]) -> str:
    """Return an example of the event's data as JSON, with a value in every field, for the operator to edit."""
    schema = json_schema(model)
    return json.dumps(_value(schema, schema.get("$defs", {}), 0), indent=2, ensure_ascii=False)


def json_schema(model: type[Event]) -> dict[str, Any]:
    """Return the JSON schema of the event's data, {} if it can't be expressed."""
    try:
        return model.model_json_schema(by_alias=True)
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return {}


def read_event(namespace: str, name: str, text: str, audience: Audience) -> Event:
    """
    Parse and validate an event written as JSON.

    Args:
        namespace: The realm that the event is published to.
        name: The event's wire name.
        text: The event's data as JSON.
        audience: The recipients.

    Raises:
        InvalidAnnouncement: The text isn't valid, or the event can't be serialized or sent to such an audience.
    """
    model = events_of(namespace).get(name)
    if model is None:
        raise InvalidAnnouncement(Problem(_("No consumer of this namespace declares the event “%s”.") % name))
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidAnnouncement(Problem(_("This isn’t valid JSON: %s.") % error)) from None
    try:
        # Validate the text, not the parsed data: dates and bytes are then read like those from a client.
        event = model.model_validate_json(text)
    except ValidationError as error:
        raise InvalidAnnouncement(*_problems(error, model, data)) from None
    if has_history(model) and not isinstance(audience, Room):
        message = _("“%s” is declared with history, so it can only be sent to exactly one room.")
        raise InvalidAnnouncement(Problem(message % name))
    try:
        # Encodes the event and checks its audience, without sending it.
        prepare(audience, event, *split_realm(namespace))
    except (WsrtError, TypeError, ValueError) as error:
        raise InvalidAnnouncement(Problem(str(error))) from None
    return event


def _problems(error: ValidationError, model: type[Event], data: Any) -> list[Problem]:
    found = field_errors(error, model, data, depth=0)
    return [Problem(field["msg"], ".".join(map(str, field["loc"]))) for field in found]


def _value(schema: Any, definitions: Mapping[str, Any], depth: int) -> Any:
    """Return an example value for a schema."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _value(definitions.get(schema["$ref"].rpartition("/")[2]), definitions, depth + 1)
    for given in ("default", "const"):
        if given in schema:
            return schema[given]
    for several in ("examples", "enum"):
        if schema.get(several):
            return schema[several][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return _value(schema[several][0], definitions, depth)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {field: _value(inner, definitions, depth + 1) for field, inner in fields.items()}
        case "array":
            return [_value(inner, definitions, depth + 1) for inner in schema.get("prefixItems", ())]
        case "string":
            return _string(schema.get("format"))
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return False
    return None


def _string(kind: str | None) -> str:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    match kind:
        case "date-time":
            return now.isoformat()
        case "date":
            return now.date().isoformat()
        case "time":
            return now.time().isoformat()
        case "uuid":
            return str(uuid.UUID(int=0))
    return ""


def _number(schema: Mapping[str, Any]) -> Any:
    if "minimum" in schema:
        return schema["minimum"]
    if "exclusiveMinimum" in schema:
        return schema["exclusiveMinimum"] + 1
    return min(0, schema["maximum"]) if "maximum" in schema else 0
