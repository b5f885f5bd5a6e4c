from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand

from demo_project.chat.models import MEMBERS, Message, Room
from demo_project.chat.people import OPERATOR, SEEDED

ROOMS = [
    ("lobby", "Lobby", "Say hello", False),
    ("engineering", "Engineering", "What broke, and why", False),
    ("random", "Random", "Anything but work", False),
    ("members", "Members", "No guests in here", True),
]
HELLO = [
    ("Grace", "Open a second window, sign in as somebody else, and watch a message arrive."),
    ("Linus", "Then break something with the buttons on the right. The page comes back by itself."),
]


class Command(BaseCommand):
    help = "Create the rooms and users of the demo, unless they exist."

    def handle(self, *args: Any, **options: Any) -> None:
        members, _ = Group.objects.get_or_create(name=MEMBERS)
        for name in SEEDED:
            user, is_new = User.objects.get_or_create(username=name.lower(), defaults={"first_name": name})
            if is_new:
                user.set_unusable_password()
                user.save()
                user.groups.add(members)
        User.objects.filter(username=OPERATOR.lower()).update(is_staff=True, is_superuser=True)
        for slug, name, topic, members_only in ROOMS:
            defaults = {"name": name, "topic": topic, "members_only": members_only}
            room, is_new = Room.objects.get_or_create(slug=slug, defaults=defaults)
            if is_new and slug == "lobby":
                for author, text in HELLO:
                    user = User.objects.get(username=author.lower())
                    Message.objects.create(room=room, user=user, author=author, text=text)
