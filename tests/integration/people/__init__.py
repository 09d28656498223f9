"""People: their accounts, sessions and access tokens, over the real wire."""
