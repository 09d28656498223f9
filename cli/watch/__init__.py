"""Watching a running system: its processes' status ports, read each second."""
