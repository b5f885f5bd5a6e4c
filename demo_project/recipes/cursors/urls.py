from django.urls import path

from . import views

urlpatterns = [
    path("", views.page, name="cursors"),
    path("<slug:board>/", views.page, name="cursors-board"),
]
