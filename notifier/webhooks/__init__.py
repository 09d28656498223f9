"""Webhooks: from the log of events to whoever asked for them."""
