"""``manage.py wsrt_routes``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.management import CommandError, call_command
from django.urls import path

from tests.support.commands import run
from tests.support.processes import ROOT
from wsrt import TypedEventConsumer

SHORT = "tests.apps.routed.settings"
STACK = ["CookieMiddleware", "SessionMiddleware", "AuthMiddleware"]


def routes(*arguments: str, settings: str = SHORT) -> str:
    return run(ROOT, "-m", "django", "wsrt_routes", *arguments, DJANGO_SETTINGS_MODULE=settings)


def test_table() -> None:
    """Each route has a line with its consumer, namespace and events; the middleware that they share has one line."""
    lines = [line.split() for line in routes().splitlines()]
    assert lines[0] == ["path", "consumer", "namespace", "receives", "sends"]
    consumers = "tests.apps.routed.consumers"
    assert ["/ws/lobby/", f"{consumers}.LobbyConsumer", "routed", "ask", "said"] in lines
    assert ["/ws/{room}/", f"{consumers}.RoomConsumer", "routed", "ask", "said"] in lines
    assert lines[-1] == [
        "Middleware:",
        "CookieMiddleware,",
        "SessionMiddleware,",
        "AuthMiddleware,",
        "LanguageMiddleware",
    ]


def test_json() -> None:
    """As JSON, each route is an object."""
    found = {entry["path"]: entry for entry in json.loads(routes("--json"))}
    assert set(found) == {"/ws/lobby/", "/ws/{room}/", "/ws/wsrt/admin/"}
    assert found["/ws/{room}/"] == {
        "path": "/ws/{room}/",
        "consumer": "tests.apps.routed.consumers.RoomConsumer",
        "namespace": "routed",
        "receives": ["ask"],
        "sends": ["said"],
        "middleware": [*STACK, "LanguageMiddleware"],
    }


def test_routers_of_a_project() -> None:
    """Routers of the project are followed, also to consumers of Channels."""
    found = {entry["path"]: entry for entry in json.loads(routes("--json", settings="tests.settings"))}
    plain = found["/plain/"]
    assert plain["consumer"] == "tests.apps.chat.consumers.PlainConsumer"
    assert (plain["namespace"], plain["receives"], plain["sends"]) == (None, [], [])
    assert found["/chat/{room}/"]["middleware"] == STACK


def test_middleware_of_its_own() -> None:
    """Middleware of the project follows the standard one, also if it hides what it wraps."""
    script = f"""
import django
django.setup()
from tests.apps.routed.asgi import with_middleware
from wsrt.schema.routes import routes_of
stack = {(*STACK, "LanguageMiddleware", "Mark", "inner_mark")}
assert [route.middleware for route in routes_of(with_middleware)] == [stack] * 3
"""
    run(ROOT, "-c", script, DJANGO_SETTINGS_MODULE=SHORT)


class OtherConsumer(TypedEventConsumer):
    namespace = "other"


def test_several_stacks(settings: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where routes have different middleware, each stack has a line with its paths."""
    routers = [path("bare/", OtherConsumer.as_asgi()), path("users/", AuthMiddlewareStack(OtherConsumer.as_asgi()))]
    application = ProtocolTypeRouter({"websocket": URLRouter(routers)})
    monkeypatch.setattr(f"{__name__}.application", application, raising=False)
    settings.ASGI_APPLICATION = f"{__name__}.application"
    call_command("wsrt_routes")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["Middleware of /bare/: none", f"Middleware of /users/: {', '.join(STACK)}"]


def test_path_that_is_not_served(capsys: Any) -> None:
    """A consumer whose path isn't served is named on the error output, with what to do."""
    consumer = type("LostConsumer", (TypedEventConsumer,), {"namespace": "other", "path": "lost/"})
    call_command("wsrt_routes", json=True)
    said = capsys.readouterr()
    assert json.loads(said.out)
    assert "LostConsumer has the path 'lost/'" in said.err
    assert "Add *consumer_urlpatterns()" in said.err
    del consumer


@pytest.mark.parametrize(
    ("application", "says"),
    [
        (None, "ASGI_APPLICATION isn't set: set it"),
        (
            "tests.nothing.application",
            r"ASGI_APPLICATION \(tests.nothing.application\) cannot be loaded: "
            "ModuleNotFoundError: No module named 'tests.nothing'",
        ),
    ],
)
def test_no_application(settings: Any, application: str | None, says: str) -> None:
    """Without an application, or with one that can't be imported, the command says so."""
    settings.ASGI_APPLICATION = application
    with pytest.raises(CommandError, match=says):
        call_command("wsrt_routes")


def test_no_routes(settings: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application without WebSocket routes is told as that."""
    monkeypatch.setattr(f"{__name__}.application", ProtocolTypeRouter({}), raising=False)
    settings.ASGI_APPLICATION = f"{__name__}.application"
    call_command("wsrt_routes")
    assert capsys.readouterr().out == "No WebSocket routes.\n"
