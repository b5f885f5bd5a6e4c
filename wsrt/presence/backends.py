"""The presence store that ``WSRT["PRESENCE"]`` configures: one instance for each event loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..cluster.per_loop import PerLoop
from ..conf import conf
from ..metrics import counters
from ..stores.of_loop import StoreOfLoop
from ..stores.options import require_seconds, require_truth
from ..stores.settings import class_of, create, options_of
from .base import PresenceStore

NODE_OPTIONS = {"GRACE", "DETAILS"}
"""Options that nodes use. All others are passed to the store."""


_stores = PerLoop(lambda: StoreOfLoop(_make_or_log))


def store_of_loop() -> PresenceStore | None:
    """
    Return the running loop's store, which is created at first use.

    None if it can't be created; then presence isn't tracked. ``manage.py check`` reports the reason.
    """
    return _stores.get().use(conf.presence)


async def close_stores() -> None:
    """Close the connections and threads of the running loop's stores."""
    known = _stores.find()
    if known is not None:
        await known.close()


def make_store(settings: dict[str, Any]) -> PresenceStore:
    """
    Return a new store.

    Args:
        settings: A dict such as ``WSRT["PRESENCE"]``.

    Raises:
        ImportError: The class named by ``BACKEND`` can't be imported.
        TypeError, ValueError: The setting or one of its options isn't valid; the text names the valid values.
    """
    options = options_of("PRESENCE", settings)
    require_seconds("GRACE", options.get("GRACE", 0), least=0)
    require_truth("DETAILS", options.get("DETAILS", False))
    own = {key: value for key, value in options.items() if key not in NODE_OPTIONS}
    store: PresenceStore = create(PresenceStore, settings, own)
    return store


def option(name: str, default: Any) -> Any:
    """Return one of NODE_OPTIONS: GRACE in seconds, or DETAILS, whether to keep addresses and user agents."""
    options = conf.presence.get("OPTIONS")
    return options.get(name, default) if isinstance(options, Mapping) else default


def store_class() -> type[PresenceStore] | None:
    """Return the class of the store. None if the setting doesn't name one that can be imported."""
    return class_of(PresenceStore, conf.presence)


def is_shared() -> bool:
    """Return whether the store covers all processes. Also True if there is no usable store."""
    store = store_class()
    return store is None or store.is_shared


def _make_or_log(settings: dict[str, Any]) -> PresenceStore | None:
    try:
        return make_store(settings)
    except Exception as error:
        counters.count("presence_stores_missing", "WSRT['PRESENCE'] can't be used, presence isn't tracked: %s", error)
        return None
