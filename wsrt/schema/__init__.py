"""The schema of a project's consumers: a description of them as plain data, and the documents made from it."""
