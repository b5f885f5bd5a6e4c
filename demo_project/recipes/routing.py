from django.urls import path

from demo_project.recipes.cursors.consumers import CursorsConsumer
from demo_project.recipes.live_rows.consumers import TicketsConsumer
from demo_project.recipes.notifications.consumers import NotificationsConsumer
from demo_project.recipes.progress.consumers import ProgressConsumer
from demo_project.recipes.token_stream.consumers import AnswersConsumer

websocket_urlpatterns = [
    path("ws/notifications/", NotificationsConsumer.as_asgi()),
    path("ws/live-rows/", TicketsConsumer.as_asgi()),
    path("ws/progress/", ProgressConsumer.as_asgi()),
    path("ws/answers/", AnswersConsumer.as_asgi()),
    path("ws/cursors/<slug:board>/", CursorsConsumer.as_asgi()),
]
