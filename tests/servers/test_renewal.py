"""Tokens on real servers: renewals under a stream of publications, expiry, and hostile first frames."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from tests.clients.drivers import OURS, Driver
from tests.clients.toolchain import STATIC, build
from tests.support.browser import chromium
from tests.support.client import closed, dial, request, send
from tests.support.processes import RedisServer, Server
from tests.support.waiting import aeventually
from tests.test_docs import modules_of

pytestmark = pytest.mark.servers

RENEWALS = 10
LIFE = 3.0
"""The life of a token, in seconds. Clients renew it after half of that."""

SECONDS = 60.0


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with RedisServer() as redis:
        options = {"application": "tests.apps.tokens:application", "layer": "pubsub", "redis": redis.url}
        wsrt = {"SETUP_TIMEOUT": 2}
        with (
            Server("daphne", **options, wsrt=wsrt, measured=True) as daphne,
            Server("uvicorn", **options, wsrt=wsrt, measured=True) as uvicorn,
        ):
            yield {"daphne": daphne, "uvicorn": uvicorn}


def token(user: str = "ada", seconds: float = LIFE) -> str:
    return f"{user}.{int((time.time() + seconds) * 1000)}"


def counts(server: Server, name: str) -> int:
    return int(server.stats()["counts"].get(name, 0))


async def listen(driver: Driver, server: Server, bearer: str) -> None:
    """Renew the token of a client again and again, and check that it misses nothing."""
    driver.do("token", value=token())
    driver.connect(
        server.url("/listen/"),
        get_token=True,
        login_event="login",
        bearer=bearer,
        random=1,
        min_ms=10,
        base_ms=50,
    )
    for _ in range(RENEWALS + 1):
        # The function for tokens is called, and answered by the token that is made at that time.
        await driver.until("token", SECONDS)
        driver.do("token", value=token())
    assert [line["state"] for line in driver.all("state")] == ["connecting", "open"]
    numbers = [line["data"]["number"] for line in driver.all("event")]
    # 50 a second, without a gap, over several lives of a token.
    assert len(numbers) > 100
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize(("ours", "bearer"), [("daphne", "subprotocol"), ("uvicorn", "frame")])
async def test_renewals_under_a_stream(servers: dict[str, Server], ours: str, bearer: str) -> None:
    """Ten renewals of a token leave no gap in the publications of a room, which another process makes."""
    await asyncio.to_thread(build)
    other = next(server for kind, server in servers.items() if kind != ours)
    publisher = await dial(other.url("/publish/"))
    await send(publisher, "publish", every=0.02)
    async with Driver(OURS[0]) as python, Driver(OURS[1]) as typescript:
        async with asyncio.TaskGroup() as group:
            for driver in (python, typescript):
                group.create_task(listen(driver, servers[ours], bearer))
        before = counts(servers[ours], "credentials_expired")
        for driver in (python, typescript):
            # Renewed for the last time; the next call of the function waits for a token in vain.
            assert not driver.all("error")
            reason = (await driver.state("waiting", SECONDS))["reason"]
            assert reason == {"kind": "server", "code": 4401, "text": "Credentials expired"}
            driver.do("token", value=token(seconds=600))
            await driver.state("open", SECONDS)
        assert counts(servers[ours], "credentials_expired") == before + 2


PAGE = """
import { Client } from "/client.js";
window.numbers = []; window.states = []; window.tokens = 0;
const getToken = () => { window.tokens += 1; return `ada.${Date.now() + 3000}`; };
window.client = new Client("/listen/", { getToken, loginEvent: "login", environment: { random: () => 1 } });
client.onState(({ state }) => states.push(state));
client.on("tick", ({ number }) => numbers.push(number));
await client.connect();
"""


@pytest.mark.browser
def test_renewals_in_chromium(servers: dict[str, Server]) -> None:
    """A page renews its token ten times under a stream, and misses nothing."""
    with chromium() as browser:
        page = browser.new_context().new_page()
        page.route("**/client.js", lambda route: route.fulfill(content_type="text/javascript", body=STATIC.read_text()))
        page.goto(f"http://127.0.0.1:{servers['uvicorn'].port}/stats/")
        page.add_script_tag(type="module", content=PAGE)
        page.wait_for_function("window.client?.rooms.get('stream')?.joined")
        page.evaluate(
            """([url, frame]) => {
                window.publisher = new WebSocket(url);
                publisher.onopen = () => publisher.send(frame);
            }""",
            [servers["uvicorn"].url("/publish/"), json.dumps({"event": "publish", "data": {"every": 0.02}})],
        )
        page.wait_for_function(f"tokens > {RENEWALS}", timeout=SECONDS * 1000)
        assert page.evaluate("states") == ["connecting", "open"]
        numbers = page.evaluate("numbers")
        assert len(numbers) > 100
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        page.context.close()


async def test_native_app(servers: dict[str, Server]) -> None:
    """The native app of the page about tokens logs in by the header."""
    with modules_of("howto/tokens.md") as made:
        for server in servers.values():
            answer = await asyncio.to_thread(made.native_app.ask, server.url("/listen/"), token())
            assert json.loads(answer) == {"event": "you", "data": {"username": "ada"}, "ref": "1"}


HOSTILE = [
    ('{"event":"login","data":{"token":"' + "x" * 8192 + '"}}', (1009, "Message too large")),
    (b"\xff\xfe\x00", (1007, "Invalid message payload")),
    ("[" * 8000, (1007, "Invalid message payload")),
    ('{"event":"tick","data":{"number":1}}', (4401, "Unauthenticated")),
    ('{"event":"wsrt.ping"}', (4401, "Unauthenticated")),
    ('{"event":"login","data":{"token":"nobody.0"}}', (4401, "Unauthenticated")),
    ('{"event":"login","data":{"token":"ada.0"}}', (4401, "Credentials expired")),
    ('{"event":"login","data":{}}', (1007, "Invalid event data")),
]


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_hostile_first_frames(servers: dict[str, Server], kind: str) -> None:
    """Each first frame that doesn't log in ends its connection as the table says, and is counted."""
    server = servers[kind]
    before = counts(server, "logins_refused")
    for extended in (False, True):
        for frame, close in HOSTILE:
            ws = await dial(server.url("/listen/"), extended=extended)
            await ws.send(frame)
            assert await closed(ws) == close, frame
    # The token that had expired was no refused login.
    assert counts(server, "logins_refused") == before + 2 * (len(HOSTILE) - 1)


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_slow_and_second_logins(servers: dict[str, Server], kind: str) -> None:
    """A client that doesn't log in is closed by the deadline; one that logs in twice renews."""
    server = servers[kind]
    before = counts(server, "setup_timeouts")
    idle = await dial(server.url("/listen/"))
    twice = await dial(server.url("/listen/"))
    for ref, seconds in enumerate((60, 600)):
        await send(twice, "login", ref=ref, token=token(seconds=seconds))
    answer = await request(twice, "login", token=token(seconds=6000))
    assert 5000 < answer["data"]["expires_in"] <= 6000
    assert await closed(idle) == (4408, "Connection setup timeout")
    await aeventually(lambda: counts(server, "setup_timeouts") == before + 1, "the count of the slow client")
    await send(twice, "login", token=token("eve"))
    assert await closed(twice) == (4401, "Unauthenticated")
