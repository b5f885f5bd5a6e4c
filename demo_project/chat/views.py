"""The pages of the demo."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_POST

from demo_project.chat.announcing import announce as store_and_publish
from demo_project.chat.events import MessageSent
from demo_project.chat.forms import AnnouncementForm, GuestForm
from demo_project.chat.models import Message, Room
from demo_project.chat.people import SEEDED, is_member, make_guest, seeded_people
from wsrt import room_position

SHOWN = 50


def home(request: HttpRequest) -> HttpResponse:
    return redirect("room", slug="lobby") if request.user.is_authenticated else redirect("sign-in")


def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in as one of the seeded users, without a password: this is a demo."""
    form = GuestForm(request.POST or None)
    if request.method == "POST":
        if request.POST.get("user") in SEEDED:
            user = get_object_or_404(User, username=request.POST["user"].lower())
        elif form.is_valid():
            user = make_guest(form.cleaned_data["name"])
        else:
            return render(request, "chat/sign_in.html", {"people": seeded_people(), "form": form}, status=400)
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        page = request.GET.get("next", "")
        is_own = url_has_allowed_host_and_scheme(page, {request.get_host()})
        return redirect(page if is_own else "home")
    return render(request, "chat/sign_in.html", {"people": seeded_people(), "form": GuestForm()})


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")


@login_required
@require_GET
def room(request: HttpRequest, slug: str) -> HttpResponse:
    here = get_object_or_404(Room, slug=slug)
    allowed = _may_read(request, here)
    # Read before the messages: the client then receives every message that comes after them.
    position = room_position(here.slug, namespace="chat") if allowed else None
    latest = list(Message.objects.filter(room=here).order_by("-pk")[:SHOWN]) if allowed else []
    context = {
        "room": here,
        "rooms": Room.objects.all(),
        "position": position,
        "shown": [_as_json(message) for message in reversed(latest)],
        "allowed": allowed,
        "may_announce": is_member(request.user),
    }
    return render(request, "chat/room.html", context)


@login_required
@require_POST
def announce(request: HttpRequest, slug: str) -> HttpResponse:
    """Publish an announcement to everyone in the room, from an ordinary view."""
    here = get_object_or_404(Room, slug=slug)
    form = AnnouncementForm(request.POST)
    if not is_member(request.user):
        raise PermissionDenied("Only members announce.")
    if form.is_valid():
        assert isinstance(request.user, User)
        store_and_publish(here, request.user.first_name, form.cleaned_data["text"])
        messages.success(request, f"Announced to everyone in {here.name}.")
    else:
        messages.error(request, "An announcement needs a text of at most 200 characters.")
    return redirect("room", slug=slug)


def _may_read(request: HttpRequest, room: Room) -> bool:
    return not room.members_only or is_member(request.user)


def _as_json(message: Message) -> dict[str, object]:
    return MessageSent.model_validate(message).model_dump(mode="json")
