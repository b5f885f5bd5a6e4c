"""History in Redis."""

from .store import RedisHistory

__all__ = ["RedisHistory"]
