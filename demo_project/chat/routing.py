from django.urls import path

from demo_project.chat.consumers import ChatConsumer

websocket_urlpatterns = [path("ws/rooms/<slug:slug>/", ChatConsumer.as_asgi())]
