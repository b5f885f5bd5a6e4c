"""
Durable publishing: an app that stores publications in the database, and publishes them from there.

A publication is stored as a row, in the transaction that makes it. If the transaction commits, the event is published,
even if Redis is down at that moment or the process ends immediately afterwards. If the transaction is rolled back, the
event isn't published. The command ``wsrt_durable_worker`` publishes the rows.

    INSTALLED_APPS = [..., "wsrt", "wsrt.durable"]

    from wsrt.durable import publish_to_room

    with transaction.atomic():
        message = Message.objects.create(text="hi")
        publish_to_room("lobby", MessageSent.model_validate(message), namespace="chat")

This package may be imported before the apps are ready: it imports its models when they are used.
"""

from __future__ import annotations

from .publishing import (
    apublish_many,
    apublish_to_room,
    apublish_to_user,
    publish_many,
    publish_to_room,
    publish_to_user,
    publish_waiting,
)

__all__ = [
    "apublish_many",
    "apublish_to_room",
    "apublish_to_user",
    "publish_many",
    "publish_to_room",
    "publish_to_user",
    "publish_waiting",
]
