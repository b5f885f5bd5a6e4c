"""The description of consumers, and the documents generated from it."""

from __future__ import annotations

import datetime as dt
import json
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.urls import path, re_path

from tests.apps.chat.consumers import ChatConsumer
from tests.clients.generate.consumers import MailConsumer, NewsConsumer, OddConsumer
from tests.schema.consumers import Box, Cat, Colour, Everything, EveryTypeConsumer, Level, Tree
from wsrt import Event, TypedEventConsumer, close_codes
from wsrt.asgi import with_runtime
from wsrt.protocol.envelope import encode
from wsrt.protocol.namespaces import Namespaces
from wsrt.schema import description
from wsrt.schema.asyncapi import asyncapi, json_schema
from wsrt.schema.description import describe

EVENT = Everything(
    text="é",
    number=1,
    ratio=0.5,
    flag=True,
    nothing=None,
    anything=[1, {"a": None}],
    raw=b"\x00\xff",
    when=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    day=dt.date(2026, 1, 2),
    clock=dt.time(3, 4, 5, tzinfo=dt.UTC),
    took=dt.timedelta(hours=1),
    price=Decimal("1.50"),
    key=uuid.UUID(int=1),
    colour=Colour.RED,
    level=Level.HIGH,
    word=3,
    maybe=None,
    either="x",
    pet=Cat(kind="cat"),
    names=["a"],
    unique={1},
    pair=(1, "a"),
    many=(1, 2),
    mapping={"a": 1.5},
    by_number={1: "a"},
    tree=Tree(value=1, children=[Tree(value=2)]),
    box=Box[int](item=1),
    boxes=[Box[str](item="a")],
    renamed=1,
    bounded=10,
    link="https://example.org/",  # type: ignore[arg-type]
)

application = with_runtime(
    ProtocolTypeRouter(
        {
            "websocket": AuthMiddlewareStack(
                URLRouter(
                    [
                        path("ws/", URLRouter([path("chat/<slug:room>/", ChatConsumer.as_asgi())])),
                        re_path(r"^every/(?P<kind>[a-z]+)/$", EveryTypeConsumer.as_asgi()),
                        path("every/", EveryTypeConsumer.as_asgi()),
                    ]
                )
            )
        }
    )
)


@pytest.fixture(autouse=True)
def project(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Namespaces:
    """A project with these consumers and no others, whatever other tests declare."""
    settings.ASGI_APPLICATION = f"{__name__}.application"
    known = Namespaces()
    for consumer in (ChatConsumer, EveryTypeConsumer):
        known.add(consumer.namespace, consumer, consumer.catalog)
    own = type("OwnConsumer", (TypedEventConsumer,), {"namespace": "wsrt.own", "__module__": "wsrt.own"})
    known.add(own.namespace, own, own.catalog)
    monkeypatch.setattr(description, "namespaces", known)
    return known


def frames(direction: str) -> jsonschema.Draft202012Validator:
    """Return the schema of the frames of one direction."""
    schema = json_schema(describe([EveryTypeConsumer]))
    jsonschema.Draft202012Validator.check_schema(schema)
    whole = {**schema, "$ref": f"#/$defs/EveryType.{direction}"}
    return jsonschema.Draft202012Validator(whole)


def test_described() -> None:
    """Events with their models, replies and options; URL patterns; the hash that the server greets with."""
    (entry,) = describe([EveryTypeConsumer])["consumers"]
    assert (entry["name"], entry["namespace"]) == ("EveryType", "every-type")
    assert entry["paths"] == ["/every/", "/every/{kind}/"]
    assert entry["hash"] == EveryTypeConsumer.catalog.schema_hash
    assert entry["description"] == "Uses every type."
    assert {event["name"]: event["replies"] for event in entry["receives"]} == {
        "everything": ["everything"],
        "numbers": ["wsrt.ok"],
        "ask": ["answer / with: odd name", "wsrt.ok"],
    }
    assert {event["name"] for event in entry["sends"]} == {"everything", "numbers", "answer / with: odd name"}
    assert {event["name"]: event["rate"] for event in entry["receives"] if event["rate"]} == {"ask": "2/s"}
    optional = {event["name"] for event in entry["receives"] if event["is_optional"]}
    assert optional == {"ask"}
    assert entry["presence"] == {"$ref": "#/$defs/Cat-Output"}
    assert entry["limits"] == {"max_payload": 65536, "heartbeat": 25, "heartbeat_timeout": 10}


def test_paths_below_routers() -> None:
    """Patterns are found below routers and middleware."""
    (entry,) = describe([ChatConsumer])["consumers"]
    assert entry["paths"] == ["/ws/chat/{room}/"]


def test_all_consumers() -> None:
    """Without a list, all that this process knows are described, in order, but wsrt's own."""
    found = describe()["consumers"]
    names = [entry["name"] for entry in found]
    assert names == ["Chat", "EveryType"]


def test_bases(project: Namespaces, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others inherit from, and no route leads to, is described only if somebody asks for it."""
    base = type("BaseConsumer", (TypedEventConsumer,), {"namespace": "of-base", "__module__": __name__})
    derived = type("DerivedConsumer", (base,), {"namespace": "of-derived", "__module__": __name__})
    for consumer in (base, derived):
        project.add(consumer.namespace, consumer, consumer.catalog)
    # Neither has a route here: both may have one elsewhere.
    assert {"Base", "Derived"} <= {entry["name"] for entry in describe()["consumers"]}
    routed = URLRouter([path("derived/", derived.as_asgi())])
    monkeypatch.setattr(sys.modules[__name__], "routed", routed, raising=False)
    settings.ASGI_APPLICATION = f"{__name__}.routed"
    names = {entry["name"] for entry in describe()["consumers"]}
    assert "Derived" in names
    assert "Base" not in names
    assert describe([base])["consumers"][0]["name"] == "Base"


def test_same_text_every_time() -> None:
    """The same project gives the same text."""
    assert json.dumps(describe()) == json.dumps(describe())
    assert json.dumps(asyncapi(describe())) == json.dumps(asyncapi(describe()))


def test_closes() -> None:
    """Every row of the close table is there."""
    rows = describe([])["closes"]
    assert [(row["code"], row["reason"]) for row in rows] == [(close.code, close.reason) for close in close_codes.TABLE]


def test_two_of_one_name() -> None:
    """Two consumers whose clients would have one name are an error that names both."""
    other = type("ChatConsumer", (TypedEventConsumer,), {"namespace": "other-chat", "__module__": __name__})
    with pytest.raises(ImproperlyConfigured, match=r"tests\.apps\.chat\.consumers\.ChatConsumer and"):
        describe([ChatConsumer, other])


def test_frames_out() -> None:
    """What the server sends is what the schema says."""
    validator = frames("sends")
    frame = json.loads(encode(EVENT).frame(room="a").text)
    validator.validate(frame)
    for broken in (
        {**frame, "event": "nothing"},
        {**frame, "data": {**frame["data"], "number": "1"}},
        {"event": "numbers"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(broken)


def test_frames_in() -> None:
    """What the schema lets through, the catalog takes."""
    validator = frames("receives")
    for frame in (
        json.loads(encode(EVENT).frame(ref="r").text),
        {"event": "ask"},
        {"event": "ask", "data": {}, "ref": 7},
        {"event": "numbers", "data": [1, 2]},
    ):
        validator.validate(frame)
        EveryTypeConsumer.catalog.decode(json.dumps(frame))


def test_asyncapi() -> None:
    """Channels with parameters, operations with replies, messages with payloads whose references all lead somewhere."""
    document = asyncapi(describe([EveryTypeConsumer, ChatConsumer]), title="Demo", version="2.0")
    assert document["info"]["title"] == "Demo"
    assert {channel["address"] for channel in document["channels"].values()} == {
        "/every/",
        "/every/{kind}/",
        "/ws/chat/{room}/",
    }
    operation = document["operations"]["EveryType.receive.ask"]
    assert operation["action"] == "receive"
    messages = document["components"]["messages"]
    assert {name: message["x-wsrt-rate"] for name, message in messages.items() if "x-wsrt-rate" in message} == {
        "EveryType.receives.ask": "2/s"
    }
    assert [ref["$ref"].rpartition("/")[2] for ref in operation["reply"]["messages"]] == [
        "EveryType.sends.answer_20__2f__20_with_3a__20_odd_20_name",
        "wsrt.ok",
        "wsrt.error",
    ]
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


class Enter(Event, name="enter"):
    token: str


def test_asyncapi_of_logins() -> None:
    """A channel names the event with which clients log in."""

    class DoorConsumer(TypedEventConsumer):
        namespace = "tokens"

        async def authenticate(self, event: Enter) -> None: ...

    document = asyncapi(describe([DoorConsumer, ChatConsumer]))
    logins = {channel["x-wsrt-namespace"]: channel.get("x-wsrt-login") for channel in document["channels"].values()}
    assert logins == {"tokens": "enter", "chat": None}


def test_titles() -> None:
    """Models and frames have titles, and no two parts of a document the same: generators make types by them."""
    consumers = [EveryTypeConsumer, ChatConsumer, NewsConsumer, MailConsumer, OddConsumer]
    document = asyncapi(describe(consumers))
    components = document["components"]
    frames = [message["payload"] for message in components["messages"].values()]
    assert all(schema["title"].isidentifier() for schema in [*components["schemas"].values(), *frames])
    assert components["schemas"]["News.Message"]["title"] == "NewsMessage"
    assert components["schemas"]["Mail.Message"]["title"] == "MailMessage"
    assert components["messages"]["News.sends.said"]["payload"]["title"] == "NewsSentSaidFrame"
    titles = [title.lower() for title in [*titles_of(components["schemas"]), *titles_of(frames)]]
    assert len(titles) == len(set(titles))
    assert not {consumer.lower() for consumer in document["channels"]} & set(titles)


def titles_of(node: Any) -> list[str]:
    """Return the titles of schemas; a property may be called so too."""
    if isinstance(node, dict):
        own = [node["title"]] if isinstance(node.get("title"), str) else []
        return own + [found for value in node.values() for found in titles_of(value)]
    return [found for value in node for found in titles_of(value)] if isinstance(node, list) else []


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON to the screen, JSON or YAML to a file by its name."""
    call_command("wsrt_schema")
    document = json.loads(capsys.readouterr().out)
    assert document["asyncapi"] == "3.0.0"
    for name, load in (("a.yaml", yaml.safe_load), ("a.json", json.loads)):
        call_command("wsrt_schema", output=tmp_path / name)
        assert load((tmp_path / name).read_text()) == document
    call_command("wsrt_schema", format="json-schema")
    assert "Chat.sends" in json.loads(capsys.readouterr().out)["$defs"]


def test_command_names_the_cookie(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The cookie that a browser is known by is called as the project calls it."""
    settings.SESSION_COOKIE_NAME = "who"
    call_command("wsrt_schema")
    schemes = json.loads(capsys.readouterr().out)["components"]["securitySchemes"]
    assert schemes["session"]["name"] == "who"


def test_command_without_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML the error says what to install."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(CommandError, match=r"wsrt\[yaml\]"):
        call_command("wsrt_schema", output=tmp_path / "a.yml")


def test_command_with_two_of_one_name(project: Namespaces) -> None:
    """What cannot be described is an error of the command."""
    other = type("ChatConsumer", (TypedEventConsumer,), {"namespace": "other-chat-2", "__module__": __name__})
    project.add(other.namespace, other, other.catalog)
    with pytest.raises(CommandError, match=other.__name__):
        call_command("wsrt_schema")


def test_command_without_consumers(project: Namespaces) -> None:
    """Where there is nothing to describe, the command says where it looked."""
    project.clear()
    with pytest.raises(CommandError, match="CONSUMERS"):
        call_command("wsrt_schema")
