"""The module of one client: the types of its events, its class and its paths."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ....connection.room_patterns import PARAMETER
from ....schema.description import ConsumerEntry
from ....schema.routes import parameters_of
from ..patterns import patterns
from ..shapes import Message, vocabulary
from .names import Fixed, local
from .text import comment, key, literal
from .types import Types

__all__ = ["Client"]


class Client:
    """
    Writes the client of one consumer.

    Args:
        entry: The consumer's entry in the description.
        names: The names of its types, by their names in the client's own module. By default these are the same.

    Attributes:
        fixed: The names of the class and its event interfaces.
        patterns: The URL patterns from which paths can be built, percent-encoded except for their parameters.
        base: The base class with its type arguments. The runtime is imported as ``wsrt``.
    """

    def __init__(self, entry: ConsumerEntry, names: Mapping[str, str] | None = None) -> None:
        self._entry = entry
        self._vocabulary = vocabulary(entry)
        self._named = {named.name: named for named in self._vocabulary.named}
        own = local(entry["name"], self._vocabulary.named)
        self._names = own if names is None else {name: names[called] for name, called in own.items()}
        self._types = Types(self._named, self._names)
        self.fixed = Fixed(entry["name"])
        self.patterns = patterns(entry["paths"])
        member_data = self._vocabulary.member_data
        # Not "never", to which "any" isn't assignable: Client<any, any, any, any> must match every client.
        member_type = "null" if member_data is None else self._types.type(member_data)
        rooms = " | ".join(dict.fromkeys(map(_room_type, entry["subscriptions"]))) or "never"
        events = f"{self.fixed.receives}, {self.fixed.sends}, {self.fixed.replies}"
        self.base = f"wsrt.Client<{events}, {member_type}, {rooms}>"

    @property
    def options(self) -> str:
        """The options that a generated client passes to its base class: those it was given, and its own."""
        login = self._entry["login"]
        own = f"schemaHash: {literal(self._entry['hash'])}"
        return f"{{ ...options, {own}{'' if login is None else f', loginEvent: {literal(login)}'} }}"

    def declarations(self) -> dict[str, str]:
        """Return the declarations of the types, by name."""
        return {self._names[name]: self._types.declaration(named) for name, named in self._named.items()}

    def meanings(self) -> dict[str, frozenset[str]]:
        """
        Return a dict from the name of each type to the declarations that define it.

        These are its own declaration and those of all types that it refers to, directly or indirectly.
        """
        texts, used = {}, {}
        for name, named in self._named.items():
            types = Types(self._named, self._names)
            texts[name], used[name] = types.declaration(named), types.used
        return {self._names[name]: frozenset(texts[each] for each in _reachable(name, used)) for name in self._named}

    def events(self) -> str:
        """Return the interfaces of received events, of sent events, and of the answers to requests."""
        of = self._types.type
        sends, receives = self._vocabulary.sends, self._vocabulary.receives
        received = {message.name: of(message.shape) for message in receives}
        return "\n".join(
            [
                _interface(
                    self.fixed.receives,
                    "The data of received events, by name.",
                    [_member(message, received[message.name], _delivery(message)) for message in receives],
                ),
                _interface(
                    self.fixed.sends,
                    "The data of sent events, by name.",
                    [_member(message, of(message.shape)) for message in sends],
                ),
                _interface(
                    self.fixed.replies,
                    "The data of the answers, by the name of the request.",
                    [_member(message, _reply(message, received)) for message in sends if message.replies],
                ),
            ]
        )

    def about(self) -> str:
        """Return the comment above the class."""
        return comment([self._entry["description"] or f"The client of `{self._entry['consumer']}`."])

    def about_path(self) -> str:
        """Return the comment above the method that builds paths."""
        return comment([f"Return the path of {' or '.join(f'`{each}`' for each in self.patterns)}."], "  ")

    def parameters(self) -> list[str]:
        """Return the parameters of the method that builds paths, for each URL pattern."""
        return [_parameters(pattern) for pattern in self.patterns]


def _room_type(pattern: str) -> str:
    """Return the type of the names of rooms that have a pattern, a template of strings and numbers."""
    pieces = PARAMETER.split(pattern)
    text = _template_text(pieces[0])
    for converter, after in zip(pieces[1::2], pieces[2::2], strict=True):
        text += ("${number}" if converter == "int" else "${string}") + _template_text(after)
    return f"`{text}`"


def _template_text(text: str) -> str:
    """Return a text as part of a template."""
    return re.sub(r"[`$]", r"\\\g<0>", literal(text)[1:-1])


def _interface(name: str, about: str, members: list[str]) -> str:
    body = "".join(members)
    return f"{comment([about])}export interface {name} {{\n{body}}}\n"


def _member(message: Message, type_: str, note: str = "") -> str:
    return f"{comment([note], '  ')}  readonly {key(message.name)}: {type_};\n"


def _delivery(message: Message) -> str:
    if message.entry["overflow"] == "drop":
        return "Skipped for a client that is behind."
    return "A client that is behind receives only the latest." if message.entry["overflow"] == "latest" else ""


def _reply(message: Message, received: Mapping[str, str]) -> str:
    types = dict.fromkeys("undefined" if name == "wsrt.ok" else received[name] for name in message.replies)
    return " | ".join(types)


def _parameters(pattern: str) -> str:
    fields = "; ".join(f"readonly {key(name)}: wsrt.PathParameter" for name in parameters_of(pattern))
    return f"parameters: {{ {fields} }}" if fields else ""


def _reachable(name: str, used: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += used[each]
    return found
