from django.apps import AppConfig
class WsrtConfig(AppConfig):
    name = "wsrt"
