"""
"Realtime" in Django's admin: who is connected, and what may be done to them.

Registered with the default site when the admin looks for modules like this one; with another one by

    from wsrt.admin import Realtime, RealtimeAdmin

    site.register([Realtime], RealtimeAdmin)
"""

from __future__ import annotations

from django.apps import apps

from ..permissions import Realtime

__all__ = ["Realtime", "RealtimeAdmin"]

# Routes lead to the socket of these pages in projects without the admin too.
if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    from .views import RealtimeAdmin

    admin.site.register([Realtime], RealtimeAdmin)
