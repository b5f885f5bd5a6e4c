from django.apps import AppConfig


class ProgressConfig(AppConfig):
    name = "demo_project.recipes.progress"
