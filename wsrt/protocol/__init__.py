"""The protocol: frames, events, catalogs and the state of a session. Pure code without event loop, Django or clock."""
