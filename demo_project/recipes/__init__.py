"""
Recipes: small apps that solve one task each, to be copied.

Each folder is one app: its models, events, consumer, views, page and tests. It is listed in RECIPES and documented in
``docs/recipes/``. Settings, URLs and the index page follow from this list.
"""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """
    One recipe.

    Attributes:
        name: The name of its folder and app, which is also the name of its URL.
        title: The title of its page.
        summary: What it shows, in one sentence.
    """

    name: str
    title: str
    summary: str

    @property
    def app(self) -> str:
        """The dotted path of the app."""
        return f"{__name__}.{self.name}"


RECIPES = (
    Recipe(
        "notifications",
        "Notifications to a user",
        "Any code notifies a user, and every open tab of that user shows it.",
    ),
    Recipe(
        "progress",
        "Progress of a task",
        "A Celery or Django task reports how far it has come, and its page can be reloaded meanwhile.",
    ),
    Recipe(
        "live_rows",
        "Live rows of a model",
        "A table on a page follows the database, whichever code changes a row: a page, the admin or a shell.",
    ),
    Recipe(
        "token_stream",
        "Stream the tokens of a language model",
        "An answer appears word by word, waits for slow clients, and stops when its reader says so.",
    ),
    Recipe(
        "cursors",
        "Collaborative cursors",
        "People on one board see each other's pointers move, at most as fast as their networks allow.",
    ),
)
