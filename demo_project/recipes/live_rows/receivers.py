from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from wsrt import publish_to_room

from .events import TicketDeleted, TicketSaved
from .models import Ticket

ROOM = "tickets"


@receiver(post_save, sender=Ticket, dispatch_uid="live_rows.saved")
def publish_saved(instance: Ticket, **kwargs: Any) -> None:
    publish_to_room(ROOM, TicketSaved.model_validate(instance), namespace="live_rows")


@receiver(post_delete, sender=Ticket, dispatch_uid="live_rows.deleted")
def publish_deleted(instance: Ticket, **kwargs: Any) -> None:
    publish_to_room(ROOM, TicketDeleted(id=instance.pk), namespace="live_rows")
