"""The user of a scope: whether it is signed in, and how it is loaded again."""

from __future__ import annotations

from typing import Any

from django.db import models


def is_signed_in(user: Any) -> bool:
    """Return whether there is a user that isn't anonymous."""
    return user is not None and bool(getattr(user, "is_authenticated", False))


def is_active(user: Any) -> bool:
    """Return whether a user may still sign in. A user without the flag ``is_active`` may."""
    return bool(getattr(user, "is_active", True))


async def reload(user: Any) -> Any:
    """
    Return the current state of a user from the database, or None if the user is gone or inactive.

    The user is loaded with the default manager of its own class rather than that of AUTH_USER_MODEL, where the same
    primary key may be another user. A user that isn't a model instance is returned unchanged.
    """
    # For a lazy object this is the class of the wrapped user, and isinstance() agrees.
    if not isinstance(user, models.Model):
        return user
    # Database routers get the hint that Django gives when it refreshes an instance.
    manager = user.__class__._default_manager.db_manager(hints={"instance": user})
    fresh = await manager.filter(pk=user.pk).afirst()
    return fresh if fresh is not None and is_active(fresh) else None
