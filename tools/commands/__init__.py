"""The commands that need the local stack."""
