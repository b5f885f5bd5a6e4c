from django.urls import path

from demo_project.recipes.token_stream import views

urlpatterns = [path("", views.page, name="token_stream")]
