from __future__ import annotations

from datetime import datetime

from wsrt import Event


class NotificationData(Event):
    """The fields of a notification that its recipient sees."""

    id: int
    text: str
    sent_at: datetime


class Notified(NotificationData, name="notification.new"):
    """A notification was sent to the user."""


class Unread(Event, name="notification.unread"):
    """The unread notifications, oldest first. Sent once to each connection."""

    notifications: list[NotificationData]


class MarkRead(Event, name="notification.mark_read"):
    """Sent by a client when its user has read the notifications up to an id."""

    up_to: int


class Read(Event, name="notification.read"):
    """The user has read the notifications up to an id, in any tab."""

    up_to: int
