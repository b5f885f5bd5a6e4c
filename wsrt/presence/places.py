"""
The places of one node's connections: a user or an address has a limited number, and each connection takes one.

If the presence store gives places, it decides for all nodes. Claims and leaves are passed to it in order, by the write
loop of the tracker. Otherwise, and while the store is unavailable, each node gives the places of its own connections.

A connection that loses its place to a newer one is closed by a command through the channel layer, which may get lost.
The node of the newer connection therefore asks the store later whether the older one is gone, and repeats the command.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import dataclasses
import itertools
import secrets
from collections.abc import Iterable
from typing import Any, Protocol

from ..addresses import Connection, node_of
from ..close_codes import REPLACED
from ..cluster.messages import CommandMessage
from ..cluster.node import Node, current_node
from ..cluster.outgoing import Outgoing, layer_alias
from ..cluster.per_loop import PerLoop
from ..cluster.sending import send
from ..delivery.tasks import start_task
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from ..realms import ALL_TENANTS, split_realm
from .base import Claim, Decision, Leave, PresenceStore, RoomId

CONFIRM_SECONDS = 10.0
"""The time after which a node asks whether replaced connections are gone, in seconds. They need 4 s at most."""

BATCH = 256
"""Operations in one call of the store."""

MAX_PENDING = 20_000
"""The maximum number of operations that wait for the store. Beyond it, all are dropped and written again later."""


class Arbiter(Protocol):
    """The tracker, as far as places need it."""

    @property
    def is_unreachable(self) -> bool:
        """Whether the last write failed because of the store."""

    def wake(self) -> None:
        """Pass pending operations to the store soon."""

    def rewrite(self) -> None:
        """Write everything again soon, under a new id of the node."""


class Places:
    """
    The places that one node's connections take under the limits per user and per address.

    Args:
        node: The node.

    Attributes:
        pending: The claims and leaves that wait to be passed to the store, in order.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        # None if the store doesn't give places.
        self._arbiter: Arbiter | None = None
        # The connections that have a place, the oldest first.
        self._held: dict[RoomId, dict[int, None]] = {}
        # Claims without a decision yet, and what is waiting for it.
        self._waiting: dict[tuple[str, str, int], tuple[Claim, asyncio.Future[bool]]] = {}
        self.pending: collections.deque[Claim | Leave] = collections.deque()
        # Users and addresses of which the store will be asked whether replaced connections are gone.
        self._confirming: set[RoomId] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    # For connections.

    async def claim(self, claim: Claim) -> bool:
        """
        Claim a place, and return whether the connection got it.

        Call release() afterwards in any case, even if this is cancelled.
        """
        if claim.connection in self._held.get((claim.namespace, claim.room), ()):
            return True
        if self._arbiter is None:
            return self._decide_here(claim)
        if self._arbiter.is_unreachable:
            return self._decide_without_store(claim)
        key = claim.namespace, claim.room, claim.connection
        decided: asyncio.Future[bool] = self._node.loop.create_future()
        self._waiting[key] = claim, decided
        self._write(claim)
        # The store answers, or fails within its own time limit. A limit of ours would also be exceeded if this process
        # is busy, and connections would be decided about here although the store is available.
        try:
            return await decided
        finally:
            self._waiting.pop(key, None)

    def release(self, room_id: RoomId, number: int) -> None:
        """Give back the place of a connection that has ended, or withdraw its claim."""
        held = self._held.get(room_id, {})
        held.pop(number, None)
        if not held:
            self._held.pop(room_id, None)
        waiting = self._waiting.pop((*room_id, number), None)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(False)
        # Also if the connection had no place here: the store may have given it one in the meantime.
        self._write(Leave(*room_id, number))

    # For the tracker.

    def use(self, arbiter: Arbiter | None) -> None:
        """Let a tracker pass operations to its store from now on. With None, this node decides by itself."""
        self._arbiter = arbiter
        self.pending = collections.deque()
        for claim, decided in list(self._waiting.values()):
            if not decided.done():
                decided.set_result(self._decide_here(claim))
        if arbiter is not None and self._held:
            self.restart()
            arbiter.wake()

    def decide_waiting(self) -> None:
        """Decide about the connections that wait, because the store doesn't answer."""
        for claim, decided in list(self._waiting.values()):
            if not decided.done():
                decided.set_result(self._decide_without_store(claim))

    def is_used_by(self, arbiter: Arbiter) -> bool:
        """Return whether a tracker passes operations to its store."""
        return self._arbiter is arbiter

    def restart(self) -> None:
        """Write all claims again, under a new id of the node, because the store has forgotten them."""
        held = (Claim(*room_id, number, None) for room_id, numbers in self._held.items() for number in numbers)
        self.pending = collections.deque([*held, *(claim for claim, _ in self._waiting.values())])

    async def flush(self, store: PresenceStore, node_id: str) -> None:
        """Pass the pending operations to the store. Raises LeaseLost, StoreUnavailable."""
        while self.pending:
            pending = self.pending
            batch = list(itertools.islice(pending, BATCH))
            # During this await, operations are appended to the deque. An exception leaves the batch at its head.
            decisions = await store.decide(node_id, batch)
            if pending is self.pending:
                for _ in batch:
                    pending.popleft()
            for decision in decisions:
                self._take(decision)

    @property
    def rooms(self) -> list[RoomId]:
        """
        The users and client addresses (IPs) for which this node's connections hold places, as room ids.

        A place is one unit of a connection limit.
        """
        return list(self._held)

    def numbers(self, room_id: RoomId) -> set[int]:
        """Return the connections that have places of a user or an address, by their numbers."""
        return set(self._held.get(room_id, ()))

    # Deciding.

    def _take(self, decision: Decision) -> None:
        """Act on a decision of the store."""
        room_id = decision.namespace, decision.room
        waiting = self._waiting.pop((*room_id, decision.connection), None)
        if waiting is not None and not waiting[1].done():
            if decision.is_given:
                self._held.setdefault(room_id, {})[decision.connection] = None
            waiting[1].set_result(decision.is_given)
        if decision.replaced:
            # Without a connection that waits, this is the answer to _confirm().
            counters.count(
                "connections_replaced" if waiting is not None else "replacements_repeated",
                times=len(decision.replaced),
            )
            self._close(room_id, decision.replaced)

    def _decide_without_store(self, claim: Claim) -> bool:
        """Decide about a claim while the store doesn't answer. The decision is written to the store later."""
        counters.count(
            "limits_unavailable",
            "the presence store doesn't answer: until it does, this process limits the connections of users and "
            "IP addresses by itself",
        )
        is_given = self._decide_here(claim)
        room_id = claim.namespace, claim.room
        self._write(Claim(*room_id, claim.connection, None) if is_given else Leave(*room_id, claim.connection))
        return is_given

    def _decide_here(self, claim: Claim) -> bool:
        """Decide about a claim by the connections of this node."""
        room_id = claim.namespace, claim.room
        held = self._held.get(room_id, {})
        over = 0 if claim.limit is None else len(held) + 1 - claim.limit
        if over > 0 and not claim.replaces:
            return False
        replaced = list(itertools.islice(held, max(0, over)))
        for number in replaced:
            del held[number]
        held[claim.connection] = None
        self._held[room_id] = held
        if replaced:
            counters.count("connections_replaced", times=len(replaced))
            self._close(room_id, [f"{self._node.id}-{number}" for number in replaced])
        return True

    # Closing replaced connections.

    def _close(self, room_id: RoomId, connections: Iterable[str]) -> None:
        """Close connections that have lost their place, given their ids or places in the store."""
        elsewhere = []
        for connection in connections:
            node, _, number = connection.partition("-")
            # After a node was fenced, it writes under another id, which is the first one, a dot and a number.
            command = _replacement(f"{node.partition('.')[0]}-{number}")
            if node_of(command.audience.id) == self._node.id:
                self._node.carry_out(command.message)
            else:
                elsewhere.append(command)
        if elsewhere:
            task = start_task(self._node.loop, _send(room_id, elsewhere), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._arbiter is not None and room_id not in self._confirming:
            self._confirming.add(room_id)
            self._node.loop.call_later(CONFIRM_SECONDS, self._confirm, room_id)

    def _confirm(self, room_id: RoomId) -> None:
        """Ask the store whether replaced connections are gone; it names those that aren't."""
        self._confirming.discard(room_id)
        # Any connection that has a place may ask. If none is left here, another node has replaced it, and asks.
        for number in itertools.islice(self._held.get(room_id, ()), 1):
            self._write(Claim(*room_id, number, None))

    def _write(self, operation: Claim | Leave) -> None:
        if self._arbiter is None:
            return
        if len(self.pending) >= MAX_PENDING:
            self.pending = collections.deque()
            self._arbiter.rewrite()
        self.pending.append(operation)
        self._arbiter.wake()


@dataclasses.dataclass(frozen=True, slots=True)
class _Replacement:
    """The command that closes a replaced connection, and the address of that connection."""

    audience: Connection
    message: CommandMessage


def _replacement(connection_id: str) -> _Replacement:
    audience = Connection(connection_id)
    arguments = {"code": REPLACED.code, "reason": REPLACED.reason}
    return _Replacement(
        audience, CommandMessage(None, ALL_TENANTS, audience, "disconnect", arguments, secrets.token_hex(8))
    )


async def _send(room_id: RoomId, commands: Iterable[_Replacement]) -> None:
    realm = room_id[0]
    alias = layer_alias(split_realm(realm)[0])
    for command in commands:
        try:
            await send(Outgoing(command.message, command.audience.groups(realm), alias, None))
        except BackplaneUnavailable as error:
            # It is repeated, see Places._confirm().
            counters.count("replacements_unsent", "failed to close a replaced connection, trying again: %s", error)


_places = PerLoop(lambda: Places(current_node()))


def places_of_loop() -> Places:
    """Return the running loop's places, created at first use."""
    return _places.get()
