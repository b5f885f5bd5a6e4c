"""The history of publications that are about to be sent. It gives them their positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..exceptions import StoreUnavailable
from ..history.backends import store_of_loop
from ..history.base import Append, Appended
from ..metrics import counters
from ..types import Publication
from .messages import Kept, PublishMessage
from .outgoing import Outgoing


async def keep(outgoing: Outgoing) -> Publication | None:
    """
    Keep a publication in the history of its room, if its event has one.

    Returns:
        Its position; None if it isn't kept.

    Raises:
        StoreUnavailable: It wasn't kept, or only the answer was lost. It must not be sent.
    """
    if outgoing.append is None:
        return None
    try:
        [appended] = await store_of_loop().append([outgoing.append])
    except StoreUnavailable:
        counters.count("publications_failed")
        raise
    return _note_position(outgoing, outgoing.append, appended)


async def keep_parts(
    parts: Sequence[Sequence[Outgoing]], on_kept: Callable[[Sequence[Publication | None]], None]
) -> None:
    """
    Keep publications in the histories of their rooms, part by part.

    Args:
        parts: The messages. Some of them may be without history.
        on_kept: Called for each part in order, as soon as it is kept, with the positions of its messages; None for
            those without history.

    Raises:
        StoreUnavailable: The parts for which ``on_kept`` wasn't called weren't kept, or only the answer was lost.
    """
    appends = [[outgoing.append for outgoing in part if outgoing.append is not None] for part in parts]
    waiting = iter(parts)

    def take(results: Sequence[Appended]) -> None:
        remaining = iter(results)
        on_kept(
            [
                None if outgoing.append is None else _note_position(outgoing, outgoing.append, next(remaining))
                for outgoing in next(waiting)
            ]
        )

    if any(appends):
        await store_of_loop().append_parts(appends, take)
    else:
        for _ in parts:
            take(())


def _note_position(outgoing: Outgoing, append: Append, appended: Appended) -> Publication:
    """Give a publication its position, and return it."""
    publication = Publication(appended.position.epoch, appended.position.offset)
    if isinstance(outgoing.item, PublishMessage):
        outgoing.item.keep(Kept(publication, appended.id, append.key))
    return publication
