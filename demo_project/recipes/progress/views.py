from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from .events import ExportData
from .starting import start_export


@login_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "progress/page.html")


@login_required
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Start an export and return at once. The page sees it advance on its socket."""
    assert isinstance(request.user, User)
    export = ExportData.model_validate(start_export(request.user))
    return HttpResponse(export.model_dump_json(), content_type="application/json", status=202)
