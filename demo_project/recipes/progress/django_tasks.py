"""The export as one of Django's own tasks (Django 6.0 and newer): ``run_export.enqueue(export.pk)``."""

from django.tasks import task

from . import jobs


@task
def run_export(export_id: int) -> None:
    jobs.run_export(export_id)
