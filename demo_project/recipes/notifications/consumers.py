from __future__ import annotations

from django.contrib.auth.models import User

from wsrt import TypedEventConsumer, on

from .events import MarkRead, Notified, Read, Unread
from .models import Notification


class NotificationsConsumer(TypedEventConsumer[User]):
    """One tab of a signed-in user."""

    namespace = "notifications"
    path = "ws/notifications/"
    out_events = (Unread, Notified, Read)

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def on_connect(self) -> None:
        # What is published in the meantime waits until this returns, so no notification is missed.
        unread = Notification.objects.filter(recipient=self.user, is_read=False)
        rows = [row async for row in unread.reverse()[:50]]
        await self.send(Unread.model_validate({"notifications": rows[::-1]}))

    @on
    async def mark_read(self, event: MarkRead) -> None:
        unread = Notification.objects.filter(recipient=self.user, is_read=False)
        await unread.filter(pk__lte=event.up_to).aupdate(is_read=True)
        await self.publish_to_user(self.user, Read(up_to=event.up_to))
