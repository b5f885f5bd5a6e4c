"""What a server does, rule by rule; each docstring ends with its section of docs/reference/wire.md."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from .conftest import Dial, Endpoint
from .peer import Peer

# A project that copies this folder has no pytest configuration for it.
pytestmark = [pytest.mark.servers, pytest.mark.asyncio]

CODES = {"invalid_frame", "unknown_event", "invalid_data"}

NO_ENVELOPES: list[str | bytes] = [
    "",
    "{",
    "[]",
    "null",
    '"text"',
    "{}",
    '{"data": {}}',
    '{"event": 5, "data": {}}',
    '{"event": null, "data": {}}',
    '{"event": ["surely.unknown"], "data": {}}',
    b"\xff\xfe",
]


def is_error(frame: dict[str, Any], code: str, ref: Any = None) -> bool:
    """Check the shape of a wsrt.error; return whether it is this one."""
    assert frame["event"] == "wsrt.error"
    data = frame["data"]
    assert isinstance(data["code"], str)
    assert isinstance(data["message"], str)
    for entry in data["errors"]:
        assert isinstance(entry["loc"], list)
        assert all(isinstance(part, str | int) for part in entry["loc"])
        assert isinstance(entry["msg"], str)
        assert isinstance(entry["type"], str)
    return data["code"] == code and frame.get("ref") == ref


# Modes


async def test_subprotocol(dial: Dial) -> None:
    """The server chooses wsrt.v1 wherever it is offered. (Modes)"""
    for offered in (["wsrt.v1"], ["other", "wsrt.v1"], ["wsrt.v1", "bearer.abc"]):
        assert (await dial(*offered)).ws.subprotocol == "wsrt.v1"


async def test_plain_mode_is_the_default(plain: Peer) -> None:
    """A client that offers no subprotocol gets none, and no reserved event that it didn't ask for. (Modes)"""
    assert plain.ws.subprotocol is None
    assert not [frame for frame in await plain.rest() if frame["event"].startswith("wsrt.")]


@pytest.mark.parametrize("event", ["wsrt.ping", "wsrt.pong", "wsrt.resume", "wsrt.hello"])
async def test_reserved_events_are_unknown_in_plain_mode(plain: Peer, event: str) -> None:
    """A reserved event from a plain client is an unknown one. (Modes)"""
    assert is_error(await plain.request(event), "unknown_event", "r-1")


# Reserved events


async def test_hello(dial: Dial) -> None:
    """The first frame is wsrt.hello; it says what the client may rely on. (Reserved events)"""
    peer = await dial("wsrt.v1")
    frame = await peer.receive()
    assert frame["event"] == "wsrt.hello"
    data = frame["data"]
    assert isinstance(data["connection"], str)
    assert isinstance(data["max_payload"], int)
    assert isinstance(data["server_time"], int | float)
    assert isinstance(data["schema"], str)
    assert (data["heartbeat"] is None) == (data["heartbeat_timeout"] is None)
    assert data["heartbeat"] is None or data["heartbeat"] > 0


async def test_connections_differ(dial: Dial) -> None:
    """Each connection has an id of its own; the schema is the consumer's. (Reserved events)"""
    hellos = [(await (await dial("wsrt.v1")).until("wsrt.hello"))["data"] for _ in range(3)]
    assert len({hello["connection"] for hello in hellos}) == 3
    assert len({hello["schema"] for hello in hellos}) == 1


@pytest.mark.parametrize("event", ["wsrt.hello", "wsrt.ok", "wsrt.error", "wsrt.joined", "wsrt.unheard-of"])
async def test_only_some_are_a_clients(peer: Peer, event: str) -> None:
    """A reserved event that no client sends is an unknown event. (Reserved events)"""
    assert is_error(await peer.request(event), "unknown_event", "r-1")


async def test_joined(dial: Dial, endpoint: Endpoint) -> None:
    """Whom the server puts into a room is told so before the room's publications. (Reserved events)"""
    publish = endpoint.of("publish")
    peer = await dial("wsrt.v1")
    joined = [(await peer.until("wsrt.joined"))["data"]["room"]]
    await peer.send(**publish)
    # It may be put into several rooms, and the publication go to any of them.
    while "room" not in (frame := await peer.receive()):
        if frame["event"] == "wsrt.joined":
            joined.append(frame["data"]["room"])
    assert all(isinstance(room, str) for room in joined)
    assert frame["room"] in joined


# Resume


@pytest.mark.parametrize("data", [{}, {"nowhere": ["epoch", 5]}])
async def test_resume(dial: Dial, data: Any) -> None:
    """wsrt.resume is accepted before hello; a claim to a room that was not joined has no effect. (Resume)"""
    peer = await dial("wsrt.v1")
    await peer.send("wsrt.resume", data)
    assert (await peer.receive())["event"] == "wsrt.hello"
    assert not [frame for frame in await peer.rest() if frame["event"] == "wsrt.error"]


# Requests


@pytest.mark.parametrize("ref", ["a", "ü" * 64, 0, 17, -5, 10**15, ""])
@pytest.mark.parametrize("subprotocol", [["wsrt.v1"], []], ids=["wsrt.v1", "plain"])
async def test_ref_comes_back(dial: Dial, subprotocol: list[str], ref: Any) -> None:
    """An answer carries the ref of its request, as it was, in both modes. (Requests)"""
    peer = await dial(*subprotocol)
    frame = await peer.request("surely.unknown", ref=ref)
    assert is_error(frame, "unknown_event", ref)
    assert type(frame["ref"]) is type(ref)


@pytest.mark.parametrize("ref", ["x" * 65, 1.5, {}, [], True])
async def test_no_ref(peer: Peer, ref: Any) -> None:
    """A ref that is none makes the frame an invalid one. (Requests)"""
    await peer.send("surely.unknown", ref=ref)
    assert is_error(await peer.until("wsrt.error"), "invalid_frame")
    assert await peer.is_alive()


async def test_answered_once(peer: Peer, endpoint: Endpoint) -> None:
    """Every request is answered exactly once, in the order of handling. (Requests)"""
    request = endpoint.of("request")
    refs = [f"r-{number}" for number in range(20)]
    for ref in refs:
        await peer.send(**request, ref=ref)
    answers = [frame for frame in await peer.rest() if "ref" in frame]
    assert [frame["ref"] for frame in answers] == refs
    assert not [frame for frame in answers if frame["event"] == "wsrt.error"]
    assert not [frame for frame in answers if "room" in frame]


async def test_plain_clients_may_ask(plain: Peer, endpoint: Endpoint) -> None:
    """Requests are answered in plain mode too. (Requests)"""
    assert (await plain.request(**endpoint.of("request")))["event"] != "wsrt.error"


async def test_invalid_requests_do_not_close(plain: Peer) -> None:
    """A request that is invalid closes no plain client either, while invalid frames keep the rate. (Requests)"""
    for number in range(15):
        assert is_error(await plain.request("surely.unknown", ref=number), "unknown_event", number)


async def test_publishing_by_request(peer: Peer, endpoint: Endpoint) -> None:
    """An answer isn't a publication, and a publication carries no ref. (Requests)"""
    await peer.send(**endpoint.of("publish"), ref="r-1")
    frames = await peer.rest()
    [answer] = [frame for frame in frames if frame.get("ref") == "r-1"]
    assert answer["event"] != "wsrt.error"
    assert "room" not in answer
    assert [frame for frame in frames if "room" in frame and "ref" not in frame]


# Frame


async def test_other_keys_are_ignored(peer: Peer) -> None:
    """Keys that the server does not know are ignored. (Frame)"""
    frame = await peer.request("surely.unknown", room="lobby", epoch="e", more={"a": [1]})
    assert is_error(frame, "unknown_event", "r-1")


async def test_binary_is_text(peer: Peer) -> None:
    """A binary message is read as UTF-8 text. (Frame)"""
    await peer.send_raw(json.dumps({"event": "surely.unknown", "data": {}, "ref": "ü"}, ensure_ascii=False).encode())
    assert is_error(await peer.answer("ü"), "unknown_event", "ü")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_no_json_numbers(peer: Peer, endpoint: Endpoint, value: str) -> None:
    """NaN, Infinity and what overflows are invalid. (Frame)"""
    event = json.dumps(endpoint.of("request")["event"])
    await peer.send_raw(f'{{"event": {event}, "data": {{"value": {value}}}, "ref": "n"}}')
    frame = await peer.until("wsrt.error")
    assert frame["data"]["code"] in {"invalid_frame", "invalid_data"}
    assert await peer.is_alive()


async def test_names_of_objects(peer: Peer) -> None:
    """Names that objects have by themselves are names like any other. (Frame)"""
    for event in ("constructor", "__proto__", "toString", "hasOwnProperty"):
        frame = await peer.request(f"{event}.surely", ref=event)
        assert is_error(frame, "unknown_event", event)
        # An application may have events of such names.
        frame = await peer.request(event, ref=f"{event}!")
        assert frame["event"] != "wsrt.error" or frame["data"]["code"] != "internal"
    assert await peer.is_alive()


# Errors


async def test_invalid_data(peer: Peer, endpoint: Endpoint) -> None:
    """Invalid data is told field by field, and never repeated. (Errors)"""
    invalid = endpoint.of("invalid")
    frame = await peer.request(**invalid)
    assert is_error(frame, "invalid_data", "r-1")
    assert frame["data"]["errors"]
    for key, value in invalid["data"].items():
        if key.startswith("secret"):
            assert key not in json.dumps(frame)
            assert value not in json.dumps(frame)


# Violations


@pytest.mark.parametrize("frame", NO_ENVELOPES, ids=repr)
async def test_no_envelope_is_reported(peer: Peer, frame: str | bytes) -> None:
    """An invalid envelope is reported to a wsrt.v1 client, whose connection stays open. (Violations)"""
    await peer.send_raw(frame)
    assert is_error(await peer.until("wsrt.error"), "invalid_frame")
    assert await peer.is_alive()


@pytest.mark.parametrize("frame", NO_ENVELOPES, ids=repr)
async def test_no_envelope_closes(plain: Peer, frame: str | bytes) -> None:
    """An invalid envelope closes a plain client 1007. (Violations)"""
    await plain.send_raw(frame)
    code, reason = await plain.closed()
    assert code == 1007
    assert reason in {"Invalid message payload", ""}


async def test_unknown_event_is_reported(peer: Peer) -> None:
    """An unknown event is reported to a wsrt.v1 client, whose socket stays. (Violations)"""
    await peer.send("surely.unknown")
    assert is_error(await peer.until("wsrt.error"), "unknown_event")
    assert await peer.is_alive()


async def test_unknown_event_closes(plain: Peer) -> None:
    """An unknown event closes a plain client 1008. (Violations)"""
    await plain.send("surely.unknown")
    code, reason = await plain.closed()
    assert code == 1008
    assert reason in {"Unknown event", ""}


async def test_invalid_data_is_reported(peer: Peer, endpoint: Endpoint) -> None:
    """Invalid data is reported to a wsrt.v1 client, whose socket stays. (Violations)"""
    await peer.send(**endpoint.of("invalid"))
    assert is_error(await peer.until("wsrt.error"), "invalid_data")
    assert await peer.is_alive()


async def test_invalid_data_closes(plain: Peer, endpoint: Endpoint) -> None:
    """Invalid data closes a plain client 1007. (Violations)"""
    await plain.send(**endpoint.of("invalid"))
    code, reason = await plain.closed()
    assert code == 1007
    assert reason in {"Invalid event data", ""}


async def test_too_many_violations(peer: Peer) -> None:
    """A wsrt.v1 client that goes on is closed 1008, or 4429 where it is over the rate as well. (Violations)"""
    try:
        for _ in range(500):
            await peer.send("surely.unknown")
    except Exception:  # the server may close while we send
        pass
    code, reason = await peer.closed()
    assert (code, reason) in {(1008, "Too many violations"), (1008, ""), (4429, "Rate limit exceeded"), (4429, "")}


async def test_largest_frame(peer: Peer) -> None:
    """A frame of exactly max_payload bytes passes, one more closes 1009. (Violations)"""
    largest = peer.hello["max_payload"]
    head = '{"event": "surely.unknown", "ref": "big", "pad": "'
    await peer.send_raw(head + "x" * (largest - len(head) - 2) + '"}')
    assert is_error(await peer.answer("big"), "unknown_event", "big")
    await peer.send_raw(head + "x" * (largest - len(head) - 1) + '"}')
    code, reason = await peer.closed()
    assert code == 1009
    assert reason in {"Message too large", ""}


async def test_size_in_bytes(peer: Peer) -> None:
    """The size of a frame is counted in bytes of UTF-8. (Violations)"""
    await peer.send_raw('{"event": "surely.unknown", "pad": "' + "ü" * (peer.hello["max_payload"] // 2) + '"}')
    assert (await peer.closed())[0] == 1009


# Heartbeat


async def test_ping(peer: Peer) -> None:
    """A ping is answered by a pong at once, with its ref. (Heartbeat)"""
    await peer.send("wsrt.ping")
    assert await peer.until("wsrt.pong") == {"event": "wsrt.pong", "data": {}}
    assert await peer.request("wsrt.ping", ref="p") == {"event": "wsrt.pong", "data": {}, "ref": "p"}


def patience(peer: Peer) -> float:
    """Return the seconds that the heartbeat takes, or skip the test."""
    heartbeat = peer.hello["heartbeat"]
    if heartbeat is None:
        pytest.skip("the server has no heartbeat")
    seconds = heartbeat + peer.hello["heartbeat_timeout"]
    if seconds > 10:
        pytest.skip(f"the server's heartbeat takes {seconds:g} s; set it lower to check it")
    return float(seconds)


async def test_silence_is_asked(peer: Peer) -> None:
    """The server pings a client that is silent, and closes one that stays so 1001. (Heartbeat)"""
    seconds = patience(peer)
    events = []
    try:
        while True:
            events.append((await peer.receive(seconds + 3))["event"])
    except TimeoutError:
        pytest.fail("the server was silent as well")
    except Exception:
        pass
    assert "wsrt.ping" in events
    code, reason = await peer.closed(1)
    assert code == 1001
    assert reason in {"Heartbeat timeout", ""}


@pytest.mark.parametrize("event", ["wsrt.pong", "wsrt.ping"])
async def test_life(peer: Peer, event: str) -> None:
    """A client that sends anything stays. (Heartbeat)"""
    seconds = patience(peer)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds * 2
    while loop.time() < until:
        await peer.send(event)
        await asyncio.sleep(peer.hello["heartbeat_timeout"] / 2)
    assert await peer.is_alive()


async def test_quiet_servers_ping(peer: Peer) -> None:
    """A client hears something within ``heartbeat``, also while it talks itself. (Heartbeat)"""
    patience(peer)
    loop = asyncio.get_running_loop()
    last, longest, until = loop.time(), 0.0, loop.time() + peer.hello["heartbeat"] * 3

    async def talk() -> None:
        while True:
            await peer.send("wsrt.pong")
            await asyncio.sleep(0.2)

    talking = asyncio.create_task(talk())
    while loop.time() < until:
        await peer.receive()
        longest, last = max(longest, loop.time() - last), loop.time()
    talking.cancel()
    assert longest < peer.hello["heartbeat"] + 1


# Presence


async def test_presence(dial: Dial, endpoint: Endpoint) -> None:
    """A member is shown who is there, and then what changes, by another version. (Presence)"""
    urls = endpoint.of("presence_urls")
    first = await dial("wsrt.v1", url=urls[0])
    await first.send("wsrt.resume")
    shown = (await first.until("wsrt.presence"))["data"]
    assert isinstance(shown["room"], str)
    assert isinstance(shown["version"], int)
    for entry in shown["members"]:
        assert set(entry) == {"user_id", "connections", "data"}
        assert entry["user_id"] is None or isinstance(entry["user_id"], str)
        assert entry["connections"] >= 1
    second = await dial("wsrt.v1", url=urls[1])
    await second.send("wsrt.resume")
    change = (await first.until("wsrt.presence"))["data"]
    assert change["room"] == shown["room"]
    assert change["version"] != shown["version"]
    assert set(change) & {"joined", "changed", "members"}
    await second.ws.close()


# Close


async def test_closing(peer: Peer) -> None:
    """A client that closes is answered. (Close)"""
    await peer.ws.close(1000)
    assert peer.ws.close_code == 1000
