"""The URLs of consumers."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.template import engines
from django.test import RequestFactory
from django.urls import NoReverseMatch, path, re_path, set_script_prefix

from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from tests.schema.consumers import EveryTypeConsumer
from wsrt import TypedEventConsumer
from wsrt.asgi import with_runtime
from wsrt.clients.generate.patterns import patterns
from wsrt.schema.description import describe
from wsrt.schema.routes import parameters_of, path_of, routes

TwinConsumer = type("ChatConsumer", (TypedEventConsumer,), {"namespace": "twin", "__module__": "twins"})

application = with_runtime(
    ProtocolTypeRouter(
        {
            "websocket": AuthMiddlewareStack(
                URLRouter(
                    [
                        path("ws/<int:team>/", URLRouter([path("every/<str:kind>/", EveryTypeConsumer.as_asgi())])),
                        re_path(r"^every/(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2}))?/$", EveryTypeConsumer.as_asgi()),
                        path("every/", EveryTypeConsumer.as_asgi()),
                        path("here/<path:room>", HereConsumer.as_asgi()),
                        path("<path:room>", ChatConsumer.as_asgi()),
                        path("twin/", TwinConsumer.as_asgi()),
                    ]
                )
            )
        }
    )
)


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ASGI_APPLICATION = f"{__name__}.application"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "/every/"),
        ({"team": 7, "kind": "a"}, "/ws/7/every/a/"),
        ({"team": "7", "kind": "ü %?#&"}, "/ws/7/every/%C3%BC%20%25%3F%23&/"),
        ({"year": 2026}, "/every/2026/"),
        ({"year": 2026, "month": "01"}, "/every/2026-01/"),
    ],
)
def test_path(parameters: dict[str, Any], expected: str) -> None:
    """The pattern that has just these parameters is taken, and they are percent-encoded."""
    assert path_of("EveryType", parameters) == expected
    assert path_of("tests.schema.consumers.EveryTypeConsumer", parameters) == expected


@pytest.mark.parametrize(
    ("pattern", "template", "parts"),
    [
        (r"^ws/(?P<room>\w+)/\.x/?$", "/ws/{room}/.x", ["room"]),
        (r"\Aws/\Z", "/ws/", []),
        (r"^ws/(\d+)/$", r"/ws/(\d+)/", None),
        (r"^ws/\d{4}/$", r"/ws/\d{4}/", None),
        (r"^ws/x{4}/$", "/ws/x{4}/", None),
        (r"^ws/(?:page-(?P<n>\d+)/)?$", "/ws/(?:page-{n}/)?", None),
        (r"^ws/(?P<q>(?:a|(?:b|(?:c))))/$", "/ws/{q}/", ["q"]),
    ],
)
def test_regular_expressions(
    monkeypatch: pytest.MonkeyPatch, pattern: str, template: str, parts: list[str] | None
) -> None:
    """Named groups are parameters; what is left of an expression stays as it is, and no path is made of that."""
    monkeypatch.setattr(
        sys.modules[__name__],
        "application",
        ProtocolTypeRouter({"websocket": URLRouter([re_path(pattern, EveryTypeConsumer.as_asgi())])}),
    )
    assert routes() == {EveryTypeConsumer: [template]}
    found = patterns([template])
    assert [parameters_of(each) for each in found] == ([] if parts is None else [parts])


@pytest.mark.parametrize(("name", "prefix"), [("/app", "/app"), ("/app/", "/app"), ("/", ""), (None, "")])
def test_script_prefix(settings: Any, name: str | None, prefix: str) -> None:
    """Paths of generated clients begin with FORCE_SCRIPT_NAME, as URLs of views do, and as the template tag's do."""
    settings.FORCE_SCRIPT_NAME = name
    assert routes()[HereConsumer] == [f"{prefix}/here/{{room}}"]
    [entry] = describe([HereConsumer])["consumers"]
    assert patterns(entry["paths"]) == [f"{prefix}/here/{{room}}"]
    set_script_prefix(name or "/")
    try:
        request = RequestFactory().get("/")
        tag = engines["django"].from_string("{% load wsrt %}{% ws_url 'Here' room='a' %}")
        assert tag.render({}, request) == f"ws://testserver{prefix}/here/a"
    finally:
        set_script_prefix("/")


def test_path_converter() -> None:
    """Where a pattern takes slashes they stay; they never make the path that of another host."""
    assert path_of("Here", {"room": "a/b"}) == "/here/a/b"
    assert path_of("tests.apps.chat.consumers.ChatConsumer", {"room": "/evil.example"}) == "/%2Fevil.example"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"team": 7}, r"/ws/\{team\}/every/\{kind\}/, .* don't match: missing: kind$"),
        ({"team": 7, "kind": "a", "x": 1}, "not in the pattern: x$"),
        ({"kinds": "a", "team": 1}, "missing: kind; not in the pattern: kinds$"),
        ({"team": "x", "kind": "a"}, "don't match"),
        ({"team": 1, "kind": "a/b"}, "don't match"),
    ],
)
def test_parameters_that_do_not_fit(parameters: dict[str, Any], message: str) -> None:
    """Parameters that fit no pattern are an error that says what is wrong with them."""
    with pytest.raises(NoReverseMatch, match=message):
        path_of("EveryType", parameters)


def test_unknown() -> None:
    """What no route leads to is an error that names what there is."""
    with pytest.raises(NoReverseMatch, match=r"no.Such.*tests\.schema\.consumers\.EveryTypeConsumer \(EveryType\)"):
        path_of("no.SuchConsumer", {})


def test_two_of_one_name() -> None:
    """A name that two have is an error that asks for the dotted path."""
    with pytest.raises(NoReverseMatch, match=r"tests\.apps\.chat\.consumers\.ChatConsumer and twins\.ChatConsumer"):
        path_of("Chat", {"room": "a"})
    assert path_of("twins.ChatConsumer", {}) == "/twin/"


def test_consumer_without_a_router(settings: Any) -> None:
    """A consumer that is the whole application is at the root."""
    settings.ASGI_APPLICATION = f"{__name__}.alone"
    assert routes() == {EveryTypeConsumer: ["/"]}
    assert path_of("EveryType", {}) == "/"


alone = with_runtime(EveryTypeConsumer.as_asgi())


def test_without_routes(settings: Any) -> None:
    """Without ASGI_APPLICATION there is no route, and the error says so."""
    settings.ASGI_APPLICATION = None
    assert routes() == {}
    with pytest.raises(NoReverseMatch, match="leads to 'EveryType': no consumer has a route; is there one"):
        path_of("EveryType", {})
