"""
"Realtime" in Django's admin: pages that show the connections, and actions on them.

The admin's autodiscovery registers it with the default site. To register it with another site:

    from wsrt.admin import Realtime, RealtimeAdmin

    site.register([Realtime], RealtimeAdmin)
"""

from __future__ import annotations

from django.apps import apps

from ..permissions import Realtime

__all__ = ["Realtime", "RealtimeAdmin"]

# wsrt.routing imports this package for the live socket, even in projects that don't install the admin.
if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    from .views import RealtimeAdmin

    admin.site.register([Realtime], RealtimeAdmin)
