"""The runtimes of generated clients, which are copied next to what is generated."""
