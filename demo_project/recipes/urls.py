from django.urls import include, path

from demo_project.recipes import RECIPES, views

urlpatterns = [
    path("", views.index, name="recipes"),
    *(path(f"{recipe.name}/", include(f"{recipe.app}.urls")) for recipe in RECIPES),
]
