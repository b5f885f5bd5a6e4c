"""
How clients behave, whatever they are written in, against a server that does what the test says.

What holds is written in DRIVER.md; each test runs with every client.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from benchmarks.jitter import at_the_cap, spread
from tests.clients.drivers import Driver, typescript_driver
from tests.clients.scripted import HELLO, Peer, ScriptedServer
from tests.clients.tickets import TicketOffice
from tests.support.report import note
from wsrt import close_codes
from wsrt.close_codes import Reconnect

pytestmark = pytest.mark.servers

FAST: dict[str, Any] = {"base_ms": 20, "cap_ms": 100, "min_ms": 10, "jump_ms": 20, "later_ms": 100, "spread_ms": 50}
"""Discard what the test doesn't look at."""


@pytest_asyncio.fixture
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    """A client in a process of its own."""
    async with Driver(request.param) as driver:
        yield driver


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


async def opened(driver: Driver, server: ScriptedServer, **options: Any) -> Peer:
    """Connect a client and greet it."""
    driver.connect(server.url, **{**FAST, **options})
    peer = await server.greet()
    await driver.state("open")
    return peer


async def settled(driver: Driver) -> None:
    """Return when the client has done all that it was told."""
    driver.do("rooms")
    await driver.until("rooms")


# The handshake, and the first frames.


async def test_resume_is_first(driver: Driver, server: ScriptedServer) -> None:
    """The first frame is wsrt.resume, before hello has come; the subprotocols are as they were given."""
    driver.connect(server.url, protocols=["more"], token="abc")
    peer = await server.accept()
    assert await peer.receive() == {"event": "wsrt.resume", "data": {}}
    assert peer.offered == ["wsrt.v1", "more", "bearer.abc"]
    await peer.hello()
    assert (await driver.state("open"))["outdated"] is False
    assert [line["state"] for line in driver.all("state")] == ["connecting", "open"]


async def test_pong(driver: Driver, server: ScriptedServer) -> None:
    """A ping is answered at once, with its ref if it has one, also before hello."""
    driver.connect(server.url)
    peer = await server.accept()
    await peer.receive("wsrt.resume")
    await peer.send("wsrt.ping")
    assert await peer.receive() == {"event": "wsrt.pong", "data": {}}
    await peer.hello()
    await peer.send("wsrt.ping", ref="p-1")
    assert await peer.receive() == {"event": "wsrt.pong", "data": {}, "ref": "p-1"}


async def test_connect_twice(driver: Driver, server: ScriptedServer) -> None:
    """Connecting a client that is connected, or about to be, opens no second socket."""
    driver.connect(server.url, **FAST)
    for _ in range(3):
        driver.do("connect")
    await server.greet()
    await driver.state("open")
    driver.do("connect")
    await server.no_client(0.3)
    assert len(server.handshakes) == server.most_open == 1


async def test_close(driver: Driver, server: ScriptedServer) -> None:
    """close() ends the connection with 1000, rejects what waits, and doesn't reconnect; connect() starts over."""
    peer = await opened(driver, server)
    driver.request("1")
    await peer.receive("ask")
    driver.do("close")
    assert (await driver.reply("1"))["error"]["type"] == "ConnectionError"
    assert (await driver.state("closed"))["reason"]["kind"] == "client"
    assert await peer.left() == 1000
    await server.no_client(0.3)
    driver.do("connect")
    await server.greet()
    await driver.state("open")


async def test_close_while_waiting(driver: Driver, server: ScriptedServer) -> None:
    """close() while a retry is scheduled cancels it."""
    peer = await opened(driver, server, min_ms=300)
    await peer.close(1011)
    await driver.until("dial")
    driver.do("close")
    await driver.state("closed")
    await server.no_client(0.6)


async def test_refused_handshakes(driver: Driver, server: ScriptedServer) -> None:
    """A handshake that is refused is tried again, later and later."""
    server.refuse = 403
    driver.connect(server.url, **{**FAST, "cap_ms": 1000, "random": 1})
    delays = [(await driver.until("dial"))["delay_ms"] for _ in range(4)]
    assert delays == pytest.approx([10 + 20 * 2**number for number in range(4)])
    assert {line["reason"]["kind"] for line in driver.all("state") if line["state"] == "waiting"} == {"network"}
    server.refuse = None
    await server.greet()
    await driver.state("open")


async def test_no_server(driver: Driver) -> None:
    """A refused TCP connection is tried again."""
    async with ScriptedServer() as server:
        url = server.url
    driver.connect(url, **FAST)
    for attempt in (1, 2, 3):
        assert (await driver.until("dial"))["attempt"] == attempt


async def test_connect_timeout(driver: Driver, server: ScriptedServer) -> None:
    """A server that takes the connection and does not answer is left, and tried again."""
    server.gate.clear()
    driver.connect(server.url, **FAST, connect_timeout_ms=200)
    assert (await driver.state("waiting"))["reason"]["kind"] == "timeout"
    server.gate.set()
    # The handshake that was given up may come through on the server's side, and is closed by now.
    while True:
        peer = await server.accept()
        try:
            await peer.receive("wsrt.resume")
        except ConnectionError:
            continue
        break
    await peer.hello()
    await driver.state("open")


async def test_hello_timeout(driver: Driver, server: ScriptedServer) -> None:
    """A server that does not greet is left, and tried again."""
    driver.connect(server.url, **FAST, hello_timeout_ms=200)
    peer = await server.accept()
    assert (await driver.state("waiting"))["reason"]["kind"] == "timeout"
    await peer.left()
    await server.greet()
    await driver.state("open")


async def test_invalid_url(driver: Driver) -> None:
    """An invalid URL isn't tried again."""
    driver.connect("ftp://127.0.0.1/")
    assert (await driver.state("closed"))["reason"]["kind"] == "invalid"
    assert not driver.all("dial")


# Dead links.


async def test_dead_link(driver: Driver, server: ScriptedServer) -> None:
    """A link that is silent for longer than the server's hello allows is dropped without waiting for a close event."""
    driver.connect(server.url, **FAST)
    peer = await server.greet(heartbeat=0.3, heartbeat_timeout=0.2)
    await driver.state("open")
    peer.freeze()
    begun = time.monotonic()
    line = await driver.state("waiting")
    assert line["reason"]["kind"] == "dead"
    # Had it closed the socket by the book, the answer would have been waited for.
    await server.greet()
    assert 0.3 < time.monotonic() - begun < 1.5
    await driver.state("open")


async def test_any_frame_is_life(driver: Driver, server: ScriptedServer) -> None:
    """Any frame of the server keeps the link alive."""
    driver.connect(server.url, **FAST)
    peer = await server.greet(heartbeat=0.4, heartbeat_timeout=0.4)
    await driver.state("open")
    for event in itertools.islice(itertools.cycle(["wsrt.ping", "news", "wsrt.unheard-of"]), 12):
        await peer.send(event)
        await asyncio.sleep(0.1)
    await settled(driver)
    assert len(server.handshakes) == 1


async def test_no_heartbeat(driver: Driver, server: ScriptedServer) -> None:
    """Where the server has no heartbeat, silence alone ends nothing."""
    driver.connect(server.url, **FAST)
    await server.greet(heartbeat=None, heartbeat_timeout=None)
    await driver.state("open")
    await server.no_client(0.5)
    assert not driver.all("dial")


async def test_standstill(driver: Driver, server: ScriptedServer) -> None:
    """A client that stood still itself asks first, and stays if it is answered."""
    driver.connect(server.url, **FAST)
    peer = await server.greet(heartbeat=0.5, heartbeat_timeout=0.5)
    await driver.state("open")
    driver.signal(signal.SIGSTOP)
    await asyncio.sleep(2.5)
    driver.signal(signal.SIGCONT)
    await peer.receive("wsrt.ping")
    await peer.send("wsrt.pong")
    driver.request("1")
    frame = await peer.receive("ask")
    await peer.send("wsrt.ok", ref=frame["ref"])
    assert (await driver.reply("1")).get("error") is None
    assert len(server.handshakes) == 1


async def test_standstill_unanswered(driver: Driver, server: ScriptedServer) -> None:
    """A client that stood still and is not answered comes back by a new connection."""
    driver.connect(server.url, **FAST, probe_ms=300)
    peer = await server.greet(heartbeat=0.5, heartbeat_timeout=0.5)
    await driver.state("open")
    peer.freeze()
    driver.signal(signal.SIGSTOP)
    await asyncio.sleep(2.5)
    driver.signal(signal.SIGCONT)
    assert (await driver.state("waiting"))["reason"]["kind"] == "dead"
    await server.greet()


async def test_server_without_pings(driver: Driver, server: ScriptedServer) -> None:
    """A server that sends no pings is asked after a while of silence, and given up where it does not answer."""
    driver.connect(server.url, **FAST, idle_ms=400, probe_ms=300)
    peer = await server.greet(heartbeat=None, heartbeat_timeout=None)
    await driver.state("open")
    for _ in range(3):
        await peer.receive("wsrt.ping")
        await peer.send("wsrt.pong")
    assert len(server.handshakes) == 1
    peer.freeze()
    assert (await driver.state("waiting"))["reason"]["kind"] == "dead"
    await server.greet()


# The close table.

ROWS = [(row.code, row.reason) for row in close_codes.TABLE]
STOCK_DAPHNE = [(row.fallback_code, "") for row in close_codes.TABLE]
OUTSIDE = [
    (code, "")
    for code in (1002, 1003, 1010, 1012, 1014, 3000, 3999, 4000, 4002, 4100, 4450, 4499, 4500, 4749, 4750, 4999)
]

DELAYS = {"base_ms": 100, "min_ms": 10, "jump_ms": 40, "later_ms": 300, "spread_ms": 1000, "random": 0.5}
BY_DELAY = {20: "network", 60: "backoff", 360: "later", 510: "spread"}


async def policy(driver: Driver, server: ScriptedServer, end: Any) -> str:
    """Return the policy of a new client after its connection has ended."""
    driver.connect(server.url, **DELAYS, token="old", get_token=True)
    peer = await server.greet()
    await driver.state("open")
    tokens = len(driver.all("token"))
    await end(peer)
    line = await driver.until("state")
    if line["state"] == "closed":
        return "never"
    delay = (await driver.until("dial"))["delay_ms"]
    if line["reason"]["code"] == 4401:
        await driver.until("token")
        found = "auth"
    else:
        found = BY_DELAY.get(round(delay), f"after {delay} ms")
    driver.do("close")
    await driver.state("closed")
    assert len(driver.all("token")) - tokens == (found == "auth")
    return found


@pytest.mark.parametrize("codes", [ROWS, STOCK_DAPHNE, OUTSIDE], ids=["table", "stock-daphne", "outside"])
async def test_close_codes(driver: Driver, server: ScriptedServer, codes: list[tuple[int, str]]) -> None:
    """After every close code a client does what the table says, under both numbers, and for those that it lacks."""
    seen = {}
    for code, reason in codes:
        seen[code, reason] = await policy(driver, server, lambda peer, c=code, r=reason: peer.close(c, r))
    assert seen == {(code, reason): close_codes.reconnect_for(code, reason).value for code, reason in codes}


async def test_no_close_code(driver: Driver, server: ScriptedServer) -> None:
    """A close without a code, and none at all, are the network's."""

    async def drop(peer: Peer) -> None:
        peer.drop()

    assert await policy(driver, server, lambda peer: peer.close_empty()) == "network"
    assert await policy(driver, server, drop) == "network"


async def test_reasons_of_the_application(driver: Driver, server: ScriptedServer) -> None:
    """A known code with a reason that is not in the table is treated as its first row."""
    seen = {code: await policy(driver, server, lambda peer, c=code: peer.close(c, "ünknown")) for code in (1001, 1008)}
    assert seen == {1001: "spread", 1008: "never"}


# Backing off.


async def test_drain_hint(driver: Driver, server: ScriptedServer) -> None:
    """After wsrt.closing a client comes back after exactly the time that it was given, once."""
    peer = await opened(driver, server)
    await peer.send("wsrt.closing", {"retry_after_ms": 400})
    await peer.close(1001, "Server shutting down")
    closed = time.monotonic()
    assert (await driver.until("dial"))["delay_ms"] == 400
    peer = await server.greet()
    assert time.monotonic() - closed > 0.35
    await driver.state("open")
    await peer.close(1011)
    assert (await driver.until("dial"))["delay_ms"] < 400


@pytest.mark.parametrize("code", [1001, 4001, None])
async def test_drain_hint_and_any_close(driver: Driver, server: ScriptedServer, code: int | None) -> None:
    """The hint counts also where the close is another one than it should be."""
    peer = await opened(driver, server)
    await peer.send("wsrt.closing", {"retry_after_ms": 123})
    if code is None:
        await asyncio.sleep(0.1)  # what was sent must arrive before the reset
        peer.drop()
    else:
        await peer.close(code)
    assert (await driver.until("dial"))["delay_ms"] == 123


async def test_drain_hint_and_never(driver: Driver, server: ScriptedServer) -> None:
    """A client that is refused for good does not come back for a hint."""
    peer = await opened(driver, server)
    await peer.send("wsrt.closing", {"retry_after_ms": 1})
    await peer.close(4403, "Forbidden")
    await driver.state("closed")
    await server.no_client(0.3)


async def test_accept_then_close(driver: Driver, server: ScriptedServer) -> None:
    """A server that greets and closes at once is left alone for longer and longer, up to the cap."""

    async def slam(peer: Peer) -> None:
        await peer.hello()
        await peer.close(1011, "Message handling failed")

    server.on_connect = slam
    driver.connect(server.url, **{**FAST, "cap_ms": 200, "random": 1})
    dials = [await driver.until("dial") for _ in range(7)]
    assert [line["attempt"] for line in dials] == [1, 2, 3, 4, 5, 6, 7]
    assert [line["delay_ms"] for line in dials] == pytest.approx([30, 50, 90, 170, 210, 210, 210])
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(server.handshakes)]
    assert gaps[4] > 0.2
    assert server.most_open == 1


async def test_stable_connection_resets(driver: Driver, server: ScriptedServer) -> None:
    """Attempts count from 1 again after a connection that was open for long enough, and only then."""
    peer = await opened(driver, server, stable_ms=400)
    for attempt in (1, 2, 3):
        await peer.close(1011)
        assert (await driver.until("dial"))["attempt"] == attempt
        peer = await server.greet()
        await driver.state("open")
    await asyncio.sleep(0.6)
    await peer.close(1011)
    assert (await driver.until("dial"))["attempt"] == 1


async def test_lost_network(driver: Driver, server: ScriptedServer) -> None:
    """The first retry after an open connection was lost comes soon; the next ones by the rule."""
    peer = await opened(driver, server, random=1, jump_ms=30, min_ms=100)
    peer.drop()
    assert (await driver.until("dial"))["delay_ms"] == pytest.approx(30)
    peer = await server.greet()
    await driver.state("open")
    peer.drop()
    assert (await driver.until("dial"))["delay_ms"] == pytest.approx(100 + 40)


async def test_never_two_sockets(driver: Driver, server: ScriptedServer) -> None:
    """The old socket is gone before the new one is opened, however it ends."""
    driver.connect(server.url, **FAST)
    for end in ("close", "drop", "silent") * 3:
        peer = await server.greet(heartbeat=0.2, heartbeat_timeout=0.1)
        await driver.state("open")
        match end:
            case "close":
                await peer.close(1011)
            case "drop":
                peer.drop()
            case "silent":
                await peer.left()
    await server.greet()
    assert server.most_open == 1


# Credentials.


async def test_token(driver: Driver, server: ScriptedServer) -> None:
    """A token is asked for once and kept; after 4401 another one is asked for, and used."""
    driver.connect(server.url, **FAST, get_token=True)
    await driver.until("token")
    await server.no_client(0.2)
    assert [line["state"] for line in driver.all("state")] == ["connecting"]
    driver.do("token", value="one")
    peer = await server.greet()
    assert peer.token == "one"
    await driver.state("open")
    await peer.close(1011)
    peer = await server.greet()
    assert peer.token == "one"
    await driver.state("open")
    await peer.close(4401, "Credentials expired")
    await driver.until("token")
    driver.do("token", value="two")
    peer = await server.greet()
    assert peer.token == "two"
    assert len(driver.all("token")) == 2


async def test_token_race(driver: Driver, server: ScriptedServer) -> None:
    """While a token is asked for, nothing asks for a second one or dials without it."""
    peer = await opened(driver, server, token="old", get_token=True)
    await peer.close(4401, "Credentials expired")
    await driver.until("token")
    driver.do("connect")
    if driver.kind.has_page:
        for event in ("online", "visible", "pageshow", "online"):
            driver.do("page", event=event)
    driver.do("connect")
    await server.no_client(0.4)
    driver.do("token", value="new")
    peer = await server.greet()
    assert peer.token == "new"
    await driver.state("open")
    await server.no_client(0.4)
    assert len(driver.all("token")) == 1
    assert len(server.handshakes) == 2
    assert server.most_open == 1


async def test_close_while_the_token_is_asked_for(driver: Driver, server: ScriptedServer) -> None:
    """A token that comes after close() opens nothing."""
    driver.connect(server.url, **FAST, get_token=True)
    await driver.until("token")
    driver.do("close")
    await driver.state("closed")
    driver.do("token", value="late")
    await server.no_client(0.4)


async def test_refused_again_and_again(driver: Driver, server: ScriptedServer) -> None:
    """A server that takes no token is asked less and less."""

    async def refuse(peer: Peer) -> None:
        await peer.close(4401, "Unauthenticated")

    server.on_connect = refuse
    driver.connect(server.url, **{**FAST, "cap_ms": 1000, "random": 1}, get_token=True)
    for number in range(5):
        driver.do("token", value=str(number))
    delays = [(await driver.until("dial"))["delay_ms"] for _ in range(4)]
    assert delays == pytest.approx([30, 50, 90, 170])


async def test_nobody_is_signed_in(driver: Driver, server: ScriptedServer) -> None:
    """Where there are no credentials the client stays closed."""
    driver.connect(server.url, **FAST, get_token=True)
    await driver.until("token")
    driver.do("token", value=None)
    assert (await driver.state("closed"))["reason"]["kind"] == "unauthorized"
    await server.no_client(0.3)


async def test_unauthenticated_without_get_token(driver: Driver, server: ScriptedServer) -> None:
    """4401 is final where there is no function that returns a token."""
    peer = await opened(driver, server)
    await peer.close(4401, "Unauthenticated")
    reason = (await driver.state("closed"))["reason"]
    assert reason == {"kind": "unauthorized", "code": 4401, "text": "Unauthenticated"}
    await server.no_client(0.3)


# Tickets.


@pytest_asyncio.fixture
async def office() -> AsyncIterator[TicketOffice]:
    async with TicketOffice() as office:
        yield office


async def test_ticket(driver: Driver, server: ScriptedServer, office: TicketOffice) -> None:
    """A ticket is requested before each connection, for its path, and no ticket is used twice."""
    url = f"{server.url}chat/a%20b/?x=1"
    driver.connect(url, **FAST, ticket_url=office.url, ticket_headers={"Authorization": "Bearer abc"})
    peer = await server.greet()
    assert peer.ticket == "t1"
    assert peer.token is None
    await driver.state("open")
    await peer.close(1011)
    peer = await server.greet()
    assert peer.ticket == "t2"
    await driver.state("open")
    await peer.close(4401, "Credentials expired")
    assert (await server.greet()).ticket == "t3"
    for request in office.requests:
        assert (request.method, request.paths) == ("POST", ["/chat/a%20b/"])
        assert request.headers["authorization"] == "Bearer abc"
    assert len(office.requests) == 3


async def test_no_ticket(driver: Driver, server: ScriptedServer, office: TicketOffice) -> None:
    """A request that fails is repeated later; a redirect, to a page where one signs in, isn't followed."""
    office.answers = [("500 No", ""), ("302 Found", ""), ("200 OK", "{}"), ("200 OK", '{"ticket": 7}'), ("200 OK", "<")]
    failures = len(office.answers)
    driver.connect(server.url, **FAST, ticket_url=office.url)
    for _ in range(failures):
        assert (await driver.state("waiting"))["reason"]["kind"] == "token"
    peer = await server.greet()
    assert peer.ticket == f"t{failures + 1}"
    assert [request.method for request in office.requests] == ["POST"] * (failures + 1)


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        ("429 Too Many Requests", "1", 1),
        ("503 Service Unavailable", "1", 1),
        ("429 Too Many Requests", "86400", 300),
        ("429 Too Many Requests", "9" * 400, 300),
        ("429 Too Many Requests", "0", 0),
        ("429 Too Many Requests", "-1", 0),
        ("429 Too Many Requests", "1.5", 0),
        ("429 Too Many Requests", "Wed, 21 Oct 2037 07:28:00 GMT", 0),
        ("429 Too Many Requests", None, 0),
    ],
)
async def test_no_ticket_yet(
    driver: Driver, server: ScriptedServer, office: TicketOffice, status: str, retry_after: str | None, seconds: int
) -> None:
    """The seconds of a Retry-After are added to the delay, up to 5 minutes; other forms of it are ignored."""
    office.answers, office.retry_after = [(status, "")], retry_after
    driver.connect(server.url, **DELAYS, ticket_url=office.url)
    assert (await driver.until("dial"))["delay_ms"] == pytest.approx(1000 * seconds + 60)
    if seconds < 300:
        assert (await server.greet()).ticket == "t2"


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_no_ticket_for_the_user(
    driver: Driver, server: ScriptedServer, office: TicketOffice, status: str
) -> None:
    """Where the user gets no ticket the client stays closed."""
    office.answers = [(status, "")]
    driver.connect(server.url, **FAST, ticket_url=office.url)
    reason = (await driver.state("closed"))["reason"]
    assert reason == {"kind": "unauthorized", "code": None, "text": f"no ticket: the server answered {status[:3]}"}
    await server.no_client(0.3)


# Renewals of the token.

RENEWING: dict[str, Any] = {**FAST, "get_token": True, "login_event": "login", "random": 0}


async def test_renewal(driver: Driver, server: ScriptedServer) -> None:
    """Before its token expires a client sends the next one over the open connection, again and again."""
    driver.connect(server.url, **RENEWING, token="t0")
    peer = await server.greet(expires_in=0.4)
    for number in range(1, 11):
        driver.do("token", value=f"t{number}")
        frame = await peer.receive("login")
        assert frame["data"] == {"token": f"t{number}"}
        await peer.send("wsrt.ok", {"expires_in": 0.4 if number < 10 else 600}, ref=frame["ref"])
    await settled(driver)
    assert [line["state"] for line in driver.all("state")] == ["connecting", "open"]
    assert len(driver.all("token")) == 10
    assert not driver.all("error")
    # The renewed token is the one that is kept.
    await peer.close(1011)
    assert (await server.greet()).token == "t10"


async def test_renewal_in_time(driver: Driver, server: ScriptedServer) -> None:
    """A token is renewed early enough: by the margin, or by a quarter of its time."""
    driver.connect(server.url, **RENEWING, token="t0", renew_ms=100)
    peer = await server.greet(expires_in=1)
    started = time.monotonic()
    await driver.until("token")
    assert time.monotonic() - started > 0.8
    driver.do("token", value="t1")
    frame = await peer.receive("login")
    await peer.send("wsrt.ok", {"expires_in": None}, ref=frame["ref"])
    await settled(driver)


@pytest.mark.parametrize("missing", ["expires_in", "login_event", "get_token"])
async def test_nothing_to_renew(driver: Driver, server: ScriptedServer, missing: str) -> None:
    """Without a time, a login event or a function that returns tokens, nothing is renewed."""
    options = {key: value for key, value in RENEWING.items() if key != missing}
    driver.connect(server.url, **options, token="t0")
    peer = await server.greet(**({} if missing == "expires_in" else {"expires_in": 0.1}))
    await driver.state("open")
    await peer.receive_nothing(0.4)
    assert not driver.all("token")


async def test_renewal_refused(driver: Driver, server: ScriptedServer) -> None:
    """A refused token is dropped: the client asks for another one when the connection has ended, not before."""
    driver.connect(server.url, **RENEWING, token="t0")
    peer = await server.greet(expires_in=0.1)
    driver.do("token", value="bad")
    frame = await peer.receive("login")
    await peer.send("wsrt.error", {"code": "forbidden", "message": "no", "errors": []}, ref=frame["ref"])
    await driver.until("error", type="RequestError")
    await peer.receive_nothing(0.4)
    await peer.close(4401, "Credentials expired")
    driver.do("token", value="t1")
    assert (await server.greet()).token == "t1"


async def test_renewal_repeated(driver: Driver, server: ScriptedServer) -> None:
    """A renewal that couldn't be handled is tried again, with another token."""
    driver.connect(server.url, **RENEWING, token="t0")
    peer = await server.greet(expires_in=0.1)
    for value, code in (("t1", "unavailable"), ("t2", "rate_limited"), ("t3", None)):
        driver.do("token", value=value)
        frame = await peer.receive("login")
        assert frame["data"] == {"token": value}
        if code is not None:
            await peer.send("wsrt.error", {"code": code, "message": "no", "errors": []}, ref=frame["ref"])
    await peer.send("wsrt.ok", {"expires_in": None}, ref=frame["ref"])
    await settled(driver)
    assert [line["state"] for line in driver.all("state")] == ["connecting", "open"]


async def test_renewal_takes_too_long(driver: Driver, server: ScriptedServer) -> None:
    """A function that doesn't return a token in time is called again, and its result isn't used."""
    driver.connect(server.url, **RENEWING, token="t0", connect_timeout_ms=200)
    peer = await server.greet(expires_in=0.1)
    await driver.until("token")
    await driver.until("error", type="TimeoutError")
    await driver.until("token")
    driver.do("token", value="late")
    driver.do("token", value="t1")
    frame = await peer.receive("login")
    await peer.send("wsrt.ok", {"expires_in": None}, ref=frame["ref"])
    await peer.receive_nothing()


async def test_renewal_when_the_user_has_left(driver: Driver, server: ScriptedServer) -> None:
    """Where there are no credentials any more, the client is closed for good."""
    driver.connect(server.url, **RENEWING, token="t0")
    peer = await server.greet(expires_in=0.1)
    driver.do("token", value=None)
    assert (await driver.state("closed"))["reason"]["kind"] == "unauthorized"
    await peer.left()
    await server.no_client(0.3)


async def test_renewal_ends_with_the_connection(driver: Driver, server: ScriptedServer) -> None:
    """A token that arrives after the connection has ended isn't sent over the next one."""
    driver.connect(server.url, **RENEWING, token="t0")
    peer = await server.greet(expires_in=0.1)
    await driver.until("token")
    await peer.close(1011)
    peer = await server.greet(expires_in=600)
    await driver.state("open")
    driver.do("token", value="late")
    await peer.receive_nothing()
    driver.do("close")
    await driver.state("closed")


async def test_login_in_the_first_frame(driver: Driver, server: ScriptedServer) -> None:
    """With "frame", the token is sent in the login event, ahead of all other frames, and in no header."""
    driver.connect(server.url, **RENEWING, token="t0", bearer="frame")
    peer = await server.accept()
    assert await peer.receive() == {"event": "login", "data": {"token": "t0"}}
    assert await peer.receive() == {"event": "wsrt.resume", "data": {}}
    assert peer.offered == ["wsrt.v1"]
    await peer.hello()
    await driver.state("open")
    await peer.close(4401, "Unauthenticated")
    driver.do("token", value="t1")
    peer = await server.accept()
    assert (await peer.receive())["data"] == {"token": "t1"}


# Requests.


async def test_replies(driver: Driver, server: ScriptedServer) -> None:
    """A request is answered by an event, by wsrt.ok or by wsrt.error, in any order."""
    peer = await opened(driver, server)
    for number in ("1", "2", "3"):
        driver.request(number, "ask", {"n": number})
    refs = {}
    for _ in range(3):
        frame = await peer.receive("ask")
        refs[frame["data"]["n"]] = frame["ref"]
    error = {"code": "invalid_data", "message": "Invalid event data", "errors": []}
    await peer.send("wsrt.error", error, ref=refs["3"])
    await peer.send("wsrt.ok", ref=refs["2"])
    await peer.send("answer", {"to": 1}, ref=refs["1"])
    replies = {line["id"]: line for line in [await driver.until("reply") for _ in range(3)]}
    assert replies["1"]["data"] == {"to": 1}
    assert replies["2"]["data"] is None
    assert replies["3"]["error"]["type"] == "RequestError"
    assert replies["3"]["error"]["code"] == "invalid_data"
    assert not driver.all("event"), "an answer isn't a publication"


async def test_reply_timeout(driver: Driver, server: ScriptedServer) -> None:
    """A request without an answer is rejected in time, and a late answer is ignored."""
    peer = await opened(driver, server)
    driver.request("slow", timeout_ms=200)
    late = await peer.receive("ask")
    error = (await driver.reply("slow"))["error"]
    assert (error["type"], error["code"]) == ("TimeoutError", None)
    driver.request("next")
    frame = await peer.receive("ask")
    await peer.send("answer", {"to": "slow"}, ref=late["ref"])
    await peer.send("answer", {"to": "next"}, ref=frame["ref"])
    assert (await driver.reply("next"))["data"] == {"to": "next"}
    assert len(driver.all("reply")) == 2
    assert len(server.handshakes) == 1


async def test_request_is_lost_with_its_connection(driver: Driver, server: ScriptedServer) -> None:
    """A request whose connection ends is rejected, and not sent again: it may have been carried out."""
    peer = await opened(driver, server)
    driver.request("lost", queue=True)
    await peer.receive("ask")
    peer.drop()
    assert (await driver.reply("lost"))["error"]["type"] == "ConnectionError"
    peer = await server.greet()
    await driver.state("open")
    await peer.receive_nothing()


async def test_request_without_a_connection(driver: Driver, server: ScriptedServer) -> None:
    """A request that may not wait is rejected where there is no connection."""
    server.gate.clear()
    driver.connect(server.url, **FAST)
    await driver.state("connecting")
    driver.request("now")
    assert (await driver.reply("now"))["error"]["type"] == "ConnectionError"


async def test_refs_are_unique(driver: Driver, server: ScriptedServer) -> None:
    """No ref comes twice, over all connections; refs are strings of at most 64 characters."""
    peer = await opened(driver, server)
    refs = []
    for _ in range(3):
        for number in range(5):
            driver.request(str(number))
            refs.append((await peer.receive("ask"))["ref"])
        peer.drop()
        peer = await server.greet()
        await driver.state("open")
    assert len(set(refs)) == 15
    assert all(isinstance(ref, str) and len(ref) <= 64 for ref in refs)


async def test_payload_too_large(driver: Driver, server: ScriptedServer) -> None:
    """What is over the server's limit is refused here: there it would end the connection."""
    driver.connect(server.url, **FAST)
    peer = await server.greet(max_payload=500)
    await driver.state("open")
    driver.request("big", "ask", {"text": "ä" * 300})
    assert (await driver.reply("big"))["error"]["type"] == "PayloadTooLargeError"
    driver.request("fits", "ask", {"text": "ä" * 150})
    await peer.receive("ask")


# The queue.


async def unanswered(driver: Driver, server: ScriptedServer, **options: Any) -> None:
    """Connect a client to a server that lets it wait."""
    server.gate.clear()
    driver.connect(server.url, **{**FAST, "connect_timeout_ms": 60_000, **options})
    await driver.state("connecting")


async def test_queue(driver: Driver, server: ScriptedServer) -> None:
    """What may wait leaves after hello, in the order of the calls; what may not is dropped."""
    await unanswered(driver, server)
    driver.send("one", queue=True)
    driver.request("2", "two", queue=True)
    driver.send("lost")
    driver.send("three", {"n": 3}, queue=True)
    results = {line["event"]: line["result"] for line in [await driver.until("sent") for _ in range(3)]}
    assert results == {"one": "queued", "lost": "dropped", "three": "queued"}
    server.gate.set()
    peer = await server.accept()
    await peer.receive("wsrt.resume")
    await peer.receive_nothing()
    await peer.hello()
    frames = [await peer.receive() for _ in range(3)]
    assert [frame["event"] for frame in frames] == ["one", "two", "three"]
    await peer.send("wsrt.ok", ref=frames[1]["ref"])
    assert (await driver.reply("2")).get("error") is None
    driver.send("four")
    assert (await peer.receive())["event"] == "four"


async def test_queue_survives_a_connection_that_never_opened(driver: Driver, server: ScriptedServer) -> None:
    """What waits goes on waiting through connections that end before hello."""
    await unanswered(driver, server)
    driver.send("one", queue=True)
    driver.request("2", "two", queue=True)
    await driver.until("sent")
    server.gate.set()
    peer = await server.accept()
    await peer.close(1013)
    peer = await server.greet()
    assert [(await peer.receive())["event"] for _ in range(2)] == ["one", "two"]


async def test_queue_items(driver: Driver, server: ScriptedServer) -> None:
    """The queue holds so many frames; the next is refused, and those that wait are not touched."""
    await unanswered(driver, server, queue_items=3)
    for number in range(3):
        driver.send("kept", {"n": number}, queue=True)
        await driver.until("sent", result="queued")
    driver.request("over", queue=True)
    assert (await driver.reply("over"))["error"]["type"] == "QueueFullError"
    driver.send("over", queue=True)
    await driver.until("error", type="QueueFullError")
    server.gate.set()
    peer = await server.greet()
    assert [(await peer.receive("kept"))["data"]["n"] for _ in range(3)] == [0, 1, 2]
    await peer.receive_nothing()


async def test_queue_bytes(driver: Driver, server: ScriptedServer) -> None:
    """The queue holds so many bytes, not characters."""
    await unanswered(driver, server, queue_bytes=1000)
    driver.send("kept", {"text": "x" * 400}, queue=True)
    await driver.until("sent", result="queued")
    driver.request("over", "ask", {"text": "ä" * 300}, queue=True)
    assert (await driver.reply("over"))["error"]["type"] == "QueueFullError"
    driver.send("fits", {"text": "ä" * 200}, queue=True)
    await driver.until("sent", result="queued")


async def test_queue_age(driver: Driver, server: ScriptedServer) -> None:
    """What waits for too long is given up, said so, and never sent."""
    await unanswered(driver, server, queue_age_ms=300)
    driver.request("old", queue=True)
    driver.send("old", queue=True)
    await driver.until("error", type="QueueExpiredError")
    await asyncio.sleep(0.1)
    reply = next(line for line in driver.lines if line["kind"] == "reply")
    assert reply["error"]["type"] == "QueueExpiredError"
    server.gate.set()
    peer = await server.greet()
    await driver.state("open")
    await peer.receive_nothing()


async def test_queued_request_times_out(driver: Driver, server: ScriptedServer) -> None:
    """A request that waited until its time was over is not sent any more."""
    await unanswered(driver, server)
    driver.request("late", timeout_ms=200, queue=True)
    assert (await driver.reply("late"))["error"]["type"] == "TimeoutError"
    server.gate.set()
    peer = await server.greet()
    await driver.state("open")
    await peer.receive_nothing()


async def test_queue_ends_with_the_client(driver: Driver, server: ScriptedServer) -> None:
    """What waits is rejected when there will be no connection."""
    await unanswered(driver, server)
    driver.request("waits", queue=True)
    await settled(driver)
    server.gate.set()
    peer = await server.accept()
    await peer.close(4403, "Forbidden")
    assert (await driver.reply("waits"))["error"]["type"] == "ConnectionError"


async def closed_sends(driver: Driver) -> None:
    """Check that nothing waits for a connection that is never opened."""
    driver.send("one", queue=True)
    assert (await driver.until("sent", event="one"))["result"] == "dropped"
    driver.request("2", "two", queue=True)
    assert (await driver.reply("2"))["error"]["type"] == "ConnectionError"


async def test_queue_of_a_closed_client(driver: Driver, server: ScriptedServer) -> None:
    """Where no connection is being made nothing waits for one, after close() and after a refusal."""
    await opened(driver, server)
    driver.do("close")
    await driver.state("closed")
    await closed_sends(driver)
    driver.do("connect")
    peer = await server.greet()
    await driver.state("open")
    await peer.receive_nothing()
    await peer.close(4403, "Forbidden")
    await driver.state("closed")
    await closed_sends(driver)


async def test_volatile_in_the_queue(driver: Driver, server: ScriptedServer) -> None:
    """Of queued events only the latest of an event and key waits, in the place of the first."""
    await unanswered(driver, server)
    for number in range(3):
        driver.send("mark", {"n": number}, queue=True, volatile="k")
        driver.send("dot", {"n": number}, queue=True, volatile="k")
        driver.send("word", {"n": number}, queue=True)
    await settled(driver)
    server.gate.set()
    peer = await server.accept()
    await peer.receive("wsrt.resume")
    await peer.hello()
    frames = [await peer.receive() for _ in range(5)]
    assert [(frame["event"], frame["data"]["n"]) for frame in frames] == [
        ("mark", 2),
        ("dot", 2),
        ("word", 0),
        ("word", 1),
        ("word", 2),
    ]


async def test_volatile(driver: Driver, server: ScriptedServer) -> None:
    """While the socket takes no more, only the latest volatile event of a key waits."""
    peer = await opened(driver, server, buffer_bytes=100_000)
    peer.ws.transport.pause_reading()
    for number in range(400):
        driver.send("bulk", {"n": number, "text": "x" * 50_000})
    for number in range(50):
        driver.send("mark", {"n": number}, volatile="mark")
    await driver.until("sent", event="mark", result="queued")
    await asyncio.sleep(0.5)
    peer.ws.transport.resume_reading()
    driver.send("last")
    seen = []
    while not seen or seen[-1] != 49:
        seen.append((await peer.receive("mark"))["data"]["n"])
    assert len(seen) < 5


async def test_queue_of_a_congested_socket(driver: Driver, server: ScriptedServer) -> None:
    """What waits for room in the socket, and may be queued, outlives the connection; what was written does not."""
    peer = await opened(driver, server, buffer_bytes=100_000, queue_bytes=1_000_000)
    peer.freeze()
    for number in range(400):
        driver.send("bulk", {"n": number, "text": "x" * 50_000})
    for number in range(3):
        driver.send("kept", {"n": number}, queue=True)
        driver.send("mark", {"n": number}, queue=True, volatile="k")
        driver.send("gone", {"n": number}, volatile="k")
    driver.send("gone")
    driver.request("r", "asked", queue=True)
    await settled(driver)
    await driver.until("sent", event="mark", result="queued")
    peer.drop()
    peer = await server.greet()
    frames = [await peer.receive() for _ in range(5)]
    seen = [(frame["event"], frame["data"].get("n")) for frame in frames]
    assert sorted(seen, key=str) == [("asked", None), ("kept", 0), ("kept", 1), ("kept", 2), ("mark", 2)]
    assert [n for event, n in seen if event == "kept"] == [0, 1, 2]
    [ref] = [frame["ref"] for frame in frames if frame["event"] == "asked"]
    await peer.send("wsrt.ok", ref=ref)
    assert (await driver.reply("r")).get("error") is None
    await peer.receive_nothing()


# Events.


async def test_events(driver: Driver, server: ScriptedServer) -> None:
    """Events come in their order, with their room."""
    peer = await opened(driver, server)
    for number in range(100):
        await peer.send("news", {"n": number}, room="lobby")
    lines = [await driver.until("event") for _ in range(100)]
    assert [line["data"]["n"] for line in lines] == list(range(100))
    assert {line["room"] for line in lines} == {"lobby"}


@pytest.mark.parametrize(
    "text",
    [
        '{"event": "wsrt.unheard-of", "data": {"a": 1}}',
        '{"event": "unheard.of", "data": {"a": 1}, "more": true}',
        '{"event": "constructor", "data": {"__proto__": {"polluted": true}}, "room": "__proto__"}',
        '{"event": "wsrt.ok", "data": {}, "ref": "never-asked"}',
        '{"event": "answer", "data": {}, "ref": 17}',
        '{"event": "wsrt.error", "data": {"code": "unknown_event", "message": "Unknown event", "errors": []}}',
        "no json",
        "[1, 2]",
        '{"data": {}}',
        '{"event": "wsrt.joined", "data": {}}',
        '{"event": "wsrt.presence", "data": {"room": "x", "members": 5}}',
        '{"event": "wsrt.closing", "data": {}}',
        '{"event": "wsrt.hello", "data": {}}',
    ],
)
async def test_what_it_does_not_know(driver: Driver, server: ScriptedServer, text: str) -> None:
    """A client ignores what it does not know, and goes on."""
    peer = await opened(driver, server)
    await peer.send_text(text)
    await peer.send("news", {"n": 1})
    assert (await driver.until("event", event="news"))["data"] == {"n": 1}
    assert len(server.handshakes) == 1
    assert driver.all("state")[-1]["state"] == "open"


async def test_outdated(driver: Driver, server: ScriptedServer) -> None:
    """A client of another schema says that it is outdated, and comes back after 1007 and 1008."""
    driver.connect(server.url, **FAST, schema_hash="of another day")
    for code in (1007, 1008, 4007, 4008):
        peer = await server.greet()
        assert (await driver.state("open"))["outdated"] is True
        await peer.close(code)
    await server.greet(schema="of another day")
    assert (await driver.state("open"))["outdated"] is False


async def test_hello_without_schema(driver: Driver, server: ScriptedServer) -> None:
    """A server that says nothing of its schema makes no client outdated."""
    driver.connect(server.url, **FAST, schema_hash="of another day")
    peer = await server.accept()
    await peer.receive("wsrt.resume")
    await peer.send("wsrt.hello", {key: value for key, value in HELLO.items() if key != "schema"})
    assert (await driver.state("open"))["outdated"] is False
    await peer.close(1008, "Unknown event")
    await driver.state("closed")


async def test_not_outdated(driver: Driver, server: ScriptedServer) -> None:
    """A client of this schema does not come back after 1008."""
    peer = await opened(driver, server, schema_hash=HELLO["schema"])
    assert driver.all("state")[-1]["outdated"] is False
    await peer.close(1008, "Unknown event")
    await driver.state("closed")


# Rooms.


async def resumed(driver: Driver, server: ScriptedServer, peer: Peer) -> tuple[Peer, Any]:
    """Lose the connection; return the next one and what it claims."""
    peer.drop()
    peer = await server.accept()
    claim = (await peer.receive("wsrt.resume"))["data"]
    await peer.hello()
    await driver.state("open")
    return peer, claim


async def test_positions(driver: Driver, server: ScriptedServer) -> None:
    """Positions are those of the last publications; the next connection claims them, but for rooms that were left."""
    peer = await opened(driver, server)
    await peer.send("wsrt.joined", {"room": "a", "epoch": "e1", "offset": 5})
    await peer.send("wsrt.joined", {"room": "b", "epoch": "e2", "offset": 9})
    await peer.send("wsrt.joined", {"room": "plain"})
    await peer.send("wsrt.joined", {"room": "__proto__", "epoch": "e3", "offset": 1})
    for offset in (6, 7):
        await peer.send("news", {"n": offset}, room="a", epoch="e1", offset=offset)
    await peer.send("wsrt.left", {"room": "b"})
    await driver.until("room", room="b", joined=False)
    driver.do("rooms")
    rooms = (await driver.until("rooms"))["rooms"]
    assert rooms["a"] == {"joined": True, "epoch": "e1", "offset": 7}
    assert rooms["plain"] == {"joined": True, "epoch": None, "offset": None}
    peer, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 7], "__proto__": ["e3", 1]}
    driver.do("rooms")
    assert (await driver.until("rooms"))["rooms"]["a"] == {"joined": False, "epoch": "e1", "offset": 7}


async def test_duplicates(driver: Driver, server: ScriptedServer) -> None:
    """A publication is delivered once; another epoch starts over."""
    peer = await opened(driver, server)
    await peer.send("wsrt.joined", {"room": "a", "epoch": "e1", "offset": 5})
    for epoch, offset in [("e1", 5), ("e1", 6), ("e1", 6), ("e1", 4), ("e1", 8), ("e2", 1), ("e2", 1), ("e2", 2)]:
        await peer.send("news", {"at": f"{epoch} {offset}"}, room="a", epoch=epoch, offset=offset)
    await peer.send("news", {"at": "other"}, room="b", epoch="e1", offset=1)
    await driver.until("event", data={"at": "other"})
    told = [line["data"]["at"] for line in driver.all("event")]
    assert told == ["e1 6", "e1 8", "e2 1", "e2 2", "other"]


async def test_recovered(driver: Driver, server: ScriptedServer) -> None:
    """What was missed follows wsrt.joined; the position moves with it, not ahead of it."""
    peer = await opened(driver, server)
    await peer.send("wsrt.joined", {"room": "a", "epoch": "e1", "offset": 5})
    await driver.until("room", room="a")
    peer, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 5]}
    await peer.send("wsrt.joined", {"room": "a", "epoch": "e1", "offset": 8, "recovered": True, "count": 3})
    await driver.until("room", room="a", joined=True, recovered=True)
    for offset in (6, 7, 8):
        await peer.send("news", {"n": offset}, room="a", epoch="e1", offset=offset)
    lines = [await driver.until("event") for _ in range(3)]
    assert [line["data"]["n"] for line in lines] == [6, 7, 8]


async def test_not_recovered(driver: Driver, server: ScriptedServer) -> None:
    """Where what was missed does not follow, the client is told why, and begins at the new position."""
    peer = await opened(driver, server)
    await peer.send("wsrt.joined", {"room": "a", "epoch": "e1", "offset": 5})
    await driver.until("room", room="a")
    peer, _ = await resumed(driver, server, peer)
    data = {"room": "a", "epoch": "e2", "offset": 2, "recovered": False, "reason": "epoch"}
    await peer.send("wsrt.joined", data)
    line = await driver.until("room", room="a", recovered=False)
    assert (line["reason"], line["epoch"], line["offset"]) == ("epoch", "e2", 2)
    _, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e2", 2]}


def member(user: str | None, connections: int = 1, data: Any = None) -> dict[str, Any]:
    return {"user_id": user, "connections": connections, "data": data}


async def test_presence(driver: Driver, server: ScriptedServer) -> None:
    """Who is in a room is a list that differences change, or a count; each connection of a guest counts."""
    peer = await opened(driver, server)
    await peer.send("wsrt.joined", {"room": "a"})

    async def told(**data: Any) -> tuple[Any, int]:
        await peer.send("wsrt.presence", {"room": "a", **data})
        line = await driver.until("presence", room="a")
        return line["members"], line["count"]

    ada, bob, guests = member("ada", 2, {"name": "Ada"}), member("bob"), member(None, 3)
    assert await told(version=1, members=[bob, guests]) == ([guests, bob], 4)
    assert await told(version=2, joined=[ada]) == ([guests, ada, bob], 5)
    proto = member("__proto__", 1, {"__proto__": {"polluted": True}})
    assert await told(version=3, left=[bob], joined=[proto], changed=[member(None, 1)]) == (
        [member(None, 1), proto, ada],
        3,
    )
    assert await told(version=4, count=2000) == (None, 2000)
    assert await told(version=5, members=[ada]) == ([ada], 1)


# Pages.


@pytest_asyncio.fixture
async def page(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    """A client that lives in a page."""
    async with Driver(request.param) as driver:
        yield driver


async def test_no_page(driver: Driver, server: ScriptedServer) -> None:
    """A client without a page says so."""
    await opened(driver, server)
    driver.do("page", event="hidden")
    await settled(driver)
    assert len(driver.all("unsupported")) == (0 if driver.kind.has_page else 1)


async def test_page_offline(page: Driver, server: ScriptedServer) -> None:
    """A page that is offline gives its socket up and waits; back online it dials soon."""
    await opened(page, server, min_ms=60_000)
    page.do("page", event="offline")
    assert (await page.state("waiting"))["reason"]["kind"] == "offline"
    page.do("page", event="online")
    await server.greet(3)
    await page.state("open")
    assert server.most_open == 1


@pytest.mark.parametrize("event", ["online", "visible", "pageshow", "resume"])
async def test_page_is_back_while_waiting(page: Driver, server: ScriptedServer, event: str) -> None:
    """A page that is back dials at once where it waits."""
    peer = await opened(page, server, min_ms=60_000)
    await peer.close(1011)
    await page.until("dial")
    page.do("page", event=event)
    await server.greet(3)
    await page.state("open")


@pytest.mark.parametrize("event", ["visible", "pageshow", "resume", "online"])
async def test_frozen_tab(page: Driver, server: ScriptedServer, event: str) -> None:
    """A page that was frozen asks whether the link is alive; without an answer it opens another one."""
    page.connect(server.url, **FAST, probe_ms=300)
    peer = await server.greet(heartbeat=0.2, heartbeat_timeout=30)
    await page.state("open")
    await asyncio.sleep(0.4)
    page.do("page", event=event)
    await peer.receive("wsrt.ping")
    await peer.send("wsrt.pong")
    await asyncio.sleep(0.5)
    assert len(server.handshakes) == 1
    page.do("page", event=event)
    await peer.receive("wsrt.ping")
    assert (await page.state("waiting"))["reason"]["kind"] == "dead"
    await server.greet()


async def test_pagehide(page: Driver, server: ScriptedServer) -> None:
    """A page that is left says goodbye, and nothing is dialed until it is back."""
    peer = await opened(page, server)
    page.do("page", event="pagehide")
    await peer.left()
    assert (await page.state("waiting"))["reason"]["kind"] == "page"
    await server.no_client(0.4)
    page.do("page", event="pageshow")
    await server.greet()
    await page.state("open")


async def test_hidden_for_long(page: Driver, server: ScriptedServer) -> None:
    """A page that is hidden for long doesn't reconnect."""
    peer = await opened(page, server, hidden_after_ms=200)
    page.do("page", event="hidden")
    await asyncio.sleep(0.4)
    await peer.close(1011)
    await page.state("waiting")
    await server.no_client(0.4)
    page.do("page", event="visible")
    await server.greet()
    await page.state("open")


# Crowds.


@pytest.mark.parametrize("client", ["python", "typescript"])
def test_jitter_at_the_cap(client: str) -> None:
    """Of 10,000 clients that have been away for long, equally many come back in each second of the window."""
    typescript_driver()  # builds it
    delays = at_the_cap(client)
    counts = spread(delays)
    note("Clients a bucket at the cap", f"{client}: {min(counts)} to {max(counts)}, mean {sum(counts) / len(counts):g}")
    assert len(delays) == 10_000
    assert min(delays) >= 0.2
    assert max(delays) <= 20.2
    assert max(counts) < 1.2 * sum(counts) / len(counts)
    assert min(counts) > 0.8 * sum(counts) / len(counts)


def test_jitter_before_the_cap() -> None:
    """Jitter that is applied before the cap, as elsewhere, brings the whole crowd back at once."""
    assert max(spread(at_the_cap("jitter before the cap"))) > 9_900


def test_the_oracle() -> None:
    """The table of the codes above has every kind of policy."""
    kinds = {close_codes.reconnect_for(code, reason) for code, reason in [*ROWS, *STOCK_DAPHNE, *OUTSIDE]}
    assert kinds == set(Reconnect)
