from django.urls import path

from demo_project.recipes.progress import views

urlpatterns = [
    path("", views.page, name="progress"),
    path("start/", views.start, name="progress-start"),
]
