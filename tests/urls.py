from django.urls import path

from tests.chat import views

urlpatterns = [
    path("publish/<str:kind>/<str:target>/", views.publish),
    path("task/<str:kind>/<str:target>/", views.enqueue),
    path("stats/", views.stats),
]
