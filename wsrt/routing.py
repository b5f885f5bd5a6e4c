"""
The URL patterns of wsrt's own consumers.

    from wsrt.routing import admin_urlpatterns

    URLRouter([*websocket_urlpatterns, *admin_urlpatterns])     # below AuthMiddlewareStack
"""

from __future__ import annotations

from django.urls import path

from .admin.live import AdminConsumer

__all__ = ["admin_urlpatterns"]

admin_urlpatterns = [path("ws/wsrt/admin/", AdminConsumer.as_asgi(), name="wsrt-admin")]
"""The WebSocket route that keeps the admin's pages up to date."""
