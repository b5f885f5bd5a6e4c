"""The namespaces of this process: which consumers share rooms and users, and which events may be published to them."""

from __future__ import annotations

import gc
import weakref

from ..exceptions import DeclarationError, UndeclaredEvent, UnknownNamespace
from .catalog import Catalog, undeclared_message
from .events import Event, meta, require_instance

__all__ = ["Namespace", "Namespaces", "namespaces"]


class Namespace:
    """
    One contract: the consumers that share rooms and users, and the events that may be published to them.

    Consumers are held weakly: a class that a test made and dropped takes its events along.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._catalogs: weakref.WeakKeyDictionary[type, Catalog] = weakref.WeakKeyDictionary()

    @property
    def consumers(self) -> list[type]:
        """The consumer classes of this namespace."""
        return list(self._catalogs)

    @property
    def events(self) -> dict[str, type[Event]]:
        """What may be published, by name: the union of what its consumers send."""
        events: dict[str, type[Event]] = {}
        for catalog in list(self._catalogs.values()):
            events.update(catalog.sends)
        return events

    def add(self, consumer: type, catalog: Catalog) -> None:
        """
        Add a consumer class.

        Raises:
            DeclarationError: it knows another model under a name that is taken.
        """
        clash = self._clash(catalog, consumer)
        if clash is not None:
            # Classes live in reference cycles: what nobody holds any more is no contradiction.
            gc.collect()
            clash = self._clash(catalog, consumer)
        if clash is not None:
            name, mine, theirs, other = clash
            raise DeclarationError(
                f"{consumer.__name__}: namespace {self.name!r} knows the event {name!r} as "
                f"{theirs.__module__}.{theirs.__qualname__} (see {other.__name__}), not as "
                f"{mine.__module__}.{mine.__qualname__}; rename one, or give the consumer another namespace"
            )
        self._catalogs[consumer] = catalog

    def check(self, event: Event) -> None:
        """
        Check that the event may be published here.

        Raises:
            UndeclaredEvent: no consumer of the namespace declares it.
            TypeError: it is no event.
        """
        require_instance(event)
        declared = meta(event).name
        for catalog in self._catalogs.values():
            if catalog.sends.get(declared) is type(event):
                return
        raise UndeclaredEvent(undeclared_message(event, f"namespace {self.name!r}", self.events))

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
    """The namespaces that this process knows, by name."""

    def of(self, name: str) -> Namespace:
        """
        Return a namespace.

        Raises:
            UnknownNamespace: no consumer has it; the text names those that there are.
        """
        namespace = self.get(name)
        if namespace is None or not namespace.consumers:
            known = ", ".join(sorted(repr(key) for key, value in self.items() if value.consumers)) or "none"
            raise UnknownNamespace(
                f"no consumer has the namespace {name!r}; known are: {known}. Consumers are found in the modules of "
                'WSRT["CONSUMERS"] (by default consumers.py of every installed app)'
            )
        return namespace

    def add(self, name: str, consumer: type, catalog: Catalog) -> None:
        """Add a consumer class to its namespace, which is made if need be. Raises as Namespace.add."""
        self.setdefault(name, Namespace(name)).add(consumer, catalog)


namespaces = Namespaces()


def _same_definition(one: type, other: type) -> bool:
    """Whether a class was made again by the same statement: a module reloaded, a function called twice."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
