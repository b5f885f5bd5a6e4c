"""
A cluster in one simulated loop, for recovery: a shared history, nodes, a layer that loses, and clients.

The history, the follower, the hub and the recovery of a connection are the real code. The layer, the socket and the
client are simulated. The client checks each frame that it gets: what it accepts is the room's sequence from its
position on, unless it was told that something is missing.

What happens in the cluster is up to the caller. Only how long things take is random.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Literal

from wsrt.addresses import Audience, Everyone, Room
from wsrt.cluster import messages
from wsrt.cluster.messages import CommandMessage, Kept, PublishMessage
from wsrt.connection.recovery import Recovery
from wsrt.delivery.hub import Hub
from wsrt.delivery.subscriber import Subscriber
from wsrt.exceptions import StoreUnavailable
from wsrt.history import memory
from wsrt.history.base import Append, Appended
from wsrt.history.follower import FORGOTTEN, PURGED, Follower
from wsrt.history.memory import MemoryHistory
from wsrt.protocol.claims import read_claims
from wsrt.protocol.envelope import Encoded
from wsrt.protocol.frame import Frame
from wsrt.types import Position

REALM = "model"

ROOMS = ("a", "b", "c")
VALUED = "v"
"""A room whose publications are values, of which the last one of each key is kept."""

CALLS_AT_ONCE = 2_000
"""More calls of the store at one moment of simulated time mean that something repeats them without a pause."""

Truth = dict[tuple[str, str, int, int], int | None]

Way = Literal["arrives", "lost", "twice", "late"]
"""What becomes of a message of the layer on its way to one node."""

Fault = Literal["command", "answer"] | None
"""What is lost of a call of the store."""


class SharedHistory(MemoryHistory):
    """
    A history that all nodes share, behind a network.

    A call may fail before it took effect or after, may take long, and fails at once while the store is down.
    """

    is_shared = True

    def __init__(self, world: World) -> None:
        super().__init__(
            size=world.size, seconds=world.seconds, value_seconds=world.value_seconds, idempotency=world.idempotency
        )
        self._world = world

    async def append(self, publications: Any) -> list[Appended]:
        async def work() -> list[Appended]:
            found = await MemoryHistory.append(self, publications)
            for publication, appended in zip(publications, found, strict=True):
                self._world.kept(publication, appended)
            return found

        return await self._call(work)

    async def positions(self, rooms: Any) -> Any:
        return await self._call(lambda: MemoryHistory.positions(self, rooms))

    async def read(self, room: Any, after: Any, *, limit: int, max_bytes: int) -> Any:
        return await self._call(lambda: MemoryHistory.read(self, room, after, limit=limit, max_bytes=max_bytes))

    async def values(self, room: Any, *, limit: int, max_bytes: int) -> Any:
        return await self._call(lambda: MemoryHistory.values(self, room, limit=limit, max_bytes=max_bytes))

    async def renew(self, room: Any, epoch: str) -> Any:
        return await self._call(lambda: MemoryHistory.renew(self, room, epoch))

    async def _call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        world = self._world
        await world.count_call()
        if world.is_down:
            if world.rng.random() < 0.5:
                await asyncio.sleep(world.latency())
            raise StoreUnavailable("down")
        fault = world.faults.pop(0) if world.faults else None
        await asyncio.sleep(world.latency())
        if world.is_down or fault == "command":
            raise StoreUnavailable("the command was lost")
        result = await work()
        await asyncio.sleep(world.latency())
        if world.is_down or fault == "answer":
            raise StoreUnavailable("the answer was lost")
        return result


@dataclasses.dataclass(eq=False)
class Node:
    """One node of the cluster, and whether the layer reaches it."""

    loop: asyncio.AbstractEventLoop
    hub: Hub
    history: Follower
    is_deaf: bool = False
    is_dead: bool = False
    connections: dict[Connection, None] = dataclasses.field(default_factory=dict)

    def take(self, message: dict[str, Any]) -> None:
        """Handle a message of the layer, as a node does."""
        if self.is_deaf or self.is_dead:
            return
        item = messages.read(json.loads(json.dumps(message)))
        if isinstance(item, CommandMessage):
            self.history.carry_out(item)
        elif isinstance(item, PublishMessage):
            if self.history.is_used:
                self.history.deliver(item)
            else:
                self.hub.deliver(item.realm, item.audience, item.frame)


class Wire:
    """An outbox and the network behind it: frames arrive in order, later, and not at all once the connection is cut."""

    is_crowded = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: list[Frame] = []
        self._is_pumping = False
        self.is_cut = False
        self.limits = SimpleNamespace(outbox_frames=1000, outbox_bytes=1_048_576)

    def put(self, frame: Frame) -> bool:
        if not self.is_cut:
            self._queue.append(frame)
            if not self._is_pumping:
                self._is_pumping = True
                self._later()
        return True

    put_direct = put_corked = put

    def purge(self, audience: Audience) -> None:
        self._queue = [frame for frame in self._queue if frame.audience != audience]

    def overflow(self) -> None:
        self._connection.cut()

    async def wait_for_space(self) -> None:
        if self._connection.world.rng.random() < 0.3:
            await asyncio.sleep(self._connection.world.rng.uniform(0, 0.1))

    def _later(self) -> None:
        world = self._connection.world
        world.loop.call_later(world.rng.uniform(0, 0.01), self._pump)

    def _pump(self) -> None:
        if self.is_cut or not self._queue:
            self._is_pumping = False
            return
        for _ in range(self._connection.world.rng.randint(1, 10)):
            if self._queue:
                frame = self._queue.pop(0)
                self._connection.client.receive(self._connection, json.loads(frame.text))
        self._later()


class Connection:
    """One connection: the server's part of a join and a leave, around the real recovery."""

    def __init__(self, world: World, client: Client, node: Node) -> None:
        self.world, self.client, self.node = world, client, node
        self.wire = Wire(self)
        self.id = f"n-{next(world.numbers)}"
        self.subscriber = Subscriber(self.id, REALM, self.wire, self, is_extended=True)  # type: ignore[arg-type]
        node.hub.add(self.subscriber)
        node.connections[self] = None
        self.recovery = Recovery(node, self.subscriber, namespace=REALM, close=lambda close: self.cut())  # type: ignore[arg-type]
        self.recovery.is_used = self.recovery.keeps_values = True
        self.joins: list[Any] = []
        self.joining: dict[asyncio.Task[None], None] = {}
        self.is_withheld = False
        # The numbers of what the client has accepted in each room since it joined.
        self.seen: dict[str, set[int]] = {}
        # The rooms and epochs that the client has been in.
        self.epochs: set[tuple[str, str]] = set()
        self.joined: set[str] = set()

    @property
    def is_open(self) -> bool:
        return not self.wire.is_cut

    async def join(self, room: str) -> None:
        """Join a room, as wsrt.connection.groups does."""
        join = SimpleNamespace(room=room, is_left=False)
        self.joins.append(join)
        try:
            while True:
                await asyncio.sleep(self.world.rng.uniform(0, 0.01))
                await self.recovery.prepare(room)
                if not self.is_withheld:
                    break
            if self.is_open and not join.is_left:
                is_first = room not in self.subscriber.rooms
                self.node.hub.join(self.subscriber, room)
                if is_first:
                    assert self.recovery.enter(room)
        except StoreUnavailable:
            self.cut()
        finally:
            # By identity: another join of the same room is equal.
            self.joins = [other for other in self.joins if other is not join]
            if room not in self.subscriber.rooms and all(other.room != room for other in self.joins):
                self.recovery.leave(room)

    def leave(self, room: str) -> None:
        for join in self.joins:
            join.is_left |= join.room == room
        if self.is_open and room in self.subscriber.rooms:
            self.node.hub.leave(self.subscriber, room)
            self.recovery.leave(room)
            self.wire.put(Frame(json.dumps({"event": "wsrt.left", "data": {"room": room}})))

    async def recheck(self, lost: Sequence[str]) -> None:
        """Ask for the permissions again, by which rooms may be lost."""
        if self.is_withheld:
            return
        self.is_withheld = True
        self.node.hub.withhold(self.subscriber)
        await asyncio.sleep(self.world.rng.uniform(0, 0.5))
        for room in lost:
            self.leave(room)
            self.wire.purge(Room(room))
        self.is_withheld = False
        self.node.hub.admit(self.subscriber)

    def cut(self, *, is_noticed: bool = True) -> None:
        """End the connection. What is on its way to the client is lost. The server notices now, or later."""
        if self.wire.is_cut:
            return
        self.wire.is_cut = True
        self.node.connections.pop(self, None)
        self.client.lost(self)
        for task in list(self.joining):
            task.cancel()
        if self.node.is_dead or is_noticed:
            self.end()
        else:
            self.world.loop.call_later(self.world.rng.uniform(0, 3), self.end)

    def end(self) -> None:
        self.node.hub.remove(self.subscriber)
        self.recovery.end()


@dataclasses.dataclass
class Place:
    """
    What a client knows of a room.

    Attributes:
        epoch, offset: Its position.
        last: The number of the publication there; None if it has not received that one.
        end: While a replay arrives, the position of its end.
        values: In a room with values, the last one of each key.
        skips: How many values come that may be older than the position.
    """

    epoch: str
    offset: int
    last: int | None = None
    end: int = 0
    values: dict[str, int] = dataclasses.field(default_factory=dict)
    skips: int = 0


class Client:
    """A client of the wire, which checks what it gets."""

    def __init__(self, world: World, name: int) -> None:
        self.world = world
        self.name = name
        self.places: dict[str, Place] = {}
        self.connection: Connection | None = None
        # The rooms whose positions were claimed in time and that are not answered yet.
        self.claimed: dict[str, tuple[str, int]] = {}
        # By room, why it was told that it misses something.
        self.told: dict[str, str] = {}
        # Rooms in which a history lost writes that this client had received, unknown to any node.
        self.exempt: set[str] = set()

    # What it gets.

    def receive(self, connection: Connection, frame: dict[str, Any]) -> None:
        if connection is not self.connection:
            return
        self.world.frames += 1
        event, data = frame["event"], frame["data"]
        if event == "wsrt.joined":
            self.note_joined(connection, data)
        elif event == "wsrt.left":
            connection.joined.discard(data["room"])
            connection.seen.pop(data["room"], None)
            self.places.pop(data["room"], None)
        elif event == "wsrt.forgotten":
            pass
        elif event == "said" or frame["room"] not in connection.joined:
            # Others may come twice: without history nothing is promised.
            self.note_publication(connection, frame, frame["room"])

    def note_joined(self, connection: Connection, data: dict[str, Any]) -> None:
        room, recovered = data["room"], data.get("recovered")
        place, claim = self.places.get(room), self.claimed.pop(room, None)
        is_first = room not in connection.joined
        connection.joined.add(room)
        connection.seen.setdefault(room, set())
        if not is_first and (room, data["epoch"]) in connection.epochs:
            # An epoch that was lost is back. What is left of it comes again.
            connection.seen[room].clear()
        connection.epochs.add((room, data["epoch"]))
        if claim is not None and recovered is None:
            self.fail(f"the claim of {room} wasn't answered: {data}")
        if recovered is None and is_first and place is not None and place.epoch == data["epoch"]:
            recovered = place.offset == data["offset"]
        if recovered:
            if place is None and claim is not None:
                # It has left the room since, and comes back before the claim was answered.
                place = self.places[room] = Place(*claim)
            if place is None or place.epoch != data["epoch"]:
                self.fail(f"{room} was recovered from {place}: {data}")
            self.world.counts["recovered"] += 1
            place.end = data["offset"]
            return
        if recovered is False:
            reason = data.get("reason", "late")
            self.told[room] = reason
            self.world.counts[reason] += 1
        elif not is_first:
            self.fail(f"joined twice: {data}")
        self.exempt.discard(room)
        self.places[room] = Place(data["epoch"], data["offset"], skips=data.get("values", 0))

    def note_publication(self, connection: Connection, frame: dict[str, Any], room: str) -> None:
        n = frame["data"]["n"]
        if room not in connection.joined:
            self.fail(f"a frame of {room}, which wasn't joined: {frame}")
            return
        if "epoch" not in frame:
            if n in connection.seen[room] and n not in self.world.repeated:
                self.fail(f"{n} came again without a position")
            connection.seen[room].add(n)
            return
        place, epoch, offset = self.places[room], frame["epoch"], frame["offset"]
        if epoch != place.epoch:
            self.fail(f"epoch {epoch} without notice at {place}: {frame}")
            return
        if place.skips:
            place.skips -= 1
            place.values[frame["data"]["key"]] = n
            return
        if offset <= place.offset:
            self.world.counts["duplicates"] += 1
            return
        self.world.counts["accepted"] += 1
        if n in connection.seen[room] and n not in self.world.repeated:
            self.fail(f"{n} came again at {offset}")
        connection.seen[room].add(n)
        if room == VALUED:
            place.values[frame["data"]["key"]] = n
        elif room not in self.exempt:
            self.check_order(room, place, epoch, offset, n)
        place.offset, place.last = offset, n

    def check_order(self, room: str, place: Place, epoch: str, offset: int, n: int) -> None:
        truth = self.world.truth
        if (room, epoch, offset, n) not in truth:
            self.fail(f"{n} never was at {epoch} {offset} of {room}")
            return
        missing = [o for o in range(place.offset + 1, offset) if (room, epoch, o) not in self.world.forgotten]
        if missing:
            self.fail(f"{room} {epoch}: {missing} before {offset} never came (last {place.offset})")
        before = truth[room, epoch, offset, n]
        if place.last is not None and offset == place.offset + 1 and before != place.last:
            self.fail(f"{room} {epoch}: {n} at {offset} follows {before}, not {place.last}")

    def fail(self, problem: str) -> None:
        self.world.fail(f"client {self.name}: {problem}")

    # What it does.

    def lost(self, connection: Connection) -> None:
        if self.connection is connection:
            self.connection = None
        self.claimed.clear()
        # A replay that was cut short is claimed again.
        for room in [room for room, place in self.places.items() if place.skips]:
            del self.places[room]

    def cut(self, *, is_noticed: bool = True) -> None:
        if self.connection is not None:
            self.connection.cut(is_noticed=is_noticed)

    def join(self, room: str) -> None:
        if self.connection is not None and self.connection.is_open:
            self._join(self.connection, room)

    def leave(self, room: str) -> None:
        if self.connection is not None:
            self.connection.leave(room)

    def recheck(self, lost: Sequence[str]) -> None:
        if self.connection is not None and self.connection.is_open:
            self.world.spawn(self.connection.recheck(lost))

    def _join(self, connection: Connection, room: str) -> None:
        task = asyncio.get_running_loop().create_task(connection.join(room))
        connection.joining[task] = None
        task.add_done_callback(connection.joining.pop)

    async def connect(
        self,
        node: Node,
        rooms: Iterable[str] = (*ROOMS, VALUED),
        *,
        first: float | None = 0.0,
        is_resume: bool = True,
        is_parallel: bool = False,
    ) -> None:
        """
        Connect and join rooms.

        Args:
            node: The node.
            rooms: The rooms.
            first: After how many seconds the first frame is sent. None for never.
            is_resume: Whether this is the one with the claims. Otherwise it comes second.
            is_parallel: Whether the rooms are joined at the same time.
        """
        connection = self.connection = Connection(self.world, self, node)
        if first is not None:
            self.world.loop.call_later(first, self.send_first, connection, is_resume)
        for room in rooms:
            if is_parallel:
                self._join(connection, room)
            else:
                await connection.join(room)
        if connection.is_open:
            connection.recovery.release()

    def send_first(self, connection: Connection, is_resume: bool) -> None:
        if not connection.is_open or connection is not self.connection:
            return
        claims = {
            room: [place.epoch, place.offset] for room, place in self.places.items() if room not in connection.joined
        }
        frame = json.dumps({"event": "wsrt.resume", "data": claims})
        if connection.recovery._claims is None:
            self.claimed = {room: (place.epoch, place.offset) for room, place in self.places.items() if room in claims}
        if not is_resume:
            self.claimed.clear()
            connection.recovery.receive(None)
        connection.recovery.receive(read_claims(frame, 128))


class World:
    """
    The cluster and what happens to it.

    Attributes:
        truth: By room, epoch, offset and number of each publication, the number of the one before it.
        forgotten: The rooms, epochs and offsets that were deleted.
        problems: What clients have found wrong.
        faults: What is lost of the next calls of the store.
    """

    size = 25
    seconds = 40.0
    value_seconds = 1000.0
    idempotency = 60.0
    CLIENTS = 4
    NODES = 3

    def __init__(self, seed: int) -> None:
        # For the time that things take.
        self.rng = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.numbers = itertools.count(1)
        self.truth: Truth = {}
        self.forgotten: set[tuple[str, str, int]] = set()
        # Numbers that were kept, and those kept again because the history had lost the idempotency key.
        self.numbers_kept: set[int] = set()
        self.repeated: set[int] = set()
        self.chains: dict[str, tuple[str, dict[int, int]]] = {}
        self.problems: list[str] = []
        self.faults: list[Fault] = []
        self.frames = 0
        self.counts: dict[str, int] = dict.fromkeys(
            ["recovered", "duplicates", "accepted", "epoch", "trimmed", "expired", "too_many", "late"], 0
        )
        self.is_down = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._calls: tuple[float, int] = (0.0, 0)
        memory._state = memory._State()
        memory._state.now = self.loop.time  # type: ignore[method-assign]
        self.store = SharedHistory(self)
        self.nodes = [self.node() for _ in range(self.NODES)]
        self.clients = [Client(self, name) for name in range(self.CLIENTS)]

    def node(self) -> Node:
        hub = Hub()
        return Node(self.loop, hub, Follower(self.loop, hub, lambda: self.store))

    def latency(self) -> float:
        return self.rng.uniform(0.0005, 0.3 if self.rng.random() < 0.1 else 0.005)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something while other things happen."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def fail(self, problem: str) -> None:
        self.problems.append(f"{self.loop.time():.3f}: {problem}")

    async def count_call(self) -> None:
        now = self.loop.time()
        self._calls = (now, self._calls[1] + 1) if self._calls[0] == now else (now, 1)
        if self._calls[1] > CALLS_AT_ONCE:
            self.fail("the store is called without a pause")
            # Otherwise this would never end.
            await asyncio.Event().wait()

    def kept(self, publication: Append, appended: Appended) -> None:
        """Note what the store has kept, and what was before it."""
        if appended.is_repeat:
            return
        room, n = publication.room[1], json.loads(publication.data)["n"]
        epoch, offset = appended.position.epoch, appended.position.offset
        known, chain = self.chains.get(room, ("", {}))
        if known != epoch:
            chain = {}
            self.chains[room] = (epoch, chain)
        chain[offset] = n
        if n in self.numbers_kept:
            self.repeated.add(n)
        self.numbers_kept.add(n)
        self.truth[room, epoch, offset, n] = chain.get(offset - 1)

    # Publishing.

    async def publish(
        self,
        room: str,
        *,
        key: str | None = None,
        is_kept: bool = True,
        is_idempotent: bool = True,
        ways: Sequence[Way] = (),
    ) -> None:
        """
        Publish an event.

        Args:
            room: The room.
            key: The key of a value.
            is_kept: Whether the event has a history.
            is_idempotent: Whether it has an idempotency key, and is published again if the store fails.
            ways: What becomes of the messages to the first nodes. Those to the others arrive.
        """
        n = next(self.numbers)
        data: dict[str, Any] = {"n": n}
        if not is_kept:
            self.send(PublishMessage(REALM, Room(room), Encoded("typing", json.dumps(data))), ways)
            return
        if room == VALUED:
            data["key"] = key
        encoded = Encoded("said", json.dumps(data))
        append = Append((REALM, room), f"id{n}", "said", encoded.data, key, str(n) if is_idempotent else None)
        for attempt in itertools.count():
            try:
                [appended] = await self.store.append([append])
            except StoreUnavailable:
                if not is_idempotent or attempt == 3:
                    return
                await asyncio.sleep(self.rng.uniform(0.1, 1.0))
            else:
                break
        self.send(PublishMessage(REALM, Room(room), encoded, None, Kept(appended.position, appended.id, key)), ways)

    def send(self, item: PublishMessage | CommandMessage, ways: Sequence[Way] = ()) -> None:
        """Send through the layer, which loses, repeats and delays."""
        message = item.to_message()
        for node, way in itertools.zip_longest(self.nodes, ways[: self.NODES], fillvalue="arrives"):
            for _ in range({"lost": 0, "twice": 2}.get(way, 1)):
                slow = 1.0 if way == "late" else 0.01
                self.loop.call_later(self.rng.uniform(0.0002, slow), node.take, message)

    # Faults.

    async def stop(self, seconds: float) -> None:
        """Stop the store for a while."""
        self.is_down = True
        await asyncio.sleep(seconds)
        self.is_down = False

    async def deafen(self, node: Node, seconds: float) -> None:
        """Cut a node from the layer for a while."""
        node.is_deaf = True
        await asyncio.sleep(seconds)
        self.reconnect(node)

    def reconnect(self, node: Node) -> None:
        if node.is_deaf:
            node.is_deaf = False
            node.history.check_all()

    def flush(self) -> None:
        """Restart the store, empty."""
        memory._state.rooms.clear()

    def kill(self, node: Node) -> None:
        """Replace a node by another one, which knows nothing."""
        node.is_dead = True
        for connection in list(node.connections):
            connection.cut()
        self.nodes[self.nodes.index(node)] = self.node()

    async def forget(self, room: str, back: int) -> None:
        """Forget an entry of a room: the last one, or one further back."""
        found = memory._state.rooms.get((REALM, room))
        if found is None or not found.entries:
            return
        offset = found.entries[-1 - min(back, len(found.entries) - 1)].offset
        self.forgotten.add((room, found.epoch, offset))
        await MemoryHistory.forget(self.store, (REALM, room), offset=offset)
        self.command(FORGOTTEN, room=room, epoch=found.epoch, offsets=[offset])

    async def purge(self, room: str) -> None:
        await MemoryHistory.purge(self.store, (REALM, room))
        self.command(PURGED, room=room)

    def command(self, name: str, **arguments: Any) -> None:
        self.send(CommandMessage(REALM, None, Everyone(), name, arguments, str(next(self.numbers))))

    def save(self) -> tuple[Any, Any]:
        """Return what a replica has of the histories now."""
        return copy.deepcopy((memory._state.rooms, self.chains))

    async def quiet(self) -> None:
        """Let everything that is under way end, without faults."""
        self.faults.clear()
        self.is_down = False
        for node in self.nodes:
            self.reconnect(node)
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def restore(self, saved: tuple[Any, Any], publish: Callable[[int], Awaitable[None]]) -> None:
        """
        Have a replica take over that has missed the last writes: their offsets are given out again.

        Nodes that follow a room recognise it. For a client that is away none can, if its room is followed no more.

        Args:
            saved: What the replica has.
            publish: Publishes at once, and gets the number of publications that room "a" has lost.
        """
        await self.quiet()
        await asyncio.sleep(2)
        before = memory._state.rooms.get((REALM, "a"))
        memory._state.rooms, self.chains = copy.deepcopy(saved)
        rooms = memory._state.rooms
        ahead = [
            (client, name, place, client.connection)
            for client in self.clients
            for name, place in client.places.items()
            if (found := rooms.get((REALM, name))) is not None
            and found.epoch == place.epoch
            and place.offset > found.offset
        ]
        for client, name, _, _ in ahead:
            client.exempt.add(name)
        after = rooms.get((REALM, "a"))
        is_same = before is not None and after is not None and before.epoch == after.epoch
        await publish(before.offset - after.offset if before and after and is_same else 0)
        # Until the nodes have noticed.
        await asyncio.sleep(15)
        for client, name, place, connection in ahead:
            is_here = connection is not None and connection.is_open and name in connection.joined
            if is_here and client.places.get(name) is place and name in client.exempt:
                client.fail(f"wasn't told that {name} has lost writes: {place}")

    # The end.

    async def end(self) -> None:
        """Let everything settle, with all clients connected, and check that nothing is left when they have gone."""
        await self.quiet()
        for client in self.clients:
            for _ in range(20):
                if client.connection is not None and client.connection.joining:
                    # The store may have failed one of them already.
                    await asyncio.wait(client.connection.joining)
                if client.connection is not None and client.connection.is_open:
                    break
                await client.connect(self.nodes[0])
        # Longer than the interval of checks, a wait for a store that was down, and what the layer still carries.
        await asyncio.sleep(75)
        self.check_positions()
        for room in ROOMS:
            await self.publish(room)
        await asyncio.sleep(5)
        self.check_positions()
        self.check_sizes()
        for client in self.clients:
            client.cut()
        await asyncio.sleep(10)
        self.check_traces()

    async def abandon(self) -> None:
        """End what is under way, because something is wrong."""
        for client in self.clients:
            client.cut()
        await asyncio.sleep(5)
        # Some start others when they are cancelled.
        for _ in range(10):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

    def check_positions(self) -> None:
        """Every node is at the store's position, and so is every client."""
        tops = {name: room.position for (_, name), room in memory._state.rooms.items()}
        for node in self.nodes:
            for (_, name), room in node.history._rooms.items():
                if room.log is None or room.log.position != tops[name]:
                    self.fail(f"a node is at {room.log and room.log.position} of {name}, not {tops[name]}")
                if room.waiting or room.task is not None or room.size:
                    self.fail(f"a node waits in {name}: {room.waiting}, {room.task}, {room.size} bytes")
        for client in self.clients:
            if client.connection is None:
                self.fail(f"client {client.name} isn't connected")
                continue
            for name in client.connection.subscriber.rooms:
                place, top = client.places.get(name), tops[name]
                if place is None or not self.is_at_end(name, place, top):
                    client.fail(f"is at {place} of {name}, not {top}")
                elif name == VALUED:
                    self.check_values(client, place)

    def is_at_end(self, room: str, place: Place, top: Position) -> bool:
        """Return whether nothing follows what a client has. Of publications that were forgotten it learns nothing."""
        position = max(place.offset, place.end)
        rest = range(position + 1, top.offset + 1)
        is_known = place.epoch == top.epoch and position <= top.offset
        return is_known and all((room, top.epoch, offset) in self.forgotten for offset in rest)

    def check_values(self, client: Client, place: Place) -> None:
        found = memory._state.rooms[REALM, VALUED].values
        values = {key: json.loads(entry.data)["n"] for key, entry in found.items()}
        if place.values != values and VALUED not in client.exempt:
            client.fail(f"has the values {place.values}, not {values}")

    def check_sizes(self) -> None:
        for node in self.nodes:
            logs = [room.log for room in node.history._rooms.values() if room.log is not None]
            if node.history._size != sum(log.size for log in logs):
                self.fail(f"the logs of a node have {[log.size for log in logs]} bytes, not {node.history._size}")
            for log in logs:
                if log.size != sum(logged.frame.size for logged in log._entries):
                    self.fail(f"the size of a log is {log.size}")
                if log._ids != {logged.offset: logged.id for logged in log._entries}:
                    self.fail(f"a log has {len(log._ids)} ids of {len(log._entries)} entries")

    def check_traces(self) -> None:
        """Nothing is left when all clients are gone."""
        for node in self.nodes:
            if node.history._rooms or node.history._checks.is_running or node.history._size:
                self.fail(f"a node follows {list(node.history._rooms)}, {node.history._size} bytes")
            if node.hub._held or node.hub._withheld or node.hub._rooms or node.hub.subscribers:
                self.fail(f"a hub holds {node.hub._held}, {node.hub._withheld}, {node.hub._rooms}")
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            self.fail(f"tasks: {tasks}")
