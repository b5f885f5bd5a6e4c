from django.contrib import admin
from django.urls import path

from tests.apps.chat import views
from wsrt.views import TicketView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("publish/<str:kind>/<str:target>/", views.publish),
    path("take/<str:how>/<str:user>/<str:room>/", views.take),
    path("task/<str:kind>/<str:target>/", views.enqueue),
    path("stats/", views.stats),
    path("ticket/", TicketView.as_view()),
]
