"""House rules that a program can check; they need no server."""
