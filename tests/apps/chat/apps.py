from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "tests.apps.chat"
    label = "test_chat"
