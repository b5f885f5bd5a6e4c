"""Tickets on two servers and one Redis: the full way of one, everything that is refused, and what is logged of it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.browser import chromium
from tests.support.client import closed, dial, request
from tests.support.commands import run
from tests.support.processes import ROOT, RedisServer, Server
from tests.support.redis import say
from tests.support.waiting import aeventually
from wsrt.tickets import _key_of

pytestmark = pytest.mark.servers

CSRF = "a" * 32
EXPIRED = (4401, "Credentials expired")

MAKE_SESSIONS = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

for name in ("ada", "ada", "eve"):
    user, _ = User.objects.get_or_create(username=name)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    print("key:", session.session_key)
"""


class Site:
    """Two servers, and the keys of three sessions: two of ada, one of eve."""

    def __init__(self, servers: list[Server], sessions: list[str], redis: RedisServer) -> None:
        self.servers = servers
        self.here, self.elsewhere, self.eve = sessions
        self.redis = redis
        self.issued: list[str] = []

    async def issue(self, session: str, path: str = "/desk/", server: int = 0) -> str:
        """Return a ticket, from a POST request in a session."""
        headers = {"Cookie": f"sessionid={session}; csrftoken={CSRF}", "X-CSRFToken": CSRF}
        url = f"http://127.0.0.1:{self.servers[server].port}/ticket/"
        post = urllib.request.Request(url, f"path={path}".encode(), headers)

        def ask() -> str:
            with urllib.request.urlopen(post, timeout=30) as answer:
                assert "no-store" in answer.headers["Cache-Control"]
                return str(json.load(answer)["ticket"])

        ticket = await asyncio.to_thread(ask)
        self.issued.append(ticket)
        return ticket

    async def dial(self, ticket: str, session: str | None, path: str = "/desk/", server: int = 1) -> ClientConnection:
        headers = {} if session is None else {"Cookie": f"sessionid={session}"}
        offered = ["wsrt.v1", f"ticket.{ticket}"]
        return await dial(self.servers[server].url(path), subprotocols=offered, additional_headers=headers)

    def refused(self) -> int:
        return sum(int(server.stats()["counts"].get("tickets_refused", 0)) for server in self.servers)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    database = str(tmp_path_factory.mktemp("tickets") / "db.sqlite3")
    with RedisServer() as redis:
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "WSRT_TEST_DB": database,
            "WSRT_TEST_CACHES": json.dumps(
                {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis.url}}
            ),
        }
        run(ROOT, "-m", "django", "migrate", "--verbosity", "0", **environment)
        said = run(ROOT, "-m", "django", "shell", "--verbosity", "0", "-c", MAKE_SESSIONS, **environment)
        sessions = [line.removeprefix("key: ") for line in said.splitlines() if line.startswith("key: ")]
        options: dict[str, Any] = {
            "application": "tests.apps.ticketed:application",
            "wsrt": {"TENANT": "tests.apps.ticketed.tenant_of_pages", "TICKET_SECONDS": 60},
            "environment": environment,
            "measured": True,
        }
        with Server("daphne", **options) as daphne, Server("uvicorn", **options) as uvicorn:
            yield Site([daphne, uvicorn], sessions, redis)


async def test_full_way(site: Site) -> None:
    """A ticket that one process issued lets its user in at another, once."""
    ticket = await site.issue(site.here)
    ws = await site.dial(ticket, site.here)
    assert ws.subprotocol == "wsrt.v1"
    assert (await request(ws, "ask"))["data"] == {"user": "ada", "tenant": "red"}
    before = site.refused()
    for server in (0, 1):
        assert await closed(await site.dial(ticket, site.here, server=server)) == EXPIRED
    assert site.refused() == before + 2


@pytest.mark.parametrize("server", [0, 1], ids=["daphne", "uvicorn"])
async def test_refused(site: Site, server: int) -> None:
    """A ticket of another user, session, path or tenant, and one that is forged or has expired, lets nobody in."""
    before = site.refused()
    issue, here = site.issue, site.here
    for ticket, session, path in (
        (await issue(here), site.eve, "/desk/"),
        (await issue(here), site.elsewhere, "/desk/"),
        (await issue(here), None, "/desk/"),
        (await issue(here), here, "/other/"),
        (await issue(here), here, "/desk/?tenant=blue"),
        ((await issue(here))[:-6] + "forged", here, "/desk/"),
    ):
        assert await closed(await site.dial(ticket, session, path, server)) == EXPIRED
        assert await closed(await site.dial(ticket, here, server=server)) == EXPIRED  # it is used up
    late = await issue(here)
    key = f":1:{_key_of(late)}"
    assert 0 < int(say(site.redis.port, f"TTL {key}").strip(":\r\n")) <= 60
    assert say(site.redis.port, f"PEXPIRE {key} 1") == ":1\r\n"
    await aeventually(lambda: say(site.redis.port, f"EXISTS {key}") == ":0\r\n")
    assert await closed(await site.dial(late, here, server=server)) == EXPIRED
    assert site.refused() == before + 13
    ws = await site.dial(await issue(here), here, server=server)
    assert (await request(ws, "ask"))["data"]["user"] == "ada"


async def test_raced(site: Site) -> None:
    """Of handshakes that present one ticket to two processes at once, one is let in."""
    for _ in range(20):
        ticket = await site.issue(site.here)
        both = await asyncio.gather(*(site.dial(ticket, site.here, server=server) for server in (0, 1, 0, 1)))
        frames = await asyncio.gather(*(ws.recv() for ws in both), return_exceptions=True)
        assert sum(not isinstance(frame, BaseException) for frame in frames) == 1


PAGE = """
import { Client } from "/client.js";
window.client = new Client("/desk/", { ticketUrl: "/ticket/" });
await client.connect();
"""


@pytest.mark.browser
def test_in_chromium(site: Site) -> None:
    """A page gets a ticket for each connection, and lets no URL have it."""
    server = site.servers[1]
    host = f"http://127.0.0.1:{server.port}"
    with chromium() as browser:
        context = browser.new_context()
        cookies = {"sessionid": site.here, "csrftoken": CSRF}
        context.add_cookies([{"name": name, "value": value, "url": host} for name, value in cookies.items()])
        page = context.new_page()
        tickets: list[str] = []
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.on("websocket", lambda socket: urls.append(socket.url))
        page.on("response", lambda answer: answer.url.endswith("/ticket/") and tickets.append(answer.json()["ticket"]))
        script = (ROOT / "wsrt/static/wsrt/client.js").read_text()
        page.route("**/client.js", lambda route: route.fulfill(content_type="text/javascript", body=script))
        page.goto(f"{host}/stats/")
        page.add_script_tag(type="module", content=PAGE)
        for number in (1, 2):
            page.wait_for_function("window.client?.state === 'open'")
            assert page.evaluate("client.request('ask')") == {"user": "ada", "tenant": "red"}
            assert len(set(tickets)) == number
            assert urls.count(f"ws://127.0.0.1:{server.port}/desk/") == number
            page.evaluate("client.close(); void client.connect()")
        assert not [url for url in urls if any(ticket in url for ticket in tickets)]
        site.issued += tickets
        context.clear_cookies(name="sessionid")
        page.evaluate("client.close(); client.connect().catch(() => null)")
        page.wait_for_function("client.state === 'closed'")
        assert page.evaluate("client.status.reason.text") == "no ticket: the server answered 401"


async def test_nothing_is_logged(site: Site) -> None:
    """Neither log has a ticket or the key of a session."""
    ticket = await site.issue(site.here)
    assert await closed(await site.dial(ticket, site.eve)) == EXPIRED
    logs = "".join(server.log() for server in site.servers)
    assert "no valid ticket for DeskConsumer: " in logs
    secrets = [*site.issued, site.here, site.elsewhere, site.eve]
    assert not [secret for secret in secrets if secret in logs]
