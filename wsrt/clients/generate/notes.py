"""Notes for comments and docstrings, on what types don't express: formats, limits and defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .shapes import Choice, Field, ListOf, MapOf, Scalar, Shape, TupleOf

__all__ = ["notes"]

UNITS = {"minLength": "character", "maxLength": "character", "minItems": "item", "maxItems": "item"} | {
    "minProperties": "key",
    "maxProperties": "key",
}


def notes(field: Field, formats: Mapping[str, str], show: Callable[[Any], str]) -> str:
    """
    Return the notes on a field: its format, its limits and its default, one per line.

    Args:
        field: The field.
        formats: A sentence for each known format, or "" if the type expresses it. Other formats are noted by name.
        show: Returns a default as source.
    """
    sentences = [each for each in _of_shape(field.shape, formats) if each]
    if not field.is_required:
        # The default of a factory isn't known.
        sentences.append(f"Default: {show(field.default)}." if field.has_default else "May be left out.")
    return "\n".join(dict.fromkeys(sentences))


def _of_shape(shape: Shape, formats: Mapping[str, str]) -> Iterator[str]:
    match shape:
        case Scalar(_, format_, limits):
            if format_ is not None:
                yield formats.get(format_, f"Format: {format_}.")
            yield from _of_limits(dict(limits))
        case ListOf(item, is_unique, limits):
            if is_unique:
                yield "No two items are equal."
            yield from _of_limits(dict(limits))
            yield from _inside("Items", [item], formats)
        case MapOf(value, limits):
            yield from _of_limits(dict(limits))
            yield from _inside("Values", [value], formats)
        case TupleOf(items, rest, _):
            yield from _inside("Items", [*items, *([] if rest is None else [rest])], formats)
        case Choice(members):
            yield from _of_choice(members, formats)


def _of_choice(members: tuple[Shape, ...], formats: Mapping[str, str]) -> Iterator[str]:
    kinds = [kind for member in members if (kind := _kind(member)) is not None]
    if len(kinds) == 1:
        for member in members:
            yield from _of_shape(member, formats)
        return
    # Name the kind of value for each note, which otherwise would seem to apply to all members.
    for kind in dict.fromkeys(kinds):
        notes = [" ".join(filter(None, _of_shape(member, formats))) for member in members if _kind(member) == kind]
        if any(notes):
            yield f"{kind}: {' Or: '.join(dict.fromkeys(filter(None, notes)))}"


def _kind(shape: Shape) -> str | None:
    """Return a name for the values of a shape. Return None for null."""
    match shape:
        case Scalar("null"):
            return None
        case Scalar("string"):
            return "Text"
        case Scalar("integer" | "number"):
            return "Numbers"
        case ListOf() | TupleOf():
            return "Lists"
        case MapOf():
            return "Objects"
        case _:
            return "Others"


def _inside(what: str, shapes: list[Shape], formats: Mapping[str, str]) -> Iterator[str]:
    for shape in shapes:
        for sentence in filter(None, _of_shape(shape, formats)):
            yield f"{what}: {sentence}"


def _of_limits(limits: Mapping[str, Any]) -> Iterator[str]:
    bounds = [_bound(key, value) for key, value in limits.items() if key != "pattern"]
    if bounds:
        text = ", ".join(bounds)
        yield f"{text[0].upper()}{text[1:]}."
    if "pattern" in limits:
        yield f"Matches `{limits['pattern']}`."


def _bound(key: str, value: Any) -> str:
    match key:
        case "exclusiveMinimum":
            return f"more than {value}"
        case "exclusiveMaximum":
            return f"less than {value}"
        case "multipleOf":
            return f"a multiple of {value}"
    word = "at least" if key.startswith("min") else "at most"
    unit = UNITS.get(key)
    return f"{word} {value}" if unit is None else f"{word} {value} {unit}{'s'[: value != 1]}"
