"""Generators: from the description to the source of clients."""
