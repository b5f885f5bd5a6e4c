"""The usernames that the admin shows next to user ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ValidationError

from ..addresses import auth_user_key, auth_user_pk
from .queries import ConnectionRow, UserRow

MAX_MATCHES = 2000
"""Number of accounts that a search by name considers."""

MAX_CACHED = 5000
"""Number of cached names after which the cache is cleared."""


class Usernames:
    """
    A cache of usernames by user id, so that the poll of a live page queries the database for new ids only.

    A user id is assumed to be the primary key of a Django user. If an application sets ids of another kind
    (``set_user_id``) that look like primary keys, the names are wrong.

    Args:
        viewer: The user who looks at the page. Without permission to view Django's users, every name is "".
    """

    def __init__(self, viewer: Any) -> None:
        self.model: Any = get_user_model()
        options = self.model._meta
        self.may_view_users = any(
            viewer.has_perm(f"{options.app_label}.{get_permission_codename(action, options)}")
            for action in ("view", "change")
        )
        self._cache: dict[str, str] = {}

    def fill(self, rows: Iterable[UserRow | ConnectionRow]) -> None:
        """Set ``name`` in rows. Queries the database for names that aren't cached."""
        rows = list(rows)
        self._load({row.user_id for row in rows if row.user_id is not None})
        for row in rows:
            row.name = self._cache.get(row.user_id or "", "")

    def get(self, user_id: str) -> str:
        """Return the name of a user, "" if there is none. Queries the database if it isn't cached."""
        self._load({user_id})
        return self._cache.get(user_id, "")

    def search(self, text: str) -> tuple[list[str], bool]:
        """
        Return the ids of users whose names contain a text. Queries the database.

        Returns:
            At most MAX_MATCHES ids, and whether there are more.
        """
        if not self.may_view_users or not text or "\0" in text:
            return [], False
        field = self.model.USERNAME_FIELD
        users = self.model._default_manager.filter(**{f"{field}__icontains": text}).order_by(field)
        ids = [str(auth_user_key(str(key))) for key in users.values_list("pk", flat=True)[: MAX_MATCHES + 1]]
        return ids[:MAX_MATCHES], len(ids) > MAX_MATCHES

    def has_cached(self, rows: Iterable[UserRow | ConnectionRow]) -> bool:
        """Return whether fill() can do without a query."""
        return not self.may_view_users or all(row.user_id is None or row.user_id in self._cache for row in rows)

    def primary_key(self, user_id: str) -> Any:
        """Return the primary key that a user id stands for, None if it can't be that of a Django user."""
        pk = auth_user_pk(user_id)
        if pk is None or "\0" in pk:
            return None
        # With multi-table inheritance the primary key refers to the parent's.
        field = self.model._meta.pk
        while field.remote_field is not None:
            field = field.target_field
        try:
            # Also checks the limits of the database: a larger integer would make the query fail.
            return field.clean(pk, None)
        except ValidationError:
            return None

    def _load(self, ids: set[str]) -> None:
        missing = ids - self._cache.keys()
        if not self.may_view_users or not missing:
            return
        if len(self._cache) > MAX_CACHED:
            self._cache.clear()
            missing = ids
        # Ids without a name are cached too, so that they aren't queried on every poll.
        self._cache |= dict.fromkeys(missing, "")
        keys = [key for user_id in missing if (key := self.primary_key(user_id)) is not None]
        users = self.model._default_manager.filter(pk__in=keys)
        self._cache |= {
            auth_user_key(str(key)): str(name) for key, name in users.values_list("pk", self.model.USERNAME_FIELD)
        }
