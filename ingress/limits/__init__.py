"""Limits: how often somebody may ask, and how slowly wrong passwords are tried."""
