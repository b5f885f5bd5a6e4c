from __future__ import annotations

from unittest import mock, skipIf

import django
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import TestCase
from django.urls import reverse

from wsrt import BackplaneUnavailable, close_codes
from wsrt.testing import capture_publications, connect

from . import jobs, starting
from .consumers import ProgressConsumer
from .events import Exports, Progress
from .models import Export


@mock.patch.multiple(jobs, write_row=mock.Mock(), REPORT_SECONDS=0)
class ProgressTests(TestCase):
    ada: User
    bob: User
    export: Export

    @classmethod
    def setUpTestData(cls) -> None:
        cls.ada = User.objects.create(username="ada")
        cls.bob = User.objects.create(username="bob")
        cls.export = Export.objects.create(owner=cls.ada, total=3)

    async def test_owner_sees_progress(self) -> None:
        async with (
            connect(ProgressConsumer, user=self.ada) as ada,
            connect(ProgressConsumer, user=self.bob) as bob,
        ):
            (waiting,) = (await ada.receive(Exports)).exports
            self.assertEqual((waiting.state, waiting.done, waiting.total), ("waiting", 0, 3))
            self.assertEqual(await bob.receive(Exports), Exports(exports=[]))
            async with capture_publications():
                await sync_to_async(jobs.run_export)(self.export.pk)
            seen = [await ada.receive(Progress) for _ in range(4)]
            self.assertEqual([event.done for event in seen], [1, 2, 3, 3])
            self.assertEqual([event.state for event in seen], ["running", "running", "running", "finished"])
            await bob.assert_silent()

    async def test_late_page_reads_the_row(self) -> None:
        await sync_to_async(jobs.run_export)(self.export.pk)
        async with connect(ProgressConsumer, user=self.ada) as late:
            (export,) = (await late.receive(Exports)).exports
            self.assertEqual((export.state, export.done), ("finished", 3))

    def test_failure_is_reported(self) -> None:
        with (
            mock.patch.object(jobs, "write_row", side_effect=[None, OSError("disk full")]),
            capture_publications() as published,
            self.assertRaises(OSError),
        ):
            jobs.run_export(self.export.pk)
        last = published.to_user(self.ada, namespace="progress")[-1]
        self.assertEqual(last, Progress(id=self.export.pk, state="failed", done=1, total=3))

    def test_work_survives_an_outage_of_the_layer(self) -> None:
        with (
            mock.patch.object(jobs, "publish_to_user", side_effect=BackplaneUnavailable("down")),
            self.assertLogs(jobs.logger, "WARNING"),
        ):
            jobs.run_export(self.export.pk)
        self.export.refresh_from_db()
        self.assertEqual(self.export.state, "finished")

    def test_view_starts_after_the_commit(self) -> None:
        self.client.force_login(self.ada)
        with (
            mock.patch.object(starting, "_start_thread") as start,
            self.captureOnCommitCallbacks(execute=True),
        ):
            response = self.client.post(reverse("progress-start"))
            start.assert_not_called()
        start.assert_called_once_with(response.json()["id"])

    @skipIf(django.VERSION < (6, 0), "Django has its own tasks since 6.0")
    def test_django_task(self) -> None:
        from . import django_tasks

        django_tasks.run_export.enqueue(self.export.pk)
        self.export.refresh_from_db()
        self.assertEqual(self.export.state, "finished")

    async def test_guests_are_refused(self) -> None:
        async with connect(ProgressConsumer) as guest:
            await guest.assert_closed(close_codes.UNAUTHENTICATED)
