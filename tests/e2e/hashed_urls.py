"""Static files as a web server serves them: what was collected, and nothing else."""

from __future__ import annotations

from django.conf import settings
from django.urls import path
from django.views.static import serve

from tests import urls

urlpatterns = [path("static/<path:path>", serve, {"document_root": settings.STATIC_ROOT}), *urls.urlpatterns]
