"""Books as text, without any server."""
