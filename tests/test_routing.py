"""The paths of consumers, and the routes that they make."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.support.processes import ROOT
from wsrt import TypedEventConsumer
from wsrt.exceptions import DeclarationError
from wsrt.routing import consumer_urlpatterns, routed_consumers


def consumer(path: Any, name: str = "SomeConsumer", *bases: type) -> type[TypedEventConsumer]:
    namespace = {"namespace": "routing", "path": path, "__module__": __name__, "__qualname__": name}
    return type(name, bases or (TypedEventConsumer,), namespace)


# One path


@pytest.mark.parametrize(
    "path", ["ws/chat/", "ws/chat", "", "ws/<slug:room>/", "ws/<room>/<int:page>", "ws/<path:rest>", "a-<uuid:key>.b/"]
)
def test_path(path: str) -> None:
    """A path has the syntax of Django's path()."""
    assert consumer(path).path == path


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/ws/chat/", r"must not begin with a slash, as in Django's path\(\): write 'ws/chat/', not '/ws/chat/'"),
        (7, 'must be a string, such as "ws/chat/<slug:room>/", not 7'),
        (b"ws/", "must be a string"),
        (["ws/"], "must be a string"),
        (r"^ws/(\d+)/$", r"has the syntax of path\(\)"),
        (r"ws/(?P<room>\w+)/", r"not that of re_path\(\)"),
        ("ws/<slug:room/", "an angle bracket outside of a parameter"),
        ("ws/slug:room>/", "an angle bracket outside of a parameter"),
        ("ws/<>/", "an angle bracket outside of a parameter"),
        ("ws/<wrong:room>/", "uses invalid converter 'wrong'.* Register a converter of your own above the class"),
        ("ws/<slug:room>/<slug:room>/", "has two parameters of one name"),
        ("ws/<slug:1room>/", "isn't a valid Python identifier"),
        ("ws/<slug: room>/", "whitespace"),
        ("ws/?room=a", "must not contain a query or a fragment: .* Read the query string from self.query"),
    ],
)
def test_wrong_path(path: Any, says: str) -> None:
    """A path that can't be a route is an error when the class is created, and says what to write."""
    with pytest.raises(DeclarationError, match=f"^SomeConsumer: path .*{says}"):
        consumer(path)


def test_method_as_a_path() -> None:
    """A method or property that is called path isn't taken for a route."""
    with pytest.raises(DeclarationError, match="path must be a string"):

        class Wrong(TypedEventConsumer):
            @property
            def path(self) -> str:  # type: ignore[override]
                return "ws/"


def test_path_of_a_route() -> None:
    """as_asgi() can't set the path of a class."""
    with pytest.raises(TypeError, match="'path', which is fixed for the class"):
        consumer(None).as_asgi(path="ws/")


# Several


def routes(*consumers: type) -> list[tuple[str, type]]:
    """The routes of these consumers, in order."""
    found = [(str(route.pattern), route.callback.consumer_class) for route in consumer_urlpatterns()]
    return [(route, target) for route, target in found if target in consumers]


def test_no_path() -> None:
    """A consumer without a path has no route."""
    bare = consumer(None)
    assert bare not in routed_consumers()


def test_route_is_not_inherited() -> None:
    """A subclass has a route only if it sets a path of its own; a mixin that isn't a consumer passes its path on."""
    base = consumer("routing/base/", "Base")
    silent = type("Silent", (base,), {})
    other = consumer("routing/other/", "Other", base)
    mixed = type("Mixed", (type("Mixin", (), {"path": "routing/mixed/"}), TypedEventConsumer), {})
    assert silent.path is None
    assert dict(routes(base, silent, other, mixed)) == {
        "routing/base/": base,
        "routing/other/": other,
        "routing/mixed/": mixed,
    }


def test_precedence() -> None:
    """Of two routes for one path the more specific comes first, in whichever order the classes are created."""
    paths = [
        "routing/<path:rest>",
        "routing/<room>/",
        "routing/<slug:room>/",
        "routing/<int:room>/",
        "routing/lobby/",
        "routing/lobby/<path:rest>",
    ]
    consumers = [consumer(path, f"Number{number}") for number, path in enumerate(paths)]
    found = [route for route, _ in routes(*consumers)]
    assert [route for route in found if "lobby" not in route] == list(reversed(paths[:4]))
    assert found.index("routing/lobby/") < found.index("routing/<int:room>/")
    assert found.index("routing/lobby/<path:rest>") < found.index("routing/<path:rest>")


@pytest.mark.parametrize("other", ["routing/<slug:room>/", "routing/<slug:name>/"])
def test_same_path(other: str) -> None:
    """Two consumers with one path are an error that names both, and what to do."""
    one, two = consumer("routing/<slug:room>/", "One"), consumer(other, "Two")
    with pytest.raises(
        ImproperlyConfigured,
        match=rf"^{__name__}.One and {__name__}.Two have the same path, '{other}': .* set path = None",
    ):
        consumer_urlpatterns()
    del one, two
    assert consumer_urlpatterns()


def test_class_that_is_defined_again() -> None:
    """A class of a module that was reloaded takes the place of the earlier one."""
    earlier, later = consumer("routing/again/", "Again"), consumer("routing/again/", "Again")
    assert routes(earlier, later) == [("routing/again/", later)]


def test_route_of_the_admin() -> None:
    """The route of the admin's pages comes with the admin."""
    assert "ws/wsrt/admin/" in [str(route.pattern) for route in consumer_urlpatterns()]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("", "after get_asgi_application()"),
        ("import django; django.setup()", 'add "wsrt" to INSTALLED_APPS'),
    ],
    ids=["not set up", "not installed"],
)
def test_too_early(lines: str, says: str) -> None:
    """Before Django is set up, or without the app, the error says what to do."""
    script = f"""
from django.conf import settings
settings.configure(INSTALLED_APPS=[])
from wsrt.routing import consumer_urlpatterns
{lines}
consumer_urlpatterns()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "ImproperlyConfigured" in done.stderr
    assert says in done.stderr
