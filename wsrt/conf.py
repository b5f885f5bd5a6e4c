"""Settings: the dict WSRT, read when used."""

from __future__ import annotations

from typing import Any

from django.conf import settings

DEFAULTS: dict[str, Any] = {
    "CHANNEL_LAYER_ALIAS": "default",
    "CONSUMERS": ["consumers"],
    "PRESENCE": {"BACKEND": "wsrt.presence.memory.MemoryPresence", "OPTIONS": {"LEASE": 30, "GRACE": 5}},
    "HISTORY": {"BACKEND": "wsrt.history.memory.MemoryHistory"},
    "HISTORY_SIZE": 100, "HISTORY_SECONDS": 300,
    "HEARTBEAT": 25, "HEARTBEAT_TIMEOUT": 10, "SETUP_TIMEOUT": 10,
    "MAX_PAYLOAD": 65536,
    "INBOX_FRAMES": 1000, "INBOX_BYTES": 1048576,
    "OUTBOX_FRAMES": 1000, "OUTBOX_BYTES": 1048576, "OUTBOX_SECONDS": 10,
    "ON_VIOLATION": "auto", "MAX_VIOLATIONS": 10,
    "MAX_ROOMS": 128,
    "MAX_CONNECTIONS_PER_USER": None, "CONNECTION_LIMIT_POLICY": "refuse",
    "RATE": "50/s", "RATE_BURST": 100,
    "CHECK_ORIGIN": True,
    "REVALIDATE": 60,
    "THREADS": 8, "DRAIN_SECONDS": 25,
}


class Conf:
    def __getattr__(self, name: str) -> Any:
        key = name.upper()
        return getattr(settings, "WSRT", {}).get(key, DEFAULTS[key])


conf = Conf()
