from __future__ import annotations

from tests.apps.celery_app import app
from tests.apps.chat.publishing import publish_as


@app.task
def publish(kind: str, target: str, text: str) -> None:
    publish_as(kind, target, text)
