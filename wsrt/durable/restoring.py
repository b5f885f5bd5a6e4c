"""Making a publication out of its row, without validating its event again."""

from __future__ import annotations

import secrets

from pydantic import ValidationError

from ..addresses import Audience, Room
from ..cluster.in_process import observers
from ..cluster.messages import PublishMessage
from ..cluster.outgoing import NOT_KEPT_YET, Outgoing, layer_alias
from ..cluster.publication_ids import new_id
from ..exceptions import UndeclaredEvent
from ..history.base import Append
from ..protocol.envelope import Encoded
from ..protocol.events import Event, meta
from ..protocol.namespaces import namespaces
from .models import Row, StoredPublication


class Restorer:
    """Makes publications out of the rows of one batch. It looks each namespace and each audience up once."""

    def __init__(self) -> None:
        # By namespace: its events by name, and the alias of its channel layer.
        self._namespaces: dict[str, tuple[dict[str, type[Event]], str]] = {}
        # By namespace, tenant, kind and name: the audience, its realm and its groups.
        self._audiences: dict[tuple[str, str, str, str], tuple[Audience, str, frozenset[str]]] = {}

    def restore(self, row: Row | StoredPublication) -> Outgoing:
        """
        Return the publication of a row.

        Raises:
            UnknownNamespace: No consumer has the namespace.
            UndeclaredEvent: No consumer of the namespace declares an event of this name.
            InvalidRoom, UnsendableEvent: The limit of room names or frames has become lower.
        """
        declared, alias = self._look_up(row.namespace)
        if row.event not in declared:
            names = ", ".join(map(repr, sorted(declared))) or "none"
            raise UndeclaredEvent(
                f"namespace {row.namespace!r} doesn't declare an event {row.event!r}; it declares: {names}"
            )
        cls = declared[row.event]
        audience, realm, groups = self._address(row)
        key = row.key or None
        # An event whose class had other options when it was stored may lack the key.
        overflow = "close" if key is None and meta(cls).overflow == "latest" else meta(cls).overflow
        encoded = Encoded(row.event, row.data, overflow, key if overflow == "latest" else None)
        append = kept = None
        if meta(cls).history and isinstance(audience, Room):
            value = key if meta(cls).history == "latest" else None
            append = Append((realm, audience.name), new_id(), row.event, row.data, value, row.idempotency_key)
            kept = NOT_KEPT_YET
        message = PublishMessage(realm, audience, encoded, secrets.token_hex(8) if len(groups) > 1 else None, kept)
        return Outgoing(message, groups, alias, _observed(cls, row.data), append)

    def _address(self, row: Row | StoredPublication) -> tuple[Audience, str, frozenset[str]]:
        place = row.namespace, row.tenant, row.kind, row.name
        known = self._audiences.get(place)
        if known is None:
            audience, realm = row.audience, row.realm
            known = self._audiences[place] = audience, realm, audience.groups(realm)
        return known

    def _look_up(self, namespace: str) -> tuple[dict[str, type[Event]], str]:
        known = self._namespaces.get(namespace)
        if known is None:
            known = self._namespaces[namespace] = namespaces.of(namespace).events, layer_alias(namespace)
        return known


def _observed(cls: type[Event], data: str) -> Event | None:
    """Return the event for tests that capture publications, if its JSON can be validated; otherwise None."""
    if not observers:
        return None
    try:
        return cls.model_validate_json(data)
    except ValidationError:
        return None
