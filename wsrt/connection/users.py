"""Users of a scope: whether they are signed in, and what the database says of them now."""

from __future__ import annotations

from typing import Any

from django.db import models


def is_signed_in(user: Any) -> bool:
    """Return whether this is a user, and not an anonymous one."""
    return user is not None and bool(getattr(user, "is_authenticated", False))


def is_active(user: Any) -> bool:
    """Return whether a user may still sign in; what has no such flag may."""
    return bool(getattr(user, "is_active", True))


async def reload(user: Any) -> Any:
    """
    Return a user as the database has it now; None where it is gone or inactive.

    It is loaded by the default manager of its own class, whatever AUTH_USER_MODEL is: another model has an instance
    with the same primary key. A user that isn't a model instance is returned as it is.
    """
    # Through a lazy object, too, this is the class of the user.
    if not isinstance(user, models.Model):
        return user
    # The hint is what Django gives to its own routers when it refreshes an instance.
    manager = user.__class__._default_manager.db_manager(hints={"instance": user})
    fresh = await manager.filter(pk=user.pk).afirst()
    return fresh if fresh is not None and is_active(fresh) else None
