"""Who sees what, and may do what."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import AdminSite, site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import include, path, reverse

from tests.admin.conftest import make_user, page
from wsrt.admin import Realtime, RealtimeAdmin
from wsrt.admin.targets import Target
from wsrt.permissions import ANNOUNCE, DISCONNECT, PERMISSIONS, VIEW, add_permissions

pytestmark = pytest.mark.django_db

PAGES = {
    "changelist": {},
    "rooms": {},
    "users": {},
    "room": {"namespace": "chat", "room": "lobby"},
    "user": {"user": "7"},
    "schema": {},
    "log": {},
    "announce": {},
}
NEEDED = dict.fromkeys(PAGES, VIEW) | {"announce": ANNOUNCE}

ROOM = Target("room", "chat", "lobby")


def sign_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("permission", [VIEW, DISCONNECT, ANNOUNCE])
def test_pages(name: str, permission: str) -> None:
    """A page is shown only to staff who have its permission."""
    response = sign_in(make_user("eve", permission)).get(page(name, **PAGES[name]))
    if (name, permission) == ("changelist", ANNOUNCE):
        # The way in, for those who may announce and nothing else.
        assert response.headers["Location"] == page("announce")
    else:
        assert response.status_code == (200 if permission == NEEDED[name] else 403)


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_nobody(name: str) -> None:
    """A user who isn't staff has to sign in, whatever their permissions are. Superusers see everything."""
    visitor = make_user("eve", *PERMISSIONS, is_staff=False)
    for client in (Client(), sign_in(visitor)):
        assert client.get(page(name, **PAGES[name])).headers["Location"].startswith(reverse("admin:login"))
    root = User.objects.create_superuser("root")
    assert sign_in(root).get(page(name, **PAGES[name])).status_code == 200


@pytest.mark.parametrize("permission", [VIEW, ANNOUNCE])
def test_may_not_disconnect(permission: str) -> None:
    """Only who may disconnect does."""
    response = sign_in(make_user("eve", permission)).post(page("disconnect"), {"target": ROOM.token, "confirm": "1"})
    assert response.status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("permission", [VIEW, DISCONNECT])
def test_may_not_announce(permission: str) -> None:
    """Only who may announce does."""
    address = page("announce", namespace="chat", event="said")
    data = {"to": "everyone", "data": '{"text": "hi"}', "confirm": "1"}
    assert sign_in(make_user("eve", permission)).post(address, data).status_code == 403


def test_actions_are_posted() -> None:
    """Neither following a link nor a form of another site disconnects anything."""
    user = make_user("eve", *PERMISSIONS)
    response = sign_in(user).get(page("disconnect"), {"target": ROOM.token})
    assert (response.status_code, response["Location"]) == (302, page("changelist"))
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert client.post(page("disconnect"), {"target": ROOM.token, "confirm": "1"}).status_code == 403


@pytest.mark.parametrize(
    ("permissions", "shown"), [((VIEW,), True), ((ANNOUNCE,), True), ((DISCONNECT,), False), ((), False)]
)
def test_index(permissions: tuple[str, ...], shown: bool) -> None:
    """ "Realtime" is on the index of those who can do something there."""
    client = sign_in(make_user("eve", "auth.view_user", *permissions))
    index = client.get(reverse("admin:index")).content.decode()
    assert ("Realtime" in index) is shown
    assert (f'href="{page("changelist")}"' in index) is shown
    assert client.get("/admin/wsrt/").status_code == (200 if shown else 404)


def test_nothing_to_add_or_change() -> None:
    """It isn't a real model: no user can add, change or delete anything."""
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    realtime = site._registry[Realtime]  # type: ignore[index]
    assert realtime.has_view_permission(request)
    assert not realtime.has_add_permission(request)
    assert not realtime.has_change_permission(request)
    assert not realtime.has_delete_permission(request)


def test_rows() -> None:
    """migrate adds a content type and three permissions; said again, nothing happens."""
    add_permissions()
    content_type = ContentType.objects.get(app_label="wsrt")
    assert content_type.model == "realtime"
    found = Permission.objects.filter(content_type=content_type)
    assert {f"wsrt.{permission.codename}": permission.name for permission in found} == PERMISSIONS
    assert str(content_type) == "Realtime | realtime"


def test_rows_that_are_missing() -> None:
    """A permission that is missing is added, and the others stay as they are given."""
    group = Group.objects.create(name="operators")
    group.permissions.add(Permission.objects.get(codename="announce"))
    Permission.objects.get(codename="disconnect").delete()
    call_command("migrate", verbosity=0)
    assert Permission.objects.filter(content_type__app_label="wsrt").count() == len(PERMISSIONS)
    assert [permission.codename for permission in group.permissions.all()] == ["announce"]


def test_no_rows_before_their_tables() -> None:
    """Where migrations have not come to users yet, there is nothing to add to."""

    class Before:
        def get_model(self, *names: str) -> Any:
            raise LookupError

    add_permissions(apps=Before())  # type: ignore[arg-type]


def test_no_rows_in_other_databases(settings: Any) -> None:
    """A database that the router keeps users out of gets no rows."""
    Permission.objects.filter(content_type__app_label="wsrt").delete()
    settings.DATABASE_ROUTERS = ["tests.admin.test_permissions.Nowhere"]
    add_permissions()
    assert not Permission.objects.filter(content_type__app_label="wsrt").exists()


class Nowhere:
    """A router."""

    def allow_migrate(self, *args: Any, **hints: Any) -> bool:
        return False


def test_assignable() -> None:
    """The permissions can be given to groups and users, in the admin's own forms."""
    root = sign_in(User.objects.create_superuser("root"))
    form = root.get(reverse("admin:auth_group_add")).content.decode()
    for name in PERMISSIONS.values():
        assert f"Realtime | realtime | {name}" in form


def test_no_table_and_no_migration() -> None:
    """There is no table but those of durable publishing, nothing to migrate, and fixtures can be dumped."""
    tables = [table for table in connection.introspection.table_names() if table.startswith("wsrt")]
    assert not [table for table in tables if not table.startswith("wsrt_durable")]
    call_command("makemigrations", "wsrt", check=True, dry_run=True, verbosity=0)
    out = StringIO()
    call_command("dumpdata", stdout=out)
    assert "view_realtime" in out.getvalue()


def test_content_type_is_not_stale() -> None:
    """remove_stale_contenttypes leaves the permissions that were given."""
    call_command("remove_stale_contenttypes", interactive=False, include_stale_apps=True, verbosity=0)
    assert Permission.objects.filter(content_type__app_label="wsrt").count() == len(PERMISSIONS)


def test_no_objects() -> None:
    """The content type leads to no object, and the admin's shortcut to objects says so."""
    content_type = ContentType.objects.get(app_label="wsrt")
    assert content_type.model_class() is Realtime
    root = sign_in(User.objects.create_superuser("root"))
    assert root.get(reverse("admin:view_on_site", args=[content_type.pk, 1])).status_code == 404


def test_other_models_are_found_as_ever() -> None:
    """The app has no other models."""
    with pytest.raises(LookupError):
        apps.get_model("wsrt", "nothing")
    assert list(apps.get_app_config("wsrt").get_models()) == []


def test_checks() -> None:
    """The system checks have nothing to say."""
    call_command("check")
    assert site.check(None) == []


other_site = AdminSite(name="other")
other_site.register([Realtime], RealtimeAdmin)  # type: ignore[list-item]


class TeamAdmin(RealtimeAdmin):
    """Refuses everybody."""

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return False


replaced_site = AdminSite(name="replaced")
replaced_site.register([Realtime], RealtimeAdmin)  # type: ignore[list-item]
replaced_site.unregister([Realtime])  # type: ignore[list-item]
replaced_site.register([Realtime], TeamAdmin)  # type: ignore[list-item]

urlpatterns = [
    path("admin/", site.urls),
    path("other/", include([path("", other_site.urls)])),
    path("replaced/", include([path("", replaced_site.urls)])),
]


@pytest.mark.urls("tests.admin.test_permissions")
def test_other_site() -> None:
    """On a site of the project's own the pages lead to each other."""
    root = sign_in(User.objects.create_superuser("root"))
    text = root.get("/other/wsrt/realtime/").content.decode()
    assert 'href="/other/wsrt/realtime/rooms/"' in text
    assert "/admin/" not in text.replace("/static/admin/", "").replace("/ws/wsrt/admin/", "")
    assert 'href="/other/wsrt/realtime/"' in root.get("/other/").content.decode()


@pytest.mark.urls("tests.admin.test_permissions")
def test_replaced_class() -> None:
    """A subclass that is registered in place of wsrt's class serves the pages of its site."""
    root = sign_in(User.objects.create_superuser("root"))
    assert root.get("/admin/wsrt/realtime/rooms/").status_code == 200
    assert root.get("/replaced/wsrt/realtime/rooms/").status_code == 403
