"""Plumbing that knows no money: settings, logs, metrics, database, broker, lifecycle."""
