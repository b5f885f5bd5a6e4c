from __future__ import annotations

from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from .sending import notify


class NotificationForm(forms.Form):
    recipient = forms.ModelChoiceField(User.objects.filter(is_active=True), empty_label=None)
    text = forms.CharField(max_length=200)


@login_required
@require_http_methods(["GET", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """Show the user's notifications, and send one. Nothing here knows about WebSockets except notify()."""
    form = NotificationForm(request.POST or None, initial={"recipient": request.user})
    if form.is_valid():
        notify(form.cleaned_data["recipient"], form.cleaned_data["text"])
        return redirect("notifications")
    return render(request, "notifications/page.html", {"form": form}, status=400 if form.errors else 200)
