"""The admin, whose pages have a socket, and a page in the language of the request."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(gettext("Yes"))


urlpatterns = [path("admin/", admin.site.urls), path("", page)]
