"""Rivals: consumers that commit once a message, each written as its library's own docs teach."""
