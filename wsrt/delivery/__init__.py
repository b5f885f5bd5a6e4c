"""Delivery: the bounded queues of a connection, and the hub that knows which connections a node holds."""
