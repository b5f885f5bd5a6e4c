"""The ways to publish that views, tasks and commands of the tests share."""

from __future__ import annotations

from django.db import transaction

from tests.apps.chat.events import Said
from wsrt import addresses as to
from wsrt import broadcast, publish_to_audience, publish_to_room, publish_to_user


def publish_as(kind: str, target: str, text: str) -> None:
    match kind:
        case "room":
            publish_to_room(target, Said(text=text), namespace="chat")
        case "user":
            publish_to_user(target, Said(text=text), namespace="chat")
        case "users":
            publish_to_audience(to.Users(target.split(",")), Said(text=text), namespace="chat")
        case "rooms":
            publish_to_audience(to.Rooms(target.split(",")), Said(text=text), namespace="chat")
        case "audience":
            publish_to_audience(to.Room(target) | to.User(target), Said(text=text), namespace="chat")
        case "everyone":
            broadcast(Said(text=text), namespace="chat")
        case "commit":
            with transaction.atomic():
                publish_to_room(target, Said(text=text), namespace="chat")
        case "rollback":
            with transaction.atomic():
                publish_to_room(target, Said(text=text), namespace="chat")
                transaction.set_rollback(True)
        case "many":
            for number in range(int(text)):
                publish_to_room(target, Said(text=str(number)), namespace="chat")
        case "nothing":
            pass
        case _:
            raise ValueError(kind)
