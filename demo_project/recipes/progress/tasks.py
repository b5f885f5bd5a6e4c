from demo_project.celery_app import app

from . import jobs


@app.task
def run_export(export_id: int) -> None:
    jobs.run_export(export_id)
