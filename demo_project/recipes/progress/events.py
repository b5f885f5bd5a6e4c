from __future__ import annotations

from typing import Literal

from wsrt import Event


class ExportData(Event):
    """The fields of an export that its owner sees."""

    id: int
    state: Literal["waiting", "running", "finished", "failed"]
    done: int
    total: int


class Progress(ExportData, name="export.progress", overflow="latest", key="id"):
    """An export has made progress. A client that is behind receives only the latest of each export."""


class Exports(Event, name="export.list"):
    """The latest exports of the user, oldest first. Sent once to each connection."""

    exports: list[ExportData]
