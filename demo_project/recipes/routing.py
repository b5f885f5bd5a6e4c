from django.urls import path

from demo_project.recipes.notifications.consumers import NotificationsConsumer
from demo_project.recipes.progress.consumers import ProgressConsumer

websocket_urlpatterns = [
    path("ws/notifications/", NotificationsConsumer.as_asgi()),
    path("ws/progress/", ProgressConsumer.as_asgi()),
]
