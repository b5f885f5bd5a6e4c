from django.urls import path

from demo_project.recipes.live_rows import views

urlpatterns = [path("", views.page, name="live_rows")]
