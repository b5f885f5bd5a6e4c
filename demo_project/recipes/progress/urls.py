from django.urls import path

from . import views

urlpatterns = [
    path("", views.page, name="progress"),
    path("start/", views.start, name="progress-start"),
]
