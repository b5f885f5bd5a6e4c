"""
Presence in Redis: exact counts, and changes under contiguous versions, from any number of nodes.

A room lies in one slot, and one script writes it: who is there, the counts, the version. A node has a lease; before it
is in a room it puts the room down in its index, which lies with the leases, and it may write to a partition while it
stands among the writers there. Whoever reaps a node first ends its lease, which closes the index, then takes it out of
the writers: what the index names is all there is, and nothing is added to it, however late a write of a dead node
arrives.

Times are those of Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.resources
import itertools
import json
import math
import re
import secrets
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, NoScriptError, RedisClusterException, RedisError, ResponseError

from .options import require_number, require_seconds, require_text, require_truth
from .paging import position_in
from .redis_keys import Keys, Place, RoomKeys, as_bytes, place_of
from .store import (
    EVERYONE,
    UNSAID,
    BadCursor,
    Beat,
    Change,
    ConnectionRecord,
    Count,
    Fenced,
    Join,
    Leave,
    MemberRecord,
    NodeFacts,
    NodeRecord,
    Page,
    PresenceStore,
    RoomRecord,
    Snapshot,
    StoreUnavailable,
)

T = TypeVar("T")

# No command may keep Redis busy for more than some 2 ms, whatever the names and data: it does nothing else meanwhile.

OPERATIONS = 32
"""Operations a call."""

ROOMS = 25
"""Rooms that a call of a purge may come to."""

LISTED = 250
"""Rooms that a call puts into an index, or takes out of it."""

PAGE = 500
"""Rooms that a command lists, and connections that it looks at for those of one user."""

FIELDS = 250
"""Fields whose values a command reads."""

BULK = 1000
"""Names that a command looks through, and commands a pipeline."""

MOST_CHUNK = 250
"""Members that a call may take out, if the option says so: they take up to 4 ms."""

MOST_PARTITIONS = 1024
"""Whoever lists rooms asks each of them."""

CURSORS = 2**64
"""Cursors of HSCAN are below."""

SCANS = 100
"""Commands a page: a search that has found little by then goes on with the next page."""

CONNECTIONS = 16
"""To Redis; who finds them all busy waits."""

IDLE_SECONDS = 60.0
"""How long a room that a node has left stays in its index: far longer than a join may come late."""


class RedisPresence(PresenceStore):
    """
    Presence in one Redis (6.2 or newer), Valkey, or a cluster of either.

    Its memory must not be evicted (``maxmemory-policy noeviction``): a store that loses a part counts wrongly until the
    nodes write it again.

    Args:
        location: a URL: ``redis://``, ``rediss://`` or ``unix://``; of any node of a cluster.
        lease: seconds.
        prefix: of all keys; without braces.
        cluster: whether Redis is one.
        partitions: over how many slots rooms are spread, at most 1024; 16 in a cluster, else 1. Nodes with different
            ones do not see each other.
        timeout: seconds that Redis may take to answer, connecting and all.
        chunk: most members that one call takes out, of a node that is reaped; at most 250.
        pace: such calls a second.
        claim: seconds after which another reaper goes on with the work of one who has died; None: half a lease.
    """

    def __init__(
        self,
        location: str | None = None,
        *,
        lease: float = 30.0,
        prefix: str = "wsrt",
        cluster: bool = False,
        partitions: int | None = None,
        timeout: float = 5.0,
        chunk: int = 100,
        pace: float = 200.0,
        claim: float | None = None,
        **options: Any,
    ) -> None:
        location = "redis://localhost:6379/0" if location is None else location
        super().__init__(location, lease=lease, **options)
        _require_url(location)
        require_text("PREFIX", prefix)
        if set(prefix) & set("{}"):
            raise ValueError(f"PREFIX has no braces, which say in which slot a key is; {prefix!r} has")
        require_truth("CLUSTER", cluster)
        if partitions is None:
            partitions = 16 if cluster else 1
        most = MOST_PARTITIONS
        require_number("PARTITIONS", partitions, f"an integer from 1 to {most}", least=1, most=most, whole=True)
        require_seconds("TIMEOUT", timeout)
        # More in a call would keep Redis from all else too long.
        require_number("CHUNK", chunk, f"an integer from 1 to {MOST_CHUNK}", least=1, most=MOST_CHUNK, whole=True)
        require_number("PACE", pace, "a number of calls a second, from 0.1", least=0.1)
        if claim is not None:
            require_seconds("CLAIM", claim)
        self._partitions = partitions
        self._keys = Keys(prefix, self._partitions)
        self._is_cluster = cluster
        self._timeout = timeout
        self._chunk = chunk
        self._pace = pace
        self._claim_ms = round(1000 * (lease / 2 if claim is None else claim))
        self._try_url()
        # Made at first use, in the loop that uses it.
        self._known_client: Any = None
        self._free = asyncio.Semaphore(CONNECTIONS)
        # The nodes that write through this instance: one, and its former ids until they are reaped.
        self._nodes: dict[str, _Node] = {}

    # Leases.

    async def begin(self, node: NodeFacts) -> Beat:
        beat = await self._renew(node, "begin")
        if beat.is_alive:
            # After the lease: whoever dies in between is reaped.
            await self._ask_all([("SADD", self._keys.writers(part), node.id) for part in range(self._partitions)])
        return beat

    async def beat(self, node: NodeFacts) -> Beat:
        return await self._renew(node, "renew")

    async def expired(self) -> tuple[str, ...]:
        expired, _ = await self._run(_NODES, [self._keys.leases, self._keys.facts])
        return tuple(expired)

    async def nodes(self) -> list[NodeRecord]:
        _, found = await self._run(_NODES, [self._keys.leases, self._keys.facts])
        return [NodeRecord(node, ms / 1000, json.loads(facts)) for node, ms, facts in _tuples(found, 3)]

    async def _renew(self, node: NodeFacts, how: str) -> Beat:
        now = asyncio.get_running_loop().time()
        known = self._known(node.id)
        reply = await self._run(
            _BEAT,
            [self._keys.leases, self._keys.facts, self._keys.index(node.id)],
            [node.id, round(self.lease * 1000), json.dumps(node.facts), how, *known.take_idle(now - IDLE_SECONDS)],
        )
        if reply is None:
            self._nodes.pop(node.id, None)
            return Beat(is_alive=False)
        is_missing, next_end, expired = reply
        # As of before the call: the lease ends here no later than there.
        known.ends = now + self.lease
        if is_missing:
            # Redis failed over, and lost the last that it had taken.
            try:
                await self._put_down(node.id, known, list(known.rooms))
            except Fenced:
                return Beat(is_alive=False)
        return Beat(is_alive=True, expired=tuple(expired), next_expiry=next_end / 1000 if next_end >= 0 else None)

    def _known(self, node: str) -> _Node:
        return self._nodes.setdefault(node, _Node())

    # Writing.

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        known = self._known(node)
        try:
            async with known.lock:
                return await self._apply(node, known, operations)
        except Fenced:
            self._nodes.pop(node, None)
            raise

    async def _apply(self, node: str, known: _Node, operations: Sequence[Join | Leave]) -> list[Change]:
        if asyncio.get_running_loop().time() >= known.ends:
            raise Fenced(f"the lease of node {node} has ended")
        rooms = [self._keys.room((op.namespace, op.room)) for op in operations]
        entered = (room.field for room, op in zip(rooms, operations, strict=True) if isinstance(op, Join))
        await self._put_down(node, known, known.missing(entered))
        numbered = list(zip(itertools.count(), rooms, operations))
        parts = _by_part(numbered, lambda item: item[1].part)
        told = await asyncio.gather(
            *(self._write(node, known, part) for part in parts.values()), return_exceptions=True
        )
        errors = [outcome for outcome in told if isinstance(outcome, BaseException)]
        if errors:
            raise next((error for error in errors if isinstance(error, Fenced)), errors[0])
        changes = [change for outcome in told if not isinstance(outcome, BaseException) for change in outcome]
        return [change for _, change in sorted(changes, key=lambda pair: pair[0])]

    async def _write(
        self, node: str, known: _Node, operations: list[tuple[int, RoomKeys, Join | Leave]]
    ) -> list[tuple[int, Change]]:
        """Carry out operations of one partition, each with its number; return the changes with theirs."""
        changes: list[tuple[int, Change]] = []
        # One after the other: what comes after a call that failed is not carried out before that is said again.
        for batch in _batches(operations, OPERATIONS):
            rooms: dict[str, RoomKeys] = {}
            numbers: dict[str, int] = {}
            arguments: list[Any] = []
            for _, room, op in batch:
                rooms[room.field] = room
                number = numbers.setdefault(room.field, len(rooms))
                if isinstance(op, Join):
                    how, said = ("enter", ()) if op.data is UNSAID else ("join", (op.data or "",))
                    arguments += (how, number, op.connection, op.user_id or "", op.details or "", *said)
                else:
                    arguments += ("leave", number, op.connection)
            reply = await self._run(_APPLY, *self._room_call(node, list(rooms.values()), arguments))
            if reply is None:
                raise Fenced(f"node {node} may not write any more")
            held, found = reply
            known.saw(dict(zip(rooms, held, strict=True)), asyncio.get_running_loop().time())
            for of, version, told in _tuples(found, 3):
                number, room, op = batch[of]
                changes += [(number, change) for change in _changes(room.place, version, told, op)]
        return changes

    async def _put_down(self, node: str, known: _Node, rooms: list[str]) -> None:
        """Put rooms into the index, before the node is in them."""
        for batch in _batches(rooms, LISTED):
            mark = secrets.token_hex(6)
            keys = [self._keys.leases, self._keys.index(node)]
            if not await self._run(_INDEX, keys, [node, mark, *batch]):
                raise Fenced(f"the lease of node {node} has ended")
            known.rooms.update(dict.fromkeys(batch, mark))

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        claimant = secrets.token_hex(8)
        if not await self._claim(node, claimant):
            return
        self._nodes.pop(node, None)
        await self._ask_all([("SREM", self._keys.writers(part), node) for part in range(self._partitions)])
        try:
            cursor = None
            while cursor != 0:
                cursor, index = await self._ask("HSCAN", self._keys.index(node), cursor or 0, "COUNT", BULK)
                rooms = [self._keys.room(place_of(field)) for field in index]
                for todo in _by_part(rooms, lambda room: room.part).values():
                    position = "0"
                    while todo:
                        done, position, spent, changes = await self._purge(node, todo[:ROOMS], position)
                        if changes:
                            yield changes
                        await asyncio.sleep(spent / self._chunk / self._pace)
                        if not await self._claim(node, claimant, todo[:done]):
                            return
                        del todo[:done]
        except (GeneratorExit, asyncio.CancelledError):
            if self._known_client is not None:
                with contextlib.suppress(StoreUnavailable):
                    await self._claim(node, claimant, ms=1)
            raise
        # The lease goes last: until then, another reaper would do this again.
        await self._ask_all(
            [
                ("HDEL", self._keys.facts, node),
                ("UNLINK", self._keys.index(node)),
                ("ZREM", self._keys.leases, node),
                ("DEL", self._keys.claim(node)),
            ]
        )

    async def _purge(self, node: str, rooms: Sequence[RoomKeys], position: str) -> tuple[int, str, int, list[Change]]:
        """
        Take a dead node out of rooms of one partition, as far as one call may go.

        Returns how many rooms are done, the position in the next one, how much of a chunk that was, and the changes.
        """
        call = self._room_call(node, rooms, [self._chunk, position])
        done, position, spent, found = await self._run(_PURGE, *call)
        told = (_changes(rooms[of].place, version, changes) for of, version, changes in _tuples(found, 3))
        return done, position, spent, list(itertools.chain.from_iterable(told))

    async def _claim(self, node: str, claimant: str, done: Iterable[RoomKeys] = (), *, ms: int | None = None) -> bool:
        """Be the one who reaps a node; rooms that are done leave its index. Return False if somebody else is."""
        keys = [self._keys.claim(node), self._keys.leases, self._keys.index(node)]
        fields = [room.field for room in done]
        return bool(await self._run(_CLAIM, keys, [node, claimant, ms or self._claim_ms, *fields]))

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        numbers: set[int] = set()
        async for page in self._scan(self._keys.room((namespace, room)).numbers(node)):
            numbers.update(map(int, page))
        return numbers

    async def versions(self, rooms: Sequence[Place]) -> list[int]:
        versions = [0] * len(rooms)
        numbered = list(enumerate(map(self._keys.room, rooms)))
        parts = _by_part(numbered, lambda item: item[1].part)
        batches = [batch for part in parts.values() for batch in _batches(part, BULK)]
        asked = [
            ("HMGET", self._keys.versions(batch[0][1].part), *(room.field for _, room in batch)) for batch in batches
        ]
        for batch, found in zip(batches, await self._ask_all(asked), strict=True):
            for (number, _), version in zip(batch, found, strict=True):
                versions[number] = int(version or 0)
        return versions

    # Reading.

    async def snapshot(self, namespace: str, room: str, limit: int) -> Snapshot:
        here = self._keys.room((namespace, room))
        keys = [here.counts, self._keys.versions(here.part)]
        version, counts, *found = await self._run(_SNAPSHOT, keys, [here.field, limit])
        members = None
        if found:
            members = tuple(await self._with_data(here, dict(zip(found[0][::2], found[0][1::2], strict=True))))
        return Snapshot(int(version or 0), _count(counts), members)

    async def counts(self, rooms: Sequence[Place]) -> list[Count]:
        asked = [("HMGET", self._keys.room(place).counts, "n", "g", "c") for place in rooms]
        return list(map(_count, await self._ask_all(asked)))

    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        here, wanted = self._keys.room((namespace, room)), search.casefold()
        members: list[MemberRecord] = []
        position = 0 if cursor is None else position_in(cursor, CURSORS)
        for _ in range(SCANS):
            count = BULK if search else min(limit - len(members), BULK)
            position, found = await self._ask("HSCAN", here.counts, position, "COUNT", count)
            if search:
                found = {field: value for field, value in found.items() if wanted in field[1:].casefold()}
            members += await self._with_data(here, found)
            if not position or len(members) >= limit:
                break
        return Page(tuple(members), str(position) if position else None)

    async def _with_data(self, room: RoomKeys, connections: dict[str, str]) -> Iterator[MemberRecord]:
        """Return the members that some counts of a room tell of, with what is shown of them now."""
        users = [field[1:] for field in connections if len(field) > 1]
        data = await self._fields(room.data, users)
        return _members(connections, dict(zip(users, data, strict=True)))

    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        found = await self._fields(self._keys.room((namespace, room)).counts, [f"u{user}" for user in users])
        return [int(connections or 0) for connections in found]

    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        wanted = search.casefold()
        rooms: list[str] = []
        for _ in range(SCANS):
            count = PAGE if search else min(limit - len(rooms), PAGE)
            page, cursor = await self._list(namespace, cursor, count)
            for users, room in page:
                if wanted in room.casefold():
                    rooms.append(room)
                    if len(rooms) == limit:
                        cursor = f"{users}:{room}" if cursor or (users, room) != page[-1] else None
                        break
            if cursor is None or len(rooms) >= limit:
                break
        counts = await self.counts([(namespace, room) for room in rooms])
        records = (RoomRecord(namespace, room, count) for room, count in zip(rooms, counts, strict=True))
        # Who left meanwhile is not shown.
        return Page(tuple(record for record in records if record.count.connections), cursor)

    async def _list(self, namespace: str, cursor: str | None, limit: int) -> tuple[list[tuple[int, str]], str | None]:
        """Return rooms with how many are in them, those with most first, and where the next ones begin."""
        position = [] if cursor is None else _place_in_list(cursor)
        pages = await asyncio.gather(
            *(
                self._run(_ROOMS, [self._keys.list(part, namespace)], [limit, *position])
                for part in range(self._partitions)
            )
        )
        found = [(int(users), room) for page in pages for room, users in _tuples(page, 2)]
        found.sort(key=lambda pair: (pair[0], as_bytes(pair[1])), reverse=True)
        if len(found) < limit:
            return found, None
        users, room = found[limit - 1]
        return found[:limit], f"{users}:{room}"

    async def connections(
        self,
        namespace: str,
        room: str = EVERYONE,
        *,
        user_id: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
    ) -> Page[ConnectionRecord]:
        first, _, at = (":0" if cursor is None else cursor).rpartition(":")
        position_there = position_in(at, CURSORS)
        if user_id is not None and not sum(await self.user_connections(namespace, room, [user_id])):
            return Page((), None)
        here, everyone = self._keys.room((namespace, room)), self._keys.room((namespace, EVERYONE))
        nodes = sorted(record.id for record in await self.nodes() if record.id >= first)
        sizes = await self._ask_all([("HLEN", here.numbers(node)) for node in nodes])
        nodes = [node for node, size in zip(nodes, sizes, strict=True) if size]
        position = position_there if nodes and nodes[0] == first else 0
        records: list[ConnectionRecord] = []
        for _ in range(SCANS):
            if not nodes or len(records) >= limit:
                break
            node, count = nodes[0], PAGE if user_id is not None else min(limit - len(records), BULK)
            position, users = await self._page_of_node(here.numbers(node), position, count, user_id)
            details = await self._fields(everyone.details(node), list(users))
            for (number, user), detail in zip(users.items(), details, strict=True):
                records.append(ConnectionRecord(f"{node}-{number}", namespace, user or None, node, detail))
            if not position:
                nodes.pop(0)
        return Page(tuple(records), f"{nodes[0]}:{position}" if nodes else None)

    async def _page_of_node(
        self, key: str, position: int, count: int, user_id: str | None
    ) -> tuple[int, dict[str, str]]:
        """Return where the next page begins, 0 after the last one; and users by the numbers of their connections."""
        if user_id is None:
            position, users = await self._ask("HSCAN", key, position, "COUNT", count)
            return position, users
        found, numbers = await self._run(_FIND, [key], [position, count, user_id])
        return int(found), dict.fromkeys(numbers, user_id)

    async def namespaces(self) -> list[str]:
        found = await self._ask_all([("HKEYS", self._keys.namespaces(part)) for part in range(self._partitions)])
        return sorted(set(itertools.chain.from_iterable(found)))

    async def close(self) -> None:
        client, self._known_client = self._known_client, None
        if client is not None:
            await client.aclose()

    # What to ask.

    def _room_call(self, node: str, rooms: Sequence[RoomKeys], arguments: Sequence[Any]) -> tuple[list[str], list[Any]]:
        """Return keys and arguments of a script that writes rooms of one partition."""
        part = rooms[0].part
        keys = [self._keys.writers(part), self._keys.versions(part), self._keys.namespaces(part)]
        head: list[Any] = [node, len(rooms)]
        for room in rooms:
            namespace, name = room.place
            listed = self._keys.list(part, namespace)
            keys += (room.counts, room.data, listed, room.numbers(node), room.details(node))
            head += (room.field, namespace, "" if name == EVERYONE else name)
        return keys, [*head, *arguments]

    # How to ask.

    @property
    def _client(self) -> Any:
        if self._known_client is None:
            self._known_client = self._make_client()
        return self._known_client

    def _make_client(self) -> Any:
        """Return a client that has not connected yet."""
        options: dict[str, Any] = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            # A connection that went stale; everything here may be said twice.
            "retry": Retry(NoBackoff(), 1, (redis.ConnectionError,)),
            "protocol": 2,
            "decode_responses": True,
            # Names may be any strings, also such as UTF-8 cannot tell.
            "encoding_errors": "surrogatepass",
        }
        kind: Any = redis.RedisCluster if self._is_cluster else redis.Redis
        return kind.from_url(self.location, **options)

    def _try_url(self) -> None:
        """See whether redis-py can do what the URL asks for; it looks into some of it when it connects. ValueError."""
        try:
            client = self._make_client()
            if not self._is_cluster:
                client.connection_pool.make_connection()
        except Exception as error:
            raise ValueError(f"LOCATION is a URL that redis-py cannot use: {error}") from None

    @contextlib.asynccontextmanager
    async def _answer(self) -> AsyncIterator[Any]:
        """Yield the client, for one round trip; what goes wrong is StoreUnavailable."""
        try:
            async with asyncio.timeout(self._timeout), self._free:
                yield self._client
        except DataError:
            raise  # of what cannot be asked: Redis has heard nothing of it
        except ResponseError as error:
            raise StoreUnavailable(f"Redis refused a command: {type(error).__name__}: {error}") from error
        except (RedisError, RedisClusterException, OSError) as error:
            raise StoreUnavailable(f"Redis did not answer: {type(error).__name__}: {error}") from error

    async def _ask(self, *command: Any) -> Any:
        async with self._answer() as client:
            return await client.execute_command(*command)

    async def _ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Ask in one round trip, or one for each thousand."""
        if len(commands) == 1:
            return [await self._ask(*commands[0])]
        answers: list[Any] = []
        for batch in _batches(commands, BULK):
            async with self._answer() as client:
                pipeline = client.pipeline(transaction=False)
                for command in batch:
                    pipeline.execute_command(*command)
                answers += await pipeline.execute()
        return answers

    async def _fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        found = await self._ask_all([("HMGET", key, *batch) for batch in _batches(fields, FIELDS)])
        return list(itertools.chain.from_iterable(found))

    async def _scan(self, key: str) -> AsyncIterator[dict[str, str]]:
        """Yield a hash in pages; what stays is in one of them at least."""
        cursor = None
        while cursor != 0:
            cursor, page = await self._ask("HSCAN", key, cursor or 0, "COUNT", BULK)
            yield page

    async def _run(self, script: _Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        async with self._answer() as client:
            try:
                return await client.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)


class _Node:
    """What is known of a node that writes through this instance."""

    def __init__(self) -> None:
        # Operations are carried out in the order in which they were said.
        self.lock = asyncio.Lock()
        # When its lease ends at the earliest, in the loop's time.
        self.ends = math.inf
        # The rooms in its index, and the marks with which they were put there.
        self.rooms: dict[str, str] = {}
        # Those where it has nobody any more, and since when.
        self._idle: dict[str, float] = {}

    def missing(self, rooms: Iterable[str]) -> list[str]:
        """Return which rooms are to be put down before the node is in them; none of the others is taken out now."""
        missing = []
        for room in rooms:
            self._idle.pop(room, None)
            if room not in self.rooms:
                missing.append(room)
        return missing

    def saw(self, held: dict[str, int], now: float) -> None:
        """Take in how many connections the node has in some rooms."""
        for room, connections in held.items():
            if connections:
                self._idle.pop(room, None)
            elif room in self.rooms:
                self._idle.setdefault(room, now)

    def take_idle(self, before: float) -> list[Any]:
        """
        Forget rooms that have been idle since a time.

        Returns how many rooms are left, and the forgotten ones with their marks.
        """
        idle = [room for room, since in itertools.islice(self._idle.items(), LISTED) if since < before]
        marks = []
        for room in idle:
            del self._idle[room]
            marks += [room, self.rooms.pop(room)]
        return [len(self.rooms), *marks]


@dataclasses.dataclass(frozen=True, slots=True)
class _Script:
    """A script, its name, and that under which Redis keeps it."""

    name: str
    text: str
    sha: str


def _script(*names: str) -> _Script:
    """Return the script that some files make, one after the other; it is named after the last one."""
    folder = importlib.resources.files(__package__) / "lua"
    text = "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names)
    return _Script(names[-1], text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_APPLY = _script("room", "apply")
_PURGE = _script("room", "purge")
_BEAT, _INDEX, _CLAIM, _NODES = map(_script, ("beat", "index", "claim", "nodes"))
_SNAPSHOT, _ROOMS, _FIND = map(_script, ("snapshot", "rooms", "find"))

SCRIPTS = (_APPLY, _PURGE, _BEAT, _INDEX, _CLAIM, _NODES, _SNAPSHOT, _ROOMS, _FIND)
"""All of them."""


def _require_url(location: object) -> None:
    """Check the shape of a URL of Redis. Raises ValueError, without any of it: there may be a password in it."""
    says = "LOCATION is a URL such as redis://localhost:6379/0, rediss://... or unix://..."
    if not isinstance(location, str):
        raise ValueError(f"{says}, not a {type(location).__name__}")
    if not re.match("(redis|rediss|unix)://", location):
        raise ValueError(says)
    try:
        _ = urllib.parse.urlsplit(location).port
    except ValueError:
        raise ValueError(f"{says}; its host or port is none, perhaps for want of %-codes in the password") from None


def _place_in_list(cursor: str) -> list[str]:
    """Return how many users the room has with which a page ends, and its name. Raises BadCursor."""
    users, colon, room = cursor.partition(":")
    position_in(users, CURSORS)
    if not colon:
        raise BadCursor(f"{cursor!r} names no room")
    return [users, room]


def _count(found: Sequence[str | None]) -> Count:
    return Count(*(int(value or 0) for value in found))


def _members(connections: dict[str, str], data: dict[str, str | None]) -> Iterator[MemberRecord]:
    """Return the members that the counts of a room tell of."""
    for field, value in connections.items():
        if len(field) > 1:
            yield MemberRecord(field[1:], int(value), data.get(field[1:]))
        elif field == "g" and int(value):
            yield MemberRecord(None, int(value), None)


def _changes(place: Place, version: int, told: Sequence[Any], op: Join | Leave | None = None) -> Iterator[Change]:
    """Return what a script tells of a room: kind, user and connections of each change, the first with this version."""
    for kind, user, connections in _tuples(told, 3):
        # What is told of the user who joins is what the join says: where that is nothing, there was nothing before.
        said = op.data if isinstance(op, Join) and user and user == op.user_id else None
        yield Change(*place, kind, user or None, connections, None if said is UNSAID else said, version)
        version += 1


def _by_part(items: Iterable[T], part_of: Callable[[T], int]) -> dict[int, list[T]]:
    """Return items by the partition that they are of, in their order."""
    parts: dict[int, list[T]] = {}
    for item in items:
        parts.setdefault(part_of(item), []).append(item)
    return parts


def _tuples(flat: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(flat), size):
        yield flat[start : start + size]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
