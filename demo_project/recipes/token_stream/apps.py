from django.apps import AppConfig


class TokenStreamConfig(AppConfig):
    name = "demo_project.recipes.token_stream"
