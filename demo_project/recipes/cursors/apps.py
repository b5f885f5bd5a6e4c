from django.apps import AppConfig


class CursorsConfig(AppConfig):
    name = "demo_project.recipes.cursors"
