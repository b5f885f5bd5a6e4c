"""What the stores of presence and of history have in common: their options, their settings, and their use of Redis."""
