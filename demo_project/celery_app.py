"""
The Celery application of the demo, for a worker in a process of its own.

    CELERY_BROKER_URL=$REDIS_URL celery -A demo_project.celery_app worker

The demo's servers use it if CELERY_BROKER_URL is set.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")

from celery import Celery

app = Celery("demo_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
