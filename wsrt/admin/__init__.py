"""
"Realtime" in Django's admin: who is connected, and what may be done to them.

Registered with the default site when the admin looks for modules like this one; with another one by

    from wsrt.admin import Realtime, RealtimeAdmin

    site.register([Realtime], RealtimeAdmin)
"""

from __future__ import annotations

from django.contrib import admin

from ..permissions import Realtime
from .views import RealtimeAdmin

__all__ = ["Realtime", "RealtimeAdmin"]

admin.site.register([Realtime], RealtimeAdmin)
