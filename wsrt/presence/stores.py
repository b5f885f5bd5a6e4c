"""The store that the setting ``PRESENCE`` names: one instance for each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from django.utils.module_loading import import_string

from ..conf import conf
from ..delivery.ledger import ledger
from ..forks import after_fork_in_child
from .options import require_seconds, require_text, require_truth
from .store import PresenceStore

KEYS = ("BACKEND", "LOCATION", "OPTIONS")
"""Of the setting."""

OURS = {"GRACE", "DETAILS"}
"""Options that are the nodes' and not the store's."""

# By loop (its id, with the loop itself to see whether it is the same one): the settings as they were, and the store.
_stores: dict[int, tuple[asyncio.AbstractEventLoop, str, PresenceStore | None]] = {}


def store_of_loop() -> PresenceStore | None:
    """
    Return the running loop's store; made at first use.

    None where it cannot be made: the checks say why, and nothing is tracked.
    """
    loop = asyncio.get_running_loop()
    settings = conf.presence
    print_of_settings = repr(settings)
    known = _stores.get(id(loop))
    if known is None or known[0] is not loop or known[1] != print_of_settings:
        for key in [key for key, (other, _, _) in _stores.items() if other.is_closed()]:
            del _stores[key]
        known = _stores[id(loop)] = (loop, print_of_settings, _make_or_tell(settings))
    return known[2]


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
        ledger.count("presence_stores_missing", "WSRT['PRESENCE'] cannot be used, nobody is tracked: %s", error)
        return None


after_fork_in_child(_stores.clear)
