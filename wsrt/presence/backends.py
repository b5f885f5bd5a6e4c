"""The store that the setting ``PRESENCE`` names: one instance for each event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from django.utils.module_loading import import_string

from ..cluster.per_loop import PerLoop
from ..conf import conf
from ..metrics import counters
from .base import PresenceStore
from .options import require_seconds, require_text, require_truth

KEYS = ("BACKEND", "LOCATION", "OPTIONS")
"""Of the setting."""

OURS = {"GRACE", "DETAILS"}
"""Options that are the nodes' and not the store's."""


class _LoopStores:
    """
    The stores of one event loop: the present one, and those of other settings before it.

    They are closed when the loop shuts down its asynchronous generators, as ``asyncio.run`` and ``async_to_sync`` do
    before they close it: until then one of them is suspended. Elsewhere close_stores() does it.
    """

    def __init__(self) -> None:
        self.settings: str | None = None
        self.store: PresenceStore | None = None
        self._made: list[PresenceStore] = []
        self._closing = self._close_at_the_end()
        # It comes to its yield without waiting for anything; with that, the loop knows of it.
        with contextlib.suppress(StopIteration):
            self._closing.__anext__().send(None)

    def use(self, settings: dict[str, Any]) -> PresenceStore | None:
        """Return the store of these settings, made unless they are the same as before."""
        text = repr(settings)
        if text != self.settings:
            self.settings, self.store = text, _make_or_tell(settings)
            if self.store is not None:
                self._made.append(self.store)
        return self.store

    async def close(self) -> None:
        """Give up what the stores hold."""
        for store in self._made:
            # Whatever it raises: it is over, and the others have to be closed as well.
            with contextlib.suppress(Exception):
                await store.close()

    async def _close_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()


_stores = PerLoop(_LoopStores)


def store_of_loop() -> PresenceStore | None:
    """
    Return the running loop's store; made at first use.

    None where it cannot be made: the checks say why, and nothing is tracked.
    """
    return _stores.get().use(conf.presence)


async def close_stores() -> None:
    """Give up what the running loop's stores hold: connections and threads. They may be used again."""
    known = _stores.find()
    if known is not None:
        await known.close()


def make_store(settings: dict[str, Any]) -> PresenceStore:
    """
    Return a new store.

    Args:
        settings: as ``WSRT["PRESENCE"]``.

    Raises:
        ImportError: there is no such class.
        TypeError, ValueError: the setting, or one of the options, is not what it may be; the text says what it may be.
    """
    unknown = settings.keys() - KEYS
    if unknown:
        raise ValueError(f"PRESENCE has no {min(unknown, key=str)!r}; it has {', '.join(map(repr, KEYS))}")
    backend, options = settings.get("BACKEND", ""), settings.get("OPTIONS", {})
    require_text("BACKEND", backend)
    if not isinstance(options, Mapping):
        raise ValueError(f"OPTIONS is a dict, not {options!r}")
    require_seconds("GRACE", options.get("GRACE", 0), least=0)
    require_truth("DETAILS", options.get("DETAILS", False))
    theirs = {str(key).lower(): value for key, value in options.items() if key not in OURS}
    store = import_string(backend)(settings.get("LOCATION"), **theirs)
    if not isinstance(store, PresenceStore):
        raise TypeError(f"{backend} is no PresenceStore")
    return store


def option(name: str, default: Any) -> Any:
    """Return one of OURS: GRACE in seconds, DETAILS to keep address and user agent of connections."""
    options = conf.presence.get("OPTIONS")
    return options.get(name, default) if isinstance(options, Mapping) else default


def is_shared() -> bool:
    """Return whether presence is the same in all processes; also where it is kept nowhere, for want of a store."""
    try:
        return bool(import_string(conf.presence["BACKEND"]).is_shared)
    except Exception:  # whatever a module raises that cannot be imported
        return True


def _make_or_tell(settings: dict[str, Any]) -> PresenceStore | None:
    try:
        return make_store(settings)
    except Exception as error:
        counters.count("presence_stores_missing", "WSRT['PRESENCE'] cannot be used, nobody is tracked: %s", error)
        return None
