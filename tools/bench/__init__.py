"""Measuring: every case beside its rival on one private stack, the ledger verified after each."""
