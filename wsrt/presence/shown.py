"""What clients are shown of members."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from .base import MemberRecord


def is_told(before: MemberRecord, now: MemberRecord) -> bool:
    """Return whether clients are shown a change: a user's further tabs are not, each further guest is."""
    return before.data != now.data or (now.user_id is None and before.connections != now.connections)


def shown_as(member: MemberRecord) -> dict[str, Any]:
    """Return a member as it is in a frame."""
    data = None if member.data is None else from_json(member.data)
    return {"user_id": member.user_id, "connections": member.connections, "data": data}
