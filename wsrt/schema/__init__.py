"""The schema of a project's consumers: their description as plain data, and the documents generated from it."""
