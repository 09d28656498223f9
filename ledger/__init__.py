"""The ledger: what happens to money, and nothing else. Pure; imports the standard library alone."""
