"""Limits: counted in a real Redis, and met over the real wire."""
