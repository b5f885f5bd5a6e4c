"""The live socket asks what a page asks, and operators end what is theirs to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient
from django.urls import path, reverse
from django.utils import translation

from tests.admin.conftest import Operator, amake_user, text_of
from tests.admin.test_pages import everybody, visitor
from wsrt import close_codes
from wsrt.admin import Realtime, RealtimeAdmin, live, targets
from wsrt.admin.live import AdminConsumer
from wsrt.admin.queries import Overview, WatchOverview, WatchRooms
from wsrt.admin.targets import Target
from wsrt.permissions import ANNOUNCE, DISCONNECT, VIEW
from wsrt.testing import Client, connect

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("soon"),
    pytest.mark.urls("tests.admin.test_live_access"),
]


class StrictSite(AdminSite):
    """Asks for a second factor, which a middleware reads from the session."""

    def has_permission(self, request: Any) -> bool:
        return super().has_permission(request) and request.is_verified()


class PickyAdmin(RealtimeAdmin):
    """Shows itself to ada, and lets operators act on the room that has their name alone."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request) and request.user.get_username() == "ada"

    def has_disconnect_permission(self, request: HttpRequest, target: Target | None = None) -> bool:
        return target is not None and target.name == request.user.get_username()

    def has_announce_permission(self, request: HttpRequest, target: Target | None = None) -> bool:
        return target is None or target.name == request.user.get_username()


strict, picky = StrictSite(name="strict"), AdminSite(name="picky")
strict.register([Realtime], RealtimeAdmin)  # type: ignore[list-item]
picky.register([Realtime], PickyAdmin)  # type: ignore[list-item]
# The default site has Realtime too, and no page.
urlpatterns = [path("strict/", strict.urls), path("picky/", picky.urls)]


def second_factor(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware: it also activates a language, as Django's own does."""

    def middleware(request: Any) -> HttpResponse:
        request.is_verified = lambda: bool(request.session.get("verified"))
        if request.path.endswith("/live/"):
            translation.activate("de")
        return get_response(request)

    return middleware


@pytest.fixture(autouse=True)
def with_second_factor(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.admin.test_live_access.second_factor"]


class Staff:
    """A user of the staff with a session."""

    def __init__(self, user: User, key: str) -> None:
        self.user = user
        self.key = key

    @classmethod
    async def make(cls, name: str = "eve", *, verified: bool = True) -> Staff:
        user = await amake_user(name, VIEW)
        browser = AsyncClient()
        await browser.aforce_login(user)
        staff = cls(user, browser.cookies["sessionid"].value)
        await staff.verify(verified)
        return staff

    async def verify(self, verified: bool) -> None:
        session = SessionStore(self.key)
        await session.aset("verified", verified)
        await session.asave()

    def watch(self, site: str = "strict") -> Client:
        """A page of a site."""
        return connect(AdminConsumer, f"/?site={site}", user=self.user, scope={"session": SessionStore(self.key)})


async def test_second_factor() -> None:
    """The socket serves those whom the site's own has_permission lets in, with all that middleware adds."""
    staff = await Staff.make()
    async with staff.watch() as client:
        await client.request(WatchOverview())
        assert isinstance(await client.receive(Overview), Overview)


async def test_without_second_factor() -> None:
    """Those whom the site sends to its login are refused by the socket too."""
    staff = await Staff.make(verified=False)
    async with staff.watch() as client:
        await client.assert_closed(close_codes.FORBIDDEN)


async def test_second_factor_is_over() -> None:
    """The site is asked with every question."""
    staff = await Staff.make()
    async with staff.watch() as client:
        await client.request(WatchOverview())
        await staff.verify(False)
        await client.send(WatchRooms(namespace="chat"))
        await client.assert_closed(close_codes.FORBIDDEN)


async def test_second_factor_is_over_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site is asked from time to time while a page is open."""
    monkeypatch.setattr(live, "RECHECK_INTERVAL", 0.05)
    staff = await Staff.make()
    async with staff.watch() as client:
        await client.request(WatchOverview())
        await staff.verify(False)
        await client.assert_closed(close_codes.FORBIDDEN)


@pytest.mark.parametrize("site", ["admin", "other", "", "strict:"])
async def test_no_other_door(site: str) -> None:
    """A site that has no pages, or that doesn't exist, refuses users who couldn't open a page."""
    staff = await Staff.make(verified=False)
    async with staff.watch(site) as client:
        await client.assert_closed(close_codes.FORBIDDEN)


async def test_without_a_session(caplog: pytest.LogCaptureFixture) -> None:
    """Where no session leads through the middleware, a site that needs it refuses, and the log says why."""
    user = await amake_user("eve", VIEW)
    async with connect(AdminConsumer, "/?site=strict", user=user) as client:
        await client.assert_closed(close_codes.FORBIDDEN)
    assert "can't check access to the admin site 'strict' without a session" in caplog.text


@pytest.mark.parametrize(("name", "is_shown"), [("ada", True), ("eve", False)])
@pytest.mark.parametrize("has_session", [True, False])
async def test_permission_of_the_page(name: str, is_shown: bool, has_session: bool) -> None:
    """The socket asks the admin class's own has_view_permission."""
    staff = await Staff.make(name)
    client = staff.watch("picky") if has_session else connect(AdminConsumer, "/?site=picky", user=staff.user)
    async with client:
        if is_shown:
            await client.request(WatchOverview())
        else:
            await client.assert_closed(close_codes.FORBIDDEN)


async def test_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """What middleware activates for the page's request does not stay with the connection."""
    seen: list[str | None] = []

    async def on_connect(consumer: AdminConsumer) -> None:
        seen.append(translation.get_language())
        consumer._polling = None

    monkeypatch.setattr(AdminConsumer, "on_connect", on_connect)
    staff = await Staff.make()
    before = translation.get_language()
    async with staff.watch():
        pass
    assert seen == [before]


# Whom an operator may disconnect.


async def sign_in(user: User) -> Operator:
    client = AsyncClient()
    await client.aforce_login(user)
    await Staff(user, client.cookies["sessionid"].value).verify(True)
    return Operator(client, user)


async def disconnect(operator: Operator, target: Target, *, site: str = "strict", status: int = 200) -> str:
    """Post the form of a site, and return the page to which that leads."""
    address = reverse(f"{site}:wsrt_realtime_disconnect")
    response = await operator.client.post(address, {"target": target.token, "confirm": "1"}, follow=True)
    return text_of(response, status)


@pytest.mark.parametrize("kind", ["everyone", "room", "connection"])
async def test_superusers_stay(kind: Any) -> None:
    """An operator who isn't a superuser leaves the connections of superusers open."""
    root = await sync_to_async(User.objects.create_superuser)("root")
    operator = await sign_in(await amake_user("eve", VIEW, DISCONNECT))
    theirs, other = visitor("lobby", str(root.pk)), visitor("lobby", "other")
    async with everybody(other, theirs):
        name = {"everyone": "", "room": "lobby", "connection": theirs.consumer.id}[kind]
        target = Target(kind, "chat", name)
        text = await disconnect(operator, target)
        if kind != "connection":
            await other.assert_closed(close_codes.DISCONNECTED)
        await theirs.assert_silent()
        assert "only superusers may disconnect them" in text
        assert "only superusers" not in await disconnect(await sign_in(root), target)
        await theirs.assert_closed(close_codes.DISCONNECTED)


async def test_superuser_as_target() -> None:
    """An operator who isn't a superuser reads that they may not disconnect a superuser."""
    root = await sync_to_async(User.objects.create_superuser)("root")
    operator = await sign_in(await amake_user("eve", VIEW, DISCONNECT))
    theirs = visitor("lobby", str(root.pk))
    async with everybody(theirs):
        target = Target("user", None, str(root.pk))
        assert "Not disconnected: only superusers may disconnect a superuser." in await disconnect(operator, target)
        await theirs.assert_silent()
        await disconnect(await sign_in(root), target)
        await theirs.assert_closed(close_codes.DISCONNECTED)


async def test_too_many_superusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more superusers than a command can leave out, operators disconnect single users only."""
    monkeypatch.setattr(targets, "MAX_PROTECTED", 1)
    monkeypatch.setattr("wsrt.admin.actions.MAX_PROTECTED", 1)
    for name in ("root", "admin"):
        await sync_to_async(User.objects.create_superuser)(name)
    operator = await sign_in(await amake_user("eve", VIEW, DISCONNECT))
    one, other = visitor("lobby", "one"), visitor("lobby", "other")
    async with everybody(one, other):
        await disconnect(operator, Target("room", "chat", "lobby"))
        await one.assert_silent()
        await disconnect(operator, Target("user", None, "one"))
        await one.assert_closed(close_codes.DISCONNECTED)
        await other.assert_silent()


async def test_targets_of_an_operator() -> None:
    """An admin class may allow each operator their own targets; the pages offer what is allowed."""
    operator = await sign_in(await amake_user("ada", VIEW))
    own, other = Target("room", "chat", "ada"), Target("room", "chat", "lobby")
    one = visitor("ada")
    async with everybody(one):
        for target, status in ((other, 403), (own, 200)):
            await disconnect(operator, target, site="picky", status=status)
            text = (await operator.client.get(picky_page("room", target))).content.decode()
            assert ("wsrt-danger" in text) is (status == 200)
        await one.assert_closed(close_codes.DISCONNECTED)


async def test_announcements_of_an_operator() -> None:
    """So are announcements: who may announce to one room may not do so to another."""
    operator = await sign_in(await amake_user("ada", VIEW))
    address = f"{reverse('picky:wsrt_realtime_announce')}?namespace=chat&event=said"
    for room, status in (("lobby", 403), ("ada", 302)):
        data = {"to": "room", "name": room, "data": '{"text": "hi"}', "confirm": "1"}
        assert (await operator.client.post(address, data)).status_code == status


async def test_object_permissions() -> None:
    """Backends that know permissions of single objects are asked about the target."""
    user = await amake_user("ada", VIEW)
    asked: list[Any] = []

    def has_perm(permission: str, obj: Any = None) -> bool:
        asked.append((permission, obj))
        return obj is not None

    request = HttpRequest()
    request.user = user
    user.has_perm = has_perm  # type: ignore[method-assign]
    admin = strict._registry[Realtime]  # type: ignore[index]
    target = Target("room", "chat", "lobby")
    assert isinstance(admin, RealtimeAdmin)
    assert not admin.has_disconnect_permission(request)
    assert admin.has_disconnect_permission(request, target)
    assert admin.has_announce_permission(request, target)
    assert (DISCONNECT, target) in asked
    assert (ANNOUNCE, target) in asked


def picky_page(name: str, target: Target) -> str:
    return f"{reverse(f'picky:wsrt_realtime_{name}')}?namespace={target.namespace}&room={target.name}"
