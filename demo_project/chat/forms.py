from __future__ import annotations

from django import forms


class GuestForm(forms.Form):
    name = forms.CharField(max_length=30, strip=True)


class AnnouncementForm(forms.Form):
    text = forms.CharField(max_length=200, strip=True)
