"""Rooms and their messages."""

from __future__ import annotations

from django.conf import settings
from django.db import models

ACTIVITY = "activity."
"""The beginning of the names of rooms, of the WebSocket, in which the activity of a room of the chat is published."""

MEMBERS = "members"
"""The name of the group whose users may enter members' rooms."""


class Room(models.Model):
    slug = models.SlugField(
        "address",
        unique=True,
        error_messages={"unique": "A room with this address already exists."},
    )
    name = models.CharField(max_length=50)
    topic = models.CharField(max_length=100)
    members_only = models.BooleanField(default=False)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.name


class Message(models.Model):
    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    author = models.CharField(max_length=50)
    text = models.CharField(max_length=2000)
    is_announcement = models.BooleanField(default=False)
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"
