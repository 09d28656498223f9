"""Stored dead letters as operators see and end them, at whichever door they ask."""
