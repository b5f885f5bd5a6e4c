from django.urls import path

from demo_project.recipes.notifications import views

urlpatterns = [path("", views.page, name="notifications")]
