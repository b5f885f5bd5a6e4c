"""Communication between processes: the node of each event loop, the backplane between nodes, and their messages."""
