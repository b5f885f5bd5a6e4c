from django.contrib import admin
from django.urls import include, path

from demo_project.backstage import views as backstage
from demo_project.chat import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("recipes/", include("demo_project.recipes.urls")),
    path("", views.home, name="home"),
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("rooms/<slug:slug>/", views.room, name="room"),
    path("rooms/<slug:slug>/announce/", views.announce, name="announce"),
    path("demo/kill/", backstage.kill, name="kill"),
    path("docs/", backstage.docs, name="docs"),
    path("docs/<path:path>", backstage.docs),
]
