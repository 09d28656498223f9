"""Back-ups of PostgreSQL: bases and a stream of WAL in a folder, and restoring to a moment."""
