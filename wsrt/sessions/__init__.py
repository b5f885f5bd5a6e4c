"""Django's sessions: their hashes, their log-outs, and the checks that they and their users are still valid."""
