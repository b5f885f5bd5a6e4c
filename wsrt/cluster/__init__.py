"""Between processes: the node of each event loop, the backplane that connects nodes, and the messages on it."""
