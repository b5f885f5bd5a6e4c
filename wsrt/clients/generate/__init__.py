"""The generators of clients, from the description of a project's consumers."""
