from django.apps import AppConfig


class LiveRowsConfig(AppConfig):
    name = "demo_project.recipes.live_rows"

    def ready(self) -> None:
        from . import receivers  # noqa: F401 - connects them
