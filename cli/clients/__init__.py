"""Clients of the two doors: what the commands, the demonstration and the tests send with."""
