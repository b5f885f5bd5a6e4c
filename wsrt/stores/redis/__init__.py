"""Redis, as presence and history use it: its location, its connections, scripts, and partitions of rooms."""
