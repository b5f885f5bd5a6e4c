"""Python identifiers for names on the wire."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Iterable

from pydantic import RootModel

from ..shapes import Named, snake

__all__ = ["ORIGINS", "attributes", "by_kind", "classes", "modules", "parameters", "unique"]

RUNTIME = ".runtime"

ORIGINS = {
    "dt": "datetime",
    "Mapping": "collections.abc",
    "Decimal": "decimal",
    "UUID": "uuid",
    **dict.fromkeys(("TYPE_CHECKING", "Annotated", "Any", "ClassVar", "Literal", "Never"), "typing"),
    **dict.fromkeys(("TypeAlias", "overload"), "typing"),
    **dict.fromkeys(("AnyUrl", "BaseModel", "ConfigDict", "Field", "RootModel"), "pydantic"),
    "TypeAliasType": "typing_extensions",
    **dict.fromkeys(("UNSET", "Client", "Incoming", "Model", "Omittable", "Outgoing"), RUNTIME),
    **dict.fromkeys(("Segment", "Sends", "path_of"), RUNTIME),
}
"""The names that generated modules import, with their modules. Models with these names are renamed."""

TAKEN = frozenset(
    {
        *(name for name in dir(RootModel) if not name.startswith("_")),
        # Names used in annotations. Within a class body, a field would hide them from the fields below.
        *("bool", "bytes", "dict", "dt", "float", "int", "list", "set", "str", "tuple"),
        # Type checkers give __init__, which takes the fields, a first parameter of this name.
        "self",
    }
)
"""Names that no field may have, because it would hide a name that Pydantic or an annotation needs."""


def attributes(names: Iterable[str]) -> dict[str, str]:
    """Return a dict from the names of fields to the names of attributes. Identifiers in snake_case are kept."""
    wanted = list(names)
    found = {name: name for name in wanted if _is_plain(name)}
    for name in wanted:
        if name not in found:
            found[name] = unique(_usable(snake(name)), found.values())
    return {name: found[name] for name in wanted}


def classes(named: Iterable[Named], client: str) -> dict[str, str]:
    """
    Return a dict from the names of a consumer's shapes to the names of their classes or aliases.

    A class or alias has the name of its shape, unless that is a keyword, the name of the client, or a name that the
    module imports.
    """
    taken = {*ORIGINS, *keyword.kwlist, client}
    wanted = [each.name for each in named]
    found = {name: name for name in wanted if name not in taken}
    for name in wanted:
        if name not in found:
            found[name] = unique(f"{name}Model", {*taken, *found.values()}, "")
    return found


def modules(names: Iterable[str]) -> dict[str, str]:
    """Return a dict from the names of consumers to the names of their modules."""
    found: dict[str, str] = {}
    for name in names:
        wanted = snake(name)
        if keyword.iskeyword(wanted) or wanted == "runtime":
            wanted += "_"
        found[name] = unique(wanted, found.values())
    return found


def parameters(names: Iterable[str]) -> dict[str, str]:
    """Return a dict from the parameters of a URL pattern to the parameters of the generated function."""
    taken = {*keyword.kwlist, "path_of"}
    return {name: f"{name}_" if name in taken else name for name in names}


def unique(name: str, taken: Iterable[str], joint: str = "_") -> str:
    """Return the name if it isn't taken, else the name with the first free number appended, from 2."""
    others = set(taken)
    found, number = name, 2
    while found in others:
        found, number = f"{name.removesuffix(joint)}{joint}{number}", number + 1
    return found


def by_kind(name: str) -> tuple[int, str]:
    """Return the sort key that linters use for names: constants, then classes, then functions."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name


def _is_plain(name: str) -> bool:
    is_identifier = name.isidentifier() and unicodedata.normalize("NFKC", name) == name
    return is_identifier and name == name.lower() and not name.startswith("_") and _usable(name) == name


def _usable(name: str) -> str:
    text = unicodedata.normalize("NFKC", name)
    if not text.isidentifier():
        return "field"
    return f"{text}_" if keyword.iskeyword(text) or text in TAKEN else text
