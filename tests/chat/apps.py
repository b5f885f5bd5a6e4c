from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "tests.chat"
    label = "test_chat"
