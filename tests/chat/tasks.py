from __future__ import annotations

from tests.celery_app import app
from tests.chat.publishing import publish_as


@app.task
def publish(kind: str, target: str, text: str) -> None:
    publish_as(kind, target, text)
