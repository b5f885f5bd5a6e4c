"""The actions of operators on the history of a room: deleting one publication, or all of them."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from .. import history
from ..exceptions import BackplaneUnavailable, StoreUnavailable, WrongContext
from ..history.queries import MAX_LIMIT
from ..permissions import FORGET
from ..types import Position
from .actions import Actions, posted_target, unreachable_reason
from .queries import RealmArguments, data_text, keeps_history, realm_arguments
from .targets import Target

PAST_ROWS = 50
"""Number of publications that the page of a room lists, the last ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class PastRow:
    """A publication in the history of a room, as the page lists it."""

    epoch: str
    offset: int
    event: str
    data: str
    time: dt.datetime


def past_rows(target: Target) -> list[PastRow] | None:
    """Return the last publications of a room, the newest first; None if they can't be read."""
    place = realm_arguments(target.namespace or "")
    try:
        position = history.room_position(target.name, **place)
        found, distance = _past_events(target.name, position, PAST_ROWS, place), PAST_ROWS
        while len(found) < PAST_ROWS and distance < position.offset:
            # Offsets in between were those of values that were replaced, or of publications that were deleted.
            distance *= 8
            found = _past_events(target.name, position, distance, place)
    except (StoreUnavailable, WrongContext):
        return None
    rows = [
        PastRow(past.position.epoch, past.position.offset, past.name, data_text(past.data), past.time) for past in found
    ]
    return rows[::-1]


def _past_events(room: str, position: Position, distance: int, place: RealmArguments) -> Sequence[history.PastEvent]:
    """Return the last PAST_ROWS publications of a room among those with the last offsets, as many as ``distance``."""
    found: collections.deque[history.PastEvent] = collections.deque(maxlen=PAST_ROWS)
    since, has_more = Position(position.epoch, max(0, position.offset - distance)), True
    while has_more:
        page = history.history(room, since, MAX_LIMIT, **place)
        found += page
        since, has_more = page.next, page.has_more
    return found


class HistoryActions(Actions):
    """The views that delete from the history of a room. They require a permission of their own."""

    def forget(self, request: HttpRequest) -> HttpResponse:
        """Delete one publication."""
        target = self._room_to_delete_from(request)
        if target is None:
            return HttpResponseRedirect(self._url("changelist"))
        offset, epoch = request.POST.get("offset", ""), request.POST.get("epoch", "")
        if not re.fullmatch("[1-9][0-9]{0,14}", offset) or not epoch:
            raise Http404("This isn't the position of a publication.")
        place = realm_arguments(target.namespace or "")
        found = self._delete(
            request,
            target,
            _("Deleted the publication %(offset)s.") % {"offset": offset},
            lambda: bool(history.forget(target.name, offset=int(offset), epoch=epoch, **place, on_commit=False)),
        )
        if found:
            text = _("The publication %(offset)s was deleted.") % {"offset": offset}
            self.message_user(request, text, messages.SUCCESS)
        elif found is not None:
            self.message_user(request, _("This publication isn’t in the history any more."), messages.WARNING)
        return HttpResponseRedirect(self._return_url(request, target))

    def purge(self, request: HttpRequest) -> HttpResponse:
        """Delete the whole history of a room, after a confirmation."""
        target = self._room_to_delete_from(request)
        if target is None:
            return HttpResponseRedirect(self._url("changelist"))
        back = self._return_url(request, target)
        if "confirm" not in request.POST:
            return self._render(request, "purge", _("Delete kept publications"), {"target": target, "back": back})
        place = realm_arguments(target.namespace or "")
        found = self._delete(
            request,
            target,
            _("Deleted all kept publications."),
            lambda: bool(history.purge(target.name, **place, on_commit=False)),
        )
        if found:
            text = _("All kept publications of %(target)s were deleted.") % {"target": target}
            self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(back)

    def _room_to_delete_from(self, request: HttpRequest) -> Target | None:
        """Return the room in the POST data. None for a request that must do nothing, such as a GET after signing in."""
        if request.method != "POST":
            self._require(request, FORGET)
            return None
        target = posted_target(request)
        if target.kind != "room" or not keeps_history(target.namespace or ""):
            raise Http404("Only rooms of a namespace with history keep publications.")
        self._require(request, FORGET, target)
        return target

    def _delete(self, request: HttpRequest, target: Target, entry: str, delete: Callable[[], bool]) -> bool | None:
        """
        Delete, and record it in the log.

        Returns:
            Whether there was something to delete. None if it failed, which a message shows.
        """
        reason: Any = unreachable_reason(target)
        unreached: BackplaneUnavailable | None = None
        if reason is None:
            try:
                # The entry is written first and rolled back if nothing is deleted.
                with transaction.atomic(using=router.db_for_write(LogEntry)):
                    self._log(request, target, entry)
                    try:
                        if not delete():
                            transaction.set_rollback(True, using=router.db_for_write(LogEntry))
                            return False
                    except StoreUnavailable:
                        raise
                    except BackplaneUnavailable as error:
                        unreached = error
            except (StoreUnavailable, WrongContext) as error:
                reason = error
        if reason is not None:
            self.message_user(request, _("Not deleted: %s") % reason, messages.ERROR)
            return None
        if unreached is not None:
            text = _(
                "Deleted in the store, but other processes couldn’t be notified and may still send it to clients. "
                "Delete it again. The error was: %s"
            )
            self.message_user(request, text % unreached, messages.ERROR)
            return None
        return True
