"""Submitting: what is recorded, announced, awaited, and how much of it may come in."""
