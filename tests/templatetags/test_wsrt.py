"""The template tags."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.core.management import call_command
from django.http import HttpRequest
from django.template import engines
from django.test import RequestFactory
from django.urls import NoReverseMatch, set_script_prefix
from django.utils.functional import SimpleLazyObject, empty

from tests.support.histories import keep, new_room
from wsrt import TypedEventConsumer, UnknownNamespace, WrongContext, aroom_position

PREFIX = "{% load wsrt %}"


def render(template: str, request: HttpRequest | None, **context: Any) -> str:
    return str(engines["django"].from_string(PREFIX + template).render(context, request))


def request(**extra: Any) -> HttpRequest:
    return RequestFactory().get("/page/", **extra)


def import_map(text: str) -> dict[str, str]:
    """The map that a page has, read as a browser reads it: up to the end of the script."""
    match = re.search(r'<script type="importmap"[^>]*>(.*?)</script', text)
    assert match
    imports: dict[str, str] = json.loads(match[1])["imports"]
    return imports


class LazyNonce(SimpleLazyObject):
    """A nonce as Django 6 has it: made when it is read, and false until then."""

    def __init__(self) -> None:
        super().__init__(lambda: 'n"0')

    def __bool__(self) -> bool:
        return self._wrapped is not empty


# wsrt_client


def test_import_map() -> None:
    """The page can import the runtime by its name; the map stands ahead of what is preloaded."""
    text = render("{% wsrt_client %}", request())
    assert import_map(text) == {"wsrt": "/static/wsrt/client.js"}
    assert text.index("importmap") < text.index('<link rel="modulepreload" href="/static/wsrt/client.js">')
    assert "nonce" not in text


def test_further_modules() -> None:
    """Further modules can be imported by names of their own."""
    text = render('{% wsrt_client clients="chat/clients/index.js" %}', request())
    assert import_map(text) == {"wsrt": "/static/wsrt/client.js", "clients": "/static/chat/clients/index.js"}
    assert '<link rel="modulepreload" href="/static/chat/clients/index.js">' in text


def test_hashed_names(settings: Any, tmp_path: Path) -> None:
    """Where static files have hashes in their names, the map leads to these, and the file is the runtime."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    call_command("collectstatic", interactive=False, verbosity=0)
    text = render("{% wsrt_client %}", request())
    url = import_map(text)["wsrt"]
    assert re.fullmatch(r"/static/wsrt/client\.[0-9a-f]{12}\.js", url)
    assert f'href="{url}"' in text
    source = Path("wsrt/static/wsrt/client.js").read_text()
    assert (tmp_path / url.removeprefix("/static/")).read_text() == source


def test_escaping(settings: Any) -> None:
    """No URL can end the script or an attribute."""
    settings.STATIC_URL = "https://cdn.example/</script>&\"'/"
    text = render("{% wsrt_client %}", request())
    assert text.count("</script>") == 1
    assert import_map(text)["wsrt"].startswith("https://cdn.example/</script>&")
    assert 'href="https://cdn.example/&lt;/script&gt;&amp;&quot;&#x27;/wsrt/client.js"' in text


def test_nonce_of_django() -> None:
    """The nonce of Django's policy is used, and made by that."""
    text = render("{% wsrt_client %}", request(), csp_nonce=LazyNonce())
    assert text.count('nonce="n&quot;0"') == 2


def test_nonce_of_django_csp() -> None:
    """The nonce that django-csp hangs on the request is used."""
    get = request()
    get.csp_nonce = LazyNonce()  # type: ignore[attr-defined]
    assert render("{% wsrt_client %}", get).count('nonce="n&quot;0"') == 2


def test_without_a_nonce() -> None:
    """A policy without a nonce gives none."""
    assert "nonce" not in render("{% wsrt_client %}", None, csp_nonce=None)


# ws_url


def test_path() -> None:
    """A path becomes an absolute URL of this host."""
    assert render('{% ws_url "/ws/lobby/?a=1" %}', request()) == "ws://testserver/ws/lobby/?a=1"


def test_secure() -> None:
    """A secure page gets a secure socket."""
    assert render('{% ws_url "/ws/" %}', request(secure=True)) == "wss://testserver/ws/"


def test_behind_a_proxy(settings: Any) -> None:
    """Behind a proxy it is what Django's settings make of its headers, and nothing without them."""
    forwarded = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "chat.example"}
    assert render('{% ws_url "/ws/" %}', request(**forwarded)) == "ws://testserver/ws/"
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.USE_X_FORWARDED_HOST = True
    settings.ALLOWED_HOSTS = ["chat.example"]
    assert render('{% ws_url "/ws/" %}', request(**forwarded)) == "wss://chat.example/ws/"
    with pytest.raises(DisallowedHost):
        render('{% ws_url "/ws/" %}', request(**{**forwarded, "HTTP_X_FORWARDED_HOST": "evil.example"}))


@pytest.mark.parametrize("name", ["tests.apps.chat.consumers.ChatConsumer", "Chat"])
def test_consumer(name: str) -> None:
    """A consumer's URL pattern is reversed; what a parameter holds is percent-encoded."""
    template = "{% ws_url name room=room %}"
    assert render(template, request(), name=name, room="ü & x") == "ws://testserver/chat/%C3%BC%20&amp;%20x/"
    assert render("{% ws_url name %}", request(), name=name) == "ws://testserver/chat/"


def test_below_a_prefix() -> None:
    """Where the project is served below a prefix, so are its sockets."""
    set_script_prefix("/below/")
    try:
        assert render('{% ws_url "Chat" %}', request()) == "ws://testserver/below/chat/"
    finally:
        set_script_prefix("/")


def test_as() -> None:
    """The URL can be kept under a name, and is escaped where it is written."""
    text = render('{% ws_url "/ws/?a=1&b=2" as url %}[{{ url }}]', request())
    assert text == "[ws://testserver/ws/?a=1&amp;b=2]"


def test_unescaped_where_asked() -> None:
    """Where nothing is escaped, as in a text, nothing is."""
    assert render('{% autoescape off %}{% ws_url "/?a&b" %}{% endautoescape %}', request()) == "ws://testserver/?a&b"


def test_missing_parameter() -> None:
    """A parameter that is missing is an error that names it."""
    with pytest.raises(NoReverseMatch, match=r"HereConsumer is /here/\{room\}/.*missing: room"):
        render('{% ws_url "Here" %}', request())


def test_unknown_consumer() -> None:
    """An unknown consumer is an error that names those that exist."""
    known = r"There are routes to: tests\.apps\.chat\.consumers\.ChatConsumer"
    with pytest.raises(NoReverseMatch, match=rf"'Chta'\. {known}"):
        render('{% ws_url "Chta" %}', request())


@pytest.mark.parametrize("target", ["//evil.example/", "ws://evil.example/", "ws/lobby/", "", None, 7])
def test_no_target(target: Any) -> None:
    """What is neither a path of this host nor a consumer is an error."""
    with pytest.raises(ValueError, match=r"\{% ws_url %\} needs"):
        render("{% ws_url target %}", request(), target=target)


def test_parameters_of_a_path() -> None:
    """A path takes no parameters."""
    with pytest.raises(ValueError, match=r"can't put parameters into the path '/ws/.*': remove room"):
        render('{% ws_url "/ws/" room="a" %}', request())


def test_without_a_request() -> None:
    """Without a request the error says what to add."""
    with pytest.raises(ImproperlyConfigured, match=r"context_processors\.request"):
        render('{% ws_url "/ws/" %}', None)


# room_position


class Talk(TypedEventConsumer):
    namespace = "template-tags"


def data_position(text: str) -> Any:
    """The position in an attribute, read as a script reads it."""
    match = re.fullmatch(r'<main data-position="([^"]*)">', text)
    assert match
    return json.loads(html.unescape(match[1]))


@pytest.mark.parametrize("autoescape", ["", "{% autoescape off %}"])
def test_room_position(autoescape: str) -> None:
    """The tag writes a room's position as JSON, escaped for an attribute."""
    room = new_room()
    (position,) = keep("template-tags", room, "said", {"text": "a"})
    end = "{% endautoescape %}" if autoescape else ""
    text = render(
        f'{autoescape}<main data-position="{{% room_position room namespace="template-tags" %}}">{end}', None, room=room
    )
    assert data_position(text) == {"epoch": position.epoch, "offset": 1}


def test_room_position_of_an_unknown_namespace() -> None:
    """A wrong namespace is an error."""
    with pytest.raises(UnknownNamespace):
        render('{% room_position "lobby" namespace="nothing" %}', None)


async def test_room_position_in_a_loop() -> None:
    """In an event loop the tag refuses to block it, and takes the position that the view has read."""
    with pytest.raises(WrongContext, match="aroom_position"):
        render('{% room_position "lobby" namespace="template-tags" %}', None)
    position = await aroom_position("lobby", namespace="template-tags")
    text = render('<main data-position="{% room_position position %}">', None, position=position)
    assert data_position(text) == position.as_dict()
