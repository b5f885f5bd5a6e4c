from __future__ import annotations

from django.contrib.auth.models import User

from wsrt import publish_to_user

from .events import Notified
from .models import Notification


def notify(recipient: User, text: str) -> Notification:
    """
    Notify a user: store a notification, and publish it to all connections of the user.

    Inside a transaction it is published after the commit, and not at all if the transaction is rolled back.
    """
    notification = Notification.objects.create(recipient=recipient, text=text)
    publish_to_user(recipient, Notified.model_validate(notification), namespace="notifications")
    return notification
