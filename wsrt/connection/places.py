"""The places of one connection: limits allow each user and each IP address a number of them."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.crypto import salted_hmac

from .. import close_codes
from ..addresses import UserKey
from ..close_codes import Close
from ..conf import conf
from ..delivery.subscriber import Subscriber
from ..metrics import counters
from ..presence.base import PLACES, Claim, RoomId
from ..presence.places import Places
from ..protocol.client_address import client_address, parse_address, parse_proxies, share_of
from ..realms import split_realm
from ..types import Limits, Scope
from .handshake import header_values


class ConnectionPlaces:
    """
    Claims the places of one connection, and gives them back. A connection that doesn't get one is closed with 4429.

    Args:
        places: The places of the node.
        subscriber: The connection.
        scope: The ASGI scope.
        limits: The limits of the connection.
        close: Closes the connection.
    """

    __slots__ = ("_close", "_has_ended", "_limits", "_number", "_places", "_rooms", "_scope", "_subscriber")

    def __init__(
        self, places: Places, subscriber: Subscriber, *, scope: Scope, limits: Limits, close: Callable[[Close], None]
    ) -> None:
        self._places = places
        self._subscriber = subscriber
        self._number = int(subscriber.id.rpartition("-")[2])
        self._scope = scope
        self._limits = limits
        self._close = close
        # The users and addresses whose places the connection has or has claimed.
        self._rooms: set[RoomId] = set()
        self._has_ended = False

    async def claim_address(self) -> bool:
        """Claim one of the address's places. Return False if it has no more: the connection is being closed."""
        limit = self._limits.max_connections_per_address
        if limit is None:
            return True
        share = share_in(self._scope)
        if share is None:
            counters.count(
                "addresses_missing",
                "MAX_CONNECTIONS_PER_ADDRESS doesn't limit a client without an address: if a proxy connects to the "
                'server through a UNIX socket, add "unix" to TRUSTED_PROXIES',
            )
            return True
        # A digest: the address of a client is personal data, and must not be in the store.
        digest = salted_hmac("wsrt.places", share, algorithm="sha256").hexdigest()[:32]
        # The tenant isn't known yet.
        namespace = split_realm(self._subscriber.realm)[0]
        claim = Claim(namespace, f"{PLACES}address:{digest}", self._number, limit)
        return await self._claim(claim, "connections_refused_per_address", "MAX_CONNECTIONS_PER_ADDRESS")

    async def claim_user(self, user_id: UserKey) -> bool:
        """Claim one of the user's places. Return False if the user has no more: the connection is being closed."""
        limit = self._limits.max_connections_per_user
        if limit is None:
            return True
        replaces = self._limits.connection_limit_policy == "replace"
        claim = Claim(self._subscriber.realm, _user_places(user_id), self._number, limit, replaces)
        return await self._claim(claim, "connections_refused_per_user", "MAX_CONNECTIONS_PER_USER")

    def release_user(self, user_id: UserKey) -> None:
        """Give back the place of a user, to whom the connection doesn't belong any more."""
        self._release((self._subscriber.realm, _user_places(user_id)))

    def end(self) -> None:
        """Give back all places, because the connection has ended."""
        self._has_ended = True
        for room_id in list(self._rooms):
            self._release(room_id)

    async def _claim(self, claim: Claim, counter: str, setting: str) -> bool:
        if self._has_ended:
            return False
        room_id = claim.namespace, claim.room
        # Before the await: if the connection ends, or this is cancelled, end() withdraws the claim.
        self._rooms.add(room_id)
        if await self._places.claim(claim):
            return True
        if not self._has_ended:
            self._rooms.discard(room_id)
            counters.count(counter, "refused a connection, because %s (%s) was reached", setting, claim.limit)
            self._close(close_codes.TOO_MANY_CONNECTIONS)
        return False

    def _release(self, room_id: RoomId) -> None:
        if room_id in self._rooms:
            self._rooms.discard(room_id)
            self._places.release(room_id, self._number)


def share_in(scope: Scope) -> str | None:
    """Return the network whose connections count together, for a handshake's scope; None if it has no address."""
    client = scope.get("client")
    peer = client[0] if client else None
    forwarded = header_values(scope, b"x-forwarded-for")
    proxies = parse_proxies(conf.trusted_proxies)
    if forwarded and peer is not None:
        _note_forwarded(peer, forwarded, is_trusted=proxies.include(parse_address(peer)))
    address = client_address(peer, forwarded, proxies)
    return None if address is None else share_of(address)


def _note_forwarded(peer: str, forwarded: list[str], *, is_trusted: bool) -> None:
    """Count a handshake that a proxy seems to have forwarded, if the proxy isn't trusted."""
    # Servers that read the header themselves, as uvicorn does, report an address from it as that of the peer.
    if not is_trusted and parse_address(peer) not in [parse_address(entry) for entry in ",".join(forwarded).split(",")]:
        counters.count(
            "proxies_untrusted",
            "handshakes with the header X-Forwarded-For arrive from %s, which isn't in TRUSTED_PROXIES. If it is a "
            "proxy, add it: until then all its clients together count as one address",
            peer,
        )


def _user_places(user_id: UserKey) -> str:
    return f"{PLACES}user:{user_id}"
