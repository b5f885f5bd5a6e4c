"""The applications that the servers of the tests run."""
