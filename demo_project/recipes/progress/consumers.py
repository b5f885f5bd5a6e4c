from __future__ import annotations

from django.contrib.auth.models import User

from wsrt import TypedEventConsumer

from .events import Exports, Progress
from .models import Export


class ProgressConsumer(TypedEventConsumer[User]):
    """One tab of a user who watches their exports."""

    namespace = "progress"
    path = "ws/progress/"
    out_events = (Exports, Progress)

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def on_connect(self) -> None:
        # Progress that is published in the meantime waits until this returns.
        rows = [row async for row in Export.objects.filter(owner=self.user).reverse()[:10]]
        await self.send(Exports.model_validate({"exports": rows[::-1]}))
