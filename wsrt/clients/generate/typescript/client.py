"""One client: the types of its events, its class and its paths."""

from __future__ import annotations

from collections.abc import Mapping

from ....schema.description import ConsumerEntry
from ....schema.routes import parameters_of
from ..patterns import patterns
from ..shapes import Message, vocabulary
from .names import Fixed, local
from .text import comment, key
from .types import Types

__all__ = ["Client"]


class Client:
    """
    Writes the client of one consumer.

    Args:
        names: what its types are called, by their names in its own module; these by default.

    Attributes:
        fixed: the names of the class and of what stands beside it.
        patterns: the URL patterns of which paths can be made, percent-encoded but for their parameters.
        base: the class that it extends, with its types; the runtime is called ``wsrt``.
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
        shown = self._vocabulary.shown
        # Not never, which any is not assignable to: Client<any, any, any, any> is to be every client.
        shows = "null" if shown is None else self._types.type(shown)
        self.base = f"wsrt.Client<{self.fixed.receives}, {self.fixed.sends}, {self.fixed.replies}, {shows}>"

    @property
    def hash(self) -> str:
        """Tells the schema of this client from others."""
        return self._entry["hash"]

    def declarations(self) -> dict[str, str]:
        """Return the declarations of its types, by name."""
        return {self._names[name]: self._types.declaration(named) for name, named in self._named.items()}

    def meanings(self) -> dict[str, frozenset[str]]:
        """Return all the text that each type is made of, by its name."""
        texts, used = {}, {}
        for name, named in self._named.items():
            types = Types(self._named, self._names)
            texts[name], used[name] = types.declaration(named), types.used
        return {self._names[name]: frozenset(texts[each] for each in _reachable(name, used)) for name in self._named}

    def events(self) -> str:
        """Return the interfaces of the events: received, sent, and the answers to requests."""
        of = self._types.type
        sends, receives = self._vocabulary.sends, self._vocabulary.receives
        received = {message.name: of(message.shape) for message in receives}
        return "\n".join(
            [
                _interface(
                    self.fixed.receives,
                    "Data of the events that the client receives, by their names.",
                    [_member(message, received[message.name], _delivery(message)) for message in receives],
                ),
                _interface(
                    self.fixed.sends,
                    "Data of the events that the client sends, by their names.",
                    [_member(message, of(message.shape)) for message in sends],
                ),
                _interface(
                    self.fixed.replies,
                    "Data of the answers to requests, by the names of these.",
                    [_member(message, _reply(message, received)) for message in sends if message.replies],
                ),
            ]
        )

    def about(self) -> str:
        """Return the comment above the class."""
        return comment([self._entry["description"] or f"The client of `{self._entry['consumer']}`."])

    def about_path(self) -> str:
        """Return the comment above the method that makes paths."""
        return comment([f"Return the path of {' or '.join(f'`{each}`' for each in self.patterns)}."], "  ")

    def parameters(self) -> list[str]:
        """Return what that method takes, for each pattern."""
        return [_parameters(pattern) for pattern in self.patterns]


def _interface(name: str, about: str, members: list[str]) -> str:
    body = "".join(members)
    return f"{comment([about])}export interface {name} {{\n{body}}}\n"


def _member(message: Message, type_: str, note: str = "") -> str:
    return f"{comment([note], '  ')}  readonly {key(message.name)}: {type_};\n"


def _delivery(message: Message) -> str:
    if message.entry["history"]:
        return "Kept in the history of its room."
    if message.entry["overflow"] == "drop":
        return "A client that is behind does not get it."
    return "A client that is behind gets only the latest." if message.entry["overflow"] == "latest" else ""


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
