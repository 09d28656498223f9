"""Replaying a file of transactions through a door: reading, mapping, sending, settling."""
