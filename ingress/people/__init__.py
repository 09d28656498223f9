"""People: their accounts, sessions and access tokens."""
