from __future__ import annotations

from django.conf import settings
from django.db import models


class Export(models.Model):
    """A long job of a user, and how far it has come."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        FINISHED = "finished"
        FAILED = "failed"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=100)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"export {self.pk}: {self.state}, {self.done} of {self.total}"
