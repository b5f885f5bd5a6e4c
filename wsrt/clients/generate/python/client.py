"""The module of one client: the models of its events, its class and its paths."""

from __future__ import annotations

from collections.abc import Iterator

from ....schema.description import ConsumerEntry
from ....schema.routes import parameters_of
from ..patterns import patterns
from ..shapes import Message, Named, Reference, Struct, pascal, references, vocabulary
from . import names
from .imports import imports
from .layout import Expression, Joined, Prefixed, call, layout, listing, mapping, statement, subscript
from .literals import docstring, string
from .types import STEP, Types

__all__ = ["Client"]

PYRIGHT = "# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false\n\n"
"""For root models and ``__pydantic_extra__``, whose types in Pydantic differ from those of the base classes."""


class Client:
    """
    Writes the client of one consumer.

    Attributes:
        consumer: The name of the consumer's entry in the description.
        name: The name of the client class.
    """

    def __init__(self, entry: ConsumerEntry) -> None:
        self.consumer = entry["name"]
        self.name = f"{self.consumer}Client"
        self._entry = entry
        self._about = f"The client of ``{entry['consumer']}``."
        found = vocabulary(entry)
        self._named = {named.name: named for named in found.named}
        # The events, with the names of their shapes.
        self._receives = [(message, self._name(message)) for message in found.receives]
        self._sends = [(message, self._name(message)) for message in found.sends]
        # The name of the model of members' data. None if the data is plain JSON.
        self._member_data = found.member_data.name if isinstance(found.member_data, Reference) else None
        self._names = names.classes(self._named.values(), self.name)
        self._used: set[str] = set()
        self._types = Types(self._named, self._names, self._used.add)

    def module(self) -> str:
        """Return the text of the module."""
        parts = [*self._declarations(), self._class()]
        exported = sorted((self.name, *self._names.values()), key=names.by_kind)
        head = (
            f"{docstring(self._about, 0)}\n"
            f"{PYRIGHT if self._used & {'RootModel', 'ConfigDict'} else ''}"
            f"from __future__ import annotations\n\n{imports(self._used)}\n"
            f"{statement(0, '__all__', None, listing(list(map(string, exported))))}\n"
        )
        return "\n\n".join([head, *parts])

    def _name(self, message: Message) -> str:
        """Return the name of an event's shape. A shape without a name gets the name of the event's model."""
        if isinstance(message.shape, Reference):
            return message.shape.name
        name = names.unique(pascal(message.entry["model"]), self._named, "")
        self._named[name] = Named(name, message.shape, message.entry["description"])
        return name

    def _declarations(self) -> Iterator[str]:
        """Yield classes and aliases. Those of received events come first, because requests refer to their answers."""
        received = {name for _, name in self._receives}
        sent = {name: message for message, name in self._sends}
        first = self._reachable(received)
        for named in sorted(self._named.values(), key=lambda each: each.name not in first):
            if isinstance(named.shape, Struct) or named.name in {*received, *sent, self._member_data}:
                yield self._types.model(named, self._bases(named.name in received, sent.get(named.name)))
            else:
                yield self._types.alias(named)

    def _bases(self, is_received: bool, sent: Message | None) -> list[Expression]:
        found: list[Expression] = [self._import("Incoming")] if is_received else []
        if sent is not None:
            found.append(subscript(self._import("Outgoing"), self._types.one_of(self._replies(sent))))
        return found or [self._import("Model")]

    def _replies(self, message: Message) -> list[str | None]:
        shapes = {received.name: name for received, name in self._receives}
        return [None if reply == "wsrt.ok" else shapes[reply] for reply in message.replies]

    def _reachable(self, wanted: set[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(wanted)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += references(self._named[name].shape)
        return found

    def _class(self) -> str:
        about = self._entry["description"] or self._about
        model = subscript("type", self._import("BaseModel"))
        receives = mapping([(string(message.name), self._names[name]) for message, name in self._receives])
        sends = mapping([(self._names[name], self._sent(message)) for message, name in self._sends])
        lines = [
            statement(STEP, "schema_hash", None, string(self._entry["hash"])),
            statement(STEP, "receives", self._table("str", model), receives),
            statement(STEP, "sends", self._table(model, self._import("Sends")), sends),
            statement(STEP, "subscriptions", None, self._subscriptions()),
        ]
        if self._entry["login"] is not None:
            lines.append(statement(STEP, "login_event", None, string(self._entry["login"])))
        if self._member_data is not None:
            lines.append(statement(STEP, "member_model", None, self._names[self._member_data]))
        head = f"class {self.name}({self._import('Client')}):\n{docstring(about, STEP)}\n"
        return head + "".join(f"{line}\n" for line in lines) + self._path()

    def _sent(self, message: Message) -> Expression:
        replies = [
            (string(reply), self._names[name])
            for reply, name in zip(message.replies, self._replies(message), strict=True)
            if name is not None
        ]
        return call("Sends", string(message.name), *([mapping(replies)] if replies else []))

    def _subscriptions(self) -> Expression:
        patterns = tuple(map(string, self._entry["subscriptions"]))
        # A tuple of one item needs a comma even on one line.
        return f"({patterns[0]},)" if len(patterns) == 1 else Joined("(", patterns, ")")

    def _table(self, key: Expression, value: Expression) -> Expression:
        return subscript(self._import("ClassVar"), subscript(self._import("Mapping"), key, value))

    def _path(self) -> str:
        found = patterns(self._entry["paths"])
        if not found:
            return ""
        every = names.parameters(name for pattern in found for name in parameters_of(pattern))
        text = ""
        if len(found) > 1:
            # One overload for each pattern, because parameters of different patterns can't be combined.
            for pattern in found:
                signature = self._signature([every[name] for name in parameters_of(pattern)])
                text += f"\n    @{self._import('overload')}\n    @staticmethod\n{signature} ...\n"
        signature = self._signature(list(every.values()), " | None = None" if text else "")
        about = f"Return the path of {' or '.join(f'``{pattern}``' for pattern in found)}."
        given = mapping([(string(name), parameter) for name, parameter in every.items()])
        value = call(self._import("path_of"), listing(list(map(string, found))), given)
        indent = 2 * STEP
        return (
            f"{text}\n    @staticmethod\n{signature}\n{docstring(about, indent)}"
            f"{' ' * indent}return {layout(value, indent, indent + len('return '), 0)}\n"
        )

    def _signature(self, found: list[str], default: str = "") -> str:
        named: list[Expression] = [Prefixed(f"{name}: ", f"{self._import('Segment')}{default}") for name in found]
        signature = call("def path", *(["*", *named] if named else []))
        return f"    {layout(signature, STEP, STEP, len(' -> str: ...'))} -> str:"

    def _import(self, name: str) -> str:
        self._used.add(name)
        return name
