"""The short form on real servers: Django's application serves pages, and consumers with a path serve WebSockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.servers.conftest import WITH_RUNTIME, marks_of
from tests.support.client import closed, dial, request
from tests.support.commands import run
from tests.support.processes import ROOT, Server

pytestmark = pytest.mark.servers

SETTINGS = "tests.apps.routed.settings"

MAKE_SESSION = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

user = User.objects.create_user("ada")
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session["visits"] = 7
session.save()
print("key:", session.session_key)
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("routes") / "db.sqlite3"
    environment = {"DJANGO_SETTINGS_MODULE": SETTINGS, "WSRT_TEST_DB": str(path)}
    run(ROOT, "-m", "django", "migrate", "--verbosity", "0", **environment)
    said = run(ROOT, "-m", "django", "shell", "--verbosity", "0", "-c", MAKE_SESSION, **environment)
    path.with_name("session").write_text(said.partition("key: ")[2].strip())
    return path


def serve(kind: str, application: str, database: Path) -> Server:
    environment = {"DJANGO_SETTINGS_MODULE": SETTINGS, "WSRT_TEST_DB": str(database)}
    return Server(kind, application=f"tests.apps.routed.asgi:{application}", environment=environment, measured=True)


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=marks_of(kind)) for kind in WITH_RUNTIME])
def server(request: pytest.FixtureRequest, database: Path) -> Iterator[Server]:
    with serve(request.param, "application", database) as running:
        yield running


async def ask(server: Server, path: str, **headers: str) -> dict[str, Any]:
    ws = await dial(server.url(path), additional_headers=headers)
    data: dict[str, Any] = (await request(ws, "ask"))["data"]
    return data


async def test_pages(server: Server) -> None:
    """HTTP is served by Django, and so is what only its middleware does."""
    assert server.get("/") == "Yes"


@pytest.mark.parametrize(
    ("path", "consumer", "kwargs"),
    [("/ws/lobby/", "LobbyConsumer", {}), ("/ws/garden/?a=b", "RoomConsumer", {"room": "garden"})],
)
async def test_path(server: Server, path: str, consumer: str, kwargs: dict[str, str]) -> None:
    """A path leads to its consumer; the connection is that of a guest in the language of the settings."""
    expected = {"consumer": consumer, "kwargs": kwargs, "user": "", "visits": 0, "language": "Yes", "marks": []}
    assert await ask(server, path) == expected


async def test_session(server: Server, database: Path) -> None:
    """The session and its user are those of the cookie."""
    key = database.with_name("session").read_text()
    said = await ask(server, "/ws/garden/", Cookie=f"sessionid={key}")
    assert (said["user"], said["visits"]) == ("ada", 7)


@pytest.mark.parametrize("path", ["/ws/garden/", "/ws/lobby/"], ids=["async", "thread"])
@pytest.mark.parametrize(
    "headers",
    [{"Accept-Language": "de-AT, en;q=0.5"}, {"Cookie": "django_language=de", "Accept-Language": "en"}],
    ids=["header", "cookie"],
)
async def test_language(server: Server, path: str, headers: dict[str, str]) -> None:
    """The language is that of the cookie, else of the header, as on pages, and of no other connection."""
    assert (await ask(server, path, **headers))["language"] == "Ja"
    assert (await ask(server, path))["language"] == "Yes"


async def test_origin(server: Server) -> None:
    """A page of another site is refused."""
    with pytest.raises(InvalidStatus) as refused:
        await dial(server.url("/ws/lobby/"), origin="https://evil.example")
    assert refused.value.response.status_code == 403


async def test_admin(server: Server) -> None:
    """The socket of the admin's pages has its route; it refuses guests."""
    ws = await dial(server.url("/ws/wsrt/admin/"))
    assert (await closed(ws))[0] == 4401


async def test_no_route(server: Server) -> None:
    """A path without a route is refused without an error in the log, which says once what to change."""
    for path in ("/ws/garden", "/ws/garden", "/nowhere/"):
        if server.kind == "daphne":  # can't answer a handshake with an HTTP response
            assert await closed(await dial(server.url(path))) == (4404, "No WebSocket route matches")
        else:
            with pytest.raises(InvalidStatus) as refused:
                await dial(server.url(path))
            assert refused.value.response.status_code == 404
            assert refused.value.response.body == b"No WebSocket route matches"
    log = server.log()
    assert log.count("no WebSocket route matches '/ws/garden': add a slash at the end: '/ws/garden/'") == 1
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def long_form(database: Path) -> Iterator[Server]:
    with serve("uvicorn-sansio", "mixed", database) as running:
        yield running


async def test_mixed(long_form: Server) -> None:
    """The long form takes the routes of consumers into its own list, and answers other paths alike."""
    assert (await ask(long_form, "/ws/own/garden/"))["consumer"] == "RoomConsumer"
    assert (await ask(long_form, "/ws/lobby/"))["consumer"] == "LobbyConsumer"
    with pytest.raises(InvalidStatus) as refused:
        await dial(long_form.url("/ws/own/garden"))
    assert refused.value.response.status_code == 404
    assert "add a slash at the end" in long_form.log()
    assert "Traceback" not in long_form.log()


async def test_without_websockets(database: Path) -> None:
    """A router without WebSockets answers them 404, and says what to do."""
    with serve("uvicorn-sansio", "without_websockets", database) as server:
        with pytest.raises(InvalidStatus) as refused:
            await dial(server.url("/ws/lobby/"))
        assert refused.value.response.status_code == 404
        assert "no consumer has a route; is there one with a path" in server.log()


async def test_middleware(database: Path) -> None:
    """Middleware of one's own runs in order, below the session and the user."""
    key = database.with_name("session").read_text()
    with serve("uvicorn-sansio", "with_middleware", database) as server:
        said = await ask(server, "/ws/lobby/", Cookie=f"sessionid={key}")
        assert said["marks"] == ["outer of ada", "inner"]
