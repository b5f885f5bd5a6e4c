"""The visitors of the demo: a few seeded users, and guests."""

from __future__ import annotations

import secrets

from asgiref.sync import sync_to_async
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet
from django.utils.text import slugify

from demo_project.chat.models import MEMBERS, Room

SEEDED = ("Ada", "Grace", "Linus", "Margaret")

OPERATOR = "Ada"
"""The seeded user who may use the admin."""


def seeded_people() -> QuerySet[User]:
    """Return the seeded users."""
    return User.objects.filter(username__in=[name.lower() for name in SEEDED]).order_by("pk")


def make_guest(name: str) -> User:
    """Create a user with the permissions of a guest. Several guests may have the same name."""
    user = User(username=f"{slugify(name) or 'guest'}-{secrets.token_hex(3)}", first_name=name)
    user.set_unusable_password()
    user.save()
    return user


def is_member(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Return whether a user may enter members' rooms."""
    return isinstance(user, User) and user.groups.filter(name=MEMBERS).exists()


async def may_read(user: AbstractBaseUser | AnonymousUser, slug: str) -> bool:
    """Return whether a room exists, and a user may read what is said in it."""
    room = await Room.objects.filter(slug=slug).afirst()
    return room is not None and (not room.members_only or await sync_to_async(is_member)(user))
