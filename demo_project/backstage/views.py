"""The views behind the panel."""

from __future__ import annotations

import ipaddress
import os
import threading

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST
from django.views.static import serve

SITE = settings.BASE_DIR.parent / "site"
"""The documentation, as ``make docs`` builds it."""


@require_POST
@login_required
def kill(request: HttpRequest) -> HttpResponse:
    """
    End this process, as a crash does: no close frames, no clean-up.

    Only in development, for a browser on the same machine, and if scripts/demo.py is there to start it again.
    """
    address = ipaddress.ip_address(request.META["REMOTE_ADDR"])
    if not (settings.DEBUG and settings.DEMO_PORTS and address.is_loopback):
        raise Http404
    # After the answer has been sent.
    threading.Timer(0.2, os._exit, [1]).start()
    return HttpResponse(status=204)


@require_GET
def docs(request: HttpRequest, path: str = "") -> HttpResponseBase:
    """Serve the documentation, or explain how to build it."""
    if not (SITE / "index.html").is_file():
        return render(request, "backstage/no_docs.html", status=404)
    if (SITE / path).is_dir():
        if path and not path.endswith("/"):
            return HttpResponseRedirect(f"{request.path}/")
        path += "index.html"
    return serve(request, path, str(SITE))
