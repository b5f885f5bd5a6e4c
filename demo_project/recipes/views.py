from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from demo_project.recipes import RECIPES


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "recipes/index.html", {"recipes": RECIPES})
