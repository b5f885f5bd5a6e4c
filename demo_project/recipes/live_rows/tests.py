from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase

from wsrt import close_codes
from wsrt.testing import Client, RequestRefused, capture_publications, connect

from .consumers import TicketsConsumer
from .events import AddTicket, MoveTicket, TicketDeleted, Tickets, TicketSaved
from .models import Ticket


class LiveRowsTests(TestCase):
    ada: User
    ticket: Ticket

    @classmethod
    def setUpTestData(cls) -> None:
        cls.ada = User.objects.create(username="ada")
        cls.ticket = Ticket.objects.create(title="Water the plants")

    def page(self) -> Client:
        return connect(TicketsConsumer, user=self.ada)

    async def test_pages_follow_each_other(self) -> None:
        async with self.page() as one, self.page() as two:
            for page in (one, two):
                (shown,) = (await page.receive(Tickets)).tickets
                self.assertEqual((shown.title, shown.status), ("Water the plants", "open"))
            async with capture_publications():
                await one.request(MoveTicket(id=shown.id, status="done"))
            for page in (one, two):
                saved = await page.receive(TicketSaved)
                self.assertEqual((saved.status, saved.version), ("done", shown.version + 1))
            async with capture_publications():
                await two.request(AddTicket(title="Feed the cat"))
            for page in (one, two):
                self.assertEqual((await page.receive(TicketSaved)).title, "Feed the cat")
            async with capture_publications():
                await Ticket.objects.filter(pk=shown.id).adelete()
            for page in (one, two):
                self.assertEqual(await page.receive(TicketDeleted), TicketDeleted(id=shown.id))

    async def test_unknown_row(self) -> None:
        async with self.page() as page:
            with self.assertRaises(RequestRefused) as refused:
                await page.request(MoveTicket(id=10**9, status="done"))
            self.assertEqual(refused.exception.code, "not_found")

    def test_versions(self) -> None:
        """Each save writes the next version, even from an instance that is out of date."""
        copies = [Ticket.objects.get(pk=self.ticket.pk) for _ in range(2)]
        with capture_publications() as published:
            copies[0].save()
            copies[1].save(update_fields=["status"])
        events = published.to_room("tickets", namespace="live_rows")
        self.assertEqual([event.version for event in events if isinstance(event, TicketSaved)], [2, 3])
        self.ticket.refresh_from_db()
        self.assertEqual(self.ticket.version, 3)

    def test_rollback(self) -> None:
        with capture_publications() as published, transaction.atomic():
            self.ticket.delete()
            transaction.set_rollback(True)
        self.assertEqual(published, [])

    async def test_guests_are_refused(self) -> None:
        async with connect(TicketsConsumer) as guest:
            await guest.assert_closed(close_codes.UNAUTHENTICATED)
