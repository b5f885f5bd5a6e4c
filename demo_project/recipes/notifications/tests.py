from __future__ import annotations

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase
from django.urls import reverse

from wsrt import close_codes
from wsrt.testing import capture_publications, connect

from .consumers import NotificationsConsumer
from .events import MarkRead, Notified, Read, Unread
from .sending import notify


class NotificationTests(TestCase):
    ada: User
    bob: User

    @classmethod
    def setUpTestData(cls) -> None:
        cls.ada = User.objects.create(username="ada")
        cls.bob = User.objects.create(username="bob")

    async def test_tabs(self) -> None:
        """Each tab starts with the unread notifications. Reading them in one tab clears the others."""
        for text in ("first", "second"):
            await sync_to_async(notify)(self.ada, text)
        async with (
            connect(NotificationsConsumer, user=self.ada) as one,
            connect(NotificationsConsumer, user=self.ada) as two,
            connect(NotificationsConsumer, user=self.bob) as other,
        ):
            for tab in (one, two):
                unread = (await tab.receive(Unread)).notifications
                self.assertEqual([each.text for each in unread], ["first", "second"])
            self.assertEqual(await other.receive(Unread), Unread(notifications=[]))
            await one.request(MarkRead(up_to=unread[0].id))
            for tab in (one, two):
                self.assertEqual(await tab.receive(Read), Read(up_to=unread[0].id))
            await other.assert_silent()
        async with connect(NotificationsConsumer, user=self.ada) as again:
            self.assertEqual((await again.receive(Unread)).notifications, unread[1:])

    async def test_others_notifications_stay_unread(self) -> None:
        await sync_to_async(notify)(self.ada, "for ada")
        async with connect(NotificationsConsumer, user=self.bob) as bob:
            await bob.request(MarkRead(up_to=10**9))
        async with connect(NotificationsConsumer, user=self.ada) as ada:
            self.assertEqual(len((await ada.receive(Unread)).notifications), 1)

    async def test_guests_are_refused(self) -> None:
        async with connect(NotificationsConsumer) as guest:
            await guest.assert_closed(close_codes.UNAUTHENTICATED)

    def test_view(self) -> None:
        self.client.force_login(self.ada)
        with capture_publications() as published:
            self.client.post(reverse("notifications"), {"recipient": self.bob.pk, "text": "hello"})
        (event,) = published.to_user(self.bob, namespace="notifications")
        assert isinstance(event, Notified)
        self.assertEqual(event.text, "hello")

    def test_rollback(self) -> None:
        with capture_publications() as published, transaction.atomic():
            notify(self.ada, "never")
            transaction.set_rollback(True)
        self.assertEqual(published, [])
