"""The delivery of frames: the bounded queues of each connection, and the hub with the connections of a node."""
