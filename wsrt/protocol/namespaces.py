"""The namespaces of this process: which consumers share rooms and users, and which events may be published to them."""

from __future__ import annotations

import gc
import weakref
from typing import NamedTuple

from ..exceptions import DeclarationError, UndeclaredEvent, UnknownNamespace
from ..types import History
from .catalog import Catalog, undeclared_message
from .events import Event, meta, require_instance

__all__ = ["Namespace", "Namespaces", "namespaces"]


class _Collected(NamedTuple):
    """
    What the consumers of a namespace have declared, collected once because every publication needs it.

    Attributes:
        number: The number of consumers. It changes when a consumer class is garbage-collected.
        sent: The classes of the events that may be published.
        hooks: The names of the hooks that any consumer overrides.
        layer_alias: The alias of the channel layer that a consumer names. None if none does.
    """

    number: int = 0
    sent: frozenset[type] = frozenset()
    hooks: frozenset[str] = frozenset()
    layer_alias: str | None = None


class Namespace:
    """
    The consumers that share rooms and users, and the events that may be published to them.

    Consumers are referenced weakly: when a class is garbage-collected, such as one of a test, its events go with it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._catalogs: weakref.WeakKeyDictionary[type, Catalog] = weakref.WeakKeyDictionary()
        self._collected = _Collected()

    @property
    def consumers(self) -> list[type]:
        """The consumer classes of this namespace."""
        # Several times faster than to iterate.
        return [consumer for reference in self._catalogs.keyrefs() if (consumer := reference()) is not None]

    @property
    def is_empty(self) -> bool:
        """Whether the namespace has no consumers any more."""
        return not len(self._catalogs)

    @property
    def events(self) -> dict[str, type[Event]]:
        """The events that may be published, by name: all events that its consumers send."""
        events: dict[str, type[Event]] = {}
        for catalog in list(self._catalogs.values()):
            events.update(catalog.sends)
        return events

    def add(self, consumer: type, catalog: Catalog) -> None:
        """
        Add a consumer class.

        Raises:
            DeclarationError: The consumer uses an event name for which the namespace has another model.
        """
        if self._clash(catalog, consumer) is not None:
            # Classes are part of reference cycles. A class that is not in use any more may still be here. No variable
            # holds the clash, because its class couldn't be collected then.
            gc.collect()
        clash = self._clash(catalog, consumer)
        if clash is not None:
            name, mine, theirs, other = clash
            raise DeclarationError(
                f"{consumer.__name__}: the event {name!r} is {theirs.__module__}.{theirs.__qualname__} in "
                f"{other.__name__}, which has the same namespace {self.name!r}, so it can't be "
                f"{mine.__module__}.{mine.__qualname__}: rename one event, or give the consumer another namespace"
            )
        self._catalogs[consumer] = catalog
        self._collected = _Collected()

    @property
    def kept(self) -> set[History]:
        """The values of ``history`` of the events that are kept."""
        return {kept for catalog in list(self._catalogs.values()) for kept in catalog.kept}

    @property
    def overridden_hooks(self) -> frozenset[str]:
        """The names of the hooks that any of the consumers overrides."""
        return self._collect().hooks

    @property
    def layer_alias(self) -> str | None:
        """The alias of the channel layer that the consumers' classes name. None if they leave it to the setting."""
        return self._collect().layer_alias

    def declares(self, event: Event) -> bool:
        """Return whether an event may be published in this namespace. Raises TypeError for anything but an event."""
        if type(event) in self._collect().sent:
            return True
        require_instance(event)
        meta(event)
        return False

    def _collect(self) -> _Collected:
        collected = self._collected
        if collected.number != len(self._catalogs):
            consumers = self.consumers
            aliases = [getattr(consumer, "channel_layer_alias", None) for consumer in consumers]
            collected = self._collected = _Collected(
                len(consumers),
                frozenset(cls for catalog in list(self._catalogs.values()) for cls in catalog.sends.values()),
                frozenset(hook for consumer in consumers for hook in getattr(consumer, "overridden_hooks", ())),
                next((alias for alias in aliases if isinstance(alias, str)), None),
            )
        return collected

    def _clash(self, catalog: Catalog, consumer: type) -> tuple[str, type[Event], type[Event], type] | None:
        for other, theirs in list(self._catalogs.items()):
            if _same_definition(other, consumer):
                continue
            known = [*theirs.sends.items(), *theirs.receives.items()]
            for name, model in (*catalog.sends.items(), *catalog.receives.items()):
                for other_name, found in known:
                    if name == other_name and found is not model and not _same_definition(found, model):
                        return name, model, found, other
        return None


class Namespaces(dict[str, Namespace]):
    """The namespaces of this process, by name."""

    def of(self, name: str) -> Namespace:
        """
        Return a namespace.

        Raises:
            UnknownNamespace: No consumer has the namespace. The message lists the known namespaces.
        """
        namespace = self.get(name)
        if namespace is None or namespace.is_empty:
            raise UnknownNamespace(self._unknown(name))
        return namespace

    def kept_in(self, name: str) -> set[History]:
        """Return the different values of ``history`` of a namespace's events that have a history; empty if none has."""
        namespace = self.get(name)
        return set() if namespace is None else namespace.kept

    def publishing(self, name: str, event: Event) -> Namespace:
        """
        Return the namespace to publish an event in.

        Raises:
            UnknownNamespace: No consumer has the namespace.
            UndeclaredEvent: No consumer of the namespace declares the event.
            TypeError: The object is not an event.
        """
        namespace = self.get(name)
        if namespace is not None and namespace.declares(event):
            return namespace
        others = [repr(other) for other, space in sorted(self.items()) if space.declares(event)]
        advice = (
            f"{type(event).__qualname__} is declared in {' and '.join(others)}: pass namespace={others[0]}"
            if others
            else None
        )
        if namespace is None or namespace.is_empty:
            raise UnknownNamespace(self._unknown(name, advice))
        raise UndeclaredEvent(undeclared_message(event, f"namespace {name!r}", namespace.events, advice))

    def add(self, name: str, consumer: type, catalog: Catalog) -> None:
        """
        Add a consumer class to its namespace, created if necessary.

        Raises:
            DeclarationError: As for Namespace.add().
        """
        self.setdefault(name, Namespace(name)).add(consumer, catalog)

    def _unknown(self, name: str, advice: str | None = None) -> str:
        known = ", ".join(sorted(repr(key) for key, value in self.items() if value.consumers)) or "none"
        return f"no consumer has the namespace {name!r}; known namespaces: {known}. " + (
            advice
            or 'Consumers are found in the modules of WSRT["CONSUMERS"], by default consumers.py of every installed app'
        )


namespaces = Namespaces()


def _same_definition(one: type, other: type) -> bool:
    """Return whether two classes come from the same statement: a module was reloaded, or a function called twice."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
