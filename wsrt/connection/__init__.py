"""One connection, from its handshake to its end: set-up, frames, rooms, presence and commands."""
