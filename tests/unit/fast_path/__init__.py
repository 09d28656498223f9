"""The fast path by itself: what it reads and writes, and how its connections behave."""
