"""Presence in Redis."""

from .store import RedisPresence

__all__ = ["RedisPresence"]
