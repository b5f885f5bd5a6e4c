"""The close codes of wsrt and the client's reaction to each: a copy of ``wsrt.close_codes.TABLE``."""

from __future__ import annotations

CLOSE_CODES: tuple[tuple[int, int, str, str], ...] = (
    # code, code on Daphne without with_runtime, reason, what the client does
    (1000, 1000, "", "never"),
    (1001, 4001, "Server shutting down", "spread"),
    (1001, 4001, "Heartbeat timeout", "backoff"),
    (1007, 4007, "Invalid message payload", "never"),
    (1007, 4007, "Invalid event data", "never"),
    (1008, 4008, "Unknown event", "never"),
    (1008, 4008, "Too many violations", "never"),
    (1009, 4009, "Message too large", "never"),
    (1011, 4011, "Message handling failed", "backoff"),
    (1011, 4011, "Connection setup failed", "backoff"),
    (1011, 4011, "Outbound publish failed", "backoff"),
    (1013, 4013, "WebSocket backpressure overflow", "backoff"),
    (4401, 4401, "Unauthenticated", "auth"),
    (4401, 4401, "Credentials expired", "auth"),
    (4403, 4403, "Forbidden", "never"),
    (4404, 4404, "Not found", "never"),
    (4408, 4408, "Connection setup timeout", "backoff"),
    (4409, 4409, "Replaced by a newer connection", "never"),
    (4410, 4410, "Disconnected by the server", "never"),
    (4429, 4429, "Rate limit exceeded", "later"),
    (4429, 4429, "Too many connections", "later"),
)
"""All rows of the table. For an unknown reason, the first row with the code applies."""
