"""The local stack, started for real."""
