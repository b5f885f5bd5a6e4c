from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.db.models import F


class Ticket(models.Model):
    class Status(models.TextChoices):
        OPEN = "open"
        DOING = "doing"
        DONE = "done"

    title = models.CharField(max_length=100)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row with its next version, which tells pages which of two states is the newer one."""
        with transaction.atomic():
            if not self._state.adding:
                # Locks the row until the commit, so that no two states have the same version.
                Ticket.objects.filter(pk=self.pk).update(version=F("version") + 1)
                self.refresh_from_db(fields=["version"])
            super().save(*args, **kwargs)
