"""The view that issues tickets: to whom, for what, and that its answer is stored nowhere."""

from __future__ import annotations

import logging
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.test import Client, RequestFactory, override_settings
from django.urls import path, set_script_prefix

from wsrt.metrics import counters
from wsrt.tickets import Ticket, take_ticket
from wsrt.views import TicketView, own_path


class UnboundView(TicketView):
    """Issues tickets of a tenant, to a user of its own, for handshakes in any session."""

    def get_user(self, request: HttpRequest) -> Any:
        return User(pk=8)

    def get_tenant(self, request: HttpRequest) -> str:
        return "red"

    def get_session(self, request: HttpRequest) -> None:
        return None


urlpatterns = [path("ticket/", TicketView.as_view()), path("unbound/", UnboundView.as_view())]

pytestmark = pytest.mark.urls(__name__)

PATH = "/ws/chat/lobby/"


@pytest.fixture(autouse=True)
def _no_other_consumers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' consumers may have tenants."""
    monkeypatch.setattr("wsrt.tickets.namespaces", {})


@pytest.fixture
def browser(db: None) -> Client:
    """A browser in which a user is signed in, and that sends the CSRF token where it has one."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_user("ada"))
    request = RequestFactory().get("/")
    browser.cookies["csrftoken"] = get_token(request)
    return browser


def post(browser: Client, url: str = "/ticket/", **data: str) -> Any:
    token = browser.cookies["csrftoken"].value
    return browser.post(url, {"path": PATH, **data}, headers={"X-CSRFToken": token})


def assert_not_stored(answer: Any) -> None:
    assert "no-store" in answer["Cache-Control"]
    assert "private" in answer["Cache-Control"]


def test_issues(browser: Client) -> None:
    """A ticket is issued to the user, for the path and the session."""
    answer = post(browser)
    assert answer.status_code == 200
    assert_not_stored(answer)
    assert sorted(answer.json()) == ["expires_in", "ticket"]
    assert answer.json()["expires_in"] == 30
    text = answer.json()["ticket"]
    ticket = take_ticket(text)
    assert ticket is not None
    assert (ticket.path, ticket.tenant, ticket.load_user()) == (PATH, None, User.objects.get())
    assert ticket.session is not None
    assert ticket.is_of_session(text, browser.session)


def test_own_view(browser: Client) -> None:
    """A subclass says what else it is bound to."""
    ticket = take_ticket(post(browser, "/unbound/").json()["ticket"])
    assert ticket == Ticket("8", "auth.user", "8", "red", PATH, None)


@pytest.mark.parametrize("middleware", [True, False], ids=["with", "without"])
def test_csrf(browser: Client, settings: Any, middleware: bool) -> None:
    """A request of another site is refused, whether or not the project has the middleware."""
    if middleware:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    assert browser.post("/ticket/", {"path": PATH}).status_code == 403
    foreign = {"X-CSRFToken": browser.cookies["csrftoken"].value, "Origin": "https://evil.example"}
    assert browser.post("/ticket/", {"path": PATH}, headers=foreign).status_code == 403
    assert post(browser).status_code == 200


@pytest.mark.parametrize("method", ["get", "head", "put", "delete", "options"])
def test_methods(browser: Client, method: str) -> None:
    """A ticket is never the answer to what a link, an image or a cache may ask."""
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    answer = getattr(browser, method)("/ticket/", headers=headers)
    assert answer.status_code == 405
    assert_not_stored(answer)


def test_rate(browser: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the rate a user gets no ticket until the next window begins. Other users get theirs."""
    settings.WSRT = {"TICKET_RATE": "2/m"}
    now = 6_000_015.0  # 15 seconds after the beginning of a minute
    monkeypatch.setattr("wsrt.tickets.time.time", lambda: now)
    before = counters["tickets_over_limit"]
    assert [post(browser).status_code for _ in range(4)] == [200, 200, 429, 429]
    answer = post(browser)
    assert (answer.json(), answer["Retry-After"]) == ({"error": "too many tickets, try again later"}, "45")
    assert_not_stored(answer)
    assert counters["tickets_over_limit"] == before + 3
    assert post(browser, "/unbound/").status_code == 200
    now += 44.9
    assert post(browser)["Retry-After"] == "1"
    now += 0.1
    assert post(browser).status_code == 200


def test_rate_counts_tickets_only(browser: Client, settings: Any) -> None:
    """Requests that are refused for another reason don't count."""
    settings.WSRT = {"TICKET_RATE": "1/h"}
    assert [post(browser, path="x").status_code for _ in range(3)] == [400] * 3
    assert post(browser).status_code == 200
    assert post(browser).status_code == 429


def test_rate_when_the_cache_drops_the_count(browser: Client, settings: Any) -> None:
    """A cache that doesn't keep the count refuses no ticket for it."""
    settings.WSRT = {"TICKET_RATE": "1/h"}
    with mock.patch("django.core.cache.backends.locmem.LocMemCache.incr", side_effect=ValueError):
        assert [post(browser).status_code for _ in range(3)] == [200] * 3


def test_signed_out(browser: Client) -> None:
    """Without a signed-in user there is none."""
    browser.cookies.pop("sessionid")
    answer = post(browser)
    assert (answer.status_code, answer.json()) == (401, {"error": "sign in first"})
    assert_not_stored(answer)


@override_settings(MIDDLEWARE=[])
def test_without_sessions(browser: Client) -> None:
    """The same in a project without sessions."""
    assert post(browser).status_code == 401


@pytest.mark.parametrize("text", ["", "ws/chat/", "https://example.com/ws/"])
def test_no_path(browser: Client, text: str) -> None:
    """A request without a path is answered with what to send."""
    answer = post(browser, path=text)
    assert (answer.status_code, answer.json()["error"][:21]) == (400, 'send the field "path"')
    assert_not_stored(answer)


@pytest.mark.parametrize(
    ("prefix", "text", "expected"),
    [
        ("/", "/ws/chat/", "/ws/chat/"),
        ("/", "/ws/caf%C3%A9%2F1/", "/ws/café/1/"),
        ("/app/", "/app/ws/chat/", "/ws/chat/"),
        ("/app/", "/ws/chat/", "/ws/chat/"),
        ("/app/", "/apple/", "/apple/"),
        ("/", "//ws/", "//ws/"),
    ],
)
def test_own_path(prefix: str, text: str, expected: str) -> None:
    """The path is decoded, and without the prefix under which the application is mounted."""
    set_script_prefix(prefix)
    try:
        assert own_path(text) == expected
    finally:
        set_script_prefix("/")


def test_nothing_is_logged(browser: Client, caplog: pytest.LogCaptureFixture) -> None:
    """No log has the ticket."""
    caplog.set_level(logging.DEBUG)
    ticket = post(browser).json()["ticket"]
    assert ticket not in caplog.text
