"""The demo as the recipes' tests run it: its servers, its database, and the people who use it."""

from __future__ import annotations

import http.cookiejar
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from websockets.asyncio.client import ClientConnection

from tests.support import commands
from tests.support.client import dial
from tests.support.ports import free_port
from tests.support.processes import ROOT, SERVERS, Process, is_listening

RUNSERVER = [str(ROOT / "manage.py"), "runserver", "--noreload", "127.0.0.1:{port}"]


def environment(database: Path, redis: str = "") -> dict[str, str]:
    """
    Return the environment of a process of the demo.

    Args:
        database: The file of the database.
        redis: The URL of the Redis server of the channel layer, the presence and the Celery broker. Empty for none.
    """
    return {
        "DEMO_DB": str(database),
        "DJANGO_SETTINGS_MODULE": "demo_project.settings",
        **({"REDIS_URL": redis, "CELERY_BROKER_URL": redis} if redis else {}),
    }


def create_database(path: Path) -> None:
    """Create the demo's database, with its users."""
    for command in (["migrate", "--verbosity", "0"], ["seed_demo"]):
        commands.manage(*command, **environment(path))


def shell(code: str, variables: dict[str, str]) -> str:
    """Run code in the demo's shell, in a process of its own, and return its output."""
    return commands.manage("shell", "--verbosity", "0", "--command", code, **variables)


class Site(Process):
    """
    One server process of the demo.

    Args:
        variables: Its environment, see environment().
        server: One of tests.support.processes.SERVERS; None for the demo's runserver, which also serves static files.
    """

    def __init__(self, variables: dict[str, str], server: str | None = None) -> None:
        self.port = free_port()
        command = RUNSERVER if server is None else [*SERVERS[server], "demo_project.asgi:application"]
        super().__init__([sys.executable, *(part.format(port=self.port) for part in command)], variables)

    def wait_until_ready(self) -> None:
        self._until(lambda: is_listening(self.port), "the demo")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Person:
    """
    A signed-in user of the demo, with a browser's cookies.

    Args:
        site: The server that the user talks to.
        name: The name of one of the demo's users, such as "Ada".
    """

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        self.post("/sign-in/", user=name)

    def get(self, path: str) -> str:
        """Return the text of a page."""
        with self._opener.open(self.site.url + path, timeout=30) as response:
            return str(response.read().decode())

    def post(self, path: str, page: str | None = None, **fields: str) -> str:
        """
        Submit a form and return the text of the page that follows.

        Args:
            path: The path that the form is sent to.
            page: The path of the page with the form, if it is another one.
            fields: The fields of the form.
        """
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', self.get(page or path))
        assert token
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        with self._opener.open(self.site.url + path, body, timeout=30) as response:
            return str(response.read().decode())

    async def dial(self, path: str, *, extended: bool = False) -> ClientConnection:
        """Open a socket with the user's session; ``extended`` offers the subprotocol."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        url = f"ws://127.0.0.1:{self.site.port}{path}"
        return await dial(url, extended=extended, additional_headers={"Cookie": cookies})
