"""
Bounds on the work that one inbound frame can cause.

Pydantic is fast for valid input, but its work for invalid input is unbounded. A container is validated to its end, even
if all items are invalid. Each missing field copies the object that it is missing from, with everything that the client
put in there. A union whose members contain the union itself is tried in every combination, which takes time exponential
in the depth: a frame of 250 bytes could block the event loop forever.

So containers stop at their first invalid item, copies and combinations have a budget, and the values of a frame are
counted before it is parsed.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import SchemaValidator, core_schema, from_json

__all__ = ["VISIT", "BoundedValidator", "TooMuchWork", "has_too_many_values"]

VISIT = "wsrt.visit"
"""The label of errors that only count the visits of a recursive union. They are never shown."""

BASE_VISITS = 300
"""How often a frame may enter recursive unions, plus once for each value that a text of its length can hold."""

MAX_COPIED = 150_000
"""The maximum number of values that errors may copy while a frame is validated as JSON. Each takes 0.03 to 0.1 us."""

MAX_COPIED_IN_ERRORS = 10_000
"""The same for errors that are converted to Python objects. Each takes up to 0.4 us."""

CONTAINERS = frozenset({"list", "tuple", "set", "frozenset", "dict"})

NESTED = frozenset(
    {
        "schema",
        "items_schema",
        "keys_schema",
        "values_schema",
        "extras_schema",
        "extras_keys_schema",
        "lax_schema",
        "strict_schema",
        "json_schema",
        "python_schema",
        "arguments_schema",
        "var_args_schema",
        "var_kwargs_schema",
        "fields",
        "choices",
        "steps",
        "definitions",
    }
)
"""The keys of a core schema whose values are schemas. Others may hold values of the application, such as defaults."""


class TooMuchWork(Exception):
    """Raised by a validator for a frame that has entered recursive unions too often."""


class BoundedValidator:
    """
    Validates JSON against a schema, with bounded work.

    Validators of the application may be called more than once for a value.

    Args:
        schema: A tagged union of objects, after Pydantic's clean-up. It is not modified.
        tag: The key by which the union selects a member.

    Attributes:
        is_recursive: Whether the schema has a recursive union whose visits are counted.
    """

    def __init__(self, schema: core_schema.CoreSchema, tag: str) -> None:
        bounded = _fail_fast(schema)
        self.is_recursive = _count_visits(bounded)
        self._tag = tag
        # The number of fields that can be missing at once, by tag. Containers stop at the first item that lacks some.
        self._fields = _fields(bounded)
        self._most_fields = max(self._fields.values(), default=0)
        with _without_prebuilt(_classes(bounded)):
            self._full = SchemaValidator(bounded)
            # Fails with a single error in all cases, which avoids converting errors to Python objects.
            self._brief = SchemaValidator(
                core_schema.custom_error_schema(bounded, "invalid", custom_error_message="Invalid")
            )

    def validate(self, text: str) -> Any:
        """
        Validate a JSON text, and return its value.

        Raises:
            ValidationError: The text is not JSON, doesn't match the schema, or a validator of the application raised an
                exception. Call explain() for the errors.
            TooMuchWork: The text has too many ways to match a recursive union.
        """
        # Estimate by the length first, which costs nothing.
        if self._most_fields * max_values(text) > MAX_COPIED and self._most_fields * _values(text) > MAX_COPIED:
            self._filter(text)
        if self.is_recursive:
            return self._run(text, self._brief.validate_json, text)
        return self._brief.validate_json(text)

    def explain(self, text: str, data: Any) -> ValidationError | None:
        """
        Validate a text again that validate() has refused, and return its errors.

        Returns None if this accepts the text: where errors would copy too much of it, the parsed data is validated
        instead, which some rules of JSON don't apply to.

        Args:
            text: The JSON text.
            data: The parsed text.

        Raises:
            TooMuchWork: The text has too many ways to match a recursive union.
        """
        try:
            if self._copied(text, data) > MAX_COPIED_IN_ERRORS:
                self._run(text, self._full.validate_python, data, strict=False)
            else:
                self._run(text, self._full.validate_json, text)
        except ValidationError as error:
            # The traceback references all parsed data in a cycle, which only the garbage collector would free.
            return error.with_traceback(None)
        return None

    def _filter(self, text: str) -> None:
        """Raise for an invalid text whose errors would copy too much as JSON. Errors of Python objects copy nothing."""
        try:
            data = from_json(text)
        except ValueError:
            return
        if self._copied(text, data) > MAX_COPIED:
            # Everything that is valid as JSON is also valid as lax Python, but not vice versa.
            self._run(text, self._brief.validate_python, data, strict=False)

    def _copied(self, text: str, data: Any) -> int:
        tag = data.get(self._tag) if isinstance(data, dict) else None
        fields = self._fields.get(tag, 0) if isinstance(tag, str) else 0
        return fields * _values(text)

    def _run(self, text: str, validate: Callable[..., Any], value: Any, **options: Any) -> Any:
        if not self.is_recursive:
            return validate(value, **options)
        left = [BASE_VISITS + max_values(text)]
        token = _visits_left.set(left)
        try:
            return validate(value, **options)
        except ValidationError:
            if left[0] < 0:
                # The brief validator replaces all exceptions by its own error, TooMuchWork too.
                raise TooMuchWork from None
            raise
        finally:
            _visits_left.reset(token)


def max_values(text: str) -> int:
    """Return the most values that a JSON text of this length can have: each takes a character and a separator."""
    return (len(text) + 1) // 2


_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def has_too_many_values(text: str, limit: int) -> bool:
    """
    Return whether a JSON text holds more than ``limit`` values: objects, arrays, strings, numbers and literals.

    The keys of objects don't count. The text is scanned, not parsed. Most texts are short enough to skip even that.
    """
    if max_values(text) <= limit or _count_separators(text) < limit:
        return False
    # Count again without the contents of strings and the brackets of empty containers, which have no items.
    bare = "".join(_STRING.sub("0", text).split())
    return bare.count(",") >= limit or _count_separators(bare) - bare.count("[]") - bare.count("{}") >= limit


def _values(text: str) -> int:
    """Return an upper bound for the number of values in JSON. Separators in strings are counted too."""
    return min(max_values(text), _count_separators(text) + 1)


def _count_separators(text: str) -> int:
    # One less than the number of values: the first item of a container follows its bracket, the others follow a comma.
    return text.count(",") + text.count("[") + text.count("{")


# The creation of bounded schemas.


def _fail_fast(schema: Any) -> Any:
    """Return a copy of a schema in which all containers stop at their first invalid item."""
    copy = {key: _each(value) if key in NESTED else value for key, value in schema.items()}
    if copy.get("type") in CONTAINERS:
        copy["fail_fast"] = True
    return copy


def _each(value: Any) -> Any:
    """Apply _fail_fast to a schema, or to each schema of a collection."""
    if isinstance(value, list):
        return [_each(item) for item in value]
    if isinstance(value, tuple):
        # A choice of a union, with its label.
        return (_each(value[0]), *value[1:])
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("type"), str):
        return _fail_fast(value)
    return {key: _each(item) for key, item in value.items()}


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and its nested schemas. References to definitions are not followed."""
    if isinstance(schema, list | tuple):
        for item in schema:
            yield from _parts(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
            for key in NESTED & schema.keys():
                yield from _parts(schema[key])
        else:
            for item in schema.values():
                yield from _parts(item)


def _fields(schema: Any) -> dict[str, int]:
    """Return the number of fields in all objects that a choice of the outermost union consists of, by tag."""
    bodies = _bodies(schema)
    direct = {name: _references(body) for name, body in bodies.items()}
    union = schema["schema"] if schema["type"] == "definitions" else schema
    fields = {}
    for tag, choice in union.get("choices", {}).items():
        names = set().union(*({name} | _closure(name, direct) for name in _references(choice)))
        parts = [part for body in (choice, *(bodies[name] for name in names)) for part in _parts(body)]
        fields[tag] = sum(len(part["fields"]) for part in parts if "fields" in part and part is not choice)
    return fields


def _classes(schema: Any) -> list[type]:
    return [part["cls"] for part in _parts(schema) if part["type"] in {"model", "dataclass"}]


_unbuilt: collections.Counter[type] = collections.Counter()


@contextlib.contextmanager
def _without_prebuilt(classes: list[type]) -> Iterator[None]:
    """
    Build validators from the schema only.

    Normally Pydantic reuses the existing validator of a class, which is not bounded, if the class is complete.
    """
    # A counter, because validators may be built in several threads at once: the last one restores the classes.
    found = [cls for cls in classes if _unbuilt[cls] or vars(cls).get("__pydantic_complete__")]
    _unbuilt.update(found)
    for cls in found:
        cls.__pydantic_complete__ = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _unbuilt.subtract(found)
        for cls in found:
            if not _unbuilt[cls]:
                del _unbuilt[cls]
                cls.__pydantic_complete__ = True  # type: ignore[attr-defined]


# Recursive unions.

_visits_left: contextvars.ContextVar[list[int]] = contextvars.ContextVar("visits_left")


def _visit() -> None:
    left = _visits_left.get()
    left[0] -= 1
    if left[0] < 0:
        raise TooMuchWork


def _count_visits(schema: Any) -> bool:
    """
    Count the visits of recursive unions; return whether there are any.

    Only unions matter of which two or more members contain the union itself and accept the same kind of value.
    """
    bodies = _bodies(schema)
    direct = {name: _references(body) for name, body in bodies.items()}
    containing = {name: {other for other in bodies if name in _closure(other, direct) | {other}} for name in bodies}
    found = False
    for name, body in bodies.items():
        for union in [part for part in _parts(body) if part["type"] == "union"]:
            members = [choice for choice in union["choices"] if _references(choice) & containing[name]]
            taken = collections.Counter(kind for member in members for kind in _kinds(member, bodies))
            visits = [VISITS[kind] for kind, times in taken.items() if times > 1]
            if visits and union["choices"][0] not in VISITS.values():
                union["choices"] = [*visits, *union["choices"]]
                found = True
    return found


def _kinds(schema: Any, bodies: dict[str, Any]) -> set[str]:
    """Return the kinds of JSON containers that a schema accepts."""
    schema = schema[0] if isinstance(schema, tuple) else schema
    match schema["type"]:
        case "definition-ref":
            return _kinds(bodies[schema["schema_ref"]], bodies)
        case "list" | "tuple" | "set" | "frozenset":
            return {"array"}
        case "dict" | "typed-dict" | "model-fields" | "dataclass-args":
            return {"object"}
        case "json-or-python":
            return _kinds(schema["json_schema"], bodies)
        case "model" | "dataclass" | "nullable" | "default" | "function-after" | "definitions":
            return _kinds(schema["schema"], bodies)
        case _:
            return {"object", "array"}


def _bodies(schema: Any) -> dict[str, Any]:
    return {part["ref"]: part for part in _parts(schema) if "ref" in part}


def _references(schema: Any) -> set[str]:
    return {part["schema_ref"] for part in _parts(schema) if part["type"] == "definition-ref"}


def _closure(name: str, direct: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [name]
    while todo:
        for to in direct.get(todo.pop(), ()):
            if to not in seen:
                seen.add(to)
                todo.append(to)
    return seen


# Choices that count visits and never match. A default factory is the only hook that Pydantic calls without converting
# the input to Python objects first, which would change how it is validated.
_COUNTED = core_schema.with_default_schema(
    core_schema.literal_schema([object()]), default_factory=_visit, on_error="default"
)
VISITS = {
    "object": (
        core_schema.typed_dict_schema(
            {
                "\0visit": core_schema.typed_dict_field(_COUNTED, required=False),
                "\0never": core_schema.typed_dict_field(core_schema.any_schema()),
            }
        ),
        VISIT,
    ),
    "array": (core_schema.list_schema(_COUNTED, max_length=0), VISIT),
}
