"""The history of rooms: publications that are kept for clients which were away."""
