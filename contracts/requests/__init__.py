"""Requests: what clients and upstream systems ask for, as it is checked; pure."""
