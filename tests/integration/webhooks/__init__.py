"""Webhooks, from a posted transaction to a receiver."""
