"""The roster of a room on one node, with a store and nodes that the test plays."""

from __future__ import annotations

import asyncio
import itertools
import json
import types
from typing import Any, Literal

import pytest

from tests.support.waiting import aeventually
from wsrt.delivery.subscriber import Subscriber
from wsrt.metrics import counters
from wsrt.presence import roster
from wsrt.presence.base import Change, Count, MemberRecord, Snapshot, StoreUnavailable
from wsrt.presence.roster import MemberChange, Roster, Watcher
from wsrt.presence.timespan import TimeSpan
from wsrt.protocol.frame import Frame


class Store:
    """The room as the store has it, and how often it was asked."""

    is_versioned = True

    def __init__(self) -> None:
        self.version = 0
        self.members: dict[str | None, MemberRecord] = {}
        self.loads = 0
        self.is_down = False

    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        self.loads += 1
        if self.is_down:
            raise StoreUnavailable("down")
        guests = self.members[None].connections if None in self.members else 0
        users = len(self.members) - (None in self.members)
        listed = tuple(self.members.values()) if len(self.members) <= limit else None
        if listed is not None and max_bytes is not None and sum(member.size for member in listed) > max_bytes:
            listed = None
        return Snapshot(self.version, Count(users, guests, users + guests), listed)

    def change(
        self,
        kind: Literal["joined", "left", "changed"],
        user: str | None,
        connections: int | None = None,
        data: str | None = None,
    ) -> Change:
        """Change the room, and return the change for the nodes."""
        self.version += 1
        number = (0 if kind == "left" else 1) if connections is None else connections
        if kind == "left":
            del self.members[user]
        else:
            self.members[user] = MemberRecord(user, number, data)
        return Change("n", "r", kind, user, number, data, self.version)


class Outbox:
    def __init__(self, outbox_bytes: int = 2**20) -> None:
        self.frames: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.limits = types.SimpleNamespace(outbox_bytes=outbox_bytes)

    def put(self, frame: Frame) -> None:
        self.sizes.append(frame.size)
        envelope = json.loads(frame.text)
        assert envelope["event"] == "wsrt.presence"
        assert envelope["data"].pop("room") == "r"
        self.frames.append(envelope["data"])


class Client:
    """A member of the room, as a client would rebuild it from its frames."""

    numbers = itertools.count()

    def __init__(
        self, view: Roster, user: str | None = None, *, wants_frames: bool = True, outbox_bytes: int = 2**20
    ) -> None:
        self.outbox = Outbox(outbox_bytes)
        self.connection = Subscriber(f"n-{next(self.numbers)}", "n", self.outbox, None)  # type: ignore[arg-type]
        self.connection.user_id = user
        self.arrivals: list[MemberChange] = []
        self.watcher = Watcher(self.connection, wants_frames, lambda room, arrivals: self.arrivals.extend(arrivals))
        view.watch(self.watcher)

    @property
    def frames(self) -> list[dict[str, Any]]:
        return self.outbox.frames

    @property
    def members(self) -> dict[str | None, Any] | None:
        """The room as the frames tell it; None while they told only a count."""
        here: dict[str | None, Any] | None = None
        for frame in self.frames:
            if "members" in frame:
                here = {member["user_id"]: member["data"] for member in frame["members"]}
            elif "count" in frame:
                here = None
            else:
                assert here is not None
                for member in frame.get("left", ()):
                    del here[member["user_id"]]
                for member in frame.get("joined", ()):
                    assert member["user_id"] not in here
                    here[member["user_id"]] = member["data"]
                for member in frame.get("changed", ()):
                    assert member["user_id"] in here
                    here[member["user_id"]] = member["data"]
        return here


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and patience of milliseconds."""
    monkeypatch.setattr(roster, "WINDOWS", ((100, 0.02), (1000, 0.03)))
    monkeypatch.setattr(roster, "LONGEST_WINDOW", 0.05)
    monkeypatch.setattr(roster, "GAP_SECONDS", 0.05)
    monkeypatch.setattr(roster, "RETRY_SECONDS", 0.02)


def room(store: Store, *here: str | None) -> Roster:
    """A room of which these have connections on this node."""
    return Roster(asyncio.get_running_loop(), store, "n", "r", set(here).__contains__)  # type: ignore[arg-type]


async def test_snapshot_and_differences() -> None:
    """A member gets the room once, and what changed after that, under the versions of the store."""
    store = Store()
    store.change("joined", "ada", data='{"name":"Ada"}')
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    assert client.frames == [{"version": 1, "members": [{"user_id": "ada", "connections": 1, "data": {"name": "Ada"}}]}]
    view.receive([store.change("joined", "grace"), store.change("changed", "ada", data='"x"')])
    await aeventually(lambda: len(client.frames) == 2)
    assert client.frames[1] == {
        "version": 3,
        "joined": [{"user_id": "grace", "connections": 1, "data": None}],
        "changed": [{"user_id": "ada", "connections": 1, "data": "x"}],
    }
    view.receive([store.change("left", "ada", data='"x"')])
    await aeventually(lambda: len(client.frames) == 3)
    assert client.frames[2] == {"version": 4, "left": [{"user_id": "ada", "connections": 1, "data": "x"}]}
    assert store.loads == 1


async def test_put_together() -> None:
    """What comes within a window is one frame; who came and went within it is not told."""
    store = Store()
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    view.receive([store.change("joined", "ada"), store.change("joined", "grace"), store.change("left", "ada")])
    view.receive([store.change("changed", "grace", data="1")])
    await aeventually(lambda: len(client.frames) == 2)
    assert client.frames[1]["joined"] == [{"user_id": "grace", "connections": 1, "data": 1}]
    assert "left" not in client.frames[1]
    view.receive([store.change("left", "grace"), store.change("joined", "grace", data="1")])
    view.receive([store.change("joined", "end")])
    await aeventually(lambda: len(client.frames) == 3)
    assert [member["user_id"] for member in client.frames[2]["joined"]] == ["end"]
    assert "changed" not in client.frames[2]


async def test_one_load_for_many() -> None:
    """Later members get the room from memory, in a frame that is encoded once."""
    store = Store()
    store.change("joined", "ada")
    view = room(store)
    clients = [Client(view) for _ in range(50)]
    await aeventually(lambda: all(client.frames for client in clients))
    late = Client(view)
    await aeventually(lambda: late.frames)
    assert store.loads == 1
    assert late.members == {"ada": None}


async def test_versions_out_of_order() -> None:
    """A version that comes late is waited for; what was in the snapshot already is not told again."""
    store = Store()
    first = store.change("joined", "ada")
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    changes = [store.change("joined", name) for name in "abc"]
    view.receive([first, changes[2]])
    view.receive([changes[1]])
    await asyncio.sleep(0.03)
    assert len(client.frames) == 1
    view.receive([changes[0]])
    await aeventually(lambda: client.members == dict.fromkeys(["ada", "a", "b", "c"]))
    assert store.loads == 1


async def test_lost_change() -> None:
    """A version that never comes is healed from the store, as a difference (I42)."""
    store = Store()
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    healed = counters["presence_gaps_healed"]
    view.receive([store.change("joined", "first")])
    store.change("joined", "lost")
    view.receive([store.change("joined", "ada")])
    await aeventually(lambda: client.members == {"first": None, "lost": None, "ada": None})
    assert store.loads == 2
    assert counters["presence_gaps_healed"] == healed + 1
    assert len(client.frames) == 3


@pytest.mark.parametrize("version", [2, 100])
async def test_compared_with_the_store(version: int) -> None:
    """A room whose version differs without a change that explains it is loaded again: the store lost writes."""
    store = Store()
    store.version = 9
    store.change("joined", "ada")
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    store.members.clear()
    store.version = version
    view.check_version(version)
    await aeventually(lambda: client.members == {})
    assert view.version == version


async def test_change_on_its_way() -> None:
    """A version that arrives while we wait for it needs no load."""
    store = Store()
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    change = store.change("joined", "ada")
    view.check_version(1)
    view.receive([change])
    await asyncio.sleep(0.1)  # longer than the patience
    assert store.loads == 1
    assert client.members == {"ada": None}


async def test_large_room() -> None:
    """Above 1,000 members a count is told; below 900 the list is, to everybody."""
    store = Store()
    for number in range(1000):
        store.change("joined", str(number))
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    assert len(client.frames[0]["members"]) == 1000
    view.receive([store.change("joined", f"x{number}") for number in range(3)])
    await aeventually(lambda: len(client.frames) == 2)
    assert client.frames[1] == {"version": 1003, "count": 1003}
    late = Client(view)
    await aeventually(lambda: late.frames)
    assert late.frames == [{"version": 1003, "count": 1003}]
    view.receive([store.change("joined", None, 1)])
    view.receive([store.change("changed", None, 7)])
    await aeventually(lambda: client.frames[-1]["count"] == 1010)
    view.receive([store.change("left", None)])
    view.receive([store.change("left", str(number)) for number in range(104)])
    await aeventually(lambda: late.members is not None)
    assert late.members == client.members == dict.fromkeys(member for member in store.members)
    assert store.loads == 2


async def test_hooks() -> None:
    """Hooks hear of others who come and go, not of themselves, and also where the client wants no frames."""
    store = Store()
    store.change("joined", "ada")
    view = room(store)
    client = Client(view, "ada", wants_frames=False)
    await aeventually(lambda: view.watchers[client.connection][1])
    view.receive([store.change("joined", "grace"), store.change("left", "ada"), store.change("joined", None)])
    await aeventually(lambda: len(client.arrivals) == 2)
    view.receive([store.change("left", "grace"), store.change("joined", "ada")])
    await aeventually(lambda: len(client.arrivals) == 3)
    assert client.arrivals == [("joined", "grace"), ("joined", None), ("left", "grace")]
    assert client.frames == []


async def test_store_that_is_down() -> None:
    """A room that cannot be loaded is tried again; changes wait."""
    store = Store()
    store.is_down = True
    view = room(store)
    client = Client(view)
    await aeventually(lambda: store.loads > 1)
    view.receive([store.change("joined", "ada")])
    store.is_down = False
    await aeventually(lambda: client.members == {"ada": None})


async def test_store_without_versions() -> None:
    """Whatever is told, the room is loaded and compared, with versions of our own."""
    store = Store()
    store.is_versioned = False
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    store.change("joined", "ada")
    view.receive([store.change("joined", "grace")])
    await aeventually(lambda: client.members == {"ada": None, "grace": None})
    store.change("left", "ada")
    view.load()
    await aeventually(lambda: client.members == {"grace": None})
    versions = [frame["version"] for frame in client.frames]
    assert versions == sorted(set(versions))


async def test_closed() -> None:
    """A view without watchers does nothing any more."""
    store = Store()
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    view.unwatch(client.connection)
    view.close()
    view.receive([store.change("joined", "a"), store.change("left", "a")])
    view.check_version(99)
    view.load()
    await asyncio.sleep(0.1)  # longer than anything waits
    assert len(client.frames) == 1
    assert store.loads == 1


async def test_patience() -> None:
    """After the store lost its data, users whose node restores them in time aren't reported as gone."""
    store = Store()
    for name in ("ada", "grace", "edsger"):
        store.change("joined", name)
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    store.members.clear()
    store.change("joined", "ada")
    view.expect_recovery(TimeSpan(asyncio.get_running_loop().time(), 0.3))
    view.load()
    await asyncio.sleep(0.1)
    view.receive([store.change("joined", "grace")])
    await aeventually(lambda: client.members == {"ada": None, "grace": None})
    assert [frame.get("left") for frame in client.frames[1:]] == [
        [{"user_id": "edsger", "connections": 1, "data": None}]
    ]
    assert not [frame for frame in client.frames[1:] if "joined" in frame]


async def test_answer_that_is_late() -> None:
    """A room that is loaded while changes go on is not set back by an answer that is older than they are."""
    store = Store()
    store.change("joined", "ada")
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    gate = asyncio.Event()
    snapshot = store.snapshot

    async def late(namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        answer = await snapshot(namespace, room, limit, max_bytes=max_bytes)
        await gate.wait()
        return answer

    store.snapshot = late  # type: ignore[method-assign]
    store.change("joined", "grace")
    missing = Change("n", "r", "joined", "grace", 1, None, store.version)
    view.load()
    await asyncio.sleep(0.01)
    view.receive([missing, store.change("joined", "edsger")])
    gate.set()
    await aeventually(lambda: client.members == dict.fromkeys(["ada", "grace", "edsger"]))
    await asyncio.sleep(0.1)  # longer than anything waits
    assert view.version == store.version
    assert not [frame for frame in client.frames if "left" in frame]
    versions = [frame["version"] for frame in client.frames]
    assert versions == sorted(versions)


async def test_changed_and_back_within_a_frame() -> None:
    """A member that changed, left and came back between two frames is reported with the new data."""
    store = Store()
    store.change("joined", "ada", data='"x"')
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    view.receive([store.change("changed", "ada", data='"y"'), store.change("left", "ada")])
    view.receive([store.change("joined", "ada", data='"y"')])
    await aeventually(lambda: client.members == {"ada": "y"})
    assert list(client.frames[1]) == ["version", "changed"]


@pytest.mark.parametrize("is_versioned", [True, False])
async def test_further_tabs(is_versioned: bool) -> None:
    """A user's further tabs aren't announced, even when a room is loaded again; each guest is."""
    store = Store()
    store.is_versioned = is_versioned
    store.change("joined", "ada", data='"x"')
    store.change("joined", None, 1)
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    store.change("changed", "ada", 2, data='"x"')
    view.load()
    await asyncio.sleep(0.1)  # longer than anything waits
    assert len(client.frames) == 1
    late = Client(view)
    await aeventually(lambda: late.frames)
    assert late.frames[0]["members"][0]["connections"] == 2
    store.change("changed", None, 2)
    view.load()
    await aeventually(lambda: len(client.frames) == 2)
    assert client.frames[1]["changed"] == [{"user_id": None, "connections": 2, "data": None}]


@pytest.mark.parametrize("size", [3, 2000])
async def test_whoever_is_here_did_not_leave(size: int) -> None:
    """Of a node that stood still others tell that its members left; it knows better, in small rooms and large ones."""
    store = Store()
    for number in range(size):
        store.change("joined", str(number))
    store.change("joined", None, 1)
    view = room(store, "0", "1", None)
    client = Client(view, "0")
    await aeventually(lambda: client.frames)
    view.receive([store.change("left", name) for name in ("0", "1", "2", None)])
    await aeventually(lambda: len(client.frames) == 2)
    view.receive([store.change("joined", name) for name in ("0", "1", None)])
    view.receive([store.change("joined", "new")])
    await aeventually(lambda: len(client.frames) == 3)
    if size == 3:
        assert [frame["user_id"] for frame in client.frames[1]["left"]] == ["2"]
        assert [frame["user_id"] for frame in client.frames[2]["joined"]] == ["new"]
        assert client.arrivals == [("left", "2"), ("joined", "new")]
    else:
        assert [frame["count"] for frame in client.frames] == [size + 1, size, size + 1]


async def test_whoever_is_here_is_missing() -> None:
    """A local member that is missing in a reloaded room is about to be written."""
    store = Store()
    for name in ("ada", "grace"):
        store.change("joined", name)
    view = room(store, "ada")
    client = Client(view)
    await aeventually(lambda: client.frames)
    store.change("left", "ada")
    store.change("left", "grace")
    view.load()
    await aeventually(lambda: len(client.frames) == 2)
    assert client.members == {"ada": None}
    view.receive([store.change("joined", "ada")])
    await asyncio.sleep(0.1)  # longer than anything waits
    assert len(client.frames) == 2


# Bounds.


def large(store: Store, members: int, size: int) -> None:
    """Fill the room with members who show so many bytes each."""
    for number in range(members):
        store.change("joined", f"u{number}", data=json.dumps("x" * size))


async def test_large_members() -> None:
    """A list that would take over 256 KiB is shown as a count, as is a room of more than 1,000 members."""
    store = Store()
    large(store, 999, 1200)
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    assert client.frames == [{"version": 999, "count": 999}]
    view.receive([store.change("joined", "new")])
    await aeventually(lambda: len(client.frames) == 2)
    assert client.frames[1] == {"version": 1000, "count": 1000}
    assert store.loads == 1


async def test_members_that_become_large() -> None:
    """No frame of a room takes more than half of the default outbox, however members come, go, and change."""
    store = Store()
    large(store, 60, 3000)
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.members)
    view.receive([store.change("joined", f"v{number}", data=json.dumps("y" * 4000)) for number in range(15)])
    await aeventually(lambda: len(client.frames) == 2)
    view.receive([store.change("left", f"u{number}") for number in range(60)])
    view.receive([store.change("joined", f"w{number}", data=json.dumps("z" * 4000)) for number in range(45)])
    await aeventually(lambda: len(client.frames) == 3)
    assert max(client.outbox.sizes) > roster.MAX_LISTED_BYTES
    view.receive([store.change("changed", f"w{number}", data=json.dumps("é" * 2000)) for number in range(45)])
    view.receive([store.change("joined", f"x{number}", data=json.dumps("é" * 2000)) for number in range(10)])
    await aeventually(lambda: "count" in client.frames[-1])
    assert client.frames[-1]["count"] == 70
    assert max(client.outbox.sizes) <= 2 * roster.MAX_LISTED_BYTES


async def test_room_whose_large_members_leave() -> None:
    """A list that was too long comes again when a tenth of the members has left; until then the store is not asked."""
    store = Store()
    large(store, 100, 2700)
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    view.receive([store.change("left", f"u{number}") for number in range(10)])
    await asyncio.sleep(0.1)  # longer than anything waits
    assert client.members is None
    assert store.loads == 1
    view.receive([store.change("left", "u10")])
    await aeventually(lambda: client.members is not None)
    assert client.members is not None
    assert len(client.members) == 89
    assert store.loads == 2


async def test_small_outbox() -> None:
    """Where a client holds little, lists take a quarter of what it holds, also if it comes after the others."""
    store = Store()
    large(store, 20, 400)
    view = room(store)
    first = Client(view)
    await aeventually(lambda: first.members)
    small = Client(view, outbox_bytes=20_000)
    await aeventually(lambda: small.frames and len(first.frames) == 2)
    assert small.frames == first.frames[1:] == [{"version": 20, "count": 20}]


async def test_changes_while_the_store_is_away() -> None:
    """While a room can't be loaded, at most 1,000 changes wait; what is loaded in the end makes up for the others."""
    store = Store()
    store.is_down = True
    view = room(store)
    client = Client(view)
    dropped = counters["presence_changes_dropped"]
    for number in range(5000):
        view.receive([store.change("joined", "ada"), store.change("left", "ada")])
        view.receive([store.change("joined", str(number))] if number % 50 == 0 else [])
        assert len(view._out_of_order) <= roster.MAX_WAITING
    assert counters["presence_changes_dropped"] > dropped
    store.is_down = False
    await aeventually(lambda: client.members == dict.fromkeys(map(str, range(0, 5000, 50))))


async def test_changes_while_an_answer_is_late() -> None:
    """While an answer is awaited, at most 1,000 changes are kept for it; what is missing then is loaded again."""
    store = Store()
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    gate = asyncio.Event()
    snapshot = store.snapshot

    async def late(*args: Any, **kwargs: Any) -> Snapshot:
        answer = await snapshot(*args, **kwargs)
        await gate.wait()
        return answer

    store.snapshot = late  # type: ignore[method-assign]
    view.load()
    await asyncio.sleep(0)
    for number in range(1500):
        view.receive([store.change("joined", str(number)), store.change("left", str(number))])
        assert len(view._during_load) <= roster.MAX_WAITING
    view.receive([store.change("joined", "ada")])
    gate.set()
    view.check_version(store.version)
    await aeventually(lambda: client.members == {"ada": None})


async def test_window_of_a_crowd_of_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests count for the time in which differences are put together: each of them is shown."""
    monkeypatch.setattr(roster, "WINDOWS", ((100, 0.0),))
    monkeypatch.setattr(roster, "LONGEST_WINDOW", 60.0)
    store = Store()
    store.change("joined", None, 5000)
    view = room(store)
    client = Client(view)
    await aeventually(lambda: client.frames)
    view.receive([store.change("changed", None, 5001)])
    assert view._send_timer is not None
    assert view._send_timer.when() - asyncio.get_running_loop().time() > 30


class TurnedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is turned by somebody, as freezegun does when a test leaves it."""

    turned = 0.0

    def time(self) -> float:
        return super().time() + self.turned


def test_clock_that_is_set_back() -> None:
    """A clock that goes back by years delays no difference, and no patience lasts for years."""
    loop = TurnedLoop()
    loop.turned = 1e9

    async def run() -> None:
        store = Store()
        store.change("joined", "ada")
        view = room(store)
        client = Client(view)
        await aeventually(lambda: client.frames)
        view.expect_recovery(TimeSpan(loop.time(), 5))
        loop.turned = 0.0
        store.change("left", "ada")
        view.receive([store.change("joined", "grace")])
        view.load()
        await aeventually(lambda: client.members == {"grace": None})
        view.close()

    try:
        loop.run_until_complete(asyncio.wait_for(run(), 20))
    finally:
        loop.close()
