"""The web pages of operators and wallet holders: a process and a port of their own."""
