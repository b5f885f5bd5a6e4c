"""The runtimes of the clients. The generators copy them next to the generated code."""
