"""The page of the schema."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from typing import Annotated, Any, Literal

import pytest
import yaml
from django.core.management import call_command
from django.test import Client as Browser
from django.utils import translation
from pydantic import TypeAdapter, WithJsonSchema

from scripts.translations import languages
from tests.admin.conftest import make_user, page
from tests.apps.chat.consumers import ChatConsumer
from tests.schema.consumers import EveryTypeConsumer
from wsrt import Event, TypedEventConsumer, close_codes
from wsrt.admin.schema import _RowBuilder
from wsrt.permissions import ANNOUNCE, VIEW
from wsrt.protocol.namespaces import Namespaces
from wsrt.schema import description
from wsrt.schema.asyncapi import message_key

pytestmark = pytest.mark.django_db


class Enter(Event, name="enter"):
    token: str


ODD = "answer / with: odd name"


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> Namespaces:
    """A project with these consumers and no others, whatever other tests declare."""
    known = Namespaces()
    for consumer in (ChatConsumer, EveryTypeConsumer):
        known.add(consumer.namespace, consumer, consumer.catalog)
    monkeypatch.setattr(description, "namespaces", known)
    return known


@pytest.fixture
def browser() -> Browser:
    browser = Browser()
    browser.force_login(make_user("operator", VIEW))
    return browser


def see(browser: Browser, **query: str) -> str:
    response = browser.get(page("schema", **query))
    assert response.status_code == 200
    return response.content.decode()


def plain(text: str) -> str:
    """Text without its tags, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text.replace("</dt>", " "))).split())


def event(text: str, anchor: str) -> str:
    """The card of one event or model."""
    match = re.search(rf'<(article|div) class="wsrt-event" id="{re.escape(anchor)}".*?</\1>\n', text, re.DOTALL)
    assert match, anchor
    return match[0]


def fields(card: str) -> dict[str, list[str]]:
    """The rows of a table of fields, without their names."""
    body = card.partition("<tbody")[2].partition("</tbody>")[0]
    rows = [
        [plain(cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    ]
    return {row[0]: row[1:] for row in rows}


def test_consumers(browser: Browser) -> None:
    """Each consumer is shown with its URL patterns, limits, hash, and what its members show."""
    text = plain(see(browser))
    assert "URL patterns /chat/, /chat/{room}/" in text
    assert "Class tests.schema.consumers.EveryTypeConsumer" in text
    assert "not routed in ASGI_APPLICATION" in text
    assert f"Hash {EveryTypeConsumer.catalog.schema_hash}" in text
    assert "Presence data of a member: Cat" in text
    assert "a ping after 25 s of silence, a pong within 10 s" in text


def test_fields(browser: Browser) -> None:
    """Fields are shown with type, need, default, constraints."""
    rows = fields(event(see(browser), "EveryType.receives.everything"))
    assert rows["text"] == ["string", "yes", "", "", ""]
    assert rows["left_out"] == ["string", "no", '"default"', "", ""]
    assert rows["bounded"] == ["integer", "yes", "", "≥ 1, ≤ 10", ""]
    assert rows["unique"] == ["array of integer", "yes", "", "unique items", ""]
    assert rows["link"][3] == "at least 1 character"
    types = {name: row[0] for name, row in rows.items()}
    assert types["word"] == '"a" | "b" | 3'
    assert types["maybe"] == "string | null"
    assert types["pair"] == "[integer, string]"
    assert types["mapping"] == "object of number"
    assert types["when"] == "string (date-time)"
    assert types["anything"] == "anything"
    assert types["re-named"] == "integer"
    assert re.fullmatch(r"Cat\S* \| Dog, discriminated by “kind”", types["pet"])


def test_every_field(browser: Browser) -> None:
    """No field of any event is left out, in either direction."""
    text = see(browser)
    for entry in description.describe()["consumers"]:
        for direction in ("receives", "sends"):
            for declared in entry[direction]:  # type: ignore[literal-required]
                schema = declared["schema"]
                whole = entry["definitions"].get(schema.get("$ref", "").removeprefix("#/$defs/"), schema)
                anchor = message_key(entry["name"], direction, declared["name"])
                assert fields(event(text, anchor)).keys() == whole.get("properties", {}).keys()


def test_events(browser: Browser) -> None:
    """An event is shown with its docstring, its options, and what answers it."""
    text = see(browser)
    assert "One field of each type." in plain(event(text, "EveryType.receives.everything"))
    ask = event(text, "EveryType.receives.ask")
    assert f"Replies to a request: {ODD}, wsrt.ok, wsrt.error" in plain(ask)
    assert 'href="#EveryType.sends.answer_20__2f__20_with_3a__20_odd_20_name"' in ask
    assert "array of integer" in plain(event(text, "EveryType.receives.numbers"))
    assert "Dropped for a client that has fallen behind." in plain(event(text, "Chat.sends.typing"))
    assert "Only the latest is kept" in plain(event(text, "Chat.sends.price"))


def test_logins_subscriptions_and_rates(browser: Browser, project: Namespaces) -> None:
    """The event of a login, the rate of an event and the rooms of subscriptions are shown."""

    class DeskConsumer(TypedEventConsumer):
        namespace = "desk"
        subscriptions = ("order.<int:pk>", "news")

        async def authenticate(self, event: Enter) -> None: ...

        async def authorize_room(self, room: str) -> bool:
            return True

    project.add("desk", DeskConsumer, DeskConsumer.catalog)
    text = see(browser)
    assert "Subscriptions order.<int:pk>, news" in plain(text)
    assert plain(text).count("Subscriptions ") == 1
    assert "Logs a client in with its token, and renews the token." in plain(event(text, "Desk.receives.enter"))
    assert plain(text).count("Logs a client in") == 1
    assert "Each client may send it at a rate of 2/s." in plain(event(text, "EveryType.receives.ask"))
    assert plain(text).count("at a rate of") == 1


def test_links_lead_somewhere(browser: Browser) -> None:
    """Every link within the page leads to something on it, and no two things have one name."""
    text = see(browser)
    names = re.findall(r' id="([^"]*)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r' href="#([^"]+)"', text)) - {"content-start"} <= set(names)
    assert "EveryType.model.Dog" in names


def test_recursive_model(browser: Browser) -> None:
    """A model that holds itself is shown once, with a link to itself."""
    text = see(browser)
    (name,) = set(re.findall(r'id="(EveryType\.model\.Tree[^"]*(?:Input)?)"', text)) - {"EveryType.model.Tree-Output"}
    assert f'href="#{name}"' in event(text, name)


def test_closes(browser: Browser) -> None:
    """Every row of the close table is shown, with what the client does."""
    text = see(browser).partition('id="closes"')[2]
    assert len(re.findall(r'<tr role="row">', text)) == len(close_codes.TABLE) + 1
    assert "1001 (4001 on stock Daphne) Server shutting down" in plain(text)
    assert "4403 Forbidden authorize or on_connect refused a known user doesn’t reconnect" in plain(text)


def shown(text: str) -> set[str]:
    return set(re.findall(r'<article class="wsrt-event" id="([^"]*)"[^>]*aria-labelledby="[^"]*">', text))


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("ODD NAME", {"EveryType.sends.answer_20__2f__20_with_3a__20_odd_20_name"}),
        ("left_out", {"EveryType.receives.everything", "EveryType.sends.everything"}),
        ("not an object", set()),
        ("data that isn't an object", {"EveryType.receives.numbers", "EveryType.sends.numbers"}),
    ],
)
def test_filter(browser: Browser, search: str, expected: set[str]) -> None:
    """The filter leaves the events that have the text in names, description or fields."""
    text = see(browser, q=search)
    assert shown(text) == expected
    assert set(re.findall(r'<li data-of="([^"]*)">', text)) == expected
    assert ('id="wsrt-no-match" role="status" hidden' in text) == bool(expected)
    assert '<section class="wsrt-consumer" aria-labelledby="Chat" hidden>' in text
    assert f'value="{html.escape(search)}"' in text


def test_without_a_filter(browser: Browser) -> None:
    """Without a filter nothing is hidden."""
    text = see(browser)
    assert "Chat.receives.echo" in shown(text)
    assert '<section class="wsrt-consumer" aria-labelledby="Chat">' in text


def test_escaping(browser: Browser) -> None:
    """What is searched for is shown as text."""
    assert "<script>alert" not in see(browser, q='"><script>alert(1)</script>')


def download(browser: Browser, name: str) -> Any:
    response = browser.get(f"{page('schema')}{name}")
    assert response.status_code == 200
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    return response


def test_downloads(browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents are those of the command."""
    call_command("wsrt_schema")
    text = capsys.readouterr().out
    assert download(browser, "asyncapi.json").content.decode() == text
    assert yaml.safe_load(download(browser, "asyncapi.yaml").content) == json.loads(text)
    call_command("wsrt_schema", format="json-schema")
    found = download(browser, "frames.json")
    assert found.content.decode() == capsys.readouterr().out
    assert found.headers["Content-Type"] == "application/json"
    for name in ("asyncapi.json", "asyncapi.yaml", "frames.json"):
        assert f'href="{page("schema")}{name}"' in see(browser)


def test_without_yaml(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML is missing there is no link to YAML, and no such file."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "yaml" else find(name))
    assert "asyncapi.yaml" not in see(browser)
    assert browser.get(f"{page('schema')}asyncapi.yaml").status_code == 404
    assert "asyncapi.json" in see(browser)


def test_unknown_document(browser: Browser) -> None:
    """There are no other documents."""
    assert browser.get(f"{page('schema')}passwords.json").status_code == 404


def test_what_cannot_be_described(browser: Browser, project: Namespaces) -> None:
    """Where two clients would have one name the page says so, and downloads lead to it."""
    twin = type("ChatConsumer", (TypedEventConsumer,), {"namespace": "twin-of-chat", "__module__": "twins"})
    project.add(twin.namespace, twin, twin.catalog)
    assert "twins.ChatConsumer would both be called ChatClient" in plain(see(browser))
    assert browser.get(f"{page('schema')}asyncapi.json").headers["Location"] == page("schema")


def test_without_consumers(browser: Browser, project: Namespaces) -> None:
    """Where there is nothing to show the page says where it was looked for."""
    project.clear()
    assert 'WSRT["CONSUMERS"]' in plain(see(browser))


@pytest.mark.parametrize("name", ["", "asyncapi.json"])
def test_permission(name: str) -> None:
    """The schema is for those who may see who is connected."""
    browser = Browser()
    browser.force_login(make_user("announcer", ANNOUNCE))
    assert browser.get(f"{page('schema')}{name}").status_code == 403
    assert Browser().get(f"{page('schema')}{name}").status_code == 302


def test_link(browser: Browser) -> None:
    """The way there is on every page."""
    assert f'href="{page("schema")}"' in browser.get(page("log")).content.decode()


@pytest.mark.parametrize("language", languages())
def test_close_table_in_other_languages(settings: Any, language: str) -> None:
    """The page says in the reader's language when a connection is closed; documents say it in English."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    browser = Browser(headers={"Accept-Language": language})
    browser.force_login(make_user("operator", VIEW))
    texts = list(close_codes.TABLE.values())
    with translation.override("en"):
        shown = html.unescape(see(browser))
        document = download(browser, "asyncapi.json").content.decode()
    with translation.override(language):
        assert all(translation.gettext(text).replace("`", "") in shown for text in texts)
    assert not any(text.replace("`", "") in shown for text in texts)
    assert all(json.dumps(text)[1:-1] in document for text in texts)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (list[int | str], "array of (integer | string)"),
        (list[int] | str, "array of integer | string"),
        (dict[str, int | None], "object of (integer | null)"),
        (dict[str, int] | None, "object of integer | null"),
        (list[Literal["a", "b"]], 'array of ("a" | "b")'),
        (list[list[int] | None], "array of (array of integer | null)"),
        (list[Literal["a"]], 'array of "a"'),
        (list[Annotated[Any, WithJsonSchema({"type": ["string", "null"]})]], "array of (string | null)"),
        (Annotated[Any, WithJsonSchema({"type": ["array", "null"], "items": {}})], "array of anything | null"),
    ],
)
def test_alternatives_of_items(annotation: Any, text: str) -> None:
    """Parentheses tell the alternatives of items from those of the whole."""
    row_builder = _RowBuilder(description.describe()["consumers"][0], "")
    assert "".join(part.text for part in row_builder._type(TypeAdapter(annotation).json_schema())) == text
