from __future__ import annotations

from demo_project.celery_app import app
from demo_project.recipes.progress import jobs


@app.task
def run_export(export_id: int) -> None:
    jobs.run_export(export_id)
