"""Messages to be sent: publications, which are validated and encoded here, commands, and changes of presence."""

from __future__ import annotations

import secrets

from ..addresses import Audience, Room
from ..conf import conf, require_installed
from ..exceptions import UnknownNamespace
from ..history.base import MAX_OFFSET, Append
from ..protocol.envelope import Encoded, encode, value_key
from ..protocol.events import Event, meta
from ..protocol.namespaces import Namespace, namespaces
from ..realms import RoomId, realm_of
from ..types import Position
from .messages import CommandMessage, Kept, PublishMessage
from .node import Item
from .publication_ids import new_id

MAX_IDEMPOTENCY_KEY = 255
"""The maximum number of characters of an idempotency key."""

NOT_KEPT_YET = Kept(Position("0" * 64, MAX_OFFSET), "", None)
"""
What publications have until the history has kept them. The position is the longest possible one, with which the size of
the frame is checked.
"""


class Outgoing:
    """
    A publication, command or presence change that is ready to be sent.

    Args:
        item: The message.
        groups: The groups that reach every node with a recipient.
        alias: The alias of the channel layer.
        event: The event, if it is a publication.
        append: The entry for the history of the room, if the publication is kept there.
    """

    __slots__ = ("alias", "append", "event", "groups", "item")

    def __init__(
        self,
        item: Item,
        groups: frozenset[str],
        alias: str,
        event: Event | None,
        append: Append | None = None,
    ) -> None:
        self.item = item
        self.groups = groups
        self.alias = alias
        self.event = event
        self.append = append

    @property
    def description(self) -> str:
        """The event or command, for the log."""
        if isinstance(self.item, PublishMessage):
            return f"the event {self.item.encoded.event!r}"
        return f"the command {self.item.name!r}" if isinstance(self.item, CommandMessage) else "a presence change"


def prepare(
    audience: Audience, event: Event, namespace: str, tenant: str | None, idempotency_key: str | None = None
) -> Outgoing:
    """Validate and encode one event. See Preparation."""
    return Preparation(namespace, tenant).prepare(audience, event, idempotency_key)


class Preparation:
    """
    The validation and encoding of the events of one call. What they have in common is looked up once.

    Args:
        namespace: The namespace to publish in.
        tenant: The tenant of the audiences' rooms and users; None for the connections without one.
    """

    __slots__ = ("_alias", "_cls", "_namespace", "_realm", "_tenant")

    def __init__(self, namespace: str, tenant: str | None) -> None:
        self._namespace = namespace
        self._tenant = tenant
        # Set with the first event that the namespace declares.
        self._realm = self._alias = ""
        # The class of the last such event.
        self._cls: type | None = None

    def prepare(self, audience: Audience, event: Event, idempotency_key: str | None = None) -> Outgoing:
        """
        Validate and encode an event, once for all recipients.

        Args:
            audience: The recipients.
            event: The event.
            idempotency_key: The key by which the history of the room recognises a repeated publication.

        Raises:
            UnknownNamespace: No consumer has the namespace.
            UndeclaredEvent: No consumer of the namespace sends the event.
            UnsendableEvent: The event can't be encoded or is too large.
            TypeError: The audience is not an address, or the event is not an event.
            ValueError: The event is kept in history and the audience is not one room; or there is an idempotency key
                that isn't valid, or without history.
        """
        if not isinstance(audience, Audience):
            raise TypeError(
                f"audience must be an address, such as wsrt.addresses.Room(...), not {type(audience).__name__}"
            )
        declared = meta(event)
        if type(event) is not self._cls:
            self._require_declared(event)
        room = audience.name if isinstance(audience, Room) else None
        if declared.history and room is None:
            raise ValueError(
                f"{declared.name!r} is declared with history={declared.history!r}, so it can only be published to "
                "exactly one room"
            )
        groups = audience.groups(self._realm)
        encoded = encode(event, address=audience.to_message() if declared.key else None)
        append = kept = None
        if declared.history and room is not None:
            append = _append_of(event, encoded, (self._realm, room), _require_key(idempotency_key))
            kept = NOT_KEPT_YET
        elif idempotency_key is not None:
            raise ValueError(
                f"idempotency_key requires an event with history, and {declared.name!r} has none: only the history of "
                "a room can recognise repeated publications"
            )
        copy_id = secrets.token_hex(8) if len(groups) > 1 else None
        return Outgoing(
            PublishMessage(self._realm, audience, encoded, copy_id, kept), groups, self._alias, event, append
        )

    def _require_declared(self, event: Event) -> None:
        try:
            namespace = namespaces.publishing(self._namespace, event)
        except UnknownNamespace:
            require_installed()
            raise
        if self._cls is None:
            self._realm = realm_of(self._namespace, self._tenant)
            self._alias = _alias_in(namespace)
        self._cls = type(event)


def _append_of(event: Event, encoded: Encoded, room: RoomId, idempotency_key: str | None) -> Append:
    return Append(room, new_id(), encoded.event, encoded.data, value_key(event), idempotency_key)


def _require_key(key: object) -> str | None:
    """Return an idempotency key. Raises ValueError if it can't be one."""
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise ValueError(f"idempotency_key must be a string of 1 to {MAX_IDEMPOTENCY_KEY} characters, not {key!r}")
    return key


def layer_alias(namespace: str) -> str:
    """
    Return the alias of a namespace's channel layer: the one that a consumer names, else that of the setting.

    Raises:
        UnknownNamespace: No consumer has the namespace.
    """
    return _alias_in(namespaces.of(namespace))


def _alias_in(namespace: Namespace) -> str:
    alias = namespace.layer_alias
    return conf.channel_layer_alias if alias is None else alias


def layer_aliases(namespace: str | None) -> set[str]:
    """
    Return the aliases of the channel layers of a namespace, or of all namespaces for None.

    Raises:
        UnknownNamespace: No consumer has the namespace.
    """
    if namespace is not None:
        return {layer_alias(namespace)}
    consumers = [consumer for name in namespaces for consumer in namespaces[name].consumers]
    named = {getattr(consumer, "channel_layer_alias", None) for consumer in consumers}
    return {alias or conf.channel_layer_alias for alias in named} or {conf.channel_layer_alias}
