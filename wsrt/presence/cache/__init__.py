"""Presence in any of Django's caches that processes share."""

from .store import CachePresence

__all__ = ["CachePresence"]
