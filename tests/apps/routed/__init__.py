"""A project of the short form: consumers with paths, and Django's application within with_runtime."""
