"""What a replay reads and maps, without any server."""
