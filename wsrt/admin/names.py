"""Names: what Django's users are called, for those who may see users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ValidationError

from ..addresses import auth_user_key, auth_user_pk
from .queries import ConnectionRow, UserRow

MATCHES = 2000
"""Accounts of which a search by name finds those that are connected."""

REMEMBERED = 5000
"""Names that are kept, before all are asked for anew."""


class Names:
    """
    Names by user id, asked for once each.

    An id is taken for the key of one of Django's users. Where an application gives its connections ids of another kind
    (``set_user_id``), the names are right only if the two cannot be mistaken for each other.

    Args:
        viewer: who wants to know; nobody has a name for those who may not see Django's users.
    """

    def __init__(self, viewer: Any) -> None:
        self.model: Any = get_user_model()
        options = self.model._meta
        self.is_shown = any(
            viewer.has_perm(f"{options.app_label}.{get_permission_codename(action, options)}")
            for action in ("view", "change")
        )
        self._known: dict[str, str] = {}

    def put(self, rows: Iterable[UserRow | ConnectionRow]) -> None:
        """Write the names into rows. Queries the database."""
        rows = list(rows)
        self._look_up({row.user_id for row in rows if row.user_id is not None})
        for row in rows:
            row.name = self._known.get(row.user_id or "", "")

    def of(self, user_id: str) -> str:
        """Return one name; "" if there is none. Queries the database."""
        self._look_up({user_id})
        return self._known.get(user_id, "")

    def matching(self, text: str) -> tuple[list[str], bool]:
        """
        Return ids of the users whose names contain a text, and whether there are more. Queries the database.

        No more than MATCHES are looked at.
        """
        if not self.is_shown or not text or "\0" in text:
            return [], False
        field = self.model.USERNAME_FIELD
        users = self.model._default_manager.filter(**{f"{field}__icontains": text}).order_by(field)
        ids = [str(auth_user_key(str(key))) for key in users.values_list("pk", flat=True)[: MATCHES + 1]]
        return ids[:MATCHES], len(ids) > MATCHES

    def knows(self, rows: Iterable[UserRow | ConnectionRow]) -> bool:
        """Return whether put() would ask nobody."""
        return not self.is_shown or all(row.user_id is None or row.user_id in self._known for row in rows)

    def _look_up(self, ids: set[str]) -> None:
        missing = ids - self._known.keys()
        if not self.is_shown or not missing:
            return
        if len(self._known) > REMEMBERED:
            self._known.clear()
            missing = ids
        # Also those who have no name, so that they are not asked for again.
        self._known |= dict.fromkeys(missing, "")
        keys = [key for user_id in missing if (key := self.key(user_id)) is not None]
        users = self.model._default_manager.filter(pk__in=keys)
        self._known |= {
            auth_user_key(str(key)): str(name) for key, name in users.values_list("pk", self.model.USERNAME_FIELD)
        }

    def key(self, user_id: str) -> Any:
        """Return the primary key of a user of Django's; None for any other user id."""
        pk = auth_user_pk(user_id)
        if pk is None or "\0" in pk:
            return None
        field = self.model._meta.pk
        while field.remote_field is not None:
            field = field.target_field
        try:
            # Within the limits of the database too.
            return field.clean(pk, None)
        except ValidationError:
            return None
