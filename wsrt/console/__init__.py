"""What is behind the admin's "Realtime": its permissions, its pages, and the socket that keeps them up to date."""
