"""
The calls of lua/append.lua: their division, their keys and arguments, and their answers.

A call appends to as many rooms of one partition as its limits allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...realms import RoomId
from ...stores.redis.link import Call, tuples
from ...stores.redis.partitions import by_part
from ...types import Position
from ..base import Append, Appended, size_of
from .direct import DirectAppends
from .keys import Keys

# While Redis executes a command it does nothing else. The limits keep every call under about 2 ms, whatever the names
# and data are.

PUBLICATIONS = 64
"""The most publications in one call."""

BYTES = 256 * 1024
"""The bytes of publications after which a call ends."""

Share = tuple[RoomId, Sequence[int]]
"""A room, and the numbers of its publications in the batch."""


class Appending:
    """
    The calls that append one batch.

    Args:
        publications: The batch.
        keys: The keys of the store.
        direct: The rooms to which entries are added directly.

    Attributes:
        is_split: Whether several calls append to one room, so that they must be executed in order.
    """

    def __init__(self, publications: Sequence[Append], keys: Keys, direct: DirectAppends) -> None:
        self._publications = publications
        self._keys = keys
        self._direct = direct
        self._sent = direct.clock()
        rooms: dict[RoomId, list[int]] = {}
        for number, publication in enumerate(publications):
            numbers = rooms.get(publication.room)
            if numbers is None:
                rooms[publication.room] = [number]
            else:
                numbers.append(number)
        parts = by_part(rooms.items(), lambda share: keys.part_of(share[0]))
        self._calls = [call for part in parts.values() for call in self._divide(part)]
        self.is_split = sum(map(len, self._calls)) > len(rooms)

    def __len__(self) -> int:
        return len(self._calls)

    def _divide(self, rooms: Iterable[Share]) -> Iterator[Sequence[Share]]:
        """Yield the shares of each call, in the order of the rooms of one partition."""
        call: list[Share] = []
        count = size = 0
        for room, numbers in rooms:
            start = 0
            for end, number in enumerate(numbers, 1):
                publication = self._publications[number]
                count += 1
                size += size_of(publication.event, publication.data)
                if count == PUBLICATIONS or size >= BYTES:
                    yield [*call, (room, numbers[start:end])]
                    call, count, size, start = [], 0, 0, end
            if start < len(numbers):
                call.append((room, numbers[start:]))
        if call:
            yield call

    def call(self, number: int, arguments: Sequence[Any]) -> Call:
        """
        Return the keys and arguments of a call.

        Args:
            number: The number of the call.
            arguments: The arguments that all calls have.
        """
        keys: list[str] = []
        all_arguments = [*arguments]
        for room_id, numbers in self._calls[number]:
            room = self._keys.room(room_id)
            keys += room.all
            all_arguments += (len(numbers), "d" if self._direct.ask(room_id) else "")
            for place in numbers:
                publication = self._publications[place]
                kind = "e" if publication.key is None else "v"
                if publication.idempotency_key is not None:
                    kind += "i"
                    keys.append(room.identity(publication.idempotency_key))
                all_arguments += (kind, publication.id, publication.event, publication.data, publication.key or "")
        return keys, all_arguments

    def results(self, answers: Sequence[Any]) -> list[Appended]:
        """Return the results of the publications, from the answers to the calls."""
        results: dict[int, Appended] = {}
        for call, answer in zip(self._calls, answers, strict=True):
            positions, *repeats = (answer,) if isinstance(answer, str) else answer
            numbers: list[int] = []
            texts = iter(positions.split(" "))
            time = int(next(texts))
            for room, share in call:
                epoch, is_direct, _ = next(texts).partition("+")
                last = Position(epoch, int(next(texts)))
                self._direct.note(room, last, time, sent=self._sent, is_direct=bool(is_direct))
                for number in share:
                    position = Position(epoch, int(next(texts)))
                    results[number] = Appended(position, self._publications[number].id)
                numbers += share
            for place, earlier in tuples(repeats, 2):
                number = numbers[place]
                results[number] = Appended(results[number].position, earlier, is_repeat=True)
        return [results[number] for number in range(len(self._publications))]
