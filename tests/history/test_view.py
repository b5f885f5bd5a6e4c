"""The view that serves the history of rooms over HTTP: pages, permission, caches, and bad requests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest
from django.test import AsyncClient, Client
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import AccessToken

from tests.support.histories import keep, new_room
from wsrt import DeclarationError, Event, Position, Refused, TypedEventConsumer, WrongContext, history
from wsrt.connection import detached
from wsrt.exceptions import StoreUnavailable
from wsrt.history.base import Reading
from wsrt.metrics import counters
from wsrt.rest_framework import RestFrameworkHistoryView, RestFrameworkLogin
from wsrt.types import MAX_OFFSET
from wsrt.views import MAX_PAGE_BYTES, HistoryView

NAMESPACE = "history-view"


class Said(Event, name="said", history=True):
    text: str


class Publications(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Said,)

    async def authorize_room(self, room: str) -> bool:
        """Rooms are open to all but for those whose name tells otherwise."""
        if room.startswith("hidden"):
            raise Http404
        if room.startswith("denied"):
            raise PermissionDenied("not you")
        return not room.startswith("closed")


class Members(TypedEventConsumer):
    """Its users may read the room with their own name."""

    namespace = NAMESPACE
    out_events = (Said,)

    async def authorize_room(self, room: str) -> bool:
        return room == f"of-{self.user_id}"


class SyncMembers(Members):
    """The same, with hooks that run in threads."""

    def authorize(self) -> bool:  # type: ignore[override]
        return bool(self.user.is_authenticated)

    def authorize_room(self, room: str) -> bool:  # type: ignore[override]
        return User.objects.filter(pk=int(str(self.user_id))).exists() and room == f"of-{self.user_id}"


class Keys(BaseAuthentication):  # type: ignore[misc]
    """Tokens as those of DRF's own TokenAuthentication, which needs a table: "Token <username>"."""

    def authenticate(self, request: Any) -> Any:
        kind, _, name = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if kind != "Token":
            return None
        user = User.objects.filter(username=name).first()
        if user is None:
            raise AuthenticationFailed("no such key")
        return user, name


class Api(RestFrameworkLogin, TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Said,)
    authentication_classes = (JWTAuthentication,)

    async def authorize_room(self, room: str) -> bool:
        return room == f"of-{self.user_id}"


class Odd(TypedEventConsumer):
    """Its hooks do what the test says."""

    namespace = NAMESPACE
    out_events = (Said,)
    act: Any = None
    hook = ""

    async def _do(self, hook: str) -> Any:
        return await type(self).act(self) if type(self).hook == hook else True

    async def authorize(self) -> bool:
        return bool(await self._do("authorize"))

    async def authorize_room(self, room: str) -> bool:
        return bool(await self._do("authorize_room"))

    async def expires_at(self) -> Any:
        return await type(self).act(self) if type(self).hook == "expires_at" else None


class OwnUser(HistoryView):
    consumer = Members

    async def get_user(self, request: HttpRequest) -> Any:
        return User(pk=request.headers.get("X-User")) if "X-User" in request.headers else None


urlpatterns = [
    path("open/", HistoryView.as_view(consumer=Publications)),
    path("members/", HistoryView.as_view(consumer=Members)),
    path("sync-members/", HistoryView.as_view(consumer=SyncMembers)),
    path("own/", OwnUser.as_view()),
    path("jwt/", HistoryView.as_view(consumer=Api)),
    path("keys/", RestFrameworkHistoryView.as_view(consumer=Members, authentication_classes=[Keys])),
    path("odd/<slug:slug>/", HistoryView.as_view(consumer=Odd)),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets what a hook of Odd does."""

    def set_hook(hook: str, act: Any) -> None:
        monkeypatch.setattr(Odd, "hook", hook)
        monkeypatch.setattr(Odd, "act", staticmethod(act))

    return set_hook  # type: ignore[return-value]


def get(url: str, client: Client | None = None, headers: Any = None, **query: Any) -> Any:
    return (client or Client()).get(url, query, headers=headers or {})


def assert_not_shared(answer: Any) -> None:
    assert answer["Cache-Control"] == "private, no-cache"
    assert answer["Vary"] == "Cookie, Authorization"


# The answer.


def test_page() -> None:
    """The answer has the room's position and its events, each with its own."""
    room = new_room()
    positions = keep(NAMESPACE, room, "said", {"text": "a"}, {"text": "é\u2028</script>"})
    answer = get("/open/", room=room)
    epoch = positions[0].epoch
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert_not_shared(answer)
    assert answer.json() == {
        "room": room,
        "epoch": epoch,
        "offset": 2,
        "events": [
            {"event": "said", "data": {"text": "a"}, "epoch": epoch, "offset": 1},
            {"event": "said", "data": {"text": "é\u2028</script>"}, "epoch": epoch, "offset": 2},
        ],
        "has_more": False,
        "gap": None,
    }


def test_empty_room() -> None:
    """A room without history has a position, and no events."""
    answer = get("/open/", room=new_room()).json()
    assert (answer["offset"], answer["events"], bool(answer["epoch"])) == (0, [], True)


@pytest.mark.parametrize("as_header", [False, True])
def test_since(as_header: bool) -> None:
    """A position is sent as a parameter or as the header Last-Event-ID."""
    room = new_room()
    positions = keep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    since = str(positions[0])
    answer = (
        get("/open/", headers={"Last-Event-ID": since}, room=room)
        if as_header
        else get("/open/", room=room, since=since)
    )
    assert [event["offset"] for event in answer.json()["events"]] == [2]


def test_parameter_before_header() -> None:
    """The parameter counts if both are sent."""
    room = new_room()
    positions = keep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    answer = get("/open/", headers={"Last-Event-ID": str(positions[1])}, room=room, since=str(positions[0]))
    assert len(answer.json()["events"]) == 1


def test_pages() -> None:
    """The position of the last event leads to the next page, until there is none."""
    room = new_room()
    keep(NAMESPACE, room, "said", *({"text": str(number)} for number in range(5)))
    found: list[int] = []
    query: dict[str, Any] = {"room": room, "limit": 2}
    for has_more in (True, True, False):
        answer = get("/open/", **query).json()
        assert answer["has_more"] is has_more
        found += [event["offset"] for event in answer["events"]]
        query["since"] = f"{answer['events'][-1]['epoch']}:{found[-1]}"
    assert found == [1, 2, 3, 4, 5]


def test_size_of_a_page() -> None:
    """A page has at most 256 KB of events, but a single one may be larger."""
    room = new_room()
    text = "x" * (MAX_PAGE_BYTES // 2)
    keep(NAMESPACE, room, "said", {"text": text}, {"text": text}, {"text": 3 * text})
    first = get("/open/", room=room).json()
    assert ([event["offset"] for event in first["events"]], first["has_more"]) == ([1], True)
    last = get("/open/", room=room, since=f"{first['epoch']}:2").json()
    assert ([event["offset"] for event in last["events"]], last["has_more"]) == ([3], False)


def test_gap() -> None:
    """A position that isn't the room's gets what is left, and the reason."""
    room = new_room()
    keep(NAMESPACE, room, "said", {"text": "a"})
    answer = get("/open/", room=room, since="another:7").json()
    assert (answer["gap"], len(answer["events"])) == ("epoch", 1)


def test_forgotten() -> None:
    """What was forgotten isn't served, nor said to be unchanged."""
    room = new_room()
    keep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    before = get("/open/", room=room)
    assert history.forget(room, offset=1, namespace=NAMESPACE, on_commit=False)
    after = get("/open/", headers={"If-None-Match": before["ETag"]}, room=room)
    assert (after.status_code, [event["offset"] for event in after.json()["events"]]) == (200, [2])


async def test_async_client() -> None:
    """Under ASGI the same is served."""
    room = new_room()
    await sync_to_async(keep)(NAMESPACE, room, "said", {"text": "a"})
    answer = await AsyncClient().get("/open/", {"room": room})
    assert [event["data"] for event in answer.json()["events"]] == [{"text": "a"}]


def test_head_and_post() -> None:
    """HEAD has the headers alone; nothing but reading is allowed."""
    room = new_room()
    answer = Client().head("/open/", {"room": room})
    assert (answer.status_code, answer.content, bool(answer["ETag"])) == (200, b"", True)
    assert Client().post("/open/", {"room": room}).status_code == 405


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["/open/", "/keys/"])
def test_atomic_requests(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose views run in transactions can mount the view, which is asynchronous and needs none."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    assert get(url, room=new_room()).status_code == (200 if url == "/open/" else 401)


# Caches.


def test_etag() -> None:
    """A client that has the page is told so, until something is published."""
    room = new_room()
    keep(NAMESPACE, room, "said", {"text": "a"})
    first = get("/open/", room=room)
    again = get("/open/", headers={"If-None-Match": first["ETag"]}, room=room)
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    assert_not_shared(again)
    keep(NAMESPACE, room, "said", {"text": "b"})
    assert get("/open/", headers={"If-None-Match": first["ETag"]}, room=room).status_code == 200


@pytest.mark.django_db
def test_permission_before_etag() -> None:
    """A client that may not read the room any more isn't told that nothing has changed."""
    user = User.objects.create_user("ada")
    client = Client()
    client.force_login(user)
    tag = get("/members/", client, room=f"of-{user.pk}")["ETag"]
    for headers in ({"If-None-Match": tag}, {"If-None-Match": "*"}):
        assert get("/members/", client, headers=headers, room=f"of-{user.pk}").status_code == 304
        client.logout()
        assert get("/members/", client, headers=headers, room=f"of-{user.pk}").status_code == 401
        client.force_login(user)


# Permission.


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["/members/", "/sync-members/"])
def test_session(url: str) -> None:
    """The user of the session is the consumer's; async and sync hooks decide alike."""
    user = User.objects.create_user("ada")
    client = Client()
    client.force_login(user)
    assert get(url, client, room=f"of-{user.pk}").status_code == 200
    assert get(url, client, room="of-0").status_code == 404
    assert get(url, room=f"of-{user.pk}").status_code == 401


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["/members/", "/sync-members/"])
async def test_session_under_asgi(url: str) -> None:
    """The same under ASGI."""
    user = await User.objects.acreate(username="ada")
    client = AsyncClient()
    await client.aforce_login(user)
    assert (await client.get(url, {"room": f"of-{user.pk}"})).status_code == 200
    assert (await client.get(url, {"room": "of-0"})).status_code == 404
    assert (await AsyncClient().get(url, {"room": f"of-{user.pk}"})).status_code == 401


def test_forbidden_and_missing_rooms_answer_alike() -> None:
    """Neither a refusal nor its kind tells whether there is a room."""
    client = Client()
    answers = [get("/own/", client, headers={"X-User": "7"}, room=room) for room in ("of-8", "nothing")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert len({answer.content for answer in answers}) == 1
    assert_not_shared(answers[0])
    anonymous = [get("/open/", room=room) for room in ("hidden-1", "denied-1", "closed-1")]
    assert [answer.status_code for answer in anonymous] == [401, 401, 401]
    assert len({answer.content for answer in anonymous}) == 1


def test_own_user() -> None:
    """A subclass says who the user is."""
    assert get("/own/", headers={"X-User": "7"}, room="of-7").status_code == 200
    assert get("/own/", room="of-7").status_code == 401


@pytest.mark.django_db
def test_token() -> None:
    """A consumer that takes tokens takes them in the header; they come before a session."""
    ada, eve = User.objects.create_user("ada"), User.objects.create_user("eve")
    bearer = {"Authorization": f"Bearer {AccessToken.for_user(ada)}"}
    assert get("/jwt/", headers=bearer, room=f"of-{ada.pk}").status_code == 200
    client = Client()
    client.force_login(eve)
    assert get("/jwt/", client, room=f"of-{eve.pk}").status_code == 200
    assert get("/jwt/", client, headers=bearer, room=f"of-{eve.pk}").status_code == 404
    for wrong in (
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer "},
        {"Authorization": "x" * 9000},
        {},
    ):
        answer = get("/jwt/", headers=wrong, room=f"of-{ada.pk}")
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.django_db(transaction=True)
async def test_token_under_asgi() -> None:
    """The same under ASGI."""
    ada = await User.objects.acreate(username="ada")
    bearer = {"Authorization": f"Bearer {AccessToken.for_user(ada)}"}
    assert (await AsyncClient().get("/jwt/", {"room": f"of-{ada.pk}"}, headers=bearer)).status_code == 200


@pytest.mark.django_db
def test_expired_token() -> None:
    """A token that has expired is refused."""
    ada = User.objects.create_user("ada")
    token = AccessToken.for_user(ada)
    token["exp"] = int(time.time()) - 10
    answer = get("/jwt/", headers={"Authorization": f"Bearer {token}"}, room=f"of-{ada.pk}")
    assert answer.status_code == 401


@pytest.mark.django_db
def test_rest_framework() -> None:
    """The classes of an API authenticate the requests; those that they refuse get 401."""
    ada = User.objects.create_user("ada")
    assert get("/keys/", headers={"Authorization": "Token ada"}, room=f"of-{ada.pk}").status_code == 200
    assert get("/keys/", headers={"Authorization": "Token eve"}, room=f"of-{ada.pk}").status_code == 401
    assert get("/keys/", room=f"of-{ada.pk}").status_code == 401


@pytest.mark.django_db(transaction=True)
async def test_rest_framework_under_asgi() -> None:
    """The same under ASGI."""
    ada = await User.objects.acreate(username="ada")
    headers = {"Authorization": "Token ada"}
    assert (await AsyncClient().get("/keys/", {"room": f"of-{ada.pk}"}, headers=headers)).status_code == 200


def test_default_classes(settings: Any) -> None:
    """Without classes of its own, a view uses those of the setting."""
    view = RestFrameworkHistoryView()
    request = HttpRequest()
    assert isinstance(view.get_user(request), AnonymousUser)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermissionDenied(), 401),
        (Http404(), 404),
        (Refused("banned", "You are banned"), 403),
        (Refused("rate_limited", "Slow down"), 429),
        (StoreUnavailable("down"), 503),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refusals(odd: Any, error: Exception, status: int) -> None:
    """Each kind of refusal has its status, and is counted."""

    async def refuse(consumer: Any) -> None:
        raise error

    odd("authorize", refuse)
    before = counters["history_views_refused"]
    answer = get("/odd/a/", room="lobby")
    assert answer.status_code == status
    assert answer.json()["error"]
    assert_not_shared(answer)
    assert counters["history_views_refused"] == before + 1


def test_not_authorized(odd: Any) -> None:
    """A user who may not connect is refused with 403, a visitor asked to sign in."""

    async def refuse(consumer: Any) -> bool:
        return False

    odd("authorize", refuse)
    assert get("/odd/a/", room="lobby").status_code == 401

    async def refuse_user(consumer: Any) -> bool:
        consumer.scope["user"] = User(pk=7)
        return False

    odd("authorize", refuse_user)
    assert get("/odd/a/", room="lobby").status_code == 403


def test_expired(odd: Any) -> None:
    """Credentials that have expired are refused."""

    async def earlier(consumer: Any) -> float:
        return time.time() - 1

    odd("expires_at", earlier)
    assert get("/odd/a/", room="lobby").status_code == 401

    async def later(consumer: Any) -> float:
        return time.time() + 60

    odd("expires_at", later)
    assert get("/odd/a/", room="lobby").status_code == 200


def test_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer's tenant decides whose room is read."""

    async def tenant(self: Any) -> str:
        return "red"

    monkeypatch.setattr(Publications, "tenant", tenant)
    room = new_room()
    keep(f"{NAMESPACE}@red", room, "said", {"text": "red"})
    assert len(get("/open/", room=room).json()["events"]) == 1


def test_permission_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without permission the store isn't read, so that no room is made there."""

    async def read(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the store was read")

    monkeypatch.setattr("wsrt.views.read", read)
    assert get("/open/", room="closed").status_code == 401


async def test_permission_that_ends_while_it_is_asked(odd: Any) -> None:
    """A request waits for its own answer: another one's permission is none of it."""
    allowed = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def answer(consumer: Any) -> bool:
        await allowed[consumer.kwargs["slug"]].wait()
        return bool(consumer.kwargs["slug"] == "a")

    odd("authorize_room", answer)
    one, two = (asyncio.ensure_future(AsyncClient().get(f"/odd/{slug}/", {"room": "lobby"})) for slug in "ab")
    allowed["b"].set()
    assert (await two).status_code == 401
    assert not one.done()
    allowed["a"].set()
    assert (await one).status_code == 200


# A consumer without a connection.


def test_what_hooks_can_read(odd: Any) -> None:
    """Hooks read the request: its URL, its query, its headers, its user and its session."""
    seen: dict[str, Any] = {}

    async def look(consumer: Any) -> bool:
        scope = consumer.scope
        seen.update(
            kwargs=consumer.kwargs,
            query=consumer.query["room"],
            header=dict(scope["headers"])[b"x-color"],
            user=consumer.user,
            user_id=consumer.user_id,
            tenant=consumer.tenant_id,
            rooms=consumer.rooms,
            session=scope["session"] is not None,
            path=scope["path"],
            client=scope["client"][0],
        )
        return True

    odd("authorize_room", look)
    assert get("/odd/a/", headers={"X-Color": "red"}, room="lobby").status_code == 200
    assert seen == {
        "kwargs": {"slug": "a"},
        "query": "lobby",
        "header": b"red",
        "user": AnonymousUser(),
        "user_id": None,
        "tenant": None,
        "rooms": (),
        "session": True,
        "path": "/odd/a/",
        "client": "127.0.0.1",
    }


def test_user_that_authorize_sets(odd: Any) -> None:
    """A user that authorize() sets is that of the request."""
    seen = []

    async def bind(consumer: Any) -> bool:
        await consumer.set_user_id(9)
        seen.append(consumer.user_id)
        return True

    odd("authorize", bind)
    assert get("/odd/a/", room="lobby").status_code == 200
    assert seen == ["9"]


CALLS = {
    "send": lambda consumer: consumer.send(Said(text="a")),
    "publish_to_room": lambda consumer: consumer.publish_to_room("lobby", Said(text="a")),
    "publish_to_others": lambda consumer: consumer.publish_to_others("lobby", Said(text="a")),
    "publish_to_user": lambda consumer: consumer.publish_to_user(7, Said(text="a")),
    "publish_to_audience": lambda consumer: consumer.publish_to_audience(None, Said(text="a")),
    "broadcast": lambda consumer: consumer.broadcast(Said(text="a")),
    "join": lambda consumer: consumer.join("lobby"),
    "leave": lambda consumer: consumer.leave("lobby"),
    "create_task": lambda consumer: consumer.create_task(None),
    "close": lambda consumer: consumer.close(),
    "wait_for_close": lambda consumer: consumer.wait_for_close(),
    "id": lambda consumer: consumer.id,
    "node_id": lambda consumer: consumer.node_id,
}


@pytest.mark.parametrize("name", CALLS)
def test_methods_without_a_connection(odd: Any, name: str) -> None:
    """What needs a connection raises, and the error says why."""

    async def use(consumer: Any) -> bool:
        CALLS[name](consumer)
        return True

    odd("authorize_room", use)
    with pytest.raises(
        WrongContext,
        match=r"Odd\.\w+(\(\))? needs a connection, but a hook called it for an HTTP request to HistoryView",
    ):
        get("/odd/a/", room="lobby")


def test_sync_methods_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do the methods of self.sync in def hooks."""

    def use(self: Any, room: str) -> bool:
        self.sync.join(room)
        return True

    monkeypatch.setattr(Odd, "authorize_room", use)
    with pytest.raises(WrongContext, match=r"Odd\.join\(\) needs a connection"):
        get("/odd/a/", room="lobby")


def test_every_method_is_known() -> None:
    """Each method of a consumer that needs a connection is among those that raise, or reads only."""
    names = {
        name
        for name, value in vars(TypedEventConsumer).items()
        if callable(value) and not name.startswith("_") and name != "as_asgi"
    }
    hooks = {
        "authenticate",
        "tenant",
        "authorize",
        "expires_at",
        "identity",
        "reload_user",
        "authorize_room",
        "refusal_for",
        "on_connect",
        "on_disconnect",
        "on_removed",
        "room_presence",
        "member",
        "on_presence_join",
        "on_presence_leave",
    }
    assert names - hooks - set(detached.SOCKET_METHODS) == {"set_user_id", "clear_user_id"}


def test_errors_of_hooks(odd: Any) -> None:
    """An error of a hook isn't hidden."""

    async def fail(consumer: Any) -> bool:
        raise ZeroDivisionError

    odd("authorize_room", fail)
    with pytest.raises(ZeroDivisionError):
        get("/odd/a/", room="lobby")


# Bad requests.


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"room": ""},
        {"room": "x" * 10_000},
        {"room": "wsrt.x"},
        {"room": "a", "since": "nonsense"},
        {"room": "a", "since": f"e:{10**30}"},
        {"room": "a", "since": f"e:{MAX_OFFSET + 1}"},
        {"room": "a", "since": "e:-1"},
        {"room": "a", "since": "e:٣"},
        {"room": "a", "since": "e:²"},
        {"room": "a", "since": "e:\x00"},
        {"room": "a", "since": "x" * 5000 + ":1"},
        {"room": "a", "limit": "0"},
        {"room": "a", "limit": "301"},
        {"room": "a", "limit": "-1"},
        {"room": "a", "limit": "٣"},
        {"room": "a", "limit": "9" * 5000},
        {"room": "a", "limit": ""},
    ],
    ids=lambda query: repr(query)[:40],
)
def test_bad_requests(query: dict[str, str]) -> None:
    """A parameter that isn't valid is refused with 400, and the body says what is."""
    answer = Client().get("/open/", query)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert_not_shared(answer)


def test_bad_header() -> None:
    """So is a Last-Event-ID."""
    assert get("/open/", headers={"Last-Event-ID": "7"}, room="a").status_code == 400


@pytest.mark.parametrize("room", ["\x00", "../..", "a b", "é", "{x}", "💥" * 60])
def test_odd_rooms(room: str) -> None:
    """Any name of a room is served."""
    keep(NAMESPACE, room, "said", {"text": "a"})
    answer = get("/open/", room=room).json()
    assert answer["room"] == room
    assert answer["events"]


@pytest.mark.parametrize("query", ["room=%ff", "room=%ed%a0%80", "room=a&room=b", "room[]=a", "room=a&since=%ff:1"])
def test_odd_queries(query: str) -> None:
    """Bytes that aren't text raise nothing."""
    assert Client().get(f"/open/?{query}").status_code in (200, 400)


def test_store_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that doesn't answer is 503, counted, and says when to come back."""

    async def down(*args: Any, **kwargs: Any) -> Reading:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr("wsrt.views.read", down)
    before = counters["history_views_unavailable"]
    answer = get("/open/", room="lobby")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "no answer" not in answer.json()["error"]
    assert counters["history_views_unavailable"] == before + 1


def test_declarations() -> None:
    """A view needs a consumer that decides about rooms."""

    class Anyone(TypedEventConsumer):
        namespace = NAMESPACE

    with pytest.raises(DeclarationError, match=r"needs Anyone\.authorize_room, or every client could read every room"):
        HistoryView.as_view(consumer=Anyone)
    for wrong in ({}, {"consumer": None}, {"consumer": Publications.as_asgi()}, {"consumer": User}):
        with pytest.raises(DeclarationError, match="needs a consumer class"):
            HistoryView.as_view(**wrong)


def test_position_of_the_answer_is_a_position() -> None:
    """What the answer says can be sent back as it is."""
    room = new_room()
    keep(NAMESPACE, room, "said", {"text": "a"})
    answer = json.loads(get("/open/", room=room).content)
    assert history.history(room, Position(answer["epoch"], answer["offset"]), namespace=NAMESPACE).events == ()
