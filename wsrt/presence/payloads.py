"""Members as they are sent to clients in ``wsrt.presence`` frames."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from .base import MemberRecord


def is_visible_change(before: MemberRecord, now: MemberRecord) -> bool:
    """Return whether a change of a member is sent to clients: it has other data, or the number of guests differs."""
    return before.data != now.data or (now.user_id is None and before.connections != now.connections)


def payload_of(member: MemberRecord) -> dict[str, Any]:
    """Return a member in the form that it has in the lists of a frame."""
    data = None if member.data is None else from_json(member.data)
    return {"user_id": member.user_id, "connections": member.connections, "data": data}
